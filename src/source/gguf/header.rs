//! The head of a GGUF file: which tensors it holds, and where.
//!
//! Magic, version, counts; then metadata, of which a few values matter and the rest is passed
//! over without being kept; then the tensors' names, shapes, types and places. A file may be
//! hundreds of gigabytes long and its metadata hold a vocabulary of a million tokens: the
//! head is read through a small window, and nothing in it is believed before it is checked
//! against the bytes that are there.

use std::fmt::Write;

use super::super::json::{Fault, Keys, shortened};
use super::super::tensors::{Entries, Entry, TensorList};
use super::cursor::Cursor;
use super::tokens::TokenText;
use super::types;
use crate::error::{Place, Result};
use crate::storage::StoredFile;

/// The format's name in errors and in `info`.
pub(in super::super) const FORMAT: &str = "gguf";

const MAGIC: [u8; 4] = *b"GGUF";

/// The alignment of tensors where the metadata says nothing.
const ALIGNMENT: u64 = 32;

/// The largest alignment that is believed.
const MOST_ALIGNMENT: u64 = 1 << 20;

/// The most keys of the metadata; real files have dozens. Each is remembered, to tell one
/// that is there twice.
const MOST_KEYS: u64 = 100_000;

/// The most tensors; real files have thousands.
const MOST_TENSORS: u64 = 1_000_000;

/// The longest name of a key or a tensor.
const MOST_NAME: u64 = 65_535;

/// The most dimensions of a tensor, as ggml has it.
const MOST_DIMS: u32 = 4;

/// The deepest that arrays may lie in arrays.
const MOST_DEPTH: u32 = 4;

/// The fewest bytes of a key with its value, and of a tensor.
const SHORTEST_KEY: u64 = 8 + 4 + 1;
const SHORTEST_TENSOR: u64 = 8 + 4 + 4 + 8;

/// The numbers of the value types that need a word.
const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// The key of the vocabulary.
const TOKENS: &str = "tokenizer.ggml.tokens";

/// True where the first bytes of a file are those of a GGUF file.
pub(in super::super) fn looks_like(head: &[u8]) -> bool {
    head.starts_with(&MAGIC)
}

/// What the head of a file says.
pub(in super::super) struct Head {
    pub(in super::super) tensors: TensorList,
    pub(in super::super) has_tokens: bool,
    pub(super) split: Split,
}

/// Which part of a model a file is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Split {
    /// The number of the part, from 0 on.
    pub(super) number: u64,
    /// The number of parts; 0 where the file says nothing.
    pub(super) parts: u64,
    /// The tensors of all parts.
    pub(super) tensors: Option<u64>,
}

/// Reads the head of a file and checks it against the file's length.
pub(in super::super) fn read(file: &StoredFile) -> Result<Head> {
    read_with(file, None)
}

/// Reads the head; the tokens are kept where somebody wants them.
pub(super) fn read_with(file: &StoredFile, tokens: Option<&mut TokenText>) -> Result<Head> {
    let mut cursor = Cursor::new(file);
    if cursor.take()? != MAGIC {
        return cursor.refuse("expected the bytes GGUF first".to_owned());
    }
    let version = cursor.u32()?;
    if version.trailing_zeros() >= 16 && version != 0 {
        return cursor.refuse(
            "its numbers are big-endian, and only little-endian files are read; convert it with gguf_convert_endian.py".to_owned(),
        );
    }
    if !matches!(version, 2 | 3) {
        return cursor.refuse(format!(
            "its version is {version}, expected 2 or 3; convert the model again with a newer program"
        ));
    }
    let tensors = cursor.u64()?;
    let keys = cursor.u64()?;
    check_count(&cursor, "tensors", tensors, MOST_TENSORS, SHORTEST_TENSOR)?;
    check_count(&cursor, "keys", keys, MOST_KEYS, SHORTEST_KEY)?;
    let metadata = Metadata::read(&mut cursor, keys, tokens)?;
    let alignment = metadata.alignment;
    let entries = read_tensors(&mut cursor, tensors)?;
    let data = cursor.position().next_multiple_of(alignment);
    let tensors = TensorList::index(entries, data, types::name_of).and_then(|list| {
        check_places(&list, alignment, file.bytes())?;
        Ok(list)
    });
    let tensors = tensors.map_err(|fault| fault.in_file(file.path(), FORMAT))?;
    Ok(Head { tensors, has_tokens: metadata.has_tokens, split: metadata.split })
}

