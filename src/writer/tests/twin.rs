//! A second writer, made from the rules of the format alone, that must give the same bytes.

use std::collections::BTreeMap;

use proptest::prelude::*;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::*;

/// A whole table, in memory.
#[derive(Debug, Clone)]
pub(super) struct Twin {
    pub(super) dim: usize,
    pub(super) dtype: DType,
    pub(super) align: Option<usize>,
    pub(super) file_id: [u8; 16],
    pub(super) rows: Vec<u8>,
    pub(super) tokens: Option<Vec<Option<String>>>,
    pub(super) tokenizer: Option<String>,
    pub(super) metadata: Option<String>,
}

impl Twin {
    fn row_bytes(&self) -> usize {
        let size = match self.dtype {
            DType::F16 | DType::BF16 => 2,
            DType::F32 => 4,
            DType::F64 => 8,
            other => panic!("{other}"),
        };
        self.dim * size
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let stride = self.row_bytes().next_multiple_of(self.align.unwrap_or(1));
        let mut file = vec![0; 65_536];
        for row in self.rows.chunks(self.row_bytes()) {
            file.extend_from_slice(row);
            file.resize(file.len() + stride - row.len(), 0);
        }
        let rows_bytes = file.len() - 65_536;

        let seed = xxh3_64(&self.file_id);
        let mut directory = Vec::new();
        let mut section = |file: &mut Vec<u8>, kind: u32, bytes: &[u8]| {
            file.resize(file.len().next_multiple_of(4096), 0);
            directory.extend(kind.to_le_bytes());
            directory.extend(0u32.to_le_bytes());
            directory.extend((file.len() as u64).to_le_bytes());
            directory.extend((bytes.len() as u64).to_le_bytes());
            directory.extend(xxh3_64_with_seed(bytes, seed).to_le_bytes());
            file.extend_from_slice(bytes);
        };
        if let Some(tokens) = &self.tokens {
            let (mut offsets, mut bytes) = (vec![0; 8], Vec::new());
            let mut presence = vec![0; tokens.len().div_ceil(8)];
            for (id, token) in tokens.iter().enumerate() {
                bytes.extend(token.iter().flat_map(|token| token.bytes()));
                offsets.extend((bytes.len() as u64).to_le_bytes());
                presence[id / 8] |= u8::from(token.is_some()) << (id % 8);
            }
            section(&mut file, 1, &offsets);
            section(&mut file, 2, &bytes);
            section(&mut file, 3, &presence);
            section(&mut file, 4, &index(tokens));
        }
        if let Some(json) = &self.tokenizer {
            section(&mut file, 5, json.as_bytes());
        }
        if let Some(json) = &self.metadata {
            section(&mut file, 6, json.as_bytes());
        }
        file.resize(file.len().next_multiple_of(4096), 0);
        let mut sums = Vec::new();
        for (block, bytes) in (0u64..).zip(file[65_536..].chunks(65_536)) {
            sums.extend(xxh3_64_with_seed(bytes, seed.wrapping_add(block)).to_le_bytes());
        }
        section(&mut file, 9, &sums);

        file.resize(file.len().next_multiple_of(4096), 0);
        let file_bytes = file.len() as u64 + 64;
        file.extend(*b"\x76\xba\xb2\xbd\xf2\xf5\xe5\xf5");
        file.extend(file_bytes.to_le_bytes());
        file.extend(self.file_id);
        file.extend([0; 32]);

        let vocab = (self.rows.len() / self.row_bytes()) as u64;
        let dtype = match self.dtype {
            DType::F32 => 1u32,
            DType::F16 => 2,
            DType::BF16 => 3,
            DType::F64 => 4,
            other => panic!("{other}"),
        };
        let mut put = |offset: usize, bytes: &[u8]| {
            file[offset..offset + bytes.len()].copy_from_slice(bytes);
        };
        put(0, b"\x89EMB\r\n\x1a\n");
        put(8, &1u16.to_le_bytes());
        put(32, &file_bytes.to_le_bytes());
        put(40, &self.file_id);
        put(56, &vocab.to_le_bytes());
        put(64, &(self.dim as u64).to_le_bytes());
        put(72, &dtype.to_le_bytes());
        put(80, &(self.row_bytes() as u64).to_le_bytes());
        put(88, &(stride as u64).to_le_bytes());
        put(96, &65_536u64.to_le_bytes());
        put(104, &(rows_bytes as u64).to_le_bytes());
        put(156, &1u32.to_le_bytes());
        put(160, &65_536u32.to_le_bytes());
        put(164, &[u8::try_from(directory.len() / 32).unwrap()]);
        put(256, &directory);
        let sum = xxh3_64(&file[..4096]);
        file[4088..4096].copy_from_slice(&sum.to_le_bytes());
        file
    }

