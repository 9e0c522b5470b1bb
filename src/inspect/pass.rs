//! The one pass over all rows, on several threads.

use std::collections::BTreeMap;
use std::sync::Mutex;

use xxhash_rust::xxh3::Xxh3Default;

use super::directions::UnitSum;
use super::duplicates::Seen;
use super::found::RowList;
use super::norms::NormCounts;
use super::row::Row;
use super::sample::{Choice, Sample};
use crate::codec::{Decoder, Kernels, RowParts};
use crate::dtype::DType;
use crate::error::Result;
use crate::gather::lock;
use crate::table::{Table, WindowRows};

/// What all threads add to.
pub(super) struct Shared<'a> {
    pub(super) table: &'a Table,
    pub(super) choice: Choice,
    pub(super) sample: Mutex<Sample>,
    pub(super) seen: Mutex<Seen>,
}

/// What one thread finds. None of it depends on the order of rows.
pub(super) struct Found {
    pub(super) norms: NormCounts,
    pub(super) units: UnitSum,
    pub(super) zero_rows: RowList,
    pub(super) non_finite_rows: RowList,
    pub(super) nan: u64,
    pub(super) infinite: u64,
    pub(super) zeros: u64,
    pub(super) beyond_f16: u64,
    pub(super) min: f64,
    pub(super) max: f64,
    pub(super) smallest: f64,
}

/// Sums that depend on the order that they are added in.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sums {
    /// Rows of finite numbers.
    pub(super) rows: u64,
    /// Those of them that are not zeros.
    pub(super) lengths: u64,
    pub(super) norm: f64,
    pub(super) norm_squares: f64,
    pub(super) value: f64,
    pub(super) value_squares: f64,
}

impl Sums {
    fn add(&mut self, other: Self) {
        self.rows += other.rows;
        self.lengths += other.lengths;
        self.norm += other.norm;
        self.norm_squares += other.norm_squares;
        self.value += other.value;
        self.value_squares += other.value_squares;
    }
}

/// Adds up the sums of windows in the order of their rows, whoever is ready first.
#[derive(Default)]
pub(super) struct InOrder {
    all: Sums,
    /// The row up to which sums were added.
    next: u64,
    /// Sums that are early, with the rows where they end.
    early: BTreeMap<u64, (u64, Sums)>,
}

impl InOrder {
    pub(super) fn add(&mut self, rows: std::ops::Range<u64>, sums: Sums) {
        self.early.insert(rows.start, (rows.end, sums));
        while let Some((end, sums)) = self.early.remove(&self.next) {
            self.all.add(sums);
            self.next = end;
        }
    }

    pub(super) fn finish(self) -> Sums {
        self.all
    }
}

/// What one thread works with.
pub(super) struct Worker {
    pub(super) found: Found,
    single: Decoder<f32>,
    double: Option<Decoder<f64>>,
    row: Vec<f32>,
    wide: Vec<f64>,
    hashes: Vec<(u64, u64)>,
}

impl Worker {
    pub(super) fn new(table: &Table) -> Self {
        let (encoding, dim) = (table.encoding(), table.dim());
        let kernels = Kernels::of_process();
        let double = (table.dtype() == DType::F64).then(|| Decoder::of(encoding, kernels));
        Worker {
            found: Found {
                norms: NormCounts::new(),
                units: UnitSum::new(dim),
                zero_rows: RowList::default(),
                non_finite_rows: RowList::default(),
                nan: 0,
                infinite: 0,
                zeros: 0,
                beyond_f16: 0,
                min: f64::INFINITY,
                max: f64::NEG_INFINITY,
                smallest: f64::INFINITY,
            },
            single: Decoder::of(encoding, kernels),
            wide: vec![0.0; if double.is_some() { dim } else { 0 }],
            double,
            row: vec![0.0; dim],
            hashes: Vec::new(),
        }
    }

    /// Looks at rows that follow each other.
    pub(super) fn look_at(&mut self, all: &Shared<'_>, rows: &WindowRows<'_>) -> Result<Sums> {
        let mut sums = Sums::default();
        let end = rows.first + rows.count as u64;
        let mut chosen = all.choice.within(rows.first..end).peekable();
        for (place, index) in (rows.first..).zip(0..rows.count) {
            let parts = rows.row(index);
            let row = self.figures(parts);
            if !row.is_zero() {
                self.hashes.push((hash(parts), place));
            }
            self.count(place, &row, &mut sums);
            if let Some(index) = chosen.next_if(|index| all.choice.place(*index) == place) {
                // What f32 cannot hold has no place in the sample either.
                let finite = row.is_finite() && self.row.iter().all(|value| value.is_finite());
                lock(&all.sample).put(index, &self.row, finite);
            }
        }
        let mut seen = lock(&all.seen);
        for (hash, place) in self.hashes.drain(..) {
            seen.add(hash, place)?;
        }
        Ok(sums)
    }

    /// The figures of a row, which is decoded for that.
    fn figures(&mut self, parts: RowParts<'_>) -> Row {
        self.single.decode(parts, &mut self.row);
        match &self.double {
            Some(double) => {
                double.decode(parts, &mut self.wide);
                Row::of(&self.wide)
            }
            None => Row::of(&self.row),
        }
    }

    fn count(&mut self, place: u64, row: &Row, sums: &mut Sums) {
        let found = &mut self.found;
        if !row.is_finite() {
            found.nan += row.nan;
            found.infinite += row.infinite;
            found.non_finite_rows.add(place);
            return;
        }
        sums.rows += 1;
        sums.value += row.sum;
        sums.value_squares += row.squares;
        found.zeros += row.zeros;
        found.beyond_f16 += row.beyond_f16;
        found.min = found.min.min(row.min);
        found.max = found.max.max(row.max);
        found.smallest = found.smallest.min(row.smallest);
        if row.is_zero() {
            found.zero_rows.add(place);
            return;
        }
        sums.lengths += 1;
        sums.norm += row.norm;
        sums.norm_squares += row.norm * row.norm;
        found.norms.add(place, row.norm);
        found.units.add(&self.row, row.norm);
    }
}

impl Found {
    pub(super) fn join(&mut self, other: Self) {
        self.norms.join(other.norms);
        self.units.join(&other.units);
        self.zero_rows.join(other.zero_rows);
        self.non_finite_rows.join(other.non_finite_rows);
        self.nan += other.nan;
        self.infinite += other.infinite;
        self.zeros += other.zeros;
        self.beyond_f16 += other.beyond_f16;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.smallest = self.smallest.min(other.smallest);
    }
}

/// The hash of a row as it is encoded.
pub(super) fn hash(parts: RowParts<'_>) -> u64 {
    if parts.scales.is_empty() && parts.biases.is_empty() {
        return xxhash_rust::xxh3::xxh3_64(parts.values);
    }
    let mut hash = Xxh3Default::new();
    hash.update(parts.values);
    hash.update(parts.scales);
    hash.update(parts.biases);
    hash.digest()
}
