//! The ids of each batch: fresh ones, as they are spread over a table in use.

use anyhow::{Result, anyhow};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Zipf};

use super::super::trace::Trace;
use super::args::Ids;

/// Where ids come from. The generator's period is 2^256 - 1, so no batch comes twice.
pub(super) struct IdSource {
    vocab: u64,
    random: Xoshiro256PlusPlus,
    kind: Kind,
}

enum Kind {
    Uniform,
    /// Exact, by rejection from the inverse of an envelope's sum, without a table of `vocab`.
    Zipf(Zipf<f64>, Spread),
    Trace(Trace),
}

impl IdSource {
    /// The ids that are gathered. A trace is read through and checked here.
    pub(super) fn new(ids: &Ids, vocab: u64) -> Result<Self> {
        Self::seeded(ids, vocab, 0)
    }

    /// Others of the same kind: of a trace the same ones, from its middle on.
    pub(super) fn others(ids: &Ids, vocab: u64) -> Result<Self> {
        let mut source = Self::seeded(ids, vocab, 1)?;
        if let Kind::Trace(trace) = &mut source.kind {
            trace.skip_half()?;
        }
        Ok(source)
    }

    fn seeded(ids: &Ids, vocab: u64, seed: u64) -> Result<Self> {
        if vocab == 0 {
            return Err(anyhow!("the table has no rows to gather"));
        }
        let kind = match ids {
            Ids::Uniform => Kind::Uniform,
            Ids::Zipf(exponent) => {
                #[allow(clippy::cast_precision_loss, reason = "exact up to 2^53 rows")]
                let zipf = Zipf::new(vocab as f64, *exponent)
                    .map_err(|error| anyhow!("zipf:{exponent}: {error}"))?;
                Kind::Zipf(zipf, Spread::over(vocab))
            }
            Ids::Trace(path) => Kind::Trace(Trace::open(path, vocab)?),
        };
        Ok(IdSource { vocab, random: Xoshiro256PlusPlus::seed_from_u64(seed), kind })
    }

    /// Fills a batch.
    pub(super) fn fill(&mut self, ids: &mut [u64]) -> Result<()> {
        match &mut self.kind {
            Kind::Uniform => ids.fill_with(|| self.random.random_range(0..self.vocab)),
            Kind::Zipf(zipf, spread) => {
                ids.fill_with(|| spread.place(rank(zipf, &mut self.random, self.vocab)));
            }
            Kind::Trace(trace) => {
                for id in ids {
                    *id = trace.next()?;
                }
            }
        }
        Ok(())
    }
}

/// The rank of a row, the most frequent one's being 0.
fn rank(zipf: &Zipf<f64>, random: &mut Xoshiro256PlusPlus, vocab: u64) -> u64 {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a whole number from 1 to vocab, but for a rounding at the end"
    )]
    let rank = zipf.sample(random) as u64;
    rank.clamp(1, vocab) - 1
}

/// A bijection of `0..vocab` that leaves no two neighbouring ranks neighbours: a
/// multiplication by about `vocab` over the golden ratio, modulo `vocab`.
#[derive(Debug, Clone, Copy)]
struct Spread {
    vocab: u64,
    factor: u64,
}

impl Spread {
    fn over(vocab: u64) -> Self {
        // 2^64 over the golden ratio.
        let golden = u128::from(0x9e37_79b9_7f4a_7c15_u64);
        let near = u64::try_from((u128::from(vocab) * golden) >> 64).unwrap_or(0).max(1);
        // One of few tries has no factor in common, and vocab + 1 never has.
        let factor = (near..=near.saturating_add(vocab)).find(|factor| common(*factor, vocab) == 1);
        Spread { vocab, factor: factor.unwrap_or(1) }
    }

    fn place(self, rank: u64) -> u64 {
        let place = u128::from(rank) * u128::from(self.factor) % u128::from(self.vocab);
        u64::try_from(place).unwrap_or(0)
    }
}

