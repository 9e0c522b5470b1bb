//! Tables from formats that are not read in place: what is read, and what is refused, with its
//! place, and nothing left behind.

#![cfg(feature = "import")]
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::float_cmp,
    clippy::print_stderr
)]

mod support;

use std::fs;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use embmap::{
    Codec, ConvertOptions, DType, Duplicates, Error, ImportFormat, ImportOptions, NpyHeader, Place,
    Table, TextEncoding, Written, convert_from, convert_from_with, plan_convert,
};
use half::{bf16, f16};
use proptest::prelude::*;
use support::Random;

/// Converts the bytes of a file of a name, and gives what was written and what is read back.
fn converted(
    bytes: &[u8],
    name: &str,
    import: ImportOptions,
    options: &ConvertOptions,
) -> Result<(Written, Table), Error> {
    let directory = tempfile::tempdir().unwrap();
    let (path, out) = (directory.path().join(name), directory.path().join("out.emb"));
    fs::write(&path, bytes).unwrap();
    let started = Instant::now();
    let written = import.open(&path).and_then(|source| convert_from(source, &out, options));
    let names: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|it| it.unwrap()).collect();
    match written {
        Err(error) => {
            assert_eq!(names.len(), 1, "something was left: {names:?}");
            assert!(started.elapsed() < Duration::from_secs(5), "{error} took too long");
            assert!(!error.to_string().contains('\n'), "one line: {error}");
            Err(error)
        }
        Ok(written) => {
            assert_eq!(names.len(), 2, "{names:?}");
            let table = Table::load(&out).unwrap();
            assert!(table.verify().unwrap().damage.is_empty());
            assert_eq!(fs::metadata(&out).unwrap().len(), written.file_bytes);
            Ok((written, table))
        }
    }
}

fn import(bytes: &[u8], name: &str) -> Table {
    converted(bytes, name, ImportOptions::new(), &ConvertOptions::new()).unwrap().1
}

fn import_as(bytes: &[u8], name: &str, options: ImportOptions) -> Table {
    converted(bytes, name, options, &ConvertOptions::new()).unwrap().1
}

fn refusal(bytes: &[u8], name: &str, options: ImportOptions) -> Error {
    converted(bytes, name, options, &ConvertOptions::new()).map(|_| ()).unwrap_err()
}

/// The place of what is wrong, and the reason.
fn fault(bytes: &[u8], name: &str) -> (Place, String) {
    fault_as(bytes, name, ImportOptions::new())
}

fn fault_as(bytes: &[u8], name: &str, options: ImportOptions) -> (Place, String) {
    match refusal(bytes, name, options) {
        Error::Foreign { place, reason, .. } => (place, reason),
        other => panic!("{other}"),
    }
}

fn rows(table: &Table) -> Vec<Vec<f32>> {
    let ids: Vec<u64> = (0..table.vocab()).collect();
    let all: Vec<f32> = table.gather(&ids).unwrap();
    all.chunks(table.dim()).map(<[f32]>::to_vec).collect()
}

fn tokens(table: &Table) -> Vec<Option<String>> {
    (0..table.token_count().unwrap())
        .map(|id| table.token(id).unwrap().map(std::borrow::Cow::into_owned))
        .collect()
}

fn some(tokens: &[&str]) -> Vec<Option<String>> {
    tokens.iter().map(|token| Some((*token).to_owned())).collect()
}

/// word2vec's binary form, with a newline after each row or without.
fn binary(words: &[(&[u8], &[f32])], newline: bool) -> Vec<u8> {
    let mut file = format!("{} {}\n", words.len(), words[0].1.len()).into_bytes();
    for (word, numbers) in words {
        file.extend(*word);
        file.push(b' ');
        file.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        if newline {
            file.push(b'\n');
        }
    }
    file
}

const WORDS: [(&[u8], &[f32]); 3] =
    [(b"the", &[0.5, -1.25, 3e-7]), ("çà".as_bytes(), &[1e30, f32::NAN, -0.0]), (b"", &[1.0; 3])];

