//! Parquet files: row group after row group, page after page.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, Field, Fields};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::errors::ParquetError;

use super::super::stream::{Batch, RowStream, StreamForm};
use super::choose::{Chosen, ColumnNames, choose};
use super::vectors::{append_rows, append_token, length};
use crate::error::{Error, Place, Result};
use crate::layout::LARGEST_DIM;
use crate::storage::StoredFile;

mod chunks;
mod levels;
mod pages;
mod unpack;

use chunks::{Chunks, What};
use pages::Column;

const FORMAT: &str = "parquet";

/// The length of the footer's length and of the magic after it.
const END_BYTES: u64 = 8;

/// The rows of a Parquet file.
pub(crate) struct ParquetRows {
    file: Arc<StoredFile>,
    vectors: Column,
    tokens: Option<Column>,
    chosen: Chosen,
    column: String,
    form: StreamForm,
    /// What was read and is not given yet: vectors, their tokens, and the next of them.
    held: Option<(ArrayRef, Option<ArrayRef>, usize)>,
    /// The rows given so far.
    row: u64,
}

impl ParquetRows {
    /// Reads the footer, and the first row for its length.
    pub(crate) fn open(file: StoredFile, names: &ColumnNames) -> Result<Self> {
        let file = Arc::new(file);
        let path = file.path();
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let footer = Chunks { file: Arc::clone(&file), what: What::Footer };
        let metadata = caught(|| ArrowReaderMetadata::load(&footer, options)).map_err(|error| {
            let end = Place::Offset(file.bytes().saturating_sub(END_BYTES));
            told(error, |reason| fault(path, end, format!("its footer: {reason}")))
        })?;
        let schema = metadata.schema();
        let chosen = choose(schema.fields(), names, path)?;
        let column = schema.field(chosen.vectors).name().clone();
        let fields = viewed(schema.fields(), chosen.tokens);
        let open =
            |place, rows, lengths| Column::open(&file, &metadata, &fields, place, rows, lengths);
        let longest = LARGEST_DIM as u64;
        let mut first = open(chosen.vectors, 1, Some(1..longest + 1))?;
        let Some(lists) = first.next()? else {
            let reason = "a file without rows, of which nobody can tell the columns";
            return Err(Error::NoTable { path: path.to_path_buf(), reason: reason.to_owned() });
        };
        let dim = length(&lists, 0).map_err(|(row, reason)| first.refused(row as u64, &reason))?;
        if dim == 0 || dim > LARGEST_DIM {
            let reason = format!("the vector has {dim} numbers, expected 1 to {LARGEST_DIM}");
            return Err(first.refused(0, &reason));
        }
        let rows = metadata.metadata().file_metadata().num_rows();
        let form = StreamForm {
            format: FORMAT,
            dtype: chosen.dtype,
            dim,
            rows: Some(u64::try_from(rows).unwrap_or(0)),
            rows_are_sure: false,
            has_tokens: chosen.tokens.is_some(),
        };
        let lengths = dim as u64..dim as u64 + 1;
        let vectors = open(chosen.vectors, form.batch_rows(), Some(lengths))?;
        let tokens = chosen.tokens.map(|place| open(place, form.batch_rows(), None)).transpose()?;
        Ok(ParquetRows { file, vectors, tokens, chosen, column, form, held: None, row: 0 })
    }

    /// The name of the column of vectors.
    pub(crate) fn column(&self) -> &str {
        &self.column
    }

    pub(crate) fn form(&self) -> &StreamForm {
        &self.form
    }

    /// Reads the next rows of both columns; false at the end.
    fn fill(&mut self) -> Result<bool> {
        let vectors = self.vectors.next()?;
        let tokens = match &mut self.tokens {
            Some(tokens) => Some(tokens.next()?),
            None => None,
        };
        let rows = |array: &Option<ArrayRef>| array.as_ref().map_or(0, Array::len);
        if let (Some(tokens), Some(column)) = (&tokens, &self.tokens)
            && rows(tokens) != rows(&vectors)
        {
            let count = |array| self.row + rows(array) as u64;
            let reason = format!(
                "it ends after {} rows, and the column of vectors after {}",
                count(tokens),
                count(&vectors)
            );
            return Err(column.damaged(reason));
        }
        self.held = vectors.map(|vectors| (vectors, tokens.flatten(), 0));
        Ok(self.held.is_some())
    }
}

impl RowStream for ParquetRows {
    fn next(&mut self, batch: &mut Batch) -> Result<bool> {
        batch.clear();
        if self.held.is_none() && !self.fill()? {
            self.file.check_alive()?;
            return Ok(false);
        }
        let Some((vectors, tokens, next)) = &mut self.held else { return Ok(false) };
        let start = *next;
        // A dictionary may make any length of text from a few bytes: as many tokens as fit.
        while *next < vectors.len() && !batch.is_full(&self.form) {
            if let Some(tokens) = tokens {
                append_token(tokens, *next, &mut batch.tokens);
            }
            batch.count += 1;
            *next += 1;
        }
        let rows = vectors.slice(start, batch.count);
        append_rows(&rows, self.chosen.dtype, self.form.dim, &mut batch.rows)
            .map_err(|(row, reason)| self.vectors.refused(self.row + row as u64, &reason))?;
        if *next == vectors.len() {
            self.held = None;
        }
        self.row += batch.count as u64;
        Ok(true)
    }

    fn consumed(&self) -> u64 {
        // Columns lie in pieces all over the file: rows tell how far it is.
        0
    }
}

/// The types of all columns, tokens as views of their pages: what is there many times is held once.
fn viewed(fields: &Fields, tokens: Option<usize>) -> Fields {
    let fields = fields.iter().enumerate().map(|(place, field)| {
        if Some(place) == tokens {
            let text = Field::new(field.name(), DataType::Utf8View, field.is_nullable());
            Arc::new(text)
        } else {
            Arc::clone(field)
        }
    });
    fields.collect()
}

/// Runs the library on bytes that may be damaged: its panics become errors.
fn caught<T>(work: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, ParquetError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        let reason = "damaged in a way that its reader does not survive";
        Err(ParquetError::General(reason.to_owned()))
    })
}

/// An error of the library, as `place` tells it; one of ours comes back as it was.
fn told(error: ParquetError, place: impl FnOnce(String) -> Error) -> Error {
    /// What the layers of the library put before a reason.
    const BEFORE: [&str; 3] = ["Parquet argument error: ", "Parquet error: ", "External: "];
    let shown = match error {
        ParquetError::External(inner) => match inner.downcast::<Error>() {
            Ok(ours) => return *ours,
            Err(other) => other.to_string(),
        },
        other => other.to_string(),
    };
    let mut reason = shown.as_str();
    while let Some(rest) = BEFORE.iter().find_map(|before| reason.strip_prefix(before)) {
        reason = rest;
    }
    let mut reason = reason.to_owned();
    if reason.contains("feature") || reason.contains("Disabled") {
        reason += "; write it again with another compression, in Python: pq.write_table(table, \
                   path, compression=\"snappy\")";
    }
    place(reason)
}

fn fault(path: &Path, place: Place, reason: String) -> Error {
    Error::Foreign { path: path.to_path_buf(), format: FORMAT, place, reason }
}
