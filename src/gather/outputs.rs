//! Outputs whose memory is used again.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, TryLockError};

use super::ids::{Id, check_ids};
use crate::dtype::Output;
use crate::error::{Error, Result};
use crate::storage::zeros_in_large_pages;
use crate::table::Table;

/// The bytes that are kept where nothing else is said.
const KEPT_BYTES: usize = 1 << 30;

/// The most blocks that are kept, whatever their size: a look at each of them costs nothing.
const MOST_KEPT: usize = 16;

/// Memory of outputs, kept for the next ones: see [`Table::gather_recycled`].
///
/// New memory costs more than the rows that are copied into it, for the system has to clear it
/// first. An output that is dropped gives its memory back to the `Outputs` that it came from, and
/// the next one of about its size is there at once. Clones share what they keep, and threads may
/// share them; what is kept is freed with the last of them.
///
/// ```
/// use embmap::{Outputs, Table};
///
/// # fn main() -> Result<(), embmap::Error> {
/// let table = Table::load("fixtures/minilm-2k")?;
/// let outputs = Outputs::new();
/// for ids in [[391u32, 1009], [238, 498]] {
///     let rows = table.gather_recycled::<_, f32>(&ids, &outputs)?;
///     assert_eq!(rows.len(), 2 * table.dim());
///     // `rows` is dropped here, and its memory is the next one's.
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Outputs {
    shared: Arc<Shared>,
}

struct Shared {
    limit: usize,
    /// Blocks that nobody uses, the longest unused first. It is never waited for: another thread
    /// costs less as a second block, and a fork may have copied a lock that nobody will open.
    kept: Mutex<Vec<Block>>,
}

/// Memory aligned for every type of output, and a line longer than what was asked for.
type Block = Vec<u64>;

/// Where outputs start: at a cache line. Copies of whole rows were 1.1 times as fast as to a
/// place 16 bytes behind one, where allocators put large blocks.
const LINE: usize = 64;

/// Rows in memory that goes back where it came from when they are dropped.
///
/// What [`Table::gather_recycled`] gives: a slice of `ids.len() * dim` elements.
pub struct Recycled<O: Output> {
    /// Taken when it is dropped.
    block: Block,
    length: usize,
    home: Arc<Shared>,
    element: PhantomData<O>,
}

impl Outputs {
    /// Keeps up to 1 GiB for outputs to come.
    #[must_use]
    pub fn new() -> Self {
        Outputs::keeping(KEPT_BYTES)
    }

    /// Keeps up to so many bytes; 0 keeps nothing. What outputs use meanwhile does not count.
    #[must_use]
    pub fn keeping(bytes: usize) -> Self {
        Outputs { shared: Arc::new(Shared { limit: bytes, kept: Mutex::default() }) }
    }

    /// The bytes that are kept at the moment.
    #[must_use]
    pub fn kept_bytes(&self) -> usize {
        self.shared.with(|kept| kept.iter().map(bytes_of).sum()).unwrap_or(0)
    }
}

impl Default for Outputs {
    fn default() -> Self {
        Outputs::new()
    }
}

impl fmt::Debug for Outputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outputs").field("kept_bytes", &self.kept_bytes()).finish_non_exhaustive()
    }
}

impl Shared {
    /// Does something to what is kept; nothing where another thread is at it.
    fn with<R>(&self, work: impl FnOnce(&mut Vec<Block>) -> R) -> Option<R> {
        match self.kept.try_lock() {
            Ok(mut kept) => Some(work(&mut kept)),
            // Nobody leaves it half changed.
            Err(TryLockError::Poisoned(poisoned)) => Some(work(&mut poisoned.into_inner())),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// A kept block of so many bytes, or up to twice as many; else a new one. `None` where there
    /// is not that much memory.
    fn take(&self, bytes: usize) -> Option<Block> {
        let fits = |block: &Block| bytes <= bytes_of(block) && bytes_of(block) / 2 <= bytes;
        let found = self.with(|kept| {
            let index = kept.iter().rposition(fits)?;
            Some(kept.remove(index))
        });
        found.flatten().or_else(|| zeros_in_large_pages(bytes.div_ceil(size_of::<u64>())))
    }

    fn keep(&self, block: Block) {
        let mut dropped = Vec::new();
        self.with(|kept| {
            kept.push(block);
            let mut bytes: usize = kept.iter().map(bytes_of).sum();
            while bytes > self.limit || kept.len() > MOST_KEPT {
                let oldest = kept.remove(0);
                bytes -= bytes_of(&oldest);
                dropped.push(oldest);
            }
        });
        // Unmapping takes its time: without the lock.
        drop(dropped);
    }
}

fn bytes_of(block: &Block) -> usize {
    size_of_val(block.as_slice())
}

/// The first word of a block that starts a line.
fn start_of(block: &Block) -> usize {
    block.as_ptr().align_offset(LINE).min(block.len())
}

impl<O: Output> Deref for Recycled<O> {
    type Target = [O];

    fn deref(&self) -> &[O] {
        &bytemuck::cast_slice(&self.block[start_of(&self.block)..])[..self.length]
    }
}

impl<O: Output> DerefMut for Recycled<O> {
    fn deref_mut(&mut self) -> &mut [O] {
        let start = start_of(&self.block);
        &mut bytemuck::cast_slice_mut(&mut self.block[start..])[..self.length]
    }
}

impl<O: Output> Drop for Recycled<O> {
    fn drop(&mut self) {
        self.home.keep(std::mem::take(&mut self.block));
    }
}

impl<O: Output> fmt::Debug for Recycled<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recycled").field("length", &self.length).finish_non_exhaustive()
    }
}

