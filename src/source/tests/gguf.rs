//! GGUF files: what is read, and what is refused.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::super::gguf::TYPES;
use super::super::{SourceOptions, Vocabulary, from_stored, list_tensors, open};
use super::stored;
use crate::dtype::DType;
use crate::error::{Error, Place, Result};
use crate::layout::RowPlace;

/// A file as it is put together. Numbers are given as they are to stand in the file.
#[derive(Clone)]
struct File {
    version: u32,
    tensors: Option<u64>,
    keys: Option<u64>,
    metadata: Vec<(String, u32, Vec<u8>)>,
    infos: Vec<Info>,
    alignment: u64,
    data: usize,
}

#[derive(Clone)]
struct Info {
    name: String,
    dims: Vec<u64>,
    kind: u32,
    offset: u64,
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

fn array(kind: u32, count: u64, values: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &count.to_le_bytes(), values].concat()
}

impl File {
    /// An embedding of f32 and whatever comes with it.
    fn new() -> Self {
        File {
            version: 3,
            tensors: None,
            keys: None,
            metadata: Vec::new(),
            infos: Vec::new(),
            alignment: 32,
            data: 0,
        }
    }

    fn key(mut self, name: &str, kind: u32, value: impl AsRef<[u8]>) -> Self {
        self.metadata.push((name.to_owned(), kind, value.as_ref().to_vec()));
        self
    }

    /// A tensor behind those before it; the innermost dimension first.
    fn tensor(mut self, name: &str, kind: u32, dims: &[u64]) -> Self {
        let known = TYPES[kind as usize];
        let bytes = dims.iter().product::<u64>() / known.block.max(1) * known.bytes;
        let offset = (self.data as u64).next_multiple_of(self.alignment);
        self.infos.push(Info { name: name.to_owned(), dims: dims.to_vec(), kind, offset });
        self.data = usize::try_from(offset + bytes).unwrap();
        self
    }

    fn tokens(self, tokens: &[&str]) -> Self {
        let values: Vec<u8> = tokens.iter().flat_map(|token| text(token)).collect();
        self.key("tokenizer.ggml.tokens", 9, array(8, tokens.len() as u64, &values))
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(self.tensors.unwrap_or(self.infos.len() as u64).to_le_bytes());
        bytes.extend(self.keys.unwrap_or(self.metadata.len() as u64).to_le_bytes());
        for (name, kind, value) in &self.metadata {
            bytes.extend(text(name));
            bytes.extend(kind.to_le_bytes());
            bytes.extend(value);
        }
        for info in &self.infos {
            bytes.extend(text(&info.name));
            bytes.extend(u32::try_from(info.dims.len()).unwrap().to_le_bytes());
            info.dims.iter().for_each(|dim| bytes.extend(dim.to_le_bytes()));
            bytes.extend(info.kind.to_le_bytes());
            bytes.extend(info.offset.to_le_bytes());
        }
        let alignment = usize::try_from(self.alignment).unwrap();
        bytes.resize(bytes.len().next_multiple_of(alignment), 0);
        bytes.extend((0..self.data).map(|i| u8::try_from(i % 251).unwrap()));
        bytes
    }

    fn open(&self) -> Result<super::super::FoundTable> {
        from_stored(stored(&self.bytes()), &SourceOptions::default())
    }

    fn refusal(&self) -> String {
        match self.open() {
            Ok(found) => panic!("opened {:?}", found.tensor),
            Err(error @ Error::Foreign { format: "gguf", .. }) => error.to_string(),
            Err(other) => panic!("{other}"),
        }
    }
}

const EMBED: &str = "token_embd.weight";

fn small() -> File {
    File::new().tensor("output_norm.weight", 0, &[4]).tensor(EMBED, 0, &[4, 3])
}

