//! Rows as plain typed slices.

use super::Places;
use crate::dtype::Element;

/// All rows of a table as typed slices, checked once. Made by [`Table::rows`](crate::Table::rows).
///
/// `rows[id]` panics where `id` is not below [`len`](Rows::len), as slices do;
/// [`get`](Rows::get) does not.
///
/// Where rows lie in an order of their own and that order is damaged, some ids have no row.
#[derive(Debug, Clone)]
pub struct Rows<'a, T> {
    /// The first id and the elements of each run of rows.
    extents: Vec<(u64, &'a [T])>,
    order: Option<Places<'a>>,
    vocab: u64,
    dim: usize,
    stride: usize,
}

impl<'a, T: Element> Rows<'a, T> {
    /// Rows over runs of elements: each run's first id, or place, and its elements at the
    /// stride.
    pub(super) fn new(
        extents: Vec<(u64, &'a [T])>,
        order: Option<Places<'a>>,
        vocab: u64,
        dim: usize,
        stride: usize,
    ) -> Self {
        Rows { extents, order, vocab, dim, stride }
    }

    /// The number of rows.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.vocab
    }

    /// True for a table without rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.vocab == 0
    }

    /// The row of an id, or `None` where the id is not below [`len`](Rows::len).
    #[inline]
    #[must_use]
    pub fn get(&self, id: u64) -> Option<&'a [T]> {
        let id = match self.order {
            None => id,
            Some(order) => order.find(id)?,
        };
        let (first, elements) = match self.extents.as_slice() {
            [only] => only,
            all => &all[all.partition_point(|(first, _)| *first <= id).checked_sub(1)?],
        };
        let start = usize::try_from(id - first).ok()?.checked_mul(self.stride)?;
        elements.get(start..start.checked_add(self.dim)?)
    }

    /// Every row, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &'a [T]> + '_ {
        (0..self.vocab).map_while(|id| self.get(id))
    }

    /// The whole table as one `[vocab, dim]` array, where its rows lie in one run without
    /// padding, by their ids.
    #[must_use]
    pub fn as_slice(&self) -> Option<&'a [T]> {
        match self.extents.as_slice() {
            [(_, elements)] if self.stride == self.dim && self.order.is_none() => Some(elements),
            _ => None,
        }
    }
}

impl<T: Element> std::ops::Index<u64> for Rows<'_, T> {
    type Output = [T];

    /// # Panics
    ///
    /// Where `id` is not below the number of rows, or the order of the rows is damaged.
    #[inline]
    fn index(&self, id: u64) -> &[T] {
        match self.get(id) {
            Some(row) => row,
            None if id < self.vocab => panic!("the row order is damaged: row {id} has no place"),
            None => panic!("id {id} is out of range: the table has {} rows", self.vocab),
        }
    }
}
