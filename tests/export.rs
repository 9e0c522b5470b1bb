//! Tables in the formats of other tools, read back by naive readers that were written from the
//! formats' descriptions alone. The real libraries read them in `tests/interop/export.py`.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::float_cmp,
    clippy::print_stderr
)]

mod support;

use std::ops::{ControlFlow, Range};
use std::path::Path;

use embmap::{
    Codec, DType, Error, ExportFormat, ExportOptions, ScaleType, Scaling, Table, UnfitTokens,
    WriteOptions, export, export_to, plan_export,
};
use half::{bf16, f16};
use proptest::prelude::*;
use support::{Random, write_random};

const TEXTS: [ExportFormat; 2] = [ExportFormat::Word2Vec, ExportFormat::Glove];
const NAMED: [ExportFormat; 3] =
    [ExportFormat::Word2Vec, ExportFormat::Glove, ExportFormat::Word2VecBinary];

/// Tokens and the bits of their rows, as a reader finds them.
type Rows<T> = Vec<(String, Vec<T>)>;

/// Lines of tokens and numbers, a header first where there is one.
fn read_text<T: std::str::FromStr>(text: &str, header: bool, dim: usize) -> Rows<T> {
    let mut lines = text.split('\n');
    assert_eq!(lines.next_back(), Some(""), "the last line ends");
    let expected = header.then(|| {
        let (rows, columns) = lines.next().unwrap().split_once(' ').unwrap();
        assert_eq!(columns.parse(), Ok(dim));
        rows.parse::<usize>().unwrap()
    });
    let rows: Rows<T> = lines
        .map(|line| {
            // From the right: a token of GloVe may have spaces.
            let mut words: Vec<&str> = line.rsplitn(dim + 1, ' ').collect();
            words.reverse();
            let numbers = words[1..].iter().map(|word| word.parse().ok().unwrap());
            (words[0].to_owned(), numbers.collect())
        })
        .collect();
    assert!(expected.is_none_or(|expected| expected == rows.len()));
    rows
}

fn read_binary(mut bytes: &[u8], dim: usize) -> Rows<f32> {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap();
    let header = std::str::from_utf8(&bytes[..end]).unwrap();
    let (rows, columns) = header.split_once(' ').unwrap();
    assert_eq!(columns.parse(), Ok(dim));
    bytes = &bytes[end + 1..];
    let rows = (0..rows.parse().unwrap())
        .map(|_| {
            let space = bytes.iter().position(|byte| *byte == b' ').unwrap();
            let token = String::from_utf8(bytes[..space].to_vec()).unwrap();
            let (numbers, rest) = bytes[space + 1..].split_at(4 * dim);
            bytes = rest;
            let numbers = numbers.as_chunks().0.iter().map(|it| f32::from_le_bytes(*it));
            (token, numbers.collect())
        })
        .collect();
    assert_eq!(bytes, b"");
    rows
}

fn read(format: ExportFormat, bytes: &[u8], dim: usize) -> Rows<f32> {
    if format == ExportFormat::Word2VecBinary {
        return read_binary(bytes, dim);
    }
    read_text(std::str::from_utf8(bytes).unwrap(), format == ExportFormat::Word2Vec, dim)
}

/// The type, the shape and the data of the one array of a file.
fn read_npy(bytes: &[u8]) -> (String, Vec<usize>, &[u8]) {
    assert_eq!(bytes[..8], *b"\x93NUMPY\x01\x00");
    let length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    assert_eq!((10 + length) % 64, 0);
    let header = std::str::from_utf8(&bytes[10..10 + length]).unwrap();
    let quoted: Vec<&str> = header.split('\'').collect();
    let shape = header.split(['(', ')']).nth(1).unwrap().split(',');
    let shape = shape.filter_map(|it| it.trim().parse().ok()).collect();
    assert!(header.contains("'fortran_order': False") && header.ends_with('\n'));
    (quoted[3].to_owned(), shape, &bytes[10 + length..])
}

/// Rows of every kind of number, with tokens.
fn write_table(path: &Path, dtype: DType, dim: usize, tokens: &[Option<&str>]) -> Vec<u8> {
    let rows = Random(dim as u64).bytes(tokens.len() * dim * dtype.block_bytes());
    let mut writer = WriteOptions::new(dim, dtype).replace(true).create(path).unwrap();
    writer.push_encoded(&rows).unwrap();
    for token in tokens {
        writer.push_token(*token).unwrap();
    }
    writer.finish().unwrap();
    rows
}

