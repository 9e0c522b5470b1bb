//! numpy's .npy files, in place where the array lies in C order and little-endian.

mod array;
mod header;
mod literal;
#[cfg(feature = "import")]
mod stream;

pub(crate) use array::read;
pub(super) use array::{find, in_place};
#[cfg(feature = "import")]
pub(crate) use header::FORMAT;
pub use header::NpyHeader;
pub(super) use header::looks_like;
#[cfg(feature = "import")]
pub(crate) use stream::{Transposed, rows};