#[test]
fn the_same_words_come_out_of_every_format() {
    let text = "the 0.5 -1.25 3e-7\nçà 1e30 nan -0\n 1 1 1\n";
    let with_header = format!("3 3\n{text}");
    let gzip = |plain: &[u8]| {
        use std::io::Write;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    };
    let files: [(&str, Vec<u8>, &str); 10] = [
        ("x.txt", text.into(), "glove"),
        ("x", format!("\u{feff}{text}").into(), "glove"),
        ("x.txt", text.replace('\n', "\r\n").into(), "glove"),
        ("x.txt", text.trim_end().into(), "glove"),
        ("x.txt", format!("{text}\n\n").into(), "glove"),
        ("x.vec", with_header.clone().into(), "word2vec"),
        ("x.vec", with_header.replace('\n', " \n").into(), "word2vec"),
        ("x.bin", binary(&WORDS, false), "word2vec-binary"),
        ("x.bin", binary(&WORDS, true), "word2vec-binary"),
        ("x.vec.gz", gzip(with_header.as_bytes()), "word2vec"),
    ];
    let expected: Vec<u32> =
        WORDS.iter().flat_map(|(_, row)| row.iter().map(|x| x.to_bits())).collect();
    for (name, bytes, format) in files {
        for forced in [false, true] {
            let mut options = ImportOptions::new();
            if forced {
                options = options.format(format.parse().unwrap());
            }
            let (written, table) =
                converted(&bytes, name, options.clone(), &ConvertOptions::new()).unwrap();
            let bits: Vec<u32> = rows(&table).concat().iter().map(|x| x.to_bits()).collect();
            assert_eq!(bits, expected, "{name}");
            assert_eq!(tokens(&table), some(&["the", "çà", ""]), "{name}");
            assert_eq!(table.id_of("çà").unwrap(), Some(1));
            assert_eq!(written.non_finite, (format != "word2vec-binary").then_some(1));
            let source = options.read(io::Cursor::new(bytes.clone()), "stream").unwrap();
            assert_eq!((source.format(), source.dim()), (format, 3));
            let metadata: serde_json::Value =
                serde_json::from_str(&table.metadata().unwrap().unwrap()).unwrap();
            assert_eq!(metadata["source"]["format"], format);
            assert_eq!(
                (&metadata["source"]["file"], &metadata["source"]["vocab"]),
                (&name.into(), &3.into())
            );
        }
    }
}

#[test]
fn numbers_are_rounded_once_to_what_is_stored() {
    let text = b"x 0.1 16777217 65504\n";
    let stored = |dtype| {
        let options = ConvertOptions::new().dtype(dtype);
        converted(text, "x.txt", ImportOptions::new(), &options).unwrap().1
    };
    assert_eq!(stored(DType::F32).row::<f32>(0).unwrap(), [0.1, 16_777_216.0, 65504.0]);
    assert_eq!(stored(DType::F16).row::<f16>(0).unwrap()[2].to_f32(), 65504.0);
    assert_eq!(stored(DType::BF16).row::<bf16>(0).unwrap()[0], bf16::from_f32(0.1));
    assert!(matches!(stored(DType::I8).codec(), Codec::Scaled(_)));
    let options = ImportOptions::new().text_dtype(DType::F64);
    let (_, table) = converted(text, "x.txt", options, &ConvertOptions::new()).unwrap();
    assert_eq!(table.row::<f64>(0).unwrap(), [0.1, 16_777_217.0, 65504.0]);
}

