//! numpy's files: headers, arrays in place, archives.

use std::path::Path;

use super::super::npy::NpyHeader;
use super::super::{FoundTable, SourceOptions, from_stored};
use super::stored;
use crate::dtype::DType;
use crate::error::{Error, Place, Result};
use crate::layout::RowPlace;

/// As numpy 2.4 saves an array.
fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((118u16).to_le_bytes());
    bytes.extend(format!("{header:<117}\n").as_bytes());
    bytes.extend(data);
    bytes
}

/// A member of an archive: its name, its bytes, and whether it says its sizes in 64 bits, as
/// `np.savez` does for the local header.
type Member<'a> = (&'a str, &'a [u8], bool);

/// An archive of stored members.
fn zip(members: &[Member<'_>], comment: &[u8]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes, wide) in members {
        let header = file.len() as u32;
        let length = bytes.len() as u32;
        let (sizes, extra) = if *wide {
            let sizes = u64::from(length).to_le_bytes();
            (u32::MAX, [&[1, 0, 16, 0][..], &sizes, &sizes].concat())
        } else {
            (length, Vec::new())
        };
        let common = |out: &mut Vec<u8>, sizes: u32| {
            out.extend([20, 0, 0, 0, 0, 0, 0, 0, 33, 0, 7, 0, 0, 0]);
            out.extend(sizes.to_le_bytes());
            out.extend(sizes.to_le_bytes());
            out.extend((name.len() as u16).to_le_bytes());
        };
        file.extend(b"PK\x03\x04");
        common(&mut file, sizes);
        file.extend((extra.len() as u16).to_le_bytes());
        file.extend(name.as_bytes());
        file.extend(&extra);
        file.extend(*bytes);
        directory.extend(b"PK\x01\x02\x14\x00");
        common(&mut directory, sizes);
        directory.extend((extra.len() as u16).to_le_bytes());
        directory.extend([0; 10]);
        directory.extend(header.to_le_bytes());
        directory.extend(name.as_bytes());
        directory.extend(&extra);
    }
    let start = file.len() as u32;
    file.extend(&directory);
    file.extend(b"PK\x05\x06\0\0\0\0");
    file.extend((members.len() as u16).to_le_bytes());
    file.extend((members.len() as u16).to_le_bytes());
    file.extend((directory.len() as u32).to_le_bytes());
    file.extend(start.to_le_bytes());
    file.extend((comment.len() as u16).to_le_bytes());
    file.extend(comment);
    file
}

fn open(bytes: &[u8]) -> Result<FoundTable> {
    from_stored(stored(bytes), &SourceOptions::default())
}

fn open_array(bytes: &[u8], name: &str) -> Result<FoundTable> {
    let options = SourceOptions { tensor: Some(name.to_owned()), ..SourceOptions::default() };
    from_stored(stored(bytes), &options)
}

