//! How one row's bytes become numbers.

mod blocks;
mod dot;
mod encoding;
mod float8;
mod kernels;
mod plain;
mod quantize;
mod runs;
mod scaled;
mod sum;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(crate) use dot::{GROUP as ROWS_AT_ONCE, Multiplier, Norms};
pub(crate) use encoding::Encoding;
pub use encoding::{Codec, ScaleType, Scaling};
pub(crate) use kernels::{Kernels, prefetch, prefetch_at, stream_fence};
pub(crate) use plain::{count_non_finite, stream};
pub use quantize::Loss;
pub(crate) use quantize::{LossSum, Quantizer};
pub(crate) use runs::DecodeRun;
pub(crate) use sum::{GROUP, Group, Join};

use crate::dtype::Element;

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

/// What decoding needs to know, besides the row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recipe {
    pub(crate) encoding: Encoding,
    /// What decodes runs of elements to `f32`.
    run: DecodeRun,
    kernels: Kernels,
}

impl Recipe {
    fn of(encoding: Encoding, kernels: Kernels) -> Self {
        Recipe { encoding, run: runs::run_of(encoding.dtype), kernels }
    }
}

/// Decodes one row into as many elements as the output holds.
pub(crate) type Decode<O> = fn(Recipe, RowParts<'_>, &mut [O]);

/// What decodes the rows of a table, chosen once for many rows.
pub(crate) struct Decoder<O> {
    recipe: Recipe,
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
        Decoder { recipe: Recipe::of(encoding, Kernels::Portable), decode }
    }

    /// Decodes one row into as many elements as `out` holds.
    #[inline]
    pub(crate) fn decode(&self, row: RowParts<'_>, out: &mut [O]) {
        (self.decode)(self.recipe, row, out);
    }
}

impl<O: Element> Decoder<O> {
    /// The decoder of an encoding.
    pub(crate) fn of(encoding: Encoding, kernels: Kernels) -> Self {
        let decode = plain::decoder(encoding.dtype, kernels);
        Decoder { recipe: Recipe::of(encoding, kernels), decode }
    }
}

/// Joins at most [`GROUP`] rows, in order, to the accumulators.
pub(crate) type JoinRows = fn(Recipe, Join, Group<'_>, &mut [f32]);

/// What joins the rows of a table into one, chosen once for many rows.
#[derive(Clone, Copy)]
pub(crate) struct Joiner {
    recipe: Recipe,
    join: JoinRows,
}

impl Joiner {
    /// The joiner of an encoding.
    pub(crate) fn of(encoding: Encoding, kernels: Kernels) -> Self {
        let join = sum::joiner(encoding.dtype, kernels);
        Joiner { recipe: Recipe::of(encoding, kernels), join }
    }

    /// Joins at most [`GROUP`] rows, in order, to the accumulators.
    #[inline]
    pub(crate) fn join(&self, join: Join, group: Group<'_>, sums: &mut [f32]) {
        (self.join)(self.recipe, join, group, sums);
    }
}
