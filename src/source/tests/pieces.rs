//! Tables in many pieces, over one file and over several.

use std::fs;

use serde_json::json;

use super::super::{FoundTable, SourceOptions, from_stored, list_tensors, open};
use super::{stored, tensors};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::layout::RowPlace;

const PATTERN: &str = "m.ngram_embedding.shard_{}.weight";

fn piece(number: usize) -> String {
    format!("m.ngram_embedding.shard_{number}.weight")
}

fn named(tensor: &str) -> SourceOptions {
    SourceOptions { tensor: Some(tensor.to_owned()), ..SourceOptions::default() }
}

fn opened(list: &[(&str, &str, &[u64])], options: &SourceOptions) -> Result<FoundTable> {
    from_stored(stored(&tensors(list)), options)
}

fn form(result: Result<FoundTable>) -> (String, String) {
    match result {
        Err(Error::TensorForm { tensor, reason, .. }) => (tensor, reason),
        Err(other) => panic!("{other}"),
        Ok(found) => panic!("opened {:?}", found.tensor),
    }
}

#[test]
fn pieces_of_one_file_are_one_row_space() {
    let names: Vec<String> = (0..11).map(piece).collect();
    let mut list: Vec<(&str, &str, &[u64])> = vec![("x", "U8", &[1])];
    list.extend(names.iter().rev().map(|name| (name.as_str(), "BF16", &[3, 4][..])));
    let bytes = tensors(&list);
    for options in [SourceOptions::default(), named(PATTERN)] {
        let found = from_stored(stored(&bytes), &options).unwrap();
        assert_eq!((found.tensor.as_deref().unwrap(), found.pieces), (PATTERN, 11));
        assert_eq!((found.layout.vocab, found.layout.dim, found.dtype), (33, 4, DType::BF16));
        assert_eq!(found.files.len(), 1);
        let data = bytes.len() as u64 - 11 * 24;
        for id in 0..33 {
            // The last piece lies first in the file.
            let offset = data + (10 - id / 3) * 24 + id % 3 * 8;
            assert_eq!(found.layout.values.place(id), Some(RowPlace { file: 0, offset }), "{id}");
        }
        assert_eq!(found.layout.values.place(33), None);
    }
}

#[test]
fn pieces_of_several_files_open_each_file_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut map = serde_json::Map::new();
    for (file, numbers) in [("a.safetensors", [0, 3]), ("b.safetensors", [2, 1])] {
        let names = numbers.map(piece);
        let list = [(names[0].as_str(), "F16", &[2, 4][..]), (&names[1], "F16", &[2, 4])];
        fs::write(dir.path().join(file), tensors(&list)).unwrap();
        map.extend(names.map(|name| (name, json!(file))));
    }
    // What lies in files that hold no piece is not opened.
    map.insert("lm_head.weight".to_owned(), json!("absent.safetensors"));
    let index = json!({ "weight_map": map }).to_string();
    fs::write(dir.path().join("model.safetensors.index.json"), index).unwrap();
    fs::write(dir.path().join("tokenizer.json"), "{}").unwrap();
    let found = open(dir.path(), &named(PATTERN)).unwrap();
    let names: Vec<_> = found.files.iter().map(|file| file.path().file_name().unwrap()).collect();
    assert_eq!(names, ["a.safetensors", "b.safetensors"]);
    let files: Vec<usize> =
        (0..4).map(|piece| found.layout.values.place(2 * piece).unwrap().file).collect();
    assert_eq!(files, [0, 1, 1, 0]);
    assert_eq!((found.tokens, found.tokenizer), (None, None), "its rows are not those of tokens");

    fs::write(
        dir.path().join("absent.safetensors"),
        tensors(&[("lm_head.weight", "F16", &[2, 4])]),
    )
    .unwrap();
    let found = open(dir.path(), &SourceOptions::default()).unwrap();
    assert_eq!((found.tensor.as_deref().unwrap(), found.files.len()), (PATTERN, 2));
    let picked = list_tensors(dir.path(), false).unwrap();
    assert_eq!(picked.iter().filter(|tensor| tensor.picked).count(), 4);
}

#[test]
fn pieces_that_differ_are_refused_by_name() {
    let names: Vec<String> = (0..3).map(piece).collect();
    let with = |second: (&str, &[u64])| {
        let list: [(&str, &str, &[u64]); 3] = [
            (&names[0], "F16", &[3, 4]),
            (&names[1], second.0, second.1),
            (&names[2], "F16", &[3, 4]),
        ];
        opened(&list, &named(PATTERN))
    };
    assert_eq!(with(("F16", &[7, 4])).unwrap().layout.vocab, 13);
    for odd in [("BF16", &[3, 4][..]), ("F16", &[3, 5]), ("F16", &[12]), ("F16", &[3, 0])] {
        let (tensor, reason) = form(with(odd));
        assert_eq!(tensor, names[1]);
        assert!(reason.contains("expected"), "{reason}");
    }
    let list: [(&str, &str, &[u64]); 2] =
        [(&names[0], "F16", &[3, 4]), (&names[2], "F16", &[3, 4])];
    let (tensor, reason) = form(opened(&list, &named(PATTERN)));
    assert_eq!(tensor, PATTERN);
    assert!(reason.contains(&format!("lacks piece 1, {:?}", names[1])), "{reason}");
}