#[test]
fn counts_that_lie_are_refused_with_their_line() {
    let text = |header: &str| format!("{header}\nthe 1 2\nof 3 4\n").into_bytes();
    assert_eq!(fault(&text("3 2"), "x").0, Place::Line(4));
    let (place, reason) = fault(&text("1 2"), "x");
    assert_eq!(
        (place, reason.as_str()),
        (Place::Line(3), "1 rows are declared, and one more follows")
    );
    assert_eq!(fault(&text("0 2"), "x").0, Place::Line(2));
    assert_eq!(fault(&text("2 3"), "x").0, Place::Line(2));
    assert_eq!(fault(&text("2 1"), "x").0, Place::Line(2));
    for header in ["1000000000000000000 2", "18446744073709551615 2", "3 9000000"] {
        let (place, reason) = fault(&text(header), "x");
        assert_eq!(place, Place::Line(1));
        assert!(reason.contains("words are declared, which take at least"), "{reason}");
    }
    let (place, reason) = fault(&text("2 99999999999"), "x");
    assert_eq!(place, Place::Line(1));
    assert!(
        reason.contains("99999999999 columns are declared, expected 1 to 16777216"),
        "{reason}"
    );
    assert!(fault(&text("2 0"), "x").1.contains("0 columns"));
    // A stream does not tell its length: it is found out at its end.
    let endless = ImportOptions::new().read(io::Cursor::new(text("1000000000000000000 2")), "-");
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out.emb");
    let error = convert_from(endless.unwrap(), &out, &ConvertOptions::new()).unwrap_err();
    assert!(matches!(error, Error::Foreign { place: Place::Line(4), .. }), "{error}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    assert_eq!(import(b"0 5\n", "x").vocab(), 0);
}

#[test]
fn lines_that_are_no_rows_are_refused_with_their_line() {
    for (line, part) in [
        ("the 1", "expected a token and 2 numbers, found 2 fields"),
        ("the 1 2.5 3", "a number more"),
        ("the one 2", "column 0, found \"one\""),
        ("", "a blank line"),
        ("  \t", "a blank line"),
        ("the 1 1e39", "too large for f32"),
        ("the 1 2\0", "column 1"),
    ] {
        let text = format!("of 1 2\nto 3 4\n{line}\nand 5 6\n");
        let (place, reason) = fault(text.as_bytes(), "x.txt");
        assert_eq!(place, Place::Line(3), "{line:?}");
        assert!(reason.contains(part), "{reason}");
        let (place, _) = fault(format!("4 2\n{text}").as_bytes(), "x.vec");
        assert_eq!(place, Place::Line(4), "{line:?}");
    }
    let (place, reason) = fault(b"of 1 2\nth\xc3 3 4\n", "x.txt");
    assert!(place == Place::Line(2) && reason.contains("--encoding lossy or latin1"), "{reason}");
}

#[test]
fn tokens_with_spaces_and_numbers_are_read_where_the_columns_are_known() {
    let text = b"at name@domain.com 1 2\n. . . 3 4\nweb 2.0 5 6\nthe 7 8\nof 9 10\n";
    let (place, reason) = fault(text, "x.txt");
    assert!(place == Place::Line(3) && reason.contains("--dim 2"), "{reason}");
    let table = import_as(text, "x.txt", ImportOptions::new().dim(2));
    assert_eq!(tokens(&table), some(&["at name@domain.com", ". . .", "web 2.0", "the", "of"]));
    let error = refusal(b"2 3\na 1 2 3\nb 1 2 3\n", "x.vec", ImportOptions::new().dim(2));
    assert!(matches!(error, Error::InvalidOption { option: "dim", .. }), "{error}");
}

#[test]
fn other_encodings_are_read_where_they_are_asked_for() {
    let as_encoding = |encoding, bytes: &[u8]| {
        tokens(&import_as(bytes, "x", ImportOptions::new().encoding(encoding)))
    };
    for bytes in [
        b"caf\xe9 1 2\nthe 3 4\n".to_vec(),
        binary(&[(b"caf\xe9", &[1.0, 2.0]), (b"the", &[3.0, 4.0])], true),
    ] {
        assert_eq!(as_encoding(TextEncoding::Latin1, &bytes), some(&["café", "the"]));
        assert_eq!(as_encoding(TextEncoding::Lossy, &bytes), some(&["caf\u{fffd}", "the"]));
        assert!(fault(&bytes, "x").1.contains("not UTF-8 from its byte 3"));
    }
    let twins = b"caf\xe9 1 2\ncaf\xe8 3 4\n";
    let options = ImportOptions::new().encoding(TextEncoding::Lossy);
    assert_eq!(fault_as(twins, "x", options.clone()).0, Place::Line(2));
    assert_eq!(import_as(twins, "x", options.duplicates(Duplicates::First)).vocab(), 1);
    let utf16: Vec<u8> = "\u{feff}a 1 2\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(refusal(&utf16, "x", ImportOptions::new()).to_string().contains("UTF-16"));
}

#[test]
fn a_line_without_an_end_is_refused_in_bounded_memory() {
    /// Gives the same bytes for ever.
    struct Endless(u64);
    impl Read for Endless {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            out.fill(b'7');
            self.0 += out.len() as u64;
            assert!(self.0 < 100 << 20, "it reads on and on");
            Ok(out.len())
        }
    }
    for start in ["2 3\n", "the 1 2 3\nof 4 5 6\n"] {
        let reader = io::Cursor::new(start).chain(Endless(0));
        let source = ImportOptions::new().dim(3).read(reader, "endless").unwrap();
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("x.emb");
        let error = convert_from(source, out, &ConvertOptions::new()).unwrap_err();
        let Error::Foreign { place, reason, .. } = error else { panic!("{error}") };
        assert_eq!(place, Place::Line(start.lines().count() as u64 + 1));
        assert!(reason.contains("the line has more than"), "{reason}");
    }
    let reader = io::Cursor::new("5 2\n").chain(Endless(0));
    let options = ImportOptions::new().format(ImportFormat::Word2VecBinary);
    let source = options.read(reader, "endless").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let error = convert_from(source, directory.path().join("x"), &ConvertOptions::new());
    assert!(error.unwrap_err().to_string().contains("no space after it within"));
}

