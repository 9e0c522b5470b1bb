//! The rows that are looked at more closely: evenly spread, one of each of equal stretches.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::storage::zeros;

/// Which places are in a sample.
#[derive(Debug, Clone, Copy)]
pub(super) struct Choice {
    pub(super) rows: u64,
    vocab: u64,
    seed: u64,
}

impl Choice {
    /// At most `rows` of the places below `vocab`.
    pub(super) fn of(rows: u64, vocab: u64, seed: u64) -> Self {
        Choice { rows: rows.min(vocab), vocab, seed }
    }

    /// The start of a stretch.
    fn start(&self, index: u64) -> u64 {
        let at = u128::from(index) * u128::from(self.vocab) / u128::from(self.rows.max(1));
        u64::try_from(at).unwrap_or(u64::MAX)
    }

    /// The place that was chosen of a stretch.
    pub(super) fn place(&self, index: u64) -> u64 {
        let (start, end) = (self.start(index), self.start(index + 1));
        start + mixed(self.seed ^ mixed(index)) % (end - start).max(1)
    }

    /// The indexes of the chosen places in a range, in order.
    pub(super) fn within(self, places: Range<u64>) -> impl Iterator<Item = u64> {
        let first =
            u128::from(places.start) * u128::from(self.rows) / u128::from(self.vocab.max(1));
        let first = u64::try_from(first).unwrap_or(u64::MAX).saturating_sub(1);
        (first..self.rows)
            .skip_while(move |index| self.place(*index) < places.start)
            .take_while(move |index| self.place(*index) < places.end)
    }
}

/// The chosen rows, as numbers. Those that hold what is no number are left out.
pub(super) struct Sample {
    dim: usize,
    values: Vec<f32>,
    finite: Vec<bool>,
}

impl Sample {
    pub(super) fn new(choice: Choice, dim: usize) -> Result<Self> {
        let bytes = u128::from(choice.rows) * dim as u128 * size_of::<f32>() as u128;
        let rows = usize::try_from(choice.rows).ok();
        let values = rows.and_then(|rows| zeros(rows.checked_mul(dim)?));
        let values = values.ok_or(Error::OutputMemory { bytes })?;
        Ok(Sample { dim, values, finite: vec![false; rows.unwrap_or(0)] })
    }

    pub(super) fn put(&mut self, index: u64, row: &[f32], finite: bool) {
        let at = usize::try_from(index).unwrap_or(usize::MAX);
        self.values[at * self.dim..][..self.dim].copy_from_slice(row);
        self.finite[at] = finite;
    }

    /// The rows of finite numbers, one after the other.
    pub(super) fn into_rows(mut self) -> Vec<f32> {
        let dim = self.dim;
        let mut kept = 0;
        for (at, _) in self.finite.iter().enumerate().filter(|(_, finite)| **finite) {
            self.values.copy_within(at * dim..(at + 1) * dim, kept);
            kept += dim;
        }
        self.values.truncate(kept);
        self.values
    }
}

/// A number that looks random (the finalizer of `SplitMix64`: Steele, Lea and Flood, 2014).
fn mixed(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        clippy::needless_for_each
    )]

    use super::*;

    #[test]
    fn every_stretch_gives_one_row_whatever_the_windows() {
        for (rows, vocab) in [(1, 1), (7, 1000), (1000, 1000), (5, 7), (64, 1 << 40), (9, 3)] {
            let choice = Choice::of(rows, vocab, 3);
            let places: Vec<u64> = (0..choice.rows).map(|index| choice.place(index)).collect();
            assert!(places.windows(2).all(|pair| pair[0] < pair[1]), "{rows} of {vocab}");
            assert!(places.iter().all(|place| *place < vocab));
            let step = vocab.div_ceil(13);
            let windows = (0..vocab).step_by(step as usize).map(|at| at..vocab.min(at + step));
            let found: Vec<u64> = windows.flat_map(|window| choice.within(window)).collect();
            assert_eq!(found, (0..choice.rows).collect::<Vec<_>>(), "{rows} of {vocab}");
        }
        assert_eq!(Choice::of(5, 0, 1).within(0..0).count(), 0);
        let all = Choice::of(10, 10, 1);
        assert!((0..10).all(|index| all.place(index) == index));
    }

    #[test]
    fn rows_that_are_no_numbers_are_left_out() {
        let mut sample = Sample::new(Choice::of(4, 4, 0), 2).unwrap();
        sample.put(2, &[5.0, 6.0], true);
        sample.put(0, &[1.0, 2.0], true);
        sample.put(1, &[f32::NAN, 0.0], false);
        assert_eq!(sample.into_rows(), [1.0, 2.0, 5.0, 6.0]);
    }
}
