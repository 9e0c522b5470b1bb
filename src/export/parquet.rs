//! Parquet: a column of vectors and one of tokens.

use std::io;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, FixedSizeListArray, PrimitiveArray, RecordBatch, StringArray, types,
};
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Schema};
use bytemuck::Pod;
use half::f16;
use parquet::arrow::ArrowWriter;
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use super::options::ExportOptions;
use super::output::Out;
use super::pieces::{Piece, Progress, each_piece};
use super::run::Job;
use super::tokens::RowTokens;
use crate::dtype::DType;
use crate::error::{Error, Result};

/// The bytes of the numbers of a row group, which is in memory until it is written.
const GROUP: u64 = 32 << 20;

/// The names of the columns.
pub(super) struct ColumnNames<'a> {
    vectors: &'a str,
    tokens: &'a str,
}

impl<'a> ColumnNames<'a> {
    /// Those that were asked for, or else these.
    pub(super) fn of(options: &'a ExportOptions) -> Self {
        ColumnNames {
            vectors: options.column.as_deref().unwrap_or("vector"),
            tokens: options.token_column.as_deref().unwrap_or("token"),
        }
    }
}

pub(super) fn write(
    job: &Job<'_>,
    with_tokens: bool,
    out: &mut Out<'_>,
    progress: Progress<'_>,
) -> Result<()> {
    let path = out.path().to_path_buf();
    let columns = Columns::of(job, with_tokens)?;
    let row = (job.number_bytes()? / (job.rows.end - job.rows.start).max(1)).max(1);
    let rows = usize::try_from(GROUP / row).unwrap_or(usize::MAX).max(1);
    // Numbers hardly repeat, so that neither a dictionary nor packing makes them fewer.
    let properties = WriterProperties::builder()
        .set_created_by(concat!("embmap ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_max_row_group_row_count(Some(rows))
        .build();
    let failed = |error| failed(error, &path);
    let mut writer =
        ArrowWriter::try_new(out, Arc::clone(&columns.schema), Some(properties)).map_err(failed)?;
    let mut tokens = RowTokens::of(job.table, &job.rows)?;
    each_piece(job.table, &job.rows, job.dtype, progress, |piece| {
        let mut arrays =
            vec![columns.vectors(&piece, job.dtype).map_err(|error| failed(error.into()))?];
        if with_tokens {
            arrays.insert(0, next_tokens(&mut tokens, piece.count)?);
        }
        let batch = RecordBatch::try_new(Arc::clone(&columns.schema), arrays);
        writer.write(&batch.map_err(|error| failed(error.into()))?).map_err(failed)
    })?;
    writer.close().map(|_| ()).map_err(failed)
}

/// What the columns are.
struct Columns {
    schema: Arc<Schema>,
    number: FieldRef,
    dim: i32,
}

impl Columns {
    fn of(job: &Job<'_>, with_tokens: bool) -> Result<Self> {
        let dim = i32::try_from(job.table.dim()).map_err(|_| Error::InvalidOption {
            option: "format",
            reason: format!("rows of {} elements are too long for Parquet", job.table.dim()),
        })?;
        let number = Arc::new(Field::new("item", type_of(job.dtype), false));
        let list = DataType::FixedSizeList(Arc::clone(&number), dim);
        let mut fields = vec![Field::new(job.columns.vectors, list, false)];
        if with_tokens {
            fields.insert(0, Field::new(job.columns.tokens, DataType::Utf8, true));
        }
        Ok(Columns { schema: Arc::new(Schema::new(fields)), number, dim })
    }

    fn vectors(&self, piece: &Piece<'_>, dtype: DType) -> Result<ArrayRef, ArrowError> {
        let numbers: ArrayRef = match dtype {
            DType::F16 => Arc::new(numbers::<types::Float16Type, f16>(piece.bytes)),
            DType::F64 => Arc::new(numbers::<types::Float64Type, f64>(piece.bytes)),
            _ => Arc::new(numbers::<types::Float32Type, f32>(piece.bytes)),
        };
        let number = Arc::clone(&self.number);
        Ok(Arc::new(FixedSizeListArray::try_new(number, self.dim, numbers, None)?))
    }
}

fn type_of(dtype: DType) -> DataType {
    match dtype {
        DType::F16 => DataType::Float16,
        DType::F64 => DataType::Float64,
        _ => DataType::Float32,
    }
}

fn numbers<T, N>(bytes: &[u8]) -> PrimitiveArray<T>
where
    T: types::ArrowPrimitiveType<Native = N>,
    N: Pod,
{
    PrimitiveArray::from_iter_values(bytemuck::pod_collect_to_vec::<u8, N>(bytes))
}

fn next_tokens(tokens: &mut RowTokens<'_>, count: usize) -> Result<ArrayRef> {
    let mut builder = arrow_array::builder::StringBuilder::new();
    for _ in 0..count {
        let Some((_, token)) = tokens.next()? else { break };
        builder.append_option(token);
    }
    let tokens: StringArray = builder.finish();
    Ok(Arc::new(tokens) as Arc<dyn Array>)
}

/// What went wrong, the system's own answer where there is one.
fn failed(error: ParquetError, path: &Path) -> Error {
    let source = match error {
        ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(source) => *source,
            Err(other) => io::Error::other(other),
        },
        other => io::Error::other(other),
    };
    Error::io("write", path, source)
}
