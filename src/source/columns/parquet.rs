//! Parquet files: row group after row group, page after page.

use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::RecordBatch;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder,
};
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::reader::{ChunkReader, Length};

use super::super::stream::{Batch, RowStream, StreamForm};
use super::choose::{Chosen, ColumnNames, choose};
use super::vectors::{RowFault, append_rows, append_tokens, length};
use crate::error::{Error, Place, Result};
use crate::layout::LARGEST_DIM;
use crate::storage::StoredFile;

const FORMAT: &str = "parquet";

/// The bytes of a page's header in which its sizes lie: three numbers of at most five bytes, each
/// after a byte that says so.
const LONGEST_SIZES: u64 = 18;

/// The bytes that any page may say it has: too few to matter, whoever counts what.
const SPARE: u64 = 64 << 10;

/// The rows of a Parquet file.
pub(crate) struct ParquetRows {
    file: Arc<StoredFile>,
    reader: ParquetRecordBatchReader,
    chosen: Chosen,
    column: String,
    form: StreamForm,
    /// The rows given so far.
    row: u64,
}

impl ParquetRows {
    /// Reads the footer, and the first row for its length.
    pub(crate) fn open(file: StoredFile, names: &ColumnNames) -> Result<Self> {
        let file = Arc::new(file);
        let path = file.path();
        let options = || ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let chunks = |expansion| Chunks { file: Arc::clone(&file), expansion };
        let metadata = caught(path, || ArrowReaderMetadata::load(&chunks(None), options()))?;
        let expansion = Some(expansion(metadata.metadata()));
        let mut chosen = choose(metadata.schema().fields(), names, path)?;
        let column = metadata.schema().field(chosen.vectors).name().clone();
        let places = [Some(chosen.vectors), chosen.tokens].into_iter().flatten();
        let mask = ProjectionMask::roots(metadata.parquet_schema(), places);
        // Columns keep their order, the others are gone.
        let tokens_first = chosen.tokens.is_some_and(|tokens| tokens < chosen.vectors);
        chosen.vectors = usize::from(tokens_first);
        chosen.tokens = chosen.tokens.map(|_| usize::from(!tokens_first));
        let reader = |rows: usize| {
            let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(
                chunks(expansion),
                metadata.clone(),
            );
            let builder = builder.with_projection(mask.clone()).with_batch_size(rows);
            caught(path, || builder.build())
        };
        let rows = u64::try_from(metadata.metadata().file_metadata().num_rows()).unwrap_or(0);
        let first = caught_next(path, &mut reader(1)?)?;
        let dim = match &first {
            Some(batch) if batch.num_rows() > 0 => {
                length(batch.column(chosen.vectors), 0).map_err(|fault| refused(path, 0, fault))?
            }
            _ => {
                let reason = "a file without rows, of which nobody can tell the columns";
                return Err(Error::NoTable { path: path.to_path_buf(), reason: reason.to_owned() });
            }
        };
        if dim == 0 || dim > LARGEST_DIM {
            let reason = format!("the vector has {dim} numbers, expected 1 to {LARGEST_DIM}");
            return Err(refused(path, 0, (0, reason)));
        }
        let form = StreamForm {
            format: FORMAT,
            dtype: chosen.dtype,
            dim,
            rows: Some(rows),
            rows_are_sure: false,
            has_tokens: chosen.tokens.is_some(),
        };
        let reader = reader(form.batch_rows())?;
        Ok(ParquetRows { file, reader, chosen, column, form, row: 0 })
    }

    /// The name of the column of vectors.
    pub(crate) fn column(&self) -> &str {
        &self.column
    }

    pub(crate) fn form(&self) -> &StreamForm {
        &self.form
    }
}

impl RowStream for ParquetRows {
    fn next(&mut self, batch: &mut Batch) -> Result<bool> {
        batch.clear();
        let Some(columns) = caught_next(self.file.path(), &mut self.reader)? else {
            self.file.check_alive()?;
            return Ok(false);
        };
        let Chosen { vectors, dtype, tokens } = self.chosen;
        append_rows(columns.column(vectors), dtype, self.form.dim, &mut batch.rows)
            .map_err(|fault| refused(self.file.path(), self.row, fault))?;
        if let Some(tokens) = tokens {
            append_tokens(columns.column(tokens), &mut batch.tokens);
        }
        batch.count = columns.num_rows();
        self.row += batch.count as u64;
        Ok(true)
    }

    fn consumed(&self) -> u64 {
        // Columns lie in pieces all over the file: rows tell how far it is.
        0
    }
}

fn refused(path: &Path, before: u64, (row, reason): RowFault) -> Error {
    let place = Place::Row(before + row as u64);
    Error::Foreign { path: path.to_path_buf(), format: FORMAT, place, reason }
}

fn caught_next(path: &Path, reader: &mut ParquetRecordBatchReader) -> Result<Option<RecordBatch>> {
    caught(path, || reader.next().transpose().map_err(ParquetError::from))
}

