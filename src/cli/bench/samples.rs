//! Times of many batches, and their percentiles.

/// The most times that are kept.
const MOST: usize = 1 << 20;

/// The times of batches in seconds: all of them, or every second, fourth, ... where they are
/// many.
#[derive(Debug)]
pub(super) struct Samples {
    kept: Vec<f64>,
    seen: u64,
    every: u64,
}

impl Samples {
    pub(super) fn new() -> Self {
        Samples { kept: Vec::new(), seen: 0, every: 1 }
    }

    pub(super) fn push(&mut self, seconds: f64) {
        if self.seen.is_multiple_of(self.every) {
            if self.kept.len() == MOST {
                let mut index = 0;
                self.kept.retain(|_| {
                    index += 1;
                    index % 2 == 1
                });
                self.every *= 2;
            }
            self.kept.push(seconds);
        }
        self.seen += 1;
    }

    /// The number of all batches, kept or not.
    pub(super) fn count(&self) -> u64 {
        self.seen
    }

    /// The least time that at least `percent` of a hundred batches did not exceed; `None` of
    /// no batch.
    pub(super) fn percentile(&self, percent: usize) -> Option<f64> {
        let mut sorted = self.kept.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(times: impl IntoIterator<Item = u32>) -> Samples {
        let mut samples = Samples::new();
        times.into_iter().for_each(|time| samples.push(f64::from(time)));
        samples
    }

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let hundred = samples((1..=100).rev());
        assert_eq!(hundred.percentile(50), Some(50.0));
        assert_eq!(hundred.percentile(99), Some(99.0));
        assert_eq!(hundred.percentile(100), Some(100.0));
        assert_eq!(hundred.percentile(0), Some(1.0));
        assert_eq!(samples([3, 1, 2]).percentile(50), Some(2.0));
        assert_eq!(samples([3, 1, 2]).percentile(99), Some(3.0));
        assert_eq!(samples([]).percentile(50), None);
    }

    #[test]
    #[allow(clippy::float_cmp, reason = "whole numbers")]
    fn many_times_are_thinned_evenly() {
        let count = 5 * u32::try_from(MOST).unwrap();
        let many = samples(0..count);
        assert!(many.kept.len() <= MOST, "{}", many.kept.len());
        assert_eq!(many.count(), u64::from(count));
        assert!(many.kept.windows(2).all(|pair| pair[1] - pair[0] == 8.0));
        let median = many.percentile(50).unwrap();
        assert!((median - f64::from(count) / 2.0).abs() <= 16.0, "{median}");
    }
}