    /// The same through the writer, rows and tokens in pieces of these sizes.
    fn write(&self, path: &Path, announce: bool, sizes: Sizes, pieces: &[usize]) -> Written {
        let mut options =
            WriteOptions::new(self.dim, self.dtype).file_id(self.file_id).sizes(sizes);
        if announce {
            options = options.vocab((self.rows.len() / self.row_bytes()) as u64);
        }
        if let Some(align) = self.align {
            options = options.align(align as u64);
        }
        if let Some(json) = &self.tokenizer {
            options = options.tokenizer(json.as_str());
        }
        if let Some(json) = &self.metadata {
            options = options.metadata(json);
        }
        let mut writer = options.create(path).unwrap();
        let mut tokens = self.tokens.iter().flatten();
        let mut rows = self.rows.as_slice();
        let mut pieces = pieces.iter().cycle();
        while !rows.is_empty() {
            let piece = pieces.next().unwrap() * self.row_bytes();
            let (now, later) = rows.split_at(piece.min(rows.len()));
            writer.push_encoded(now).unwrap();
            rows = later;
            for token in tokens.by_ref().take(piece % 4) {
                writer.push_token(token.as_deref()).unwrap();
            }
        }
        for token in tokens {
            writer.push_token(token.as_deref()).unwrap();
        }
        writer.finish().unwrap()
    }
}

/// Ids of distinct tokens by hash, behind a directory of buckets.
fn index(tokens: &[Option<String>]) -> Vec<u8> {
    let mut lowest = BTreeMap::new();
    for (id, token) in (0u64..).zip(tokens) {
        if let Some(token) = token {
            lowest.entry(token).or_insert(id);
        }
    }
    let mut pairs: Vec<(u64, u64)> =
        lowest.iter().map(|(token, id)| (xxh3_64(token.as_bytes()), *id)).collect();
    pairs.sort_unstable();
    let buckets = pairs.len().div_ceil(16).max(1).next_power_of_two();
    let bits = buckets.trailing_zeros();
    let mut index = Vec::new();
    index.extend(bits.to_le_bytes());
    index.extend(4u32.to_le_bytes());
    index.extend((pairs.len() as u64).to_le_bytes());
    index.extend([0; 16]);
    for bucket in 0..=buckets as u128 {
        let start = bucket << (64 - bits);
        let before = pairs.iter().filter(|pair| u128::from(pair.0) < start).count();
        index.extend((before as u64).to_le_bytes());
    }
    for (hash, id) in pairs {
        index.extend(&hash.to_le_bytes()[..2]);
        index.extend(&id.to_le_bytes()[..4]);
    }
    index
}

fn twin() -> impl Strategy<Value = Twin> {
    let token = proptest::option::weighted(0.9, "[a-cĠ]{0,4}");
    let tokens = proptest::option::of(proptest::collection::vec(token, 1..120));
    let align = proptest::sample::select(vec![None, Some(64), Some(512), Some(4096)]);
    let json = || proptest::option::of("\\{\"[a-zé]{0,40}\": 1\\}");
    let dtype = proptest::sample::select(DType::ALL[..4].to_vec());
    (1usize..70, dtype, align, 0usize..600, any::<[u8; 16]>(), any::<u8>(), tokens, json(), json())
        .prop_map(|(dim, dtype, align, vocab, file_id, salt, tokens, tokenizer, metadata)| {
            let mut twin =
                Twin { dim, dtype, align, file_id, rows: vec![], tokens, tokenizer, metadata };
            let bytes = 0..vocab * twin.row_bytes();
            twin.rows = bytes.zip((0..251u8).cycle()).map(|(_, byte)| byte ^ salt).collect();
            twin
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn the_file_is_what_the_format_says_however_it_was_pushed(
        twin in twin(),
        announce: bool,
        tiny: bool,
        pieces in proptest::collection::vec(1usize..400, 1..6),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("table.emb");
        let sizes = if tiny { TINY } else { Sizes::default() };
        let written = twin.write(&path, announce, sizes, &pieces);
        let file = std::fs::read(&path).unwrap();
        prop_assert!(file == twin.encode());
        prop_assert_eq!(written.file_bytes, file.len() as u64);
        prop_assert_eq!(written.vocab, (twin.rows.len() / twin.row_bytes()) as u64);
        prop_assert_eq!(written.tokens, twin.tokens.map_or(0, |tokens| tokens.len() as u64));
        prop_assert_eq!(written.file_id, twin.file_id);
        prop_assert!(others(directory.path(), "table.emb").is_empty());
    }
}

#[test]
fn pieces_larger_than_the_buffer_are_written_in_order() {
    let rows: Vec<u8> = (0..251u8).cycle().take(3_000_000).collect();
    let (dim, dtype, align) = (1, DType::F16, None);
    let twin = Twin {
        dim,
        dtype,
        align,
        file_id: [7; 16],
        rows,
        tokens: None,
        tokenizer: None,
        metadata: None,
    };
    let directory = tempfile::tempdir().unwrap();
    for (name, pieces) in
        [("1", vec![1_500_000]), ("2", vec![3, 600_000, 32_765]), ("3", vec![524_288, 1])]
    {
        let path = directory.path().join(name);
        twin.write(&path, false, Sizes::default(), &pieces);
        assert!(std::fs::read(&path).unwrap() == twin.encode(), "{pieces:?}");
    }
}
