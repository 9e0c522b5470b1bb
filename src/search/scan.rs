//! One pass over the rows of a table, on several threads.

use std::ops::ControlFlow;
use std::sync::Mutex;

use byteorder::{ByteOrder, LittleEndian};

use super::nearest::{Metric, Neighbour};
use super::options::NearestOptions;
use super::top::{Ids, Top};
use crate::codec::{Multiplier, ROWS_AT_ONCE, RowParts};
use crate::error::{Error, Result};
use crate::gather::{Crew, kernels, lock};
use crate::storage::Stretch;
use crate::table::{Places, Table, WindowRows};

/// A search that was found to be in order.
pub(super) struct Search<'a> {
    table: &'a Table,
    /// One after the other; for cosines, of length 1.
    queries: &'a [f32],
    count: usize,
    k: usize,
    metric: Metric,
    /// Where the norms of rows are, if they are needed and there.
    norms: Option<Stretch>,
    ids: Ids<'a>,
    /// The excluded ids of each query, in ascending order.
    excluded: &'a [Vec<u64>],
    crew: Crew,
    portable: bool,
}

/// What one thread works with.
struct Worker {
    multiplier: Multiplier,
    /// For each query.
    tops: Vec<Top>,
    products: Vec<f32>,
    norms: Vec<f32>,
    /// Norms as the file holds them.
    recorded: Vec<u8>,
}

impl<'a> Search<'a> {
    pub(super) fn new(
        table: &'a Table,
        queries: &'a [f32],
        k: usize,
        metric: Metric,
        excluded: &'a [Vec<u64>],
        options: &NearestOptions,
    ) -> Result<Self> {
        let count = queries.len() / table.dim();
        let norms = table.norms.filter(|_| metric == Metric::Cosine);
        let mut crew = table.crew(options.threads)?;
        let work = table.row_bytes().saturating_mul(table.vocab()).saturating_mul(count as u64);
        if !crew.pays_for(usize::try_from(work).unwrap_or(usize::MAX))? {
            crew.threads = 1;
        }
        let ids = table.places()?.map(Places::ids).transpose()?;
        let portable = options.portable;
        Ok(Search { table, queries, count, k, metric, norms, ids, excluded, crew, portable })
    }

    /// The answers to each query.
    pub(super) fn run(
        &self,
        progress: impl FnMut(u64, u64) -> ControlFlow<()> + Send,
    ) -> Result<Vec<Vec<Neighbour>>> {
        let vocab = self.table.vocab();
        let windows = Mutex::new(self.table.row_windows(0..vocab));
        let progress = Mutex::new((progress, 0));
        let done = Mutex::new(Vec::new());
        let workers = (0..self.crew.threads).map(|_| Worker::new(self)).collect();
        self.crew.work(workers, |mut worker: Worker| {
            let mut reader = self.table.window_reader(self.crew.threads);
            // The lock is held for no longer than it takes to cut a window.
            let next = || lock(&windows).next();
            while let Some(window) = next() {
                let rows = window.end - window.start;
                let looked = reader.read(window, |rows| worker.look_at(self, rows));
                let (progress, seen) = &mut *lock(&progress);
                *seen += rows;
                let told = if progress(*seen, vocab).is_break() {
                    Err(Error::Interrupted)
                } else {
                    Ok(())
                };
                if let Err(error) = looked.and(told) {
                    // The other threads find nothing left to do.
                    lock(&windows).stop();
                    return Err(error);
                }
            }
            lock(&done).push(worker.tops);
            Ok(())
        })?;
        let done = std::mem::take(&mut *lock(&done));
        let mut of_threads: Vec<_> = done.into_iter().map(Vec::into_iter).collect();
        let tops_of_one = || of_threads.iter_mut().filter_map(Iterator::next).collect::<Vec<_>>();
        Ok(std::iter::repeat_with(tops_of_one)
            .take(self.count)
            .map(|tops| Top::merge(self.k, tops.into_iter()))
            .collect())
    }
}

impl Worker {
    fn new(search: &Search<'_>) -> Self {
        let (table, kernels) = (search.table, kernels(search.portable));
        let multiplier = Multiplier::of(table.encoding(), table.dim(), kernels);
        let group = multiplier.group();
        Worker {
            multiplier,
            tops: (0..search.count).map(|_| Top::new(search.k, search.ids.is_some())).collect(),
            products: vec![0.0; group * search.count],
            norms: vec![0.0; group],
            recorded: Vec::new(),
        }
    }

    /// Ranks rows by each query.
    fn look_at(&mut self, search: &Search<'_>, rows: &WindowRows<'_>) -> Result<()> {
        if let Some(norms) = search.norms {
            self.recorded.resize(rows.count * size_of::<f32>(), 0);
            let offset = norms.offset + rows.first * size_of::<f32>() as u64;
            search.table.files[0].read_at(offset, &mut self.recorded)?;
        }
        let group = self.norms.len();
        for start in (0..rows.count).step_by(group) {
            let count = group.min(rows.count - start);
            let mut parts = [RowParts::of(&[]); ROWS_AT_ONCE];
            for (index, parts) in parts[..count].iter_mut().enumerate() {
                *parts = rows.row(start + index);
            }
            let products = &mut self.products[..count * search.count];
            let norms = &mut self.norms[..count];
            let wanted = search.metric == Metric::Cosine && search.norms.is_none();
            let found = wanted.then_some(&mut *norms);
            self.multiplier.multiply(&parts[..count], search.queries, products, found);
            if search.metric == Metric::Cosine {
                if search.norms.is_some() {
                    let recorded = &self.recorded[start * size_of::<f32>()..];
                    LittleEndian::read_f32_into(&recorded[..size_of_val(norms)], norms);
                }
                for (products, norm) in products.chunks_exact_mut(search.count).zip(&*norms) {
                    for product in products {
                        *product = cosine(*product, *norm);
                    }
                }
            }
            let first = rows.first + start as u64;
            for (place, products) in (first..).zip(products.chunks_exact(search.count)) {
                for ((score, top), excluded) in
                    products.iter().zip(&mut self.tops).zip(search.excluded)
                {
                    top.offer(*score, place, &search.ids, excluded)?;
                }
            }
        }
        Ok(())
    }
}

/// The cosine of a row by its product with a vector of length 1. NaN where the row has no
/// finite length.
#[inline]
fn cosine(product: f32, norm: f32) -> f32 {
    if norm == 0.0 {
        0.0
    } else if norm > 0.0 && norm.is_finite() {
        (product / norm).clamp(-1.0, 1.0)
    } else {
        f32::NAN
    }
}
