//! Quantized tables as a script sees them: what quantizing cost, what `info` tells, and what is
//! refused, by `embmap` itself.
#![cfg(feature = "cli")]
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::float_cmp
)]

mod support;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use embmap::{OpenOptions, Table};
use half::{bf16, f16};
use serde_json::Value;
use support::{Random, Tensor, write_safetensors};

const PIECES: &str = "fixtures/pieces";
const GGUF: &str = "fixtures/gguf/model.gguf";

/// Where the rows of an `.emb` file start.
const ROWS_OFFSET: u64 = 65_536;

fn run(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_embmap"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(args).stdin(Stdio::null());
    command.output().unwrap()
}

/// Standard output and standard error of a run that must work.
fn success(args: &[&str]) -> (String, String) {
    let output = run(args);
    let [out, errors] = [&output.stdout, &output.stderr].map(|s| String::from_utf8_lossy(s).into());
    assert_eq!(output.status.code(), Some(0), "{args:?}: {errors}");
    (out, errors)
}

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&success(&[args, &["--json"]].concat()).0).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The number of an `F8_E4M3` code, by its definition; NaN for two of them.
fn e4m3(code: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(code >> 3 & 15), f32::from(code & 7));
    let size = match (exponent, code & 7) {
        (15, 7) => f32::NAN,
        (0, _) => mantissa * 2f32.powi(-9),
        _ => (8.0 + mantissa) * 2f32.powi(exponent - 10),
    };
    if code & 0x80 == 0 { size } else { -size }
}

/// The nearest of the 256 numbers, of two as near the one whose code is even.
fn nearest_e4m3(number: f32) -> f32 {
    let distance = |code: &u8| (f64::from(e4m3(*code)) - f64::from(number)).abs();
    let codes = (0..=255u8).filter(|code| !e4m3(*code).is_nan());
    let best = codes.min_by(|one, other| {
        let order = distance(one).total_cmp(&distance(other));
        order.then((one & 1).cmp(&(other & 1)))
    });
    e4m3(best.unwrap())
}

/// What is read in place of a row that was quantized, step by step.
fn quantized(dtype: &str, row: &[f32]) -> Vec<f32> {
    let largest = |numbers: &[f32]| numbers.iter().fold(0f32, |most, x| most.max(x.abs()));
    match dtype {
        "i8" => {
            let scale = largest(row) / 127.0;
            let code = |x: &f32| if scale == 0.0 { 0.0 } else { (x / scale).round_ties_even() };
            row.iter().map(|x| code(x) * scale).collect()
        }
        "f8_e4m3" => {
            let scale = largest(row) / 448.0;
            let number = |x: &f32| if scale == 0.0 { 0.0 } else { nearest_e4m3(x / scale) };
            row.iter().map(|x| number(x) * scale).collect()
        }
        _ => row
            .chunks(32)
            .flat_map(|block| {
                let scale = largest(block) / 127.0;
                let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
                let stored = f16::from_f32(scale).to_f32();
                block.iter().map(move |x| (x * inverse).round() * stored)
            })
            .collect(),
    }
}

/// The largest error, its root of the mean square, the mean and the least cosine of a row.
fn cost(given: &[f32], read: &[f32], dim: usize) -> [f64; 4] {
    let (mut most, mut squares, mut cosines) = (0f64, 0f64, Vec::new());
    for (given, read) in given.chunks(dim).zip(read.chunks(dim)) {
        let (mut dot, mut one, mut other) = (0f64, 0f64, 0f64);
        for (a, b) in given.iter().zip(read) {
            let (a, b) = (f64::from(*a), f64::from(*b));
            most = most.max((a - b).abs());
            squares += (a - b).powi(2);
            (dot, one, other) = (dot + a * b, one + a * a, other + b * b);
        }
        cosines.push(if one == 0.0 { 1.0 } else { dot / (one.sqrt() * other.sqrt()) });
    }
    let rows = cosines.len() as f64;
    let mean = cosines.iter().sum::<f64>() / rows;
    let least = cosines.iter().copied().fold(1.0, f64::min);
    [most, (squares / given.len() as f64).sqrt(), mean, least]
}

/// Rows of a usual kind: no two alike, one of zeros, one with a single large number.
fn usual_rows(vocab: usize, dim: usize) -> Vec<f32> {
    let mut random = Random(23);
    let mut rows: Vec<f32> = (0..vocab * dim)
        .map(|at| (random.below(20_001) as f32 / 10_000.0 - 1.0) * (1 + at / dim % 7) as f32)
        .collect();
    rows[..dim].fill(0.0);
    rows[dim] = 300.0;
    rows
}

