//! The order that serves best.

use std::ops::ControlFlow;
use std::time::Duration;

use super::orders::Uses;
use super::score::{Lying, Places};
use super::trace::AccessTrace;
use crate::error::Result;
use crate::gather::Crew;

/// Of so many batches, which come last, one judges the orders that are made from the others.
const JUDGING: usize = 5;

/// The fewest batches that can be judged by.
const FEWEST: usize = 2;

/// What an order has to save of the pages to be worth it: each look-up costs something.
const LEAST_GAIN: f64 = 0.01;

/// The share of the pages that the orders of the two kinds have to differ by.
const CLEARLY: f64 = 0.005;

/// The pages that a shorter order may cost more than a longer one.
const NEARLY: f64 = 0.002;

/// How rows are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Placement {
    /// By their ids: no order of the trace's saves pages.
    ById,
    /// Those that are used most first.
    ByUse,
    /// Those that are used in the same batches near each other.
    Together,
}

impl Placement {
    /// The name that reports use: `by_id`, `by_use`, `together`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Placement::ById => "by_id",
            Placement::ByUse => "by_use",
            Placement::Together => "together",
        }
    }
}

/// An order of rows, and what it saves.
///
/// The pages are those of 4,096 bytes that a batch touches, in the mean over the last fifth of
/// the batches, by orders that were made from the others: what is to be expected of batches
/// that nobody knows. The order itself is then made from all.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Arrangement {
    /// The ids whose rows lie first, in this order: for
    /// [`WriteOptions::order`](crate::WriteOptions::order). Empty with [`Placement::ById`].
    pub ids: Vec<u64>,
    /// How rows are laid out.
    pub placement: Placement,
    /// The pages of a batch where rows lie by their ids.
    pub pages_by_id: f64,
    /// The pages of a batch where those that are used most lie first.
    pub pages_by_use: f64,
    /// The pages of a batch where those of the same batches lie near each other.
    pub pages_together: f64,
    /// The batches that this was judged by; 0 where there were too few.
    pub judged: usize,
}

impl AccessTrace {
    /// The order that serves best, of rows of `row_bytes` that lie `row_stride` apart.
    ///
    /// Rows that are used often are placed next to each other (by use), or so that those of the
    /// same batches are (together), whichever touches fewer pages; where neither saves a
    /// hundredth of the pages, by their ids. Rows that are used so seldom that placing them saves
    /// nothing stay in the order of their ids, behind the others.
    ///
    /// It takes up to half a gigabyte for the 8 million ids that are kept of a long trace.
    ///
    /// # Errors
    ///
    /// [`Error::Threads`](crate::Error::Threads) where threads cannot be started.
    pub fn arrange(&self, row_bytes: u64, row_stride: u64) -> Result<Arrangement> {
        self.arrange_with(row_bytes, row_stride, |_, _| ControlFlow::Continue(()))
    }

    /// [`arrange`](AccessTrace::arrange), telling `progress` what is done of how much. It is
    /// called by several threads.
    ///
    /// # Errors
    ///
    /// As [`arrange`](AccessTrace::arrange); [`Error::Interrupted`](crate::Error::Interrupted)
    /// where `progress` breaks off.
    pub fn arrange_with(
        &self,
        row_bytes: u64,
        row_stride: u64,
        progress: impl Fn(u64, u64) -> ControlFlow<()> + Sync,
    ) -> Result<Arrangement> {
        self.choose(None, Lying { row_bytes, row_stride }, progress)
    }

    /// An order of one kind, whether it is the best one or not: for comparing them.
    ///
    /// # Errors
    ///
    /// As [`arrange`](AccessTrace::arrange).
    pub fn arrange_by(
        &self,
        placement: Placement,
        row_bytes: u64,
        row_stride: u64,
    ) -> Result<Arrangement> {
        let lying = Lying { row_bytes, row_stride };
        self.choose(Some(placement), lying, |_, _| ControlFlow::Continue(()))
    }