/// Runs the library on bytes that may be damaged: its panics become errors.
fn caught<T>(path: &Path, work: impl FnOnce() -> Result<T, ParquetError>) -> Result<T> {
    let error = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(done)) => return Ok(done),
        Ok(Err(error)) => error,
        Err(_) => ParquetError::General("damaged in a way that its reader does not survive".into()),
    };
    Err(told(path, error))
}

/// An error of the library; one of ours comes back as it was.
fn told(path: &Path, error: ParquetError) -> Error {
    let reason = match error {
        ParquetError::External(inner) => match inner.downcast::<Error>() {
            Ok(ours) => return *ours,
            Err(other) => other.to_string(),
        },
        other => other.to_string(),
    };
    let way_out = if reason.contains("feature") || reason.contains("Disabled") {
        "; write it again with another compression, in Python: pq.write_table(table, path, \
         compression=\"snappy\"), or build embmap with the feature parquet-zstd"
    } else {
        ""
    };
    Error::NoTable {
        path: PathBuf::from(path),
        reason: format!("not a sound Parquet file: {reason}{way_out}"),
    }
}

/// How many times its own bytes a page may unpack to, at most: what the densest of the file's
/// codecs can say.
fn expansion(metadata: &ParquetMetaData) -> u64 {
    let chunks = metadata.row_groups().iter().flat_map(RowGroupMetaData::columns);
    let most = |codec| match codec {
        Compression::UNCOMPRESSED => 1,
        // Copies of 64 bytes, in 3 bytes each.
        Compression::SNAPPY => 22,
        // A byte for each 255.
        Compression::LZ4 | Compression::LZ4_RAW => 256,
        // Two bits for each 258.
        Compression::GZIP(_) => 1033,
        // Blocks of 128 KiB, in 4 bytes each.
        _ => 1 << 15,
    };
    chunks.map(|chunk| most(chunk.compression())).max().unwrap_or(1)
}

/// Refuses a page whose header says that it unpacks to more than its bytes can: the library sets
/// memory aside by that number before it unpacks anything.
fn check_page(header: &[u8], at: u64, expansion: u64) -> Result<(), String> {
    let Some((unpacked, packed)) = page_sizes(header) else {
        return Err(format!("the page at byte {at} has a header without its sizes"));
    };
    if unpacked > packed.saturating_mul(expansion).saturating_add(SPARE) {
        return Err(format!(
            "the page at byte {at} says that {packed} bytes unpack to {unpacked}, which they cannot"
        ));
    }
    Ok(())
}

/// The bytes of a page, unpacked and as they are, from the start of its header: the second and the
/// third field, in Thrift's compact protocol.
fn page_sizes(mut header: &[u8]) -> Option<(u64, u64)> {
    // A 32-bit number, in the field after the one before.
    const NEXT_NUMBER: u8 = 0x15;
    let mut number = || {
        let (mut value, mut shift) = (0u64, 0);
        (*header.split_off_first()? == NEXT_NUMBER).then_some(())?;
        while shift < 35 {
            let byte = *header.split_off_first()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                // Odd ones stand for negative numbers.
                return (value & 1 == 0).then_some(value >> 1);
            }
            shift += 7;
        }
        None
    };
    number()?;
    Some((number()?, number()?))
}

/// A file as the library reads it.
struct Chunks {
    file: Arc<StoredFile>,
    /// What a page may unpack to, where what is read are pages.
    expansion: Option<u64>,
}

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.file.bytes()
    }
}

impl ChunkReader for Chunks {
    type T = ChunkRead;

    fn get_read(&self, start: u64) -> Result<ChunkRead, ParquetError> {
        Ok(ChunkRead { file: Arc::clone(&self.file), at: start, unchecked: self.expansion })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<bytes::Bytes, ParquetError> {
        let end = start.checked_add(length as u64);
        if end.is_none_or(|end| end > self.file.bytes()) {
            let reason = format!("{length} bytes at byte {start} reach beyond the end of the file");
            return Err(ParquetError::EOF(reason));
        }
        let bytes = self.file.bytes_at(start, length as u64);
        bytes
            .map(|bytes| bytes.into_owned().into())
            .map_err(|error| ParquetError::External(Box::new(error)))
    }
}

/// A file from a place on, which is where a page starts if anything is read at all: of a page whose
/// header is known, the library takes the bytes together.
struct ChunkRead {
    file: Arc<StoredFile>,
    at: u64,
    /// What the page may unpack to, until that was checked.
    unchecked: Option<u64>,
}

impl Read for ChunkRead {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = self.file.bytes().saturating_sub(self.at);
        if let Some(expansion) = self.unchecked.take() {
            let header = self.file.bytes_at(self.at, left.min(LONGEST_SIZES));
            check_page(&header.map_err(io::Error::other)?, self.at, expansion)
                .map_err(io::Error::other)?;
        }
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(out.len());
        self.file.read_at(self.at, &mut out[..length]).map_err(io::Error::other)?;
        self.at += length as u64;
        Ok(length)
    }
}
