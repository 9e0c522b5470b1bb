//! The norms of rows, found as rows pass and put aside until the rows are written.

use std::io;
use std::sync::Arc;

use byteorder::{LittleEndian, WriteBytesExt};

use super::body::Body;
use super::options::Sizes;
use super::spool::Spool;
use crate::codec::{Encoding, Kernels, Norms, ROWS_AT_ONCE, RowParts};
use crate::format::{RowForm, SectionKind};

/// Norms put aside.
pub(super) struct NormSpool {
    norms: Norms,
    spool: Spool,
    /// The bytes of the values and of the scales in a row.
    values: usize,
    scales: usize,
    /// The scale of every row, where it is the same.
    table_scale: Option<[u8; 4]>,
}

impl NormSpool {
    /// No norms yet, for rows of a form.
    pub(super) fn new(form: &RowForm, body: &Body, sizes: Sizes) -> Self {
        let temporary = body.temporary();
        let directory = Arc::from(temporary.directory_path());
        let encoding = Encoding { dtype: form.dtype, codec: form.codec };
        let [values, scales, _] =
            form.parts().unwrap_or_default().map(|bytes| usize::try_from(bytes).unwrap_or(0));
        NormSpool {
            norms: Norms::of(encoding, form.dim as usize, Kernels::of_process()),
            spool: Spool::new(temporary.operations(), &directory, sizes.spool),
            values,
            scales,
            table_scale: form.table_scale,
        }
    }

    /// Adds the norms of whole rows, which lie one after the other.
    pub(super) fn push(&mut self, rows: &[u8], row_bytes: usize) -> io::Result<()> {
        for rows in rows.chunks(row_bytes.saturating_mul(ROWS_AT_ONCE)) {
            let mut parts = [RowParts::of(&[]); ROWS_AT_ONCE];
            let mut norms = [0.0; ROWS_AT_ONCE];
            let mut count = 0;
            for (row, parts) in rows.chunks_exact(row_bytes).zip(&mut parts) {
                let (values, rest) = row.split_at(self.values);
                let (scales, biases) = rest.split_at(self.scales);
                let scales = self.table_scale.as_ref().map_or(scales, <[u8; 4]>::as_slice);
                *parts = RowParts { values, scales, biases };
                count += 1;
            }
            self.norms.find(&parts[..count], &mut norms[..count]);
            for norm in &norms[..count] {
                self.spool.write_f32::<LittleEndian>(*norm)?;
            }
        }
        Ok(())
    }

    /// Writes the section.
    pub(super) fn write_to(self, body: &mut Body) -> io::Result<()> {
        body.section(SectionKind::Norms, |section| self.spool.copy_to(section))
    }
}
