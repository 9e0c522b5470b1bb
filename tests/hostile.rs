//! Inputs that mean harm: files of every format, changed in many ways, opened and used like any
//! other. Each is answered with a table or an error, and no input that ever failed fails again.
//!
//! The twin, on a stable toolchain, of what `tests/fuzz` does with coverage and for hours.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::float_cmp,
    clippy::print_stderr
)]

#[path = "fuzz/src/compact.rs"]
mod compact;
#[cfg(feature = "import")]
#[path = "fuzz/src/import.rs"]
mod import;
#[path = "fuzz/src/inputs.rs"]
mod inputs;
#[path = "fuzz/src/place.rs"]
mod place;
mod support;
#[path = "fuzz/src/uses.rs"]
mod uses;

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use support::Random;

/// What a target of `tests/fuzz` does, by its name; without the crates it compares with.
fn run(target: &str, input: &[u8]) {
    match target {
        "emb" => inputs::emb(input),
        "safetensors" => {
            if let Some(file) = inputs::safetensors_file(input) {
                _ = inputs::used(&file);
            }
        }
        "npy" | "npz" | "gguf" => _ = inputs::used(input),
        "shard_index" => inputs::shard_index(input),
        "tokenizer_json" => inputs::tokenizer_json(input),
        #[cfg(feature = "import")]
        "import" => _ = import::import(input),
        #[cfg(not(feature = "import"))]
        "import" => {}
        other => panic!("tests/fuzz has a target {other}, and this twin does not know it"),
    }
}

#[test]
fn inputs_that_failed_once_do_not_fail_again() {
    let mut inputs = 0;
    for target in fs::read_dir("tests/fuzz/regressions").unwrap() {
        let target = target.unwrap().path();
        for input in fs::read_dir(&target).unwrap() {
            run(
                target.file_name().unwrap().to_str().unwrap(),
                &fs::read(input.unwrap().path()).unwrap(),
            );
            inputs += 1;
        }
    }
    assert!(inputs > 0);
}

#[test]
fn the_twin_knows_every_target() {
    for target in fs::read_dir("tests/fuzz/fuzz_targets").unwrap() {
        run(target.unwrap().path().file_stem().unwrap().to_str().unwrap(), b"");
    }
}

/// Good inputs of a target, as it takes them.
fn good(target: &str) -> Vec<Vec<u8>> {
    let read = |path: &str| fs::read(Path::new("fixtures").join(path)).unwrap();
    let safetensors = |path: &str| [&[0xff, 0xff][..], &read(path)].concat();
    match target {
        "emb" => [
            "f32",
            "f16-tokens",
            "norms",
            "row-order",
            "bf16-align64",
            "i8-scales",
            "f8-e8m0",
            "u4-biases",
            "q8_0",
        ]
        .map(|name| compact::of(&read(&format!("v1/{name}.emb")), compact::ALL))
        .to_vec(),
        "safetensors" => {
            vec![safetensors("sharded/model-00002-of-00003.safetensors"), scaled_safetensors()]
        }
        "gguf" => vec![read("gguf/model.gguf"), small_gguf()],
        "npy" => vec![npy()],
        "npz" => vec![npz()],
        "shard_index" => vec![read("sharded/model.safetensors.index.json")],
        "tokenizer_json" => vec![
            [&[0][..], &read("sharded/tokenizer.json")].concat(),
            b"\x01[PAD]\n[UNK]\ncat\r\n\n##s\n".to_vec(),
            [&[2][..], &read("sharded/config.json")].concat(),
        ],
        "import" => {
            let columns = fs::read_dir("tests/fuzz/seeds/import").unwrap();
            let columns = columns.map(|seed| fs::read(seed.unwrap().path()).unwrap());
            let texts: [&[u8]; 3] = [
                b"\x003 3\nthe 0.5 -1 1e-3\nnew york 1 2 3\n\xc3\xa7 nan inf -0\n",
                b"\x02the 0.5 -1 1e-3\n. . 1 2 3\n",
                b"\x012 1\na \0\0\x80\x3fb \0\0\0\xbf",
            ];
            texts.into_iter().map(<[u8]>::to_vec).chain(columns).collect()
        }
        other => panic!("{other}"),
    }
}

fn scaled_safetensors() -> Vec<u8> {
    let header = r#"{"e.weight":{"dtype":"F8_E4M3","shape":[4,4],"data_offsets":[0,16]},"e.weight_scale":{"dtype":"F32","shape":[4],"data_offsets":[16,32]}}"#;
    [&32u16.to_le_bytes()[..], header.as_bytes()].concat()
}

fn npy() -> Vec<u8> {
    let mut file = Vec::new();
    embmap::NpyHeader::of_rows(embmap::DType::F32, 4, 3).write_to(&mut file).unwrap();
    file.extend(Random(1).bytes(48));
    file
}

/// An archive of one array, stored; without a CRC, which nobody needs to find the rows.
fn npz() -> Vec<u8> {
    let (array, name) = (npy(), b"rows.npy");
    let sizes = [0u32, array.len() as u32, array.len() as u32].map(u32::to_le_bytes).concat();
    let lengths = [name.len() as u16, 0].map(u16::to_le_bytes).concat();
    let mut file = b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend([&sizes[..], &lengths, name, &array].concat());
    let directory = file.len() as u32;
    file.extend(b"PK\x01\x02\x14\0\x14\0\0\0\0\0\0\0\0\0");
    file.extend([&sizes[..], &lengths, &[0; 14], name].concat());
    let bytes = file.len() as u32 - directory;
    file.extend(b"PK\x05\x06\0\0\0\0\x01\0\x01\0");
    file.extend([bytes, directory].map(u32::to_le_bytes).concat());
    file.extend([0, 0]);
    file
}