    fn choose(
        &self,
        wanted: Option<Placement>,
        lying: Lying,
        progress: impl Fn(u64, u64) -> ControlFlow<()> + Sync,
    ) -> Result<Arrangement> {
        let crew = Crew::of(None, Duration::ZERO)?;
        let count = self.ends.len();
        let judged = Some(count / JUDGING).filter(|judged| *judged >= FEWEST).unwrap_or(0);
        // Nearly the same work twice: once to be judged, once with all batches.
        let rounds = 1 + u64::from(judged > 0);
        let part = |round: u64| {
            let progress = &progress;
            move |done: u64, all: u64| progress(round * all + done, rounds * all)
        };
        let learned = Uses::of(self.kept().take(count - judged));
        let (by_use, together) = (learned.by_use(), learned.together(crew, &part(0))?);
        if judged == 0 {
            let placement = wanted.unwrap_or(Placement::ByUse);
            let ids = match placement {
                Placement::ById => Vec::new(),
                Placement::ByUse => learned.ids(&by_use, 1),
                Placement::Together => learned.ids(&together, 1),
            };
            return Ok(Arrangement { ids, ..Arrangement::none(placement) });
        }
        let batches = self.kept().skip(count - judged).collect();
        let judge = Judge { uses: &learned, batches, lying };
        let (by_use, together) = (judge.best(&by_use), judge.best(&together));
        let mut found = Arrangement {
            pages_by_id: judge.pages(&[], 1),
            pages_by_use: by_use.pages,
            pages_together: together.pages,
            judged,
            ..Arrangement::none(Placement::ById)
        };
        // The simpler one, unless the other is clearly better.
        let better = if together.pages < by_use.pages * (1.0 - CLEARLY) {
            Placement::Together
        } else {
            Placement::ByUse
        };
        let placement = wanted.unwrap_or(better);
        let best = if placement == Placement::Together { together } else { by_use };
        let gains = best.pages <= found.pages_by_id * (1.0 - LEAST_GAIN);
        if placement == Placement::ById || !gains && wanted.is_none() {
            return Ok(found);
        }
        let all = Uses::of(self.kept());
        let rows = match placement {
            Placement::Together => all.together(crew, &part(1))?,
            Placement::ByUse | Placement::ById => all.by_use(),
        };
        // As many uses in all batches as there were in those that the order was made from.
        let least = (best.least * count).div_ceil(count - judged);
        (found.ids, found.placement) = (all.ids(&rows, least), placement);
        Ok(found)
    }
}

impl Arrangement {
    /// No order, and nothing known of what one would save.
    fn none(placement: Placement) -> Self {
        Arrangement {
            ids: Vec::new(),
            placement,
            pages_by_id: 0.0,
            pages_by_use: 0.0,
            pages_together: 0.0,
            judged: 0,
        }
    }
}

/// What orders of rows are judged by.
struct Judge<'a> {
    uses: &'a Uses,
    /// Batches that the orders were not made from.
    batches: Vec<&'a [u64]>,
    lying: Lying,
}

/// How many of some rows to place, and what that leaves.
struct Verdict {
    /// The batches that a row that is placed is used in at least.
    least: usize,
    pages: f64,
}

