//! What was found of one configuration.

use super::args::State;
use super::counters::Counters;
use super::limit::{Measured, Way};
use super::samples::Samples;
use super::state::Reason;

/// One configuration, and its figures or why there are none.
pub(super) struct Figures {
    pub(super) state: State,
    pub(super) threads: usize,
    pub(super) batch: usize,
    pub(super) found: Result<Numbers, Reason>,
}

/// The figures of a configuration.
#[derive(Debug)]
pub(super) struct Numbers {
    /// The batches that were measured.
    pub(super) batches: u64,
    /// Those that were left out: they were not in the state that was asked for.
    pub(super) discarded: u64,
    /// Medians of batches.
    pub(super) rows_per_second: f64,
    pub(super) bytes_per_second: f64,
    /// Seconds a batch.
    pub(super) p50: f64,
    pub(super) p99: f64,
    /// Of all measured batches.
    pub(super) counted: Counters,
    pub(super) asked_bytes: u64,
    /// The ways to the limit and their medians, in rows a second.
    pub(super) limits: Vec<(Way, f64)>,
}

impl Numbers {
    /// The figures of batches of some rows; `None` of no batch.
    pub(super) fn of(
        times: &Samples,
        discarded: u64,
        counted: Counters,
        ways: &[Measured],
        batch: usize,
        row_bytes: u64,
    ) -> Option<Self> {
        let (p50, p99) = (times.percentile(50)?, times.percentile(99)?);
        let rows = per_second(batch as u64, p50);
        Some(Numbers {
            batches: times.count(),
            discarded,
            rows_per_second: rows,
            bytes_per_second: per_second(batch as u64 * row_bytes, p50),
            p50,
            p99,
            counted,
            asked_bytes: times.count() * batch as u64 * row_bytes,
            limits: ways
                .iter()
                .filter_map(|it| Some((it.way, per_second(batch as u64, it.times.percentile(50)?))))
                .collect(),
        })
    }

    /// The bytes that a device read over the bytes asked for.
    pub(super) fn amplification(&self) -> Option<f64> {
        Some(float(self.counted.device_bytes?) / float(self.asked_bytes))
    }

    /// The limit: what can be done by any of the ways.
    pub(super) fn limit(&self) -> Option<(Way, f64)> {
        self.limits.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// What was reached of the limit.
    pub(super) fn share(&self) -> Option<f64> {
        self.limit().map(|(_, rows_per_second)| self.rows_per_second / rows_per_second)
    }
}

fn per_second(count: u64, seconds: f64) -> f64 {
    // A clock may be too coarse for a small batch.
    float(count) / seconds.max(1e-9)
}

#[allow(clippy::cast_precision_loss, reason = "figures of three digits")]
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_follow_from_medians_and_sums() {
        let mut times = Samples::new();
        for time in [0.5, 0.25, 1.0] {
            times.push(time);
        }
        let measured = |way, seconds| {
            let mut times = Samples::new();
            times.push(seconds);
            Measured { way, times }
        };
        let ways = [measured(Way::Copies, 0.125), measured(Way::Gather, 0.25)];
        let counted = Counters { faults: Some(2), device_bytes: Some(3000) };
        let found = Numbers::of(&times, 1, counted, &ways, 100, 20).unwrap();
        assert_eq!((found.batches, found.asked_bytes), (3, 6000));
        assert_eq!((found.p50, found.p99), (0.5, 1.0));
        assert_eq!((found.rows_per_second, found.bytes_per_second), (200.0, 4000.0));
        assert_eq!(found.limit(), Some((Way::Copies, 800.0)));
        assert_eq!((found.amplification(), found.share()), (Some(0.5), Some(0.25)));
        assert!(Numbers::of(&Samples::new(), 0, counted, &[], 1, 1).is_none());
    }
}