#[test]
fn what_quantizing_cost_is_told_thrice() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (from, to) = (directory.path().join("from.safetensors"), directory.path().join("to.emb"));
    let (vocab, dim) = (150, 96);
    let numbers = usual_rows(vocab, dim);
    for stored in ["f32", "bf16"] {
        let bytes: Vec<u8> = match stored {
            "f32" => numbers.iter().flat_map(|x| x.to_le_bytes()).collect(),
            _ => numbers.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect(),
        };
        let given: Vec<f32> = match stored {
            "f32" => numbers.clone(),
            _ => numbers.iter().map(|x| bf16::from_f32(*x).to_f32()).collect(),
        };
        let shape = [vocab as u64, dim as u64];
        write_safetensors(&from, &[("wte.weight", &stored.to_uppercase(), &shape, &bytes)]);
        for (dtype, row_bytes) in [("i8", dim + 4), ("f8_e4m3", dim + 4), ("q8_0", dim / 32 * 34)] {
            let args = ["convert", text(&from), "-o", text(&to), "-f", "--dtype", dtype];
            let (out, summary) = success(&args);
            assert_eq!(out, "", "data goes to standard output, and there is none");
            let read: Vec<f32> = given.chunks(dim).flat_map(|row| quantized(dtype, row)).collect();
            let table = OpenOptions::new().open(&to).unwrap();
            let ids: Vec<u64> = (0..vocab as u64).collect();
            assert_eq!(table.gather::<u64, f32>(&ids).unwrap(), read, "{stored} to {dtype}");

            let expected = cost(&given, &read, dim);
            assert!(expected[0] > 0.0 && expected[1] > 0.0 && expected[3] < 1.0, "{expected:?}");
            let [most, rms, mean, least] = expected;
            let told = format!(
                "quantized from {stored}: error {most:.3e} at most, {rms:.3e} RMS; cosine {mean:.6} in the mean, {least:.6} at least"
            );
            assert!(summary.contains(&told), "expected {told}: {summary}");

            let object = json(&args);
            let metadata = json(&["info", text(&to)])["metadata"]["quantization"].clone();
            for found in [&object["quantization"], &metadata] {
                let names = ["max_error", "rms_error", "mean_cosine", "min_cosine"];
                for (name, expected) in names.iter().zip(expected) {
                    let number = found[name].as_f64().unwrap();
                    assert!((number - expected).abs() < 1e-9, "{dtype} {name}: {found} {expected}");
                }
            }
            assert_eq!((&metadata["from"], &metadata["to"]), (&stored.into(), &dtype.into()));
            let found = json(&["info", text(&to)]);
            assert_eq!((&found["dtype"], &found["row_bytes"]), (&dtype.into(), &row_bytes.into()));
        }
    }
    // Where nothing is quantized there is no cost to tell.
    let args = ["convert", text(&from), "-o", text(&to), "-f", "--dtype", "f32"];
    assert_eq!(json(&args)["quantization"], Value::Null);
    assert!(!success(&args).1.contains("quantized from"));
    assert_eq!(json(&["info", text(&to)])["metadata"]["quantization"], Value::Null);
}

/// The pages of 4 KiB that rows touch, counted row by row.
fn pages(starts: impl Iterator<Item = u64>, bytes: u64) -> u64 {
    starts.map(|start| (start + bytes - 1) / 4096 - start / 4096 + 1).sum()
}

/// The mean pages of rows that lie one after the other in an `.emb` file.
fn pages_in_emb(vocab: u64, stride: u64, bytes: u64) -> f64 {
    pages((0..vocab).map(|row| ROWS_OFFSET + row * stride), bytes) as f64 / vocab as f64
}

