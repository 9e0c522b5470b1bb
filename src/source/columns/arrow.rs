//! Arrow's IPC format, as a file (Feather version 2) and as a stream: message after message, and of
//! each record batch the buffers of two columns, a few rows at a time.
//!
//! The library's own reader takes a whole record batch into memory, and that may be the whole
//! table. What it knows of the format's metadata is used here, and nothing is believed of it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use arrow_ipc::{Message, MessageHeader};
use arrow_schema::{ArrowError, Schema};

use super::super::stream::{Batch, RowStream, StreamForm};
use super::choose::{Chosen, ColumnNames, choose};
use crate::error::{Error, Place, Result};
use crate::layout::LARGEST_DIM;
use crate::storage::{StoredFile, Stretch};

mod batch;
mod buffers;
mod tokens;

use batch::BatchRows;
use buffers::Body;

const FORMAT: &str = "arrow";

/// What a file starts with, and ends with where it has an index.
const MAGIC: &[u8] = b"ARROW1";

/// The length of the index, and the magic.
const END_BYTES: u64 = 10;

/// Where the first message of a file with an index starts at the latest.
const LARGEST_PADDING: u64 = 64 + 8;

/// The most bytes of a message's metadata.
const LARGEST_METADATA: u64 = 64 << 20;

/// The rows of an Arrow file or stream.
pub(crate) struct ArrowRows {
    messages: Messages,
    schema: Schema,
    chosen: Chosen,
    form: StreamForm,
    /// The rows of the record batch that is read now.
    batch: Option<BatchRows>,
    /// The rows given so far.
    row: u64,
}

impl ArrowRows {
    /// Reads the schema, and the first row for its length.
    pub(crate) fn open(file: StoredFile, names: &ColumnNames) -> Result<Self> {
        let mut messages = Messages::open(Arc::new(file))?;
        let path = messages.file.path().to_path_buf();
        let Some(first) = messages.next()? else {
            let reason = "expected a schema, and there are no messages".to_owned();
            return Err(Error::NoTable { path, reason });
        };
        let schema = first.read(&path, |message| {
            let Some(schema) = message.header_as_schema() else {
                let reason = "expected a schema first".to_owned();
                return Err(ArrowError::ParseError(reason));
            };
            if !schema.endianness().equals_to_target_endianness() {
                let reason = "its numbers are big-endian, expected little-endian".to_owned();
                return Err(ArrowError::ParseError(reason));
            }
            arrow_ipc::convert::try_fb_to_schema(schema)
        })?;
        let chosen = choose(schema.fields(), names, &path)?;
        let form = StreamForm {
            format: FORMAT,
            dtype: chosen.dtype,
            dim: 0,
            rows: None,
            rows_are_sure: false,
            has_tokens: chosen.tokens.is_some(),
        };
        let mut rows = ArrowRows { messages, schema, chosen, form, batch: None, row: 0 };
        let Some(dim) = rows.first_length()? else {
            let reason = "a file without rows, of which nobody can tell the columns".to_owned();
            return Err(Error::NoTable { path, reason });
        };
        if dim == 0 || dim > LARGEST_DIM as u64 {
            let reason = format!("the vector has {dim} numbers, expected 1 to {LARGEST_DIM}");
            return Err(fault(&path, Place::Row(0), reason));
        }
        rows.form.dim = usize::try_from(dim).unwrap_or(LARGEST_DIM);
        Ok(rows)
    }

    /// The name of the column of vectors.
    pub(crate) fn column(&self) -> &str {
        self.schema.field(self.chosen.vectors).name()
    }

    pub(crate) fn form(&self) -> &StreamForm {
        &self.form
    }

    /// The length of the first vector, where there is one.
    fn first_length(&mut self) -> Result<Option<u64>> {
        if !self.next_batch()? {
            return Ok(None);
        }
        let Some(batch) = &mut self.batch else { return Ok(None) };
        let length = batch.first_length();
        length.map(Some).map_err(|fault| fault.told(self.messages.file.path(), 0))
    }

