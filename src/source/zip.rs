//! The directory of a zip archive: which members it holds, and where their bytes lie.
//!
//! Read in order and in small pieces, so that a directory of any length costs constant memory;
//! the crate `zip` keeps all of it. Layout after PKWARE's APPNOTE 6.3, sections 4.3 and 4.5.
//! Encrypted members, and those packed by anything but deflate, are refused where they are
//! asked for.

use std::path::Path;

use byteorder::{ByteOrder, LittleEndian};

use super::json::shortened;
use super::kind::PICKLE;
use crate::error::{Error, Place, Result};
use crate::storage::StoredFile;

const FORMAT: &str = "zip";

/// A record's signature and fixed length.
const LOCAL: (u32, u64) = (0x0403_4b50, 30);
const CENTRAL: (u32, u64) = (0x0201_4b50, 46);
const END: (u32, u64) = (0x0605_4b50, 22);
const END_64: (u32, u64) = (0x0606_4b50, 56);
const LOCATOR_64: (u32, u64) = (0x0706_4b50, 20);

/// The longest comment, which follows the end record.
const MOST_COMMENT: u64 = 0xffff;

/// The bytes of the directory that are read at once; more than its longest entry.
const WINDOW: u64 = 256 << 10;

/// The most names that an error lists.
const MOST_LISTED: usize = 20;

/// True for the first bytes of a zip archive.
pub(super) fn looks_like(head: &[u8]) -> bool {
    head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06")
}

/// How the bytes of a member are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    /// They are not.
    Stored,
    Deflated,
    /// By another method, of this number.
    Other(u16),
    Encrypted,
}

/// A member of an archive, as the directory describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) packing: Packing,
    pub(crate) crc32: u32,
    /// The bytes in the archive.
    pub(crate) packed: u64,
    /// The bytes unpacked, as the directory says.
    pub(crate) bytes: u64,
    /// Where its local header starts.
    header: u64,
}

#[cfg(all(test, feature = "import"))]
impl Member {
    /// The first member of an archive.
    pub(super) fn of_test(
        name: &str,
        packing: Packing,
        crc32: u32,
        packed: u64,
        bytes: u64,
    ) -> Self {
        Member { name: name.to_owned(), packing, crc32, packed, bytes, header: 0 }
    }
}

/// Visits every member in the order of the directory.
pub(crate) fn visit(file: &StoredFile, visit: &mut dyn FnMut(Member) -> Result<()>) -> Result<()> {
    let directory = Directory::find(file)?;
    let mut at = directory.start;
    let mut window = Window { file, start: 0, bytes: Vec::new() };
    for _ in 0..directory.entries {
        let (member, bytes) = entry(&mut window, at, directory.end)?;
        at += bytes;
        visit(member)?;
    }
    if at == directory.end {
        return Ok(());
    }
    fault(file.path(), at, "the directory holds more than the members it counts".to_owned())
}

/// The member that is asked for, or the only one that `fits`.
pub(crate) fn choose(
    file: &StoredFile,
    asked: Option<&str>,
    what: &str,
    fits: impl Fn(&Member) -> bool,
) -> Result<Member> {
    let mut found: Option<Member> = None;
    let (mut count, mut names, mut pickle) = (0u64, Vec::new(), false);
    visit(file, &mut |member| {
        let is_it = match asked {
            Some(name) => member.name == name || member.name.strip_suffix(".npy") == Some(name),
            None => fits(&member),
        };
        // PyTorch puts it beside the numbers, in a folder of the model's name.
        pickle |= member.name.ends_with("/data.pkl");
        if names.len() < MOST_LISTED {
            names.push(shortened(&member.name).escape_debug().to_string());
        }
        if is_it {
            count += 1;
            found = Some(member);
        }
        Ok(())
    })?;
    match (found, count) {
        (Some(member), 1) => Ok(member),
        _ if pickle => Err(Error::NoTable {
            path: file.path().to_path_buf(),
            reason: format!("a model as PyTorch saves it, with a pickle in it; {PICKLE}"),
        }),
        (_, count) => {
            let reason = match asked {
                Some(name) => format!("{count} members of the archive are named {name:?}"),
                None => format!("{count} members of the archive are {what}, expected one"),
            };
            Err(Error::Tensor { path: file.path().to_path_buf(), reason, candidates: names })
        }
    }
}