#[test]
fn the_embedding_is_found_behind_metadata_of_every_kind() {
    let mut file = File::new();
    for kind in [0u32, 1, 7] {
        file = file.key(&format!("one.{kind}"), kind, [1]);
    }
    for (kind, bytes) in [(2, 2), (3, 2), (4, 4), (5, 4), (6, 4), (10, 8), (11, 8), (12, 8)] {
        file = file.key(&format!("many.{kind}"), kind, vec![1; bytes]);
    }
    let nested = [array(8, 1, &text("x")), array(0, 3, &[1, 2, 3])].concat();
    file = file
        .key("a.string", 8, text("é"))
        .key("an.array", 9, array(6, 3, &[0; 12]))
        .key("strings", 9, array(8, 2, &[text("a"), text("")].concat()))
        .key("arrays", 9, array(9, 2, &nested))
        .key("general.alignment", 4, 64u32.to_le_bytes());
    file.alignment = 64;
    for version in [2, 3] {
        let mut file = file.clone().tensor("blk.0.attn.weight", 12, &[256, 2]);
        file = file.tensor(EMBED, 30, &[5, 3]).tensor("output.weight", 20, &[32, 3]);
        file.version = version;
        let found = file.open().unwrap();
        assert_eq!((found.format, found.tensor.as_deref().unwrap()), ("gguf", EMBED));
        assert_eq!((found.layout.vocab, found.layout.dim, found.dtype), (3, 5, DType::BF16));
        let data = (file.bytes().len() - file.data) as u64;
        assert_eq!(data % 64, 0);
        let offset = data + 320 + 10;
        assert_eq!(found.layout.values.place(1), Some(RowPlace { file: 0, offset }));
    }
}

#[test]
fn every_block_type_has_the_sizes_of_the_format_and_unknown_ones_are_only_listed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("types.gguf");
    let mut file = File::new().tensor(EMBED, 0, &[4, 3]);
    for (kind, known) in TYPES.iter().enumerate() {
        file = file.tensor(known.name, u32::try_from(kind).unwrap(), &[256, 2]);
    }
    file = file.tensor("late", 1, &[4, 1]);
    file.infos.push(Info { name: "new".to_owned(), dims: vec![7, 7], kind: 1000, offset: 0 });
    fs::write(&path, file.bytes()).unwrap();
    let list = list_tensors(&path, false).unwrap();
    assert_eq!(list.len(), TYPES.len() + 3);
    for tensor in &list {
        assert_eq!(tensor.picked, tensor.name == EMBED);
        if let Some(known) = TYPES.iter().find(|known| known.name == tensor.name) {
            assert_eq!((tensor.dtype.as_str(), &tensor.shape[..]), (known.name, &[2, 256][..]));
        }
    }
    let new = list.iter().find(|tensor| tensor.name == "new").unwrap();
    assert_eq!((new.dtype.as_str(), new.candidate), ("ggml_unknown", false));
    assert!(open(&path, &SourceOptions::default()).is_ok());
    for name in ["new", "iq1_s", "mxfp4", "q4_2"] {
        let named = SourceOptions { tensor: Some(name.to_owned()), ..SourceOptions::default() };
        let error = open(&path, &named).err().unwrap();
        assert!(matches!(&error, Error::TensorForm { tensor, .. } if tensor == name), "{error}");
    }
}

#[test]
fn tokens_are_read_from_the_file_when_they_are_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model");
    fs::write(&path, small().tokens(&["<s>", "", "Ġcat", "é"]).bytes()).unwrap();
    let found = open(&path, &SourceOptions::default()).unwrap();
    assert_eq!(found.tokens.as_deref(), Some(path.as_path()));
    let tokens = Vocabulary::read(&path).unwrap();
    assert_eq!(tokens.iter().collect::<Vec<_>>(), [Some("<s>"), Some(""), Some("Ġcat"), Some("é")]);
    fs::write(&path, small().bytes()).unwrap();
    assert_eq!(open(&path, &SourceOptions::default()).unwrap().tokens, None);
    let broken = array(8, 2, &[text("a"), [&1u64.to_le_bytes()[..], &[0xff]].concat()].concat());
    let file = small().key("tokenizer.ggml.tokens", 9, broken);
    fs::write(&path, file.bytes()).unwrap();
    assert!(open(&path, &SourceOptions::default()).is_ok());
    let error = Vocabulary::read(&path).unwrap_err();
    assert!(error.to_string().contains("token 1 is not UTF-8"), "{error}");
}