fn to_bytes(table: &Table, options: &ExportOptions) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let exported = export_to(table, &mut bytes, options, |_, _| ControlFlow::Continue(()))?;
    assert_eq!(exported.file_bytes, Some(bytes.len() as u64));
    Ok(bytes)
}

fn same(found: f32, expected: f32) -> bool {
    found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn named_rows_read_back_with_every_number(
        rows in 0usize..40, dim in 1usize..20, dtype in 0usize..6, cut in any::<(u8, u8)>(),
    ) {
        let dtype = [DType::F32, DType::F16, DType::BF16, DType::F8E4M3, DType::I8, DType::U8][dtype];
        let tokens: Vec<String> = (0..rows).map(|row| format!("Ġ{row}é")).collect();
        let listed: Vec<_> = tokens.iter().map(|token| Some(token.as_str())).collect();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("table.emb");
        write_table(&path, dtype, dim, &listed);
        let table = Table::load(&path).unwrap();
        let mut range = [usize::from(cut.0) % (rows + 1), usize::from(cut.1) % (rows + 1)];
        range.sort_unstable();
        let range = range[0] as u64..range[1] as u64;
        let ids: Vec<u64> = range.clone().collect();
        let expected: Vec<f32> = table.gather(&ids).unwrap();
        for format in NAMED {
            let options = ExportOptions::new().format(format).rows(range.clone());
            let bytes = to_bytes(&table, &options).unwrap();
            let found = read(format, &bytes, dim);
            prop_assert_eq!(found.len(), ids.len());
            for ((id, row), (token, found)) in ids.iter().zip(expected.chunks(dim)).zip(&found) {
                prop_assert_eq!(token, &tokens[*id as usize]);
                prop_assert!(found.iter().zip(row).all(|(a, b)| same(*a, *b)), "{:?} {:?}", found, row);
                let binary = format == ExportFormat::Word2VecBinary && dtype == DType::F32;
                let bits = |row: &[f32]| row.iter().map(|it| it.to_bits()).collect::<Vec<_>>();
                prop_assert!(!binary || bits(found) == bits(row), "NaNs keep their bits");
            }
        }
    }
}

#[test]
fn doubles_are_exact_in_text_and_refused_where_there_are_none() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("table.emb");
    let rows = write_table(&path, DType::F64, 3, &[Some("a"), Some("b")]);
    let table = Table::load(&path).unwrap();
    for format in TEXTS {
        let bytes = to_bytes(&table, &ExportOptions::new().format(format)).unwrap();
        let text = std::str::from_utf8(&bytes).unwrap();
        let found: Rows<f64> = read_text(text, format == ExportFormat::Word2Vec, 3);
        let found = found.iter().flat_map(|(_, row)| row).map(|it| it.to_bits());
        let expected = rows.as_chunks().0.iter().map(|it| u64::from_le_bytes(*it));
        assert!(found.eq(expected));
    }
    let binary = ExportOptions::new().format(ExportFormat::Word2VecBinary);
    let error = to_bytes(&table, &binary).unwrap_err();
    assert!(matches!(error, Error::InvalidOption { option: "dtype", .. }));
    assert!(error.to_string().contains("--dtype f32"), "{error}");
    let bytes = to_bytes(&table, &binary.dtype(DType::F32)).unwrap();
    let expected: Vec<f32> = table.gather(&[0u32, 1]).unwrap();
    let found: Vec<f32> = read_binary(&bytes, 3).into_iter().flat_map(|(_, row)| row).collect();
    assert_eq!(found, expected);
}

