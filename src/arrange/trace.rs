//! The batches of a trace, as many as are kept.

use crate::error::{Error, Result};
use crate::gather::Id;

/// The most ids that are kept of a trace.
const MOST_IDS: usize = 1 << 23;

/// The most ids of a batch: of a larger one each part counts as one.
const MOST_OF_BATCH: usize = 1 << 20;

/// Batches of ids as they were used together, from which an order of rows follows.
///
/// Of a long trace every second batch is kept, or every fourth, and so on, so that at most 8
/// million ids are: memory does not grow with the trace or with the table.
///
/// ```
/// use embmap::{AccessTrace, Placement};
///
/// # fn main() -> Result<(), embmap::Error> {
/// // Rows 3, 30, 300 are always used together, and so are 5, 50, 500.
/// let mut trace = AccessTrace::new(1000);
/// for _ in 0..20 {
///     trace.push(&[3u32, 30, 300])?;
///     trace.push(&[5u32, 50, 500])?;
/// }
/// let arranged = trace.arrange(512, 512)?;
/// assert_ne!(arranged.placement, Placement::ById);
/// assert_eq!(arranged.ids.len(), 6);
/// assert_eq!((arranged.pages_by_id, arranged.pages_together), (3.0, 1.0));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct AccessTrace {
    pub(super) vocab: u64,
    pub(super) ids: Vec<u64>,
    /// Where each batch ends.
    pub(super) ends: Vec<usize>,
    /// Of so many batches one is kept.
    every: u64,
    batches: u64,
    most: usize,
}

impl AccessTrace {
    /// No batches yet, of a table of so many rows.
    #[must_use]
    pub fn new(vocab: u64) -> Self {
        AccessTrace {
            vocab,
            ids: Vec::new(),
            ends: Vec::new(),
            every: 1,
            batches: 0,
            most: MOST_IDS,
        }
    }

    /// Adds ids that were used together: those of one gather.
    ///
    /// # Errors
    ///
    /// [`Error::RowOutOfRange`] for an id that is not below the number of rows.
    pub fn push<I: Id>(&mut self, batch: &[I]) -> Result<()> {
        for (position, id) in batch.iter().enumerate() {
            if id.row() >= self.vocab {
                let (id, position, vocab) = ((*id).into(), Some(position), self.vocab);
                return Err(Error::RowOutOfRange { id, position, vocab });
            }
        }
        for batch in batch.chunks(MOST_OF_BATCH) {
            self.batches += 1;
            if !(self.batches - 1).is_multiple_of(self.every) {
                continue;
            }
            let start = self.ids.len();
            self.ids.extend(batch.iter().map(|id| id.row()));
            self.ids[start..].sort_unstable();
            let mut end = start;
            for at in start..self.ids.len() {
                if at == start || self.ids[at] != self.ids[end - 1] {
                    self.ids[end] = self.ids[at];
                    end += 1;
                }
            }
            self.ids.truncate(end);
            self.ends.push(end);
            while self.ids.len() > self.most && self.ends.len() > 1 {
                self.thin_out();
            }
        }
        Ok(())
    }

    /// The batches that were added.
    #[must_use]
    pub fn batches(&self) -> u64 {
        self.batches
    }

    /// Keeps every second batch of those that are kept.
    fn thin_out(&mut self) {
        let (mut start, mut end) = (0, 0);
        let ends = std::mem::take(&mut self.ends);
        for (index, own) in ends.into_iter().enumerate() {
            if index % 2 == 0 {
                self.ids.copy_within(start..own, end);
                end += own - start;
                self.ends.push(end);
            }
            start = own;
        }
        self.ids.truncate(end);
        self.every *= 2;
    }

    /// The batches that are kept, each with its ids in ascending order and once.
    pub(super) fn kept(&self) -> impl ExactSizeIterator<Item = &[u64]> + Clone {
        (0..self.ends.len()).map(|index| {
            let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
            &self.ids[start..self.ends[index]]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_trace_is_thinned_out_evenly() {
        for most in [10, 25, 100, 1000] {
            let mut trace = AccessTrace { most, ..AccessTrace::new(1000) };
            for batch in 0..200u32 {
                // The batch can be told by its ids.
                trace.push(&[batch, batch, batch + 500, batch + 250]).unwrap();
                assert!(trace.ids.len() <= most, "{batch}");
            }
            let kept: Vec<&[u64]> = trace.kept().collect();
            assert!(kept.len() >= most.min(600) / 3 / 2);
            let every = kept.get(1).map_or(1, |batch| batch[0]);
            for (index, batch) in (0..).zip(&kept) {
                let first = index * every;
                assert_eq!(batch, &[first, first + 250, first + 500]);
            }
            assert_eq!((kept.len() as u64 - 1) * every + every, 200u64.next_multiple_of(every));
            assert_eq!(trace.batches(), 200);
        }
    }

    #[test]
    fn ids_beyond_the_rows_are_refused_and_add_nothing() {
        let mut trace = AccessTrace::new(5);
        let error = trace.push(&[0i32, 4, -1]).unwrap_err();
        assert!(matches!(error, Error::RowOutOfRange { id: -1, position: Some(2), vocab: 5 }));
        assert!(trace.push(&[5u64]).is_err());
        assert_eq!(trace.kept().len(), 0);
        trace.push::<u32>(&[]).unwrap();
        assert_eq!((trace.kept().len(), trace.batches()), (0, 0));
    }
}
