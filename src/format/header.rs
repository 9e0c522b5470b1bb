//! The header page: encoded and parsed, every field checked.

use byteorder::{ByteOrder, LittleEndian};
use xxhash_rust::xxh3::xxh3_64;

use super::codes;
use super::field::{self, Field, HEADER_BYTES, MAGIC, ROWS_OFFSET, TRAILER_BYTES};
use super::rows::RowForm;
use super::section::{Section, SectionKind, align_up, parse_sections};
use crate::checks::BLOCK_BYTES;
use crate::error::FormatError;
use crate::layout::LARGEST_DIM;

/// The major version that this library reads and writes.
pub const VERSION_MAJOR: u16 = 1;

/// The minor version that this library writes.
pub const VERSION_MINOR: u16 = 0;

/// The most padding after a row: what aligning to 64 KiB can need.
const WIDEST_PADDING: u64 = 65_535;

/// The shortest file: a header page, no rows, no sections, a trailer.
const SHORTEST: u64 = ROWS_OFFSET + TRAILER_BYTES as u64;

/// What a header page says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) version_minor: u16,
    pub(crate) file_bytes: u64,
    pub(crate) file_id: [u8; 16],
    pub(crate) vocab: u64,
    pub(crate) form: RowForm,
    pub(crate) row_bytes: u64,
    pub(crate) row_stride: u64,
    pub(crate) checksums: bool,
    pub(crate) sections: Vec<Section>,
}

impl Header {
    /// Where the rows end, the last row's padding included.
    pub(crate) fn rows_end(&self) -> u64 {
        ROWS_OFFSET + self.vocab * self.row_stride
    }

    /// The section of a kind, with its place in the directory.
    pub(crate) fn section(&self, kind: SectionKind) -> Option<(u32, Section)> {
        let found = (0u32..).zip(&self.sections).find(|(_, section)| section.kind == kind.code());
        found.map(|(index, section)| (index, *section))
    }

    /// The header page.
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut page = [0; HEADER_BYTES];
        page[field::MAGIC_FIELD.range()].copy_from_slice(&MAGIC);
        LittleEndian::write_u16(&mut page[field::VERSION_MAJOR.range()], VERSION_MAJOR);
        LittleEndian::write_u16(&mut page[field::VERSION_MINOR.range()], self.version_minor);
        page[field::FILE_ID.range()].copy_from_slice(&self.file_id);
        let mut put_u64 =
            |field: Field, value| LittleEndian::write_u64(&mut page[field.range()], value);
        put_u64(field::FILE_BYTES, self.file_bytes);
        put_u64(field::VOCAB, self.vocab);
        put_u64(field::DIM, u64::from(self.form.dim));
        put_u64(field::ROW_BYTES, self.row_bytes);
        put_u64(field::ROW_STRIDE, self.row_stride);
        put_u64(field::ROWS_OFFSET_FIELD, ROWS_OFFSET);
        put_u64(field::ROWS_BYTES, self.vocab * self.row_stride);
        let mut put_u32 =
            |field: Field, value| LittleEndian::write_u32(&mut page[field.range()], value);
        if self.checksums {
            put_u32(field::CHECKSUM_KIND, codes::CHECKSUM_XXH3);
            put_u32(field::CHECKSUM_BLOCK_BYTES, BLOCK_BYTES);
        }
        #[expect(clippy::cast_possible_truncation, reason = "at most one section of each kind")]
        put_u32(field::SECTION_COUNT, self.sections.len() as u32);
        self.form.encode(&mut page);
        let directory = &mut page[field::SECTIONS.range()];
        for (entry, section) in directory.chunks_exact_mut(field::SECTION_BYTES).zip(&self.sections)
        {
            section.encode(entry);
        }
        let sum = page_sum(&page);
        LittleEndian::write_u64(&mut page[field::HEADER_SUM.range()], sum);
        page
    }

    /// Reads a header page and checks all of it against the file's real length.
    ///
    /// `page` holds the first 4,096 bytes of the file, or all of a shorter one. The order
    /// matters: magic and major version say whether the rest means anything, the sum whether
    /// it is as written, and only then do the fields, each by its own rule.
    pub(crate) fn parse(page: &[u8], file_bytes: u64) -> Result<Self, FormatError> {
        let page = whole_page(page, file_bytes)?;
        check_version_and_sum(page)?;
        check_zero(page, field::RESERVED_0)?;
        check_zero(page, field::RESERVED_1)?;
        check_zero(page, field::RESERVED_2)?;
        let unknown = get_u64(page, field::INCOMPATIBLE_FEATURES);
        if unknown != 0 {
            return Err(FormatError::IncompatibleFeatures { unknown });
        }
        let expected = get_u64(page, field::FILE_BYTES);
        if expected != file_bytes {
            return Err(FormatError::FileBytes { expected, found: file_bytes });
        }
        let mut header = parse_rows(page)?;
        header.sections = parse_directory(page, header.vocab, header.rows_end(), header.checksums)?;
        let end = header.sections.last().map_or(header.rows_end(), |last| last.stretch().end());
        let found = align_up(end).unwrap_or(u64::MAX);
        let expected = file_bytes - TRAILER_BYTES as u64;
        if found != expected {
            return Err(FormatError::SectionsEnd { expected, found });
        }
        header.file_bytes = file_bytes;
        Ok(header)
    }
}