/// Lines of several pieces, and their numbers.
fn long_text(lines: u64, dim: usize) -> (String, Vec<f32>) {
    use std::fmt::Write;
    let (mut text, mut numbers, mut random) = (String::new(), Vec::new(), Random(lines));
    for line in 0..lines {
        write!(text, "word{line}").unwrap();
        for _ in 0..dim {
            let number = (random.next() >> 40) as f32 / 65536.0 - 100.0;
            numbers.push(number);
            write!(text, " {number}").unwrap();
        }
        text.push('\n');
    }
    (text, numbers)
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let (text, numbers) = long_text(60_000, 9);
    assert!(text.len() > 4 << 20);
    for threads in [1, 2, 5] {
        let table = import_as(text.as_bytes(), "x.txt", ImportOptions::new().threads(threads));
        assert_eq!(table.rows::<f32>().unwrap().as_slice().unwrap(), numbers);
        assert_eq!(table.id_of("word59999").unwrap(), Some(59_999));
        for line in [1, 20_000, 59_999] {
            let wrong = text.replacen(&format!("word{line} "), "", 1);
            let options = ImportOptions::new().threads(threads);
            let (place, reason) = fault_as(wrong.as_bytes(), "x.txt", options);
            assert_eq!(place, Place::Line(line + 1));
            assert!(reason.contains("found 9 fields"), "{reason}");
        }
    }
}

#[test]
fn what_is_cut_short_is_refused_wherever_it_is_cut() {
    let whole = binary(&WORDS, true);
    for cut in 4..whole.len() - 1 {
        let options = ImportOptions::new().format(ImportFormat::Word2VecBinary);
        let (place, _) = fault_as(&whole[..cut], "x.bin", options);
        assert!(matches!(place, Place::Line(1) | Place::Offset(_)), "cut at {cut}");
    }
    let mut stream = whole[..whole.len() - 5].to_vec();
    let options = || ImportOptions::new().format(ImportFormat::Word2VecBinary);
    let source = options().read(io::Cursor::new(stream.clone()), "-").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let error = convert_from(source, directory.path().join("x"), &ConvertOptions::new());
    let Error::Foreign { place, reason, .. } = error.unwrap_err() else { panic!() };
    assert!(reason.contains("within word 2 of 3"), "{reason}");
    assert_eq!(place, Place::Offset(stream.len() as u64));
    stream = [&whole[..], b"more"].concat();
    let (place, reason) = fault_as(&stream, "x.bin", options());
    assert!(reason.contains("goes on after them"), "{reason}");
    assert_eq!(place, Place::Offset(whole.len() as u64));
}

#[test]
fn raw_rows_are_read_with_their_form_said() {
    let numbers = [1.5f32, -2.0, 3.0, 4.0, 5.0, 6.0];
    let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
    let raw = || ImportOptions::new().format(ImportFormat::Raw);
    let table = import_as(&bytes, "x", raw().dim(3).dtype(DType::F32));
    assert_eq!(rows(&table), [[1.5, -2.0, 3.0], [4.0, 5.0, 6.0]]);
    assert_eq!(table.token_count().unwrap(), 0);
    assert_eq!(import_as(&bytes, "x", raw().dim(4).dtype(DType::F8E4M3)).vocab(), 6);
    for (options, option) in
        [(raw(), "dim"), (raw().dim(3), "dtype"), (raw().dtype(DType::F32), "dim")]
    {
        let Error::InvalidOption { option: found, .. } = refusal(&bytes, "x", options) else {
            panic!()
        };
        assert_eq!(found, option);
    }
    for (dim, dtype) in [(0, DType::F32), (usize::MAX, DType::F32), (32, DType::Q8_0)] {
        let error = refusal(&bytes, "x", raw().dim(dim).dtype(dtype));
        assert!(matches!(error, Error::InvalidOption { .. }), "{error}");
    }
    let (place, reason) = fault_as(&bytes, "x", raw().dim(5).dtype(DType::F32));
    assert_eq!(place, Place::Offset(20));
    assert!(reason.contains("24 bytes are no whole number of rows of 5 f32"), "{reason}");
    let source = raw().dim(5).dtype(DType::F32).read(io::Cursor::new(bytes), "-").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let error = convert_from(source, directory.path().join("x"), &ConvertOptions::new());
    assert!(matches!(error.unwrap_err(), Error::Foreign { place: Place::Offset(24), .. }));
}

/// An array as numpy saves it, in either order of either kind.
fn npy(descr: &str, fortran_order: bool, shape: [u64; 2], data: &[u8]) -> Vec<u8> {
    let header = NpyHeader { descr: descr.to_owned(), fortran_order, shape: shape.to_vec() };
    let mut file = Vec::new();
    header.write_to(&mut file).unwrap();
    file.extend(data);
    file
}

