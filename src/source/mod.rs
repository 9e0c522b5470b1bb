//! Foreign formats: what lies where, in place.

mod beside;
#[cfg(feature = "import")]
mod bytes;
mod checkpoint;
#[cfg(feature = "parquet")]
mod columns;
mod config;
mod find;
mod form;
mod gguf;
mod header;
mod hub;
mod json;
mod kind;
#[cfg(any(feature = "import", feature = "text"))]
mod model2vec;
mod model_dir;
mod names;
pub(crate) mod npy;
pub(crate) mod npz;
#[cfg(feature = "import")]
mod packed;
mod pieces;
mod quantization;
#[cfg(feature = "import")]
mod raw;
mod resolve;
mod safetensors;
mod scaled;
mod shard_index;
mod static_model;
#[cfg(feature = "import")]
mod stream;
mod tensors;
#[cfg(feature = "import")]
mod text;
mod tokenizer_json;
mod vocabulary;
mod whole;
#[cfg(feature = "import")]
pub(crate) mod word2vec;
pub(crate) mod zip;

use std::path::PathBuf;

use crate::codec::Codec;
use crate::dtype::DType;
use crate::layout::Layout;
use crate::storage::StoredFile;

#[cfg(feature = "parquet")]
pub(crate) use columns::{ArrowRows, ColumnNames, ParquetRows};
pub(crate) use find::{from_stored, list_tensors, open};
pub(crate) use hub::locate;
#[cfg(feature = "import")]
pub(crate) use json::shortened;
#[cfg(any(feature = "import", feature = "text"))]
pub(crate) use model2vec::{Mapped, find_mapped};
pub use npy::NpyHeader;
pub(crate) use static_model::StaticRules;
#[cfg(feature = "text")]
pub(crate) use static_model::TextLength;
#[cfg(feature = "import")]
pub use text::TextEncoding;
pub(crate) use vocabulary::Vocabulary;
#[cfg(any(feature = "import", feature = "text"))]
pub(crate) use whole::read_tokenizer;
use whole::read_whole;
#[cfg(feature = "import")]
pub(crate) use {
    bytes::Bytes,
    kind::{HEAD, Kind, word2vec_header},
    model2vec::{FORMAT as MODEL2VEC, Numbers},
    npy::Transposed,
    packed::{gunzip, member, unzstd},
    raw::RawRows,
    stream::{BATCH_BYTES, Batch, RowStream, StreamForm},
    text::{LineForm, columns},
    word2vec::BinaryWords,
    zip::Packing,
};

/// A table found in a foreign format, described but not read.
pub(crate) struct FoundTable {
    /// The format's name as `info` shows it: `safetensors`, `gguf`.
    pub(crate) format: &'static str,
    /// The files that the layout speaks of, open.
    pub(crate) files: Vec<StoredFile>,
    /// The name of the tensor that the rows are, or the pattern of its pieces; of an archive
    /// the array. `None` where the file holds nothing else.
    pub(crate) tensor: Option<String>,
    /// The number of tensors that the rows lie in.
    pub(crate) pieces: usize,
    /// The name, or the pattern, of the tensors that hold the scales.
    pub(crate) scales: Option<String>,
    /// The name, or the pattern, of the tensors that hold the biases.
    pub(crate) biases: Option<String>,
    pub(crate) dtype: DType,
    pub(crate) codec: Codec,
    pub(crate) layout: Layout,
    /// False where row `id` is not that of token `id`, whatever lies beside it.
    pub(crate) rows_are_tokens: bool,
    /// Where the tokens come from, if from anywhere; not read yet.
    pub(crate) tokens: Option<PathBuf>,
    /// The tokenizer.json, if there is one; not read yet.
    pub(crate) tokenizer: Option<PathBuf>,
}

/// What a caller may ask of a foreign format.
#[derive(Debug, Clone, Default)]
pub(crate) struct SourceOptions {
    /// The tensor to read, instead of the one that looks like the input embedding.
    pub(crate) tensor: Option<String>,
    /// The scales of a quantized tensor, where names do not tell them.
    pub(crate) scales: Option<String>,
    /// Its biases.
    pub(crate) biases: Option<String>,
    /// Links may lead out of the model directory.
    pub(crate) follow_links: bool,
    /// Rows of model2vec are read though a mapping or weights make those of tokens.
    pub(crate) static_model: bool,
}

/// A tensor of a checkpoint, as `embmap info --tensors` lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TensorInfo {
    /// Its name, as the file has it.
    pub name: String,
    /// Its element type in lower case: `f32`, `bf16`, `f8_e4m3`, `u32`, ...
    pub dtype: String,
    /// Its dimensions, outermost first.
    pub shape: Vec<u64>,
    /// The bytes of its data.
    pub bytes: u64,
    /// The file that holds it.
    pub file: PathBuf,
    /// True for the tensor that is opened where none is named.
    pub picked: bool,
    /// True where it can be opened as a table: two dimensions and a dtype that embmap reads.
    pub candidate: bool,
}

/// True where the first nine bytes of a file are those of a format that is read in place.
pub(crate) fn is_known(head: &[u8]) -> bool {
    safetensors::looks_like(head)
        || gguf::looks_like(head)
        || npy::looks_like(head)
        || zip::looks_like(head)
}

#[cfg(test)]
mod tests;
