//! The section directory: what follows the rows, and the rules that it keeps.

use byteorder::{ByteOrder, LittleEndian};

use super::field::{ROWS_OFFSET, SECTION_ALIGNMENT, SECTION_BYTES};
use crate::checks::BLOCK_BYTES;
use crate::error::FormatError;
use crate::order::OrderShape;
use crate::storage::Stretch;

/// What a section holds, by the code that the directory records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum SectionKind {
    TokenOffsets = 1,
    TokenBytes = 2,
    TokenPresence = 3,
    TokenIndex = 4,
    Tokenizer = 5,
    Metadata = 6,
    RowOrder = 7,
    Norms = 8,
    BlockSums = 9,
}

impl SectionKind {
    pub(crate) const fn code(self) -> u32 {
        self as u32
    }
}

/// The section kinds of version 1: code, name in the specification, critical.
pub const SECTION_KINDS: [(u32, &str, bool); 9] = [
    (1, "token_offsets", false),
    (2, "token_bytes", false),
    (3, "token_presence", false),
    (4, "token_index", false),
    (5, "tokenizer", false),
    (6, "metadata", false),
    (7, "row_order", true),
    (8, "norms", false),
    (9, "block_sums", false),
];

/// The longest metadata, in bytes.
pub(crate) const LONGEST_METADATA: u64 = 1 << 20;

/// The longest tokenizer, in bytes.
pub(crate) const LONGEST_TOKENIZER: u64 = 1 << 30;

/// The flag of a section that a reader must understand.
const CRITICAL: u32 = 1;

/// One entry of the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) kind: u32,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    /// XXH3-64 of the section's bytes, seeded with the file id.
    pub(crate) sum: u64,
}

impl Section {
    /// Where the section lies, without its padding.
    pub(crate) fn stretch(&self) -> Stretch {
        Stretch { offset: self.offset, bytes: self.bytes }
    }

    /// The section's name in the specification, where it is known.
    pub(crate) fn name(&self) -> &'static str {
        SECTION_KINDS.iter().find(|known| known.0 == self.kind).map_or("unknown", |known| known.1)
    }

    pub(super) fn encode(&self, entry: &mut [u8]) {
        LittleEndian::write_u32(&mut entry[0..4], self.kind);
        let critical = SECTION_KINDS.iter().any(|known| known.0 == self.kind && known.2);
        LittleEndian::write_u32(&mut entry[4..8], u32::from(critical) * CRITICAL);
        LittleEndian::write_u64(&mut entry[8..16], self.offset);
        LittleEndian::write_u64(&mut entry[16..24], self.bytes);
        LittleEndian::write_u64(&mut entry[24..32], self.sum);
    }
}

/// Reads the used entries of the directory and checks everything that can be checked
/// without the sections themselves. `rows_end` is where the rows end, `vocab` their number.
pub(super) fn parse_sections(
    entries: &[u8],
    vocab: u64,
    rows_end: u64,
    checksums: bool,
) -> Result<Vec<Section>, FormatError> {
    let mut sections: Vec<Section> = Vec::new();
    let mut end = rows_end;
    for (index, entry) in (0u32..).zip(entries.chunks_exact(SECTION_BYTES)) {
        let section = Section {
            kind: LittleEndian::read_u32(&entry[0..4]),
            offset: LittleEndian::read_u64(&entry[8..16]),
            bytes: LittleEndian::read_u64(&entry[16..24]),
            sum: LittleEndian::read_u64(&entry[24..32]),
        };
        check_flags(index, section.kind, LittleEndian::read_u32(&entry[4..8]))?;
        if sections.iter().any(|other| other.kind == section.kind) {
            return Err(FormatError::SectionDuplicate { index, kind: section.kind });
        }
        let expected = align_up(end);
        if expected != Some(section.offset) {
            let expected = expected.unwrap_or(u64::MAX);
            return Err(FormatError::SectionOffset { index, expected, found: section.offset });
        }
        end = section.offset.checked_add(section.bytes).ok_or(FormatError::SectionRule {
            index,
            kind: section.kind,
            rule: "its end must fit in 64 bits",
        })?;
        sections.push(section);
    }
    check_texts(&sections)?;
    check_tokens(&sections)?;
    check_row_order(&sections, vocab)?;
    check_norms(&sections, vocab)?;
    check_block_sums(&sections, checksums)?;
    Ok(sections)
}

fn check_flags(index: u32, kind: u32, flags: u32) -> Result<(), FormatError> {
    if kind == 0 {
        return Err(FormatError::SectionKind { index });
    }
    match SECTION_KINDS.iter().find(|known| known.0 == kind) {
        Some((_, _, critical)) if flags != u32::from(*critical) * CRITICAL => {
            Err(FormatError::SectionFlags {
                index,
                expected: u32::from(*critical) * CRITICAL,
                found: flags,
            })
        }
        None if flags & CRITICAL != 0 => Err(FormatError::SectionCritical { index, kind }),
        None if flags != 0 => Err(FormatError::SectionFlags { index, expected: 0, found: flags }),
        _ => Ok(()),
    }
}

