//! What is checked row by row, where a look at the bytes as they lie is not enough.

use super::Verification;
use super::norms::RecordedNorms;
use super::numbers::Numbers;
use crate::codec::Codec;
use crate::error::Result;
use crate::table::Table;

/// Checks of whole rows: what quantized ones decode to, and norms.
pub(super) struct RowChecks<'a> {
    numbers: Numbers<'a>,
    norms: Option<RecordedNorms<'a>>,
    row_bytes: usize,
    stride: usize,
    /// The start of a row whose end lies in the next piece.
    begun: Vec<u8>,
}

impl<'a> RowChecks<'a> {
    /// `None` for a table whose rows are plain and have no norms.
    pub(super) fn of(table: &'a Table) -> Option<Self> {
        let norms = RecordedNorms::of(table);
        let needed = norms.is_some() || table.codec() != Codec::Plain;
        needed.then(|| RowChecks {
            numbers: Numbers::of(table),
            norms,
            row_bytes: usize::try_from(table.row_bytes()).unwrap_or(usize::MAX).max(1),
            stride: usize::try_from(table.row_stride()).unwrap_or(usize::MAX).max(1),
            begun: Vec::new(),
        })
    }

    /// Checks rows without padding that follow each other from the place `first` on.
    pub(super) fn apply(&mut self, first: u64, rows: &[u8], found: &mut Verification) {
        for (id, row) in (first..).zip(rows.chunks_exact(self.row_bytes)) {
            self.check(id, row, found);
        }
    }

    /// Checks rows as they lie in a file, from any byte on; pieces follow each other from the
    /// start of the first row. `at` is where the piece starts, from there.
    pub(super) fn apply_lying(&mut self, at: u64, mut piece: &[u8], found: &mut Verification) {
        let stride = self.stride as u64;
        let mut at = at;
        while !piece.is_empty() {
            let (id, within) = (at / stride, usize::try_from(at % stride).unwrap_or(usize::MAX));
            let (here, after) = piece.split_at(piece.len().min(self.stride - within));
            let row = &here[..here.len().min(self.row_bytes.saturating_sub(within))];
            if within == 0 && row.len() == self.row_bytes {
                self.check(id, row, found);
            } else if !row.is_empty() {
                self.begun.extend_from_slice(row);
                if self.begun.len() == self.row_bytes {
                    let row = std::mem::take(&mut self.begun);
                    self.check(id, &row, found);
                }
            }
            at += here.len() as u64;
            piece = after;
        }
    }

    fn check(&mut self, id: u64, row: &[u8], found: &mut Verification) {
        self.numbers.count(id, row, found);
        if let Some(norms) = &mut self.norms {
            norms.compare(id, row, found);
        }
    }

    /// What reading norms failed with.
    pub(super) fn finish(self) -> Result<()> {
        self.norms.map_or(Ok(()), RecordedNorms::finish)
    }
}
