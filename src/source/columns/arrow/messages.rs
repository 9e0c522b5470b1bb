//! Where the messages of a file lie: one after the other, or where its index says.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use arrow_ipc::{Block, Message, MessageHeader};
use arrow_schema::{ArrowError, Schema};

use super::fault;
use crate::error::{Error, Place, Result};
use crate::storage::{StoredFile, Stretch};

/// What a file starts with, and ends with where it has an index.
const MAGIC: &[u8] = b"ARROW1";

/// The length of the index, and the magic.
const END_BYTES: u64 = 10;

/// The most bytes of a message's metadata, or of the index.
const LARGEST_METADATA: u64 = 64 << 20;

/// A schema, and the number of each column's dictionary, where it has one.
pub(super) type Columns = (Schema, Vec<Option<i64>>);

/// The messages of a file, one after the other.
pub(super) struct Messages {
    file: Arc<StoredFile>,
    /// Where the next message starts, or the last one ended.
    at: u64,
    end: u64,
    /// Where the messages start, where there is an index: dictionaries before rows.
    blocks: Option<std::vec::IntoIter<u64>>,
    /// Where the last rows end.
    least: u64,
}

/// A message that was found.
pub(super) struct Found {
    /// Where it starts.
    pub(super) at: u64,
    pub(super) kind: MessageHeader,
    metadata: Vec<u8>,
    pub(super) body: Stretch,
}

impl Messages {
    /// Of a file with an index those that it names, and its schema; else of a stream all.
    pub(super) fn open(file: Arc<StoredFile>) -> Result<(Self, Option<Columns>)> {
        let (path, bytes) = (file.path(), file.bytes());
        if bytes < MAGIC.len() as u64 || file.bytes_at(0, MAGIC.len() as u64)? != MAGIC {
            return Ok((Messages { at: 0, end: bytes, file, blocks: None, least: 0 }, None));
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
        let wrong = |reason| fault(path, Place::Offset(end), reason);
        if index > LARGEST_METADATA {
            let reason =
                format!("the index has {index} bytes, expected {LARGEST_METADATA} at most");
            return Err(wrong(reason));
        }
        let index = file.bytes_at(end, index)?.into_owned();
        let read = survived(|| {
            let index = arrow_ipc::root_as_footer(&index)
                .map_err(|error| ArrowError::ParseError(error.to_string()))?;
            let missing = || ArrowError::ParseError("it has no schema".to_owned());
            let columns = columns_of(index.schema().ok_or_else(missing)?)?;
            let blocks = index.dictionaries().into_iter().chain(index.recordBatches());
            let starts: Vec<_> = blocks.flatten().map(Block::offset).collect();
            Ok((columns, starts))
        });
        let (columns, starts) =
            read.map_err(|reason| wrong(format!("no sound index: {reason}")))?;
        let starts: Result<Vec<u64>, _> = starts.into_iter().map(u64::try_from).collect();
        let starts = starts.map_err(|_| wrong("the index leads before the file".to_owned()))?;
        let blocks = Some(starts.into_iter());
        Ok((Messages { at: 8, end, blocks, least: 0, file }, Some(columns)))
    }

    pub(super) fn file(&self) -> &Arc<StoredFile> {
        &self.file
    }

    /// Where the last message ended.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// The schema, which a stream starts with.
    pub(super) fn schema(&mut self) -> Result<Columns> {
        let path = self.file.path().to_path_buf();
        let Some(first) = self.next()? else {
            let reason = "expected a schema, and there are no messages".to_owned();
            return Err(Error::NoTable { path, reason });
        };
        first.read(&path, |message| match message.header_as_schema() {
            Some(schema) => columns_of(schema),
            None => Err(ArrowError::ParseError("expected a schema first".to_owned())),
        })
    }

    /// The next message; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Found>> {
        if let Some(blocks) = &mut self.blocks {
            let Some(at) = blocks.next() else {
                self.at = self.end;
                return Ok(None);
            };
            // The same rows twice would make any number of them from a few bytes.
            if at < self.least {
                let reason = format!("the index leads back to byte {at}");
                return Err(fault(self.file.path(), Place::Offset(self.end), reason));
            }
            self.at = at;
        }
        let found = self.read()?;
        if let Some(Found { kind: MessageHeader::RecordBatch, .. }) = found {
            self.least = self.at;
        }
        Ok(found)
    }

    /// Reads the message where the last one ended; `None` at the end.
    fn read(&mut self) -> Result<Option<Found>> {
        let at = self.at;
        let wrong = |reason| fault(self.file.path(), Place::Offset(at), reason);
        let cut = || wrong("a message ends behind the file: cut short, copy it again".to_owned());
        if at == self.end && self.blocks.is_none() {
            return Ok(None);
        }
        let number = |at: u64| -> Result<u32> {
            let mut bytes = [0; 4];
            if at.checked_add(4).is_none_or(|end| end > self.end) {
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
            if self.blocks.is_some() {
                return Err(wrong("the index leads to no message".to_owned()));
            }
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
    pub(super) fn read<T>(
        &self,
        path: &Path,
        work: impl FnOnce(Message<'_>) -> Result<T, ArrowError>,
    ) -> Result<T> {
        parsed(&self.metadata, work).map_err(|reason| fault(path, Place::Offset(self.at), reason))
    }
}

/// What a schema says of its columns.
fn columns_of(schema: arrow_ipc::Schema<'_>) -> Result<Columns, ArrowError> {
    if !schema.endianness().equals_to_target_endianness() {
        let reason = "its numbers are big-endian, expected little-endian".to_owned();
        return Err(ArrowError::ParseError(reason));
    }
    let fields = schema.fields().into_iter().flatten();
    let dictionaries = fields.map(|field| field.dictionary().map(|it| it.id())).collect();
    Ok((arrow_ipc::convert::try_fb_to_schema(schema)?, dictionaries))
}

/// What a message's metadata says.
fn parsed<T>(
    metadata: &[u8],
    work: impl FnOnce(Message<'_>) -> Result<T, ArrowError>,
) -> Result<T, String> {
    survived(|| {
        let message = arrow_ipc::root_as_message(metadata)
            .map_err(|error| ArrowError::ParseError(error.to_string()))?;
        work(message)
    })
}

/// Runs the library on metadata that may be damaged: its panics become errors. An error is a
/// reason, of one line.
fn survived<T>(work: impl FnOnce() -> Result<T, ArrowError>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(ArrowError::ParseError(reason))) => Err(reason.trim().replace('\n', " ")),
        Ok(Err(error)) => Err(error.to_string().trim().replace('\n', " ")),
        Err(_) => Err("damaged in a way that its reader does not survive".to_owned()),
    }
}
