//! Arrays that are not read in place: packed, big-endian, or in Fortran order.

use super::super::bytes::Bytes;
use super::super::raw::{RawRows, swap};
use super::super::stream::{BATCH_BYTES, Batch, RowStream, StreamForm};
use super::array::{self, NpyArray};
use super::header::{MOST_BEFORE_DATA, NpyHeader};
use crate::error::{Error, Result};
use crate::layout::LARGEST_DIM;
use crate::storage::{StoredFile, Stretch};

/// The bytes that are gathered of a column at once, at least: less, and reading a table of many
/// columns is one short read after the other.
const LEAST_OF_COLUMN: usize = 16 << 10;

/// The most memory for a block of columns.
const MOST_BLOCK: usize = 64 << 20;

fn form_of(array: &NpyArray, format: &'static str) -> Result<StreamForm> {
    let &NpyArray { dtype, vocab, dim, .. } = array;
    match usize::try_from(dim).ok().filter(|dim| *dim <= LARGEST_DIM) {
        Some(dim) => Ok(StreamForm {
            format,
            dtype,
            dim,
            rows: Some(vocab),
            rows_are_sure: true,
            has_tokens: false,
        }),
        None => Err(Error::TooLarge { vocab, dim, dtype }),
    }
}

/// The rows of an array whose bytes come one after the other.
pub(crate) fn rows(mut bytes: Bytes, format: &'static str) -> Result<RawRows> {
    let start = bytes.position();
    let path = bytes.path().to_path_buf();
    let (header, data) = NpyHeader::parse(bytes.peek(MOST_BEFORE_DATA)?, &path)?;
    let array = array::describe(&header, data, &path)?;
    if array.fortran_order {
        let reason = "its array lies in Fortran order, which cannot be read from a stream; unpack \
                      the file, or save it again, in Python: np.save(path, \
                      np.ascontiguousarray(array))";
        return Err(Error::NoTable { path, reason: reason.to_owned() });
    }
    let mut form = form_of(&array, format)?;
    if let Some(left) = bytes.left() {
        array::check_length(&array, left, start, &path)?;
    } else {
        form.rows_are_sure = false;
    }
    bytes.take(usize::try_from(data).unwrap_or(usize::MAX));
    Ok(RawRows::of_array(bytes, form, array.vocab, array.big_endian))
}

/// The rows of an array in Fortran order, at a stretch of a file.
///
/// A block of rows is read column by column, then turned around.
pub(crate) struct Transposed {
    file: StoredFile,
    form: StreamForm,
    big_endian: bool,
    /// Where the first element lies.
    data: u64,
    vocab: u64,
    row: u64,
    consumed: u64,
    column: Vec<u8>,
    block: Vec<u8>,
    /// The rows of the block, and those of them that were given.
    rows: usize,
    given: usize,
}

impl Transposed {
    pub(crate) fn open(file: StoredFile, at: Stretch, format: &'static str) -> Result<Self> {
        let array = array::read(&file, at)?;
        let form = form_of(&array, format)?;
        Ok(Transposed {
            form,
            big_endian: array.big_endian,
            data: at.offset + array.data,
            vocab: array.vocab,
            file,
            row: 0,
            consumed: 0,
            column: Vec::new(),
            block: Vec::new(),
            rows: 0,
            given: 0,
        })
    }

    pub(crate) fn form(&self) -> &StreamForm {
        &self.form
    }

    /// Reads the next block of rows; false at the end.
    fn fill(&mut self) -> Result<bool> {
        let element = self.form.dtype.block_bytes();
        let row_bytes = self.form.row_bytes();
        let least = (LEAST_OF_COLUMN / element).min(MOST_BLOCK / row_bytes);
        let most = least.max(BATCH_BYTES / row_bytes).max(1);
        let rows = usize::try_from(self.vocab - self.row).unwrap_or(usize::MAX).min(most);
        (self.rows, self.given) = (rows, 0);
        self.block.resize(rows * row_bytes, 0);
        self.column.resize(rows * element, 0);
        if rows == 0 {
            self.file.check_alive()?;
            return Ok(false);
        }
        for column in 0..self.form.dim {
            let before = column as u64 * self.vocab + self.row;
            self.file.read_at(self.data + before * element as u64, &mut self.column)?;
            let places = self.block[column * element..].chunks_mut(row_bytes);
            for (place, number) in places.zip(self.column.chunks_exact(element)) {
                place[..element].copy_from_slice(number);
            }
        }
        if self.big_endian {
            swap(&mut self.block, element);
        }
        self.row += rows as u64;
        self.consumed += (rows * row_bytes) as u64;
        Ok(true)
    }
}

impl RowStream for Transposed {
    fn next(&mut self, batch: &mut Batch) -> Result<bool> {
        batch.clear();
        if self.given == self.rows && !self.fill()? {
            return Ok(false);
        }
        let row_bytes = self.form.row_bytes();
        batch.count = (self.rows - self.given).min(self.form.batch_rows());
        let start = self.given * row_bytes;
        batch.rows.extend_from_slice(&self.block[start..start + batch.count * row_bytes]);
        self.given += batch.count;
        Ok(true)
    }

    fn consumed(&self) -> u64 {
        self.consumed
    }
}
