//! Quantized tables where they lie: pieces over files, scales in other tensors, GGUF.

#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::float_cmp,
    clippy::print_stderr
)]

mod support;

use std::path::Path;

use embmap::{Access, Codec, DType, Error, NpyHeader, OpenOptions, Table};
use half::{bf16, f16};
use support::{Random, write_safetensors as write};

const PIECES: &str = "fixtures/pieces";
const STEM: &str = "model.language_model.layers.1.ple.ple_embedding.ngram_embedding";
const GGUF: &str = "fixtures/gguf/model.gguf";

/// A table opened in every way that there is.
fn in_every_way(path: &Path, options: &OpenOptions) -> Vec<Table> {
    // SAFETY: fixtures and the tests' own files, which nothing writes to.
    let mapped = unsafe { options.clone().map(path).unwrap() };
    let loaded = options.clone().access(Access::Memory).open(path).unwrap();
    vec![mapped, loaded, options.clone().open(path).unwrap()]
}

/// Compares gathers, whole and in random order, with the rows that are expected, bit for bit.
fn check(table: &Table, expected: &[f32]) {
    let (vocab, dim) = (table.vocab(), table.dim());
    assert_eq!(expected.len() as u64, vocab * dim as u64);
    let mut random = Random(vocab);
    let mut ids: Vec<u64> = (0..vocab).collect();
    ids.extend((0..300).map(|_| random.below(vocab)));
    let row = |id: u64| &expected[id as usize * dim..][..dim];
    let wanted: Vec<f32> = ids.iter().flat_map(|id| row(*id).iter().copied()).collect();

    let mut wide = vec![f32::NAN; wanted.len()];
    table.gather_into(&ids, &mut wide).unwrap();
    assert!(wide.iter().zip(&wanted).all(|(a, b)| a.to_bits() == b.to_bits()), "{table:?}");
    let mut brain = vec![bf16::NAN; wanted.len()];
    table.gather_into(&ids, &mut brain).unwrap();
    assert!(brain.iter().zip(&wanted).all(|(a, b)| *a == bf16::from_f32(*b)), "{table:?}");
    let mut narrow = vec![f16::NAN; wanted.len()];
    table.gather_into(&ids, &mut narrow).unwrap();
    assert!(narrow.iter().zip(&wanted).all(|(a, b)| *a == f16::from_f32(*b)), "{table:?}");
    assert!(table.gather_into(&[vocab], &mut wide[..dim]).is_err());
}

/// The number of an `F8_E4M3` code that is no NaN.
fn e4m3(code: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(code >> 3 & 15), f32::from(code & 7));
    let size = match exponent {
        0 => mantissa * 2f32.powi(-9),
        _ => (8.0 + mantissa) * 2f32.powi(exponent - 10),
    };
    if code & 0x80 == 0 { size } else { -size }
}

/// The tensors of the fixture in pieces, as the library `safetensors` reads them.
fn pieces_of_the_library() -> (Vec<u8>, f32) {
    let mut codes = vec![Vec::new(); 11];
    let mut scale = 0.0;
    for file in 1..=2 {
        let path = format!("{PIECES}/model-0000{file}-of-00002.safetensors");
        let bytes = std::fs::read(path).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        for (name, tensor) in tensors.tensors() {
            let data = tensor.data();
            if let Some(number) = name.strip_prefix(&format!("{STEM}.shard_")) {
                let number: usize = number.strip_suffix(".weight").unwrap().parse().unwrap();
                codes[number] = data.to_vec();
            } else if name.ends_with("weight_scale") {
                scale = bf16::from_le_bytes([data[0], data[1]]).to_f32();
            }
        }
    }
    (codes.concat(), scale)
}

