//! safetensors headers: every rule, hostile ones, and the real crate as the oracle.

use std::fmt::Write;
use std::time::{Duration, Instant};

use byteorder::{ByteOrder, LittleEndian};
use proptest::prelude::*;
use safetensors::SafeTensors;

use super::super::header;
use super::super::json::{self, DUPLICATE};
use super::super::safetensors::{TYPES, looks_like, read};
use super::super::tensors::Entry;
use super::{file_of, stored, tensors};
use crate::error::{Error, Place};

fn refusal(bytes: &[u8]) -> (Place, String) {
    match read(&stored(bytes)).unwrap_err() {
        Error::Foreign { format: "safetensors", place, reason, .. } => (place, reason),
        other => panic!("{other}"),
    }
}

fn named(name: &str) -> Place {
    Place::Name(name.to_owned())
}

const A: &str = r#""a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}"#;

#[test]
fn a_header_is_read_in_the_order_of_its_data() {
    let header = r#"{"__metadata__":{"format":"pt","é":""},"b":{"shape":[],"data_offsets":[8,10],"dtype":"BF16"},"\u0061\n":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]}}    "#;
    let read = read(&stored(&file_of(header, 10))).unwrap();
    let data = 8 + header.len() as u64;
    let list: Vec<_> = read
        .tensors()
        .map(|t| (t.name, t.dtype, t.shape.to_string(), t.offset - data, t.bytes))
        .collect();
    assert_eq!(
        list,
        [("a\n", "f32", "[2, 1]".to_owned(), 0, 8), ("b", "bf16", "[]".to_owned(), 8, 2)]
    );
    assert_eq!(read.find("b").unwrap().offset, data + 8);
    assert!(read.find("c").is_none());
    assert_eq!(read.tensors().next().unwrap().to_string(), "a\\n [2, 1] f32");
}

#[test]
fn a_header_without_tensors_is_read() {
    for header in ["{}", r#"{"__metadata__":null}"#, r#"{"__metadata__":{}}  "#] {
        assert_eq!(read(&stored(&file_of(header, 0))).unwrap().tensors().count(), 0);
    }
}

#[test]
fn every_dtype_has_the_size_that_the_crate_gives_it() {
    for known in &TYPES {
        let dtype: safetensors::Dtype =
            serde_json::from_str(&format!("\"{}\"", known.written)).unwrap();
        assert_eq!(dtype.bitsize() as u64, known.bits, "{}", known.written);
        assert_eq!(known.name, known.written.to_lowercase());
        let bytes = tensors(&[("x", known.written, &[4, 2])]);
        assert!(SafeTensors::deserialize(&bytes).is_ok());
        assert_eq!(read(&stored(&bytes)).unwrap().tensors().next().unwrap().dtype, known.name);
    }
}

#[test]
fn a_length_that_cannot_be_is_refused() {
    assert_eq!(refusal(b"").0, Place::Offset(0));
    assert_eq!(refusal(&[0; 7]).0, Place::Offset(0));
    assert_eq!(refusal(&[0; 8]).0, Place::Offset(8));
    assert_eq!(refusal(&u64::MAX.to_le_bytes()).0, Place::Offset(0));
    assert_eq!(refusal(&100_000_001u64.to_le_bytes()).0, Place::Offset(0));
    let (place, reason) = refusal(&100_000_000u64.to_le_bytes());
    assert_eq!(place, Place::Offset(8));
    assert!(reason.contains("cut short"), "{reason}");
}

#[test]
fn a_header_starts_with_a_brace() {
    for header in [" {}", "[]", "\u{feff}{}", "null"] {
        let (place, reason) = refusal(&file_of(header, 0));
        assert_eq!(place, Place::Offset(8));
        assert!(reason.contains("starts with byte"), "{reason}");
    }
}

