//! The offsets of bags: what they have to be, and how the bags are divided among threads.

use std::ops::Range;

use super::bag::Pooling;
use super::ids::Id;
use crate::error::{Error, Result};

/// A checked offset as an index.
pub(super) fn index<B: Id>(offset: B) -> usize {
    usize::try_from(offset.row()).unwrap_or(usize::MAX)
}

/// Divides the bags into parts, each of about as many ids and bags as the others, with what
/// it fills of the output.
pub(super) fn divide<'a, B: Id>(
    offsets: &[B],
    most: usize,
    stride: usize,
    mut out: &'a mut [f32],
) -> Vec<(Range<usize>, &'a mut [f32])> {
    let bags = offsets.len() - 1;
    // A bag costs its rows, and one row of output.
    let cost = |bag: usize| index(offsets[bag]) as u128 + bag as u128;
    let mut parts = Vec::with_capacity(most.min(bags));
    let mut start = 0;
    for part in 1..=most as u128 {
        let share = cost(bags) * part / most as u128;
        let end = start + partition_point(start..bags, |bag| cost(bag + 1) <= share);
        if end > start {
            let length = (end - start).saturating_mul(stride).min(out.len());
            let (part, rest) = out.split_at_mut(length);
            parts.push((start..end, part));
            (start, out) = (end, rest);
        }
    }
    parts
}

/// The number of values at the start of a range for which `before` holds.
fn partition_point(range: Range<usize>, before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (range.start, range.end);
    while low < high {
        let middle = low + (high - low) / 2;
        if before(middle) { low = middle + 1 } else { high = middle }
    }
    low - range.start
}

pub(super) fn check_offsets<B: Id>(offsets: &[B], ids: usize) -> Result<()> {
    let wrong = |reason| Err(Error::InvalidOption { option: "offsets", reason });
    let (Some(first), Some(last)) = (offsets.first(), offsets.last()) else {
        return wrong("expected one more than there are bags, found none".to_owned());
    };
    if first.row() != 0 {
        let first: i128 = (*first).into();
        return wrong(format!("expected the first to be 0, found {first}"));
    }
    if let Some(at) = offsets.windows(2).position(|pair| pair[1].row() < pair[0].row()) {
        let (before, after): (i128, i128) = (offsets[at].into(), offsets[at + 1].into());
        let place = at + 1;
        return wrong(format!("expected none to fall, found {after} after {before} at {place}"));
    }
    // Negative ones read as more than any length.
    if last.row() != ids as u64 {
        let last: i128 = (*last).into();
        return wrong(format!(
            "expected the last to be the number of ids, {ids}, found {last}; end the offsets with it"
        ));
    }
    Ok(())
}

pub(super) fn check_weights(weights: Option<&[f32]>, ids: usize, pooling: Pooling) -> Result<()> {
    let Some(weights) = weights else { return Ok(()) };
    let wrong = |reason| Err(Error::InvalidOption { option: "weights", reason });
    if pooling == Pooling::Max {
        return wrong("expected none with Pooling::Max, which adds nothing up".to_owned());
    }
    if weights.len() != ids {
        return wrong(format!("expected one for each of {ids} ids, found {}", weights.len()));
    }
    Ok(())
}