/// Refuses a count that the bytes that are left cannot hold.
fn check_count(
    cursor: &Cursor<'_>,
    what: &str,
    count: u64,
    most: u64,
    shortest: u64,
) -> Result<()> {
    let most = most.min(cursor.left() / shortest);
    if count <= most {
        return Ok(());
    }
    cursor.refuse(format!(
        "it declares {count} {what}, expected at most {most} in a file of this length: it is damaged"
    ))
}

/// What the metadata says that matters.
struct Metadata {
    alignment: u64,
    has_tokens: bool,
    split: Split,
}

impl Metadata {
    fn read(
        cursor: &mut Cursor<'_>,
        count: u64,
        mut tokens: Option<&mut TokenText>,
    ) -> Result<Self> {
        let mut metadata =
            Metadata { alignment: ALIGNMENT, has_tokens: false, split: Split::default() };
        let mut keys = Keys::default();
        let mut object = keys.open();
        for _ in 0..count {
            let name = name(cursor, "key")?;
            if !keys.insert(&mut object, &name) {
                return cursor.refuse(format!(
                    "the key {:?} is there twice, expected once: write the file again",
                    shortened(&name)
                ));
            }
            let kind = cursor.u32()?;
            match name.as_str() {
                "general.alignment" => metadata.alignment = alignment(cursor, kind)?,
                "split.no" => metadata.split.number = whole(cursor, &name, kind)?,
                "split.count" => metadata.split.parts = whole(cursor, &name, kind)?,
                "split.tensors.count" => {
                    metadata.split.tensors = Some(whole(cursor, &name, kind)?);
                }
                TOKENS => {
                    metadata.has_tokens = true;
                    read_tokens(cursor, kind, tokens.as_deref_mut())?;
                }
                _ => skip_value(cursor, kind, 0)?,
            }
        }
        Ok(metadata)
    }
}

/// The next string, a name.
fn name(cursor: &mut Cursor<'_>, what: &str) -> Result<String> {
    let length = cursor.u64()?;
    if length > MOST_NAME {
        return cursor.refuse(format!(
            "the name of a {what} has {length} bytes, expected at most {MOST_NAME}: the file is damaged"
        ));
    }
    let mut bytes = Vec::new();
    cursor.append(length, &mut bytes)?;
    match String::from_utf8(bytes) {
        Ok(name) => Ok(name),
        Err(error) => cursor.refuse(format!("the name of a {what} is not UTF-8: {error}")),
    }
}

/// The next value, a whole number of any width.
fn whole(cursor: &mut Cursor<'_>, key: &str, kind: u32) -> Result<u64> {
    let number = match kind {
        0 => u64::from(cursor.take::<1>()?[0]),
        1 => u64::try_from(i8::from_le_bytes(cursor.take()?)).unwrap_or(u64::MAX),
        2 => u64::from(u16::from_le_bytes(cursor.take()?)),
        3 => u64::try_from(i16::from_le_bytes(cursor.take()?)).unwrap_or(u64::MAX),
        4 => u64::from(cursor.u32()?),
        5 => u64::try_from(i32::from_le_bytes(cursor.take()?)).unwrap_or(u64::MAX),
        10 => cursor.u64()?,
        11 => u64::try_from(i64::from_le_bytes(cursor.take()?)).unwrap_or(u64::MAX),
        _ => {
            return cursor.refuse(format!("{key} is a value of type {kind}, expected a number"));
        }
    };
    Ok(number)
}

fn alignment(cursor: &mut Cursor<'_>, kind: u32) -> Result<u64> {
    let alignment = whole(cursor, "general.alignment", kind)?;
    if alignment.is_power_of_two() && alignment <= MOST_ALIGNMENT {
        return Ok(alignment);
    }
    cursor.refuse(format!(
        "general.alignment is {alignment}, expected a power of two of at most {MOST_ALIGNMENT}"
    ))
}

