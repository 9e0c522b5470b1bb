//! The numbers of quantized rows: NaNs and infinities show only once a row is decoded.

use super::Verification;
use crate::codec::{Decoder, Kernels};
use crate::table::Table;

/// Counts what rows decode to.
pub(super) struct Numbers<'a> {
    table: &'a Table,
    decoder: Decoder<f32>,
    decoded: Vec<f32>,
    row_bytes: usize,
    stride: usize,
    /// The start of a row whose end lies in the next piece.
    begun: Vec<u8>,
}

impl<'a> Numbers<'a> {
    pub(super) fn of(table: &'a Table) -> Self {
        Numbers {
            table,
            decoder: Decoder::of(table.encoding(), Kernels::of_process()),
            decoded: vec![0.0; table.dim()],
            row_bytes: usize::try_from(table.row_bytes()).unwrap_or(usize::MAX).max(1),
            stride: usize::try_from(table.row_stride()).unwrap_or(usize::MAX).max(1),
            begun: Vec::new(),
        }
    }

    /// Counts rows without padding that follow each other from `first` on.
    pub(super) fn count(&mut self, first: u64, rows: &[u8], found: &mut Verification) {
        for (id, row) in (first..).zip(rows.chunks_exact(self.row_bytes)) {
            self.count_row(id, row, found);
        }
    }

    /// Counts rows as they lie in a file, from any byte on; pieces follow each other from the
    /// start of the first row. `at` is where the piece starts, from there.
    pub(super) fn count_lying(&mut self, at: u64, mut piece: &[u8], found: &mut Verification) {
        let stride = self.stride as u64;
        let mut at = at;
        while !piece.is_empty() {
            let (id, within) = (at / stride, usize::try_from(at % stride).unwrap_or(usize::MAX));
            let (here, after) = piece.split_at(piece.len().min(self.stride - within));
            let row = &here[..here.len().min(self.row_bytes.saturating_sub(within))];
            if within == 0 && row.len() == self.row_bytes {
                self.count_row(id, row, found);
            } else if !row.is_empty() {
                self.begun.extend_from_slice(row);
                if self.begun.len() == self.row_bytes {
                    let row = std::mem::take(&mut self.begun);
                    self.count_row(id, &row, found);
                }
            }
            at += here.len() as u64;
            piece = after;
        }
    }

    fn count_row(&mut self, id: u64, row: &[u8], found: &mut Verification) {
        self.decoder.decode(self.table.layout.parts(row), &mut self.decoded);
        let finite = self.decoded.iter().all(|value| value.is_finite());
        if finite {
            return;
        }
        let count = |is: fn(f32) -> bool| self.decoded.iter().filter(|value| is(**value)).count();
        found.nan += count(f32::is_nan) as u64;
        found.infinite += count(f32::is_infinite) as u64;
        found.first_non_finite_row.get_or_insert(id);
    }
}