impl Judge<'_> {
    /// The pages of a batch where those of some rows are placed that are used so often.
    fn pages(&self, rows: &[u32], least: usize) -> f64 {
        let ids = self.uses.ids(rows, least);
        Places::of(&ids).pages_of(self.batches.iter().copied(), self.lying)
    }

    /// The fewest rows that do nearly as well as any number of them does.
    fn best(&self, rows: &[u32]) -> Verdict {
        let limits = std::iter::successors(Some(2), |least| Some(least * 2));
        let limits = limits.take_while(|least| *least == 2 || *least <= self.uses.most());
        let tried: Vec<_> =
            limits.map(|least| Verdict { least, pages: self.pages(rows, least) }).collect();
        let fewest = tried.iter().map(|tried| tried.pages).fold(f64::INFINITY, f64::min);
        let good = tried.into_iter().rev().find(|it| it.pages <= fewest * (1.0 + NEARLY));
        good.unwrap_or(Verdict { least: 2, pages: fewest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A generator with a period of 2^64 (`SplitMix64`).
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }

        fn below(&mut self, bound: u64) -> u64 {
            self.next() % bound
        }

        /// A rank below `bound`, each about half as probable as that of half its size.
        #[expect(clippy::cast_precision_loss, clippy::cast_sign_loss)]
        fn rank(&mut self, bound: u64) -> u64 {
            let unit = (self.next() >> 11) as f64 / (1u64 << 53) as f64;
            ((bound as f64).powf(unit) as u64).min(bound) - 1
        }
    }

    const VOCAB: u64 = 20_000;

    /// A rank's row, far from those of its neighbours.
    fn spread(rank: u64) -> u64 {
        rank * 12_347 % VOCAB
    }

    fn arranged(batches: usize, size: usize, mut id: impl FnMut(usize) -> u64) -> Arrangement {
        let mut trace = AccessTrace::new(VOCAB);
        for batch in 0..batches {
            let ids: Vec<u64> = (0..size).map(|_| id(batch)).collect();
            trace.push(&ids).unwrap();
        }
        trace.arrange(512, 512).unwrap()
    }

    fn told(found: &Arrangement) -> String {
        let Arrangement { pages_by_id, pages_by_use, pages_together, .. } = found;
        format!("by id {pages_by_id}, by use {pages_by_use}, together {pages_together}")
    }

    #[test]
    fn rows_of_a_skewed_trace_lie_by_their_use() {
        let mut random = Random(1);
        let found = arranged(400, 200, |_| spread(random.rank(VOCAB)));
        assert!(found.pages_by_use < 0.8 * found.pages_by_id, "{}", told(&found));
        assert!(found.pages_together < 1.1 * found.pages_by_use, "{}", told(&found));
        // The most used rows are the first ranks.
        let first = &found.ids[..8];
        assert!((0..3).all(|rank| first.contains(&spread(rank))), "{first:?}");
        assert_eq!(found.judged, 80);
    }

    #[test]
    fn rows_of_the_same_batches_lie_together() {
        // Forty topics of 100 rows each; a batch is of two of them.
        let mut random = Random(2);
        let found = arranged(600, 40, |batch| {
            let topic = (batch as u64 * 7 + random.below(2) * 13) % 40;
            spread(topic + 40 * random.below(100))
        });
        assert_eq!(found.placement, Placement::Together);
        assert!(found.pages_together < 0.75 * found.pages_by_use, "{}", told(&found));
        assert!(found.pages_together < 0.75 * found.pages_by_id, "{}", told(&found));
        // Each page of eight rows is of few topics.
        let topics = |page: &[u64]| {
            let topic = |id: &u64| (0..4000).find(|rank| spread(*rank) == *id).unwrap() % 40;
            page.iter().map(topic).collect::<std::collections::HashSet<_>>().len()
        };
        let pages = found.ids.chunks_exact(8);
        let of_one_topic = pages.clone().filter(|page| topics(page) <= 2).count();
        assert!(of_one_topic * 10 > pages.len() * 8, "{of_one_topic} of {}", pages.len());
    }

    #[test]
    fn a_uniform_trace_gains_nothing_and_is_left_alone() {
        let mut random = Random(3);
        let found = arranged(300, 100, |_| random.below(VOCAB));
        assert_eq!((found.placement, found.ids.len()), (Placement::ById, 0), "{}", told(&found));
    }

    #[test]
    fn rows_of_pages_of_their_own_gain_nothing() {
        let mut random = Random(4);
        let mut trace = AccessTrace::new(VOCAB);
        for _ in 0..100 {
            let ids: Vec<u64> = (0..50).map(|_| spread(random.rank(VOCAB))).collect();
            trace.push(&ids).unwrap();
        }
        assert_eq!(trace.arrange(4096, 4096).unwrap().placement, Placement::ById);
        assert_eq!(trace.arrange(128, 4096).unwrap().placement, Placement::ById);
        assert_ne!(trace.arrange(128, 128).unwrap().placement, Placement::ById);
    }

    #[test]
    fn an_order_has_each_used_row_once_whatever_the_threads() {
        let mut random = Random(5);
        let mut trace = AccessTrace::new(VOCAB);
        let mut expected = std::collections::BTreeSet::new();
        for _ in 0..200 {
            let ids: Vec<u64> = (0..60).map(|_| random.rank(VOCAB)).collect();
            expected.extend(ids.iter().copied());
            trace.push(&ids).unwrap();
        }
        let uses = Uses::of(trace.kept());
        let go_on = |_, _| ControlFlow::Continue(());
        let crew = |threads| Crew::of(Some(threads), Duration::ZERO).unwrap();
        let together = uses.together(crew(1), &go_on).unwrap();
        for threads in [2, 5] {
            assert_eq!(uses.together(crew(threads), &go_on).unwrap(), together);
        }
        for rows in [uses.by_use(), together] {
            let mut ids = uses.ids(&rows, 1);
            ids.sort_unstable();
            expected.retain(|id| trace.kept().filter(|batch| batch.contains(id)).count() > 1);
            assert!(ids.iter().eq(&expected));
        }
    }

    #[test]
    fn short_and_empty_traces_have_orders_too() {
        let none = AccessTrace::new(10).arrange(512, 512).unwrap();
        assert_eq!((none.ids.len(), none.judged), (0, 0));
        let mut trace = AccessTrace::new(10);
        trace.push(&[7u32, 3, 7]).unwrap();
        trace.push(&[3u32]).unwrap();
        let found = trace.arrange(512, 512).unwrap();
        assert_eq!((found.ids, found.placement, found.judged), (vec![3], Placement::ByUse, 0));
    }

    #[test]
    fn it_can_be_broken_off() {
        let mut random = Random(6);
        let mut trace = AccessTrace::new(VOCAB);
        for _ in 0..50 {
            let ids: Vec<u64> = (0..60).map(|_| random.rank(VOCAB)).collect();
            trace.push(&ids).unwrap();
        }
        let stop = |done: u64, all: u64| {
            assert!(0 < done && done <= all);
            if done * 4 > all { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let error = trace.arrange_with(512, 512, stop).unwrap_err();
        assert!(matches!(error, crate::Error::Interrupted));
    }
}
