//! Tables in the formats of other tools.
//!
//! Rows are read in order and in pieces, never through a map, become the numbers that the
//! format holds, and go straight to the output, so that memory does not grow with the table.
//! A file appears whole or not at all.

mod beside;
mod format;
mod npy;
mod options;
mod output;
#[cfg(feature = "parquet")]
mod parquet;
mod pieces;
mod run;
mod safetensors;
#[cfg(test)]
#[cfg(unix)]
mod tests;
mod text;
mod tokens;
mod word2vec;

pub use format::ExportFormat;
pub use options::{ExportOptions, Exported, UnfitTokens};
pub use run::{export, export_to, export_with, plan_export};
