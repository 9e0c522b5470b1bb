//! The distribution of lengths: exact counts in fine buckets, and the rows at both ends.

use super::found::{NormBin, NormedRow, Norms};

/// The bits of an `f32` that do not choose its bucket: 10 bits of the fraction do, which is 0.1 %.
const COARSE: u32 = 13;

/// The buckets of all lengths, the infinite one included.
const BUCKETS: usize = (f32::INFINITY.to_bits() >> COARSE) as usize + 1;

/// The steps of a histogram.
const STEPS: usize = 24;

/// How many times the shortest length the longest may be for steps of equal length.
const UNEVEN: f64 = 50.0;

/// The shares that lengths are given for.
const SHARES: [f64; 9] = [0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999];

/// The rows that are kept at each end.
const ENDS: usize = 5;

/// Lengths of rows that are not zeros.
pub(super) struct NormCounts {
    buckets: Vec<u64>,
    shortest: Vec<NormedRow>,
    longest: Vec<NormedRow>,
}

impl NormCounts {
    pub(super) fn new() -> Self {
        NormCounts { buckets: vec![0; BUCKETS], shortest: Vec::new(), longest: Vec::new() }
    }

    /// Adds a row at a place.
    #[inline]
    pub(super) fn add(&mut self, place: u64, norm: f64) {
        self.buckets[bucket(norm)] += 1;
        let row = NormedRow { id: place, norm };
        if self.shortest.len() < ENDS || self.shortest.last().is_some_and(|it| norm <= it.norm) {
            keep(&mut self.shortest, row, |a, b| a.norm.total_cmp(&b.norm));
        }
        if self.longest.len() < ENDS || self.longest.last().is_some_and(|it| norm >= it.norm) {
            keep(&mut self.longest, row, |a, b| b.norm.total_cmp(&a.norm));
        }
    }

    /// Adds those of another.
    pub(super) fn join(&mut self, other: Self) {
        for (sum, count) in self.buckets.iter_mut().zip(other.buckets) {
            *sum += count;
        }
        for row in other.shortest {
            keep(&mut self.shortest, row, |a, b| a.norm.total_cmp(&b.norm));
        }
        for row in other.longest {
            keep(&mut self.longest, row, |a, b| b.norm.total_cmp(&a.norm));
        }
    }

    /// All but mean, deviation and the count of rows; ids are places yet.
    pub(super) fn finish(self) -> Norms {
        let all: u64 = self.buckets.iter().sum();
        let ends = |rows: &[NormedRow]| rows.first().map_or(0.0, |row| row.norm);
        let (min, max) = (ends(&self.shortest), ends(&self.longest));
        if all == 0 {
            return Norms::default();
        }
        let at = |share: f64| self.quantile(share, all).clamp(min, max);
        let quantiles: Vec<(f64, f64)> = SHARES.map(|share| (share, at(share))).to_vec();
        let histogram = self.histogram(at(SHARES[0]), at(SHARES[8]));
        Norms {
            min,
            max,
            quantiles,
            histogram,
            shortest: self.shortest,
            longest: self.longest,
            ..Norms::default()
        }
    }

    /// The middle of the bucket up to which a share of the rows lies.
    fn quantile(&self, share: f64, all: u64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a share of rows")]
        let wanted = share * all as f64;
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            #[expect(clippy::cast_precision_loss, reason = "a share of rows")]
            if *count > 0 && seen as f64 >= wanted {
                return middle(bucket);
            }
        }
        f64::INFINITY
    }

    fn histogram(&self, low: f64, high: f64) -> Vec<NormBin> {
        // Lengths that one bucket or two hold have no distribution to speak of.
        let steps = if high > low * (1.0 + 1.0 / 256.0) && high.is_finite() { STEPS } else { 1 };
        let even = high <= low * UNEVEN;
        #[expect(clippy::cast_precision_loss, reason = "a few steps")]
        let edge = |step: usize| {
            let part = step as f64 / steps as f64;
            if even { low + (high - low) * part } else { low * (high / low).powf(part) }
        };
        let bin = |step| NormBin { from: edge(step), to: edge(step + 1), rows: 0 };
        let mut bins: Vec<NormBin> = (0..steps).map(bin).collect();
        for (bucket, count) in self.buckets.iter().enumerate().filter(|(_, count)| **count > 0) {
            let norm = middle(bucket);
            let step = bins.partition_point(|bin| bin.to <= norm).min(steps - 1);
            bins[step].rows += count;
        }
        bins
    }
}

