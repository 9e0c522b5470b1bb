//! Asking for rows ahead of a gather.

use super::ids::{Id, check_ids};
use crate::error::Result;
use crate::storage::ReadAhead;
use crate::table::{Access, Table};

impl Table {
    /// Starts reading rows that a later gather will want, and does not wait for them.
    ///
    /// It is a hint: rows that are in memory already are skipped, and where the system
    /// cannot read ahead nothing happens; nor with [`Access::Direct`], whose reads pass by what
    /// could be read ahead into. A device with a full queue may hold the call up.
    ///
    /// # Errors
    ///
    /// [`Error::RowOutOfRange`](crate::Error::RowOutOfRange) as
    /// [`gather_into`](Table::gather_into); nothing is started then.
    ///
    /// ```
    /// # fn main() -> Result<(), embmap::Error> {
    /// let table = embmap::Table::load("fixtures/minilm-2k")?;
    /// let next = [391u32, 1009];
    /// table.prefetch(&next)?;
    /// // Meanwhile, something else is computed ...
    /// let mut out = vec![0f32; 2 * table.dim()];
    /// table.gather_into(&next, &mut out)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn prefetch<I: Id>(&self, ids: &[I]) -> Result<()> {
        check_ids(ids, self.vocab())?;
        if matches!(self.access, Access::Memory | Access::Direct) {
            return Ok(());
        }
        if let Some(places) = self.places_of(ids, None, self.crew(None)?)? {
            self.ask_for_all(&places);
        } else {
            self.ask_for_all(ids);
        }
        Ok(())
    }

    fn ask_for_all<I: Id>(&self, ids: &[I]) {
        let mut ahead = ReadAhead::new();
        ids.chunks(self.window_rows()).for_each(|ids| self.ask_for(ids, &mut ahead));
    }
}