#[test]
fn arrays_and_tensors_are_the_stored_bits() {
    let directory = tempfile::tempdir().unwrap();
    for (dtype, npy, tensor) in [
        (DType::F32, Some("<f4"), safetensors::Dtype::F32),
        (DType::F16, Some("<f2"), safetensors::Dtype::F16),
        (DType::F64, Some("<f8"), safetensors::Dtype::F64),
        (DType::BF16, None, safetensors::Dtype::BF16),
        (DType::F8E4M3, None, safetensors::Dtype::F8_E4M3),
        (DType::F8E5M2, None, safetensors::Dtype::F8_E5M2),
        (DType::F8E4M3Fnuz, None, safetensors::Dtype::F8_E4M3FNUZ),
        (DType::F8E5M2Fnuz, None, safetensors::Dtype::F8_E5M2FNUZ),
        (DType::I8, Some("|i1"), safetensors::Dtype::I8),
        (DType::U8, Some("|u1"), safetensors::Dtype::U8),
    ] {
        for (vocab, align) in [(0, None), (37, None), (37, Some(64))] {
            let path = directory.path().join("table.emb");
            let rows = write_random(&path, vocab, 5, dtype, align);
            let table = Table::load(&path).unwrap();
            let numpy = ExportOptions::new().format(ExportFormat::Npy);
            if let Some(descr) = npy {
                let bytes = to_bytes(&table, &numpy).unwrap();
                let shape = vec![vocab as usize, 5];
                assert_eq!(read_npy(&bytes), (descr.to_owned(), shape, &rows[..]));
            } else {
                let message = to_bytes(&table, &numpy).unwrap_err().to_string();
                assert!(message.contains("--dtype f32") && message.contains(dtype.name()));
            }
            let options = ExportOptions::new().format(ExportFormat::Safetensors).tensor("a \"b\"");
            let bytes = to_bytes(&table, &options).unwrap();
            let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            let found = file.tensor("a \"b\"").unwrap();
            assert_eq!((found.dtype(), found.shape()), (tensor, &[vocab as usize, 5][..]));
            assert!(found.data() == rows, "{dtype}");
            assert_eq!((bytes.len() - rows.len()) % 64, 0, "the numbers are aligned");
            assert_eq!(Table::from_bytes(&bytes).unwrap().vocab(), vocab);
        }
    }
}

#[test]
fn numbers_are_rounded_where_that_is_asked_for() {
    let table = Table::load("fixtures/minilm-2k").unwrap();
    for (dtype, descr) in [(DType::F32, "<f4"), (DType::F16, "<f2"), (DType::F64, "<f8")] {
        let options = ExportOptions::new().format(ExportFormat::Npy).dtype(dtype).rows(7..9);
        let bytes = to_bytes(&table, &options).unwrap();
        let (found, shape, data) = read_npy(&bytes);
        assert_eq!((found.as_str(), shape), (descr, vec![2, 384]));
        let expected: Vec<f16> = table.gather(&[7u32, 8]).unwrap();
        let widened: Vec<u8> = match dtype {
            DType::F32 => expected.iter().flat_map(|it| it.to_f32().to_le_bytes()).collect(),
            DType::F64 => expected.iter().flat_map(|it| it.to_f64().to_le_bytes()).collect(),
            _ => expected.iter().flat_map(|it| it.to_le_bytes()).collect(),
        };
        assert!(data == widened);
    }
    let options = ExportOptions::new().format(ExportFormat::Glove).dtype(DType::BF16).rows(7..8);
    let text = String::from_utf8(to_bytes(&table, &options).unwrap()).unwrap();
    let expected: Vec<bf16> = table.gather(&[7u32]).unwrap();
    let found: Rows<f32> = read_text(&text, false, 384);
    assert!(found[0].1.iter().zip(&expected).all(|(a, b)| *a == b.to_f32()));
}

#[test]
fn quantized_rows_are_decoded_and_not_by_themselves() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("quantized.emb");
    let codec = Codec::Scaled(Scaling { block: 4, scale: ScaleType::F16, bias: None });
    let mut writer = WriteOptions::new(4, DType::I8).codec(codec).create(&path).unwrap();
    writer.push_encoded(&[1, 2, 3, 0xfc, 0x00, 0x38]).unwrap();
    writer.finish().unwrap();
    for table in [Table::load(&path), Table::load("fixtures/gguf/model.gguf")] {
        let table = table.unwrap();
        for format in [ExportFormat::Npy, ExportFormat::Safetensors] {
            let options = ExportOptions::new().format(format);
            let error = to_bytes(&table, &options).unwrap_err();
            assert!(error.to_string().contains("decode them with --dtype f32"), "{error}");
            let kept = options.clone().dtype(table.dtype());
            assert!(matches!(to_bytes(&table, &kept), Err(Error::InvalidOption { .. })));
            to_bytes(&table, &options.dtype(DType::BF16)).err();
        }
        let options = ExportOptions::new().format(ExportFormat::Npy).dtype(DType::F32);
        let bytes = to_bytes(&table, &options).unwrap();
        let ids: Vec<u64> = (0..table.vocab()).collect();
        let expected: Vec<f32> = table.gather(&ids).unwrap();
        assert!(read_npy(&bytes).2 == bytemuck::cast_slice::<f32, u8>(&expected));
    }
}