/// Where the bytes of a member lie in the archive, packed or not.
pub(crate) fn place(file: &StoredFile, member: &Member) -> Result<u64> {
    let at = member.header;
    let name = shortened(&member.name);
    let refuse = |reason: &str| fault(file.path(), at, format!("member {name:?}: {reason}"));
    if at.checked_add(LOCAL.1).is_none_or(|end| end > file.bytes()) {
        return refuse("its header lies beyond the end of the file");
    }
    let head = file.bytes_at(at, LOCAL.1)?;
    if LittleEndian::read_u32(&head) != LOCAL.0 {
        return refuse("no header where the directory says");
    }
    let names = u64::from(LittleEndian::read_u16(&head[26..28]));
    let extra = u64::from(LittleEndian::read_u16(&head[28..30]));
    let data = at + LOCAL.1 + names + extra;
    let end = data.checked_add(member.packed);
    if end.is_none_or(|end| end > file.bytes()) {
        return refuse(&format!(
            "it takes {} bytes in the archive, which ends before: cut short",
            member.packed
        ));
    }
    if *file.bytes_at(at + LOCAL.1, names)? != *member.name.as_bytes() {
        return refuse("its header has another name than the directory");
    }
    if member.packing == Packing::Stored && member.packed != member.bytes {
        return refuse(&format!(
            "it is stored in {} bytes, and {} are declared",
            member.packed, member.bytes
        ));
    }
    Ok(data)
}

/// Where the directory lies.
struct Directory {
    start: u64,
    end: u64,
    entries: u64,
}

impl Directory {
    fn find(file: &StoredFile) -> Result<Self> {
        let length = file.bytes();
        let tail_at = length.saturating_sub(END.1 + MOST_COMMENT);
        let tail = file.bytes_at(tail_at, length - tail_at)?;
        let is_end = |at: &usize| {
            let record = &tail[*at..];
            record.len() as u64 >= END.1
                && LittleEndian::read_u32(record) == END.0
                && u64::from(LittleEndian::read_u16(&record[20..22])) + END.1 == record.len() as u64
        };
        let Some(at) = (0..tail.len()).rev().find(is_end) else {
            let reason = "the end of the directory is missing: cut short, copy it again";
            return fault(file.path(), length, reason.to_owned());
        };
        let (record, at) = (&tail[at..], tail_at + at as u64);
        let mut directory = Directory {
            entries: LittleEndian::read_u16(&record[10..12]).into(),
            start: LittleEndian::read_u32(&record[16..20]).into(),
            end: at,
        };
        let mut bytes = u64::from(LittleEndian::read_u32(&record[12..16]));
        if let Some(end_64) = end_64(file, at)? {
            let record = file.bytes_at(end_64, END_64.1)?;
            directory = Directory {
                entries: LittleEndian::read_u64(&record[32..40]),
                start: LittleEndian::read_u64(&record[48..56]),
                end: end_64,
            };
            bytes = LittleEndian::read_u64(&record[40..48]);
        }
        if directory.start.checked_add(bytes) != Some(directory.end) {
            let reason = format!(
                "the directory starts at byte {} and takes {bytes} bytes, expected it to end at {}",
                directory.start, directory.end
            );
            return fault(file.path(), at, reason);
        }
        Ok(directory)
    }
}

/// Where the end record with 64-bit numbers lies, if there is one.
fn end_64(file: &StoredFile, end: u64) -> Result<Option<u64>> {
    let Some(at) = end.checked_sub(LOCATOR_64.1) else { return Ok(None) };
    let locator = file.bytes_at(at, LOCATOR_64.1)?;
    if LittleEndian::read_u32(&locator) != LOCATOR_64.0 {
        return Ok(None);
    }
    let record = LittleEndian::read_u64(&locator[8..16]);
    let fits = record.checked_add(END_64.1).is_some_and(|end| end <= at);
    if !fits || LittleEndian::read_u32(&file.bytes_at(record, 4)?) != END_64.0 {
        let reason = format!("no end record at byte {record}, where its locator says");
        return fault(file.path(), at, reason);
    }
    Ok(Some(record))
}