/// The greatest common divisor.
fn common(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { common(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(ids: &str, vocab: u64, length: usize) -> Vec<u64> {
        let mut batch = vec![0; length];
        IdSource::new(&ids.parse().unwrap(), vocab).unwrap().fill(&mut batch).unwrap();
        batch
    }

    /// How often each rank came, the ranks told from the ids.
    fn counts(exponent: f64, vocab: u64, draws: usize) -> Vec<usize> {
        let places: std::collections::HashMap<u64, u64> = {
            let spread = Spread::over(vocab);
            (0..vocab).map(|rank| (spread.place(rank), rank)).collect()
        };
        let mut counts = vec![0; usize::try_from(vocab).unwrap()];
        for id in batch(&format!("zipf:{exponent}"), vocab, draws) {
            counts[usize::try_from(places[&id]).unwrap()] += 1;
        }
        counts
    }

    #[test]
    #[allow(clippy::cast_precision_loss)]
    fn zipf_ids_come_as_often_as_they_should() {
        const DRAWS: usize = 200_000;
        for (exponent, vocab) in
            [(0.0, 50u64), (0.5, 100), (0.99, 100), (1.0, 100), (1.2, 1000), (3.0, 20)]
        {
            let weights: Vec<f64> = (1..=vocab).map(|rank| (rank as f64).powf(-exponent)).collect();
            let sum: f64 = weights.iter().sum();
            let expected: Vec<f64> = weights.iter().map(|it| it / sum * DRAWS as f64).collect();
            // Pearson's statistic over the ranks that are expected often enough for it.
            let found = counts(exponent, vocab, DRAWS);
            let pairs = expected.iter().zip(&found).filter(|(expected, _)| **expected >= 5.0);
            let (mut statistic, mut degrees) = (0.0, 0.0f64);
            for (expected, found) in pairs {
                statistic += (*found as f64 - expected).powi(2) / expected;
                degrees += 1.0;
            }
            // Its mean is `degrees` and its deviation the root of twice that.
            let limit = degrees + 5.0 * (2.0 * degrees).sqrt();
            assert!(statistic < limit, "s {exponent}: {statistic} of {degrees} degrees");
        }
    }

    #[test]
    fn a_huge_table_needs_no_memory() {
        let vocab = 3_000_000_000;
        for ids in ["uniform", "zipf:0.8", "zipf:1", "zipf:1.5"] {
            let batch = batch(ids, vocab, 10_000);
            assert!(batch.iter().all(|id| *id < vocab));
            let distinct: std::collections::HashSet<_> = batch.iter().collect();
            assert!(distinct.len() > 50, "{ids}: {}", distinct.len());
            assert!(
                batch.iter().any(|id| *id > vocab / 2) && batch.iter().any(|id| *id < vocab / 2)
            );
        }
    }

    #[test]
    fn spreading_is_a_bijection_and_parts_neighbours() {
        for vocab in [1, 2, 3, 4, 6, 10, 30, 97, 1000, 30030, 65536] {
            let spread = Spread::over(vocab);
            let mut places: Vec<u64> = (0..vocab).map(|rank| spread.place(rank)).collect();
            if vocab > 30 {
                let near = |pair: &[u64]| pair[0].abs_diff(pair[1]) < vocab / 10;
                assert!(!places[..10].windows(2).any(near), "{vocab}: {:?}", &places[..10]);
            }
            places.sort_unstable();
            assert!(places.into_iter().eq(0..vocab), "{vocab}");
        }
        let huge = Spread::over(u64::MAX);
        assert_eq!(common(huge.factor, u64::MAX), 1);
    }

    #[test]
    fn every_batch_is_a_fresh_one() {
        let ids = Ids::Uniform;
        let mut source = IdSource::new(&ids, 1 << 40).unwrap();
        let mut others = IdSource::others(&ids, 1 << 40).unwrap();
        let mut seen = std::collections::HashSet::new();
        let mut batch = [0; 64];
        for _ in 0..100 {
            for source in [&mut source, &mut others] {
                source.fill(&mut batch).unwrap();
                assert!(batch.iter().all(|id| seen.insert(*id)), "an id of 2^40 came twice");
            }
        }
        assert!(IdSource::new(&ids, 0).is_err());
    }
}