/// Tokens that some format cannot hold.
const ODD: [Option<&str>; 7] =
    [Some("cat"), Some("new york"), None, Some(""), Some("a\nb"), Some("Ġà"), Some("x\ty")];

#[test]
fn tokens_that_do_not_fit_are_named_left_out_or_changed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("table.emb");
    write_table(&path, DType::F32, 2, &ODD);
    let table = Table::load(&path).unwrap();
    let values: Vec<f32> = table.gather(&[0u32, 1, 2, 3, 4, 5, 6]).unwrap();
    for (format, first, kept, replaced) in [
        (ExportFormat::Word2Vec, 1, &[0usize, 5][..], 5),
        (ExportFormat::Word2VecBinary, 1, &[0, 5], 5),
        (ExportFormat::Glove, 2, &[0, 1, 5, 6], 3),
    ] {
        let read = |bytes: &[u8]| read(format, bytes, 2);
        let options = ExportOptions::new().format(format);
        let mut untouched = Vec::new();
        let error = export_to(&table, &mut untouched, &options, |_, _| ControlFlow::Continue(()));
        let Err(Error::UnfitToken { id, token, .. }) = error else { panic!("{error:?}") };
        assert_eq!((id, token.as_deref()), (first, ODD[first as usize]));
        assert_eq!(untouched, b"", "nothing is written before all tokens were looked at");

        let skipping = options.clone().unfit_tokens(UnfitTokens::Skip);
        let found = read(&to_bytes(&table, &skipping).unwrap());
        let tokens: Vec<_> = found.iter().map(|(token, _)| Some(token.as_str())).collect();
        assert_eq!(tokens, kept.iter().map(|id| ODD[*id]).collect::<Vec<_>>());
        for ((_, row), id) in found.iter().zip(kept) {
            assert!(row.iter().zip(&values[id * 2..]).all(|(a, b)| same(*a, *b)));
        }

        let replacing = options.unfit_tokens(UnfitTokens::Replace);
        let found = read(&to_bytes(&table, &replacing).unwrap());
        let tokens: Vec<_> = found.iter().map(|(token, _)| token.as_str()).collect();
        let spaced = if format == ExportFormat::Glove { "new york" } else { "new_york" };
        let tabbed = if format == ExportFormat::Glove { "x\ty" } else { "x_y" };
        assert_eq!(tokens, ["cat", spaced, "<2>", "<3>", "a_b", "Ġà", tabbed]);
        let plan = plan_export(&table, directory.path().join("out"), &replacing).unwrap();
        assert_eq!((plan.replaced, plan.skipped, plan.vocab), (replaced, 0, 7));
        let plan = plan_export(&table, directory.path().join("out"), &skipping).unwrap();
        assert_eq!((plan.skipped, plan.vocab), (7 - kept.len() as u64, kept.len() as u64));
    }
}

#[test]
fn tables_without_tokens_say_what_to_do() {
    let table = Table::load("fixtures/v1/f32.emb").unwrap();
    for format in NAMED {
        let options = ExportOptions::new().format(format);
        assert!(matches!(to_bytes(&table, &options), Err(Error::Missing { .. })));
        let skipping = options.clone().unfit_tokens(UnfitTokens::Skip);
        assert!(matches!(to_bytes(&table, &skipping), Err(Error::Missing { .. })));
        assert!(to_bytes(&table, &options.unfit_tokens(UnfitTokens::Replace)).is_ok());
    }
    let none = Table::load("fixtures/v1/no-rows.emb").unwrap();
    let options = ExportOptions::new().format(ExportFormat::Word2Vec);
    assert_eq!(to_bytes(&none, &options).unwrap(), b"0 768\n");
}

/// The files of a directory, but for the table.
fn files(directory: &Path) -> Vec<String> {
    let names = std::fs::read_dir(directory).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name != "table.emb").collect();
    names.sort();
    names
}

