//! What several tests need: numbers that repeat nowhere, small files, a header sealed again.

#![allow(dead_code, reason = "no test uses all of it")]

use std::path::Path;

use embmap::format::{FIELDS, Field, HEADER_BYTES};
use embmap::{Codec, DType, ScaleType, WriteOptions};
use xxhash_rust::xxh3::xxh3_64;

/// A generator with a period of 2^64 (`SplitMix64`), so that no two rows are alike.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Encoded elements of a dtype: every bit pattern may come, NaNs included.
    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        let words = (0..length.div_ceil(8)).flat_map(|_| self.next().to_le_bytes());
        words.take(length).collect()
    }
}

/// The file id of every file that tests write.
pub(crate) const FILE_ID: [u8; 16] = *b"embmap test file";

/// Writes a table of random bits and gives its rows, encoded and dense.
pub(crate) fn write_random(
    path: &Path,
    vocab: u64,
    dim: usize,
    dtype: DType,
    align: Option<u64>,
) -> Vec<u8> {
    let rows = Random(vocab ^ dim as u64).bytes(vocab as usize * dim * dtype.block_bytes());
    let mut options = WriteOptions::new(dim, dtype).file_id(FILE_ID).replace(true);
    if let Some(align) = align {
        options = options.align(align);
    }
    let mut writer = options.create(path).unwrap();
    writer.push_encoded(&rows).unwrap();
    writer.finish().unwrap();
    rows
}

/// The bytes of one row with its scales and biases.
pub(crate) fn row_bytes(dtype: DType, codec: Codec, dim: usize) -> usize {
    let values = dtype.bytes_of(dim as u64).unwrap() as usize;
    let Codec::Scaled(scaling) = codec else { return values };
    let each = scaling.scale.size() + scaling.bias.map_or(0, ScaleType::size);
    values + dim / scaling.block as usize * each
}

/// A small file with every section: 5 rows of 3 f32, 6 tokens.
pub(crate) fn small_file(directory: &Path) -> Vec<u8> {
    let path = directory.join("small.emb");
    let mut writer = WriteOptions::new(3, DType::F32)
        .file_id(FILE_ID)
        .align(64)
        .metadata(r#"{"licence":"CC0"}"#)
        .tokenizer(r#"{"version":"1.0"}"#)
        .norms(true)
        .replace(true)
        .create(&path)
        .unwrap();
    for token in [Some("cat"), None, Some(""), Some("cat"), Some("Ġçà"), Some("beyond")] {
        writer.push_token(token).unwrap();
    }
    for row in 0u8..5 {
        let row = f32::from(row);
        writer.push(&[row, row + 0.25, -row]).unwrap();
    }
    writer.finish().unwrap();
    std::fs::read(path).unwrap()
}

/// A header field by its name in the specification.
pub(crate) fn field(name: &str) -> Field {
    *FIELDS.iter().find(|field| field.name == name).unwrap_or_else(|| panic!("no field {name}"))
}

/// Makes the header's sum right again after a field was changed.
pub(crate) fn reseal(file: &mut [u8]) {
    let sum = field("header_sum").range();
    file[sum.clone()].fill(0);
    let sealed = xxh3_64(&file[..HEADER_BYTES]);
    file[sum].copy_from_slice(&sealed.to_le_bytes());
}

/// A tensor of a checkpoint: name, dtype as the format has it, shape, bytes.
pub(crate) type Tensor<'a> = (&'a str, &'a str, &'a [u64], &'a [u8]);

/// Writes a safetensors file of these tensors.
pub(crate) fn write_safetensors(path: &Path, tensors: &[Tensor<'_>]) {
    let (mut header, mut at) = (serde_json::Map::new(), 0);
    for (name, dtype, shape, bytes) in tensors {
        let end = at + bytes.len();
        let entry =
            serde_json::json!({ "dtype": dtype, "shape": shape, "data_offsets": [at, end] });
        header.insert((*name).to_owned(), entry);
        at = end;
    }
    let header = serde_json::Value::Object(header).to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    for (.., bytes) in tensors {
        file.extend(*bytes);
    }
    std::fs::write(path, file).unwrap();
}

/// Writes a GGUF file of one tensor of `vocab` rows. `kind` is ggml's number of its type.
pub(crate) fn write_gguf(path: &Path, name: &str, kind: u32, shape: [u64; 2], rows: &[u8]) {
    let [vocab, dim] = shape;
    let mut file = b"GGUF".to_vec();
    file.extend(3u32.to_le_bytes());
    file.extend([1u64, 0, name.len() as u64].map(u64::to_le_bytes).as_flattened());
    file.extend(name.as_bytes());
    file.extend(2u32.to_le_bytes());
    file.extend([dim, vocab].map(u64::to_le_bytes).as_flattened());
    file.extend(kind.to_le_bytes());
    file.extend(0u64.to_le_bytes());
    file.resize(file.len().next_multiple_of(32), 0);
    file.extend(rows);
    std::fs::write(path, file).unwrap();
}