/// The bytes of a value of a type with a constant size.
fn size_of_kind(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

fn skip_value(cursor: &mut Cursor<'_>, kind: u32, depth: u32) -> Result<()> {
    match (kind, size_of_kind(kind)) {
        (_, Some(bytes)) => cursor.skip(bytes),
        (STRING, _) => {
            let bytes = cursor.u64()?;
            cursor.skip(bytes)
        }
        (ARRAY, _) if depth < MOST_DEPTH => {
            let (kind, count) = (cursor.u32()?, cursor.u64()?);
            if let Some(bytes) = size_of_kind(kind) {
                return cursor.skip(count.saturating_mul(bytes));
            }
            // Each of the others takes bytes, so that the file's end ends this too.
            cursor.expect(count.saturating_mul(8))?;
            (0..count).try_for_each(|_| skip_value(cursor, kind, depth + 1))
        }
        (ARRAY, _) => cursor
            .refuse(format!("arrays lie deeper in arrays than the {MOST_DEPTH} levels that are read")),
        _ => cursor.refuse(format!(
            "a value has the type {kind}, expected one of 0 to 12: the file is damaged, or newer than this program"
        )),
    }
}

/// The vocabulary, kept or passed over.
fn read_tokens(cursor: &mut Cursor<'_>, kind: u32, tokens: Option<&mut TokenText>) -> Result<()> {
    if kind != ARRAY {
        return cursor.refuse(format!("{TOKENS} is a value of type {kind}, expected an array"));
    }
    let (kind, count) = (cursor.u32()?, cursor.u64()?);
    if kind != STRING {
        return cursor
            .refuse(format!("{TOKENS} is an array of values of type {kind}, expected strings"));
    }
    cursor.expect(count.saturating_mul(8))?;
    let Some(tokens) = tokens else {
        return (0..count).try_for_each(|_| skip_value(cursor, STRING, 0));
    };
    (0..count).try_for_each(|_| tokens.push(cursor))
}

/// The names, shapes, types and places of all tensors.
fn read_tensors(cursor: &mut Cursor<'_>, count: u64) -> Result<Entries> {
    let mut entries = Entries::default();
    entries.list.reserve_exact(usize::try_from(count).unwrap_or(0));
    for _ in 0..count {
        let name = name(cursor, "tensor")?;
        let entry = read_tensor(cursor, &name, &mut entries.text)?;
        entries.list.push(entry);
    }
    entries.text.shrink_to_fit();
    Ok(entries)
}

/// One tensor, whose name and shape go to the text.
fn read_tensor(cursor: &mut Cursor<'_>, name: &str, text: &mut String) -> Result<Entry> {
    let refuse = |cursor: &Cursor<'_>, reason: String| {
        cursor.refuse(format!("the tensor {:?} {reason}", shortened(name)))
    };
    let count = cursor.u32()?;
    if count > MOST_DIMS {
        return refuse(cursor, format!("has {count} dimensions, expected at most {MOST_DIMS}"));
    }
    let mut dims = [1u64; MOST_DIMS as usize];
    for dim in dims.iter_mut().take(count as usize) {
        *dim = cursor.u64()?;
    }
    let (dtype, kind) = types::type_of(cursor.u32()?);
    let start = cursor.u64()?;
    let elements = dims.iter().try_fold(1u64, |product, dim| product.checked_mul(*dim));
    let end = elements
        .and_then(|elements| (elements / kind.block.max(1)).checked_mul(kind.bytes))
        .and_then(|bytes| start.checked_add(bytes));
    let Some(end) = end else {
        return refuse(cursor, "is larger than 64 bits can say".to_owned());
    };
    if kind.block > 1 && !dims[0].is_multiple_of(kind.block) {
        return refuse(
            cursor,
            format!(
                "has rows of {} elements, expected a multiple of the {} of a {} block",
                dims[0], kind.block, kind.name
            ),
        );
    }
    let at = text.len();
    text.push_str(name);
    let shape = text.len();
    // The format has the innermost dimension first.
    for (i, dim) in dims[..count as usize].iter().rev().enumerate() {
        let comma = if i == 0 { "" } else { "," };
        let _ = write!(text, "{comma}{dim}");
    }
    let fits = (u32::try_from(at), u32::try_from(shape - at), u32::try_from(text.len() - shape));
    let (Ok(at), Ok(name), Ok(shape)) = fits else {
        return cursor.refuse("the names of the tensors are too long".to_owned());
    };
    Ok(Entry { start, end, at, name, shape, dtype })
}

/// Refuses tensors that are not aligned, overlap, or end behind the file.
fn check_places(list: &TensorList, alignment: u64, bytes: u64) -> Result<(), Fault> {
    let mut taken = 0;
    for (entry, name) in list.entries() {
        let refuse = |reason| Err(Fault { place: Place::Name(shortened(name)), reason });
        if entry.start % alignment != 0 {
            return refuse(format!(
                "its data starts {} bytes behind the head, expected a multiple of the alignment, {alignment}: write the file again",
                entry.start
            ));
        }
        if entry.start < taken {
            return refuse(format!(
                "its data starts {} bytes behind the head, where another tensor's ends at {taken}: write the file again",
                entry.start
            ));
        }
        if list.data().checked_add(entry.end).is_none_or(|end| end > bytes) {
            return refuse(format!(
                "its data ends {} bytes behind the head, the file has {} there: it was cut short, copy it again",
                entry.end,
                bytes.saturating_sub(list.data())
            ));
        }
        taken = entry.end;
    }
    Ok(())
}
