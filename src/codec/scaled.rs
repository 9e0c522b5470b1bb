//! Elements of 4, 6 and 8 bits, with a scale and a bias or without.
//!
//! The row-wise layout of FBGEMM (values, then scale and bias in the row) and the affine groups
//! of MLX (`value = element * scale + bias`, elements packed from the lowest bits on) are both
//! this, read from wherever their parts lie.

use std::ops::Range;

use super::float8::{E4M3, E4M3_FNUZ, E5M2, E5M2_FNUZ};
use super::runs::DecodeRun;
use super::{Codec, Encoding, RowParts};
use crate::dtype::DType;

/// The function that decodes elements of a dtype, or `None` for those that are no such.
pub(super) fn run_of(dtype: DType) -> Option<DecodeRun> {
    Some(match dtype {
        DType::F8E4M3 => decode_run::<Float8<0>>,
        DType::F8E5M2 => decode_run::<Float8<1>>,
        DType::F8E4M3Fnuz => decode_run::<Float8<2>>,
        DType::F8E5M2Fnuz => decode_run::<Float8<3>>,
        DType::I8 => decode_run::<Int8>,
        DType::U8 => decode_run::<Uint8>,
        DType::U4 => decode_run::<Uint4>,
        DType::U6 => decode_run::<Uint6>,
        _ => return None,
    })
}

/// How to read one element among others.
trait Packed {
    /// The element at an index, as a number.
    fn get(values: &[u8], index: usize) -> f32;
}

/// The numbers of one of the 8-bit floating-point dtypes.
struct Float8<const TABLE: usize>;

impl<const TABLE: usize> Packed for Float8<TABLE> {
    #[inline]
    fn get(values: &[u8], index: usize) -> f32 {
        let table = const { [&E4M3, &E5M2, &E4M3_FNUZ, &E5M2_FNUZ][TABLE] };
        table[usize::from(values[index])]
    }
}

struct Int8;

impl Packed for Int8 {
    #[inline]
    fn get(values: &[u8], index: usize) -> f32 {
        f32::from(values[index].cast_signed())
    }
}

struct Uint8;

impl Packed for Uint8 {
    #[inline]
    fn get(values: &[u8], index: usize) -> f32 {
        f32::from(values[index])
    }
}

struct Uint4;

impl Packed for Uint4 {
    #[inline]
    fn get(values: &[u8], index: usize) -> f32 {
        f32::from((values[index / 2] >> (4 * (index % 2))) & 15)
    }
}

struct Uint6;

impl Packed for Uint6 {
    #[inline]
    fn get(values: &[u8], index: usize) -> f32 {
        let start = index / 4 * 3;
        let four = u32::from_le_bytes([values[start], values[start + 1], values[start + 2], 0]);
        #[expect(clippy::cast_precision_loss, reason = "6 bits")]
        let element = (four >> (6 * (index % 4)) & 63) as f32;
        element
    }
}

/// What becomes of an element.
#[derive(Debug, Clone, Copy)]
pub(super) enum Affine {
    Keep,
    Scale(f32),
    ScaleBias(f32, f32),
}

/// Cuts a run of elements where scales change: `each` is given the elements of a piece, as
/// indices in the row, and what becomes of them.
#[inline]
pub(super) fn each_piece(
    encoding: Encoding,
    row: RowParts<'_>,
    run: Range<usize>,
    mut each: impl FnMut(Range<usize>, Affine),
) {
    let Codec::Scaled(scaling) = encoding.codec else { return each(run, Affine::Keep) };
    let length = (scaling.block as usize).max(1);
    let mut block = run.start / length;
    let mut at = run.start;
    while at < run.end {
        let end = run.end.min((block + 1) * length);
        let scale = scaling.scale.read(row.scales, block);
        let affine = match scaling.bias {
            None => Affine::Scale(scale),
            Some(bias) => Affine::ScaleBias(scale, bias.read(row.biases, block)),
        };
        each(at..end, affine);
        (at, block) = (end, block + 1);
    }
}

/// The oracle: one element after the other.
fn decode_run<P: Packed>(encoding: Encoding, row: RowParts<'_>, start: usize, out: &mut [f32]) {
    each_piece(encoding, row, start..start + out.len(), |piece, affine| {
        let outs = &mut out[piece.start - start..piece.end - start];
        decode_piece::<P>(row.values, piece.start, affine, outs);
    });
}

/// Decodes the elements of one piece, from an index in the row on.
#[inline]
fn decode_piece<P: Packed>(values: &[u8], start: usize, affine: Affine, out: &mut [f32]) {
    match affine {
        Affine::Keep => each_element::<P>(values, start, out, |element| element),
        Affine::Scale(scale) => each_element::<P>(values, start, out, |element| element * scale),
        Affine::ScaleBias(scale, bias) => {
            each_element::<P>(values, start, out, |element| element * scale + bias);
        }
    }
}

#[inline]
fn each_element<P: Packed>(
    values: &[u8],
    start: usize,
    out: &mut [f32],
    value: impl Fn(f32) -> f32,
) {
    for (index, out) in (start..).zip(out) {
        *out = value(P::get(values, index));
    }
}
