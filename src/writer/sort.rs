//! Sorting the tokens' hashes and ids in little memory.
//!
//! Pairs are sorted in runs of a bounded length, which are then merged. Sharing them out
//! by their hash instead would need memory for the largest share, and a table in which
//! every row has the same token has only one.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, Write};
use std::ops::Range;

use byteorder::{ByteOrder, LittleEndian};

use super::spool::Spool;

/// A token's hash and its id.
pub(crate) type Pair = (u64, u64);

/// The bytes of a spooled pair.
const PAIR_BYTES: usize = 16;

/// The memory for reading all runs, in bytes.
const MERGE_BYTES: usize = 16 << 20;

/// Pairs on their way to being sorted.
pub(crate) struct PairSorter {
    run: Vec<Pair>,
    /// The pairs of a run.
    most: usize,
    spool: Spool,
    /// Where each run lies in the spool.
    runs: Vec<Range<u64>>,
}

impl PairSorter {
    /// A sorter in runs of `most` pairs.
    pub(crate) fn new(most: usize, spool: Spool) -> Self {
        PairSorter { run: Vec::new(), most, spool, runs: Vec::new() }
    }

    pub(crate) fn push(&mut self, pair: Pair) -> io::Result<()> {
        self.run.push(pair);
        if self.run.len() >= self.most { self.end_run() } else { Ok(()) }
    }

    /// Hands every pair on, in ascending order.
    pub(crate) fn merge(mut self, mut each: impl FnMut(Pair) -> io::Result<()>) -> io::Result<()> {
        self.end_run()?;
        self.run = Vec::new();
        let pairs = (MERGE_BYTES / PAIR_BYTES / self.runs.len().max(1)).clamp(64, 4096);
        let mut runs: Vec<PairReader<'_>> = self
            .runs
            .iter()
            .map(|range| PairReader::new(&self.spool, range.clone(), pairs * PAIR_BYTES))
            .collect();
        let mut next = BinaryHeap::new();
        for (index, run) in runs.iter_mut().enumerate() {
            next.extend(run.next()?.map(|pair| Reverse((pair, index))));
        }
        while let Some(mut lowest) = next.peek_mut() {
            let Reverse((pair, index)) = *lowest;
            each(pair)?;
            match runs[index].next()? {
                Some(pair) => *lowest = Reverse((pair, index)),
                None => {
                    std::collections::binary_heap::PeekMut::pop(lowest);
                }
            }
        }
        Ok(())
    }

    fn end_run(&mut self) -> io::Result<()> {
        if self.run.is_empty() {
            return Ok(());
        }
        self.run.sort_unstable();
        let start = self.spool.bytes();
        for pair in &self.run {
            write_pair(&mut self.spool, *pair)?;
        }
        self.runs.push(start..self.spool.bytes());
        self.run.clear();
        Ok(())
    }
}

/// Adds a pair to a spool.
pub(super) fn write_pair(spool: &mut Spool, pair: Pair) -> io::Result<()> {
    let mut bytes = [0; PAIR_BYTES];
    LittleEndian::write_u64(&mut bytes[..8], pair.0);
    LittleEndian::write_u64(&mut bytes[8..], pair.1);
    spool.write_all(&bytes)
}

/// Reads pairs back, in the order they were written.
pub(super) struct PairReader<'a> {
    spool: &'a Spool,
    range: Range<u64>,
    piece: Vec<u8>,
    at: usize,
    most: usize,
}

impl<'a> PairReader<'a> {
    /// A reader of a range of the spool, `most` bytes at once.
    fn new(spool: &'a Spool, range: Range<u64>, most: usize) -> Self {
        PairReader { spool, range, piece: Vec::new(), at: 0, most }
    }

    /// A reader of all that a spool holds.
    pub(super) fn all(spool: &'a Spool) -> Self {
        PairReader::new(spool, 0..spool.bytes(), 4096 * PAIR_BYTES)
    }

    /// The number of pairs not read yet, where none was.
    pub(super) fn pairs(&self) -> u64 {
        (self.range.end - self.range.start) / PAIR_BYTES as u64
    }

    /// The next pair, or `None` at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<Pair>> {
        if self.at == self.piece.len() {
            let left = usize::try_from(self.range.end - self.range.start).unwrap_or(usize::MAX);
            self.piece.resize(left.min(self.most), 0);
            self.spool.read_at(self.range.start, &mut self.piece)?;
            self.range.start += self.piece.len() as u64;
            self.at = 0;
        }
        let Some(pair) = self.piece.get(self.at..self.at + PAIR_BYTES) else { return Ok(None) };
        self.at += PAIR_BYTES;
        Ok(Some((LittleEndian::read_u64(&pair[..8]), LittleEndian::read_u64(&pair[8..]))))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::publish::Operations;

    proptest! {
        #[test]
        fn merged_runs_are_the_sorted_pairs(
            pairs in proptest::collection::vec((0u64..20, 0u64..1000), 0..600),
            most in 1usize..100,
            spool in 1usize..2000,
        ) {
            let directory: Arc<Path> = Arc::from(std::env::temp_dir());
            let spool = Spool::new(&Operations::default(), &directory, spool);
            let mut sorter = PairSorter::new(most, spool);
            for pair in &pairs {
                sorter.push(*pair).unwrap();
            }
            let mut merged = Vec::new();
            sorter.merge(|pair| { merged.push(pair); Ok(()) }).unwrap();
            let mut expected = pairs;
            expected.sort_unstable();
            prop_assert_eq!(merged, expected);
        }
    }
}
