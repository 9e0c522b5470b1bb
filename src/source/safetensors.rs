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

use std::fmt::{self, Write};
use std::hash::{BuildHasher, RandomState};

use byteorder::{ByteOrder, LittleEndian};

use super::header;
use super::json::{self, shortened};
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

/// One tensor in compact form: its name and shape lie in the header's string.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    /// Where the data starts and ends, from the end of the header.
    pub(super) start: u64,
    pub(super) end: u64,
    /// Where the name starts in the string; the shape follows it, as `30522,384`.
    pub(super) at: u32,
    pub(super) name: u32,
    pub(super) shape: u32,
    /// The index in [`TYPES`].
    pub(super) dtype: u8,
}

/// The names and shapes of all tensors, and where each lies.
#[derive(Debug, Default)]
pub(super) struct Entries {
    pub(super) text: String,
    pub(super) list: Vec<Entry>,
}

impl Entries {
    pub(super) fn name(&self, entry: &Entry) -> &str {
        let at = entry.at as usize;
        self.text.get(at..at + entry.name as usize).unwrap_or_default()
    }

    fn shape(&self, entry: &Entry) -> Shape<'_> {
        let at = entry.at as usize + entry.name as usize;
        Shape(self.text.get(at..at + entry.shape as usize).unwrap_or_default())
    }
}

/// A tensor's shape, as the header writes it without white space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape<'a>(pub(super) &'a str);

impl<'a> Shape<'a> {
    /// The dimensions, outermost first.
    pub(super) fn dims(self) -> impl Iterator<Item = u64> + 'a {
        self.0.split(',').filter_map(|dim| dim.parse().ok())
    }

    /// Rows and columns, where there are two dimensions.
    pub(super) fn matrix(self) -> Option<(u64, u64)> {
        let mut dims = self.dims();
        match (dims.next(), dims.next(), dims.next()) {
            (Some(rows), Some(columns), None) => Some((rows, columns)),
            _ => None,
        }
    }
}

impl fmt::Display for Shape<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST: usize = 8;
        f.write_char('[')?;
        for (i, dim) in self.dims().take(MOST + 1).enumerate() {
            match i {
                0 => write!(f, "{dim}")?,
                MOST => f.write_str(", ...")?,
                _ => write!(f, ", {dim}")?,
            }
        }
        f.write_char(']')
    }
}

/// A tensor of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tensor<'a> {
    pub(super) name: &'a str,
    pub(super) dtype: &'static StoredType,
    pub(super) shape: Shape<'a>,
    /// Where its data starts in the file.
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

impl fmt::Display for Tensor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Escaped, because the name comes from the file.
        write!(f, "{} {} {}", shortened(self.name).escape_debug(), self.shape, self.dtype.name)
    }
}

/// A header that was read and checked whole.
#[derive(Debug)]
pub(super) struct Header {
    entries: Entries,
    /// Hash of each name and the place of its entry, by hash.
    by_name: Vec<(u64, u32)>,
    hasher: RandomState,
    data: u64,
}

impl Header {
    /// Reads the header of a file and checks it against the file's length.
    pub(super) fn read(file: &StoredFile) -> Result<Self> {
        let refuse =
            |place, reason| Err(json::Fault { place, reason }.in_file(file.path(), FORMAT));
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
            let found = text
                .first()
                .map_or_else(|| "nothing".to_owned(), |byte| format!("byte {byte:#04x}"));
            return refuse(
                Place::Offset(PREFIX),
                format!("the header starts with {found}, expected {{"),
            );
        }
        let entries =
            header::parse(&text, PREFIX).map_err(|fault| fault.in_file(file.path(), FORMAT))?;
        drop(text);
        let header = Header::index(entries, data).and_then(|header| {
            header.check_coverage(bytes)?;
            Ok(header)
        });
        header.map_err(|fault| fault.in_file(file.path(), FORMAT))
    }

    /// All tensors, in the order of their data.
    pub(super) fn tensors(&self) -> impl Iterator<Item = Tensor<'_>> + Clone {
        self.entries.list.iter().map(|entry| self.tensor(entry))
    }

    /// The tensor of a name.
    pub(super) fn find(&self, name: &str) -> Option<Tensor<'_>> {
        let hash = self.hasher.hash_one(name);
        let first = self.by_name.partition_point(|(other, _)| *other < hash);
        self.by_name[first..]
            .iter()
            .take_while(|(other, _)| *other == hash)
            .map(|(_, place)| &self.entries.list[*place as usize])
            .find(|entry| self.entries.name(entry) == name)
            .map(|entry| self.tensor(entry))
    }

    fn tensor(&self, entry: &Entry) -> Tensor<'_> {
        Tensor {
            name: self.entries.name(entry),
            dtype: &TYPES[usize::from(entry.dtype)],
            shape: self.entries.shape(entry),
            offset: self.data + entry.start,
            bytes: entry.end - entry.start,
        }
    }

    /// Sorts the tensors by place and by name, and refuses two of one name.
    ///
    /// Hashes are sorted, and not put in a map, to stay within the bound on memory; they
    /// are seeded, so no file can be made to collide.
    fn index(mut entries: Entries, data: u64) -> Result<Self, json::Fault> {
        entries.list.sort_unstable_by_key(|entry| (entry.start, entry.end));
        let hasher = RandomState::new();
        let mut by_name = Vec::new();
        by_name.reserve_exact(entries.list.len());
        by_name.extend(
            (0u32..).zip(&entries.list).map(|(i, entry)| (hasher.hash_one(entries.name(entry)), i)),
        );
        let name = |place: u32| entries.name(&entries.list[place as usize]);
        by_name.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| name(a.1).cmp(name(b.1))));
        if let Some(twins) =
            by_name.windows(2).find(|two| two[0].0 == two[1].0 && name(two[0].1) == name(two[1].1))
        {
            let place = Place::Name(shortened(name(twins[0].1)));
            let reason =
                "two tensors have this name, expected one: write the file again".to_owned();
            return Err(json::Fault { place, reason });
        }
        Ok(Header { entries, by_name, hasher, data })
    }

    /// Refuses gaps and overlaps between tensors, and a file that does not end with the last.
    fn check_coverage(&self, bytes: u64) -> Result<(), json::Fault> {
        let mut next = 0;
        for entry in &self.entries.list {
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
                return Err(json::Fault {
                    place: Place::Name(shortened(self.entries.name(entry))),
                    reason,
                });
            }
            next = entry.end;
        }
        let found = bytes - self.data;
        if next == found {
            return Ok(());
        }
        let why = if found < next { "it was cut short" } else { "bytes follow the last tensor" };
        let reason = format!(
            "the tensors take {next} bytes after the header, the file has {found}: {why}, copy it again"
        );
        Err(json::Fault { place: Place::Offset(self.data.saturating_add(next.min(found))), reason })
    }
}
