//! What is wrong with an `.emb` file.

use super::show::Hex;
use crate::dtype::DType;

/// What is wrong with an `.emb` file, exactly.
///
/// One variant for each field and rule of the format, so that a test or a program can tell
/// them apart.
///
/// ```
/// use embmap::{Error, FormatError, Table};
///
/// let error = Table::from_bytes(b"\x89EMB\r\n\x1a\n and then nothing").unwrap_err();
/// assert!(matches!(error, Error::Format { source: FormatError::TooShort { .. }, .. }));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// Shorter than a header page and a trailer.
    #[error(
        "an .emb file has at least {expected} bytes, this one has {found}: it is cut short, copy it again"
    )]
    TooShort {
        /// The least number of bytes.
        expected: u64,
        /// The number of bytes found.
        found: u64,
    },
    /// The first eight bytes are not the magic.
    #[error(
        "expected the .emb magic, found {}: not an .emb file, or one changed by a text-mode transfer",
        Hex(found)
    )]
    Magic {
        /// The bytes found.
        found: [u8; 8],
    },
    /// A newer major version.
    #[error(
        "written in format version {found}, this embmap reads version {supported}: update embmap"
    )]
    VersionMajor {
        /// The version found.
        found: u16,
        /// The version this library reads.
        supported: u16,
    },
    /// The header page does not match its sum.
    #[error(
        "the header page is damaged: its sum is {found:#018x}, recorded is {expected:#018x}; copy the file again"
    )]
    HeaderSum {
        /// The sum recorded in the page.
        expected: u64,
        /// The sum of the page as read.
        found: u64,
    },
    /// An incompatible feature that this library does not know.
    #[error(
        "uses incompatible features {unknown:#x} that this embmap does not know: update embmap"
    )]
    IncompatibleFeatures {
        /// The unknown bits.
        unknown: u64,
    },
    /// The file's real length is not the recorded one.
    #[error(
        "the header records {expected} bytes, the file has {found}: it was cut or grew, copy it again"
    )]
    FileBytes {
        /// The length recorded.
        expected: u64,
        /// The length found.
        found: u64,
    },
    /// `dim` is zero or cannot be.
    #[error("dim is {found}, expected 1 to 16,777,216")]
    Dim {
        /// The value found.
        found: u64,
    },
    /// An unknown dtype code.
    #[error("dtype code {found} is unknown: update embmap")]
    DType {
        /// The code found.
        found: u32,
    },
    /// An unknown codec code.
    #[error("codec code {found} is unknown: update embmap")]
    Codec {
        /// The code found.
        found: u32,
    },
    /// `row_bytes` does not follow from dim, dtype and codec.
    #[error("row_bytes is {found}, expected {expected} from dim, dtype and codec")]
    RowBytes {
        /// The value that follows from the other fields.
        expected: u64,
        /// The value found.
        found: u64,
    },
    /// `row_stride` is shorter than a row, 64 KiB longer, or not a multiple of the element size.
    #[error(
        "row_stride is {found}, expected the {row_bytes} bytes of a row, up to 65,535 more, and a multiple of {multiple}"
    )]
    RowStride {
        /// The bytes of a row.
        row_bytes: u64,
        /// The size of an element in bytes.
        multiple: u64,
        /// The value found.
        found: u64,
    },
    /// `rows_offset` is not where version 1 places the rows.
    #[error("rows_offset is {found}, expected {expected}")]
    RowsOffset {
        /// The offset of version 1.
        expected: u64,
        /// The value found.
        found: u64,
    },
    /// `rows_bytes` is not the product of `vocab` and `row_stride`.
    #[error("rows_bytes is {found}, expected vocab x row_stride = {expected}")]
    RowsBytes {
        /// The product, which may not fit in 64 bits.
        expected: u128,
        /// The value found.
        found: u64,
    },
    /// A codec field has a value that its codec does not allow.
    #[error("codec field {field} is {found}, expected {expected} for this codec")]
    CodecField {
        /// The field's name in the specification.
        field: &'static str,
        /// The value that the codec asks for.
        expected: u64,
        /// The value found.
        found: u64,
    },
    /// An unknown type of scales or biases.
    #[error("codec field {field} is {found}, and no type of scales has that code: update embmap")]
    ScaleType {
        /// The field's name in the specification.
        field: &'static str,
        /// The code found.
        found: u32,
    },
    /// A codec that its dtype does not have.
    #[error("the codec is {codec}, which rows of {dtype} never have")]
    CodecDType {
        /// The codec's name.
        codec: &'static str,
        /// The dtype.
        dtype: DType,
    },
    /// A block length that does not divide `dim`, or holds parts of what is packed together.
    #[error(
        "block_length is {found}, expected a multiple of {multiple} that divides the {dim} elements of a row"
    )]
    BlockLength {
        /// Elements in a row.
        dim: u64,
        /// The elements that the dtype stores together.
        multiple: u64,
        /// The length found; that of the dtype, where no field holds one.
        found: u64,
    },
    /// An unknown kind of checksum.
    #[error("checksum kind {found} is unknown: update embmap")]
    ChecksumKind {
        /// The value found.
        found: u32,
    },
    /// A checksum block size that is not the one of its kind.
    #[error("checksum block is {found} bytes, expected {expected}")]
    ChecksumBlock {
        /// The size that the kind asks for.
        expected: u32,
        /// The value found.
        found: u32,
    },
    /// More sections than the directory holds.
    #[error("the section directory records {found} sections, and holds at most {most}")]
    SectionCount {
        /// The most that the directory can hold.
        most: u32,
        /// The value found.
        found: u32,
    },
    /// A section kind of zero.
    #[error("section {index} has kind 0, which no section has")]
    SectionKind {
        /// The section's place in the directory.
        index: u32,
    },
    /// A critical section that this library does not know.
    #[error(
        "section {index} is of kind {kind}, which readers must understand and this embmap does not know: update embmap"
    )]
    SectionCritical {
        /// The section's place in the directory.
        index: u32,
        /// Its kind.
        kind: u32,
    },
    /// Two sections of one kind.
    #[error("section {index} is a second section of kind {kind}")]
    SectionDuplicate {
        /// The section's place in the directory.
        index: u32,
        /// Its kind.
        kind: u32,
    },
    /// Undefined section flags, or a known section with the wrong critical bit.
    #[error("section {index} has flags {found:#x}, expected {expected:#x}")]
    SectionFlags {
        /// The section's place in the directory.
        index: u32,
        /// The flags expected.
        expected: u32,
        /// The flags found.
        found: u32,
    },
    /// A section does not start right after what comes before it.
    #[error(
        "section {index} starts at {found}, expected {expected}: sections lie one after the other on 4,096-byte boundaries"
    )]
    SectionOffset {
        /// The section's place in the directory.
        index: u32,
        /// Where it must start.
        expected: u64,
        /// Where it starts.
        found: u64,
    },
    /// A section breaks a rule of its kind.
    #[error("section {index} of kind {kind} breaks a rule of its kind: {rule}")]
    SectionRule {
        /// The section's place in the directory.
        index: u32,
        /// Its kind.
        kind: u32,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// Sections that only make sense together are not all there.
    #[error("section kind {missing} is missing: {rule}")]
    SectionMissing {
        /// The kind that is missing.
        missing: u32,
        /// Why it must be there.
        rule: &'static str,
    },
    /// The sections do not end where the trailer starts.
    #[error("the sections end at {found}, and the file's length asks for {expected}")]
    SectionsEnd {
        /// Where they must end.
        expected: u64,
        /// Where they end.
        found: u64,
    },
    /// A byte that must be zero is not.
    #[error(
        "the reserved byte at offset {offset} is not zero: the file is damaged, or made by a newer embmap"
    )]
    Reserved {
        /// The offset in the file.
        offset: u64,
    },
    /// The trailer's magic is missing: the end of the file was never written.
    #[error(
        "the end of the file is missing (found {}): it was only partly downloaded or copied, fetch it again",
        Hex(found)
    )]
    TrailerMagic {
        /// The bytes found.
        found: [u8; 8],
    },
    /// The trailer records another length than the header.
    #[error(
        "the trailer records {found} bytes, the header {expected}: two files are mixed, copy it again"
    )]
    TrailerFileBytes {
        /// The length in the header.
        expected: u64,
        /// The length in the trailer.
        found: u64,
    },
    /// The trailer belongs to another file than the header.
    #[error(
        "the trailer belongs to file {}, the header to file {}: two files are mixed, copy it again",
        Hex(found),
        Hex(expected)
    )]
    TrailerFileId {
        /// The id in the header.
        expected: [u8; 16],
        /// The id in the trailer.
        found: [u8; 16],
    },
    /// A section does not match its sum.
    #[error(
        "section {index} is damaged: its sum is {found:#018x}, recorded is {expected:#018x}; copy the file again"
    )]
    SectionSum {
        /// The section's place in the directory.
        index: u32,
        /// The sum recorded in the directory.
        expected: u64,
        /// The sum of the section as read.
        found: u64,
    },
    /// The token offsets do not ascend from zero to the number of token bytes.
    #[error(
        "the offsets of token {id} are {start} to {end}, of {bytes} token bytes: the token sections are damaged, copy the file again"
    )]
    TokenOffsets {
        /// The token's row.
        id: u64,
        /// Where it starts.
        start: u64,
        /// Where it ends.
        end: u64,
        /// The bytes there are.
        bytes: u64,
    },
    /// A token is not UTF-8.
    #[error("token {id} is not valid UTF-8: the token sections are damaged, copy the file again")]
    TokenUtf8 {
        /// The token's row.
        id: u64,
    },
    /// An absent token has bytes, or a bit beyond the last token is set.
    #[error(
        "the presence bit of token {id} contradicts its offsets: the token sections are damaged, copy the file again"
    )]
    TokenPresence {
        /// The token's row.
        id: u64,
    },
    /// The token index breaks one of its rules.
    #[error("the token index is damaged: {rule} (at entry {at})")]
    TokenIndex {
        /// The rule it breaks.
        rule: &'static str,
        /// The bucket or entry.
        at: u64,
    },
    /// The row order breaks one of its rules.
    #[error("the row order is damaged: {rule} (at {at}); copy the file again")]
    RowOrder {
        /// The rule it breaks.
        rule: &'static str,
        /// The id, or the number of the placed row.
        at: u64,
    },
    /// A norm is not that of its row.
    #[error(
        "the norm of row {id} is {:?}, expected {:?}: the rows or the norms are damaged, convert the table again",
        f32::from_bits(*found),
        f32::from_bits(*expected)
    )]
    Norm {
        /// The row.
        id: u64,
        /// The bits of the row's norm, an f32; those of one NaN for all.
        expected: u32,
        /// The bits recorded.
        found: u32,
    },
    /// The metadata is not one JSON object.
    #[error("the metadata is not one JSON object: {reason}")]
    Metadata {
        /// What a JSON parser says.
        reason: String,
    },
    /// The metadata or the tokenizer is not UTF-8.
    #[error("section {index} is not valid UTF-8, and its kind is text: copy the file again")]
    SectionUtf8 {
        /// The section's place in the directory.
        index: u32,
    },
}