#[test]
fn what_no_gguf_file_may_say_is_refused() {
    let with = |change: &dyn Fn(&mut File)| {
        let mut file = small().key("a", 4, [0; 4]);
        change(&mut file);
        file.refusal()
    };
    for (expected, refusal) in [
        ("version is 1, expected 2 or 3", with(&|file| file.version = 1)),
        ("version is 4, expected 2 or 3", with(&|file| file.version = 4)),
        ("big-endian", with(&|file| file.version = 3 << 24)),
        ("declares 18446744073709551615 tensors", with(&|file| file.tensors = Some(u64::MAX))),
        ("declares 100000 tensors", with(&|file| file.tensors = Some(100_000))),
        ("declares 18446744073709551615 keys", with(&|file| file.keys = Some(u64::MAX))),
        ("is there twice", with(&|file| file.metadata.push(("a".into(), 0, vec![0])))),
        ("has the type 13", with(&|file| file.metadata[0].1 = 13)),
        (
            "bytes are expected here",
            with(&|file| file.metadata[0] = ("a".into(), 8, vec![0xff; 8])),
        ),
        (
            "bytes are expected here",
            with(&|file| file.metadata[0] = ("a".into(), 9, array(8, 1 << 60, &[]))),
        ),
        (
            "bytes are expected here",
            with(&|file| file.metadata[0] = ("a".into(), 9, array(12, 1 << 60, &[]))),
        ),
        (
            "expected a power of two",
            with(&|file| {
                file.metadata[0] = ("general.alignment".into(), 4, 24u32.to_le_bytes().to_vec());
            }),
        ),
        (
            "expected a power of two",
            with(&|file| file.metadata[0] = ("general.alignment".into(), 4, vec![0; 4])),
        ),
        (
            "expected an array",
            with(&|file| file.metadata[0] = ("tokenizer.ggml.tokens".into(), 4, vec![0; 4])),
        ),
        (
            "two tensors have this name",
            with(&|file| file.infos[1].name = "output_norm.weight".into()),
        ),
        ("has 5 dimensions", with(&|file| file.infos[0].dims = vec![1; 5])),
        ("larger than 64 bits", with(&|file| file.infos[1].dims = vec![1 << 40, 1 << 40])),
        ("expected a multiple of the 32", with(&|file| file.infos[1].kind = 8)),
        ("expected a multiple of the alignment", with(&|file| file.infos[1].offset = 33)),
        ("where another tensor's ends at 16", with(&|file| file.infos[1].offset = 0)),
        ("it was cut short", with(&|file| file.infos[1].offset = 64)),
        ("larger than 64 bits", with(&|file| file.infos[1].offset = !31)),
        ("it was cut short", with(&|file| file.infos[1].offset = !127)),
        ("it was cut short", with(&|file| file.data -= 1)),
    ] {
        assert!(refusal.contains(expected), "expected {expected:?}: {refusal}");
    }
    let deep = (0..6).fold(array(0, 1, &[1]), |inner, _| array(9, 1, &inner));
    assert!(small().key("deep", 9, deep).refusal().contains("arrays lie deeper"));
}

#[test]
fn a_file_that_ends_anywhere_is_refused_and_never_panics() {
    let bytes = small().tokens(&["a", "b"]).key("x", 9, array(6, 3, &[0; 12])).bytes();
    for length in 4..bytes.len() {
        let found = from_stored(stored(&bytes[..length]), &SourceOptions::default());
        assert!(matches!(found, Err(Error::Foreign { format: "gguf", .. })), "{length}");
    }
    assert!(from_stored(stored(&bytes), &SourceOptions::default()).is_ok());
}