fn whole_page(page: &[u8], file_bytes: u64) -> Result<&[u8; HEADER_BYTES], FormatError> {
    let mut found = [0; 8];
    let there = page.len().min(found.len());
    found[..there].copy_from_slice(&page[..there]);
    if found != MAGIC {
        return Err(FormatError::Magic { found });
    }
    match page.first_chunk() {
        Some(page) if file_bytes >= SHORTEST => Ok(page),
        _ => Err(FormatError::TooShort { expected: SHORTEST, found: file_bytes }),
    }
}

fn check_version_and_sum(page: &[u8; HEADER_BYTES]) -> Result<(), FormatError> {
    let found = LittleEndian::read_u16(&page[field::VERSION_MAJOR.range()]);
    if found != VERSION_MAJOR {
        return Err(FormatError::VersionMajor { found, supported: VERSION_MAJOR });
    }
    let (expected, found) = (get_u64(page, field::HEADER_SUM), page_sum(page));
    if expected != found {
        return Err(FormatError::HeaderSum { expected, found });
    }
    Ok(())
}

/// The fields that describe the rows; the sections are not read yet.
fn parse_rows(page: &[u8; HEADER_BYTES]) -> Result<Header, FormatError> {
    let found = get_u64(page, field::DIM);
    let dim = u32::try_from(found)
        .ok()
        .filter(|dim| (1..=LARGEST_DIM).contains(&(*dim as usize)))
        .ok_or(FormatError::Dim { found })?;
    let form = RowForm::parse(page, dim)?;
    let row_bytes = get_u64(page, field::ROW_BYTES);
    let expected = form.row_bytes().unwrap_or(u64::MAX);
    if row_bytes != expected {
        return Err(FormatError::RowBytes { expected, found: row_bytes });
    }
    let row_stride = get_u64(page, field::ROW_STRIDE);
    let multiple = form.stride_multiple();
    let most = row_bytes.saturating_add(WIDEST_PADDING);
    if !(row_bytes..=most).contains(&row_stride) || !row_stride.is_multiple_of(multiple) {
        return Err(FormatError::RowStride { row_bytes, multiple, found: row_stride });
    }
    let found = get_u64(page, field::ROWS_OFFSET_FIELD);
    if found != ROWS_OFFSET {
        return Err(FormatError::RowsOffset { expected: ROWS_OFFSET, found });
    }
    let vocab = get_u64(page, field::VOCAB);
    let found = get_u64(page, field::ROWS_BYTES);
    let expected = u128::from(vocab) * u128::from(row_stride);
    if u128::from(found) != expected || found.checked_add(ROWS_OFFSET).is_none() {
        return Err(FormatError::RowsBytes { expected, found });
    }
    let mut file_id = [0; 16];
    file_id.copy_from_slice(&page[field::FILE_ID.range()]);
    Ok(Header {
        version_minor: LittleEndian::read_u16(&page[field::VERSION_MINOR.range()]),
        file_bytes: 0,
        file_id,
        vocab,
        form,
        row_bytes,
        row_stride,
        checksums: parse_checksums(page)?,
        sections: Vec::new(),
    })
}

