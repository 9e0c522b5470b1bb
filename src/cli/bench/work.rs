//! One batch: the gather that is measured, into memory that is used again.

use anyhow::{Result, anyhow};
use embmap::{BagOptions, GatherOptions, Pooling, Table};

use super::super::console::size;
use super::args::Out;
use super::counters::available_memory;

/// Memory for the output of the largest batch, paged in.
pub(super) struct Memory(Vec<u64>);

impl Memory {
    /// Memory for batches of so many rows; refused where it would not fit.
    pub(super) fn for_batches(table: &Table, rows: usize) -> Result<Self> {
        let widest = u128::from(table.row_bytes()).max(table.dim() as u128 * 4);
        let bytes = widest.saturating_mul(rows as u128);
        // A batch has its ids beside its rows, twice where they are sorted.
        let all = u64::try_from(bytes.saturating_add(16 * rows as u128)).unwrap_or(u64::MAX);
        let refused =
            || anyhow!("a batch of {rows} rows needs {} of memory, which is not there", size(all));
        if available_memory().is_some_and(|available| all > available) {
            return Err(refused());
        }
        let words = usize::try_from(bytes.div_ceil(8)).map_err(|_| refused())?;
        let mut memory = Vec::new();
        memory.try_reserve_exact(words).map_err(|_| refused())?;
        memory.resize(words, 0);
        Ok(Memory(memory))
    }

    /// The first `length` elements of some type.
    pub(super) fn of<T: bytemuck::Pod>(&mut self, length: usize) -> &mut [T] {
        &mut bytemuck::cast_slice_mut(&mut self.0)[..length]
    }
}

/// What is done to each batch of a configuration.
pub(super) struct Work<'a> {
    pub(super) table: &'a Table,
    pub(super) out: Out,
    pub(super) threads: usize,
    pub(super) batch: usize,
    /// The ends of the bags, where there are bags. The last bag may be shorter.
    offsets: Vec<u64>,
}

impl<'a> Work<'a> {
    pub(super) fn new(table: &'a Table, out: Out, threads: usize, batch: usize) -> Self {
        let offsets = match out {
            Out::Bag(bag) => {
                (0..batch).step_by(bag.get()).chain([batch]).map(|row| row as u64).collect()
            }
            Out::F32 | Out::Native => Vec::new(),
        };
        Work { table, out, threads, batch, offsets }
    }

    /// Gathers a batch.
    pub(super) fn gather(&self, ids: &[u64], memory: &mut Memory) -> embmap::Result<()> {
        let (table, dim) = (self.table, self.table.dim());
        let options = GatherOptions::new().threads(self.threads);
        match self.out {
            Out::F32 => table.gather_into_with(ids, memory.of::<f32>(ids.len() * dim), &options),
            Out::Native => {
                table.gather_bytes_into_with(ids, memory.of(ids.len() * row_bytes(table)), &options)
            }
            Out::Bag(_) => table.embedding_bag_into_with(
                ids,
                &self.offsets,
                None,
                Pooling::Sum,
                memory.of((self.offsets.len() - 1) * dim),
                &BagOptions::new().threads(self.threads),
            ),
        }
    }
}

/// The bytes of a row as a length in memory.
pub(super) fn row_bytes(table: &Table) -> usize {
    usize::try_from(table.row_bytes()).unwrap_or(usize::MAX)
}
