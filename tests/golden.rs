//! Golden files: the writer makes these bytes, and the reader finds in them what went in.
//!
//! They are frozen: `fixtures/v1/SUMS` has the sum of each, and every later version opens them.
//! `EMBMAP_WRITE_GOLDEN=1 cargo test --test golden` writes new ones, whose sums are added by hand.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::float_cmp,
    clippy::print_stderr
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use embmap::{Codec, DType, ScaleType, Scaling, Table, WriteOptions};
use half::{bf16, f16};

/// One golden file: what goes in.
struct Golden {
    name: &'static str,
    dtype: DType,
    codec: Codec,
    table_scale: Option<[u8; 2]>,
    dim: usize,
    align: Option<u64>,
    /// The ids whose rows lie first.
    order: Vec<u64>,
    /// The rows, encoded.
    rows: Vec<u8>,
    /// What they stand for, where that is more than their elements.
    numbers: Vec<f32>,
    /// No token sections where empty.
    tokens: Vec<Option<&'static str>>,
    tokenizer: Option<&'static str>,
    metadata: Option<&'static str>,
    norms: bool,
}

/// Plain rows and nothing else, none of them yet.
impl Default for Golden {
    fn default() -> Self {
        Golden {
            name: "",
            dtype: DType::F32,
            codec: Codec::Plain,
            table_scale: None,
            dim: 1,
            align: None,
            order: vec![],
            rows: vec![],
            numbers: vec![],
            tokens: vec![],
            tokenizer: None,
            metadata: None,
            norms: false,
        }
    }
}

