//! numpy's .npy files, in place where the array lies in C order and little-endian.

mod array;
mod header;
mod literal;

pub(super) use array::{find, in_place, read};
pub use header::NpyHeader;
pub(super) use header::looks_like;
