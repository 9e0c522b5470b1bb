//! Principal axes, by iterations of a block of vectors: the covariance is never laid out.
//!
//! Halko, Martinsson and Tropp, "Finding structure with randomness", 2011, section 4.5.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use rayon::prelude::*;

use super::points::{Points, real};

/// The vectors beside those that are asked for: they make the iterations converge.
const BESIDE: usize = 6;

const ITERATIONS: usize = 24;

/// The rows whose sums are found together.
const CHUNK: usize = 256;

/// Where each point lies along the first `axes` principal axes, one point after the other.
pub(super) fn principal(points: &Points, axes: usize, seed: u64) -> Vec<f64> {
    let (dim, count) = (points.dim, points.count());
    let width = (axes + BESIDE).min(dim);
    let mut mean = vec![0f64; dim];
    for row in points.rows() {
        for (sum, value) in mean.iter_mut().zip(row) {
            *sum += f64::from(*value);
        }
    }
    for sum in &mut mean {
        *sum /= real(count);
    }
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut basis: Vec<Vec<f64>> =
        (0..width).map(|_| (0..dim).map(|_| random.random::<f64>() - 0.5).collect()).collect();
    orthonormal(&mut basis);
    for _ in 0..ITERATIONS {
        let along = along(points, &mean, &basis);
        basis = back(points, &mean, &along, width);
        orthonormal(&mut basis);
    }
    let along = along(points, &mean, &basis);
    let mut products = vec![0f64; width * width];
    for point in along.chunks_exact(width) {
        for (row, a) in products.chunks_exact_mut(width).zip(point) {
            for (sum, b) in row.iter_mut().zip(point) {
                *sum += a * b;
            }
        }
    }
    let rotation = eigenvectors(&mut products, width);
    let mut found = vec![0f64; count * axes];
    for axis in 0..axes.min(width) {
        let vector = &rotation[axis];
        let scores = along.chunks_exact(width);
        let scores = scores.map(|point| point.iter().zip(vector).map(|(a, b)| a * b).sum::<f64>());
        let scores: Vec<f64> = scores.collect();
        // Which way an axis points is chance: the point farthest out decides.
        let far = scores.iter().fold(0f64, |far, it| if it.abs() > far.abs() { *it } else { far });
        for (at, score) in scores.into_iter().enumerate() {
            found[at * axes + axis] = if far < 0.0 { -score } else { score };
        }
    }
    found
}

/// Each centred point times each vector of a basis.
fn along(points: &Points, mean: &[f64], basis: &[Vec<f64>]) -> Vec<f64> {
    let offsets: Vec<f64> =
        basis.iter().map(|vector| vector.iter().zip(mean).map(|(a, b)| a * b).sum()).collect();
    let of_row = |row: &[f32]| {
        let products = basis.iter().zip(&offsets).map(|(vector, offset)| {
            row.iter().zip(vector).map(|(a, b)| f64::from(*a) * b).sum::<f64>() - offset
        });
        products.collect::<Vec<f64>>()
    };
    points.values.par_chunks(points.dim).flat_map_iter(of_row).collect()
}

/// The sums of centred points, each times where it lies along each vector. Added up in an order
/// that does not depend on threads.
fn back(points: &Points, mean: &[f64], along: &[f64], width: usize) -> Vec<Vec<f64>> {
    let rows = points.values.par_chunks(CHUNK * points.dim);
    let parts: Vec<Vec<Vec<f64>>> = rows
        .zip(along.par_chunks(CHUNK * width))
        .map(|(rows, along)| {
            let mut sums = vec![vec![0f64; points.dim]; width];
            for (row, along) in rows.chunks_exact(points.dim).zip(along.chunks_exact(width)) {
                for (sums, factor) in sums.iter_mut().zip(along) {
                    for ((sum, value), mean) in sums.iter_mut().zip(row).zip(mean) {
                        *sum += (f64::from(*value) - mean) * factor;
                    }
                }
            }
            sums
        })
        .collect();
    let mut all = vec![vec![0f64; points.dim]; width];
    for part in parts {
        for (sums, part) in all.iter_mut().zip(part) {
            for (sum, value) in sums.iter_mut().zip(part) {
                *sum += value;
            }
        }
    }
    all
}

/// Makes vectors orthogonal and of length 1 (Gram and Schmidt, twice, which is enough). Those
/// that depend on others become zeros.
fn orthonormal(vectors: &mut [Vec<f64>]) {
    for at in 0..vectors.len() {
        let (before, from) = vectors.split_at_mut(at);
        let vector = &mut from[0];
        let first: f64 = vector.iter().map(|value| value * value).sum();
        for _ in 0..2 {
            for other in before.iter() {
                let product: f64 = vector.iter().zip(other).map(|(a, b)| a * b).sum();
                for (value, other) in vector.iter_mut().zip(other) {
                    *value -= product * other;
                }
            }
        }
        let squares: f64 = vector.iter().map(|value| value * value).sum();
        let factor = if squares > first * 1e-24 { squares.sqrt().recip() } else { 0.0 };
        for value in vector {
            *value *= factor;
        }
    }
}

