//! The pages of one column, row group after row group: unpacked within bounds, and each fault told
//! with its column, its row group and its place in the file.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_schema::Fields;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ParquetRecordBatchReader, RowGroups};
use parquet::arrow::{ProjectionMask, parquet_to_arrow_field_levels};
use parquet::basic::Compression;
use parquet::column::page::{Page, PageIterator, PageMetadata, PageReader};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::serialized_reader::SerializedPageReader;

use super::super::super::json::shortened;
use super::chunks::{Chunks, Position, What};
use super::levels::RowLengths;
use super::unpack::{is_ours, unpack_page};
use super::{caught, fault, told};
use crate::error::{Error, Place, Result};
use crate::storage::StoredFile;

/// The arrays of one column, some rows at a time.
pub(super) struct Column {
    source: Arc<Source>,
    reader: ParquetRecordBatchReader,
}

/// What the pages of a column are read from.
pub(super) struct Source {
    file: Arc<StoredFile>,
    metadata: Arc<ParquetMetaData>,
    name: String,
    position: Arc<Position>,
    /// How long the lists of the column may be, where it has lists.
    lengths: Option<Range<u64>>,
}

impl Column {
    /// The column at a place, `rows` rows at a time. `fields` are the types that it and its
    /// neighbours are read as; `lengths` those that its lists may have.
    pub(super) fn open(
        file: &Arc<StoredFile>,
        metadata: &ArrowReaderMetadata,
        fields: &Fields,
        place: usize,
        rows: usize,
        lengths: Option<Range<u64>>,
    ) -> Result<Self> {
        let source = Arc::new(Source {
            file: Arc::clone(file),
            metadata: Arc::clone(metadata.metadata()),
            name: fields[place].name().clone(),
            position: Arc::default(),
            lengths,
        });
        let schema = metadata.parquet_schema();
        let reader = caught(|| {
            let mask = ProjectionMask::roots(schema, [place]);
            let levels = parquet_to_arrow_field_levels(schema, mask, Some(fields))?;
            let groups = Groups(Arc::clone(&source));
            ParquetRecordBatchReader::try_new_with_row_groups(&levels, &groups, rows, None)
        });
        let reader = reader.map_err(|error| source.told(error))?;
        Ok(Column { source, reader })
    }

    /// The next rows; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<ArrayRef>> {
        let reader = &mut self.reader;
        let batch = caught(|| reader.next().transpose().map_err(ParquetError::from))
            .map_err(|error| self.source.told(error))?;
        Ok(batch.filter(|batch| batch.num_rows() > 0).map(|batch| Arc::clone(batch.column(0))))
    }

    /// An error of a row: a reason, told with its place.
    pub(super) fn refused(&self, row: u64, reason: &str) -> Error {
        self.source.refused(row, reason)
    }

    /// An error of the page that was read last.
    pub(super) fn damaged(&self, reason: String) -> Error {
        self.source.told(ParquetError::General(reason))
    }
}

impl Source {
    fn path(&self) -> &Path {
        self.file.path()
    }

    fn about(&self, row_group: u64, reason: &str) -> String {
        format!("column {:?}, row group {row_group}: {reason}", shortened(&self.name))
    }

    fn refused(&self, row: u64, reason: &str) -> Error {
        let mut left = row;
        let group = self.metadata.row_groups().iter().position(|group| {
            let rows = u64::try_from(group.num_rows()).unwrap_or(0);
            let is_here = left < rows;
            left = left.saturating_sub(rows);
            is_here
        });
        let reason = match group {
            Some(group) => self.about(group as u64, reason),
            None => format!("column {:?}: {reason}", shortened(&self.name)),
        };
        fault(self.path(), Place::Row(row), reason)
    }

    /// The error that stopped the column, or one of the library with the place that it has come to.
    fn told(&self, error: ParquetError) -> Error {
        if let Some(ours) = self.position.take_fault() {
            return ours;
        }
        told(error, |reason| {
            let reason = self.about(self.position.row_group(), &reason);
            fault(self.path(), Place::Offset(self.position.page()), reason)
        })
    }
}

/// What the library asks for the pages of a column.
struct Groups(Arc<Source>);

impl RowGroups for Groups {
    fn num_rows(&self) -> usize {
        let rows = self.0.metadata.row_groups().iter().map(RowGroupMetaData::num_rows);
        rows.fold(0, |all: usize, rows| all.saturating_add(usize::try_from(rows).unwrap_or(0)))
    }