/// One embedding of blocks, and the tokens of its rows.
fn small_gguf() -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let mut file = b"GGUF\x03\0\0\0".to_vec();
    file.extend([1u64, 1].map(u64::to_le_bytes).concat());
    file.extend(text("tokenizer.ggml.tokens"));
    file.extend([9u32, 8].map(u32::to_le_bytes).concat());
    file.extend([&2u64.to_le_bytes()[..], &text("a"), &text("bc")].concat());
    file.extend(text("token_embd.weight"));
    file.extend([&2u32.to_le_bytes()[..], &[32u64, 2].map(u64::to_le_bytes).concat()].concat());
    file.extend([&8u32.to_le_bytes()[..], &0u64.to_le_bytes()].concat());
    file.resize(file.len().next_multiple_of(32), 0);
    file.extend(Random(2).bytes(68));
    file.resize(file.len().next_multiple_of(32), 0);
    file
}

#[test]
fn what_is_changed_here_is_good_at_first() {
    let opens = |file: &[u8]| embmap::Table::from_bytes(file).unwrap().verify().unwrap().is_sound();
    assert!(good("emb").iter().all(|input| opens(&compact::expand(input).unwrap())));
    assert!(
        good("safetensors").iter().all(|input| opens(&inputs::safetensors_file(input).unwrap()))
    );
    for target in ["npy", "npz", "gguf"] {
        assert!(good(target).iter().all(|input| opens(input)), "{target}");
    }
    for target in ["shard_index", "tokenizer_json"] {
        for input in good(target) {
            run(target, &input);
        }
    }
    #[cfg(feature = "parquet")]
    for input in good("import") {
        assert!(import::import(&input), "{:?}", String::from_utf8_lossy(&input));
    }
}

/// A change to an input.
#[derive(Debug, Clone)]
enum Change {
    Byte(u8),
    /// A number of 1, 2, 4 or 8 bytes: small, or near where something overflows.
    Number {
        value: u64,
        bytes: usize,
    },
    Insert(&'static str),
    Remove(usize),
    /// Bytes of another place are put here.
    Copy {
        from: prop::sample::Index,
        bytes: usize,
    },
    Cut,
}

fn change() -> impl Strategy<Value = Change> {
    let number = prop_oneof![
        0u64..300,
        prop::sample::select(vec![
            u64::MAX,
            u64::MAX - 7,
            i64::MAX as u64,
            1 << 32,
            u64::from(u32::MAX),
            1 << 40,
            1 << 62,
        ]),
        any::<u64>(),
    ];
    let words = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "\\ud800",
        "null",
        "-1",
        "1e400",
        "0.5",
        "18446744073709551616",
        "../",
        "\0",
        "\u{feff}",
        "\"vocab\":",
        "'shape': (",
        "<f8",
        "|O",
        "PK\x01\x02",
    ]);
    prop_oneof![
        4 => any::<u8>().prop_map(Change::Byte),
        4 => (number, prop::sample::select(vec![1usize, 2, 4, 8]))
            .prop_map(|(value, bytes)| Change::Number { value, bytes }),
        3 => words.prop_map(Change::Insert),
        2 => (1usize..40).prop_map(Change::Remove),
        1 => (any::<prop::sample::Index>(), 1usize..64).prop_map(|(from, bytes)| Change::Copy { from, bytes }),
        1 => Just(Change::Cut),
    ]
}

fn apply(input: &mut Vec<u8>, at: usize, change: &Change) {
    match change {
        Change::Byte(byte) => input[at] = *byte,
        Change::Number { value, bytes } => {
            let at = at / bytes * bytes;
            let end = (at + bytes).min(input.len());
            input[at..end].copy_from_slice(&value.to_le_bytes()[..end - at]);
        }
        Change::Insert(word) => _ = input.splice(at..at, word.bytes()),
        Change::Remove(bytes) => _ = input.drain(at..(at + bytes).min(input.len())),
        Change::Copy { from, bytes } => {
            let from = from.index(input.len());
            let copied = input[from..(from + bytes).min(input.len())].to_vec();
            let end = (at + copied.len()).min(input.len());
            input[at..end].copy_from_slice(&copied[..end - at]);
        }
        Change::Cut => input.truncate(at),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changed_files_are_answered(
        target in prop::sample::select(vec![
            "emb", "safetensors", "gguf", "npy", "npz", "shard_index", "tokenizer_json", "import",
            "import",
        ]),
        choice in any::<prop::sample::Index>(),
        head in any::<bool>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), change()), 1..5),
    ) {
        let inputs = good(target);
        let mut input = inputs[choice.index(inputs.len())].clone();
        for (at, change) in &changes {
            // What matters lies mostly in the first bytes.
            let most = if head { input.len().min(600) } else { input.len() };
            if most > 0 {
                apply(&mut input, at.index(most), change);
            }
        }
        run(target, &input);
    }
}
