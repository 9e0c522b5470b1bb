//! GGUF files, in place: what llama.cpp and its like read.

mod cursor;
mod files;
mod header;
mod tokens;
mod types;

pub(super) use files::{GgufFiles, is_first_of_all};
pub(super) use header::{FORMAT, looks_like};
pub(super) use tokens::read_tokens;
#[cfg(test)]
pub(super) use types::TYPES;
