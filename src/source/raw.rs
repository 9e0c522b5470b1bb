//! Rows one after the other and nothing else: raw binary, and numpy's arrays where they are not
//! read in place.

use super::bytes::Bytes;
use super::stream::{Batch, RowStream, StreamForm};
use crate::dtype::DType;
use crate::error::{Error, Place, Result};

/// The format's name.
pub(crate) const FORMAT: &str = "raw";

/// The rows of bytes that hold nothing else from here on.
pub(crate) struct RawRows {
    bytes: Bytes,
    form: StreamForm,
    /// The number of rows where it was declared, or else the bytes' end decides.
    declared: Option<u64>,
    big_endian: bool,
    row: u64,
}

impl RawRows {
    /// Rows of elements of a type, as many as there are.
    pub(crate) fn new(bytes: Bytes, dtype: DType, dim: usize) -> Result<Self> {
        let mut form = StreamForm {
            format: FORMAT,
            dtype,
            dim,
            rows: None,
            rows_are_sure: true,
            has_tokens: false,
        };
        if let Some(left) = bytes.left() {
            let row_bytes = form.row_bytes() as u64;
            if !left.is_multiple_of(row_bytes) {
                let reason = format!(
                    "{left} bytes are no whole number of rows of {dim} {dtype}, which take \
                     {row_bytes} bytes each: another --dim or type, or cut short"
                );
                let whole = bytes.position() + left / row_bytes * row_bytes;
                return Err(fault(&bytes, form.format, whole, reason));
            }
            form.rows = Some(left / row_bytes);
        }
        Ok(RawRows { bytes, form, declared: None, big_endian: false, row: 0 })
    }

    /// The rows of an array whose header was taken.
    pub(crate) fn of_array(bytes: Bytes, form: StreamForm, vocab: u64, big_endian: bool) -> Self {
        RawRows { bytes, form, declared: Some(vocab), big_endian, row: 0 }
    }

    pub(crate) fn form(&self) -> &StreamForm {
        &self.form
    }

    fn end(&mut self) -> Result<()> {
        if self.declared.is_some() && !self.bytes.peek(1)?.is_empty() {
            let reason = format!("{} rows are declared, and bytes follow them", self.row);
            return Err(fault(&self.bytes, self.form.format, self.bytes.position(), reason));
        }
        Ok(())
    }
}

impl RowStream for RawRows {
    fn next(&mut self, batch: &mut Batch) -> Result<bool> {
        batch.clear();
        let row_bytes = self.form.row_bytes();
        let left = self.declared.map_or(u64::MAX, |declared| declared - self.row);
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(self.form.batch_rows());
        let bytes = self.bytes.append_to(wanted * row_bytes, &mut batch.rows)?;
        batch.count = bytes / row_bytes;
        self.row += batch.count as u64;
        if bytes % row_bytes != 0 || (self.declared.is_some() && batch.count < wanted) {
            let reason = format!(
                "the file ends within row {}, expected {row_bytes} bytes: cut short, copy it again",
                self.row
            );
            return Err(fault(&self.bytes, self.form.format, self.bytes.position(), reason));
        }
        if self.big_endian {
            swap(&mut batch.rows, self.form.dtype.block_bytes());
        }
        if batch.count == 0 {
            self.end()?;
        }
        Ok(batch.count > 0)
    }

    fn consumed(&self) -> u64 {
        self.bytes.consumed()
    }
}

/// Turns the bytes of each element around.
pub(super) fn swap(rows: &mut [u8], element: usize) {
    rows.chunks_exact_mut(element.max(1)).for_each(<[u8]>::reverse);
}

fn fault(bytes: &Bytes, format: &'static str, at: u64, reason: String) -> Error {
    let place = Place::Offset(at);
    Error::Foreign { path: bytes.path().to_path_buf(), format, place, reason }
}
