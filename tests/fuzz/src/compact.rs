//! `.emb` files in a compact form, so that what is changed in it matters.
//!
//! A byte of flags, the first bytes of the header page, then all from the rows on. The gap
//! between, 60 KiB of zeros, and the sums that no change would ever get right are made here.

use byteorder::{ByteOrder, LittleEndian};
use embmap::format::{FIELDS, Field, HEADER_BYTES, ROWS_OFFSET, TRAILER_BYTES};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// The bytes of the header page that a compact file holds: all fields, eight sections.
pub(crate) const HEAD: usize = 512;

const SEAL_HEADER: u8 = 1;
const SET_LENGTHS: u8 = 2;
const SEAL_SECTIONS: u8 = 4;
/// All of it, as a file that is made to be believed would have.
pub(crate) const ALL: u8 = SEAL_HEADER | SET_LENGTHS | SEAL_SECTIONS;

/// The kind of the section of block sums.
const BLOCK_SUMS: u32 = 9;

/// The compact form of a file.
pub(crate) fn of(file: &[u8], flags: u8) -> Vec<u8> {
    [&[flags][..], &file[..HEAD], &file[place(ROWS_OFFSET)..]].concat()
}

/// The file of a compact form; `None` where it is shorter than a header.
pub(crate) fn expand(input: &[u8]) -> Option<Vec<u8>> {
    let (&flags, rest) = input.split_first()?;
    let (head, body) = rest.split_at_checked(HEAD)?;
    let mut file = vec![0; place(ROWS_OFFSET)];
    file[..HEAD].copy_from_slice(head);
    file.extend_from_slice(body);
    if flags & SET_LENGTHS != 0 {
        set_lengths(&mut file);
    }
    if flags & SEAL_SECTIONS != 0 {
        seal_sections(&mut file);
    }
    if flags & SEAL_HEADER != 0 {
        seal_header(&mut file);
    }
    Some(file)
}

/// Makes the header's sum right.
pub(crate) fn seal_header(file: &mut [u8]) {
    let sum = field("header_sum").range();
    file[sum.clone()].fill(0);
    let sealed = xxh3_64(&file[..HEADER_BYTES]);
    file[sum].copy_from_slice(&sealed.to_le_bytes());
}

/// Tells the file's length in the header and the trailer, with the header's file id.
fn set_lengths(file: &mut [u8]) {
    let bytes = file.len() as u64;
    LittleEndian::write_u64(&mut file[field("file_bytes").range()], bytes);
    let Some(trailer) = file.len().checked_sub(TRAILER_BYTES) else { return };
    if trailer < place(ROWS_OFFSET) {
        return;
    }
    let id = file[field("file_id").range()].to_vec();
    LittleEndian::write_u64(&mut file[trailer + 8..trailer + 16], bytes);
    file[trailer + 16..trailer + 32].copy_from_slice(&id);
}

/// Makes the block sums and the sum of each section right, where they lie in the file.
fn seal_sections(file: &mut [u8]) {
    let seed = xxh3_64(&file[field("file_id").range()]);
    let count = place(LittleEndian::read_u32(&file[field("section_count").range()]).into());
    let entries: Vec<_> = (0..count.min(64))
        .map(|index| field("sections").offset + index * 32)
        .filter_map(|entry| {
            let word = |at| place(LittleEndian::read_u64(&file[entry + at..entry + at + 8]));
            let (start, bytes) = (word(8), word(16));
            let end = start.checked_add(bytes).filter(|end| *end <= file.len())?;
            let kind = LittleEndian::read_u32(&file[entry..entry + 4]);
            Some((entry, kind, start..end))
        })
        .collect();
    for (_, kind, range) in &entries {
        if *kind != BLOCK_SUMS || range.start < place(ROWS_OFFSET) {
            continue;
        }
        let covered = &file[place(ROWS_OFFSET)..range.start];
        let mut sums = Vec::new();
        for (block, bytes) in (0u64..).zip(covered.chunks(65_536)) {
            sums.extend(xxh3_64_with_seed(bytes, seed.wrapping_add(block)).to_le_bytes());
        }
        let most = sums.len().min(range.len());
        file[range.start..range.start + most].copy_from_slice(&sums[..most]);
    }
    for (entry, _, range) in entries {
        let sum = xxh3_64_with_seed(&file[range], seed);
        LittleEndian::write_u64(&mut file[entry + 24..entry + 32], sum);
    }
}

fn field(name: &str) -> Field {
    *FIELDS.iter().find(|field| field.name == name).unwrap()
}

fn place(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}
