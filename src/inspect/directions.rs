//! How rows are spread over their space.

use super::found::Directions;
use super::products::products;
use super::spectrum::eigenvalues;
use crate::error::Result;
use crate::gather::Crew;

/// The multiplications that finding products may take: a few seconds.
const MOST_WORK: usize = 12_000_000_000;

/// The most principal axes that are found one by one.
const MOST_AXES: usize = 2048;

/// The shares of the variance for which axes are counted.
const SHARES: [f64; 4] = [0.5, 0.9, 0.95, 0.99];

/// The sum of rows scaled to length 1, in integers: the order of rows does not change it.
pub(super) struct UnitSum {
    sums: Vec<i64>,
    rows: u64,
}

/// What an element of length 1 counts as.
const ONE: f32 = 2_097_152.0;

/// Added to a number below 2^22, this leaves the nearest integer in the low bits.
const ROUND: f32 = 12_582_912.0;

impl UnitSum {
    pub(super) fn new(dim: usize) -> Self {
        UnitSum { sums: vec![0; dim], rows: 0 }
    }

    /// Adds a row of a length that is not zero.
    pub(super) fn add(&mut self, row: &[f32], norm: f64) {
        #[expect(clippy::cast_possible_truncation, reason = "rounding to nearest is the purpose")]
        let factor = (f64::from(ONE) / norm) as f32;
        // Of rows that short or long no f32 tells the factor.
        if !factor.is_normal() {
            return;
        }
        self.rows += 1;
        for (sum, value) in self.sums.iter_mut().zip(row) {
            let bits = (value * factor + ROUND).to_bits().cast_signed();
            *sum += i64::from(bits.wrapping_sub(ROUND.to_bits().cast_signed()));
        }
    }

    pub(super) fn join(&mut self, other: &Self) {
        self.rows += other.rows;
        for (sum, value) in self.sums.iter_mut().zip(&other.sums) {
            *sum += value;
        }
    }

    /// The mean cosine of two different rows: the square of the sum has all pairs, and each row
    /// with itself.
    fn mean_cosine(&self) -> Option<f64> {
        let square = |sum: &i64| (real(sum.unsigned_abs()) / f64::from(ONE)).powi(2);
        let all: f64 = self.sums.iter().map(square).sum();
        let rows = real(self.rows);
        (self.rows > 1).then(|| ((all - rows) / (rows * (rows - 1.0))).clamp(-1.0, 1.0))
    }
}

/// The figures of some rows of finite numbers, one after the other, of `total` that there are;
/// `all` are the directions of those.
pub(super) fn directions(
    crew: Crew,
    dim: usize,
    rows: &[f32],
    total: u64,
    all: &UnitSum,
) -> Result<Option<Directions>> {
    let Some(mean_cosine) = all.mean_cosine() else { return Ok(None) };
    let count = used(rows.len() / dim, dim);
    let step = (rows.len() / dim / count.max(1)).max(1);
    let row = |at: usize| &rows[at * step * dim..][..dim];
    if count < 2 {
        return Ok(None);
    }
    let mut mean = vec![0f64; dim];
    let mut squares = 0f64;
    for at in 0..count {
        for (sum, value) in mean.iter_mut().zip(row(at)) {
            *sum += f64::from(*value);
            squares += f64::from(*value).powi(2);
        }
    }
    let rows_used = real(count as u64);
    for sum in &mut mean {
        *sum /= rows_used;
    }
    let length: f64 = mean.iter().map(|value| value * value).sum();
    #[expect(clippy::cast_possible_truncation, reason = "rounding to nearest is the purpose")]
    let centered = |at: usize, element: usize| (f64::from(row(at)[element]) - mean[element]) as f32;
    // The products of columns and those of rows have the same eigenvalues, but for zeros.
    let (side, mut matrix) = if dim <= count {
        (dim, products(crew, dim, count, |column, at| centered(at, column))?)
    } else {
        (count, products(crew, count, dim, centered)?)
    };
    for value in &mut matrix {
        *value /= rows_used - 1.0;
    }
    let variance: f64 = (0..side).map(|at| matrix[at * side + at]).sum();
    let spread: f64 = matrix.iter().map(|value| value * value).sum();
    let wide = real(dim as u64);
    let others = (1.0 / rows_used - 1.0 / real(total.max(count as u64))).max(0.0);
    let effective = participation(variance, spread, others).clamp(1.0, wide);
    let axes = (side <= MOST_AXES && variance > 0.0).then(|| eigenvalues(&mut matrix, side));
    Ok(Some(Directions {
        mean_cosine,
        rows: count as u64,
        effective_dim: effective,
        isotropy: if dim > 1 { (effective - 1.0) / (wide - 1.0) } else { 1.0 },
        common: if squares > 0.0 { (length / (squares / rows_used)).min(1.0) } else { 0.0 },
        first_axis: axes.as_ref().and_then(|axes| Some(axes.first()? / variance)),
        axes: axes
            .map_or_else(Vec::new, |axes| SHARES.map(|it| held(it, &axes, variance)).to_vec()),
    }))
}