impl Table {
    /// Gathers rows into memory that an earlier output has left, where there is some: as
    /// convenient as [`gather`](Table::gather), and in a loop as fast as
    /// [`gather_into`](Table::gather_into).
    ///
    /// # Errors
    ///
    /// As [`gather`](Table::gather).
    ///
    /// ```
    /// # fn main() -> Result<(), embmap::Error> {
    /// let table = embmap::Table::load("fixtures/minilm-2k")?;
    /// let outputs = embmap::Outputs::new();
    /// let rows = table.gather_recycled::<_, f32>(&[391u32, 1009], &outputs)?;
    /// assert_eq!(*rows, *table.gather::<_, f32>(&[391u32, 1009])?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn gather_recycled<I: Id, O: Output>(
        &self,
        ids: &[I],
        outputs: &Outputs,
    ) -> Result<Recycled<O>> {
        check_ids(ids, self.vocab())?;
        let bytes = (ids.len() as u128)
            .saturating_mul(self.dim() as u128)
            .saturating_mul(size_of::<O>() as u128);
        let with_line = usize::try_from(bytes).ok().and_then(|bytes| bytes.checked_add(LINE));
        let block = with_line.and_then(|bytes| outputs.shared.take(bytes));
        let block = block.ok_or(Error::OutputMemory { bytes })?;
        let (length, home) = (ids.len() * self.dim(), Arc::clone(&outputs.shared));
        let mut rows = Recycled { block, length, home, element: PhantomData };
        self.gather_into(ids, &mut rows)?;
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;

    fn table() -> Table {
        Table::load("fixtures/minilm-2k").unwrap()
    }

    #[test]
    fn memory_is_used_again_and_rows_are_right_all_the_same() {
        let (table, outputs) = (table(), Outputs::new());
        let first: Vec<u32> = (0..900).collect();
        let rows = table.gather_recycled::<_, f32>(&first, &outputs).unwrap();
        let (place, kept) = (rows.as_ptr(), size_of_val(&*rows) + LINE);
        assert!(place.addr().is_multiple_of(LINE));
        assert_eq!(*rows, *table.gather::<_, f32>(&first).unwrap());
        assert_eq!(outputs.kept_bytes(), 0, "it is in use");
        drop(rows);
        assert_eq!(outputs.kept_bytes(), kept);
        // A little shorter, and of another type: the same memory.
        let second: Vec<u32> = (1000..1800).collect();
        let rows = outputs.clone();
        let rows = table.gather_recycled::<_, f32>(&second, &rows).unwrap();
        assert_eq!(rows.as_ptr(), place);
        assert_eq!(*rows, *table.gather::<_, f32>(&second).unwrap());
        let others = table.gather_recycled::<_, f16>(&second, &outputs).unwrap();
        assert_ne!(others.as_ptr().addr(), place.addr(), "two outputs at a time are two");
        assert_eq!(*others, *table.gather::<_, f16>(&second).unwrap());
        // The outputs may go first.
        drop(outputs);
        assert_eq!(rows.len(), 800 * table.dim());
    }

    #[test]
    fn no_more_is_kept_than_was_said() {
        let table = table();
        let row = table.dim() * size_of::<f32>();
        let outputs = Outputs::keeping(10 * row + 2 * LINE);
        let gather = |rows: u32| {
            let ids: Vec<u32> = (0..rows).collect();
            table.gather_recycled::<_, f32>(&ids, &outputs).unwrap()
        };
        drop(gather(11));
        assert_eq!(outputs.kept_bytes(), 0);
        let (four, seven) = (gather(4), gather(7));
        drop(four);
        drop(seven);
        assert_eq!(outputs.kept_bytes(), 7 * row + LINE, "the older one made room");
        drop(gather(3));
        assert_eq!(outputs.kept_bytes(), 10 * row + 2 * LINE, "7 rows are too many for 3");
        let many: Vec<_> = (0..20).map(|_| gather(0)).collect();
        drop(many);
        assert_eq!(outputs.kept_bytes(), MOST_KEPT * LINE, "those before made room");
        drop(table.gather_recycled::<_, f32>(&[0u32; 0], &Outputs::keeping(0)).unwrap());
    }

    #[test]
    fn what_is_refused_leaves_nothing_behind() {
        let (table, outputs) = (table(), Outputs::new());
        let refused = table.gather_recycled::<_, f32>(&[0, 2003u32], &outputs);
        assert!(matches!(refused, Err(Error::RowOutOfRange { id: 2003, .. })));
        assert_eq!(outputs.kept_bytes(), 0);
    }
}
