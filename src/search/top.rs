//! The best rows so far.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::nearest::Neighbour;
use crate::error::{Error, Result};
use crate::table::IdsByPlace;

/// Which row lies at a place.
pub(super) type Ids<'a> = Option<IdsByPlace<'a>>;

/// The best `k` of the rows that were offered.
pub(super) struct Top {
    k: usize,
    /// True where a row with the score of the worst may have a lower id.
    unordered: bool,
    /// What a score has to exceed to be among them.
    floor: f32,
    /// The worst on top.
    best: BinaryHeap<Ranked>,
}

/// A neighbour; of two, the greater is the worse one.
struct Ranked(Neighbour);

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        rank(&self.0, &other.0)
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ranked {}

/// The order of answers: the higher score first, of equal ones the lower id. No score is NaN.
fn rank(a: &Neighbour, b: &Neighbour) -> Ordering {
    b.score.partial_cmp(&a.score).unwrap_or(Ordering::Equal).then(a.id.cmp(&b.id))
}

impl Top {
    /// `unordered` says that ids will not come in ascending order.
    pub(super) fn new(k: usize, unordered: bool) -> Self {
        Top { k, unordered, floor: f32::NEG_INFINITY, best: BinaryHeap::new() }
    }

    /// Takes the row at a place where it is among the best. `excluded` are ids in ascending order.
    #[inline]
    pub(super) fn offer(
        &mut self,
        score: f32,
        place: u64,
        ids: &Ids<'_>,
        excluded: &[u64],
    ) -> Result<()> {
        let among = if self.best.len() < self.k {
            !score.is_nan()
        } else {
            // Of equal scores the first one stays, where that is the lower id.
            score > self.floor || (self.unordered && score >= self.floor)
        };
        if !among {
            return Ok(());
        }
        let id = ids.as_ref().map_or(Ok(place), |ids| ids.at(place))?;
        self.take(Neighbour { id, score }, excluded)
    }

    #[cold]
    fn take(&mut self, neighbour: Neighbour, excluded: &[u64]) -> Result<()> {
        if excluded.binary_search(&neighbour.id).is_ok() {
            return Ok(());
        }
        if self.best.len() < self.k {
            if self.best.len() == self.best.capacity() {
                let more = self.best.len().clamp(16, 1 << 20);
                let bytes = (self.best.len() + more) as u128 * size_of::<Ranked>() as u128;
                self.best.try_reserve(more).map_err(|_| Error::OutputMemory { bytes })?;
            }
            self.best.push(Ranked(neighbour));
        } else if let Some(mut worst) = self.best.peek_mut()
            && rank(&neighbour, &worst.0).is_lt()
        {
            *worst = Ranked(neighbour);
        }
        if self.best.len() == self.k
            && let Some(worst) = self.best.peek()
        {
            self.floor = worst.0.score;
        }
        Ok(())
    }

    /// The best of several, in the order of answers.
    pub(super) fn merge(k: usize, tops: impl Iterator<Item = Top>) -> Vec<Neighbour> {
        let mut all: Vec<Neighbour> =
            tops.flat_map(|top| top.best.into_iter().map(|ranked| ranked.0)).collect();
        all.sort_unstable_by(rank);
        all.truncate(k);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn best_of(k: usize, scores: &[f32], excluded: &[u64], parts: usize) -> Vec<(u64, f32)> {
        let offer = |backwards: bool| {
            let mut tops: Vec<Top> = (0..parts).map(|_| Top::new(k, backwards)).collect();
            let mut rows: Vec<(u64, f32)> = (0..).zip(scores.iter().copied()).collect();
            if backwards {
                rows.reverse();
            }
            for (id, score) in rows {
                tops[id as usize * 7 % parts].offer(score, id, &None, excluded).unwrap();
            }
            Top::merge(k, tops.into_iter())
        };
        let found = offer(false);
        assert_eq!(found, offer(true), "whatever the order that they come in");
        found.into_iter().map(|found| (found.id, found.score)).collect()
    }

    #[test]
    fn equal_scores_go_by_id_and_nan_is_no_answer() {
        let scores = [0.5, f32::NAN, 0.5, -0.0, 0.0, f32::NEG_INFINITY, 0.5, f32::INFINITY];
        for parts in 1..=4 {
            let found = best_of(3, &scores, &[], parts);
            assert_eq!(found, [(7, f32::INFINITY), (0, 0.5), (2, 0.5)]);
            let found = best_of(8, &scores, &[0, 7], parts);
            let ids: Vec<u64> = found.iter().map(|(id, _)| *id).collect();
            assert_eq!(ids, [2, 6, 3, 4, 5]);
        }
    }

    #[test]
    fn the_best_are_those_that_sorting_gives() {
        let mut state = 3u64;
        let scores: Vec<f32> = (0..2000)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                f32::from((state >> 54) as u16) / 64.0
            })
            .collect();
        let mut expected: Vec<(u64, f32)> = (0..).zip(scores.iter().copied()).collect();
        expected.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        for (k, parts) in [(1, 1), (10, 3), (700, 2), (1999, 7), (2000, 2), (5000, 2)] {
            assert_eq!(best_of(k, &scores, &[], parts), expected[..k.min(2000)]);
        }
    }
}