fn goldens() -> Vec<Golden> {
    let f32s: Vec<f32> = vec![
        0.0,
        -0.0,
        1.0,
        f32::MIN_POSITIVE / 4.0,
        f32::MAX,
        f32::NEG_INFINITY,
        f32::from_bits(0x7fc0_1234),
        f32::from_bits(0xff80_0001),
        std::f32::consts::PI,
        -1.5,
        1e-20,
        3.0e38,
    ];
    let f16s: Vec<f16> = (0u16..7 * 5).map(|i| f16::from_bits(i * 1873)).collect();
    let bf16s: Vec<bf16> =
        (0u16..40 * 33).map(|i| bf16::from_bits(i.wrapping_mul(50_021))).collect();
    let numbered: Vec<f16> = (0u16..130 * 3).map(f16::from_bits).collect();
    let f64s: Vec<f64> = (0u32..6).map(|i| f64::from(i).exp() / 3.0).collect();
    vec![
        Golden {
            name: "f32.emb",
            dtype: DType::F32,
            dim: 3,
            rows: bytemuck::cast_slice(&f32s).to_vec(),
            ..Golden::default()
        },
        Golden {
            name: "f16-tokens.emb",
            dtype: DType::F16,
            dim: 5,
            rows: bytemuck::cast_slice(&f16s).to_vec(),
            // A duplicate, an empty and an absent token, several scripts, one more than rows.
            tokens: vec![
                Some("[PAD]"),
                Some("cat"),
                None,
                Some(""),
                Some("Ġkočka"),
                Some("cat"),
                Some("猫"),
                Some("beyond the rows"),
            ],
            tokenizer: Some(r#"{"version":"1.0","model":{"type":"WordLevel","vocab":{}}}"#),
            metadata: Some(r#"{"licence":"CC0-1.0","source":{"format":"made by hand"}}"#),
            ..Golden::default()
        },
        Golden {
            name: "bf16-align64.emb",
            dtype: DType::BF16,
            dim: 33,
            align: Some(64),
            rows: bytemuck::cast_slice(&bf16s).to_vec(),
            tokens: vec![Some("only one token")],
            ..Golden::default()
        },
        Golden {
            name: "f64.emb",
            dtype: DType::F64,
            dim: 2,
            rows: bytemuck::cast_slice(&f64s).to_vec(),
            metadata: Some("{}"),
            ..Golden::default()
        },
        Golden {
            name: "row-order.emb",
            dtype: DType::F16,
            dim: 3,
            align: Some(64),
            // Of 130 rows in three groups, some of each but the second.
            order: vec![129, 5, 6, 0, 128, 63],
            rows: bytemuck::cast_slice(&numbered).to_vec(),
            tokens: vec![Some("of row 0"), None, Some("of row 2")],
            ..Golden::default()
        },
        Golden {
            name: "no-rows.emb",
            dtype: DType::F32,
            dim: 768,
            align: Some(4096),
            rows: vec![],
            ..Golden::default()
        },
        normed(),
        row_scales(),
        table_scale(),
        powers_of_two(),
        biases(),
        blocks(),
    ]
}

fn normed() -> Golden {
    // A row of zeros, one with an infinity, one with a NaN.
    let mut rows: Vec<bf16> = (0u16..60 * 19)
        .map(|i| bf16::from_bits((0x3000 + i.wrapping_mul(40_503) % 0x1800) | (i << 15)))
        .collect();
    rows[2 * 19..3 * 19].fill(bf16::ZERO);
    (rows[5 * 19 + 3], rows[6 * 19]) = (bf16::NEG_INFINITY, bf16::NAN);
    Golden {
        name: "norms.emb",
        dtype: DType::BF16,
        dim: 19,
        order: vec![40, 2, 5],
        rows: bytemuck::cast_slice(&rows).to_vec(),
        norms: true,
        ..Golden::default()
    }
}

/// Signed bytes with a scale a row: an odd one, a subnormal one, a negative one, a NaN, an infinity.
fn row_scales() -> Golden {
    let scales = [0.017_f32, f32::from_bits(77), -3.5, f32::NAN, f32::INFINITY];
    let (mut rows, mut numbers) = (Vec::new(), Vec::new());
    for (row, scale) in (0i32..).zip(scales) {
        let elements = [-128, -1, 0, 1, 127, (row * 53 % 256 - 128) as i8];
        rows.extend(elements.map(i8::cast_unsigned));
        rows.extend(scale.to_le_bytes());
        numbers.extend(elements.map(|element| f32::from(element) * scale));
    }
    let scaling = Scaling { block: 6, scale: ScaleType::F32, bias: None };
    Golden {
        name: "i8-scales.emb",
        dtype: DType::I8,
        codec: Codec::Scaled(scaling),
        dim: 6,
        rows,
        numbers,
        norms: true,
        ..Golden::default()
    }
}

/// Bytes with one scale for all rows.
fn table_scale() -> Golden {
    let scale = bf16::from_f32(0.013);
    let rows: Vec<u8> = (0u8..4 * 7).map(|i| i.wrapping_mul(89)).collect();
    let numbers = rows.iter().map(|element| f32::from(*element) * scale.to_f32()).collect();
    Golden {
        name: "u8-table-scale.emb",
        dtype: DType::U8,
        codec: Codec::Scaled(Scaling { block: 7, scale: ScaleType::BF16, bias: None }),
        table_scale: Some(scale.to_le_bytes()),
        dim: 7,
        rows,
        numbers,
        ..Golden::default()
    }
}

/// Every code of `f8_e4m3` in blocks of 32 (MX), under the powers of two at both ends and a NaN.
fn powers_of_two() -> Golden {
    let worth = |code: u8| {
        let (exponent, mantissa) = (i32::from(code >> 3 & 15), f32::from(code & 7));
        let sign = if code < 128 { 1.0 } else { -1.0 };
        sign * match (exponent, code & 7) {
            (15, 7) => f32::NAN,
            (0, _) => mantissa * 2f32.powi(-9),
            _ => (8.0 + mantissa) * 2f32.powi(exponent - 10),
        }
    };
    let powers = [127u8, 0, 254, 120, 255, 130, 3, 127];
    let (mut rows, mut numbers) = (Vec::new(), Vec::new());
    for (row, powers) in powers.chunks(2).enumerate() {
        let codes: Vec<u8> = (0u8..64).map(|i| row as u8 * 64 + i).collect();
        for (code, place) in codes.iter().zip(0..) {
            let power = powers[place / 32];
            let scale = if power == 255 { f64::NAN } else { 2f64.powi(i32::from(power) - 127) };
            numbers.push(worth(*code) * scale as f32);
        }
        rows.extend(codes);
        rows.extend(powers);
    }
    Golden {
        name: "f8-e8m0.emb",
        dtype: DType::F8E4M3,
        codec: Codec::Scaled(Scaling { block: 32, scale: ScaleType::E8M0, bias: None }),
        dim: 64,
        align: Some(64),
        order: vec![2],
        rows,
        numbers,
        ..Golden::default()
    }
}

/// Half bytes with scales and biases for every eight of them.
fn biases() -> Golden {
    let (mut rows, mut numbers) = (Vec::new(), Vec::new());
    for row in 0u8..3 {
        let elements: Vec<u8> =
            (0u8..16).map(|i| i.wrapping_mul(5).wrapping_add(row) & 15).collect();
        let scales = [0.25, 0.1 * f32::from(row)].map(f16::from_f32);
        let biases = [-2.0, 0.3].map(f16::from_f32);
        rows.extend(elements.chunks(2).map(|pair| pair[0] | pair[1] << 4));
        rows.extend([scales, biases].concat().into_iter().flat_map(f16::to_le_bytes));
        for (element, place) in elements.iter().zip(0usize..) {
            let [scale, bias] = [scales, biases].map(|them| them[place / 8].to_f32());
            let product = f32::from(*element) * scale;
            numbers.push(product + bias);
        }
    }
    let scaling = Scaling { block: 8, scale: ScaleType::F16, bias: Some(ScaleType::F16) };
    Golden {
        name: "u4-biases.emb",
        dtype: DType::U4,
        codec: Codec::Scaled(scaling),
        dim: 16,
        rows,
        numbers,
        tokens: vec![Some("one"), Some("two"), Some("three")],
        ..Golden::default()
    }
}

/// Blocks of GGUF: each has its scale before its elements.
fn blocks() -> Golden {
    let (mut rows, mut numbers) = (Vec::new(), Vec::new());
    for block in 0u16..6 {
        let scale = f16::from_bits([0x2e66, 0x0001, 0xb800, 0x7bff, 0, 0x7e00][usize::from(block)]);
        let elements = (0u16..32).map(|i| ((i * 37 + block * 11) as u8).cast_signed());
        rows.extend(scale.to_le_bytes());
        rows.extend(elements.clone().map(i8::cast_unsigned));
        numbers.extend(elements.map(|element| f32::from(element) * scale.to_f32()));
    }
    Golden {
        name: "q8_0.emb",
        dtype: DType::Q8_0,
        codec: Codec::Blocks,
        dim: 64,
        rows,
        numbers,
        ..Golden::default()
    }
}

impl Golden {
    /// The bytes of a row: its elements, then its scales and biases.
    fn row_bytes(&self) -> usize {
        let elements = self.dtype.bytes_of(self.dim as u64).unwrap() as usize;
        match self.codec {
            Codec::Scaled(scaling) if self.table_scale.is_none() => {
                let each = scaling.scale.size() + scaling.bias.map_or(0, ScaleType::size);
                elements + self.dim / scaling.block as usize * each
            }
            _ => elements,
        }
    }

    fn file_id(&self) -> [u8; 16] {
        let mut id = *b"golden..........";
        let name = &self.name.as_bytes()[..self.name.len().min(10)];
        id[6..6 + name.len()].copy_from_slice(name);
        id
    }

    fn write(&self, path: &Path) {
        let mut options =
            WriteOptions::new(self.dim, self.dtype).file_id(self.file_id()).replace(true);
        options = options.codec(self.codec);
        if let Some(scale) = self.table_scale {
            options = options.table_scale(scale);
        }
        if let Some(align) = self.align {
            options = options.align(align);
        }
        if let Some(json) = self.tokenizer {
            options = options.tokenizer(json);
        }
        if let Some(json) = self.metadata {
            options = options.metadata(json);
        }
        options = options.order(self.order.clone());
        let mut writer = options.norms(self.norms).create(path).unwrap();
        for token in &self.tokens {
            writer.push_token(*token).unwrap();
        }
        let rows: Vec<&[u8]> = self.rows.chunks(self.row_bytes()).collect();
        let rest = (0..rows.len() as u64).filter(|id| !self.order.contains(id));
        for id in self.order.iter().copied().chain(rest) {
            writer.push_encoded(rows[id as usize]).unwrap();
        }
        writer.finish().unwrap();
    }

    fn path(&self) -> PathBuf {
        Path::new("fixtures/v1").join(self.name)
    }
}

#[test]
fn the_writer_makes_the_golden_bytes() {
    let directory = tempfile::tempdir().unwrap();
    for golden in goldens() {
        if std::env::var_os("EMBMAP_WRITE_GOLDEN").is_some() && !golden.path().exists() {
            golden.write(&golden.path());
        }
        let path = directory.path().join(golden.name);
        golden.write(&path);
        let (written, kept) = (std::fs::read(path).unwrap(), std::fs::read(golden.path()).unwrap());
        let first = written.iter().zip(&kept).position(|(written, kept)| written != kept);
        assert_eq!((first, written.len()), (None, kept.len()), "{}", golden.name);
    }
}

/// The format is released: what is in these files is what they are, for good.
#[test]
fn golden_files_are_frozen() {
    let sums = std::fs::read_to_string("fixtures/v1/SUMS").unwrap();
    let listed: Vec<(&str, &str)> =
        sums.lines().map(|line| line.split_once("  ").unwrap()).collect();
    let mut names = Vec::new();
    for (sum, name) in &listed {
        let file = std::fs::read(Path::new("fixtures/v1").join(name)).unwrap();
        let found = format!("{:016x}", xxhash_rust::xxh3::xxh3_64(&file));
        assert_eq!(found, *sum, "{name} is frozen: write a new file beside it");
        names.push((*name).to_owned());
    }
    let files = std::fs::read_dir("fixtures/v1").unwrap();
    let files = files.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut files: Vec<_> =
        files.filter(|name| Path::new(name).extension().is_some_and(|it| it == "emb")).collect();
    names.sort_unstable();
    files.sort_unstable();
    assert_eq!(files, names, "each golden file has its sum");
}

#[test]
fn the_reader_finds_in_golden_files_what_went_in() {
    for golden in goldens() {
        let table = Table::load(golden.path()).unwrap();
        let row_bytes = golden.row_bytes();
        assert_eq!(table.vocab() as usize, golden.rows.len() / row_bytes, "{}", golden.name);
        assert_eq!((table.dim(), table.dtype()), (golden.dim, golden.dtype));
        assert_eq!(table.codec(), golden.codec, "{}", golden.name);
        if !golden.numbers.is_empty() {
            let numbers = golden.numbers.iter().copied().map(bits);
            assert!(numbers.eq(decoded(&table)), "{}", golden.name);
        }
        assert_eq!(table.info().file_id, Some(golden.file_id()));
        for (id, row) in (0..).zip(golden.rows.chunks(row_bytes)) {
            assert_eq!(table.encoded_row(id).unwrap(), row, "{} row {id}", golden.name);
        }
        assert_eq!(table.token_count().unwrap() as usize, golden.tokens.len());
        for (id, token) in (0u64..).zip(&golden.tokens) {
            assert_eq!(table.token(id).unwrap().as_deref(), *token);
            if let Some(token) = token {
                let lowest = golden.tokens.iter().position(|other| *other == Some(*token)).unwrap();
                assert_eq!(table.id_of(token).unwrap(), Some(lowest as u64), "{token:?}");
            }
        }
        assert_eq!(table.tokenizer_json().unwrap().as_deref(), golden.tokenizer);
        assert_eq!(table.metadata().unwrap().as_deref(), golden.metadata);
        let norms = table.info().sections.iter().any(|section| section.name == "norms");
        assert_eq!(norms, golden.norms, "{}", golden.name);
        assert!(table.verify().unwrap().is_sound(), "{}", golden.name);
    }
}

/// The reader that was written from the specification alone finds the same.
///
/// Skipped where Python has no numpy or xxhash, except where `EMBMAP_REQUIRE_PYTHON` is set,
/// as in continuous integration.
#[test]
fn an_independent_reader_finds_the_same() {
    let reader = "tests/interop/read_emb.py";
    let ready = Command::new("python3").args(["-c", "import numpy, xxhash"]).output();
    if !ready.is_ok_and(|ready| ready.status.success()) {
        assert!(
            std::env::var_os("EMBMAP_REQUIRE_PYTHON").is_none(),
            "python3 with numpy and xxhash is required and not there"
        );
        eprintln!("skipped: python3 with numpy and xxhash is not there");
        return;
    }
    for golden in goldens() {
        let output =
            Command::new("python3").arg(reader).arg("--json").arg(golden.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let rows: Vec<String> = golden.rows.chunks(golden.row_bytes()).map(hexadecimal).collect();
        assert_eq!(found["rows"], serde_json::json!(rows), "{}", golden.name);
        let table = Table::load(golden.path()).unwrap();
        assert_eq!(found["numbers"], serde_json::json!(decoded(&table)), "{}", golden.name);
        assert_eq!(found["codec"], golden.codec.name());
        assert_eq!(found["tokens"], serde_json::json!(golden.tokens));
        assert_eq!(found["dtype"], golden.dtype.name());
        assert_eq!(found["dim"], golden.dim);
        assert_eq!(found["file_id"], hexadecimal(&golden.file_id()));
        assert_eq!(found["tokenizer"], serde_json::json!(golden.tokenizer));
        assert_eq!(found["metadata"], serde_json::json!(golden.metadata));
        let there = golden.tokens.iter().flatten();
        let lowest: Vec<usize> = there
            .map(|token| golden.tokens.iter().position(|other| *other == Some(*token)).unwrap())
            .collect();
        assert_eq!(found["ids"], serde_json::json!(lowest));
        assert_eq!(found["norms"].is_array(), golden.norms, "{}", golden.name);
    }
}

/// The bits of every element as an `f32`.
fn decoded(table: &Table) -> Vec<u32> {
    let ids: Vec<u64> = (0..table.vocab()).collect();
    let numbers: Vec<f32> = table.gather(&ids).unwrap();
    numbers.into_iter().map(bits).collect()
}

/// The bits of a number; of any NaN those of one, since readers may make others of it.
fn bits(number: f32) -> u32 {
    if number.is_nan() { f32::NAN.to_bits() } else { number.to_bits() }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from_digit(digit.into(), 16).unwrap())
        .collect()
}