/// A part of the file in memory, which moves on.
struct Window<'a> {
    file: &'a StoredFile,
    start: u64,
    bytes: Vec<u8>,
}

impl Window<'_> {
    /// Bytes before `end`, which is within the file; `None` where they reach over it.
    fn get(&mut self, at: u64, length: u64, end: u64) -> Result<Option<&[u8]>> {
        if at.checked_add(length).is_none_or(|to| to > end) {
            return Ok(None);
        }
        if at < self.start || at + length > self.start + self.bytes.len() as u64 {
            let bytes = (end - at).min(WINDOW.max(length));
            self.bytes = self.file.bytes_at(at, bytes)?.into_owned();
            self.start = at;
        }
        let from = usize::try_from(at - self.start).unwrap_or(usize::MAX);
        Ok(self.bytes.get(from..from + usize::try_from(length).unwrap_or(usize::MAX)))
    }
}

/// The entry of the directory at a place, and its length.
fn entry(window: &mut Window<'_>, at: u64, end: u64) -> Result<(Member, u64)> {
    let path = window.file.path().to_path_buf();
    let cut = || fault(&path, at, "the directory ends within an entry".to_owned());
    let Some(fixed) = window.get(at, CENTRAL.1, end)? else { return cut() };
    if LittleEndian::read_u32(fixed) != CENTRAL.0 {
        return fault(&path, at, "no entry of the directory here".to_owned());
    }
    let u16_at = |at: usize| LittleEndian::read_u16(&fixed[at..at + 2]);
    let u32_at = |at: usize| u64::from(LittleEndian::read_u32(&fixed[at..at + 4]));
    let (flags, method) = (u16_at(8), u16_at(10));
    let packing = match (flags & 1, method) {
        (1, _) => Packing::Encrypted,
        (_, 0) => Packing::Stored,
        (_, 8) => Packing::Deflated,
        (_, other) => Packing::Other(other),
    };
    let mut member = Member {
        name: String::new(),
        packing,
        crc32: LittleEndian::read_u32(&fixed[16..20]),
        packed: u32_at(20),
        bytes: u32_at(24),
        header: u32_at(42),
    };
    let [names, extra, comment] = [28, 30, 32].map(|at| u64::from(u16_at(at)));
    let length = CENTRAL.1 + names + extra + comment;
    let Some(all) = window.get(at, length, end)? else { return cut() };
    let [names, extra] = [names, extra].map(|length| usize::try_from(length).unwrap_or(usize::MAX));
    let rest = &all[usize::try_from(CENTRAL.1).unwrap_or(usize::MAX)..];
    let Ok(name) = std::str::from_utf8(&rest[..names]) else {
        return fault(&path, at, "the name of a member is not UTF-8".to_owned());
    };
    name.clone_into(&mut member.name);
    if wide_sizes(&mut member, &rest[names..names + extra]).is_none() {
        return fault(&path, at, "an entry lacks the 64-bit sizes that it announces".to_owned());
    }
    Ok((member, length))
}

/// Takes the sizes that do not fit in 32 bits from the extra field of kind 1.
fn wide_sizes(member: &mut Member, mut extra: &[u8]) -> Option<()> {
    const WIDE: u64 = 0xffff_ffff;
    let announced = [&mut member.bytes, &mut member.packed, &mut member.header];
    let announced = announced.into_iter().filter(|size| **size == WIDE);
    let mut field: &[u8] = &[];
    while let Some((head, rest)) = extra.split_at_checked(4) {
        let length = usize::from(LittleEndian::read_u16(&head[2..4]));
        let (body, rest) = rest.split_at_checked(length)?;
        if LittleEndian::read_u16(head) == 1 {
            field = body;
        }
        extra = rest;
    }
    for size in announced {
        let (word, rest) = field.split_at_checked(8)?;
        *size = LittleEndian::read_u64(word);
        field = rest;
    }
    Some(())
}

pub(super) fn fault<T>(path: &Path, at: u64, reason: String) -> Result<T> {
    Err(Error::Foreign {
        path: path.to_path_buf(),
        format: FORMAT,
        place: Place::Offset(at),
        reason,
    })
}
