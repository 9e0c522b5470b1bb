//! What a table is made of, and how its bytes are reached.

use std::path::PathBuf;

/// What a table is made of and where it lies; what `embmap info` shows.
///
/// ```
/// # fn main() -> Result<(), embmap::Error> {
/// let table = embmap::Table::load("fixtures/minilm-2k")?;
/// assert_eq!(table.info().format, "safetensors");
/// assert_eq!(table.info().tensor.as_deref(), Some("embeddings.word_embeddings.weight"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TableInfo {
    /// The format: `emb`, `safetensors`, `gguf`, `npy` or `npz`.
    pub format: &'static str,
    /// The format's version, major and minor, where it has one.
    pub version: Option<(u16, u16)>,
    /// The path that was asked for.
    pub path: PathBuf,
    /// The files that hold rows.
    pub files: Vec<PathBuf>,
    /// Their sizes in bytes, added up.
    pub file_bytes: u64,
    /// The tensor that the rows are, in a checkpoint; of a table in pieces the pattern, of an
    /// archive the name of the array.
    pub tensor: Option<String>,
    /// The number of tensors that the rows lie in; 1 but for a table in pieces.
    pub pieces: usize,
    /// The tensor or tensors of the scales, where they lie apart from the values.
    pub scales: Option<String>,
    /// The tensor or tensors of the biases, where they lie apart from the values.
    pub biases: Option<String>,
    /// The id of an `.emb` file.
    pub file_id: Option<[u8; 16]>,
    /// True where block sums are there for `verify`.
    pub checksums: bool,
    /// The rows that lie first, in an order of their own; 0 where all lie by their ids.
    pub placed_rows: u64,
    /// What follows the rows of an `.emb` file.
    pub sections: Vec<SectionInfo>,
    /// The file of the checkpoint that the tokens come from.
    pub tokens_from: Option<PathBuf>,
    /// True where there is a tokenizer.
    pub tokenizer: bool,
}

/// A section of an `.emb` file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SectionInfo {
    /// Its name in the specification.
    pub name: &'static str,
    /// Its code.
    pub kind: u32,
    /// Where it starts in the file.
    pub offset: u64,
    /// Its length in bytes.
    pub bytes: u64,
}

/// How a table's bytes are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Access {
    /// Mapped: rows are zero-copy slices of the page cache.
    Map,
    /// Copied into owned, aligned memory.
    Memory,
    /// Read at offsets when asked for. Every read can fail, none can raise a signal.
    Read,
    /// Read past the page cache, many rows at a time: for tables that never fit in memory, on
    /// devices that are faster than the page cache. Every read can fail, none can raise a
    /// signal. What is read is not kept, so that a row read twice costs two reads.
    Direct,
}

impl Access {
    /// The name that `info` shows: `map`, `memory`, `read`, `direct`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Access::Map => "map",
            Access::Memory => "memory",
            Access::Read => "read",
            Access::Direct => "direct",
        }
    }
}
