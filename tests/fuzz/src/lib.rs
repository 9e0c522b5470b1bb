//! The fuzz targets, one function a format. `run.sh` runs them.
//!
//! What is done with an input is shared with `tests/hostile.rs`; here the crates that others
//! read the same files with have their say.

mod compact;
mod import;
mod inputs;
mod panics;
mod peers;
mod place;
mod uses;

pub use inputs_of::*;

/// The compact form of an `.emb` file, for a corpus.
pub fn compact_emb(file: &[u8]) -> Vec<u8> {
    compact::of(file, compact::ALL)
}

mod inputs_of {
    use super::{import as imports, inputs, panics, peers};

    /// An `.emb` file.
    pub fn emb(input: &[u8]) {
        inputs::emb(input);
    }

    /// A safetensors file.
    pub fn safetensors(input: &[u8]) {
        let Some(file) = inputs::safetensors_file(input) else { return };
        let table = inputs::used(&file);
        peers::safetensors(&file, &table);
    }

    /// An array of numpy.
    pub fn npy(input: &[u8]) {
        let table = inputs::used(input);
        peers::npy(input, &table);
    }

    /// A zip archive of arrays.
    pub fn npz(input: &[u8]) {
        let table = inputs::used(input);
        peers::npz(input, &table);
    }

    /// A GGUF file.
    pub fn gguf(input: &[u8]) {
        _ = inputs::used(input);
    }

    /// Vectors as text or binary, columns of Parquet.
    pub fn import(input: &[u8]) {
        panics::only_uncaught(|| imports::import(input));
    }

    /// The index of a model in shards.
    pub fn shard_index(input: &[u8]) {
        inputs::shard_index(input);
    }

    /// A tokenizer, a vocabulary or a configuration beside a model.
    pub fn tokenizer_json(input: &[u8]) {
        inputs::tokenizer_json(input);
    }
}
