//! What is exported, and what came of it.

use std::ops::Range;
use std::path::PathBuf;

use super::format::ExportFormat;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::publish::Operations;
use crate::table::Table;

/// The tensor's name in a safetensors file, where nothing was said: that of PyTorch's
/// `nn.Embedding`, and of sentence-transformers' `StaticEmbedding`.
pub(super) const TENSOR: &str = "embedding.weight";

/// What becomes of rows whose token the format cannot hold: absent and empty tokens, white
/// space in word2vec's formats, line breaks in GloVe's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum UnfitTokens {
    /// The export fails before anything is written, and the error names the first of them.
    #[default]
    Error,
    /// Such rows are left out; the others keep their order.
    Skip,
    /// White space becomes `_`; an absent or empty token becomes `<7>`, of row 7. The result
    /// may be a token that another row has.
    Replace,
}

/// What is exported, and how.
///
/// ```
/// use embmap::{ExportFormat, ExportOptions, Table, export};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("words.txt");
/// let table = Table::load("fixtures/minilm-2k")?;
/// let options = ExportOptions::new().format(ExportFormat::Word2Vec).rows(1811..1813);
/// export(&table, &path, &options)?;
/// let text = std::fs::read_to_string(&path)?;
/// assert!(text.starts_with("2 384\ncat 0.03253174 -0.03286743 "));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct ExportOptions {
    pub(super) format: Option<ExportFormat>,
    pub(super) dtype: Option<DType>,
    pub(super) rows: Option<Range<u64>>,
    pub(super) tensor: Option<String>,
    pub(super) column: Option<String>,
    pub(super) token_column: Option<String>,
    pub(super) no_tokens: bool,
    pub(super) unfit_tokens: UnfitTokens,
    pub(super) replace: bool,
    pub(super) operations: Operations,
}

impl ExportOptions {
    /// The defaults: the format of the file's name, every row, no number rounded, nothing
    /// replaced.
    pub fn new() -> Self {
        ExportOptions::default()
    }

    /// The format, where it is not that of the file's name.
    pub fn format(mut self, format: ExportFormat) -> Self {
        self.format = Some(format);
        self
    }

    /// The type of the numbers: `f32`, `f16`, `bf16` or `f64`, to which each is rounded once.
    ///
    /// By default they are as the table stores them, and an error where the format has no such
    /// numbers or the rows are quantized. The formats of word2vec and GloVe, which have no
    /// narrower type, hold what is narrower as f32, without loss.
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.dtype = Some(dtype);
        self
    }

    /// The rows of this range alone, with their tokens; they count from 0 again.
    pub fn rows(mut self, rows: Range<u64>) -> Self {
        self.rows = Some(rows);
        self
    }

    /// The name of the tensor in a safetensors file; `embedding.weight` unless said.
    pub fn tensor(mut self, name: impl Into<String>) -> Self {
        self.tensor = Some(name.into());
        self
    }

    /// The name of the column of vectors in a Parquet file; `vector` unless said.
    pub fn column(mut self, name: impl Into<String>) -> Self {
        self.column = Some(name.into());
        self
    }

    /// The name of the column of tokens in a Parquet file; `token` unless said.
    pub fn token_column(mut self, name: impl Into<String>) -> Self {
        self.token_column = Some(name.into());
        self
    }

    /// Whether tokens are exported where rows can do without: beside a safetensors file, and as
    /// a column of a Parquet file. They are unless said.
    pub fn tokens(mut self, yes: bool) -> Self {
        self.no_tokens = !yes;
        self
    }

    /// What becomes of rows whose token the format cannot hold; an error unless said.
    pub fn unfit_tokens(mut self, what: UnfitTokens) -> Self {
        self.unfit_tokens = what;
        self
    }

    /// Replaces files that are there.
    pub fn replace(mut self, yes: bool) -> Self {
        self.replace = yes;
        self
    }

    /// The rows to take from a table.
    pub(super) fn rows_of(&self, table: &Table) -> Result<Range<u64>> {
        let vocab = table.vocab();
        match &self.rows {
            None => Ok(0..vocab),
            Some(rows) if rows.start <= rows.end && rows.end <= vocab => Ok(rows.clone()),
            Some(Range { start, end }) => Err(Error::InvalidOption {
                option: "rows",
                reason: format!("expected a range within 0:{vocab}, found {start}:{end}"),
            }),
        }
    }
}

/// What an export wrote, or would write.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exported {
    /// The format.
    pub format: ExportFormat,
    /// The rows that were written.
    pub vocab: u64,
    /// The elements of a row.
    pub dim: usize,
    /// The type of the numbers; of text, the narrowest that holds each.
    pub dtype: DType,
    /// The bytes of the file of rows. Before it is written `None`, unless they follow from the
    /// table's shape.
    pub file_bytes: Option<u64>,
    /// The tokens that were written.
    pub tokens: u64,
    /// The file of tokens beside that of the rows.
    pub tokens_path: Option<PathBuf>,
    /// The rows that were left out, because of [`UnfitTokens::Skip`].
    pub skipped: u64,
    /// The tokens that were changed, because of [`UnfitTokens::Replace`].
    pub replaced: u64,
}
