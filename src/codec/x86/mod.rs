//! Kernels for x86-64, each with a portable twin that the tests compare it with.

mod blocks;
mod convert;
mod copy;
mod dot;
mod lanes;
mod large;
mod quantized;
mod scaled;
mod sum;
mod tables;
mod wide;

pub(super) use convert::decoder;
pub(super) use copy::{prefetch, prefetch_at, stream_copy, stream_fence};
pub(super) use dot::multiplier;
pub(super) use sum::joiner;