/// Inserts a row among the first few in an order; of equal ones the lower place comes first.
fn keep(
    rows: &mut Vec<NormedRow>,
    row: NormedRow,
    order: impl Fn(&NormedRow, &NormedRow) -> std::cmp::Ordering,
) {
    let at = rows.partition_point(|it| order(it, &row).then(it.id.cmp(&row.id)).is_lt());
    if at < ENDS {
        rows.insert(at, row);
        rows.truncate(ENDS);
    }
}

#[expect(clippy::cast_possible_truncation, reason = "rounding to nearest is the purpose")]
fn bucket(norm: f64) -> usize {
    ((norm as f32).to_bits() >> COARSE) as usize
}

#[expect(clippy::cast_possible_truncation, reason = "a bucket is made of bits of an f32")]
fn middle(bucket: usize) -> f64 {
    let low = (bucket as u32) << COARSE;
    if low >= f32::INFINITY.to_bits() {
        return f64::INFINITY;
    }
    f64::from(f32::from_bits(low + (1 << (COARSE - 1))))
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
    fn quantiles_and_ends_are_those_of_the_sorted_lengths() {
        let norms: Vec<f64> =
            (0..5000u32).map(|at| f64::from(at * 7919 % 5000 + 201) / 7.0).collect();
        let mut parts: Vec<NormCounts> = (0..3).map(|_| NormCounts::new()).collect();
        for (place, norm) in (0..).zip(&norms) {
            parts[place as usize % 3].add(place, *norm);
        }
        let mut all = parts.pop().unwrap();
        parts.into_iter().for_each(|part| all.join(part));
        let found = all.finish();
        let mut sorted = norms.clone();
        sorted.sort_by(f64::total_cmp);
        assert_eq!((found.min, found.max), (sorted[0], sorted[4999]));
        for (share, norm) in &found.quantiles {
            let expected = sorted[(share * 5000.0).ceil() as usize - 1];
            assert!((norm / expected - 1.0).abs() < 1e-3, "{share}: {norm}, {expected}");
        }
        assert_eq!(found.histogram.len(), STEPS);
        assert_eq!(found.histogram.iter().map(|bin| bin.rows).sum::<u64>(), 5000);
        assert!(found.histogram.iter().all(|bin| (190..230).contains(&bin.rows)));
        let longest: Vec<f64> = found.longest.iter().map(|row| row.norm).collect();
        assert_eq!(longest, sorted.iter().rev().take(ENDS).copied().collect::<Vec<_>>());
        for row in found.shortest.iter().chain(&found.longest) {
            assert_eq!(norms[row.id as usize], row.norm);
        }
    }

    #[test]
    fn lengths_far_apart_are_shown_in_steps_of_equal_ratio() {
        let mut counts = NormCounts::new();
        (0..4000).for_each(|place| counts.add(place, 10f64.powf(place as f64 / 1000.0)));
        let bins = counts.finish().histogram;
        let ratio = bins[0].to / bins[0].from;
        assert!(bins.iter().all(|bin| (bin.to / bin.from / ratio - 1.0).abs() < 1e-9));
        assert!(bins.iter().all(|bin| (155..180).contains(&bin.rows)), "{bins:?}");
    }

    #[test]
    fn odd_lengths_have_buckets_too() {
        let mut counts = NormCounts::new();
        for (place, norm) in [f64::MIN_POSITIVE, 1e-45, 1e38, 1e300, 1.0].into_iter().enumerate() {
            counts.add(place as u64, norm);
        }
        let found = counts.finish();
        assert_eq!((found.min, found.max), (f64::MIN_POSITIVE, 1e300));
        assert_eq!(NormCounts::new().finish(), Norms::default());
        let mut same = NormCounts::new();
        (0..10).for_each(|place| same.add(place, 1.0));
        let found = same.finish();
        assert_eq!((found.histogram.len(), found.histogram[0].rows), (1, 10));
        assert_eq!(found.shortest.iter().map(|row| row.id).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    }
}
