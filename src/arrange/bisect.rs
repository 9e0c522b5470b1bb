//! Rows of the same batches near each other, by recursive bisection.
//!
//! The rows are halved again and again; at each halving those are exchanged whose batches have
//! more of their rows in the other half. What is made small is the sum over batches and halves of
//! d log2(n / (d + 1)), for a batch with d rows in a half of n: it falls where a batch has its rows
//! in one half, at every scale, so that no size of a page is built in; and it falls where rows
//! that are used much are in one half, so that hot rows come to lie together by themselves.
//!
//! The method is that of L. Dhulipala, I. Kabiljo, B. Karrer, G. Ottaviano, S. Pupyrev and A.
//! Shalita, "Compressing Graphs and Indexes with Recursive Graph Bisection" (KDD 2016). That
//! embedding rows laid out by such partitioning make the reads of a device fewer was shown by A.
//! Eisenman and others, "Bandana: Using Non-volatile Memory for Storing Deep Learning Models"
//! (`MLSys` 2019).

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};

use super::orders::Uses;
use crate::error::{Error, Result};
use crate::gather::Crew;

/// Parts of so many rows are left as they are: they share a few pages in any order.
const LEAF: usize = 8;

/// How often rows are exchanged at one halving, at most.
const ROUNDS: usize = 12;

/// Orders rows, which come by their use, so that rows of the same batches are near each other.
pub(super) fn bisect(
    uses: &Uses,
    rows: &mut [u32],
    crew: Crew,
    progress: &(impl Fn(u64, u64) -> ControlFlow<()> + Sync),
) -> Result<()> {
    let levels = (rows.len() / LEAF).max(1).ilog2() + 1;
    let all = rows.len() as u64 * u64::from(levels);
    let done = AtomicU64::new(0);
    let halving = Halving { uses, done: &done, all, progress };
    // First level by level, then each part by itself, down to its leaves.
    let mut parts = vec![rows];
    while parts.len() < crew.threads.saturating_mul(4)
        && parts.iter().any(|part| part.len() > 2 * LEAF)
    {
        let work = parts.iter_mut().map(|part| &mut **part).collect();
        crew.work(work, |part: &mut [u32]| halving.halve(part, &mut Scratch::new(uses)))?;
        parts = parts
            .into_iter()
            .flat_map(|part| {
                let half = part.len() / 2;
                let (left, right) = part.split_at_mut(half);
                [left, right]
            })
            .collect();
    }
    crew.work(parts, |part| halving.down(part, &mut Scratch::new(uses)))
}

/// What all halvings share.
struct Halving<'a, P> {
    uses: &'a Uses,
    done: &'a AtomicU64,
    all: u64,
    progress: &'a P,
}

/// What one thread works with: for each batch the rows that it has in the two halves, and what
/// is gained by one more of them in the other.
struct Scratch {
    degrees: Vec<[u32; 2]>,
    gains: Vec<[f32; 2]>,
    /// The batches that have rows here.
    touched: Vec<u32>,
    /// The gain of each row of a half if it went to the other, and where it is.
    ranked: [Vec<(f32, u32)>; 2],
}

impl Scratch {
    fn new(uses: &Uses) -> Self {
        Scratch {
            degrees: vec![[0; 2]; uses.batch_count()],
            gains: vec![[0.0; 2]; uses.batch_count()],
            touched: Vec::new(),
            ranked: [Vec::new(), Vec::new()],
        }
    }
}

impl<P: Fn(u64, u64) -> ControlFlow<()> + Sync> Halving<'_, P> {
    /// Halves rows, and the halves, down to the leaves.
    fn down(&self, rows: &mut [u32], scratch: &mut Scratch) -> Result<()> {
        // Those that are used most come first, where nothing else is known.
        if rows.len() <= LEAF {
            rows.sort_unstable();
            return Ok(());
        }
        self.halve(rows, scratch)?;
        let (left, right) = rows.split_at_mut(rows.len() / 2);
        self.down(left, scratch)?;
        self.down(right, scratch)
    }

    /// Exchanges rows between the halves as long as that helps.
    fn halve(&self, rows: &mut [u32], scratch: &mut Scratch) -> Result<()> {
        let (left, right) = rows.split_at_mut(rows.len() / 2);
        for (half, rows) in [&*left, &*right].into_iter().enumerate() {
            for batch in rows.iter().flat_map(|row| self.uses.batches_of(*row)) {
                let degrees = &mut scratch.degrees[*batch as usize];
                if *degrees == [0, 0] {
                    scratch.touched.push(*batch);
                }
                degrees[half] += 1;
            }
        }
        for _ in 0..ROUNDS {
            if self.exchange(left, right, scratch) == 0 {
                break;
            }
        }
        for batch in scratch.touched.drain(..) {
            scratch.degrees[batch as usize] = [0, 0];
        }
        let rows = rows.len() as u64;
        let done = self.done.fetch_add(rows, Ordering::Relaxed) + rows;
        match (self.progress)(done.min(self.all), self.all) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Interrupted),
        }
    }

    /// Exchanges pairs of rows that gain by it, and gives their number.
    fn exchange(&self, left: &mut [u32], right: &mut [u32], scratch: &mut Scratch) -> usize {
        let Scratch { degrees, gains, touched, ranked } = scratch;
        let sizes = [left.len(), right.len()];
        for batch in touched.iter() {
            let [own, other] = degrees[*batch as usize];
            let before = cost(own, sizes[0]) + cost(other, sizes[1]);
            let moved = |own: Option<u32>, other: Option<u32>| match (own, other) {
                (Some(own), Some(other)) => before - cost(own, sizes[0]) - cost(other, sizes[1]),
                _ => 0.0,
            };
            gains[*batch as usize] = [
                moved(own.checked_sub(1), other.checked_add(1)),
                moved(own.checked_add(1), other.checked_sub(1)),
            ];
        }
        for (half, rows) in [&*left, &*right].into_iter().enumerate() {
            ranked[half].clear();
            ranked[half].extend((0u32..).zip(rows).map(|(at, row)| {
                let own = self.uses.batches_of(*row).iter();
                (own.map(|batch| gains[*batch as usize][half]).sum::<f32>(), at)
            }));
            // Of equal ones the last of a half goes first: it is used less.
            ranked[half].sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)));
        }
        let [from_left, from_right] = ranked;
        let mut exchanged = 0;
        for ((gain, at), (other_gain, other_at)) in from_left.iter().zip(&*from_right) {
            if gain + other_gain <= 0.0 {
                break;
            }
            let (row, other) = (&mut left[*at as usize], &mut right[*other_at as usize]);
            for (row, from, to) in [(*row, 0, 1), (*other, 1, 0)] {
                for batch in self.uses.batches_of(row) {
                    let degrees = &mut degrees[*batch as usize];
                    degrees[from] -= 1;
                    degrees[to] += 1;
                }
            }
            std::mem::swap(row, other);
            exchanged += 1;
        }
        exchanged
    }
}

/// What a batch with some rows in a half of so many costs.
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn cost(degree: u32, size: usize) -> f32 {
    degree as f32 * (size as f32 / (degree as f32 + 1.0)).log2()
}