    fn column_chunks(&self, leaf: usize) -> Result<Box<dyn PageIterator>, ParquetError> {
        Ok(Box::new(ColumnChunks { source: Arc::clone(&self.0), leaf, group: 0, row: 0 }))
    }

    fn row_groups(&self) -> Box<dyn Iterator<Item = &RowGroupMetaData> + '_> {
        Box::new(self.0.metadata.row_groups().iter())
    }

    fn metadata(&self) -> &ParquetMetaData {
        &self.0.metadata
    }
}

/// The chunks of a column.
struct ColumnChunks {
    source: Arc<Source>,
    leaf: usize,
    /// The next row group, and its first row.
    group: usize,
    row: u64,
}

impl Iterator for ColumnChunks {
    type Item = Result<Box<dyn PageReader>, ParquetError>;

    fn next(&mut self) -> Option<Self::Item> {
        let group = self.source.metadata.row_groups().get(self.group)?;
        let pages = Pages::open(&self.source, self.group, group, self.leaf, self.row)
            .map_err(|error| self.source.position.stop(self.source.told(error)));
        self.group += 1;
        self.row = self.row.saturating_add(u64::try_from(group.num_rows()).unwrap_or(0));
        Some(pages.map(|pages| Box::new(pages) as Box<dyn PageReader>))
    }
}

impl PageIterator for ColumnChunks {}

/// The pages of a column chunk.
struct Pages {
    source: Arc<Source>,
    inner: SerializedPageReader<Chunks>,
    codec: Compression,
    lengths: Option<RowLengths>,
    /// The first row of the chunk.
    row: u64,
}

impl Pages {
    fn open(
        source: &Arc<Source>,
        group: usize,
        of: &RowGroupMetaData,
        leaf: usize,
        row: u64,
    ) -> Result<Self, ParquetError> {
        let missing = || ParquetError::General("the row group lacks the column".to_owned());
        let chunk = of.columns().get(leaf).ok_or_else(missing)?;
        let start = chunk.dictionary_page_offset().unwrap_or(chunk.data_page_offset());
        source.position.enter(group, u64::try_from(start).unwrap_or(0));
        let codec = chunk.compression();
        let what = What::Pages(codec, Arc::clone(&source.position));
        let chunks = Arc::new(Chunks { file: Arc::clone(&source.file), what });
        let rows = usize::try_from(of.num_rows()).unwrap_or(0);
        let inner = if is_ours(codec) {
            let plain = chunk.clone().into_builder().set_compression(Compression::UNCOMPRESSED);
            SerializedPageReader::new(chunks, &plain.build()?, rows, None)?
        } else {
            SerializedPageReader::new(chunks, chunk, rows, None)?
        };
        let lengths = source.lengths.as_ref().map(|lengths| RowLengths::new(lengths.end - 1));
        Ok(Pages { source: Arc::clone(source), inner, codec, lengths, row })
    }

    /// Unpacks a page, and looks at how long its rows are.
    fn checked(&mut self, mut page: Page) -> Result<Page, ParquetError> {
        if is_ours(self.codec) {
            let unpacked = unpack_page(self.codec, &mut page, self.source.position.unpacked());
            unpacked.map_err(ParquetError::General)?;
        }
        if let Some(lengths) = &mut self.lengths {
            lengths.check(&page).map_err(|found| {
                let most = self.source.lengths.clone().unwrap_or_default();
                let expected = match most.end - most.start {
                    1 => format!("{} as in the first row", most.start),
                    _ => format!("{} to {}", most.start, most.end - 1),
                };
                let reason =
                    format!("the vector has {} numbers, expected {expected}", found.length);
                let row = self.row.saturating_add(found.row);
                self.source.position.stop(self.source.refused(row, &reason))
            })?;
        }
        Ok(page)
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>, ParquetError> {
        let page = self.inner.get_next_page();
        page.and_then(|page| page.map(|page| self.checked(page)).transpose())
            .map_err(|error| self.source.position.stop(self.source.told(error)))
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>, ParquetError> {
        let page = self.inner.peek_next_page();
        page.map_err(|error| self.source.position.stop(self.source.told(error)))
    }

    fn skip_next_page(&mut self) -> Result<(), ParquetError> {
        self.inner.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> Result<bool, ParquetError> {
        self.inner.at_record_boundary()
    }
}

impl Iterator for Pages {
    type Item = Result<Page, ParquetError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}