/// The eigenvectors of a small symmetric matrix, that of the largest eigenvalue first (Jacobi's
/// rotations, which keep the matrix symmetric and make it diagonal).
fn eigenvectors(matrix: &mut [f64], n: usize) -> Vec<Vec<f64>> {
    let mut vectors: Vec<Vec<f64>> =
        (0..n).map(|row| (0..n).map(|column| f64::from(row == column)).collect()).collect();
    for _ in 0..64 {
        let mut rotated = false;
        for p in 0..n {
            for q in p + 1..n {
                let (own, other, beside) =
                    (matrix[p * n + p], matrix[q * n + q], matrix[p * n + q]);
                if beside.abs() <= f64::EPSILON * (own * other).abs().sqrt() {
                    continue;
                }
                rotated = true;
                let theta = (other - own) / (2.0 * beside);
                let tangent = 1f64.copysign(theta) / (theta.abs() + theta.hypot(1.0));
                let cosine = tangent.hypot(1.0).recip();
                let sine = tangent * cosine;
                let turn = |a: &mut f64, b: &mut f64| {
                    (*a, *b) = (cosine * *a - sine * *b, sine * *a + cosine * *b);
                };
                for k in 0..n {
                    let (mut a, mut b) = (matrix[k * n + p], matrix[k * n + q]);
                    turn(&mut a, &mut b);
                    (matrix[k * n + p], matrix[k * n + q]) = (a, b);
                }
                for k in 0..n {
                    let (mut a, mut b) = (matrix[p * n + k], matrix[q * n + k]);
                    turn(&mut a, &mut b);
                    (matrix[p * n + k], matrix[q * n + k]) = (a, b);
                }
                let (low, high) = vectors.split_at_mut(q);
                for (a, b) in low[p].iter_mut().zip(&mut high[0]) {
                    turn(a, b);
                }
            }
        }
        if !rotated {
            break;
        }
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|a, b| matrix[b * n + b].total_cmp(&matrix[a * n + a]));
    order.into_iter().map(|at| vectors[at].clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_those_of_the_covariance() {
        let table = embmap::Table::load("fixtures/minilm-2k").unwrap();
        let mut ids: Vec<u64> = (0..800).collect();
        let whole = Points::gather(&table, &mut ids).unwrap();
        // Few columns, so that the covariance can be laid out.
        let dim = 20;
        let values: Vec<f32> = whole.rows().flat_map(|row| row[..dim].to_vec()).collect();
        let points = Points { dim, values };
        let found = principal(&points, 2, 1);
        let mean: Vec<f64> = (0..dim)
            .map(|at| points.rows().map(|row| f64::from(row[at])).sum::<f64>() / 800.0)
            .collect();
        let centred = |row: &[f32]| -> Vec<f64> {
            row.iter().zip(&mean).map(|(value, mean)| f64::from(*value) - mean).collect()
        };
        let mut covariance = vec![0f64; dim * dim];
        for row in points.rows().map(centred) {
            for i in 0..dim {
                for j in 0..dim {
                    covariance[i * dim + j] += row[i] * row[j];
                }
            }
        }
        let vectors = eigenvectors(&mut covariance, dim);
        for axis in 0..2 {
            let scores = points
                .rows()
                .map(centred)
                .map(|row| row.iter().zip(&vectors[axis]).map(|(a, b)| a * b).sum::<f64>());
            let scores: Vec<f64> = scores.collect();
            let same = if scores[0] * found[axis] < 0.0 { -1.0 } else { 1.0 };
            for (at, score) in scores.iter().enumerate() {
                assert!((found[at * 2 + axis] - same * score).abs() < 1e-3, "{axis}: {at}");
            }
        }
        assert_eq!(principal(&points, 2, 1), found, "the same again");
    }

    #[test]
    fn points_without_a_second_axis_have_zeros_there() {
        let points = Points { dim: 1, values: vec![1.0, -1.0, 1.0] };
        let found = principal(&points, 2, 0);
        assert_eq!(found.len(), 6);
        assert!(found.iter().skip(1).step_by(2).all(|value| *value == 0.0));
        let same = Points { dim: 3, values: [0.6, 0.8, 0.0].repeat(4) };
        assert!(principal(&same, 2, 0).iter().all(|value| value.abs() < 1e-6));
    }
}
