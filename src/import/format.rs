//! The formats that a table can come in.

use std::fmt;
use std::str::FromStr;

/// A format that [`ImportOptions`](crate::ImportOptions) reads, to be named where a file's
/// content does not tell.
///
/// ```
/// use embmap::ImportFormat;
///
/// assert_eq!("glove".parse::<ImportFormat>()?, ImportFormat::Glove);
/// assert_eq!(ImportFormat::Word2VecBinary.name(), "word2vec-binary");
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ImportFormat {
    /// An `.emb` file.
    Emb,
    /// A safetensors file.
    Safetensors,
    /// A GGUF file.
    Gguf,
    /// An array of numpy.
    Npy,
    /// An array in an archive of numpy, stored or deflated.
    Npz,
    /// The text of word2vec, which fastText's `.vec` is too: a line with the numbers of rows and
    /// columns, then a line a row.
    Word2Vec,
    /// The binary form of word2vec: the same line, then each token with its numbers as f32.
    Word2VecBinary,
    /// The text of `GloVe`: as that of word2vec, without the first line.
    Glove,
    /// A column of vectors of a Parquet file.
    Parquet,
    /// A column of vectors of an Arrow file or stream (Feather version 2).
    Arrow,
    /// Rows one after the other and nothing else.
    Raw,
}

impl ImportFormat {
    /// Every format.
    pub const ALL: [ImportFormat; 11] = [
        ImportFormat::Emb,
        ImportFormat::Safetensors,
        ImportFormat::Gguf,
        ImportFormat::Npy,
        ImportFormat::Npz,
        ImportFormat::Word2Vec,
        ImportFormat::Word2VecBinary,
        ImportFormat::Glove,
        ImportFormat::Parquet,
        ImportFormat::Arrow,
        ImportFormat::Raw,
    ];

    /// The name that the command line uses: `npy`, `word2vec`, `glove`, ...
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            ImportFormat::Emb => "emb",
            ImportFormat::Safetensors => "safetensors",
            ImportFormat::Gguf => "gguf",
            ImportFormat::Npy => "npy",
            ImportFormat::Npz => "npz",
            ImportFormat::Word2Vec => "word2vec",
            ImportFormat::Word2VecBinary => "word2vec-binary",
            ImportFormat::Glove => "glove",
            ImportFormat::Parquet => "parquet",
            ImportFormat::Arrow => "arrow",
            ImportFormat::Raw => "raw",
        }
    }
}

impl fmt::Display for ImportFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ImportFormat {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        // fastText's vectors are word2vec text.
        let name = if name == "fasttext" { "word2vec" } else { name };
        let found = ImportFormat::ALL.into_iter().find(|format| format.name() == name);
        found.ok_or_else(|| {
            let names = ImportFormat::ALL.map(ImportFormat::name).join(", ");
            format!("{name:?} is no format, expected one of {names}")
        })
    }
}
