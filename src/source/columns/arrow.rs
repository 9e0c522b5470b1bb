//! Arrow's IPC format, as a file (Feather version 2) and as a stream: message after message, and of
//! each record batch the buffers of two columns, a few rows at a time.
//!
//! Of a file the index tells where the messages lie; what lies between them is nobody's.
//!
//! The library's own reader takes a whole record batch into memory, and that may be the whole
//! table. What it knows of the format's metadata is used here, and nothing is believed of it.

use std::path::Path;
use std::sync::Arc;

use arrow_ipc::MessageHeader;
use arrow_schema::{ArrowError, DataType, Schema};

use super::super::stream::{Batch, RowStream, StreamForm};
use super::choose::{Chosen, ColumnNames, choose};
use crate::error::{Error, Place, Result};
use crate::layout::LARGEST_DIM;
use crate::storage::StoredFile;

mod batch;
mod buffers;
mod dictionary;
mod messages;
mod tokens;

use batch::{BatchRows, Columns};
use buffers::Body;
use dictionary::Dictionary;
use messages::{Found, Messages};

const FORMAT: &str = "arrow";

/// The rows of an Arrow file or stream.
pub(crate) struct ArrowRows {
    messages: Messages,
    schema: Schema,
    chosen: Chosen,
    form: StreamForm,
    /// The number of the dictionary that tokens come from, and what it holds so far.
    dictionary: Option<i64>,
    texts: Dictionary,
    /// The rows of the record batch that is read now.
    batch: Option<BatchRows>,
    /// The rows given so far.
    row: u64,
}

impl ArrowRows {
    /// Reads the schema, and the first row for its length.
    pub(crate) fn open(file: StoredFile, names: &ColumnNames) -> Result<Self> {
        let (mut messages, schema) = Messages::open(Arc::new(file))?;
        let path = messages.file().path().to_path_buf();
        let (schema, dictionaries) = match schema {
            Some(schema) => schema,
            None => messages.schema()?,
        };
        let chosen = choose(schema.fields(), names, &path)?;
        let form = StreamForm {
            format: FORMAT,
            dtype: chosen.dtype,
            dim: 0,
            rows: None,
            rows_are_sure: false,
            has_tokens: chosen.tokens.is_some(),
        };
        let dictionary = chosen.tokens.and_then(|place| dictionaries[place]);
        let texts = Dictionary::default();
        let mut rows =
            ArrowRows { messages, schema, chosen, form, dictionary, texts, batch: None, row: 0 };
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
        length.map(Some).map_err(|fault| fault.told(self.messages.file().path(), Place::Row(0)))
    }

    /// Goes on to the next record batch that has rows; false at the end.
    fn next_batch(&mut self) -> Result<bool> {
        self.batch = None;
        while let Some(message) = self.messages.next()? {
            let file = Arc::clone(self.messages.file());
            let path = file.path();
            if message.kind == MessageHeader::DictionaryBatch {
                self.read_dictionary(&message)?;
                continue;
            }
            if message.kind != MessageHeader::RecordBatch {
                let reason = format!("expected a record batch, found {:?}", message.kind);
                return Err(fault(path, Place::Offset(message.at), reason));
            }
            let body = Body { file: Arc::clone(&file), at: message.body };
            let batch = message.read(path, |header| {
                let batch = header.header_as_record_batch().ok_or("no record batch");
                batch
                    .and_then(|batch| Columns::of(batch, header.version(), body))
                    .and_then(|columns| BatchRows::open(columns, &self.schema, self.chosen))
                    .map_err(|reason| ArrowError::ParseError(reason.to_owned()))
            })?;
            if batch.left() > 0 {
                self.batch = Some(batch);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Reads the texts that tokens are numbers of; other dictionaries are passed over.
    fn read_dictionary(&mut self, message: &Found) -> Result<()> {
        let file = Arc::clone(self.messages.file());
        let body = Body { file: Arc::clone(&file), at: message.body };
        let texts = self.chosen.tokens.map(|place| self.schema.field(place).data_type());
        let (Some(wanted), Some(DataType::Dictionary(_, texts))) = (self.dictionary, texts) else {
            return Ok(());
        };
        let found = message.read(file.path(), |header| {
            let parse = |reason: &str| ArrowError::ParseError(reason.to_owned());
            let found = header.header_as_dictionary_batch();
            let found = found.ok_or_else(|| parse("no batch of a dictionary"))?;
            if found.id() != wanted {
                return Ok(None);
            }
            let data = found.data().ok_or_else(|| parse("a dictionary without texts"))?;
            let columns = Columns::of(data, header.version(), body).map_err(parse)?;
            Ok(Some((columns, found.isDelta())))
        })?;
        let Some((columns, is_more)) = found else { return Ok(()) };
        let read = self.texts.read(columns, texts, message.body.bytes, is_more);
        read.map_err(|fault| fault.told(file.path(), Place::Offset(message.at)))
    }
}

impl RowStream for ArrowRows {
    fn next(&mut self, batch: &mut Batch) -> Result<bool> {
        batch.clear();
        if self.batch.as_ref().is_none_or(|rows| rows.left() == 0) && !self.next_batch()? {
            self.messages.file().check_alive()?;
            return Ok(false);
        }
        let Some(rows) = &mut self.batch else { return Ok(false) };
        while rows.left() > 0 && !batch.is_full(&self.form) {
            let done = rows.push_next(self.form.dim, &self.texts, batch);
            done.map_err(|fault| fault.told(self.messages.file().path(), Place::Row(self.row)))?;
            batch.count += 1;
            self.row += 1;
        }
        Ok(true)
    }

    fn consumed(&self) -> u64 {
        self.messages.at()
    }
}

fn fault(path: &Path, place: Place, reason: String) -> Error {
    Error::Foreign { path: path.to_path_buf(), format: FORMAT, place, reason }
}