proptest! {
    #[test]
    fn mutated_files_are_opened_or_refused(
        at in 4usize..400, byte: u8, then in 4usize..400, other: u8,
    ) {
        let mut bytes = small().tokens(&["a", "b"]).key("x", 9, array(6, 3, &[0; 12])).bytes();
        for (at, byte) in [(at, byte), (then, other)] {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        if let Ok(found) = from_stored(stored(&bytes), &SourceOptions::default()) {
            let last = found.layout.vocab.checked_sub(1).and_then(|id| found.layout.values.place(id));
            let end = last.map_or(0, |place| place.offset + found.layout.values.row_bytes());
            prop_assert!(end <= bytes.len() as u64);
        }
    }
}

#[test]
fn a_head_without_end_is_refused_within_a_second() {
    // A sparse file that declares as many empty strings as it has room for.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("endless.gguf");
    for (kind, bytes) in [(8u32, 8u64), (9, 12), (0, 1)] {
        let count = (1u64 << 35) / bytes - 100;
        let file = small().key("endless", 9, array(kind, count, &[]));
        fs::write(&path, file.bytes()).unwrap();
        fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(1 << 36).unwrap();
        let started = Instant::now();
        let error = open(&path, &SourceOptions::default()).err().unwrap();
        assert!(matches!(error, Error::Foreign { .. }), "{error}");
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    }
}

/// The parts of a model of three tensors.
fn parts(dir: &Path) -> Vec<PathBuf> {
    let names = ["blk.0.attn.weight", EMBED, "output.weight"];
    let part = |(i, name): (usize, &&str)| {
        let mut file = File::new().tensor(name, 0, &[4, 3 + i as u64]);
        file = file.key("split.no", 2, u16::try_from(i).unwrap().to_le_bytes());
        file = file.key("split.count", 2, 3u16.to_le_bytes());
        file = file.key("split.tensors.count", 5, 3i32.to_le_bytes());
        if i == 0 {
            file = file.tokens(&["a"]);
        }
        let path = dir.join(format!("m-{:05}-of-00003.gguf", i + 1));
        fs::write(&path, file.bytes()).unwrap();
        path
    };
    names.iter().enumerate().map(part).collect()
}

#[test]
fn the_parts_of_a_model_are_one() {
    let dir = tempfile::tempdir().unwrap();
    let parts = parts(dir.path());
    for path in parts.iter().map(PathBuf::as_path).chain([dir.path()]) {
        let found = open(path, &SourceOptions::default()).unwrap();
        assert_eq!((found.tensor.as_deref().unwrap(), found.layout.vocab), (EMBED, 4));
        assert_eq!(found.files.len(), 1);
        assert_eq!(found.files[0].path(), parts[1]);
        assert_eq!(found.tokens.as_deref(), Some(parts[0].as_path()));
        assert_eq!(list_tensors(path, false).unwrap().len(), 3);
    }
    let refusal = |path: &Path| open(path, &SourceOptions::default()).err().unwrap();
    let renamed = dir.path().join("other.gguf");
    fs::copy(&parts[1], &renamed).unwrap();
    let error = refusal(&renamed);
    assert!(error.to_string().contains("part 2 of 3"), "{error}");
    fs::remove_file(&renamed).unwrap();

    fs::copy(&parts[1], &parts[2]).unwrap();
    let error = refusal(&parts[0]);
    assert!(
        matches!(&error, Error::Foreign { place: Place::Name(name), .. } if name == "split.no")
    );
    fs::remove_file(&parts[2]).unwrap();
    let error = refusal(&parts[0]);
    assert!(error.to_string().contains("m-00003-of-00003.gguf"), "{error}");
    // In a directory they are no model any more.
    assert!(matches!(refusal(dir.path()), Error::NoTable { .. }));
}
