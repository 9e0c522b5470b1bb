//! Clusters of directions: k-means on the sphere (Dhillon and Modha, 2001), started as
//! Arthur and Vassilvitskii have it ("k-means++", 2007).

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use rayon::prelude::*;

use super::points::{Points, dot};

const ITERATIONS: usize = 40;

/// Which cluster each point is in, the largest cluster first.
pub(super) struct Clusters {
    pub(super) of: Vec<usize>,
    /// Its points nearest to its middle, the nearest first.
    pub(super) typical: Vec<Vec<usize>>,
}

/// The points that speak for a cluster.
const TYPICAL: usize = 3;

impl Clusters {
    pub(super) fn find(points: &Points, wanted: usize, seed: u64) -> Self {
        let count = points.count();
        let mut centres = started(points, wanted.clamp(1, count), seed);
        let mut of = assigned(points, &centres);
        for _ in 0..ITERATIONS {
            centres = moved(points, &of, &centres);
            let next = assigned(points, &centres);
            let settled = next == of;
            of = next;
            if settled {
                break;
            }
        }
        let mut sizes: Vec<(usize, usize)> = (0..centres.len()).map(|at| (at, 0)).collect();
        for (cluster, _) in &of {
            sizes[*cluster].1 += 1;
        }
        sizes.retain(|(_, size)| *size > 0);
        sizes.sort_by_key(|(at, size)| (std::cmp::Reverse(*size), *at));
        let mut ranks = vec![0; centres.len()];
        for (rank, (cluster, _)) in sizes.iter().enumerate() {
            ranks[*cluster] = rank;
        }
        let mut typical = vec![Vec::new(); sizes.len()];
        let mut order: Vec<usize> = (0..count).collect();
        order.sort_by(|a, b| of[*b].1.total_cmp(&of[*a].1).then(a.cmp(b)));
        for point in order {
            let own: &mut Vec<usize> = &mut typical[ranks[of[point].0]];
            if own.len() < TYPICAL {
                own.push(point);
            }
        }
        Clusters { of: of.into_iter().map(|(cluster, _)| ranks[cluster]).collect(), typical }
    }
}

/// First centres: points, each chosen with a chance that grows with its distance from those
/// before.
fn started(points: &Points, wanted: usize, seed: u64) -> Vec<Vec<f32>> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut centres: Vec<Vec<f32>> = Vec::new();
    let mut apart = vec![1f64; points.count()];
    while centres.len() < wanted {
        let sum: f64 = apart.iter().sum();
        if sum <= 0.0 {
            break;
        }
        let mut left = random.random::<f64>() * sum;
        let at = apart.iter().position(|part| {
            left -= part;
            left < 0.0
        });
        let centre = points.row(at.unwrap_or(points.count() - 1)).to_vec();
        for (apart, row) in apart.iter_mut().zip(points.rows()) {
            // Equal rows are less than a rounding apart.
            let distance = (1.0 - f64::from(dot(row, &centre)) - 1e-6).max(0.0);
            *apart = apart.min(distance);
        }
        centres.push(centre);
    }
    centres
}

/// The nearest centre of each point, and its cosine; of equal ones the first.
fn assigned(points: &Points, centres: &[Vec<f32>]) -> Vec<(usize, f32)> {
    let nearest = |row: &[f32]| {
        let mut best = (0, f32::NEG_INFINITY);
        for (at, centre) in centres.iter().enumerate() {
            let cosine = dot(row, centre);
            if cosine > best.1 {
                best = (at, cosine);
            }
        }
        best
    };
    points.values.par_chunks(points.dim).map(nearest).collect()
}

/// The directions of the means of clusters; where one has none, what it was.
fn moved(points: &Points, of: &[(usize, f32)], centres: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let mut sums = vec![vec![0f64; points.dim]; centres.len()];
    for (row, (cluster, _)) in points.rows().zip(of) {
        for (sum, value) in sums[*cluster].iter_mut().zip(row) {
            *sum += f64::from(*value);
        }
    }
    let moved = |(sum, centre): (Vec<f64>, &Vec<f32>)| {
        let length = sum.iter().map(|value| value * value).sum::<f64>().sqrt();
        if length < 1e-9 {
            return centre.clone();
        }
        #[expect(clippy::cast_possible_truncation, reason = "rounding to nearest is the purpose")]
        sum.into_iter().map(|value| (value / length) as f32).collect()
    };
    sums.into_iter().zip(centres).map(moved).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_together_is_one_cluster() {
        let dim = 8;
        let mut values = vec![0f32; dim * 60];
        for (at, row) in values.chunks_exact_mut(dim).enumerate() {
            let group = if at < 30 { 0 } else { 1 + at % 2 };
            row[group] = 0.99;
            row[3 + at % 5] = (1.0f32 - 0.99 * 0.99).sqrt();
        }
        let points = Points { dim, values };
        let found = Clusters::find(&points, 3, 1);
        assert_eq!(found.typical.len(), 3);
        assert!(found.of[..30].iter().all(|cluster| *cluster == 0), "the largest comes first");
        assert!(found.of[30..].iter().step_by(2).all(|it| *it == found.of[30]));
        assert!(found.of[31..].iter().step_by(2).all(|it| *it == found.of[31]));
        assert_ne!(found.of[30], found.of[31]);
        for (cluster, typical) in found.typical.iter().enumerate() {
            assert_eq!(typical.len(), 3);
            assert!(typical.iter().all(|point| found.of[*point] == cluster));
        }
        assert_eq!(Clusters::find(&points, 3, 1).of, found.of);
    }

    #[test]
    fn there_are_no_more_clusters_than_directions() {
        let points = Points { dim: 2, values: [1.0, 0.0, 0.0, 1.0].repeat(5) };
        let found = Clusters::find(&points, 7, 0);
        assert_eq!(found.typical.len(), 2);
        assert_eq!(Clusters::find(&Points { dim: 1, values: vec![1.0] }, 12, 0).of, [0]);
    }
}
