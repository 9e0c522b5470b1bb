//! What a conversion reads, and how it is to be understood.

use std::io;

use anyhow::Result;
use clap::{Args, ValueEnum};
use embmap::{DType, Duplicates, ImportFormat, ImportOptions, Source, TextEncoding};

use crate::cli::open::TableArgs;
use crate::cli::output::is_dash;

/// How a source is to be understood that is not opened in place.
#[derive(Args)]
pub(super) struct SourceArgs {
    /// The source's format, where its content does not tell
    #[arg(long, value_name = "FORMAT", help_heading = "Source")]
    #[arg(value_parser = |text: &str| text.parse::<ImportFormat>())]
    #[arg(
        help = "The source's format: emb, safetensors, gguf, npy, npz, word2vec, word2vec-binary, fasttext, glove, parquet, arrow or raw [default: by its content]"
    )]
    from: Option<ImportFormat>,
    /// The array of an .npz, or the file of a zip archive
    #[arg(long, value_name = "NAME", help_heading = "Source")]
    member: Option<String>,
    /// The column of vectors of a Parquet or Arrow file [default: the only one]
    #[arg(long, value_name = "NAME", help_heading = "Source")]
    column: Option<String>,
    /// The column of its tokens, or `none` [default: the only one of text]
    #[arg(long, value_name = "NAME", help_heading = "Source")]
    token_column: Option<String>,
    /// The number of columns of raw binary, or of text whose tokens hold spaces and numbers
    #[arg(long, value_name = "N", help_heading = "Source")]
    dim: Option<usize>,
    /// The type of raw elements [default: that of --dtype]
    #[arg(long, value_name = "DTYPE", help_heading = "Source")]
    raw_dtype: Option<DType>,
    /// What becomes of rows that have the token of another
    #[arg(long, value_name = "WHICH", default_value = "error", help_heading = "Source")]
    duplicates: DuplicatesArg,
    /// How bytes become characters
    #[arg(long, value_name = "ENCODING", default_value = "utf8", help_heading = "Source")]
    encoding: EncodingArg,
}

#[derive(Clone, Copy, ValueEnum)]
enum DuplicatesArg {
    /// They are an error that names both
    Error,
    /// The first row of each token is kept
    First,
    /// The last row of each token is kept
    Last,
}

#[derive(Clone, Copy, ValueEnum)]
enum EncodingArg {
    /// UTF-8; other bytes are an error that names the line
    Utf8,
    /// UTF-8, and U+FFFD for other bytes
    Lossy,
    /// ISO 8859-1: any byte is a character
    Latin1,
}

impl SourceArgs {
    fn options(&self, table: &TableArgs, stored: Option<DType>) -> ImportOptions {
        let duplicates = match self.duplicates {
            DuplicatesArg::Error => Duplicates::Error,
            DuplicatesArg::First => Duplicates::First,
            DuplicatesArg::Last => Duplicates::Last,
        };
        let encoding = match self.encoding {
            EncodingArg::Utf8 => TextEncoding::Utf8,
            EncodingArg::Lossy => TextEncoding::Lossy,
            EncodingArg::Latin1 => TextEncoding::Latin1,
        };
        let mut options = ImportOptions::new()
            .duplicates(duplicates)
            .encoding(encoding)
            .opening(table.unmapped_options());
        if let Some(threads) = table.threads() {
            options = options.threads(threads);
        }
        if let Some(format) = self.from {
            options = options.format(format);
        }
        if let Some(name) = &self.member {
            options = options.member(name);
        }
        if let Some(name) = &self.column {
            options = options.column(name);
        }
        if let Some(name) = &self.token_column {
            options = options.token_column(name);
        }
        if let Some(dim) = self.dim {
            options = options.dim(dim);
        }
        let is_raw = self.from == Some(ImportFormat::Raw);
        if let Some(dtype) = self.raw_dtype.or(stored.filter(|_| is_raw)) {
            options = options.dtype(dtype);
        }
        // More digits are worth reading where they are to be kept.
        if stored == Some(DType::F64) {
            options = options.text_dtype(DType::F64);
        }
        options
    }

    /// Opens the source; `-` is standard input. `stored` is the type that is to be stored.
    pub(super) fn open(&self, table: &TableArgs, stored: Option<DType>) -> Result<Source> {
        let options = self.options(table, stored);
        if is_dash(&table.path) {
            return Ok(options.read(io::stdin(), "standard input")?);
        }
        Ok(options.open(&table.path)?)
    }
}