fn refusal(bytes: &[u8]) -> String {
    match open(bytes) {
        Ok(_) => panic!("opened"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn arrays_of_every_type_are_read_where_they_lie() {
    for (descr, dtype) in [
        ("<f4", DType::F32),
        ("<f2", DType::F16),
        ("<f8", DType::F64),
        ("|i1", DType::I8),
        ("|u1", DType::U8),
        (">i1", DType::I8),
        ("<V2", DType::BF16),
        ("|V2", DType::BF16),
    ] {
        let row = 3 * dtype.block_bytes();
        let found = open(&npy(descr, "(5, 3)", &vec![1; 5 * row])).unwrap();
        assert_eq!((found.format, found.dtype, found.tensor), ("npy", dtype, None));
        assert_eq!((found.layout.vocab, found.layout.dim), (5, 3));
        let place = found.layout.values.place(4);
        assert_eq!(place, Some(RowPlace { file: 0, offset: 128 + 4 * row as u64 }));
    }
    let none = open(&npy("<f4", "(0, 3)", &[])).unwrap();
    assert_eq!((none.layout.vocab, none.layout.dim), (0, 3));
}

#[test]
fn versions_differ_in_the_length_of_the_header() {
    for version in [2, 3] {
        let one = npy("<f4", "(1, 2)", &[0; 8]);
        let mut bytes = [b"\x93NUMPY", &[version, 0][..], &118u32.to_le_bytes()].concat();
        bytes.extend(&one[10..]);
        let found = open(&bytes).unwrap();
        assert_eq!(found.layout.values.place(0), Some(RowPlace { file: 0, offset: 130 }));
    }
}

#[test]
fn a_header_is_written_as_numpy_writes_it() {
    let mut bytes = Vec::new();
    NpyHeader::of_rows(DType::F32, 2, 3).write_to(&mut bytes).unwrap();
    assert_eq!(bytes, npy("<f4", "(2, 3)", &[]));
    for shape in [vec![], vec![7], vec![u64::MAX, u64::MAX]] {
        let header = NpyHeader { descr: ">f8".to_owned(), fortran_order: true, shape };
        bytes.clear();
        header.write_to(&mut bytes).unwrap();
        assert_eq!(bytes.len() % 64, 0);
        let length = bytes.len() as u64;
        assert_eq!(NpyHeader::parse(&bytes, "x").unwrap(), (header, length));
    }
}

#[test]
fn what_is_no_table_is_refused_by_what_it_is() {
    for (descr, shape, part) in [
        ("|O", "(5, 3)", "Python objects"),
        ("<i8", "(5, 3)", "'<i8'"),
        ("<i8", "(5, 3)", "array.astype(np.float32)"),
        ("<c8", "(5, 3)", "expected f4"),
        ("<U12", "(5, 3)", "expected f4"),
        ("|V1", "(5, 3)", "8-bit type"),
        ("é4", "(5, 3)", "expected f4"),
        ("", "(5, 3)", "expected f4"),
        ("<f4", "(15,)", "[15], expected two dimensions"),
        ("<f4", "(5, 3, 1)", "[5, 3, 1], expected two dimensions"),
        ("<f4", "()", "[], expected two dimensions"),
        ("<f4", "(5, 0)", "at least one column"),
        ("<f4", "(9223372036854775807, 3)", "too large"),
        ("<f4", "(4611686018427387904, 4)", "too large"),
        (">f4", "(5, 3)", "big-endian order, and is not read in place"),
    ] {
        let reason = refusal(&npy(descr, shape, &[0; 60])).replace('"', "'");
        assert!(reason.contains(part), "{descr} {shape}: {reason}");
    }
    let mut fortran = Vec::new();
    let header = NpyHeader { descr: "<f4".into(), fortran_order: true, shape: vec![5, 3] };
    header.write_to(&mut fortran).unwrap();
    fortran.extend([0; 60]);
    assert!(refusal(&fortran).contains("Fortran order"));
    // One row or one column lies the same either way.
    let mut column = Vec::new();
    NpyHeader { shape: vec![15, 1], ..header }.write_to(&mut column).unwrap();
    column.extend([0; 60]);
    assert_eq!(open(&column).unwrap().layout.vocab, 15);
}

#[test]
fn a_structured_type_is_refused_by_name() {
    let mut bytes = npy("x", "(5, 3)", &[]);
    let text = String::from_utf8_lossy(&bytes[10..]).replace("'x'", "[('a', '<f4')]");
    bytes.truncate(10);
    bytes.extend(text.as_bytes());
    bytes[8] = u8::try_from(text.len()).unwrap();
    assert!(refusal(&bytes).contains("structured"), "{}", refusal(&bytes));
}

#[test]
fn an_array_of_another_length_is_refused_with_its_place() {
    let whole = npy("<f4", "(5, 3)", &[0; 60]);
    for cut in 0..whole.len() {
        let Err(error) = open(&whole[..cut]) else { panic!("opened with {cut} bytes") };
        if cut >= 6 {
            let Error::Foreign { format: "npy", place, .. } = error else { panic!("{error}") };
            assert_eq!(place, Place::Offset(cut as u64));
        }
    }
    let long = [&whole[..], &[0]].concat();
    assert!(refusal(&long).contains("take 60 bytes, and 61 follow"), "{}", refusal(&long));
}

#[test]
fn headers_that_lie_are_refused() {
    for (shape, part) in [
        ("(18446744073709551616, 3)", "no number"),
        ("(1 2)", "expected ')'"),
        ("(-1, 3)", "no number"),
        ("(5, 3), 'shape': (5, 3)", "twice"),
        ("(5, 3), 'more': 1", "unknown key"),
    ] {
        let reason = refusal(&npy("<f4", shape, &[0; 60]));
        assert!(reason.contains(part), "{shape}: {reason}");
    }
    let dims = vec!["1"; 65].join(",");
    let mut many = b"\x93NUMPY\x01\x00".to_vec();
    let text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({dims})}}");
    many.extend((text.len() as u16).to_le_bytes());
    many.extend(text.as_bytes());
    assert!(refusal(&many).contains("64 dimensions"));
    assert!(refusal(b"\x93NUMPY\x02\x00\xff\xff\xff\xff{").contains("at most"));
    assert!(refusal(b"\x93NUMPY\x09\x00\x00\x00").contains("version is 9.0"));
    assert!(refusal(b"\x93NUMPY\x01\x01\x76\x00").contains("version is 1.1"), "as numpy does");
    assert!(refusal(b"\x93NUMPY\x02\x04\x76\x00").contains("version is 2.4"));
}

#[test]
fn a_stored_array_of_an_archive_is_read_where_it_lies() {
    let vectors = npy("<f2", "(5, 3)", &[1; 30]);
    for wide in [false, true] {
        let archive = zip(&[("vectors.npy", &vectors, wide)], b"made by a test");
        let found = open(&archive).unwrap();
        assert_eq!((found.format, found.tensor.as_deref()), ("npz", Some("vectors")));
        let extra = if wide { 20 } else { 0 };
        let data = 30 + 11 + extra + 128;
        assert_eq!(found.layout.values.place(1), Some(RowPlace { file: 0, offset: data + 6 }));
    }
}

#[test]
fn one_of_several_arrays_is_named() {
    let (a, b) = (npy("<f2", "(5, 3)", &[1; 30]), npy("<f4", "(2, 2)", &[1; 16]));
    let archive = zip(&[("a.npy", &a, false), ("b.npy", &b, true), ("readme", b"x", false)], b"");
    let Error::Tensor { reason, candidates, .. } = open(&archive).map(|_| ()).unwrap_err() else {
        panic!()
    };
    assert_eq!(reason, "2 members of the archive are .npy files, expected one");
    assert_eq!(candidates, ["a.npy", "b.npy", "readme"]);
    for name in ["b", "b.npy"] {
        assert_eq!(open_array(&archive, name).unwrap().layout.vocab, 2);
    }
    assert!(open_array(&archive, "c").is_err());
    let twice = zip(&[("a.npy", &a, false), ("a.npy", &b, true)], b"");
    assert!(open_array(&twice, "a").is_err());
    let list = super::super::npz::list(&stored(&archive)).unwrap();
    let shown: Vec<_> = list.iter().map(|one| (one.name.as_str(), one.shape.clone())).collect();
    assert_eq!(shown, [("a", vec![5, 3]), ("b", vec![2, 2])]);
}

#[test]
fn archives_that_lie_are_refused_with_their_place() {
    let vectors = npy("<f2", "(5, 3)", &[1; 30]);
    let archive = zip(&[("v.npy", &vectors, false)], b"");
    for cut in 4..archive.len() {
        assert!(open(&archive[..cut]).is_err(), "cut at {cut}");
    }
    let directory = archive.len() - 22 - 46 - 5;
    // What is changed at which byte of the directory's entry, and what is said of it.
    for (at, byte, part) in [
        (20, 159, "stored in 159 bytes, and 158 are declared"),
        (24, 159, "stored in 158 bytes, and 159 are declared"),
        (10, 93, "packed by method 93"),
        (10, 8, "is deflated"),
        (8, 1, "is encrypted"),
        (42, 1, "no header where the directory says"),
        (45, 255, "beyond the end"),
        (46, b'w', "another name"),
        (28, 4, "holds more"),
        (28, 6, "within an entry"),
        (0, 0, "no entry of the directory"),
        (23, 255, "which ends before"),
    ] {
        let mut wrong = archive.clone();
        wrong[directory + at] = byte;
        let name = if at == 46 { "w" } else { "v" };
        let error = open_array(&wrong, name).or_else(|_| open(&wrong)).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains(part), "{at}: {error}");
    }
    // The array inside is shorter than its member, or longer.
    for data in [28, 32] {
        let inner = npy("<f2", "(5, 3)", &vec![1; data]);
        assert!(refusal(&zip(&[("v.npy", &inner, false)], b"")).contains("follow the header"));
    }
}

