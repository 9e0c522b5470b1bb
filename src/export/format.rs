//! The formats that tables are written in, and what each of them can hold.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use crate::codec::Codec;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::table::Table;

/// A format that [`export()`](crate::export()) writes.
///
/// ```
/// use embmap::ExportFormat;
///
/// assert_eq!(ExportFormat::of_path("vectors.npy"), Some(ExportFormat::Npy));
/// assert_eq!("glove".parse(), Ok(ExportFormat::Glove));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ExportFormat {
    /// One tensor, bit for bit; tokens in a file beside it.
    Safetensors,
    /// One array of numpy, bit for bit, without tokens.
    Npy,
    /// The text of word2vec: a line with the numbers of rows and columns, then a line a row.
    Word2Vec,
    /// The binary form of word2vec: the same line, then each token with its numbers as f32.
    Word2VecBinary,
    /// The text of GloVe: as that of word2vec, without the first line.
    Glove,
    /// A column of vectors of one length, and one of tokens, in row groups of 32 MiB. Needs the
    /// feature `parquet`.
    Parquet,
}

impl ExportFormat {
    /// Every format.
    pub const ALL: [ExportFormat; 6] = [
        ExportFormat::Safetensors,
        ExportFormat::Npy,
        ExportFormat::Word2Vec,
        ExportFormat::Word2VecBinary,
        ExportFormat::Glove,
        ExportFormat::Parquet,
    ];

    /// The name that the command line uses: `safetensors`, `npy`, `word2vec`, ...
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            ExportFormat::Safetensors => "safetensors",
            ExportFormat::Npy => "npy",
            ExportFormat::Word2Vec => "word2vec",
            ExportFormat::Word2VecBinary => "word2vec-binary",
            ExportFormat::Glove => "glove",
            ExportFormat::Parquet => "parquet",
        }
    }

    /// The format that a file's name stands for, or `None` where it is the name of none: a
    /// `.txt` may be of word2vec or of GloVe.
    ///
    /// `.safetensors`, `.npy`, `.parquet`, `.w2v` and `.vec` (word2vec text), `.bin` (word2vec
    /// binary) and `.glove`; a name that starts with `glove` and ends in `.txt` is GloVe's.
    #[must_use]
    pub fn of_path(path: impl AsRef<Path>) -> Option<Self> {
        let name = path.as_ref().file_name()?.to_string_lossy().to_ascii_lowercase();
        let (stem, extension) = name.rsplit_once('.')?;
        Some(match extension {
            "safetensors" => ExportFormat::Safetensors,
            "npy" => ExportFormat::Npy,
            "parquet" => ExportFormat::Parquet,
            "w2v" | "vec" => ExportFormat::Word2Vec,
            "bin" => ExportFormat::Word2VecBinary,
            "glove" => ExportFormat::Glove,
            "txt" if stem.starts_with("glove") => ExportFormat::Glove,
            _ => return None,
        })
    }

    /// True where rows are lines of text.
    pub(super) const fn is_text(self) -> bool {
        matches!(self, ExportFormat::Word2Vec | ExportFormat::Glove)
    }

    /// True where each row is written behind its token.
    pub(super) const fn names_rows(self) -> bool {
        self.is_text() || matches!(self, ExportFormat::Word2VecBinary)
    }

    /// The types of numbers that a file of this format can hold as they are.
    fn holds(self, dtype: DType) -> bool {
        match self {
            ExportFormat::Safetensors => {
                dtype.block_elements() == 1 && super::safetensors::name_of(dtype).is_some()
            }
            ExportFormat::Npy => {
                matches!(dtype, DType::F32 | DType::F16 | DType::F64 | DType::I8 | DType::U8)
            }
            ExportFormat::Parquet => matches!(dtype, DType::F32 | DType::F16 | DType::F64),
            ExportFormat::Word2VecBinary => dtype == DType::F32,
            // A number of text has no type. The narrower ones are exact as f32.
            ExportFormat::Word2Vec | ExportFormat::Glove => {
                matches!(dtype, DType::F32 | DType::F16 | DType::BF16 | DType::F64)
            }
        }
    }

    /// The types that [`holds`](Self::holds) speaks of, for messages.
    const fn held(self) -> &'static str {
        match self {
            ExportFormat::Safetensors => "f32, f16, bf16, f64, 8-bit floats, i8 and u8",
            ExportFormat::Npy => "f32, f16, f64, i8 and u8",
            ExportFormat::Parquet => "f32, f16 and f64",
            ExportFormat::Word2VecBinary => "f32",
            ExportFormat::Word2Vec | ExportFormat::Glove => "f32, f16, bf16 and f64",
        }
    }

    /// The type of the numbers that a table is written as: `asked`, or its own, or a wider one
    /// in a format that has no other. Nothing is rounded unless it was asked for.
    pub(super) fn numbers_of(self, table: &Table, asked: Option<DType>) -> Result<DType> {
        let stored = table.dtype();
        let plain = table.codec() == Codec::Plain && stored.block_elements() == 1;
        let refuse = |reason| Err(Error::InvalidOption { option: "dtype", reason });
        let wanted = match asked {
            Some(dtype) => {
                let decoded = matches!(dtype, DType::F32 | DType::F16 | DType::BF16 | DType::F64);
                if !decoded && (dtype != stored || !plain) {
                    return refuse(format!(
                        "exports hold plain numbers, and {dtype} was asked for of a table of \
                         {stored} ({}); give f32, f16, bf16 or f64",
                        table.codec()
                    ));
                }
                dtype
            }
            None if !plain => {
                return refuse(format!(
                    "the table's rows are quantized ({stored}, {}), and {self} holds plain \
                     numbers; decode them with --dtype f32 (`ExportOptions::dtype`)",
                    table.codec()
                ));
            }
            // f32 holds each number of these, and the format knows nothing narrower.
            None if self.names_rows() && stored != DType::F64 => DType::F32,
            None => stored,
        };
        if self.holds(wanted) {
            return Ok(wanted);
        }
        refuse(format!(
            "{self} holds {}, and the rows are {wanted}; round them with --dtype f32 \
             (`ExportOptions::dtype`), or export to another format",
            self.held()
        ))
    }
}

impl fmt::Display for ExportFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ExportFormat {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = ExportFormat::ALL.into_iter().find(|format| format.name() == name);
        found.ok_or_else(|| {
            let names: Vec<_> = ExportFormat::ALL.iter().map(|format| format.name()).collect();
            format!("{name:?} is no format, expected one of {}", names.join(", "))
        })
    }
}