/// The rows for which products are affordable, at least some.
fn used(rows: usize, dim: usize) -> usize {
    // The smaller of the two sides counts twice.
    let most = if dim.saturating_mul(dim).saturating_mul(dim) <= MOST_WORK {
        MOST_WORK / (dim * dim).max(1)
    } else {
        (MOST_WORK / dim).isqrt()
    };
    rows.min(most.max(2))
}

/// (sum of variances)^2 / sum of their squares. Among few rows variances look less even than
/// among many: the squares come out larger by (sum)^2 / rows. What that is more than among all
/// rows, (sum)^2 times `others`, is taken off again.
fn participation(variance: f64, spread: f64, others: f64) -> f64 {
    let spread = spread - variance * variance * others;
    if spread > 0.0 { variance * variance / spread } else { f64::INFINITY }
}

/// How many of the axes, the largest first, hold a share of the variance.
fn held(share: f64, axes: &[f64], variance: f64) -> (f64, u64) {
    let mut sum = 0.0;
    let reached = axes.iter().position(|value| {
        sum += value;
        sum >= share * variance
    });
    (share, reached.map_or(axes.len(), |at| at + 1) as u64)
}

#[expect(clippy::cast_precision_loss, reason = "figures of more digits than anyone reads")]
fn real(count: u64) -> f64 {
    count as f64
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
    use std::time::Duration;

    const CREW: Crew = Crew { threads: 1, spin: Duration::ZERO };

    /// Normally distributed enough: sums of twelve.
    fn noise(state: &mut u64) -> f32 {
        let mut sum = 0.0;
        for _ in 0..12 {
            *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            sum += (*state >> 40) as f32 / (1 << 24) as f32;
        }
        sum - 6.0
    }

    fn found(dim: usize, rows: &[f32], total: u64) -> Directions {
        let mut all = UnitSum::new(dim);
        for row in rows.chunks_exact(dim) {
            let norm = row.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
            all.add(row, norm);
        }
        directions(CREW, dim, rows, total, &all).unwrap().unwrap()
    }

    #[test]
    fn rows_in_all_directions_use_all_of_them() {
        let mut state = 1;
        let rows: Vec<f32> = (0..16 * 4000).map(|_| noise(&mut state)).collect();
        let all = found(16, &rows, 4000);
        assert!((all.effective_dim - 16.0).abs() < 0.2, "{all:?}");
        assert!(all.isotropy > 0.98 && all.mean_cosine.abs() < 0.01 && all.common < 0.01);
        assert_eq!(all.axes.last().unwrap().1, 16);
        // Fewer rows than columns: the small sample does not look like few directions.
        let few: Vec<f32> = (0..256 * 64).map(|_| noise(&mut state)).collect();
        let few = found(256, &few, 1 << 40);
        assert!((200.0..=256.0).contains(&few.effective_dim), "{few:?}");
    }

    #[test]
    fn rows_in_a_plane_beside_the_origin_use_two() {
        let mut state = 2;
        let rows: Vec<f32> = (0..3000)
            .flat_map(|_| {
                let (x, y) = (noise(&mut state), noise(&mut state));
                [10.0 + x, y, 10.0, x + y, -10.0]
            })
            .collect();
        let plane = found(5, &rows, 3000);
        assert!((1.0..2.1).contains(&plane.effective_dim), "{plane:?}");
        assert!(plane.axes.iter().all(|(_, axes)| *axes <= 2));
        assert!(plane.mean_cosine > 0.9 && plane.common > 0.9);
        // The definition of the mean cosine, pair by pair.
        let rows = &rows[..5 * 40];
        let cosine = |a: &[f32], b: &[f32]| {
            let dot = |a: &[f32], b: &[f32]| -> f64 {
                a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
            };
            dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
        };
        let each: Vec<&[f32]> = rows.chunks_exact(5).collect();
        let mut sum = 0.0;
        for a in 0..40 {
            for b in (0..40).filter(|b| *b != a) {
                sum += cosine(each[a], each[b]);
            }
        }
        assert!((found(5, rows, 40).mean_cosine - sum / (40.0 * 39.0)).abs() < 1e-6);
    }

    #[test]
    fn rows_without_directions_have_none() {
        let none = |rows: &[f32]| {
            let mut all = UnitSum::new(2);
            let norm = |row: &[f32]| f64::from(row[0].hypot(row[1]));
            let rows_there = rows.chunks_exact(2).filter(|row| norm(row) > 0.0);
            rows_there.for_each(|row| all.add(row, norm(row)));
            directions(CREW, 2, rows, 0, &all).unwrap()
        };
        assert_eq!(none(&[]), None);
        assert_eq!(none(&[1.0, 2.0]), None);
        assert_eq!(none(&[0.0; 6]), None);
        // Equal rows: one direction, no variance.
        let equal = none(&[1.0, 2.0, 1.0, 2.0]).unwrap();
        assert!((equal.mean_cosine - 1.0).abs() < 1e-6 && equal.common > 0.999);
        assert!(equal.axes.is_empty());
    }
}