#[test]
fn a_name_twice_is_refused_by_name() {
    let twin = r#""twin":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}"#;
    let moved = r#""tw\u0069n":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}"#;
    for header in [format!("{{{twin},{twin}}}"), format!("{{{twin},{A},{moved}}}")] {
        assert_eq!(refusal(&file_of(&header, 16)).0, named("twin"), "{header}");
    }
    let metadata = r#"{"__metadata__":{"twin":"","twin":""}}"#;
    assert_eq!(refusal(&file_of(metadata, 0)), (named("twin"), DUPLICATE.to_owned()));
    let metadata = r#"{"__metadata__":{},"__metadata__":{}}"#;
    assert_eq!(refusal(&file_of(metadata, 0)), (named("__metadata__"), DUPLICATE.to_owned()));
}

#[test]
fn a_tensor_has_exactly_three_fields() {
    for (fields, word) in [
        (r#""dtype":"F32","shape":[2]"#, "all of"),
        (r#""dtype":"F32","data_offsets":[0,8]"#, "all of"),
        (r#""shape":[2],"data_offsets":[0,8]"#, "all of"),
        (r#""dtype":"F32","shape":[2],"shape":[2],"data_offsets":[0,8]"#, "twice"),
        (r#""dtype":"F32","shape":[2],"data_offsets":[0,8],"extra":[1]"#, "\"extra\" is unknown"),
        (r#""dtype":"F33","shape":[2],"data_offsets":[0,8]"#, "\"F33\" is unknown"),
        (r#""dtype":"f32","shape":[2],"data_offsets":[0,8]"#, "\"f32\" is unknown"),
        (r#""dtype":"F32","shape":[3],"data_offsets":[0,8]"#, "take 12 bytes"),
        (r#""dtype":"F32","shape":[2],"data_offsets":[8,0]"#, "are 8 to 0"),
        (r#""dtype":"F4","shape":[3],"data_offsets":[0,8]"#, "12 bits"),
        (r#""dtype":"F32","shape":[4294967296,4294967296,0],"data_offsets":[0,8]"#, "overflows"),
        (r#""dtype":"F64","shape":[288230376151711744],"data_offsets":[0,8]"#, "overflows"),
    ] {
        let (place, reason) = refusal(&file_of(&format!("{{\"x\":{{{fields}}}}}"), 8));
        assert_eq!(place, named("x"), "{fields}");
        assert!(reason.contains(word), "{fields}: {reason}");
    }
}

#[test]
fn a_value_of_another_type_is_refused_with_its_offset() {
    for header in [
        r#"{"x":["F32",[2],[0,8]]}"#,
        r#"{"x":{"dtype":{"F32":null},"shape":[2],"data_offsets":[0,8]}}"#,
        r#"{"x":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}}"#,
        r#"{"x":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}"#,
        r#"{"x":{"dtype":"F32","shape":[18446744073709551616],"data_offsets":[0,8]}}"#,
        r#"{"x":{"dtype":"F32","shape":2,"data_offsets":[0,8]}}"#,
        r#"{"x":{"dtype":"F32","shape":[2],"data_offsets":[0]}}"#,
        r#"{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8,8]}}"#,
        r#"{"x":null}"#,
        r#"{"__metadata__":{"a":1}}"#,
        r#"{"__metadata__":[]}"#,
        r#"{"__metadata__":{}"#,
        "{} {}",
        "{}\0",
    ] {
        let (place, _) = refusal(&file_of(header, 8));
        assert!(matches!(place, Place::Offset(8..)), "{header}: {place:?}");
    }
    assert_eq!(refusal(&file_of("{}x", 0)).0, Place::Offset(10));
}

#[test]
fn data_is_covered_exactly() {
    let b = |start: u64, end: u64| {
        format!(r#""b":{{"dtype":"F32","shape":[2],"data_offsets":[{start},{end}]}}"#)
    };
    let of = |b: String, data| file_of(&format!("{{{b},{A}}}"), data);
    assert!(read(&stored(&of(b(8, 16), 16))).is_ok());
    assert_eq!(refusal(&of(b(9, 17), 17)).0, named("b"), "a gap");
    assert!(refusal(&of(b(9, 17), 17)).1.contains("gap"));
    assert!(refusal(&of(b(7, 15), 15)).1.contains("overlaps"));
    let end = of(b(8, 16), 16).len() as u64;
    let (place, reason) = refusal(&of(b(8, 16), 17));
    assert_eq!(place, Place::Offset(end));
    assert!(reason.contains("follow"), "{reason}");
    let (place, reason) = refusal(&of(b(8, 16), 15));
    assert_eq!(place, Place::Offset(end - 1));
    assert!(reason.contains("cut short"), "{reason}");
}

#[test]
fn every_length_but_the_right_one_is_refused() {
    let bytes = tensors(&[("a", "F32", &[3, 2]), ("b", "U8", &[5]), ("empty", "F16", &[0, 4])]);
    for length in 0..bytes.len() {
        assert!(read(&stored(&bytes[..length])).is_err(), "{length}");
    }
    assert!(read(&stored(&bytes)).is_ok());
    let longer = [bytes.as_slice(), &[0]].concat();
    assert!(read(&stored(&longer)).is_err());
}

#[test]
fn the_first_bytes_tell_the_format() {
    let bytes = tensors(&[("a", "F32", &[3, 2])]);
    assert!(looks_like(&bytes[..9]));
    assert!(!looks_like(&bytes[..8]));
    assert!(!looks_like(b"\x89EMB\r\n\x1a\n{"), "an .emb magic is over the cap");
    assert!(!looks_like(b"\x02\0\0\0\0\0\0\0["));
    assert!(!looks_like(b"\x01\0\0\0\0\0\0\0{"));
    assert!(!looks_like(b""));
}

#[test]
fn a_name_of_a_megabyte_stays_out_of_messages() {
    let name = "n".repeat(1_000_000);
    let header = format!("{{\"{name}\":{{\"dtype\":\"X\",\"shape\":[],\"data_offsets\":[0,1]}}}}");
    let error = read(&stored(&file_of(&header, 1))).unwrap_err();
    assert!(error.to_string().len() < 1000);
}

/// A header of about `length` bytes with as many tensors as fit, in reverse order.
fn crowded(length: usize) -> (String, usize) {
    let count = length / 64;
    let mut header = String::with_capacity(length + 100);
    header.push('{');
    for i in (0..count).rev() {
        write!(
            header,
            "\"{i:x}\":{{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[{i},{}]}},",
            i + 1
        )
        .unwrap();
    }
    header.pop();
    header.push('}');
    (header, count)
}

#[test]
fn the_memory_of_a_header_is_bounded_by_its_length() {
    // Shortest entries, the longest shape, names only, metadata only.
    let (crowded, _) = crowded(100_000);
    let shortest = r#""":{"dtype":"U8","shape":[],"data_offsets":[0,1]},"#;
    assert_eq!(shortest.len(), header::SHORTEST);
    let deep = format!(
        "{{\"x\":{{\"dtype\":\"U8\",\"shape\":[{}0],\"data_offsets\":[0,0]}}}}",
        "0,".repeat(31)
    );
    let named = format!(
        "{{\"{}\":{{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}}}",
        "n".repeat(100_000)
    );
    let metadata =
        format!("{{\"__metadata__\":{{\"{}\":\"\"}},{}", "m".repeat(100_000), &crowded[1..]);
    for text in [crowded.as_str(), &deep, &named, &metadata] {
        let entries = header::parse(text.as_bytes(), 8).unwrap();
        // While it is parsed: this text, and one entry for every 50 bytes of the header.
        assert!(entries.text.capacity() <= text.len());
        assert!(entries.list.capacity() <= text.len() / header::SHORTEST + 1);
        assert!(size_of::<Entry>() <= 32, "32 / 50 of the header");
        // After it: 16 bytes an entry to find names. With the header itself less than three times it.
    }
}

#[test]
fn a_shape_has_at_most_32_dimensions() {
    let shape = |dims: usize| {
        let dims = vec!["1"; dims].join(",");
        file_of(&format!(r#"{{"x":{{"dtype":"U8","shape":[{dims}],"data_offsets":[0,1]}}}}"#), 1)
    };
    assert!(read(&stored(&shape(32))).is_ok());
    let (place, reason) = refusal(&shape(33));
    assert_eq!(place, named("x"));
    assert!(reason.contains("more than the 32 dimensions"), "{reason}");
    let start = Instant::now();
    assert_eq!(refusal(&shape(10_000_000)).0, named("x"));
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[test]
fn metadata_has_at_most_100_000_keys() {
    let metadata = |keys: usize| {
        let keys: Vec<String> = (0..keys).map(|key| format!("\"{key:x}\":\"\"")).collect();
        file_of(&format!("{{\"__metadata__\":{{{}}}}}", keys.join(",")), 0)
    };
    assert!(read(&stored(&metadata(100_000))).is_ok());
    let (place, reason) = refusal(&metadata(100_001));
    assert_eq!(place, named("__metadata__"));
    assert!(reason.contains("more than the 100,000 keys"), "{reason}");
}

#[test]
fn a_crowded_header_is_read_in_little_time() {
    let (header, count) = crowded(4_000_000);
    let bytes = file_of(&header, count);
    let start = Instant::now();
    let read = read(&stored(&bytes)).unwrap();
    assert_eq!(read.tensors().count(), count);
    assert_eq!(read.find("ff").unwrap().offset, 8 + header.len() as u64 + 255);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
#[ignore = "takes 100 MB and wants a release build: run it after changes to the parser"]
fn the_largest_header_is_read_within_a_second() {
    let (header, count) = crowded(90_000_000);
    let bytes = file_of(&header, count);
    let file = stored(&bytes);
    let start = Instant::now();
    assert_eq!(read(&file).unwrap().tensors().count(), count);
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "{:?} for {} bytes",
        start.elapsed(),
        header.len()
    );
}

/// What the real crate accepts and this one refuses, by what the message says.
const STRICTER: [&str; 6] = [
    "this name, expected one",
    "there twice in one object",
    "is unknown, expected dtype, shape and data_offsets",
    "the header starts with",
    "expected an object with dtype, shape",
    "expected a string",
];

/// Compares with the real crate; true where both accept.
fn agree(bytes: &[u8]) -> bool {
    let ours = read(&stored(bytes));
    match (ours, SafeTensors::deserialize(bytes)) {
        (Err(_), Err(_)) => false,
        (Ok(ours), Ok(theirs)) => {
            assert_eq!(ours.tensors().count(), theirs.len());
            for tensor in ours.tensors() {
                let their = theirs.tensor(tensor.name).unwrap();
                let shape: Vec<u64> = their.shape().iter().map(|dim| *dim as u64).collect();
                assert_eq!(tensor.shape.dims().collect::<Vec<_>>(), shape);
                let known = TYPES.iter().find(|known| known.name == tensor.dtype).unwrap();
                assert_eq!(known.written, format!("{:?}", their.dtype()));
                let data = usize::try_from(tensor.offset).unwrap();
                let end = data + usize::try_from(tensor.bytes).unwrap();
                assert_eq!(&bytes[data..end], their.data());
                assert_eq!(bytes[data..].as_ptr(), their.data().as_ptr());
            }
            true
        }
        (Err(ours), Ok(_)) => {
            let text = ours.to_string();
            // The crate looks only at the last of several equal names, this one at each.
            let length = usize::try_from(LittleEndian::read_u64(bytes)).unwrap();
            let twice =
                json::check(&bytes[8..8 + length]).is_err_and(|fault| fault.reason == DUPLICATE);
            assert!(
                twice || STRICTER.iter().any(|reason| text.contains(reason)),
                "stricter than documented: {text}"
            );
            false
        }
        (Ok(_), Err(theirs)) => panic!("accepted what the crate refuses: {theirs}"),
    }
}

#[derive(Debug, Clone)]
enum Change {
    None,
    Byte { at: usize, to: u8 },
    Cut(usize),
    Grow(usize),
    Insert { at: usize, what: &'static str },
    Swap { at: usize },
}

fn change() -> impl Strategy<Value = Change> {
    let snippets = prop::sample::select(vec![
        " ",
        "\n",
        "0",
        "1",
        "9",
        "-",
        "\"",
        "\\",
        ",",
        "{",
        "}",
        "[",
        "]",
        "[]",
        "{}",
        "null",
        ".0",
        "e1",
        "\\u0061",
        "\u{e9}",
        "\"a\":1,",
        "\"__metadata__\":{},",
        "\"__metadata__\":{\"a\":\"b\"},",
        "\"x\":null,",
        "\"dtype\":\"F32\",",
    ]);
    prop_oneof![
        2 => Just(Change::None),
        3 => (any::<usize>(), any::<u8>()).prop_map(|(at, to)| Change::Byte { at, to }),
        2 => (any::<usize>(), 32u8..127).prop_map(|(at, to)| Change::Byte { at, to }),
        1 => any::<usize>().prop_map(Change::Cut),
        1 => (1usize..9).prop_map(Change::Grow),
        4 => (any::<usize>(), snippets).prop_map(|(at, what)| Change::Insert { at, what }),
        1 => any::<usize>().prop_map(|at| Change::Swap { at }),
    ]
}

fn changed(header: &str, data: usize, change: &Change) -> Vec<u8> {
    let mut bytes = file_of(header, data);
    match change {
        Change::None => {}
        Change::Byte { at, to } => {
            let at = at % bytes.len();
            bytes[at] = *to;
        }
        Change::Cut(to) => bytes.truncate(to % bytes.len()),
        Change::Grow(by) => bytes.resize(bytes.len() + by, 0),
        Change::Insert { at, what } => {
            let mut at = at % (header.len() + 1);
            while !header.is_char_boundary(at) {
                at -= 1;
            }
            bytes = file_of(&format!("{}{what}{}", &header[..at], &header[at..]), data);
        }
        Change::Swap { at } => {
            let at = 8 + at % header.len();
            if at + 1 < bytes.len() {
                bytes.swap(at, at + 1);
            }
        }
    }
    bytes
}

/// A header as a writer makes it, of tensors in any order, and the bytes of its data.
fn header() -> impl Strategy<Value = (String, usize)> {
    let name = prop_oneof!["[a-c]{0,2}", "[a-z.é\"\\\\\u{1f600}]{1,8}"];
    let tensor = (name, 0..TYPES.len(), prop::collection::vec(0u64..4, 0..4));
    (prop::collection::vec(tensor, 0..6), any::<u64>()).prop_map(|(list, order)| {
        let mut at = 0;
        let mut entries = Vec::new();
        for (name, dtype, shape) in list {
            let bits = shape.iter().product::<u64>() * TYPES[dtype].bits;
            let end = at + bits.div_ceil(8);
            let name = serde_json::Value::from(name);
            let dtype = TYPES[dtype].written;
            entries.push(format!(
                "{name}:{{\"dtype\":\"{dtype}\",\"shape\":{shape:?},\"data_offsets\":[{at},{end}]}}"
            ));
            at = end;
        }
        if !entries.is_empty() {
            let by = usize::try_from(order % entries.len() as u64).unwrap();
            entries.rotate_left(by);
        }
        (format!("{{{}}}", entries.join(",")), usize::try_from(at).unwrap())
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_real_crate_agrees((header, data) in header(), change in change()) {
        agree(&changed(&header, data, &change));
    }
}

#[test]
fn every_byte_changed_in_every_way_agrees_with_the_real_crate() {
    let header = r#"{"__metadata__":{"a":"b"},"b":{"dtype":"I8","shape":[2,1],"data_offsets":[0,2]},"c":{"dtype":"F4","shape":[2],"data_offsets":[2,3]}}"#;
    let mut accepted = 0;
    for at in 0..8 + header.len() {
        for to in 0..=u8::MAX {
            accepted += u32::from(agree(&changed(header, 3, &Change::Byte { at, to })));
        }
    }
    assert!(accepted > 400, "{accepted}");
}