fn tokens_of(table: &Table, ids: Range<u64>) -> Vec<Option<String>> {
    ids.map(|id| table.token(id).unwrap().map(std::borrow::Cow::into_owned)).collect()
}

#[test]
fn tokens_beside_a_tensor_read_back_as_they_were() {
    let cases: [(&[Option<&str>], &str); 5] = [
        (&[Some("cat"), Some("new york"), Some(""), Some("Ġà"), Some("cat")], "vocab.txt"),
        (&[Some("a"), Some("b"), None, None], "vocab.txt"),
        (&[Some("a"), None, Some("\"b\"\\"), Some("é")], "tokenizer.json"),
        (&[Some("a\nb"), Some("c\r"), Some("")], "tokenizer.json"),
        (&[Some("\u{feff}a"), Some("b")], "tokenizer.json"),
    ];
    for (tokens, name) in cases {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("table.emb");
        write_table(&path, DType::F32, 2, tokens);
        let table = Table::load(&path).unwrap();
        let out = directory.path().join("model.safetensors");
        let plan = plan_export(&table, &out, &ExportOptions::new()).unwrap();
        assert_eq!(files(directory.path()), [""; 0], "a plan writes nothing");
        let exported = export(&table, &out, &ExportOptions::new()).unwrap();
        assert_eq!(plan, exported, "the plan tells what comes of it");
        assert_eq!(files(directory.path()), ["model.safetensors", name]);
        let again = Table::load(directory.path()).unwrap();
        let count = tokens.len() as u64;
        assert_eq!(tokens_of(&again, 0..count), tokens_of(&table, 0..count), "{tokens:?}");
        assert_eq!(exported.tokens, tokens.iter().flatten().count() as u64);

        // A range has its own tokens alone, from 0 on.
        std::fs::remove_file(directory.path().join(name)).unwrap();
        let options = ExportOptions::new().rows(1..2).replace(true);
        export(&table, &out, &options).unwrap();
        if table.token(1).unwrap().is_some() {
            let again = Table::load(directory.path()).unwrap();
            assert_eq!(tokens_of(&again, 0..1), tokens_of(&table, 1..2));
            assert_eq!(again.token_count().unwrap(), 1);
        } else {
            assert_eq!(files(directory.path()), ["model.safetensors"]);
        }
    }
}

#[test]
fn tokens_that_no_file_can_hold_are_refused_and_may_be_left_out() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("table.emb");
    write_table(&path, DType::F32, 2, &[Some("a"), Some("a"), Some("b\n")]);
    let table = Table::load(&path).unwrap();
    let out = directory.path().join("model.safetensors");
    let error = export(&table, &out, &ExportOptions::new()).unwrap_err();
    assert!(matches!(&error, Error::UnfitToken { id: 2, .. }), "{error}");
    assert!(error.to_string().contains("--no-tokens"), "{error}");
    assert_eq!(files(directory.path()), [""; 0]);
    let exported = export(&table, &out, &ExportOptions::new().tokens(false)).unwrap();
    assert_eq!((exported.tokens, exported.tokens_path), (0, None));
    assert_eq!(files(directory.path()), ["model.safetensors"]);
}

#[test]
fn the_models_own_tokenizer_goes_with_the_whole_table() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("model.safetensors");
    let model = Table::load("fixtures/minilm-2k").unwrap();
    export(&model, &out, &ExportOptions::new()).unwrap();
    let tokenizer = std::fs::read_to_string(directory.path().join("tokenizer.json")).unwrap();
    assert_eq!(Some(tokenizer.as_str()), model.tokenizer_json().unwrap().as_deref());
    let again = Table::load(directory.path()).unwrap();
    assert_eq!(tokens_of(&again, 0..2003), tokens_of(&model, 0..2003));
    assert_eq!(again.row::<f16>(2002).unwrap(), model.row::<f16>(2002).unwrap());

    // One whose tokens are others than the table's would rename the rows.
    let golden = Table::load("fixtures/v1/f16-tokens.emb").unwrap();
    assert!(golden.tokenizer_json().unwrap().is_some());
    let error = plan_export(&golden, &out, &ExportOptions::new().replace(true)).unwrap_err();
    assert!(matches!(error, Error::UnfitToken { id: 2, token: None, .. }), "{error}");
}

