//! `Table::nearest`: what is asked, checked before the first row is read.

use std::ops::ControlFlow;

use super::options::NearestOptions;
use super::scan::Search;
use crate::error::{Error, Result};
use crate::table::Table;

/// How near a row is to a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Metric {
    /// The cosine of the angle between them, from -1 to 1: their product over their lengths.
    ///
    /// A row of zeros has no direction, and the cosine 0. A row that holds a NaN or an infinity,
    /// or is longer than an `f32` can say, is no answer.
    Cosine,
    /// Their product, which is larger for longer rows.
    ///
    /// A row whose product is NaN is no answer.
    Dot,
}

/// A row that is near to a query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbour {
    /// The row.
    pub id: u64,
    /// How near it is, by the metric of the search: the higher, the nearer.
    pub score: f32,
}

impl Table {
    /// The `k` rows that are nearest to a vector of `dim` elements, the nearest first; of rows
    /// that are equally near, those with the lower ids.
    ///
    /// Every row is looked at: nothing is approximate, and nothing has to be built before.
    /// Rows are read in order and decoded as they pass, so that memory does not grow with the
    /// table. Of a mapped table that is in the page cache, the first 4 GiB stay in the process's
    /// page tables for the next search (half of an [`rss_budget`](crate::OpenOptions::rss_budget)
    /// where there is one); what lies behind them does not. What is not there, or where the
    /// system does not tell, as of files that the process may not write to, is read.
    ///
    /// Products are sums of `f32` in 16 lanes, in an order that neither the number of threads
    /// nor the CPU changes, so that scores are the same bits everywhere. Where the file holds
    /// [norms](crate::WriteOptions::norms), cosines take them from there.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidOption`] where `k` is 0 or more than there are rows, where the vector has
    /// another length than a row, or holds a NaN or an infinity, or by [`Metric::Cosine`] is all
    /// zeros; whatever reading rows can give.
    ///
    /// ```
    /// use embmap::{Metric, Table};
    ///
    /// # fn main() -> Result<(), embmap::Error> {
    /// let table = Table::load("fixtures/minilm-2k")?;
    /// let mut cat = vec![0f32; table.dim()];
    /// table.gather_into(&[table.id_of("cat")?.unwrap()], &mut cat)?;
    ///
    /// let found = table.nearest(&cat, 3, Metric::Cosine)?;
    /// let tokens: Vec<_> = found.iter().map(|it| table.token(it.id).unwrap().unwrap()).collect();
    /// assert_eq!(tokens, ["cat", "cats", "kitten"]);
    /// assert!((found[1].score - 0.815).abs() < 5e-4);
    /// # Ok(())
    /// # }
    /// ```
    pub fn nearest(&self, query: &[f32], k: usize, metric: Metric) -> Result<Vec<Neighbour>> {
        if query.len() != self.dim() {
            return Err(wrong(
                "query",
                format!("expected {} elements, as rows have, found {}", self.dim(), query.len()),
            ));
        }
        let found = self.nearest_with(query, k, metric, &NearestOptions::new())?;
        Ok(found.into_iter().next().unwrap_or_default())
    }

    /// [`nearest`](Table::nearest) for many queries, which lie one after the other, and share
    /// one reading of the table: the answers to each, in their order. There are fewer than `k`
    /// where so many rows are excluded or no answer.
    ///
    /// # Errors
    ///
    /// As [`nearest`](Table::nearest); [`Error::RowOutOfRange`] where what is excluded is no row.
    pub fn nearest_with(
        &self,
        queries: &[f32],
        k: usize,
        metric: Metric,
        options: &NearestOptions,
    ) -> Result<Vec<Vec<Neighbour>>> {
        self.nearest_while(queries, k, metric, options, |_, _| ControlFlow::Continue(()))
    }

    /// [`nearest_with`](Table::nearest_with), telling `progress` the rows that were looked at
    /// and the rows there are.
    ///
    /// # Errors
    ///
    /// As [`nearest_with`](Table::nearest_with); [`Error::Interrupted`] where `progress` breaks
    /// off.
    pub fn nearest_while(
        &self,
        queries: &[f32],
        k: usize,
        metric: Metric,
        options: &NearestOptions,
        progress: impl FnMut(u64, u64) -> ControlFlow<()> + Send,
    ) -> Result<Vec<Vec<Neighbour>>> {
        let dim = self.dim();
        if !queries.len().is_multiple_of(dim) {
            let found = queries.len();
            let reason = format!("expected vectors of {dim} elements, as rows have, found {found}");
            return Err(wrong("queries", reason));
        }
        let count = queries.len() / dim;
        if count == 0 {
            return Ok(Vec::new());
        }
        check_k(k, self.vocab())?;
        check_finite(queries, dim)?;
        let excluded = self.excluded(options, count)?;
        let queries = match metric {
            Metric::Dot => queries.to_vec(),
            Metric::Cosine => {
                let mut unit = Vec::with_capacity(queries.len());
                for (index, query) in queries.chunks_exact(dim).enumerate() {
                    push_unit(index, query, &mut unit)?;
                }
                unit
            }
        };
        Search::new(self, &queries, k, metric, &excluded, options)?.run(progress)
    }

    /// The excluded ids of each query, in ascending order.
    fn excluded(&self, options: &NearestOptions, queries: usize) -> Result<Vec<Vec<u64>>> {
        let NearestOptions { exclude, exclude_each, .. } = options;
        if !exclude_each.is_empty() && exclude_each.len() != queries {
            let found = exclude_each.len();
            let reason = format!("expected rows for each of {queries} queries, found {found}");
            return Err(wrong("exclude_each", reason));
        }
        for ids in exclude_each.iter().chain([exclude]) {
            if let Some(position) = ids.iter().position(|id| *id >= self.vocab()) {
                return Err(self.out_of_range(ids[position], Some(position)));
            }
        }
        Ok((0..queries)
            .map(|query| {
                let own = exclude_each.get(query).into_iter().flatten();
                let mut ids: Vec<u64> = own.chain(exclude).copied().collect();
                ids.sort_unstable();
                ids
            })
            .collect())
    }
}

fn check_k(k: usize, vocab: u64) -> Result<()> {
    if vocab == 0 {
        return Err(wrong("k", "the table has no rows, so none is near".to_owned()));
    }
    if k == 0 || k as u64 > vocab {
        return Err(wrong("k", format!("expected 1 to {vocab}, the rows there are, found {k}")));
    }
    Ok(())
}

fn check_finite(queries: &[f32], dim: usize) -> Result<()> {
    let Some(at) = queries.iter().position(|value| !value.is_finite()) else { return Ok(()) };
    let (query, element, value) = (at / dim, at % dim, queries[at]);
    Err(wrong(
        "queries",
        format!("element {element} of query {query} is {value}, expected a number"),
    ))
}

/// Adds a query of length 1.
fn push_unit(index: usize, query: &[f32], unit: &mut Vec<f32>) -> Result<()> {
    let squares: f64 = query.iter().map(|value| f64::from(*value) * f64::from(*value)).sum();
    let length = squares.sqrt();
    if length == 0.0 {
        let reason = format!("query {index} is all zeros, which has no direction; use Metric::Dot");
        return Err(wrong("queries", reason));
    }
    #[expect(clippy::cast_possible_truncation, reason = "rounding to nearest is the purpose")]
    unit.extend(query.iter().map(|value| (f64::from(*value) / length) as f32));
    Ok(())
}

fn wrong(option: &'static str, reason: String) -> Error {
    Error::InvalidOption { option, reason }
}
