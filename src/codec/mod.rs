//! How one row's bytes become numbers.

mod kernels;
mod plain;
mod sum;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(crate) use kernels::{Kernels, prefetch, stream_fence};
pub(crate) use plain::{count_non_finite, stream};
pub(crate) use sum::{GROUP, Join};

use crate::dtype::{DType, Element};

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

/// How a row's bytes are to be read: the element type, and what stands around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Encoding {
    pub(crate) dtype: DType,
    pub(crate) codec: Codec,
}

/// The bytes that make up one encoded row, plane by plane.
///
/// Where they come from (one place in an `.emb` file, several tensors of a checkpoint) is
/// the layout's business.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowParts<'a> {
    /// The encoded values.
    pub(crate) values: &'a [u8],
    /// What the values are multiplied by; empty where the codec has no scales.
    pub(crate) scales: &'a [u8],
    /// What is added to them then; empty where the codec has no biases.
    pub(crate) biases: &'a [u8],
}

impl<'a> RowParts<'a> {
    /// A row of values alone.
    #[inline]
    pub(crate) fn of(values: &'a [u8]) -> Self {
        RowParts { values, scales: &[], biases: &[] }
    }
}

/// Decodes one row into as many elements as the output holds.
pub(crate) type Decode<O> = fn(Encoding, RowParts<'_>, &mut [O]);

/// What decodes the rows of a table, chosen once for many rows.
pub(crate) struct Decoder<O> {
    encoding: Encoding,
    decode: Decode<O>,
}

impl<O> Clone for Decoder<O> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<O> Copy for Decoder<O> {}

impl<O> Decoder<O> {
    /// A decoder that calls `decode`, whatever it makes of the bytes.
    pub(crate) fn new(encoding: Encoding, decode: Decode<O>) -> Self {
        Decoder { encoding, decode }
    }

    /// Decodes one row into as many elements as `out` holds.
    #[inline]
    pub(crate) fn decode(&self, row: RowParts<'_>, out: &mut [O]) {
        (self.decode)(self.encoding, row, out);
    }
}

impl<O: Element> Decoder<O> {
    /// The decoder of an encoding.
    pub(crate) fn of(encoding: Encoding, kernels: Kernels) -> Self {
        let decode = match encoding.codec {
            Codec::Plain => plain::decoder(encoding.dtype, kernels),
        };
        Decoder { encoding, decode }
    }
}

/// Joins at most [`GROUP`] rows, in order, to the accumulators. With [`Join::AddWeighted`]
/// there is a weight for each row.
pub(crate) type JoinRows = fn(Encoding, Join, &[RowParts<'_>], &[f32], &mut [f32]);

/// What joins the rows of a table into one, chosen once for many rows.
#[derive(Clone, Copy)]
pub(crate) struct Joiner {
    encoding: Encoding,
    join: JoinRows,
}

impl Joiner {
    /// The joiner of an encoding.
    pub(crate) fn of(encoding: Encoding, kernels: Kernels) -> Self {
        let join = match encoding.codec {
            Codec::Plain => sum::joiner(encoding.dtype, kernels),
        };
        Joiner { encoding, join }
    }

    /// Joins at most [`GROUP`] rows, in order, to the accumulators.
    #[inline]
    pub(crate) fn join(
        &self,
        join: Join,
        rows: &[RowParts<'_>],
        weights: &[f32],
        sums: &mut [f32],
    ) {
        (self.join)(self.encoding, join, rows, weights, sums);
    }
}
