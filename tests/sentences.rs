//! Texts to ids and to vectors, against a mean that is taken row by row.
#![cfg(feature = "cli")]
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::float_cmp
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use embmap::{ConvertOptions, Error, OpenOptions, StaticModel, Table, convert};
use serde_json::{Value, json};
use tempfile::TempDir;

const MINILM: &str = "fixtures/minilm-2k";
const PAGE: &str = "fixtures/text/english.txt";

/// The lines of a page, some of which are empty, and long enough for several threads.
fn lines() -> Vec<String> {
    let page = fs::read_to_string(PAGE).unwrap();
    (0..40).flat_map(|_| page.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// The mean of some rows, a row at a time.
fn mean(table: &Table, ids: &[u32]) -> Vec<f32> {
    let mut sums = vec![0f32; table.dim()];
    for id in ids {
        let row: Vec<f32> = table.gather(&[*id]).unwrap();
        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
    sums.iter().map(|sum| sum / ids.len().max(1) as f32).collect()
}

fn vectors(model: &StaticModel, texts: &[impl AsRef<str> + Sync]) -> Vec<Vec<f32>> {
    let mut out = vec![f32::NAN; texts.len() * model.table().dim()];
    model.embed_into(texts, &mut out).unwrap();
    out.chunks(model.table().dim()).map(<[f32]>::to_vec).collect()
}

/// A directory like that of model2vec or sentence-transformers: the fixture's rows under another
/// name, its tokenizer, changed, and files of their own.
fn model_directory(
    tensor: &str,
    inner: &str,
    change: impl Fn(&mut Value),
    files: &[(&str, Value)],
) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let weights = directory.path().join(inner);
    fs::create_dir_all(&weights).unwrap();
    let bytes = fs::read(Path::new(MINILM).join("model.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let view = tensors.tensor("embeddings.word_embeddings.weight").unwrap();
    safetensors::serialize_to_file([(tensor, view)], None, &weights.join("model.safetensors"))
        .unwrap();
    let json = fs::read(Path::new(MINILM).join("tokenizer.json")).unwrap();
    let mut tokenizer: Value = serde_json::from_slice(&json).unwrap();
    change(&mut tokenizer);
    fs::write(weights.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    for (name, content) in files {
        fs::write(directory.path().join(name), content.to_string()).unwrap();
    }
    directory
}

fn open(path: &Path) -> StaticModel {
    StaticModel::new(Table::load(path).unwrap()).unwrap()
}

fn converted(directory: &TempDir) -> PathBuf {
    let path = directory.path().join("model.emb");
    convert(&Table::load(directory.path()).unwrap(), &path, &ConvertOptions::new()).unwrap();
    path
}

#[test]
fn a_batch_is_encoded_as_its_texts_are_one_by_one() {
    let table = Table::load(MINILM).unwrap();
    let lines = lines();
    for threads in [1, 2, 5] {
        let table = OpenOptions::new().threads(threads).open(MINILM).unwrap();
        let tokenizer = table.tokenizer().unwrap();
        for special_tokens in [false, true] {
            let encoded = tokenizer.encode_batch(&lines, special_tokens).unwrap();
            assert_eq!(encoded.len(), lines.len());
            for (line, found) in lines.iter().zip(encoded.iter()) {
                let alone = tokenizer.encode(line, special_tokens).unwrap();
                assert_eq!(found, alone.iter().map(|token| token.id).collect::<Vec<_>>());
            }
        }
    }
    let none: [&str; 0] = [];
    let encoded = table.tokenizer().unwrap().encode_batch(&none, true).unwrap();
    assert!(encoded.is_empty() && encoded.get(0).is_none() && encoded.offsets() == [0]);
    assert_eq!(table.tokenizer().unwrap().unknown_id(), Some(1));
}

#[test]
fn a_plain_table_gives_means_of_all_tokens() {
    let lines = lines();
    let table = Arc::new(OpenOptions::new().threads(2).open(MINILM).unwrap());
    let tokenizer = table.tokenizer().unwrap();
    let model = StaticModel::new(Arc::clone(&table)).unwrap();
    let one_thread = StaticModel::new(OpenOptions::new().threads(1).open(MINILM).unwrap()).unwrap();
    let found = vectors(&model, &lines);
    assert_eq!(found, vectors(&one_thread, &lines), "whatever the threads");
    let unit = vectors(&one_thread.normalize(true), &lines);
    let encoded = tokenizer.encode_batch(&lines, false).unwrap();
    for ((ids, found), unit) in encoded.iter().zip(&found).zip(&unit) {
        assert_eq!(*found, mean(&table, ids));
        let length = found.iter().map(|it| f64::from(*it).powi(2)).sum::<f64>().sqrt();
        for (value, unit) in found.iter().zip(unit) {
            let expected = if ids.is_empty() { 0.0 } else { (f64::from(*value) / length) as f32 };
            assert_eq!(*unit, expected);
        }
    }
    assert_eq!(model.embed("the cat").unwrap(), mean(&table, &[92, 1811]));
    let error = model.embed_into(&["a"], &mut [0f32; 3]).unwrap_err();
    assert!(matches!(error, Error::OutputLength { rows: 1, row: 384, .. }), "{error}");
}

#[test]
fn model2vec_drops_what_is_unknown_and_cuts_long_texts() {
    let config = json!({ "normalize": false, "max_length": 3 });
    let directory = model_directory("embeddings", "", |_| {}, &[("config.json", config)]);
    let emb = converted(&directory);
    for path in [directory.path(), &emb] {
        let model = open(path);
        let table = model.table();
        // Three tokens, and what is unknown goes after that.
        assert_eq!(model.embed("the xyzzy cat sat").unwrap(), mean(table, &[92, 1811]));
        // The vocabulary's median length is 5: 15 characters are looked at, and no more.
        let text = "the            cat";
        assert_eq!(text.len(), 18);
        assert_eq!(model.embed(text).unwrap(), mean(table, &[92]));
        assert_eq!(open(path).max_tokens(None).embed(text).unwrap(), mean(table, &[92, 1811]));
        // Nothing that is known.
        let mut out = vec![1f32; 2 * table.dim()];
        assert_eq!(model.embed_into(&["xyzzy", "cat"], &mut out).unwrap(), [0, 1]);
        assert_eq!(out[..table.dim()], vec![0f32; table.dim()]);
        let kept = open(path).drop_unknown(false);
        assert_eq!(kept.embed("xyzzy").unwrap(), mean(table, &[1]));
        assert!(!model.normalizes());
    }
}

#[test]
fn sentence_transformers_keeps_what_is_unknown_and_cuts_as_the_tokenizer_says() {
    let module = |name: &str| json!({ "type": format!("sentence_transformers.models.{name}") });
    for (direction, kept) in [("Right", [1, 1811]), ("Left", [1811, 919])] {
        let truncate = |tokenizer: &mut Value| {
            tokenizer["truncation"] = json!({
                "direction": direction, "max_length": 2, "strategy": "LongestFirst", "stride": 0
            });
        };
        let modules = json!([module("StaticEmbedding"), module("Normalize")]);
        let files = [("modules.json", modules)];
        let directory = model_directory("embedding.weight", "0_StaticEmbedding", truncate, &files);
        let emb = converted(&directory);
        for path in [directory.path(), &emb] {
            let model = open(path);
            assert!(model.normalizes());
            let model = model.normalize(false);
            let expected = mean(model.table(), &kept);
            assert_eq!(model.embed("xyzzy cat sat").unwrap(), expected, "{direction}");
        }
    }
}

#[test]
fn a_part_of_a_model_is_no_model() {
    let directory =
        model_directory("embeddings", "", |_| {}, &[("config.json", json!({ "normalize": true }))]);
    let path = directory.path().join("part.emb");
    let table = Table::load(directory.path()).unwrap();
    convert(&table, &path, &ConvertOptions::new().rows(0..100)).unwrap();
    let part = Table::load(&path).unwrap();
    assert!(!part.metadata().unwrap().unwrap().contains("static_model"));
    let error = StaticModel::new(part).unwrap_err();
    assert!(matches!(error, Error::Missing { what: "tokenizer", .. }), "{error}");
}

#[test]
fn a_token_without_a_row_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("few.emb");
    let table = Table::load(MINILM).unwrap();
    let json = table.tokenizer_json().unwrap().unwrap().into_owned();
    let options = embmap::WriteOptions::new(2, embmap::DType::F32).tokenizer(json);
    let mut writer = options.create(&path).unwrap();
    writer.push(&[0f32; 200]).unwrap();
    writer.finish().unwrap();
    let error = open(&path).embed("the cat").unwrap_err().to_string();
    assert!(
        error.contains("\"cat\" has the id 1811") && error.contains("rows of 100 tokens"),
        "{error}"
    );
}

/// A directory like that of model2vec with a quantized vocabulary: 40 raw rows, which tokens
/// lead to, and a weight for each token.
fn mapped_directory(mapping: &[i64], weights: Option<&[f64]>) -> TempDir {
    let config = [("config.json", json!({ "normalize": true }))];
    let directory = model_directory("embeddings", "", |_| {}, &config);
    let table = Table::load(MINILM).unwrap();
    let raw: Vec<f32> = table.gather(&(1800u32..1840).collect::<Vec<_>>()).unwrap();
    let view = |dtype, shape: Vec<usize>, bytes| {
        safetensors::tensor::TensorView::new(dtype, shape, bytes).unwrap()
    };
    let bytes = bytemuck::cast_slice;
    let mut tensors = vec![
        ("embeddings", view(safetensors::Dtype::F32, vec![40, 384], bytes(&raw))),
        (
            "mapping",
            view(safetensors::Dtype::I64, vec![mapping.len()], bytemuck::cast_slice(mapping)),
        ),
    ];
    if let Some(weights) = weights {
        let bytes = bytemuck::cast_slice(weights);
        tensors.push(("weights", view(safetensors::Dtype::F64, vec![weights.len()], bytes)));
    }
    let path = directory.path().join("model.safetensors");
    safetensors::serialize_to_file(tensors, None, &path).unwrap();
    directory
}

#[test]
fn mapped_rows_are_looked_up_and_weighed() {
    let mapping: Vec<i64> = (0..2003).map(|token| (token * 7) % 40).collect();
    let weights: Vec<f64> = (0..2003).map(|token| 0.25 + f64::from(token % 9)).collect();
    for weights in [None, Some(&weights[..])] {
        let directory = mapped_directory(&mapping, weights);
        let error = Table::load(directory.path()).unwrap_err().to_string();
        assert!(error.contains("mapping"), "{error}");
        let raw = OpenOptions::new().static_model(true).threads(2).open(directory.path()).unwrap();
        let model = StaticModel::new(raw).unwrap();
        assert!(model.normalizes());
        let model = model.normalize(false);
        let lines = lines();
        let encoded = model.tokenizer().encode_batch(&lines, false).unwrap();
        let found = vectors(&model, &lines);
        for ((line, ids), found) in lines.iter().zip(encoded.iter()).zip(&found) {
            let kept: Vec<usize> =
                ids.iter().filter(|id| **id != 1).map(|id| *id as usize).collect();
            let rows: Vec<u32> =
                kept.iter().map(|id| u32::try_from(mapping[*id]).unwrap()).collect();
            let values: Vec<f32> = model.table().gather(&rows).unwrap();
            let mut sums = vec![0f32; 384];
            for (row, id) in values.chunks(384).zip(&kept) {
                let weight = weights.map_or(1.0, |weights| weights[*id] as f32);
                sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value * weight);
            }
            let count = kept.len().max(1) as f32;
            let expected: Vec<f32> = sums.iter().map(|sum| sum / count).collect();
            assert_eq!(*found, expected, "{line}");
        }

        // Converted, rows are those of tokens.
        let path = directory.path().join("model.emb");
        let source = embmap::ImportOptions::new().open(directory.path()).unwrap();
        embmap::convert_from(source, &path, &ConvertOptions::new()).unwrap();
        let emb = open(&path);
        assert!(emb.normalizes());
        for (emb, found) in vectors(&emb.normalize(false), &lines).iter().zip(&found) {
            for (emb, found) in emb.iter().zip(found) {
                assert!((emb - found).abs() <= 1e-6 * found.abs().max(1.0), "{emb} {found}");
            }
        }
    }
}

#[test]
fn a_mapping_that_leads_nowhere_is_an_error() {
    for wrong in [40, -1] {
        let mut mapping = vec![0i64; 2003];
        mapping[1811] = wrong;
        let directory = mapped_directory(&mapping, None);
        let raw = OpenOptions::new().static_model(true).open(directory.path()).unwrap();
        let error = StaticModel::new(raw).unwrap_err().to_string();
        assert!(error.contains("row 1811") && error.contains("below 40"), "{error}");
    }
    // Tokens that the mapping does not know.
    let directory = mapped_directory(&[3; 100], None);
    let raw = OpenOptions::new().static_model(true).open(directory.path()).unwrap();
    let error = StaticModel::new(raw).unwrap().embed("cat").unwrap_err().to_string();
    assert!(error.contains("rows of 100 tokens only"), "{error}");
}