#[test]
fn nothing_is_replaced_unless_that_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let table = Table::load("fixtures/minilm-2k").unwrap();
    for (present, out) in [
        ("a.npy", "a.npy"),
        ("model.safetensors", "model.safetensors"),
        ("tokenizer.json", "b.safetensors"),
    ] {
        let present = directory.path().join(present);
        std::fs::write(&present, "mine").unwrap();
        let before = files(directory.path());
        for plan in [true, false] {
            let (out, options) = (directory.path().join(out), ExportOptions::new());
            let done = if plan {
                plan_export(&table, &out, &options)
            } else {
                export(&table, &out, &options)
            };
            assert!(matches!(&done, Err(Error::Exists { path }) if *path == present), "{done:?}");
            assert_eq!(files(directory.path()), before);
            assert_eq!(std::fs::read(&present).unwrap(), b"mine");
        }
        let options = ExportOptions::new().replace(true);
        export(&table, directory.path().join(out), &options).unwrap();
        assert_ne!(std::fs::read(&present).unwrap(), b"mine");
        for name in files(directory.path()) {
            std::fs::remove_file(directory.path().join(name)).unwrap();
        }
    }
}

#[test]
fn an_interrupted_export_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let table = Table::load("fixtures/minilm-2k").unwrap();
    for name in ["a.npy", "model.safetensors", "a.vec", "a.bin", "a.glove"] {
        let out = directory.path().join(name);
        let stop = |_, _| ControlFlow::Break(());
        let error = embmap::export_with(&table, &out, &ExportOptions::new(), stop).unwrap_err();
        assert!(matches!(error, Error::Interrupted), "{error}");
        assert_eq!(files(directory.path()), [""; 0], "{name}");
    }
}

#[test]
fn what_cannot_be_done_is_told_before_anything_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let table = Table::load("fixtures/minilm-2k").unwrap();
    let refused = |name: &str, options: ExportOptions, part: &str| {
        let error = export(&table, directory.path().join(name), &options).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
        assert_eq!(files(directory.path()), [""; 0]);
    };
    let new = ExportOptions::new;
    refused("a.txt", new(), "--to");
    refused("a", new(), "--to");
    refused("a.npy", new().rows(2000..2004), "0:2003");
    refused("a.npy", new().rows(Range { start: 2, end: 1 }), "2:1");
    refused("a.npy", new().dtype(DType::I8), "plain numbers");
    refused("a.npy", new().dtype(DType::BF16), "--dtype f32");
    refused("a.bin", new().dtype(DType::F16), "--dtype f32");
    refused("a.safetensors", new().tensor("__metadata__"), "choose another");
    refused("no/such/directory/a.npy", new(), "No such file");
}

#[test]
fn a_table_may_be_exported_over_its_own_source() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.safetensors");
    std::fs::copy("fixtures/minilm-2k/model.safetensors", &path).unwrap();
    let before = Table::load(&path).unwrap();
    let table = embmap::OpenOptions::new().open(&path).unwrap();
    let options = ExportOptions::new().dtype(DType::F32).replace(true);
    export(&table, &path, &options).unwrap();
    let after = Table::load(&path).unwrap();
    for id in 0..before.vocab() {
        let (before, after) = (before.row::<f16>(id).unwrap(), after.row::<f32>(id).unwrap());
        assert!(before.iter().zip(after).all(|(a, b)| a.to_f32().to_bits() == b.to_bits()));
    }
}

#[test]
fn names_tell_the_format() {
    use ExportFormat as F;
    for (name, format) in [
        ("a.npy", Some(F::Npy)),
        ("A.SAFETENSORS", Some(F::Safetensors)),
        ("crawl.vec", Some(F::Word2Vec)),
        ("a.w2v", Some(F::Word2Vec)),
        ("GoogleNews-vectors.bin", Some(F::Word2VecBinary)),
        ("glove.6B.300d.txt", Some(F::Glove)),
        ("a.glove", Some(F::Glove)),
        ("vectors.txt", None),
        ("npy", None),
        ("a.npy/", Some(F::Npy)),
        ("..", None),
    ] {
        assert_eq!(F::of_path(name), format, "{name}");
    }
    for format in F::ALL {
        assert_eq!(format.name().parse(), Ok(format));
    }
    assert!("word2vec-text".parse::<F>().unwrap_err().contains("word2vec-binary"));
}
