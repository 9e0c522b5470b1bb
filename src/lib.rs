//! A memory-mapped, on-disk embedding store.
//!
//! An embedding is a lookup: row `id` of a table of `vocab` rows and `dim` columns. embmap
//! opens such a table where it lies (an `.emb` file, a `.safetensors` file, a Hugging Face
//! model directory) in microseconds, whatever its size, hands out rows as zero-copy slices,
//! and gathers batches of rows in parallel.
//!
//! # Rows
//!
//! ```
//! use embmap::Table;
//!
//! # fn main() -> Result<(), embmap::Error> {
//! // SAFETY: nothing writes to the model's files while they are mapped.
//! let table = unsafe { Table::map("fixtures/minilm-2k")? };
//! assert_eq!((table.vocab(), table.dim()), (2003, 384));
//!
//! // One row, straight from the page cache.
//! let cat: u64 = table.id_of("cat")?.unwrap();
//! let row: &[half::f16] = table.row(cat)?;
//!
//! // Many rows, as f32 whatever is stored.
//! let ids = [391u32, 1009, 238, 498];
//! let mut out = vec![0f32; ids.len() * table.dim()];
//! table.gather_into(&ids, &mut out)?;
//! assert_eq!(out[0], table.row::<half::f16>(391)?[0].to_f32());
//! # Ok(())
//! # }
//! ```
//!
//! Batches can be pooled ([`Table::embedding_bag_into`]), asked for ahead
//! ([`Table::prefetch`]) and the whole table brought into memory ([`Table::warm`]). None of it
//! is needed for speed: a gather finds out whether its rows are in memory, and asks for those
//! that are not in windows.
//!
//! # Ways to open
//!
//! | | memory | a file that is cut under it |
//! |---|---|---|
//! | [`Table::map`] (`unsafe`) | the page cache's, zero-copy | a signal |
//! | [`Table::load`] | owned, a copy | nothing happens |
//! | [`OpenOptions::open`] with [`Access::Read`] | none: each row is read | an error |
//! | the same with [`Access::Direct`] | none, nor the page cache's: for tables that never fit | an error |
//!
//! `map` is `unsafe` because no program can keep another from writing to a mapped file; what
//! it asks for is in [its documentation](OpenOptions::map). Files are meant to be replaced by
//! rename, as [`TableWriter`] does, and then a reader keeps the old rows.
//!
//! # Files
//!
//! [`convert()`] writes any table as one `.emb` file: rows at a constant stride, tokens with an
//! index, the tokenizer, and a checksum for every 64 KiB, which [`Table::verify`] compares.
//! [`TableWriter`] writes rows of your own. Both stream, and publish the file whole or not at
//! all. The format is specified in `docs/format.md`. [`export()`] is the way back: safetensors,
//! npy, and the formats of word2vec and GloVe.
//!
//! # What a table holds
//!
//! With the feature `inspect`, `Table::inspect` reads a table once and reports what to know before
//! trusting it: lengths of rows, rows of zeros and repeated ones, NaNs, how many directions are
//! used, and what smaller dtypes would cost.
//!
//! # Text
//!
//! With the feature `text`, `Table::tokenizer` runs the model's own tokenizer, the way from
//! a text to ids.
//!
//! # Quirks
//!
//! - Ids are checked, all of them, before anything is written. A bad id is an error, never a
//!   row of zeros, and a negative one does not count from the end.
//! - A checkpoint may place a tensor at any byte. Gathers read it there; typed slices need the
//!   alignment of their type, and say so.
//! - Tokens are in the vocabulary's own spelling: GPT-2's " cat" is `Ġcat`.
//! - Little-endian machines only, as the files are.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::cast_possible_truncation,
        clippy::float_cmp,
        clippy::print_stderr
    )
)]

#[cfg(not(target_endian = "little"))]
compile_error!("embmap files are little-endian and so is every machine that embmap runs on");

mod arrange;
mod checks;
mod codec;
mod convert;
mod dtype;
mod error;
mod export;
pub mod format;
mod gather;
#[cfg(feature = "import")]
mod import;
#[cfg(feature = "inspect")]
pub mod inspect;
mod layout;
mod open;
mod order;
mod publish;
mod residency;
mod search;
mod source;
#[allow(unsafe_code)]
mod storage;
mod table;
#[cfg(feature = "text")]
mod text;
mod tokens;
mod verify;
mod writer;

pub use arrange::{AccessTrace, Arrangement, Placement};
pub use codec::{Codec, Loss, ScaleType, Scaling};
pub use convert::{ConvertOptions, convert, convert_with};
#[cfg(feature = "import")]
pub use convert::{Planned, Progress, Stage, convert_from, convert_from_with, plan_convert};
pub use dtype::{DType, Element, Output, UnknownDType};
pub use error::{Error, FormatError, Place, Result};
pub use export::{
    ExportFormat, ExportOptions, Exported, UnfitTokens, export, export_to, export_with, plan_export,
};
pub use gather::{BagOptions, GatherOptions, Id, Outputs, Pooling, Recycled};
#[cfg(feature = "import")]
pub use import::{Duplicates, ImportFormat, ImportOptions, Source, TextEncoding};
#[cfg(feature = "inspect")]
pub use inspect::{InspectOptions, Inspection};
pub use open::OpenOptions;
pub use residency::{Residency, Warming};
pub use search::{Metric, NearestOptions, Neighbour};
pub use source::{NpyHeader, TensorInfo};
pub use table::{Access, DirectIo, Rows, SectionInfo, Table, TableInfo, Temperature};
#[cfg(feature = "text")]
pub use text::{Encoded, EncodedToken, StaticModel, Tokenizer};
pub use verify::{Damage, Verification};
pub use writer::{TableWriter, WriteOptions, Written};