#[test]
fn a_table_in_pieces_is_one_row_space_with_one_scale() {
    let (codes, scale) = pieces_of_the_library();
    let expected: Vec<f32> = codes.iter().map(|code| e4m3(*code) * scale).collect();
    let named = OpenOptions::new().tensor(format!("{STEM}.shard_{{}}.weight"));
    for options in [OpenOptions::new(), named] {
        for table in in_every_way(Path::new(PIECES), &options) {
            assert_eq!((table.vocab(), table.dim(), table.dtype()), (671, 40, DType::F8E4M3));
            assert!(matches!(table.codec(), Codec::Scaled(_)), "{:?}", table.codec());
            assert_eq!(table.info().pieces, 11);
            assert_eq!(table.info().files.len(), 2);
            assert_eq!(table.info().scales, Some(format!("{STEM}.weight_scale")));
            check(&table, &expected);
            if table.access() != Access::Read {
                for id in [0, 60, 61, 609, 610, 670] {
                    let at = id as usize * 40;
                    assert_eq!(table.encoded_row(id).unwrap(), &codes[at..at + 40]);
                }
                assert!(matches!(table.encoded_row(671), Err(Error::RowOutOfRange { .. })));
            }
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_is_opened_and_mapped_once_however_many_pieces_it_holds() {
    // SAFETY: a fixture, which nothing writes to.
    let table = unsafe { Table::map(PIECES).unwrap() };
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    for file in &table.info().files {
        let name = file.canonicalize().unwrap();
        let here = maps.lines().filter(|line| line.ends_with(name.to_str().unwrap())).count();
        // Tests beside this one may have it mapped too, once for each table.
        assert!((1..11).contains(&here), "{here} maps of {}", name.display());
    }
}

#[test]
fn a_gguf_file_has_its_rows_and_tokens() {
    let tokenizer = std::fs::read_to_string("fixtures/sharded/tokenizer.json").unwrap();
    let tokenizer: serde_json::Value = serde_json::from_str(&tokenizer).unwrap();
    let ids = tokenizer["model"]["vocab"].as_object().unwrap();
    let original = Table::load("fixtures/minilm-2k").unwrap();
    for (tensor, dtype, most) in [
        (None, DType::Q8_0, 0.004),
        (Some("per_layer_token_embd.weight"), DType::Q5_1, 0.02),
        (Some("blk.1.engram_embd.weight"), DType::Q4_0, 0.05),
    ] {
        let mut options = OpenOptions::new();
        if let Some(tensor) = tensor {
            options = options.tensor(tensor);
        }
        for path in [GGUF, "fixtures/gguf"] {
            for table in in_every_way(Path::new(path), &options) {
                assert_eq!((table.vocab(), table.dim(), table.dtype()), (256, 64, dtype));
                assert_eq!((table.info().format, table.codec()), ("gguf", Codec::Blocks));
                assert_eq!(table.token_count().unwrap(), 256);
                for (token, id) in ids {
                    let id = id.as_u64().unwrap();
                    assert_eq!(table.token(id).unwrap().as_deref(), Some(token.as_str()));
                    assert_eq!(table.id_of(token).unwrap(), Some(id));
                    let Some(other) = original.id_of(token).unwrap() else { continue };
                    let mut row = [0f32; 64];
                    table.gather_into(&[id], &mut row).unwrap();
                    let exact = &original.row::<f16>(other).unwrap()[..64];
                    for (value, exact) in row.iter().zip(exact) {
                        assert!((value - exact.to_f32()).abs() < most, "{token}: {value} {exact}");
                    }
                }
            }
        }
    }
    let bytes = std::fs::read(GGUF).unwrap();
    assert_eq!(Table::from_bytes(&bytes).unwrap().vocab(), 256);
}

fn f16s(values: &[f16]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Finite numbers near 1.
fn numbers(random: &mut Random, count: usize) -> Vec<f16> {
    (0..count).map(|_| f16::from_bits(0x3000 | (random.next() & 0x8fff) as u16)).collect()
}

#[test]
fn affine_groups_are_read_from_three_tensors() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.safetensors");
    let mut random = Random(4);
    let (rows, dim, group) = (37usize, 160usize, 32usize);
    let packed = random.bytes(rows * dim / 2);
    let scales = numbers(&mut random, rows * dim / group);
    let biases = numbers(&mut random, rows * dim / group);
    let groups = [rows as u64, (dim / group) as u64];
    write(
        &path,
        &[
            ("model.embed_tokens.biases", "F16", &groups, &f16s(&biases)),
            ("odd", "U8", &[1], &[7]),
            ("model.embed_tokens.weight", "U32", &[rows as u64, dim as u64 / 8], &packed),
            ("model.embed_tokens.scales", "F16", &groups, &f16s(&scales)),
        ],
    );
    let value = |i: usize| {
        let code = packed[i / 2] >> (4 * (i % 2)) & 15;
        f32::from(code) * scales[i / group].to_f32() + biases[i / group].to_f32()
    };
    let expected: Vec<f32> = (0..rows * dim).map(value).collect();
    for table in in_every_way(&path, &OpenOptions::new()) {
        assert_eq!((table.vocab(), table.dim(), table.row_bytes()), (37, 160, 100));
        check(&table, &expected);
        assert!(matches!(table.encoded_row(3), Err(Error::RowApart | Error::NotMapped { .. })));
        let mut encoded = vec![0; 100];
        table.gather_bytes_into(&[3u32], &mut encoded).unwrap();
        assert_eq!(encoded[..80], packed[240..320]);
        assert_eq!(encoded[80..90], f16s(&scales[15..20]));
        assert_eq!(encoded[90..], f16s(&biases[15..20]));
    }
}

#[test]
fn each_piece_may_have_its_own_scale_and_files_of_their_own() {
    let directory = tempfile::tempdir().unwrap();
    let mut random = Random(5);
    let counts = [5usize, 5, 3];
    let dim = 64usize;
    let scales = numbers(&mut random, 3);
    let mut map = serde_json::Map::new();
    let mut expected = Vec::new();
    for (piece, count) in counts.iter().enumerate() {
        let codes = random.bytes(count * dim);
        expected.extend(
            codes.iter().map(|code| f32::from(code.cast_signed()) * scales[piece].to_f32()),
        );
        let (name, scale) =
            (format!("t.shards.{piece}.weight"), format!("t.shards.{piece}.scales"));
        let (values, own) = (format!("v{piece}.safetensors"), format!("s{piece}.safetensors"));
        let shape = [*count as u64, dim as u64];
        write(&directory.path().join(&values), &[(&name, "I8", &shape, &codes)]);
        write(&directory.path().join(&own), &[(&scale, "F16", &[], &f16s(&scales[piece..=piece]))]);
        map.insert(name, values.into());
        map.insert(scale, own.into());
    }
    let index = serde_json::json!({ "weight_map": map }).to_string();
    std::fs::write(directory.path().join("model.safetensors.index.json"), index).unwrap();
    for table in in_every_way(directory.path(), &OpenOptions::new()) {
        assert_eq!((table.vocab(), table.info().pieces), (13, 3));
        assert_eq!(table.info().tensor.as_deref(), Some("t.shards.{}.weight"));
        check(&table, &expected);
    }
}

#[cfg(all(feature = "cli", target_os = "linux"))]
#[test]
fn too_many_files_are_an_error_that_names_the_limit() {
    let directory = tempfile::tempdir().unwrap();
    let mut map = serde_json::Map::new();
    for piece in 0..2000 {
        let (name, file) = (format!("t.shard_{piece}.weight"), format!("p{piece}.safetensors"));
        write(&directory.path().join(&file), &[(&name, "I8", &[1, 4], &[1, 2, 3, 4])]);
        map.insert(name, file.into());
    }
    let index = serde_json::json!({ "weight_map": map }).to_string();
    std::fs::write(directory.path().join("model.safetensors.index.json"), index).unwrap();
    // In a process of its own, so that the limit is its own too.
    let embmap = env!("CARGO_BIN_EXE_embmap");
    let run = |limit: u32| {
        let command =
            format!("ulimit -n {limit}; exec {embmap} info --json {:?}", directory.path());
        std::process::Command::new("sh").args(["-c", &command]).output().unwrap()
    };
    let output = run(100);
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("raise the limit on open files (ulimit -n)"), "{message}");
    let output = run(4000);
    if output.status.success() {
        let info: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((info["vocab"].as_u64(), info["pieces"].as_u64()), (Some(2000), Some(2000)));
    }
}

/// An array as numpy saves it.
fn npy(dtype: DType, vocab: u64, dim: u64, rows: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    NpyHeader::of_rows(dtype, vocab, dim).write_to(&mut file).unwrap();
    file.extend(rows);
    file
}

#[test]
fn arrays_of_numpy_are_read_where_they_lie() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("rows.npy");
    for dtype in [DType::F32, DType::F16, DType::BF16, DType::F64, DType::I8, DType::U8] {
        let numbers: Vec<f32> = (0..77 * 5u16).map(|i| f32::from(i % 100) - 50.0).collect();
        let rows: Vec<u8> = numbers
            .iter()
            .flat_map(|x| match dtype {
                DType::F32 => x.to_le_bytes().to_vec(),
                DType::F16 => f16::from_f32(*x).to_le_bytes().to_vec(),
                DType::BF16 => bf16::from_f32(*x).to_le_bytes().to_vec(),
                DType::F64 => f64::from(*x).to_le_bytes().to_vec(),
                DType::I8 => vec![(*x as i8).cast_unsigned()],
                _ => vec![(*x as i8 + 50).cast_unsigned()],
            })
            .collect();
        let expected: Vec<f32> = match dtype {
            DType::U8 => numbers.iter().map(|x| x + 50.0).collect(),
            _ => numbers,
        };
        std::fs::write(&path, npy(dtype, 77, 5, &rows)).unwrap();
        for table in in_every_way(&path, &OpenOptions::new()) {
            assert_eq!((table.info().format, table.info().tensor.as_deref()), ("npy", None));
            assert_eq!(table.dtype(), dtype);
            check(&table, &expected);
        }
        let direct = OpenOptions::new().access(Access::Direct).open(&path).unwrap();
        check(&direct, &expected);
        check(&Table::from_bytes(&std::fs::read(&path).unwrap()).unwrap(), &expected);
    }
    let table = Table::load(&path).unwrap();
    assert_eq!(table.row::<u8>(1).unwrap(), [5, 6, 7, 8, 9]);
}