#[test]
fn arrays_in_any_order_come_out_as_rows() {
    // More rows than are turned around at once, and more columns than rows.
    for (vocab, dim) in [(1u64, 1u64), (5, 3), (9001, 7), (3, 70_000)] {
        let number = |row: u64, column: u64| (row * dim + column) as f64 / 3.0;
        let cells = |by_column: bool| -> Vec<(u64, u64)> {
            let (outer, inner) = if by_column { (dim, vocab) } else { (vocab, dim) };
            let all = (0..outer).flat_map(|a| (0..inner).map(move |b| (a, b)));
            all.map(|(a, b)| if by_column { (b, a) } else { (a, b) }).collect()
        };
        for by_column in [false, true] {
            for big in [false, true] {
                let numbers =
                    || cells(by_column).into_iter().map(|(row, column)| number(row, column));
                let wide: Vec<u8> = numbers()
                    .flat_map(|x| if big { x.to_be_bytes() } else { x.to_le_bytes() })
                    .collect();
                let narrow: Vec<u8> = numbers()
                    .map(|x| f16::from_f64(x % 1000.0))
                    .flat_map(|x| if big { x.to_be_bytes() } else { x.to_le_bytes() })
                    .collect();
                let order = if big { '>' } else { '<' };
                let file = npy(&format!("{order}f8"), by_column, [vocab, dim], &wide);
                let table = import(&file, "x.npy");
                assert_eq!((table.vocab(), table.dim() as u64), (vocab, dim));
                for row in [0, vocab / 2, vocab - 1] {
                    let expected: Vec<f64> = (0..dim).map(|column| number(row, column)).collect();
                    assert_eq!(table.row::<f64>(row).unwrap(), expected);
                }
                let file = npy(&format!("{order}f2"), by_column, [vocab, dim], &narrow);
                let table = import(&file, "x.npy");
                let last = number(vocab - 1, dim - 1);
                assert_eq!(
                    table.row::<f16>(vocab - 1).unwrap()[dim as usize - 1],
                    f16::from_f64(last % 1000.0)
                );
                if !by_column {
                    let stream = ImportOptions::new().read(io::Cursor::new(file.clone()), "-");
                    assert_eq!(stream.unwrap().vocab(), Some(vocab));
                }
            }
        }
    }
    let stream = npy("<f4", true, [5, 3], &[0; 60]);
    let error = ImportOptions::new().read(io::Cursor::new(stream), "-").unwrap_err();
    assert!(error.to_string().contains("Fortran order"), "{error}");
    for cut in [127, 128, 130, 187] {
        let file = npy(">f4", cut % 2 == 0, [5, 3], &[0; 60]);
        assert!(matches!(fault(&file[..cut], "x.npy").0, Place::Offset(_)));
    }
    let objects = npy("|O", false, [5, 3], b"a pickle");
    assert!(
        refusal(&objects, "x.npy", ImportOptions::new()).to_string().contains("Python objects")
    );
}