/// What `info` says of a table in place, and what becomes of it with each `--align` that it names.
fn check_info(path: &str, tensor: &str, vocab: u64, row_bytes: u64, pages_here: u64) -> Value {
    let found = json(&["info", path, "--tensor", tensor]);
    let mean = pages_here as f64 / vocab as f64;
    assert_eq!((&found["vocab"], &found["row_bytes"]), (&vocab.into(), &row_bytes.into()));
    assert!((found["pages_per_row"].as_f64().unwrap() - mean).abs() < 1e-12, "{found}");
    let (shown, _) = success(&["info", path, "--tensor", tensor]);
    let line = shown.lines().find(|line| line.starts_with("pages ")).unwrap();
    assert!(line.contains(&format!("{mean:.3} of 4 KiB a cold row")), "{line}");
    assert!(shown.contains(&format!("{row_bytes} bytes, dense")), "{shown}");

    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let copy = directory.path().join("aligned.emb");
    let mut aligns = Vec::new();
    let dense = ROWS_OFFSET + vocab * row_bytes;
    for aligned in found["aligned"].as_array().unwrap() {
        let number = |name: &str| aligned[name].as_u64().unwrap();
        let (align, stride) = (number("align"), row_bytes.next_multiple_of(number("align")));
        let expected = pages_in_emb(vocab, stride, row_bytes);
        assert_eq!(
            (number("row_stride"), number("cost_bytes")),
            (stride, (stride - row_bytes) * vocab)
        );
        let told = aligned["pages_per_row"].as_f64().unwrap();
        assert!((told - expected).abs() < 1e-12, "{aligned}: {expected}");
        let name = if align == 1 { ".emb".to_owned() } else { format!("--align {align}") };
        assert!(line.contains(&format!("{name} {expected:.3}")), "{line}");
        // The promise is kept.
        let align = align.to_string();
        let mut args = vec!["convert", path, "--tensor", tensor, "-o", text(&copy), "-f"];
        if align != "1" {
            args.extend(["--align", &align]);
        }
        success(&args);
        let written = json(&["info", text(&copy)]);
        assert_eq!(written["row_stride"], stride);
        assert!((written["pages_per_row"].as_f64().unwrap() - expected).abs() < 1e-12);
        let end = ROWS_OFFSET + vocab * stride;
        assert!(written["file_bytes"].as_u64().unwrap() >= end.max(dense));
        aligns.push(align);
    }
    assert_eq!(aligns, ["1", "64", "512", "4096"]);
    found
}

#[test]
fn info_tells_what_a_cold_row_of_pieces_costs() {
    let stem = "model.language_model.layers.1.ple.ple_embedding.ngram_embedding";
    let pattern = format!("{stem}.shard_{{}}.weight");
    // The places of the pieces, as the files' headers have them.
    let mut here = 0;
    for file in 1..=2 {
        let path = format!("{PIECES}/model-0000{file}-of-00002.safetensors");
        let bytes = std::fs::read(path).unwrap();
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap());
        let header: Value = serde_json::from_slice(&bytes[8..8 + length as usize]).unwrap();
        for (name, tensor) in header.as_object().unwrap() {
            if name.starts_with(&format!("{stem}.shard_")) {
                let start = 8 + length + tensor["data_offsets"][0].as_u64().unwrap();
                here += pages((0..61).map(|row| start + row * 40), 40);
            }
        }
    }
    let found = check_info(PIECES, &pattern, 671, 40, here);
    assert_eq!((&found["dtype"], &found["codec"]), (&"f8_e4m3".into(), &"scaled".into()));
    let scaling = serde_json::json!({ "block": 40, "scale": "bf16", "bias": null });
    assert_eq!(found["scaling"], scaling);
    assert_eq!(
        (&found["pieces"], &found["scales"]),
        (&11.into(), &format!("{stem}.weight_scale").into())
    );
    assert_eq!(found["files"].as_array().unwrap().len(), 2);
    let (shown, _) = success(&["info", PIECES]);
    for expected in [
        "f8_e4m3, codec scaled: bf16 scale for every 40 elements",
        &format!("{pattern} in 11 pieces"),
        &format!("{stem}.weight_scale"),
        "model-00001-of-00002.safetensors, model-00002-of-00002.safetensors",
    ] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
}

#[test]
fn info_tells_what_a_cold_row_of_blocks_costs() {
    let file = std::fs::read(GGUF).unwrap();
    for (tensor, dtype, row_bytes) in [
        ("token_embd.weight", "q8_0", 68u64),
        ("per_layer_token_embd.weight", "q5_1", 48),
        ("blk.1.engram_embd.weight", "q4_0", 36),
    ] {
        // The rows stand where their bytes are.
        let table =
            OpenOptions::new().tensor(tensor).access(embmap::Access::Memory).open(GGUF).unwrap();
        let first: Vec<u8> =
            (0..4).flat_map(|id| table.encoded_row(id).unwrap().to_vec()).collect();
        let mut places = (0..file.len() - first.len()).filter(|at| file[*at..].starts_with(&first));
        let start = places.next().unwrap() as u64;
        assert_eq!(places.next(), None);
        let here = pages((0..256).map(|row| start + row * row_bytes), row_bytes);
        let found = check_info(GGUF, tensor, 256, row_bytes, here);
        assert_eq!((&found["dtype"], &found["codec"]), (&dtype.into(), &"blocks".into()));
        assert_eq!((&found["pieces"], &found["scaling"]), (&1.into(), &Value::Null));
        assert_eq!(found["files"].as_array().unwrap().len(), 1);
    }
}

