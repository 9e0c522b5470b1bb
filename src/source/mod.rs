//! Foreign formats: what lies where, in place.

mod beside;
mod checkpoint;
mod config;
mod find;
mod form;
mod gguf;
mod header;
mod json;
mod kind;
mod model_dir;
mod names;
mod npy;
mod npz;
mod pieces;
mod quantization;
mod resolve;
mod safetensors;
mod scaled;
mod shard_index;
mod static_model;
mod tensors;

mod tokenizer_json;
mod vocabulary;
mod zip;

use std::path::{Path, PathBuf};

use crate::codec::Codec;
use crate::dtype::DType;
use crate::error::{Error, Place, Result};
use crate::layout::Layout;
use crate::storage::StoredFile;

pub(crate) use find::{from_stored, list_tensors, open};
pub use npy::NpyHeader;
pub(crate) use static_model::StaticRules;
#[cfg(feature = "text")]
pub(crate) use static_model::TextLength;
pub(crate) use vocabulary::Vocabulary;

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

/// A whole small file, refused before anything is allocated where it is too long.
fn read_whole(path: &Path, format: &'static str, most: u64) -> Result<Vec<u8>> {
    let file = StoredFile::open(path)?;
    if file.bytes() > most {
        let reason = format!("the file has {} bytes, expected at most {most}", file.bytes());
        let place = Place::Offset(most);
        return Err(Error::Foreign { path: path.to_path_buf(), format, place, reason });
    }
    file.bytes_at(0, file.bytes()).map(std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests;