fn parse_checksums(page: &[u8; HEADER_BYTES]) -> Result<bool, FormatError> {
    let kind = get_u32(page, field::CHECKSUM_KIND);
    let found = get_u32(page, field::CHECKSUM_BLOCK_BYTES);
    let expected = match kind {
        0 => 0,
        codes::CHECKSUM_XXH3 => BLOCK_BYTES,
        found => return Err(FormatError::ChecksumKind { found }),
    };
    if found != expected {
        return Err(FormatError::ChecksumBlock { expected, found });
    }
    Ok(kind != 0)
}

fn parse_directory(
    page: &[u8; HEADER_BYTES],
    vocab: u64,
    rows_end: u64,
    checksums: bool,
) -> Result<Vec<Section>, FormatError> {
    let found = get_u32(page, field::SECTION_COUNT);
    if found > field::MOST_SECTIONS {
        return Err(FormatError::SectionCount { most: field::MOST_SECTIONS, found });
    }
    let used = found as usize * field::SECTION_BYTES;
    let directory = &page[field::SECTIONS.range()];
    if let Some(at) = directory[used..].iter().position(|byte| *byte != 0) {
        let offset = (field::SECTIONS.offset + used + at) as u64;
        return Err(FormatError::Reserved { offset });
    }
    parse_sections(&directory[..used], vocab, rows_end, checksums)
}

fn check_zero(page: &[u8; HEADER_BYTES], reserved: Field) -> Result<(), FormatError> {
    match page[reserved.range()].iter().position(|byte| *byte != 0) {
        Some(at) => Err(FormatError::Reserved { offset: (reserved.offset + at) as u64 }),
        None => Ok(()),
    }
}

/// XXH3-64 of the page with its own field zero.
fn page_sum(page: &[u8; HEADER_BYTES]) -> u64 {
    let mut page = *page;
    page[field::HEADER_SUM.range()].fill(0);
    xxh3_64(&page)
}

fn get_u32(page: &[u8; HEADER_BYTES], field: Field) -> u32 {
    LittleEndian::read_u32(&page[field.range()])
}

fn get_u64(page: &[u8; HEADER_BYTES], field: Field) -> u64 {
    LittleEndian::read_u64(&page[field.range()])
}

#[cfg(test)]
mod tests {
    use super::super::field::FIELDS;
    use super::*;
    use crate::codec::Codec;
    use crate::dtype::DType;

    fn header() -> Header {
        Header {
            version_minor: 0,
            file_bytes: 65_536 + 4_096 + 64,
            file_id: *b"0123456789abcdef",
            vocab: 5,
            form: RowForm { dim: 3, dtype: DType::F32, codec: Codec::Plain, table_scale: None },
            row_bytes: 12,
            row_stride: 64,
            checksums: false,
            sections: vec![],
        }
    }

    #[test]
    fn a_page_says_what_was_encoded() {
        let header = header();
        assert_eq!(Header::parse(&header.encode(), header.file_bytes), Ok(header));
    }

    #[test]
    fn fields_lie_one_after_the_other() {
        let mut offset = 0;
        for field in FIELDS {
            assert_eq!(field.offset, offset, "{}", field.name);
            offset += field.bytes;
        }
        assert_eq!(offset, HEADER_BYTES);
    }
}
