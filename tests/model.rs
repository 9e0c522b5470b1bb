//! A real model's table: in place, converted, padded, read; its tokens and its tokenizer.

#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::float_cmp,
    clippy::print_stderr
)]

use std::path::{Path, PathBuf};

use embmap::{Access, ConvertOptions, DType, OpenOptions, Table, convert};
use half::{bf16, f16};

const MODEL: &str = "fixtures/minilm-2k";
const SHARDED: &str = "fixtures/sharded";
const TENSOR: &str = "embeddings.word_embeddings.weight";

/// The rows of the model as the library `safetensors` reads them.
fn oracle() -> Vec<f16> {
    let file = std::fs::read(Path::new(MODEL).join("model.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
    let tensor = tensors.tensor(TENSOR).unwrap();
    assert_eq!(tensor.shape(), [2003, 384]);
    tensor.data().chunks_exact(2).map(|bytes| f16::from_le_bytes([bytes[0], bytes[1]])).collect()
}

fn mapped(path: impl AsRef<Path>) -> Table {
    // SAFETY: fixtures and the test's own files, which nothing writes to.
    unsafe { Table::map(path).unwrap() }
}

fn converted(directory: &Path, name: &str, options: &ConvertOptions) -> PathBuf {
    let path = directory.join(name);
    let written = convert(&mapped(MODEL), &path, options).unwrap();
    assert_eq!(written.file_bytes, std::fs::metadata(&path).unwrap().len());
    path
}

#[test]
fn every_way_gives_the_rows_of_the_safetensors_library() {
    let oracle = oracle();
    let directory = tempfile::tempdir().unwrap();
    let plain = converted(directory.path(), "plain.emb", &ConvertOptions::new());
    let padded = converted(directory.path(), "padded.emb", &ConvertOptions::new().align(4096));
    let again = directory.path().join("again.emb");
    convert(&mapped(&padded), &again, &ConvertOptions::new()).unwrap();
    let read = |path: &Path| OpenOptions::new().access(Access::Read).open(path).unwrap();
    let tables = [
        mapped(MODEL),
        mapped(format!("{MODEL}/model.safetensors")),
        Table::load(MODEL).unwrap(),
        read(Path::new(MODEL)),
        mapped(&plain),
        Table::load(&plain).unwrap(),
        mapped(&padded),
        read(&padded),
        mapped(&again),
    ];
    let ids: Vec<u32> = (0..2003).collect();
    for table in &tables {
        assert_eq!((table.vocab(), table.dim(), table.dtype()), (2003, 384, DType::F16));
        let mut out = vec![f16::NAN; oracle.len()];
        table.gather_into(&ids, &mut out).unwrap();
        assert!(same(&out, &oracle), "{table:?}");
        if table.access() != Access::Read {
            for (id, row) in (0..).zip(oracle.chunks(384)) {
                assert!(same(table.row::<f16>(id).unwrap(), row), "{table:?} row {id}");
            }
        }
    }
    assert_eq!(tables[6].row_stride(), 4096);
    assert!(tables[6].rows::<f16>().unwrap().as_slice().is_none());
    assert!(same(tables[8].rows::<f16>().unwrap().as_slice().unwrap(), &oracle));
}

fn same<T: bytemuck::Pod>(left: &[T], right: &[T]) -> bool {
    bytemuck::cast_slice::<T, u8>(left) == bytemuck::cast_slice::<T, u8>(right)
}

#[test]
fn conversions_round_as_half_does() {
    let oracle = oracle();
    let directory = tempfile::tempdir().unwrap();
    let to = |name, dtype| {
        mapped(converted(directory.path(), name, &ConvertOptions::new().dtype(dtype)))
    };
    let wide: Vec<f32> = oracle.iter().map(|value| value.to_f32()).collect();
    assert!(same(to("f32.emb", DType::F32).rows::<f32>().unwrap().as_slice().unwrap(), &wide));
    let brain: Vec<bf16> = wide.iter().map(|value| bf16::from_f32(*value)).collect();
    assert!(same(to("bf16.emb", DType::BF16).rows::<bf16>().unwrap().as_slice().unwrap(), &brain));
    let double: Vec<f64> = oracle.iter().map(|value| value.to_f64()).collect();
    let f64s = to("f64.emb", DType::F64);
    assert!(same(f64s.rows::<f64>().unwrap().as_slice().unwrap(), &double));

    // And back down: each is rounded once from the wide number.
    let path = directory.path().join("back.emb");
    convert(&f64s, &path, &ConvertOptions::new().dtype(DType::F16)).unwrap();
    assert!(same(mapped(&path).rows::<f16>().unwrap().as_slice().unwrap(), &oracle));
}

#[test]
fn rows_are_slices_of_the_map_itself() {
    let directory = tempfile::tempdir().unwrap();
    let path = converted(directory.path(), "zero-copy.emb", &ConvertOptions::new());
    let table = mapped(&path);
    let address = |id| table.row::<f16>(id).unwrap().as_ptr().addr();
    assert_eq!(address(2002) - address(0), 2002 * 768);
    if cfg!(target_os = "linux") {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let name = path.canonicalize().unwrap();
        let lines: Vec<&str> =
            maps.lines().filter(|line| line.ends_with(name.to_str().unwrap())).collect();
        assert_eq!(lines.len(), 1, "one map a file");
        let (start, end) = lines[0].split(' ').next().unwrap().split_once('-').unwrap();
        let hexadecimal = |text| usize::from_str_radix(text, 16).unwrap();
        assert_eq!(address(0), hexadecimal(start) + 65_536);
        assert!(address(2002) + 768 <= hexadecimal(end));
    }
}

#[test]
fn tokens_and_tokenizer_come_along() {
    let directory = tempfile::tempdir().unwrap();
    let path = converted(directory.path(), "tokens.emb", &ConvertOptions::new());
    let vocabulary = std::fs::read_to_string(format!("{MODEL}/vocab.txt")).unwrap();
    let vocabulary: Vec<&str> = vocabulary.lines().collect();
    for table in [mapped(MODEL), mapped(&path), Table::load(&path).unwrap()] {
        assert_eq!(table.token_count().unwrap(), 2003);
        for (id, token) in (0..).zip(&vocabulary) {
            assert_eq!(table.token(id).unwrap().as_deref(), Some(*token));
            assert_eq!(table.id_of(token).unwrap(), Some(id));
        }
        assert_eq!(table.id_of("waistcoat").unwrap(), None);
        assert!(table.token(2003).is_err());
        for (token, id) in [("cat", 1811), ("king", 391), ("paris", 976)] {
            assert_eq!(table.id_of(token).unwrap(), Some(id));
        }
        let json = table.tokenizer_json().unwrap().unwrap();
        assert_eq!(json, std::fs::read_to_string(format!("{MODEL}/tokenizer.json")).unwrap());
    }
}

#[cfg(feature = "text")]
#[test]
fn a_page_of_english_has_the_ids_that_python_gives() {
    let directory = tempfile::tempdir().unwrap();
    let path = converted(directory.path(), "text.emb", &ConvertOptions::new());
    let page = std::fs::read_to_string("fixtures/text/english.txt").unwrap();
    let expected = std::fs::read_to_string("fixtures/text/english.minilm-2k.ids").unwrap();
    let expected: Vec<u32> = expected.lines().map(|line| line.parse().unwrap()).collect();
    for table in [mapped(MODEL), mapped(&path)] {
        let tokenizer = table.tokenizer().unwrap();
        let encoded = tokenizer.encode(&page, true).unwrap();
        let ids: Vec<u32> = encoded.iter().map(|token| token.id).collect();
        assert_eq!(ids, expected);
        for token in &encoded {
            assert_eq!(table.token(token.id.into()).unwrap().as_deref(), Some(&*token.token));
        }
        let bare = tokenizer.encode(&page, false).unwrap();
        assert_eq!(bare.len() + 2, encoded.len(), "[CLS] and [SEP]");
    }
}

#[test]
fn a_range_of_rows_takes_its_tokens_and_leaves_the_tokenizer() {
    let directory = tempfile::tempdir().unwrap();
    let path = converted(directory.path(), "range.emb", &ConvertOptions::new().rows(390..400));
    let (part, whole) = (mapped(&path), mapped(MODEL));
    assert_eq!((part.vocab(), part.token_count().unwrap()), (10, 10));
    assert_eq!(part.id_of("king").unwrap(), Some(1));
    assert_eq!(part.row::<f16>(1).unwrap(), whole.row::<f16>(391).unwrap());
    assert_eq!(part.tokenizer_json().unwrap(), None, "its ids would not be the rows'");
    let metadata: serde_json::Value =
        serde_json::from_str(&part.metadata().unwrap().unwrap()).unwrap();
    assert_eq!(metadata["source"]["rows"], serde_json::json!([390, 400]));
    assert_eq!(metadata["source"]["tensor"], TENSOR);

    let refused =
        convert(&whole, directory.path().join("no.emb"), &ConvertOptions::new().rows(5..2004));
    assert!(refused.unwrap_err().to_string().contains("within 0:2003, found 5:2004"));
    assert!(!directory.path().join("no.emb").exists());
}

#[test]
fn shards_are_one_directory_of_tensors() {
    let table = mapped(SHARDED);
    assert_eq!((table.vocab(), table.dim(), table.dtype()), (256, 64, DType::BF16));
    assert_eq!(table.info().tensor.as_deref(), Some("model.embed_tokens.weight"));
    let shard = |number| {
        std::fs::read(format!("{SHARDED}/model-0000{number}-of-00003.safetensors")).unwrap()
    };
    let (first, third) = (shard(1), shard(3));
    let rows = |file: &[u8], name: &str| {
        let tensors = safetensors::SafeTensors::deserialize(file).unwrap();
        tensors.tensor(name).unwrap().data().to_vec()
    };
    let expected = rows(&first, "model.embed_tokens.weight");
    let ids: Vec<i64> = (0..256).collect();
    let mut out = vec![0; expected.len()];
    table.gather_bytes_into(&ids, &mut out).unwrap();
    assert!(out == expected);

    // SAFETY: a fixture, which nothing writes to.
    let head = unsafe { OpenOptions::new().tensor("lm_head.weight").map(SHARDED).unwrap() };
    head.gather_bytes_into(&ids, &mut out).unwrap();
    assert!(out == rows(&third, "lm_head.weight"));
    assert_eq!(head.token(5).unwrap(), table.token(5).unwrap());
}

#[test]
fn a_table_may_replace_the_file_it_is_mapped_from() {
    let directory = tempfile::tempdir().unwrap();
    let path = converted(directory.path(), "self.emb", &ConvertOptions::new());
    let table = mapped(&path);
    let before: Vec<f16> = table.rows::<f16>().unwrap().as_slice().unwrap().to_vec();
    let options = ConvertOptions::new().dtype(DType::F32).align(512).replace(true);
    convert(&table, &path, &options).unwrap();

    assert!(same(table.rows::<f16>().unwrap().as_slice().unwrap(), &before), "the old rows stay");
    table.check_alive().unwrap();
    let new = mapped(&path);
    for id in 0..2003 {
        let wide: Vec<f32> =
            table.row::<f16>(id).unwrap().iter().map(|value| value.to_f32()).collect();
        assert!(same(new.row::<f32>(id).unwrap(), &wide));
    }
    assert!(new.verify().unwrap().is_sound());
}

#[test]
fn conversions_are_reproducible_with_a_file_id() {
    let directory = tempfile::tempdir().unwrap();
    let options = ConvertOptions::new().file_id([7; 16]).rows(0..100);
    let one = std::fs::read(converted(directory.path(), "one.emb", &options)).unwrap();
    let two = std::fs::read(converted(directory.path(), "two.emb", &options)).unwrap();
    let table = Table::from_bytes(&one).unwrap();
    let metadata: serde_json::Value =
        serde_json::from_str(&table.metadata().unwrap().unwrap()).unwrap();
    // The time alone may differ, where the second turned between the two.
    if Table::from_bytes(&two).unwrap().metadata().unwrap() == table.metadata().unwrap() {
        assert!(one == two);
    }
    assert!(metadata["created"].as_u64().unwrap() > 1_700_000_000);
}
