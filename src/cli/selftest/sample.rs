//! Small tables to try things on, and numbers to choose cases by.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use embmap::format::{FIELDS, HEADER_BYTES};
use embmap::{DType, NpyHeader, Table, WriteOptions};
use xxhash_rust::xxh3::xxh3_64;

/// The rows of the small table.
pub(super) const VOCAB: u64 = 400;

/// The columns of all tables.
pub(super) const DIM: usize = 16;

/// A folder with a small table, and its bytes.
pub(super) struct Sample {
    pub(super) folder: PathBuf,
    /// How often a conversion is killed.
    pub(super) kills: u32,
    /// The table: rows, tokens, norms, metadata.
    pub(super) emb: Vec<u8>,
    pub(super) safetensors: Vec<u8>,
    pub(super) npy: Vec<u8>,
}

impl Sample {
    pub(super) fn write(folder: &Path, kills: u32) -> Result<Self> {
        let path = folder.join("sample.emb");
        write_table(&path, VOCAB, 1)?;
        let data = rows(VOCAB, 1);
        let header = format!(
            r#"{{"wte.weight":{{"dtype":"F32","shape":[{VOCAB},{DIM}],"data_offsets":[0,{}]}}}}"#,
            data.len()
        );
        let mut npy = Vec::new();
        NpyHeader::of_rows(DType::F32, VOCAB, DIM as u64).write_to(&mut npy)?;
        npy.extend_from_slice(&data);
        Ok(Sample {
            folder: folder.to_path_buf(),
            kills,
            emb: fs::read(&path)?,
            safetensors: safetensors(&header, &data),
            npy,
        })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// A safetensors file with a header as it is given.
pub(super) fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

/// Writes a table of random rows, with tokens, norms and metadata.
pub(super) fn write_table(path: &Path, vocab: u64, seed: u64) -> Result<()> {
    let options = WriteOptions::new(DIM, DType::F32).metadata("{}").norms(true).replace(true);
    let mut writer = options.create(path)?;
    writer.push_encoded(&rows(vocab, seed))?;
    for id in 0..vocab {
        writer.push_token(Some(&format!("token {id}")))?;
    }
    writer.finish()?;
    Ok(())
}

/// The rows of such a table, encoded: numbers between 1 and 2.
pub(super) fn rows(vocab: u64, seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let count = vocab * DIM as u64;
    let number = |bits: u64| (0x3f80_0000 | bits).to_le_bytes();
    (0..count).flat_map(|_| number(random.below(1 << 23)).into_iter().take(4)).collect()
}

/// True where a table holds the rows of `seed`.
pub(super) fn holds(table: &Table, vocab: u64, seed: u64) -> bool {
    let expected = rows(vocab, seed);
    let mut found = vec![0; expected.len()];
    let ids: Vec<u64> = (0..vocab).collect();
    table.vocab() == vocab && table.gather_bytes_into(&ids, &mut found).is_ok() && found == expected
}

/// Overwrites a field of the header, little-endian, and makes the header's sum right again.
pub(super) fn set(file: &mut [u8], name: &str, value: u64) -> Result<()> {
    let field = FIELDS.iter().find(|field| field.name == name).context("no such field")?;
    let bytes = field.bytes.min(8);
    file[field.offset..field.offset + bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
    seal(file)
}

/// Makes the header's sum right.
pub(super) fn seal(file: &mut [u8]) -> Result<()> {
    let sum = FIELDS.last().context("no fields")?.range();
    file[sum.clone()].fill(0);
    let sealed = xxh3_64(&file[..HEADER_BYTES]);
    file[sum].copy_from_slice(&sealed.to_le_bytes());
    Ok(())
}

/// A generator with a period of 2^64 (`SplitMix64`): the same cases in every run.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(super) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }
}
