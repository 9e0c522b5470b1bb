//! The NaNs and infinities of rows; those of quantized ones show only once a row is decoded.

use super::Verification;
use crate::codec::{Codec, Decoder, Kernels, count_non_finite};
use crate::table::Table;

/// Counts what is no number.
pub(super) struct Numbers<'a> {
    table: &'a Table,
    decoder: Decoder<f32>,
    decoded: Vec<f32>,
}

impl<'a> Numbers<'a> {
    pub(super) fn of(table: &'a Table) -> Self {
        Numbers {
            table,
            decoder: Decoder::of(table.encoding(), Kernels::of_process()),
            decoded: vec![0.0; table.dim()],
        }
    }

    /// Counts the elements of a row.
    pub(super) fn count(&mut self, id: u64, row: &[u8], found: &mut Verification) {
        if self.table.codec() == Codec::Plain {
            let (nan, infinite) = count_non_finite(self.table.dtype(), row);
            found.nan += nan;
            found.infinite += infinite;
            if nan + infinite > 0 {
                found.first_non_finite_row.get_or_insert(id);
            }
            return;
        }
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