    /// Goes on to the next record batch that has rows; false at the end.
    fn next_batch(&mut self) -> Result<bool> {
        self.batch = None;
        while let Some(message) = self.messages.next()? {
            let path = self.messages.file.path();
            if message.kind == MessageHeader::DictionaryBatch {
                // No column of those that are read has a dictionary.
                continue;
            }
            if message.kind != MessageHeader::RecordBatch {
                let reason = format!("expected a record batch, found {:?}", message.kind);
                return Err(fault(path, Place::Offset(message.at), reason));
            }
            let body = Body { file: Arc::clone(&self.messages.file), at: message.body };
            let batch = message.read(path, |header| {
                BatchRows::open(header, &self.schema, self.chosen, body)
                    .map_err(|reason| ArrowError::ParseError(reason.to_owned()))
            })?;
            if batch.left() > 0 {
                self.batch = Some(batch);
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl RowStream for ArrowRows {
    fn next(&mut self, batch: &mut Batch) -> Result<bool> {
        batch.clear();
        if self.batch.as_ref().is_none_or(|rows| rows.left() == 0) && !self.next_batch()? {
            self.messages.file.check_alive()?;
            return Ok(false);
        }
        let Some(rows) = &mut self.batch else { return Ok(false) };
        while rows.left() > 0 && !batch.is_full(&self.form) {
            let done = rows.push_next(self.form.dim, batch);
            done.map_err(|fault| fault.told(self.messages.file.path(), self.row))?;
            batch.count += 1;
            self.row += 1;
        }
        Ok(true)
    }

    fn consumed(&self) -> u64 {
        self.messages.at
    }
}

/// The messages of a file, one after the other.
struct Messages {
    file: Arc<StoredFile>,
    /// Where the next message starts.
    at: u64,
    end: u64,
}

/// A message that was found.
struct Found {
    /// Where it starts.
    at: u64,
    kind: MessageHeader,
    metadata: Vec<u8>,
    body: Stretch,
}

impl Messages {
    /// Of a file with an index the messages before it; else of a stream all.
    fn open(file: Arc<StoredFile>) -> Result<Self> {
        let (path, bytes) = (file.path(), file.bytes());
        if bytes < MAGIC.len() as u64 || file.bytes_at(0, MAGIC.len() as u64)? != MAGIC {
            return Ok(Messages { at: 0, end: bytes, file });
        }
        let cut = || {
            let reason = "expected an index and ARROW1 at the end: cut short, copy it again";
            fault(path, Place::Offset(bytes), reason.to_owned())
        };
        let start = bytes.checked_sub(END_BYTES).ok_or_else(cut)?;
        let tail = file.bytes_at(start, END_BYTES)?;
        let (length, magic) = tail.split_at(4);
        let index = length.iter().rev().fold(0u64, |length, byte| length << 8 | u64::from(*byte));
        // The magic is filled up to eight bytes, at least.
        let end = start.checked_sub(index).filter(|end| *end >= 8);
        let Some(end) = end.filter(|_| magic == MAGIC) else { return Err(cut()) };
        let (mut at, mut word) = (8, [0; 8]);
        // Some writers fill it up further: a message starts at a multiple of eight.
        while at + 8 <= end.min(LARGEST_PADDING) {
            file.read_at(at, &mut word)?;
            if word != [0; 8] {
                break;
            }
            at += 8;
        }
        Ok(Messages { file, at, end })
    }

    /// The next message; `None` at the end.
    fn next(&mut self) -> Result<Option<Found>> {
        let at = self.at;
        let wrong = |reason| fault(self.file.path(), Place::Offset(at), reason);
        let cut = || wrong("a message ends behind the file: cut short, copy it again".to_owned());
        if at == self.end {
            return Ok(None);
        }
        let number = |at: u64| -> Result<u32> {
            let mut bytes = [0; 4];
            if at + 4 > self.end {
                return Err(cut());
            }
            self.file.read_at(at, &mut bytes)?;
            Ok(u32::from_le_bytes(bytes))
        };
        // Before version 0.15 there was no mark before the length.
        let (mut length, mut start) = (number(at)?, at + 4);
        if length == u32::MAX {
            (length, start) = (number(start)?, start + 4);
        }
        if length == 0 {
            self.at = self.end;
            return Ok(None);
        }
        let length = u64::from(length);
        if length > LARGEST_METADATA {
            return Err(wrong(format!(
                "a message declares {length} bytes of metadata, expected at most {LARGEST_METADATA}"
            )));
        }
        let body = start + length;
        if body > self.end {
            return Err(cut());
        }
        let metadata = self.file.bytes_at(start, length)?.into_owned();
        let read = parsed(&metadata, |message| Ok((message.header_type(), message.bodyLength())));
        let (kind, bytes) = read.map_err(|reason| wrong(format!("no sound message: {reason}")))?;
        let bytes = u64::try_from(bytes).ok();
        let end = bytes.and_then(|bytes| body.checked_add(bytes));
        let Some(end) = end.filter(|end| *end <= self.end) else { return Err(cut()) };
        self.at = end;
        let body = Stretch { offset: body, bytes: end - body };
        Ok(Some(Found { at, kind, metadata, body }))
    }
}

impl Found {
    /// What the metadata says.
    fn read<T>(
        &self,
        path: &Path,
        work: impl FnOnce(Message<'_>) -> Result<T, ArrowError>,
    ) -> Result<T> {
        parsed(&self.metadata, work).map_err(|reason| fault(path, Place::Offset(self.at), reason))
    }
}

/// Runs the library on metadata that may be damaged: its panics become errors.
fn parsed<T>(
    metadata: &[u8],
    work: impl FnOnce(Message<'_>) -> Result<T, ArrowError>,
) -> Result<T, String> {
    let done = catch_unwind(AssertUnwindSafe(|| {
        let message = arrow_ipc::root_as_message(metadata)
            .map_err(|error| ArrowError::ParseError(error.to_string()))?;
        work(message)
    }));
    match done {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(ArrowError::ParseError(reason))) => Err(reason),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("damaged in a way that its reader does not survive".to_owned()),
    }
}

fn fault(path: &Path, place: Place, reason: String) -> Error {
    Error::Foreign { path: path.to_path_buf(), format: FORMAT, place, reason }
}
