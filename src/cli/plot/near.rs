//! The nearest of the points to each, in the space that rows lie in.

use std::ops::ControlFlow;

use anyhow::Result;
use embmap::{Error, Metric, NearestOptions, NpyHeader, Table};

use super::points::Points;

/// The points that are searched for at once.
const QUERIES: usize = 128;

/// For each point the nearest others, the nearest first.
pub(super) struct Near {
    /// The others of each point.
    pub(super) k: usize,
    pub(super) points: Vec<u32>,
    pub(super) cosines: Vec<f32>,
}

impl Near {
    /// Searches exactly, as the library does: the points are made a table.
    pub(super) fn find(
        points: &Points,
        k: usize,
        mut progress: impl FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<Self> {
        let count = points.count();
        let k = k.min(count - 1);
        let mut near = Near { k, points: Vec::new(), cosines: Vec::new() };
        if k == 0 {
            return Ok(near);
        }
        let mut npy = Vec::new();
        let shape = vec![count as u64, points.dim as u64];
        NpyHeader { descr: "<f4".to_owned(), fortran_order: false, shape }.write_to(&mut npy)?;
        npy.extend_from_slice(bytemuck::cast_slice(&points.values));
        let table = Table::from_bytes(&npy)?;
        drop(npy);
        for (block, queries) in points.values.chunks(QUERIES * points.dim).enumerate() {
            let first = block * QUERIES;
            let themselves = (0..queries.len() / points.dim).map(|at| vec![(first + at) as u64]);
            let options = NearestOptions::new().exclude_each(themselves.collect());
            // Of length 1, so that the product is the cosine.
            for found in table.nearest_with(queries, k, Metric::Dot, &options)? {
                for neighbour in found {
                    near.points.push(u32::try_from(neighbour.id).unwrap_or(u32::MAX));
                    near.cosines.push(neighbour.score.clamp(-1.0, 1.0));
                }
            }
            let done = (first + queries.len() / points.dim) as u64;
            if progress(done, count as u64).is_break() {
                return Err(Error::Interrupted.into());
            }
        }
        Ok(near)
    }

    /// The neighbours of a point and their cosines, at most `most` of them.
    pub(super) fn of(&self, point: usize, most: usize) -> impl Iterator<Item = (usize, f32)> {
        let range = point * self.k..(point + 1) * self.k;
        let cosines = self.cosines[range.clone()].iter().copied();
        self.points[range].iter().map(|it| *it as usize).zip(cosines).take(most)
    }
}

#[cfg(test)]
mod tests {
    use super::super::points::dot;
    use super::*;

    #[test]
    fn neighbours_are_those_of_all_products() {
        let table = Table::load("fixtures/minilm-2k").unwrap();
        let mut ids: Vec<u64> = (380..1030).collect();
        let points = Points::gather(&table, &mut ids).unwrap();
        let near = Near::find(&points, 7, |_, _| ControlFlow::Continue(())).unwrap();
        for at in 0..points.count() {
            let cosine = |other: usize| dot(points.row(at), points.row(other));
            let mut all: Vec<usize> = (0..points.count()).filter(|other| *other != at).collect();
            all.sort_by(|a, b| cosine(*b).total_cmp(&cosine(*a)));
            for ((found, score), expected) in near.of(at, 7).zip(&all) {
                assert!((score - cosine(*expected)).abs() < 1e-5, "{at}: {found}, {expected}");
            }
        }
        let king = table.id_of("king").unwrap().unwrap();
        let first = near.of(usize::try_from(king).unwrap() - 380, 1).next().unwrap();
        assert_eq!(table.token(ids[first.0]).unwrap().unwrap(), "queen");
        let mut one = vec![5];
        let alone = Points::gather(&table, &mut one).unwrap();
        assert_eq!(Near::find(&alone, 5, |_, _| ControlFlow::Continue(())).unwrap().k, 0);
    }
}