#[test]
fn pickles_and_other_formats_are_refused_with_the_way_out() {
    for (name, bytes, part) in [
        ("model.pt", &b"PK\x03\x04 a pickle in a zip"[..], "safetensors.torch.save_file"),
        ("pytorch_model.bin", b"\x80\x02}q", "safetensors.torch.save_file"),
        ("cc.en.300.bin", b"\xba\x16\x4f\x2f\x0c\0\0\0", "model.get_words()"),
        ("x.magnitude", b"SQLite format 3\0", "word2vec text"),
        ("x.h5", b"\x89HDF\r\n\x1a\n", "np.save"),
        ("x.txt", b"the cat sat on the mat\n", "--from"),
        ("x", b"", "--from"),
    ] {
        let error = refusal(bytes, name, ImportOptions::new()).to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn options_that_a_format_has_no_use_for_are_refused() {
    let refused = |bytes: &[u8], options: ImportOptions| match refusal(bytes, "x", options) {
        Error::InvalidOption { option, .. } => option,
        other => panic!("{other}"),
    };
    let text = b"the 1 2\nof 3 4\n";
    assert_eq!(refused(text, ImportOptions::new().column("x")), "column");
    assert_eq!(refused(text, ImportOptions::new().dtype(DType::F32)), "dtype");
    assert_eq!(refused(text, ImportOptions::new().text_dtype(DType::F16)), "text_dtype");
    assert_eq!(refused(&binary(&WORDS, true), ImportOptions::new().dim(3)), "dim");
    let array = npy("<f4", false, [5, 3], &[0; 60]);
    assert_eq!(refused(&array, ImportOptions::new().duplicates(Duplicates::First)), "duplicates");
    assert_eq!(refused(&array, ImportOptions::new().encoding(TextEncoding::Lossy)), "encoding");
    let error = refusal(&array, "x", ImportOptions::new().format(ImportFormat::Gguf));
    assert!(error.to_string().contains("gguf was asked for, and the file is npy"), "{error}");
}

#[test]
fn a_range_of_a_stream_is_taken_with_its_tokens() {
    let (text, numbers) = long_text(60_000, 9);
    let take = |rows| {
        let options = ConvertOptions::new().rows(rows);
        converted(text.as_bytes(), "x.txt", ImportOptions::new(), &options)
    };
    for (start, end) in [(0, 60_000), (0, 3), (29_000, 31_000), (59_999, 60_000), (5, 5)] {
        let (_, table) = take(start..end).unwrap();
        let expected = &numbers[start as usize * 9..end as usize * 9];
        assert_eq!(table.rows::<f32>().unwrap().as_slice().unwrap(), expected);
        for id in [0, (end - start).saturating_sub(1)].into_iter().take(table.vocab() as usize) {
            let token = table.token(id).unwrap().unwrap().into_owned();
            assert_eq!(token, format!("word{}", start + id));
        }
    }
    assert_eq!(take(59_000..u64::MAX).unwrap().1.vocab(), 1000);
    for (start, end) in [(0, 60_001), (60_001, u64::MAX), (7, 6)] {
        let error = take(start..end).map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::InvalidOption { option: "rows", .. }), "{error}");
    }
    // What follows the range is not read.
    let damaged = format!("{text}x\n");
    let options = ConvertOptions::new().rows(0..10);
    assert!(converted(damaged.as_bytes(), "x.txt", ImportOptions::new(), &options).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn one_row_of_each_token_is_kept(
        words in proptest::collection::vec("[ab]{0,2}", 1..80),
        is_binary in any::<bool>(),
    ) {
        let numbers: Vec<f32> = (0..words.len()).map(|row| row as f32).collect();
        let file = if is_binary {
            let list: Vec<(&[u8], &[f32])> = words
                .iter()
                .zip(&numbers)
                .map(|(word, number)| (word.as_bytes(), std::slice::from_ref(number)))
                .collect();
            binary(&list, true)
        } else {
            let lines = words.iter().enumerate().map(|(row, word)| format!("{word} {row}\n"));
            format!("{} 1\n{}", words.len(), lines.collect::<String>()).into_bytes()
        };
        let import = |which| {
            let format = if is_binary { ImportFormat::Word2VecBinary } else { ImportFormat::Word2Vec };
            let options = ImportOptions::new().duplicates(which).format(format);
            converted(&file, "x", options, &ConvertOptions::new())
        };
        let is_first = |row: &usize| !words[..*row].contains(&words[*row]);
        let is_last = |row: &usize| !words[row + 1..].contains(&words[*row]);
        let first: Vec<usize> = (0..words.len()).filter(is_first).collect();
        let last: Vec<usize> = (0..words.len()).filter(is_last).collect();
        for (which, kept) in [(Duplicates::First, &first), (Duplicates::Last, &last)] {
            let (written, table) = import(which).unwrap();
            prop_assert_eq!(written.duplicates as usize, words.len() - kept.len());
            let expected: Vec<f32> = kept.iter().map(|row| *row as f32).collect();
            prop_assert_eq!(rows(&table).concat(), expected);
            let expected: Vec<&str> = kept.iter().map(|row| words[*row].as_str()).collect();
            prop_assert_eq!(tokens(&table), some(&expected));
        }
        match import(Duplicates::Error) {
            Ok(_) => prop_assert_eq!(first.len(), words.len()),
            Err(Error::Foreign { place, reason, .. }) => {
                let second = (0..words.len()).find(|row| !is_first(row)).unwrap();
                let before = words[..second].iter().rposition(|word| *word == words[second]).unwrap();
                let shown = |row| if is_binary { Place::Row(row as u64) } else { Place::Line(row as u64 + 2) };
                prop_assert_eq!(place, shown(second));
                let expected = format!("the token {:?} is that of {} too", words[second], shown(before));
                prop_assert!(reason.starts_with(&expected), "{}", reason);
            }
            Err(other) => prop_assert!(false, "{}", other),
        }
    }

    #[test]
    fn what_would_be_written_is_as_large_as_what_is(
        words in proptest::collection::hash_set("\\PC{0,9}", 0..60),
        dim in 1usize..5,
        align in proptest::option::of(prop_oneof![Just(64u64), Just(512), Just(4096)]),
        start in 0u64..3,
    ) {
        let words: Vec<String> = words.into_iter().map(|word| word.replace([' ', '\t'], "_")).collect();
        let numbers = " 1".repeat(dim);
        let lines: Vec<String> = words.iter().map(|word| format!("{word}{numbers}\n")).collect();
        let lines = lines.concat();
        let text = format!("{} {dim}\n{lines}", words.len());
        let options = ImportOptions::new().format(ImportFormat::Word2Vec).duplicates(Duplicates::First);
        let mut convert = ConvertOptions::new().dtype(DType::F16);
        if let Some(bytes) = align {
            convert = convert.align(bytes);
        }
        if start > 0 && words.len() as u64 >= start {
            convert = convert.rows(start..u64::MAX);
        }
        let source = || options.clone().read(io::Cursor::new(text.clone()), "x.vec").unwrap();
        let planned = plan_convert(source(), &convert, |_| ControlFlow::Continue(())).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let written = convert_from(source(), directory.path().join("x.emb"), &convert).unwrap();
        if written.duplicates == 0 {
            prop_assert_eq!(planned.file_bytes, written.file_bytes);
            prop_assert_eq!((planned.vocab, planned.tokens), (written.vocab, written.tokens));
            prop_assert_eq!(planned.row_stride, written.row_stride);
        }
        prop_assert!(planned.file_bytes >= written.file_bytes);
    }
}

#[test]
fn a_table_is_planned_as_it_would_be_written() {
    for (path, rows) in [
        ("fixtures/minilm-2k", None),
        ("fixtures/minilm-2k", Some(3..700)),
        ("fixtures/gguf/model.gguf", None),
        ("fixtures/v1/f16-tokens.emb", None),
    ] {
        let mut options = ConvertOptions::new();
        if let Some(rows) = rows {
            options = options.rows(rows);
        }
        let source = || ImportOptions::new().open(path).unwrap();
        let planned = plan_convert(source(), &options, |_| ControlFlow::Continue(())).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let written = convert_from(source(), directory.path().join("x.emb"), &options).unwrap();
        // A token that two rows have takes one entry of the index, which is found out later.
        let entry = written.file_bytes..=written.file_bytes + 4096;
        assert!(entry.contains(&planned.file_bytes), "{path}: {planned:?} {written:?}");
        assert_eq!((planned.vocab, planned.tokens), (written.vocab, written.tokens));
    }
}

#[test]
fn a_conversion_tells_how_far_it_is_and_stops_where_it_is_told() {
    let (text, _) = long_text(60_000, 9);
    let directory = tempfile::tempdir().unwrap();
    let (path, out) = (directory.path().join("x.txt"), directory.path().join("x.emb"));
    fs::write(&path, &text).unwrap();
    for which in [Duplicates::Error, Duplicates::Last] {
        let source = || ImportOptions::new().duplicates(which).open(&path).unwrap();
        let mut seen = Vec::new();
        let convert = ConvertOptions::new().replace(true);
        convert_from_with(source(), &out, &convert, |told| {
            seen.push(told);
            ControlFlow::Continue(())
        })
        .unwrap();
        assert!(seen.len() > 5);
        assert!(
            seen.windows(2)
                .all(|two| two[0].stage != two[1].stage || two[0].rows.0 <= two[1].rows.0)
        );
        let reading = seen.iter().rfind(|told| told.stage == embmap::Stage::Reading).unwrap();
        assert_eq!(reading.bytes, (text.len() as u64, Some(text.len() as u64)));
        assert_eq!(seen.last().unwrap().rows, (60_000, Some(60_000)));
        for stop in [0, 3, seen.len() - 1] {
            let mut left = stop;
            fs::remove_file(&out).unwrap_or(());
            let error = convert_from_with(source(), &out, &convert, |_| {
                left = left.wrapping_sub(1);
                if left == usize::MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            assert!(matches!(error.unwrap_err(), Error::Interrupted));
            assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        }
    }
}

/// A safetensors file of tensors of numbers.
fn safetensors(path: &Path, tensors: &[(&str, &str, Vec<usize>, Vec<u8>)]) {
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        let dtype = match *dtype {
            "f32" => safetensors::Dtype::F32,
            "f16" => safetensors::Dtype::F16,
            "f64" => safetensors::Dtype::F64,
            "i8" => safetensors::Dtype::I8,
            "i64" => safetensors::Dtype::I64,
            _ => safetensors::Dtype::I32,
        };
        (*name, safetensors::tensor::TensorView::new(dtype, shape.clone(), bytes).unwrap())
    });
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

#[test]
fn a_model2vec_table_is_mapped_and_weighed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.safetensors");
    let raw: Vec<f32> = (0..12).map(|x| x as f32 / 7.0).collect();
    let bytes = |numbers: &[f32]| numbers.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let mapping: [u32; 6] = [2, 0, 3, 3, 1, 0];
    let weights = [0.5f32, 2.0, -1.0, 0.1, 0.3, 1.0 / 3.0];
    let mapping_bytes: Vec<u8> = mapping.iter().flat_map(|x| x.to_le_bytes()).collect();
    fs::write(directory.path().join("vocab.txt"), "a\nb\nc\nd\ne\nb\n").unwrap();
    let rows_of = |mapping: &[u32], weights: &[f32]| -> Vec<f32> {
        let each = mapping.iter().zip(weights);
        each.flat_map(|(row, weight)| raw[*row as usize * 3..][..3].iter().map(move |x| x * weight))
            .collect()
    };
    let embeddings = ("embeddings", "f32", vec![4, 3], bytes(&raw));
    let map = ("mapping", "i32", vec![6], mapping_bytes);
    let weigh = |dtype: &'static str, bytes: Vec<u8>| ("weights", dtype, vec![6], bytes);
    let convert = || {
        let out = directory.path().join("x.emb");
        let source = ImportOptions::new().open(directory.path())?;
        assert_eq!(source.format(), "model2vec");
        let options = ConvertOptions::new().replace(true);
        convert_from(source, &out, &options).map(|_| Table::load(&out).unwrap())
    };
    safetensors(&path, &[embeddings.clone(), map.clone(), weigh("f32", bytes(&weights))]);
    let table = convert().unwrap();
    assert_eq!(table.rows::<f32>().unwrap().as_slice().unwrap(), rows_of(&mapping, &weights));
    assert_eq!(table.id_of("e").unwrap(), Some(4));
    // In place the rows would be others than those of the tokens, so they are not opened.
    assert!(matches!(Table::load(directory.path()).unwrap_err(), Error::TensorForm { .. }));

    safetensors(&path, &[embeddings.clone(), map.clone()]);
    assert_eq!(
        convert().unwrap().rows::<f32>().unwrap().as_slice().unwrap(),
        rows_of(&mapping, &[1.0; 6])
    );
    let wide: Vec<u8> = weights.iter().flat_map(|x| (f64::from(*x) / 3.0).to_le_bytes()).collect();
    safetensors(&path, &[embeddings.clone(), map.clone(), weigh("f64", wide)]);
    let expected = f64::from(raw[2 * 3 + 1]) * (f64::from(weights[0]) / 3.0);
    assert_eq!(convert().unwrap().row::<f64>(0).unwrap()[1], expected);
    let four = ("weights", "f32", vec![4], bytes(&weights[..4]));
    safetensors(&path, &[embeddings.clone(), four]);
    assert_eq!(
        convert().unwrap().rows::<f32>().unwrap().as_slice().unwrap(),
        rows_of(&[0, 1, 2, 3], &weights[..4])
    );

    // Bytes by f16 are f16, as numpy has it.
    let halves: Vec<u8> = weights.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect();
    let quantized: Vec<u8> = (0..12u8).map(|x| x.wrapping_mul(171)).collect();
    let product = f32::from(quantized[2 * 3].cast_signed()) * weights[0];
    safetensors(
        &path,
        &[("embeddings", "i8", vec![4, 3], quantized), map.clone(), weigh("f16", halves)],
    );
    assert_eq!(convert().unwrap().row::<f16>(0).unwrap()[0], f16::from_f32(product));

    let refused = |tensors: &[(&str, &str, Vec<usize>, Vec<u8>)], part: &str| {
        safetensors(&path, tensors);
        let error = convert().unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    let outside: Vec<u8> = [0i32, 4, 0, 0, 0, 0].iter().flat_map(|x| x.to_le_bytes()).collect();
    refused(&[embeddings.clone(), ("mapping", "i32", vec![6], outside)], "row 1");
    let negative: Vec<u8> = [0i64, 0, -1].iter().flat_map(|x| x.to_le_bytes()).collect();
    refused(&[embeddings.clone(), ("mapping", "i64", vec![3], negative)], "row 2");
    refused(
        &[embeddings.clone(), ("mapping", "f32", vec![6], bytes(&weights))],
        "expected one of i32",
    );
    refused(&[embeddings.clone(), weigh("f32", bytes(&weights))], "expected 4");
    refused(
        &[embeddings.clone(), map.clone(), ("weights", "f32", vec![2], vec![0; 8])],
        "expected 6",
    );
    refused(&[embeddings, map, ("weights", "f32", vec![3, 2], bytes(&weights))], "[3, 2]");
}