#[test]
fn every_flipped_byte_of_an_archive_gives_a_table_or_an_error() {
    let vectors = npy("<f2", "(5, 3)", &[1; 30]);
    let archive = zip(&[("v.npy", &vectors, true)], b"c");
    for at in 0..archive.len() {
        for bit in 0..8 {
            let mut wrong = archive.clone();
            wrong[at] ^= 1 << bit;
            if let Ok(found) = open(&wrong) {
                assert_eq!((found.layout.vocab, found.layout.dim), (5, 3), "byte {at}");
            }
        }
    }
}

#[test]
fn other_files_are_refused_by_what_they_are() {
    let directory = tempfile::tempdir().unwrap();
    for (name, bytes, part) in [
        ("x.vec", &b"2 2\na 1 2\nb 3 4\n"[..], "word2vec or fastText vectors"),
        ("x.txt", b"a 1 2\nb 3 4\n", "as of GloVe"),
        ("x.parquet", b"PAR1....PAR1", "a Parquet file"),
        ("x.h5", b"\x89HDF\r\n\x1a\n", "HDF5"),
        ("x.bin", b"\xba\x16\x4f\x2f\x0c\0\0\0", "a fastText model"),
    ] {
        let path = directory.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let found = super::super::open(Path::new(&path), &SourceOptions::default());
        let Error::NoTable { reason, .. } = found.map(|_| ()).unwrap_err() else { panic!() };
        assert!(reason.contains(part), "{reason}");
    }
}
