//! The fields of the header page, each placed right after the one before it.

use std::ops::Range;

/// The first eight bytes of an `.emb` file.
///
/// As in PNG: a byte with the high bit set, the name, CR LF, the DOS end-of-file and LF, so
/// that text-mode transfers show. Read as the length of a safetensors header it is beyond
/// that format's cap, so no file is both.
pub const MAGIC: [u8; 8] = *b"\x89EMB\r\n\x1a\n";

/// The size of the header page.
pub const HEADER_BYTES: usize = 4096;

/// Where the rows start: a boundary for pages of 4, 16 and 64 KiB.
pub const ROWS_OFFSET: u64 = 65_536;

/// The boundary that sections and the trailer start on.
pub(super) const SECTION_ALIGNMENT: u64 = 4096;

/// The size of one entry of the section directory.
pub const SECTION_BYTES: usize = 32;

/// The most sections that the directory holds.
pub(super) const MOST_SECTIONS: u32 = 64;

/// The size of the trailer.
pub const TRAILER_BYTES: usize = 64;

/// A field of the header page.
///
/// ```
/// let vocab = embmap::format::FIELDS.iter().find(|field| field.name == "vocab").unwrap();
/// assert_eq!((vocab.offset, vocab.bytes), (56, 8));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Its name in the specification.
    pub name: &'static str,
    /// Its offset in the page, and in the file.
    pub offset: usize,
    /// Its size in bytes.
    pub bytes: usize,
}

impl Field {
    const fn first(name: &'static str, bytes: usize) -> Self {
        Field { name, offset: 0, bytes }
    }

    const fn then(self, name: &'static str, bytes: usize) -> Self {
        Field { name, offset: self.offset + self.bytes, bytes }
    }

    /// The field's bytes within the page.
    #[must_use]
    pub const fn range(self) -> Range<usize> {
        self.offset..self.offset + self.bytes
    }
}

pub(super) const MAGIC_FIELD: Field = Field::first("magic", MAGIC.len());
pub(super) const VERSION_MAJOR: Field = MAGIC_FIELD.then("version_major", 2);
pub(super) const VERSION_MINOR: Field = VERSION_MAJOR.then("version_minor", 2);
pub(super) const RESERVED_0: Field = VERSION_MINOR.then("reserved_0", 4);
pub(super) const INCOMPATIBLE_FEATURES: Field = RESERVED_0.then("incompatible_features", 8);
pub(super) const COMPATIBLE_FEATURES: Field = INCOMPATIBLE_FEATURES.then("compatible_features", 8);
pub(super) const FILE_BYTES: Field = COMPATIBLE_FEATURES.then("file_bytes", 8);
pub(super) const FILE_ID: Field = FILE_BYTES.then("file_id", 16);
pub(super) const VOCAB: Field = FILE_ID.then("vocab", 8);
pub(super) const DIM: Field = VOCAB.then("dim", 8);
pub(super) const DTYPE: Field = DIM.then("dtype", 4);
pub(super) const CODEC: Field = DTYPE.then("codec", 4);
pub(super) const ROW_BYTES: Field = CODEC.then("row_bytes", 8);
pub(super) const ROW_STRIDE: Field = ROW_BYTES.then("row_stride", 8);
pub(super) const ROWS_OFFSET_FIELD: Field = ROW_STRIDE.then("rows_offset", 8);
pub(super) const ROWS_BYTES: Field = ROWS_OFFSET_FIELD.then("rows_bytes", 8);
pub(super) const BITS: Field = ROWS_BYTES.then("bits", 4);
pub(super) const SCALE_DTYPE: Field = BITS.then("scale_dtype", 4);
pub(super) const BIAS_DTYPE: Field = SCALE_DTYPE.then("bias_dtype", 4);
pub(super) const BLOCK_LENGTH: Field = BIAS_DTYPE.then("block_length", 4);
pub(super) const SCALES_OFFSET: Field = BLOCK_LENGTH.then("scales_offset", 8);
pub(super) const BIASES_OFFSET: Field = SCALES_OFFSET.then("biases_offset", 8);
pub(super) const NIBBLE_ORDER: Field = BIASES_OFFSET.then("nibble_order", 4);
pub(super) const TABLE_SCALE_PRESENT: Field = NIBBLE_ORDER.then("table_scale_present", 4);
pub(super) const TABLE_SCALE: Field = TABLE_SCALE_PRESENT.then("table_scale", 4);
pub(super) const CHECKSUM_KIND: Field = TABLE_SCALE.then("checksum_kind", 4);
pub(super) const CHECKSUM_BLOCK_BYTES: Field = CHECKSUM_KIND.then("checksum_block_bytes", 4);
pub(super) const SECTION_COUNT: Field = CHECKSUM_BLOCK_BYTES.then("section_count", 4);
pub(super) const RESERVED_1: Field = SECTION_COUNT.then("reserved_1", 88);
pub(super) const SECTIONS: Field =
    RESERVED_1.then("sections", MOST_SECTIONS as usize * SECTION_BYTES);
pub(super) const RESERVED_2: Field =
    SECTIONS.then("reserved_2", HEADER_BYTES - 8 - SECTIONS.offset - SECTIONS.bytes);
pub(super) const HEADER_SUM: Field = RESERVED_2.then("header_sum", 8);

/// Every field of the header page, in order, without a gap.
pub const FIELDS: [Field; 32] = [
    MAGIC_FIELD,
    VERSION_MAJOR,
    VERSION_MINOR,
    RESERVED_0,
    INCOMPATIBLE_FEATURES,
    COMPATIBLE_FEATURES,
    FILE_BYTES,
    FILE_ID,
    VOCAB,
    DIM,
    DTYPE,
    CODEC,
    ROW_BYTES,
    ROW_STRIDE,
    ROWS_OFFSET_FIELD,
    ROWS_BYTES,
    BITS,
    SCALE_DTYPE,
    BIAS_DTYPE,
    BLOCK_LENGTH,
    SCALES_OFFSET,
    BIASES_OFFSET,
    NIBBLE_ORDER,
    TABLE_SCALE_PRESENT,
    TABLE_SCALE,
    CHECKSUM_KIND,
    CHECKSUM_BLOCK_BYTES,
    SECTION_COUNT,
    RESERVED_1,
    SECTIONS,
    RESERVED_2,
    HEADER_SUM,
];

const _: () = assert!(HEADER_SUM.offset + HEADER_SUM.bytes == HEADER_BYTES);