/// Tensors whose bytes do not matter.
type Forms<'a> = &'a [(&'a str, &'a str, &'a [u64])];

fn write_forms(path: &Path, forms: Forms<'_>) {
    let size = |dtype: &str| match dtype {
        "F32" | "U32" | "I32" => 4,
        "F16" | "BF16" | "I16" => 2,
        "F64" => 8,
        _ => 1,
    };
    let mut random = Random(3);
    let bytes: Vec<Vec<u8>> = forms
        .iter()
        .map(|(_, dtype, shape)| random.bytes(shape.iter().product::<u64>() as usize * size(dtype)))
        .collect();
    let tensors: Vec<Tensor<'_>> = forms
        .iter()
        .zip(&bytes)
        .map(|((name, dtype, shape), bytes)| (*name, *dtype, *shape, &bytes[..]))
        .collect();
    write_safetensors(path, &tensors);
}

/// What is no table that is read, the values first, and what the error says of it.
const UNKNOWN: &[(Forms<'_>, &[&str])] = &[
    // The scales have a name that is not known.
    (
        &[("t.weight", "F8_E4M3", &[30, 64]), ("t.weight_scale_2", "F16", &[30, 2])],
        &["t.weight", "[30, 64] of f8_e4m3", "\"t.weight_scale_2\" [30, 2] f16", "--scales"],
    ),
    (
        &[
            ("t.weight", "I8", &[30, 64]),
            ("t.scales", "F16", &[30]),
            ("t.zero_points", "I8", &[30]),
        ],
        &["[30, 64] of i8", "\"t.scales\" [30] f16", "\"t.zero_points\" [30] i8"],
    ),
    (
        &[
            ("t.shard_0.weight", "F8_E4M3", &[30, 64]),
            ("t.shard_1.weight", "F8_E4M3", &[30, 64]),
            ("t.shard_0.scales", "F16", &[30]),
            ("t.shard_1.scales", "F16", &[30]),
            ("t.weight_scale", "BF16", &[]),
        ],
        &["\"t.shard_0.scales\" [30] f16", "\"t.weight_scale\" [] bf16"],
    ),
    // More dimensions than two.
    (
        &[("t.weight", "F8_E4M3", &[3, 10, 64]), ("t.weight_scale", "F32", &[])],
        &["t.weight", "[3, 10, 64] of f8_e4m3", "two dimensions"],
    ),
    // 6 bits in bytes: with scales alone, and with biases; 4 bits with a scale a row.
    (
        &[("t.weight", "U8", &[30, 120]), ("t.scales", "F16", &[30, 5])],
        &["t.weight", "[30, 120] of u8", "\"t.scales\" [30, 5] f16", "no biases"],
    ),
    (
        &[
            ("t.weight", "U8", &[30, 120]),
            ("t.scales", "F16", &[30, 5]),
            ("t.biases", "F16", &[30, 5]),
        ],
        &["[30, 120] of u8", "\"t.scales\" [30, 5] f16", "32 values of 6 bits"],
    ),
    (
        &[("t.weight", "U8", &[30, 80]), ("t.weight_scale", "F16", &[30])],
        &["[30, 80] of u8", "\"t.weight_scale\" [30] f16"],
    ),
    // Types that are not read.
    (
        &[("t.weight", "I16", &[30, 64]), ("t.weight_scale", "F32", &[30])],
        &["[30, 64] of i16", "\"t.weight_scale\" [30] f32", "expected one of f32"],
    ),
    (
        &[("t.weight", "U32", &[30, 20]), ("t.scales", "BF16", &[30, 5])],
        &["[30, 20] of packed u32", "\"t.scales\" [30, 5] bf16", "no biases"],
    ),
    (
        &[
            ("t.weight", "U32", &[30, 20]),
            ("t.scales", "BF16", &[30, 7]),
            ("t.biases", "BF16", &[30, 7]),
        ],
        &["[30, 20] of packed u32", "\"t.scales\" [30, 7] bf16", "4, 6 or 8 bits"],
    ),
    // Scales of the wrong count, type and shape; a block that does not divide dim.
    (
        &[("t.weight", "F8_E4M3", &[30, 64]), ("t.weight_scale", "F32", &[29])],
        &["t.weight_scale", "[29] of f32", "\"t.weight\" [30, 64] f8_e4m3", "expected [], [30]"],
    ),
    (
        &[("t.weight", "F8_E4M3", &[30, 64]), ("t.weight_scale", "I32", &[30])],
        &["t.weight_scale", "[30] of i32", "\"t.weight\" [30, 64] f8_e4m3", "f8_e8m0"],
    ),
    (
        &[("t.weight", "F8_E4M3", &[30, 64]), ("t.weight_scale", "F32", &[30, 1, 1])],
        &["t.weight_scale", "[30, 1, 1] of f32", "\"t.weight\" [30, 64] f8_e4m3"],
    ),
    (
        &[("t.weight", "I8", &[30, 64]), ("t.scales", "F16", &[30, 5])],
        &[
            "t.scales",
            "[30, 5] of f16",
            "\"t.weight\" [30, 64] i8",
            "do not divide the 64 elements",
        ],
    ),
    (
        &[
            ("t.weight", "I8", &[30, 64]),
            ("t.scales", "F16", &[30, 2]),
            ("t.biases", "F16", &[30, 4]),
        ],
        &["t.biases", "[30, 4]", "one bias for 16 values, expected one for 32"],
    ),
    // A piece that is missing, of the values and of the scales.
    (
        &[("t.shard_0.weight", "F8_E4M3", &[30, 64]), ("t.shard_2.weight", "F8_E4M3", &[30, 64])],
        &["t.shard_{}.weight", "lacks piece 1, \"t.shard_1.weight\""],
    ),
    (
        &[
            ("t.shard_0.weight", "F8_E4M3", &[30, 64]),
            ("t.shard_1.weight", "F8_E4M3", &[30, 64]),
            ("t.shard_0.weight_scale", "F32", &[30]),
        ],
        &["t.shard_{}.weight_scale", "in 1 pieces, expected 2"],
    ),
    (
        &[("t.shard_0.weight", "F8_E4M3", &[30, 64]), ("t.shard_1.weight", "F8_E4M3", &[30, 32])],
        &["t.shard_1.weight", "[30, 32]", "expected rows of 64 f8_e4m3"],
    ),
];

#[test]
fn forms_that_are_not_known_are_refused_before_a_row_is_served() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = directory.path().join("model.safetensors");
    let never = directory.path().join("never.emb");
    for (forms, expected) in UNKNOWN {
        write_forms(&path, forms);
        let tensor = forms[0].0.replace("shard_0", "shard_{}");
        for command in [&["info"][..], &["get"], &["convert", "-o", text(&never)]] {
            let mut args = command.to_vec();
            args.extend([text(&path), "--tensor", &tensor]);
            args.extend((command == ["get"]).then_some("0"));
            let output = run(&args);
            let message = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{forms:?}: {message}");
            assert_eq!(output.stdout, b"", "{forms:?}");
            for expected in expected.iter().chain([&text(&path)]) {
                assert!(message.contains(expected), "expected {expected:?}: {message}");
            }
        }
    }
    assert!(!never.exists());
}

#[test]
fn bytes_with_scales_alone_are_read_where_somebody_says_so() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = directory.path().join("model.safetensors");
    let codes: Vec<u8> = (0..30 * 64u16).map(|at| (at % 251) as u8).collect();
    let scales: Vec<u8> =
        (1..=30u8).flat_map(|row| f16::from_f32(f32::from(row)).to_le_bytes()).collect();
    write_safetensors(
        &path,
        &[("t.weight", "U8", &[30, 64], &codes), ("t.scales", "F16", &[30], &scales)],
    );
    assert!(OpenOptions::new().tensor("t.weight").open(&path).is_err());
    let table: Table =
        OpenOptions::new().tensor("t.weight").scales("t.scales").open(&path).unwrap();
    let mut row = [0f32; 64];
    table.gather_into(&[7u64], &mut row).unwrap();
    let expected: Vec<f32> =
        codes[7 * 64..8 * 64].iter().map(|code| f32::from(*code) * 8.0).collect();
    assert_eq!(row[..], expected);
    let found = json(&["info", text(&path), "--tensor", "t.weight", "--scales", "t.scales"]);
    assert_eq!((&found["dim"], &found["codec"]), (&64.into(), &"scaled".into()));
    // A config that says otherwise is believed, biases or not.
    write_forms(
        &path,
        &[
            ("t.weight", "U8", &[30, 64]),
            ("t.scales", "F16", &[30, 2]),
            ("t.biases", "F16", &[30, 2]),
        ],
    );
    assert_eq!(json(&["info", text(&path), "--tensor", "t.weight"])["dim"], 64);
    std::fs::write(
        directory.path().join("config.json"),
        r#"{"quantization":{"bits":6,"group_size":32}}"#,
    )
    .unwrap();
    let output = run(&["info", text(directory.path()), "--tensor", "t.weight"]);
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("config.json states 6 bits"), "{message}");
}
