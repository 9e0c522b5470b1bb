//! Tests over whole files and directories.

mod arrays;
mod gguf;
mod headers;
mod models;
mod pieces;
mod scaled;
#[cfg(feature = "text")]
mod tokenizers;

use serde_json::{Map, Value, json};

use crate::storage::StoredFile;

/// A safetensors file: the length, the header, then as many bytes of data, which count up.
fn file_of(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend((0..data).map(|i| u8::try_from(i % 251).unwrap()));
    bytes
}

/// A safetensors file of tensors that lie one after the other.
fn tensors(list: &[(&str, &str, &[u64])]) -> Vec<u8> {
    let mut header = Map::new();
    let mut at = 0;
    for (name, dtype, shape) in list {
        let bits =
            super::safetensors::TYPES.iter().find(|known| known.written == *dtype).unwrap().bits;
        let end = at + shape.iter().product::<u64>() * bits / 8;
        let entry = json!({ "dtype": dtype, "shape": shape, "data_offsets": [at, end] });
        header.insert((*name).to_owned(), entry);
        at = end;
    }
    file_of(&Value::Object(header).to_string(), usize::try_from(at).unwrap())
}

fn stored(bytes: &[u8]) -> StoredFile {
    StoredFile::from_bytes(bytes, "test.safetensors").unwrap()
}
