//! How one row's bytes become numbers.

mod kernels;
mod plain;
mod sum;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(crate) use kernels::{Kernels, prefetch, stream_fence};
pub(crate) use plain::{count_non_finite, decoder, stream};
pub(crate) use sum::{GROUP, Join, JoinRows, joiner};

use crate::dtype::DType;

/// How a table's rows are encoded.
///
/// ```
/// use embmap::Codec;
///
/// assert_eq!(Codec::Plain.name(), "plain");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Codec {
    /// The elements one after the other, as their dtype says, little-endian.
    Plain,
}

impl Codec {
    /// The name that `info` shows.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Codec::Plain => "plain",
        }
    }

    /// The bytes of one encoded row of `dim` elements, or `None` where that overflows.
    pub(crate) fn row_bytes(self, dtype: DType, dim: u64) -> Option<u64> {
        match self {
            Codec::Plain => dim.checked_mul(dtype.size() as u64),
        }
    }
}

/// The bytes that make up one encoded row, plane by plane.
///
/// Where they come from (one place in an `.emb` file, several tensors of a checkpoint) is
/// the layout's business.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowParts<'a> {
    /// The encoded values.
    pub(crate) values: &'a [u8],
}

/// Decodes one row into as many elements as the output holds.
pub(crate) type Decode<O> = fn(RowParts<'_>, &mut [O]);