/// The texts are read whole, so what they may cost is bounded here.
fn check_texts(sections: &[Section]) -> Result<(), FormatError> {
    for (kind, most, rule) in [
        (SectionKind::Tokenizer, LONGEST_TOKENIZER, "a tokenizer has at most 1 GiB"),
        (SectionKind::Metadata, LONGEST_METADATA, "metadata has at most 1 MiB"),
    ] {
        if let Some((index, section)) = find(sections, kind)
            && section.bytes > most
        {
            return Err(FormatError::SectionRule { index, kind: section.kind, rule });
        }
    }
    Ok(())
}

fn check_tokens(sections: &[Section]) -> Result<(), FormatError> {
    let find = |kind: SectionKind| find(sections, kind);
    let group = [
        SectionKind::TokenOffsets,
        SectionKind::TokenBytes,
        SectionKind::TokenPresence,
        SectionKind::TokenIndex,
    ];
    if group.into_iter().all(|kind| find(kind).is_none()) {
        return Ok(());
    }
    for kind in group {
        if find(kind).is_none() {
            return Err(FormatError::SectionMissing {
                missing: kind.code(),
                rule: "token offsets, bytes, presence and index come together",
            });
        }
    }
    let (Some((index, offsets)), Some((presence_index, presence))) =
        (find(SectionKind::TokenOffsets), find(SectionKind::TokenPresence))
    else {
        return Ok(());
    };
    if !offsets.bytes.is_multiple_of(8) || offsets.bytes == 0 {
        let rule = "token offsets are 8 bytes each, one more than there are tokens";
        return Err(FormatError::SectionRule { index, kind: offsets.kind, rule });
    }
    if presence.bytes != (offsets.bytes / 8 - 1).div_ceil(8) {
        let rule = "token presence has one bit for each token";
        return Err(FormatError::SectionRule { index: presence_index, kind: presence.kind, rule });
    }
    Ok(())
}

fn check_row_order(sections: &[Section], vocab: u64) -> Result<(), FormatError> {
    let Some((index, section)) = find(sections, SectionKind::RowOrder) else { return Ok(()) };
    OrderShape::of_section(vocab, section.bytes)
        .map(|_| ())
        .map_err(|rule| FormatError::SectionRule { index, kind: section.kind, rule })
}

fn check_norms(sections: &[Section], vocab: u64) -> Result<(), FormatError> {
    match find(sections, SectionKind::Norms) {
        Some((index, norms)) if Some(norms.bytes) != vocab.checked_mul(4) => {
            let rule = "there is one norm of 4 bytes for each row";
            Err(FormatError::SectionRule { index, kind: norms.kind, rule })
        }
        _ => Ok(()),
    }
}

fn check_block_sums(sections: &[Section], checksums: bool) -> Result<(), FormatError> {
    let kind = SectionKind::BlockSums.code();
    match (find(sections, SectionKind::BlockSums), checksums) {
        (None, false) => Ok(()),
        (None, true) => Err(FormatError::SectionMissing {
            missing: kind,
            rule: "the header's checksum kind asks for block sums",
        }),
        (Some((index, _)), false) => Err(FormatError::SectionRule {
            index,
            kind,
            rule: "there are no block sums where the checksum kind is 0",
        }),
        (Some((index, section)), true) => {
            let rule = if index as usize + 1 != sections.len() {
                "block sums are the last section"
            } else if section.bytes
                != (section.offset - ROWS_OFFSET).div_ceil(u64::from(BLOCK_BYTES)) * 8
            {
                "there is one sum of 8 bytes for each block before this section"
            } else {
                return Ok(());
            };
            Err(FormatError::SectionRule { index, kind, rule })
        }
    }
}

fn find(sections: &[Section], kind: SectionKind) -> Option<(u32, &Section)> {
    (0u32..).zip(sections).find(|(_, section)| section.kind == kind.code())
}

/// The next boundary for a section or the trailer, or `None` where that overflows.
pub(crate) fn align_up(end: u64) -> Option<u64> {
    end.checked_next_multiple_of(SECTION_ALIGNMENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_longer_than_is_read_whole_are_refused() {
        for (kind, most) in
            [(SectionKind::Metadata, LONGEST_METADATA), (SectionKind::Tokenizer, LONGEST_TOKENIZER)]
        {
            let parse = |bytes| {
                let section = Section { kind: kind.code(), offset: ROWS_OFFSET, bytes, sum: 0 };
                let mut entry = [0; SECTION_BYTES];
                section.encode(&mut entry);
                parse_sections(&entry, 0, ROWS_OFFSET, false)
            };
            assert!(parse(most).is_ok());
            let refused = parse(most + 1);
            assert!(
                matches!(refused, Err(FormatError::SectionRule { index: 0, .. })),
                "{refused:?}"
            );
        }
    }
}
