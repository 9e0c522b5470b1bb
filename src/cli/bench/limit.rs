//! The limit beside which a gather is measured: what the memory, or the device, can do.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use embmap::{DType, GatherOptions, Table};
use half::{bf16, f16};

use super::counters::available_memory;
use super::samples::Samples;
use super::work::{Memory, row_bytes};

/// The bytes of rows that are copied to memory at most: as many as the table
/// has, for a larger table takes longer to find places in, up to what takes seconds to fill.
const MOST_HEAP: u64 = 8 << 30;

/// The bytes of a batch from which a plain copy is worth several threads.
const PARALLEL_BYTES: usize = 1 << 20;

/// How many rows ahead a plain copy touches the first line of a row.
const AHEAD: usize = 8;

/// One way to do the work at the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// The library's gather, from memory in large pages.
    Gather,
    /// A loop of copies from the same memory.
    Copies,
    /// Reads past the page cache, many at the same time, through `io_uring`.
    Ring,
    /// The same by a pool of threads, where there is no `io_uring`.
    Pool,
}

impl Way {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Way::Gather => "gather from memory",
            Way::Copies => "copies from memory",
            Way::Ring => "direct reads through io_uring",
            Way::Pool => "direct reads by threads",
        }
    }
}

/// The ways to the limit of one state, and where they take rows from.
pub(super) struct Limit {
    table: Table,
    pub(super) ways: &'static [Way],
}

impl Limit {
    /// Rows of the same size, as many as may be, in memory in large pages.
    pub(super) fn of_memory(table: &Table) -> Result<Self> {
        let bytes = available_memory().map_or(MOST_HEAP, |free| MOST_HEAP.min(free / 4));
        let row = table.row_stride().max(table.row_bytes()).max(1);
        let rows = (bytes / row).clamp(1, table.vocab());
        let table = table.load_rows(..rows)?;
        // Rows whose planes lie apart are more than one copy each.
        let plain = table.encoded_row(0).is_ok();
        let ways: &[Way] = if plain { &[Way::Gather, Way::Copies] } else { &[Way::Gather] };
        Ok(Limit { table, ways })
    }

    /// Reads of the same rows by a table that reads past the page cache.
    pub(super) fn of_device(direct: Table) -> Result<Self> {
        let ring = direct.direct_io()?.is_some_and(|io| io.io_uring);
        let ways: &[Way] = if ring { &[Way::Ring] } else { &[Way::Pool] };
        Ok(Limit { table: direct, ways })
    }

    /// Does a batch at the limit, and tells how long it took.
    pub(super) fn measure(
        &self,
        way: Way,
        ids: &mut [u64],
        memory: &mut Memory,
        threads: usize,
    ) -> Result<Duration> {
        match way {
            Way::Ring | Way::Pool => read_at_depth(&self.table, ids, memory),
            Way::Gather | Way::Copies => {
                // Fewer rows may be there than the table has.
                for id in &mut *ids {
                    *id %= self.table.vocab();
                }
                let start = Instant::now();
                if way == Way::Gather {
                    gather(&self.table, ids, memory, threads)?;
                } else {
                    let bytes = memory.of(ids.len() * row_bytes(&self.table));
                    copy(&self.table, ids, bytes, threads)?;
                }
                Ok(start.elapsed())
            }
        }
    }
}

/// Copies rows by the best kernel there is for their type.
fn gather(table: &Table, ids: &[u64], memory: &mut Memory, threads: usize) -> Result<()> {
    let options = GatherOptions::new().threads(threads);
    let elements = ids.len() * table.dim();
    match table.dtype() {
        DType::F32 => table.gather_into_with(ids, memory.of::<f32>(elements), &options)?,
        DType::F16 => table.gather_into_with(ids, memory.of::<f16>(elements), &options)?,
        DType::BF16 => table.gather_into_with(ids, memory.of::<bf16>(elements), &options)?,
        _ => {
            let bytes = memory.of(ids.len() * row_bytes(table));
            table.gather_bytes_into_with(ids, bytes, &options)?;
        }
    }
    Ok(())
}

