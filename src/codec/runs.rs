//! Rows of any quantized codec on any CPU, some elements at a time: each codec decodes runs of
//! elements to `f32`, and what an output or a bag needs is made of those in a buffer on the stack.

use half::{bf16, f16};

use super::sum::{Group, Join, join_values};
use super::{Encoding, Recipe, RowParts, blocks, plain, scaled};
use crate::codec::kernels::prefetch;
use crate::dtype::{DType, Element};

/// The elements of a run: whole blocks of every codec.
pub(super) const RUN: usize = 256;

/// The cache lines of a row that are asked for ahead: decoding takes longer than reading.
const LINES: usize = 4;

/// Decodes elements of one row to `f32`: as many as the output holds, from an index on that is
/// a multiple of [`RUN`].
pub(crate) type DecodeRun = fn(Encoding, RowParts<'_>, usize, &mut [f32]);

/// The function that decodes runs of a dtype.
pub(super) fn run_of(dtype: DType) -> DecodeRun {
    match dtype {
        DType::F32 => convert_run::<f32>,
        DType::F16 => convert_run::<f16>,
        DType::BF16 => convert_run::<bf16>,
        DType::F64 => convert_run::<f64>,
        _ => scaled::run_of(dtype).or(blocks::run_of(dtype)).unwrap_or(convert_run::<u8>),
    }
}

fn convert_run<S: Element>(_: Encoding, row: RowParts<'_>, start: usize, out: &mut [f32]) {
    plain::convert_values::<S, f32>(&row.values[start * size_of::<S>()..], out);
}

/// Decodes a row, run by run, and rounds each number once.
pub(super) fn decode<O: Element>(recipe: Recipe, row: RowParts<'_>, out: &mut [O]) {
    if O::DTYPE == DType::F32 {
        return (recipe.run)(recipe.encoding, row, 0, bytemuck::cast_slice_mut(out));
    }
    let narrow = plain::decoder::<O>(DType::F32, recipe.kernels);
    let mut buffer = [0.0; RUN];
    for (start, out) in (0..).step_by(RUN).zip(out.chunks_mut(RUN)) {
        let run = &mut buffer[..out.len()];
        (recipe.run)(recipe.encoding, row, start, run);
        narrow(recipe, RowParts::of(bytemuck::cast_slice(run)), out);
    }
}

/// Joins rows, run by run and one after the other.
pub(super) fn join(recipe: Recipe, join: Join, group: Group<'_>, sums: &mut [f32]) {
    group.coming.iter().for_each(|row| prefetch(row, LINES));
    let mut buffer = [0.0; RUN];
    for (start, sums) in (0..).step_by(RUN).zip(sums.chunks_mut(RUN)) {
        for (index, row) in group.rows().enumerate() {
            let run = &mut buffer[..sums.len()];
            (recipe.run)(recipe.encoding, row, start, run);
            join_values(join, run, group.weights.get(index).copied(), sums);
        }
    }
}
