//! The safetensors header: which tensors a file holds, and where.
//!
//! The crate `safetensors` keeps the last of two tensors with one name and builds a map of
//! strings and vectors from the header. Here a header is read in one pass into one string
//! and one vector of fixed-size entries, so that a hostile one costs less than four times
//! its own length, and everything is checked before it is believed.
//!
//! Stricter than that crate: a name, or a key of `__metadata__`, may be there only once; a
//! tensor is an object with exactly `dtype`, `shape` and `data_offsets`, and its dtype a
//! string (the crate ignores further keys and takes a list, or `{"F32": null}`); the header
//! starts with `{`, as the format's specification asks (the crate skips white space).

use byteorder::{ByteOrder, LittleEndian};

use super::header;
use super::json::{self, shortened};
use super::tensors::TensorList;
use crate::error::{Place, Result};
use crate::storage::StoredFile;

/// The format's name in errors and in `info`.
pub(super) const FORMAT: &str = "safetensors";

/// The format's own cap on its header.
const MOST_HEADER: u64 = 100_000_000;

/// The bytes before the header: its length.
const PREFIX: u64 = 8;

/// True where the first nine bytes of a file are those of a safetensors file.
pub(super) fn looks_like(head: &[u8]) -> bool {
    head.len() > 8 && head[8] == b'{' && (2..=MOST_HEADER).contains(&LittleEndian::read_u64(head))
}

/// An element type of the format: its name there, in embmap, and its size in bits.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct StoredType {
    pub(super) written: &'static str,
    pub(super) name: &'static str,
    pub(super) bits: u64,
}

/// Every element type of the format.
pub(super) static TYPES: [StoredType; 22] = [
    stored("F32", "f32", 32),
    stored("F16", "f16", 16),
    stored("BF16", "bf16", 16),
    stored("F64", "f64", 64),
    stored("F8_E4M3", "f8_e4m3", 8),
    stored("F8_E5M2", "f8_e5m2", 8),
    stored("F8_E8M0", "f8_e8m0", 8),
    stored("F8_E4M3FNUZ", "f8_e4m3fnuz", 8),
    stored("F8_E5M2FNUZ", "f8_e5m2fnuz", 8),
    stored("F6_E2M3", "f6_e2m3", 6),
    stored("F6_E3M2", "f6_e3m2", 6),
    stored("F4", "f4", 4),
    stored("BOOL", "bool", 8),
    stored("U8", "u8", 8),
    stored("I8", "i8", 8),
    stored("U16", "u16", 16),
    stored("I16", "i16", 16),
    stored("U32", "u32", 32),
    stored("I32", "i32", 32),
    stored("U64", "u64", 64),
    stored("I64", "i64", 64),
    stored("C64", "c64", 64),
];

const fn stored(written: &'static str, name: &'static str, bits: u64) -> StoredType {
    StoredType { written, name, bits }
}

/// embmap's name of an element type, by its place in [`TYPES`].
fn dtype_name(number: u8) -> &'static str {
    TYPES.get(usize::from(number)).map_or("unknown", |known| known.name)
}

/// Reads the header of a file and checks it against the file's length.
pub(super) fn read(file: &StoredFile) -> Result<TensorList> {
    let refuse = |place, reason| Err(json::Fault { place, reason }.in_file(file.path(), FORMAT));
    let bytes = file.bytes();
    if bytes < PREFIX {
        let reason = format!(
            "expected {PREFIX} bytes of header length first, the file has {bytes} in all: copy it again"
        );
        return refuse(Place::Offset(0), reason);
    }
    let mut prefix = [0; 8];
    file.read_at(0, &mut prefix)?;
    let length = LittleEndian::read_u64(&prefix);
    if length > MOST_HEADER {
        let reason = format!(
            "the header is {length} bytes long, expected at most {MOST_HEADER}: not a safetensors file, or a damaged one"
        );
        return refuse(Place::Offset(0), reason);
    }
    let data = PREFIX + length;
    if data > bytes {
        let reason = format!(
            "the header ends at byte {data}, the file has {bytes}: it was cut short, copy it again"
        );
        return refuse(Place::Offset(bytes), reason);
    }
    let text = file.bytes_at(PREFIX, length)?;
    if text.first() != Some(&b'{') {
        let found =
            text.first().map_or_else(|| "nothing".to_owned(), |byte| format!("byte {byte:#04x}"));
        return refuse(
            Place::Offset(PREFIX),
            format!("the header starts with {found}, expected {{"),
        );
    }
    let entries =
        header::parse(&text, PREFIX).map_err(|fault| fault.in_file(file.path(), FORMAT))?;
    drop(text);
    let header = TensorList::index(entries, data, dtype_name).and_then(|header| {
        check_coverage(&header, bytes)?;
        Ok(header)
    });
    header.map_err(|fault| fault.in_file(file.path(), FORMAT))
}

/// Refuses gaps and overlaps between tensors, and a file that does not end with the last.
fn check_coverage(header: &TensorList, bytes: u64) -> Result<(), json::Fault> {
    let mut next = 0;
    for (entry, name) in header.entries() {
        if entry.start != next {
            let what = if entry.start < next {
                "overlaps what lies before it"
            } else {
                "leaves a gap before it"
            };
            let reason = format!(
                "its data_offsets start at {}, expected {next}: it {what}, write the file again",
                entry.start
            );
            return Err(json::Fault { place: Place::Name(shortened(name)), reason });
        }
        next = entry.end;
    }
    let found = bytes - header.data();
    if next == found {
        return Ok(());
    }
    let why = if found < next { "it was cut short" } else { "bytes follow the last tensor" };
    let reason = format!(
        "the tensors take {next} bytes after the header, the file has {found}: {why}, copy it again"
    );
    Err(json::Fault { place: Place::Offset(header.data().saturating_add(next.min(found))), reason })
}
