//! The `.emb` file, version 1: what lies where. The specification is `docs/format.md`.
//!
//! Everything here works on bytes that are already in memory; nothing opens a file.
//!
//! ```
//! use embmap::format::{FIELDS, HEADER_BYTES};
//!
//! let last = FIELDS.last().unwrap();
//! assert_eq!((last.name, last.offset + last.bytes), ("header_sum", HEADER_BYTES));
//! ```

mod codes;
mod contents;
mod field;
mod header;
mod rows;
mod section;
mod trailer;

pub use field::{FIELDS, Field, HEADER_BYTES, MAGIC, ROWS_OFFSET, SECTION_BYTES, TRAILER_BYTES};
pub use header::{VERSION_MAJOR, VERSION_MINOR};
pub use section::SECTION_KINDS;

pub(crate) use contents::{check_plan, layout, read_header, row_order, token_parts};
pub(crate) use header::Header;
pub(crate) use rows::RowForm;
pub(crate) use section::{LONGEST_METADATA, LONGEST_TOKENIZER, Section, SectionKind, align_up};
pub(crate) use trailer::encode_trailer;
