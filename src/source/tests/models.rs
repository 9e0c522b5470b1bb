//! Files and model directories, opened.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use tempfile::TempDir;

use super::super::{FoundTable, NpyHeader, SourceOptions, from_stored, list_tensors, open};
use super::{stored, tensors};
use crate::dtype::DType;
use crate::error::{Error, Place, Result};
use crate::layout::RowPlace;

const INDEX: &str = "model.safetensors.index.json";
const EMBED: &str = "model.embed_tokens.weight";

struct Dir(TempDir);

impl Dir {
    fn new() -> Self {
        Dir(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn add(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    fn index(&self, map: &serde_json::Value) -> PathBuf {
        self.add(INDEX, json!({ "metadata": {}, "weight_map": map }).to_string())
    }

    fn open(&self) -> Result<FoundTable> {
        open_at(self.path())
    }

    fn refusal(&self) -> Error {
        refused(self.open())
    }
}

fn open_at(path: &Path) -> Result<FoundTable> {
    open(path, &SourceOptions::default())
}

fn refused(result: Result<FoundTable>) -> Error {
    match result {
        Ok(found) => panic!("opened {:?}", found.tensor),
        Err(error) => error,
    }
}

fn named(tensor: &str) -> SourceOptions {
    SourceOptions { tensor: Some(tensor.to_owned()), ..SourceOptions::default() }
}

fn no_table(error: Error) -> String {
    match error {
        Error::NoTable { reason, .. } => reason,
        other => panic!("{other}"),
    }
}

fn small() -> Vec<u8> {
    tensors(&[(EMBED, "F32", &[5, 3])])
}

#[test]
fn a_file_in_memory_is_opened() {
    let bytes = tensors(&[("x", "U8", &[1]), (EMBED, "BF16", &[5, 3]), ("y", "F32", &[2, 2, 2])]);
    let found = from_stored(stored(&bytes), &SourceOptions::default()).unwrap();
    assert_eq!(
        (found.format, found.tensor.as_deref().unwrap(), found.dtype),
        ("safetensors", EMBED, DType::BF16)
    );
    assert_eq!((found.layout.vocab, found.layout.dim), (5, 3));
    let data = bytes.len() as u64 - (1 + 30 + 32);
    assert_eq!(found.layout.values.place(4), Some(RowPlace { file: 0, offset: data + 1 + 24 }));
    assert_eq!(found.layout.values.place(5), None);
    assert_eq!((found.layout.values.row_bytes(), found.layout.values.row_stride()), (6, 6));
    assert!(found.tokens.is_none() && found.tokenizer.is_none());
}

#[test]
fn a_table_without_rows_is_opened() {
    let found =
        from_stored(stored(&tensors(&[(EMBED, "F16", &[0, 3])])), &SourceOptions::default())
            .unwrap();
    assert_eq!((found.layout.vocab, found.layout.dim), (0, 3));
}

#[test]
fn a_tensor_that_is_no_table_is_refused_by_name() {
    let form = |list: &[(&str, &str, &[u64])]| match refused(from_stored(
        stored(&tensors(list)),
        &named(EMBED),
    )) {
        Error::TensorForm { tensor, reason, .. } => {
            assert_eq!(tensor, EMBED);
            reason
        }
        other => panic!("{other}"),
    };
    assert!(form(&[(EMBED, "F32", &[15])]).contains("[15] of f32, expected two dimensions"));
    assert!(form(&[(EMBED, "F32", &[5, 1, 3])]).contains("[5, 1, 3]"));
    assert!(form(&[(EMBED, "F32", &[])]).contains("[]"));
    assert!(form(&[(EMBED, "F32", &[5, 0])]).contains("at least one element"));
    assert!(form(&[(EMBED, "F32", &[0, 1 << 62])]).contains("too large to describe"));
    for shape in [&[15][..], &[5, 0], &[0, 1 << 62]] {
        let reason = form(&[(EMBED, "F32", shape)]);
        assert!(reason.contains("choose another with --tensor"), "{reason}");
    }
    let four = form(&[(EMBED, "F4", &[5, 4])]);
    assert!(four.contains("[5, 4] of f4") && four.contains("f32, f16, bf16, f64"), "{four}");
    let mlx = form(&[
        (EMBED, "I32", &[5, 3]),
        ("model.embed_tokens.scales", "BF16", &[5, 1]),
        ("model.embed_tokens.biases", "BF16", &[5, 1]),
    ]);
    let beside = "[5, 3] of i32, quantized with \"model.embed_tokens.scales\" [5, 1] bf16, \"model.embed_tokens.biases\" [5, 1] bf16";
    assert!(mlx.contains(beside), "{mlx}");
}

#[test]
fn a_lone_file_is_opened_with_its_tokens_beside_it() {
    let dir = Dir::new();
    let file = dir.add("any.name", small());
    let tokens = dir.add("vocab.txt", "a\n");
    let found = open_at(&file).unwrap();
    assert_eq!((found.tokens, found.tokenizer), (Some(tokens), None));
    let tokenizer = dir.add("tokenizer.json", "{}");
    let found = open_at(&file).unwrap();
    assert_eq!((found.tokens, found.tokenizer), (Some(tokenizer.clone()), Some(tokenizer)));
}

#[test]
fn the_files_of_a_directory_are_tried_in_order() {
    let dir = Dir::new();
    let name = |dir: &Dir| dir.open().unwrap().tensor.unwrap();
    dir.add(
        "0_StaticEmbedding/model.safetensors",
        tensors(&[("embedding.weight", "F32", &[2, 2])]),
    );
    dir.add("0_StaticEmbedding/tokenizer.json", "{}");
    dir.add("tokenizer.json", "{}");
    let found = dir.open().unwrap();
    assert_eq!(found.tensor.unwrap(), "embedding.weight");
    assert_eq!(found.tokenizer.unwrap(), dir.path().join("0_StaticEmbedding/tokenizer.json"));
    dir.add("other.safetensors", tensors(&[("wte.weight", "F32", &[2, 2])]));
    dir.add("._other.safetensors", "a fork of another system");
    assert_eq!(name(&dir), "wte.weight");
    dir.add("model.safetensors", small());
    assert_eq!(name(&dir), EMBED);
    dir.index(&json!({ "shared.weight": "s.safetensors" }));
    dir.add("s.safetensors", tensors(&[("shared.weight", "F32", &[2, 2])]));
    let found = dir.open().unwrap();
    assert_eq!(found.tensor.unwrap(), "shared.weight");
    assert_eq!(found.tokenizer.unwrap(), dir.path().join("tokenizer.json"));
}

#[test]
fn a_directory_without_a_table_says_what_it_looked_for() {
    let dir = Dir::new();
    assert!(no_table(dir.refusal()).contains("looked for model.safetensors.index.json"));
    dir.add("pytorch_model.bin", "x");
    let reason = no_table(dir.refusal());
    assert!(
        reason.contains("only pytorch_model.bin") && reason.contains("safetensors.torch.save_file"),
        "{reason}"
    );
    dir.add("table.npy", "x");
    assert!(no_table(dir.refusal()).contains("no embeddings.npy, only table.npy; give the path"));
    dir.add("b.gguf", "x");
    assert!(dir.refusal().to_string().contains("not a valid gguf file"), "{}", dir.refusal());
    dir.add("a.gguf", "x");
    let reason = no_table(dir.refusal());
    assert!(reason.starts_with("2 GGUF files") && reason.contains("(a.gguf, b.gguf)"), "{reason}");
    dir.add("b.safetensors", "x");
    dir.add("a.safetensors", "x");
    let reason = no_table(dir.refusal());
    assert!(
        reason.starts_with("2 safetensors files")
            && reason.contains("(a.safetensors, b.safetensors)"),
        "{reason}"
    );
}

#[test]
fn a_file_of_another_kind_says_the_way_out() {
    let dir = Dir::new();
    let reason = |name: &str, bytes: &[u8]| no_table(refused(open_at(&dir.add(name, bytes))));
    assert!(reason("model.pt", b"PK\x03\x04").contains("pickle"));
    assert!(reason("noname", b"\x80\x02}q").contains("pickle"));
    assert!(reason("x.txt", b"hello").contains("expected a safetensors, GGUF, npy or npz file"));
    assert!(reason("x", b"").contains("expected a safetensors, GGUF, npy or npz file"));
    for (name, format) in [("x.safetensors", "safetensors"), ("x.npy", "npy"), ("x.npz", "zip")] {
        let broken = refused(open_at(&dir.add(name, b"hello")));
        assert!(matches!(broken, Error::Foreign { format: found, .. } if found == format));
    }
}

#[test]
fn an_array_in_a_directory_comes_last_and_has_its_tokens_beside_it() {
    let dir = Dir::new();
    let mut array = Vec::new();
    NpyHeader::of_rows(DType::F32, 2, 1).write_to(&mut array).unwrap();
    array.extend([0; 8]);
    dir.add("other.npy", "x");
    let path = dir.add("embeddings.npy", &array);
    assert!(dir.open().unwrap().tokens.is_none());
    let tokens = dir.add("vocab.txt", "a\nb\n");
    assert_eq!(dir.open().unwrap().tokens, Some(tokens));
    // By itself an array is not a model's: what lies beside it may be of another.
    assert!(open_at(&path).unwrap().tokens.is_none());
    assert!(matches!(refused(open(dir.path(), &named("x"))), Error::InvalidOption { .. }));
    dir.add("model.safetensors", small());
    assert_eq!(dir.open().unwrap().format, "safetensors");
}

#[test]
fn raw_rows_of_a_mapped_table_are_not_those_of_tokens() {
    let dir = Dir::new();
    dir.add("tokenizer.json", "{}");
    let raw: (&str, &str, &[u64]) = ("embeddings", "F32", &[5, 3]);
    dir.add("model.safetensors", tensors(&[raw, ("weights", "F32", &[9])]));
    assert!(matches!(dir.refusal(), Error::TensorForm { .. }));
    assert!(open(dir.path(), &named("embeddings")).unwrap().tokens.is_some());
    dir.add("model.safetensors", tensors(&[raw, ("mapping", "I64", &[9])]));
    let found = open(dir.path(), &named("embeddings")).unwrap();
    assert!(found.tokens.is_none() && found.tokenizer.is_none());
}

#[test]
fn only_the_shard_that_is_needed_is_opened() {
    let dir = Dir::new();
    dir.index(&json!({ EMBED: "b.safetensors", "x": "absent.safetensors" }));
    dir.add("b.safetensors", small());
    let found = dir.open().unwrap();
    assert_eq!(found.files[0].path(), dir.path().join("b.safetensors"));
    let index = dir.path().join(INDEX);
    assert_eq!(open_at(&index).unwrap().tensor.unwrap(), EMBED);
    let error = refused(open(dir.path(), &named("x")));
    assert!(
        matches!(&error, Error::Io { operation: "open", path, .. } if path.ends_with("absent.safetensors")),
        "{error}"
    );
}

#[test]
fn a_missing_shard_does_not_hide_why_no_tensor_was_picked() {
    let dir = Dir::new();
    dir.index(&json!({ "wte.weight": "a.safetensors", EMBED: "absent.safetensors" }));
    dir.add("a.safetensors", tensors(&[("wte.weight", "F32", &[2, 2])]));
    let Error::Tensor { candidates, .. } = dir.refusal() else { panic!() };
    assert_eq!(candidates, [EMBED, "wte.weight"]);
    let Error::Tensor { candidates, reason, .. } = refused(open(dir.path(), &named("no"))) else {
        panic!()
    };
    assert_eq!(candidates, [EMBED, "wte.weight"]);
    assert!(
        reason.contains("none of 2 tensors") && reason.contains("absent.safetensors"),
        "{reason}"
    );
}

#[test]
fn a_shard_without_its_tensor_is_refused() {
    let dir = Dir::new();
    dir.index(&json!({ EMBED: "a.safetensors", "y": "b.safetensors" }));
    dir.add("a.safetensors", tensors(&[("y", "F32", &[2, 2])]));
    dir.add("b.safetensors", small());
    match dir.refusal() {
        Error::Foreign { format: "model.safetensors.index.json", place, .. } => {
            assert_eq!(place, Place::Name(EMBED.into()));
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_form_is_looked_for_in_every_shard() {
    let dir = Dir::new();
    dir.index(&json!({ "a": "1.safetensors", "b": "2.safetensors", "c": "2.safetensors" }));
    dir.add("1.safetensors", tensors(&[("a", "F32", &[7, 3])]));
    // A tensor that the index places nowhere does not count.
    dir.add(
        "2.safetensors",
        tensors(&[("b", "F32", &[9, 3]), ("c", "F32", &[9]), ("stray", "F32", &[7, 3])]),
    );
    let Error::Tensor { candidates, .. } = dir.refusal() else { panic!() };
    assert_eq!(candidates, ["b [9, 3] f32", "a [7, 3] f32"]);
    dir.add("config.json", r#"{"vocab_size":7,"hidden_size":3}"#);
    assert_eq!(dir.open().unwrap().tensor.unwrap(), "a");
    dir.add("config.json", "{");
    assert!(matches!(dir.refusal(), Error::Foreign { format: "config.json", .. }));
}

#[test]
fn a_shard_that_is_a_path_is_refused() {
    let dir = Dir::new();
    dir.index(&json!({ EMBED: "../model.safetensors" }));
    assert!(matches!(
        dir.refusal(),
        Error::Foreign { format: "model.safetensors.index.json", place: Place::Name(_), .. }
    ));
}

#[test]
fn files_that_are_too_long_are_not_read() {
    let dir = Dir::new();
    let index = fs::File::create(dir.path().join(INDEX)).unwrap();
    index.set_len(100_000_001).unwrap();
    assert!(matches!(dir.refusal(), Error::Foreign { place: Place::Offset(100_000_000), .. }));
}

#[test]
fn a_path_that_is_not_there_is_an_error_of_the_system() {
    let error = refused(open_at(Path::new("no/such/model")));
    assert!(matches!(error, Error::Io { operation: "open", .. }));
    let dir = Dir::new();
    fs::create_dir(dir.path().join("model.safetensors")).unwrap();
    assert!(matches!(dir.refusal(), Error::NotRegularFile { kind: "a directory", .. }));
}

#[test]
fn tensors_are_listed_with_the_one_that_is_picked() {
    let dir = Dir::new();
    dir.index(&json!({ EMBED: "b.safetensors", "norm": "a.safetensors", "q": "a.safetensors" }));
    dir.add("a.safetensors", tensors(&[("norm", "F32", &[3]), ("q", "U32", &[2, 4])]));
    dir.add("b.safetensors", small());
    let mut list = list_tensors(dir.path(), false).unwrap();
    list.sort_by(|a, b| a.name.cmp(&b.name));
    let seen: Vec<_> = list
        .iter()
        .map(|t| {
            (t.name.as_str(), t.dtype.as_str(), t.shape.as_slice(), t.bytes, t.picked, t.candidate)
        })
        .collect();
    assert_eq!(
        seen,
        [
            (EMBED, "f32", &[5, 3][..], 60, true, true),
            ("norm", "f32", &[3][..], 12, false, false),
            ("q", "u32", &[2, 4][..], 32, false, false),
        ]
    );
    assert_eq!(list[0].file, dir.path().join("b.safetensors"));
    let file = dir.add("two.safetensors", tensors(&[("a", "F32", &[2, 2]), ("b", "F32", &[2, 2])]));
    let list = list_tensors(&file, false).unwrap();
    assert!(list.iter().all(|tensor| tensor.candidate && !tensor.picked));
}

#[cfg(unix)]
mod links {
    use std::os::unix::fs::symlink;

    use super::*;

    fn following() -> SourceOptions {
        SourceOptions { follow_links: true, ..SourceOptions::default() }
    }

    #[test]
    fn a_link_within_the_directory_is_followed() {
        let dir = Dir::new();
        dir.add("deep/real", small());
        symlink("deep/real", dir.path().join("model.safetensors")).unwrap();
        assert_eq!(dir.open().unwrap().tensor.unwrap(), EMBED);
    }

    #[test]
    fn a_link_out_of_the_directory_is_refused_unless_allowed() {
        let outside = Dir::new();
        let target = outside.add("real.safetensors", small());
        let dir = Dir::new();
        let link = dir.path().join("model.safetensors");
        symlink(&target, &link).unwrap();
        match dir.refusal() {
            Error::Outside { path, target: found } => {
                assert_eq!(path, link);
                assert_eq!(found, fs::canonicalize(&target).unwrap());
            }
            other => panic!("{other}"),
        }
        assert_eq!(open(dir.path(), &following()).unwrap().tensor.unwrap(), EMBED);
        assert_eq!(
            open_at(&link).unwrap().tensor.unwrap(),
            EMBED,
            "a link that the caller names is the caller's"
        );
        assert!(matches!(list_tensors(dir.path(), false), Err(Error::Outside { .. })));
    }

    #[test]
    fn every_other_file_of_the_model_is_held_to_the_same_rule() {
        let outside = Dir::new();
        for name in
            ["tokenizer.json", "vocab.txt", "config.json", "shard.safetensors", "index.json"]
        {
            outside.add(name, small());
        }
        let linked = |dir: &Dir, name: &str, to: &str| {
            symlink(outside.path().join(to), dir.path().join(name)).unwrap();
        };
        for name in ["tokenizer.json", "vocab.txt"] {
            let dir = Dir::new();
            dir.add("model.safetensors", small());
            linked(&dir, name, name);
            assert!(matches!(dir.refusal(), Error::Outside { .. }), "{name}");
        }
        let dir = Dir::new();
        dir.add("model.safetensors", tensors(&[("x", "F32", &[2, 2])]));
        linked(&dir, "config.json", "config.json");
        assert!(matches!(dir.refusal(), Error::Outside { .. }));
        let dir = Dir::new();
        dir.index(&json!({ EMBED: "s.safetensors" }));
        linked(&dir, "s.safetensors", "shard.safetensors");
        assert!(matches!(dir.refusal(), Error::Outside { .. }));
        let dir = Dir::new();
        linked(&dir, INDEX, "index.json");
        assert!(matches!(dir.refusal(), Error::Outside { .. }));
        let dir = Dir::new();
        linked(&dir, "single.safetensors", "shard.safetensors");
        assert!(matches!(dir.refusal(), Error::Outside { .. }));
        let dir = Dir::new();
        symlink(outside.path(), dir.path().join("0_StaticEmbedding")).unwrap();
        outside.add("model.safetensors", small());
        assert!(matches!(dir.refusal(), Error::Outside { .. }));
    }

    #[test]
    fn a_hub_cache_may_link_to_its_own_blobs_only() {
        let cache = Dir::new();
        cache.add("models--org--name/blobs/abc", small());
        cache.add("models--org--other/blobs/abc", small());
        let snapshot = cache.path().join("models--org--name/snapshots/123");
        fs::create_dir_all(snapshot.join("0_StaticEmbedding")).unwrap();
        let link = snapshot.join("model.safetensors");
        symlink("../../blobs/abc", &link).unwrap();
        assert_eq!(open_at(&snapshot).unwrap().tensor.unwrap(), EMBED);
        let alias = cache.path().join("alias");
        symlink(&snapshot, &alias).unwrap();
        assert_eq!(
            open_at(&alias).unwrap().tensor.unwrap(),
            EMBED,
            "the caller may reach the directory by a link"
        );
        fs::remove_file(&link).unwrap();
        symlink("../../../models--org--other/blobs/abc", &link).unwrap();
        assert!(matches!(refused(open_at(&snapshot)), Error::Outside { .. }));
        fs::remove_file(&link).unwrap();
        symlink("../../../blobs/abc", snapshot.join("0_StaticEmbedding/model.safetensors"))
            .unwrap();
        assert_eq!(open_at(&snapshot).unwrap().tensor.unwrap(), EMBED);
        assert_eq!(open_at(&snapshot.join("0_StaticEmbedding")).unwrap().tensor.unwrap(), EMBED);
    }

    #[test]
    fn a_blobs_directory_elsewhere_is_no_hub_cache() {
        let dir = Dir::new();
        dir.add("name/blobs/abc", small());
        let snapshot = dir.path().join("name/snapshots/123");
        fs::create_dir_all(&snapshot).unwrap();
        symlink("../../blobs/abc", snapshot.join("model.safetensors")).unwrap();
        assert!(matches!(refused(open_at(&snapshot)), Error::Outside { .. }));
    }

    #[test]
    fn a_link_that_leads_nowhere_or_in_a_circle_is_an_error() {
        let dir = Dir::new();
        dir.add("other.safetensors", small());
        let link = dir.path().join("model.safetensors");
        symlink("absent", &link).unwrap();
        assert!(matches!(dir.refusal(), Error::Io { operation: "open", .. }));
        fs::remove_file(&link).unwrap();
        symlink("model.safetensors", &link).unwrap();
        assert!(matches!(dir.refusal(), Error::Io { operation: "open", .. }));
    }

    #[test]
    fn a_fifo_does_not_hang() {
        let dir = Dir::new();
        let fifo = dir.path().join("model.safetensors");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        assert!(matches!(open_at(&fifo), Err(Error::NotRegularFile { kind: "a FIFO", .. })));
        assert!(matches!(dir.refusal(), Error::NotRegularFile { kind: "a FIFO", .. }));
    }
}
