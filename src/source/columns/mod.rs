//! Tables in columns: Parquet and Arrow's IPC format. One column holds the vectors, as lists of
//! numbers, and another one the tokens.

mod arrow;
mod choose;
mod parquet;
mod vectors;

pub(crate) use arrow::ArrowRows;
pub(crate) use choose::ColumnNames;
pub(crate) use parquet::ParquetRows;

#[cfg(test)]
mod tests;
