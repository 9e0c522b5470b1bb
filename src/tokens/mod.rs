//! The token sections: the token of a row, the row of a token. The bytes are specified in
//! `docs/format.md`.

mod encode;
mod index;
mod lookup;
mod verify;
mod walk;

pub(crate) use encode::encode_tokens;
#[cfg(feature = "import")]
pub(crate) use index::index_bytes;
pub(crate) use index::{IndexBuilder, token_hash};
pub(crate) use lookup::{TokenParts, Tokens};
pub(crate) use verify::verify_tokens;
pub(crate) use walk::TokenWalk;

/// The longest token, in bytes: a bound for what a reader allocates.
pub(crate) const LONGEST_TOKEN: u64 = 1 << 20;