/// Copies rows in a plain loop; in parts by several threads, where there is enough for them.
fn copy(table: &Table, ids: &[u64], out: &mut [u8], threads: usize) -> Result<()> {
    let row = row_bytes(table).max(1);
    if threads == 1 || out.len() < PARALLEL_BYTES {
        return copy_part(table, ids, out);
    }
    let rows = ids.len().div_ceil(threads);
    std::thread::scope(|scope| {
        let parts: Vec<_> = ids
            .chunks(rows)
            .zip(out.chunks_mut(rows * row))
            .map(|(ids, out)| scope.spawn(move || copy_part(table, ids, out)))
            .collect();
        parts.into_iter().try_for_each(joined)
    })
}

fn copy_part(table: &Table, ids: &[u64], out: &mut [u8]) -> Result<()> {
    let row = row_bytes(table).max(1);
    for (position, out) in out.chunks_exact_mut(row).enumerate() {
        if let Some(id) = ids.get(position + AHEAD) {
            black_box(table.encoded_row(*id)?.first());
        }
        out.copy_from_slice(table.encoded_row(ids[position])?);
    }
    Ok(())
}

/// Reads the distinct rows of a batch past the page cache, as many at a time as it takes.
///
/// The one place that knows how a device is read at depth.
fn read_at_depth(table: &Table, ids: &mut [u64], memory: &mut Memory) -> Result<Duration> {
    let distinct = distinct(ids);
    let rows = memory.of(distinct.len() * row_bytes(table));
    let start = Instant::now();
    table.gather_bytes_into_with(distinct, rows, &GatherOptions::new().threads(1))?;
    Ok(start.elapsed())
}

fn joined(thread: std::thread::ScopedJoinHandle<'_, Result<()>>) -> Result<()> {
    thread.join().unwrap_or_else(|_| Err(anyhow!("a thread that measured the limit panicked")))
}

/// The distinct ids of a batch, in no order that a device would like.
pub(super) fn distinct(ids: &mut [u64]) -> &[u64] {
    let mut seen = std::collections::HashSet::with_capacity(ids.len());
    let mut kept = 0;
    for index in 0..ids.len() {
        if seen.insert(ids[index]) {
            ids[kept] = ids[index];
            kept += 1;
        }
    }
    &ids[..kept]
}

/// What was measured of one way.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) way: Way,
    pub(super) times: Samples,
}

#[cfg(test)]
mod tests {
    use embmap::{Access, OpenOptions};

    use super::*;

    #[test]
    fn every_way_copies_the_rows() {
        let table = OpenOptions::new().open("fixtures/minilm-2k").unwrap();
        let limit = Limit::of_memory(&table).unwrap();
        let mut ids: Vec<u64> = (0..3000).map(|n| n * 7919 % 2003).collect();
        let mut expected = vec![0u8; ids.len() * 768];
        table.gather_bytes_into(&ids, &mut expected).unwrap();
        for way in limit.ways {
            for threads in [1, 3] {
                let mut memory = Memory::for_batches(&table, ids.len()).unwrap();
                limit.measure(*way, &mut ids, &mut memory, threads).unwrap();
                assert!(memory.of::<u8>(expected.len()) == expected, "{way:?} {threads}");
            }
        }
        let direct = OpenOptions::new().access(Access::Direct).open("fixtures/minilm-2k").unwrap();
        let limit = Limit::of_device(direct).unwrap();
        let mut memory = Memory::for_batches(&table, 3).unwrap();
        let mut few = [5, 5, 7, 5, 2002];
        let taken = limit.measure(limit.ways[0], &mut few, &mut memory, 1).unwrap();
        assert!(taken > Duration::ZERO);
        let mut expected = [0u8; 3 * 768];
        table.gather_bytes_into(&[5u64, 7, 2002], &mut expected).unwrap();
        assert_eq!(memory.of::<u8>(expected.len()), expected);
        assert!(limit.measure(limit.ways[0], &mut [2003], &mut memory, 1).is_err());
    }

    #[test]
    fn distinct_ids_keep_their_order() {
        assert_eq!(distinct(&mut [3, 1, 3, 2, 1]), [3, 1, 2]);
        assert_eq!(distinct(&mut []), [0; 0]);
    }
}
