//! Ids of a batch to the places of their rows, in a table whose rows are in an order of their
//! own. What copies rows then works on places.

use super::ids::Id;
use super::pool::Crew;
use crate::error::Result;
use crate::table::{Places, Table};

/// The place that stands for padding: no row's.
pub(super) const PADDING: u64 = u64::MAX;

/// The ids that are looked up by one thread at a time.
const PART: usize = 16 << 10;

impl Table {
    /// The places of checked ids; `None` where rows lie by their ids. Padding, which is no row,
    /// becomes [`PADDING`].
    pub(super) fn places_of<I: Id>(
        &self,
        ids: &[I],
        padding: Option<u64>,
        crew: Crew,
    ) -> Result<Option<Vec<u64>>> {
        let Some(order) = self.places()? else { return Ok(None) };
        let mut places = vec![PADDING; ids.len()];
        if crew.pays_for(size_of_val(&places[..]))? {
            let parts = ids.chunks(PART).zip(places.chunks_mut(PART)).collect();
            crew.work(parts, |(ids, places)| look_up(order, ids, padding, places))?;
        } else {
            look_up(order, ids, padding, &mut places)?;
        }
        Ok(Some(places))
    }
}

fn look_up<I: Id>(
    order: Places<'_>,
    ids: &[I],
    padding: Option<u64>,
    places: &mut [u64],
) -> Result<()> {
    for (id, place) in ids.iter().zip(places) {
        if padding != Some(id.row()) {
            *place = order.of(id.row())?;
        }
    }
    Ok(())
}
