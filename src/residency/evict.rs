//! Making a table cold: for measuring, and for making room.

use std::time::Duration;

use super::Residency;
use crate::error::Result;
use crate::storage::StoredFile;
use crate::table::{Access, Table};

/// How often pages that are just being read are waited for, and how long.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(2);

impl Table {
    /// Takes the table's files out of this process's page tables and out of the page cache, so
    /// that the rows gathered next have to be read from the device; tells what remains.
    ///
    /// It is a request, and what it cannot do is no error. The system keeps pages that another
    /// process has mapped or locked, and all of a file that lives in memory alone, as on tmpfs:
    /// so whoever measures looks at [`cached_bytes`](Residency::cached_bytes), which is 0 where
    /// the rows are cold. Where the files lie on an overlay (as in many containers) the system
    /// may count the wrong pages; the bytes that a gather then reads from the device
    /// (`/proc/self/io`) tell for certain. Rows and slices stay valid: what is touched again is
    /// read again. The files are evicted whole, for every process that uses them.
    ///
    /// A table that owns its memory is left as it is.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) where the system refuses.
    ///
    /// ```
    /// # fn main() -> Result<(), embmap::Error> {
    /// let table = embmap::OpenOptions::new().open("fixtures/minilm-2k")?;
    /// let left = table.evict()?;
    /// if left.cached_bytes != Some(0) {
    ///     println!("not cold: {left:?}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn evict(&self) -> Result<Residency> {
        let mut left = self.evict_once()?;
        for _ in 1..TRIES {
            let done = left.cached_bytes.is_none_or(|bytes| bytes == 0);
            if done || self.access == Access::Memory {
                break;
            }
            std::thread::sleep(PAUSE);
            left = self.evict_once()?;
        }
        Ok(left)
    }

    fn evict_once(&self) -> Result<Residency> {
        self.files.iter().try_for_each(StoredFile::evict)?;
        if let Some(order) = &self.order {
            order.forget();
        }
        self.residency()
    }
}
