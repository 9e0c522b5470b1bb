//! Elements of 4, 6 and 8 bits, with a scale and a bias or without.
//!
//! Numbers of 8 bits are widened by way of f16: moved to the place of its exponent and mantissa
//! they are right but for a power of two, subnormals included, and F16C does the rest. Where an
//! f16 has no room for the exponents, the same is done with the bits of an f32.

use std::arch::x86_64::{
    __m128i, __m256, __m256i, _mm_unpackhi_epi8, _mm_unpackhi_epi64, _mm_unpacklo_epi8,
    _mm256_add_epi16, _mm256_and_si256, _mm256_blendv_epi8, _mm256_broadcastsi128_si256,
    _mm256_castsi256_ps, _mm256_cmpeq_epi16, _mm256_cmpeq_epi32, _mm256_cvtepi8_epi16,
    _mm256_cvtepi8_epi32, _mm256_cvtepi32_ps, _mm256_cvtepu8_epi16, _mm256_set1_epi16,
    _mm256_set1_epi32, _mm256_setr_epi32, _mm256_shuffle_epi8, _mm256_slli_epi16,
    _mm256_slli_epi32, _mm256_srlv_epi32,
};

use half::bf16;

use super::blocks::nibbles;
use super::lanes::{Coded, Codes, LANES, half_at, times, widen};
use crate::codec::float8::e8m0;
use crate::codec::{Codec, Encoding, RowParts, ScaleType, Scaling};
use crate::dtype::Element;

/// Sixteen codes that are off by a factor, with their scale and bias.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn coded(codes: Codes, power: f32, scale: f32, bias: Option<f32>) -> Coded {
    // One product for two, where it is as exact: only what overflows takes both.
    let product = scale * power;
    if product.is_infinite() && scale.is_finite() {
        return Coded { codes: Codes::Numbers(times(widen(codes), power)), scale, bias };
    }
    Coded { codes, scale: product, bias }
}

/// Decodes the elements of a row. `codes` takes `BYTES` bytes apart into `GROUPS` times sixteen
/// elements, which are right but for the factor `power`.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn decode<O: Element, const BYTES: usize, const GROUPS: usize>(
    encoding: Encoding,
    row: RowParts<'_>,
    out: &mut [O],
    power: f32,
    codes: impl Fn(&[u8; BYTES]) -> [Codes; GROUPS],
    put: impl Fn(&mut [O; LANES], Coded),
) {
    let Codec::Scaled(scaling) = encoding.codec else {
        return each(row.values, out, codes, |out, codes| {
            put(out, Coded { codes, scale: power, bias: None });
        });
    };
    let block = scaling.block as usize;
    if block == out.len() {
        let (scale, bias) = of_row(scaling, row);
        each(row.values, out, codes, |out, codes| put(out, coded(codes, power, scale, bias)));
    } else if block.is_multiple_of(GROUPS * LANES) {
        let steps = block / (GROUPS * LANES);
        let outs = out.as_chunks_mut::<LANES>().0.as_chunks_mut::<GROUPS>().0;
        let mut left = row.values.as_chunks::<BYTES>().0.iter().zip(outs);
        each_block(scaling, row, |scale, bias| {
            for (bytes, outs) in left.by_ref().take(steps) {
                for (codes, out) in codes(bytes).into_iter().zip(outs) {
                    put(out, coded(codes, power, scale, bias));
                }
            }
        });
    } else {
        let (mut values, mut outs) = (row.values, out);
        each_block(scaling, row, |scale, bias| {
            let (piece, others) = values.split_at(block * BYTES / (GROUPS * LANES));
            let (own, other_outs) = std::mem::take(&mut outs).split_at_mut(block);
            (values, outs) = (others, other_outs);
            each(piece, own, &codes, |out, codes| put(out, coded(codes, power, scale, bias)));
        });
    }
}

/// The scale and the bias of a row that has one for all.
#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn of_row(scaling: Scaling, row: RowParts<'_>) -> (f32, Option<f32>) {
    let first = |kind: ScaleType, scales: &[u8]| match (kind, scales) {
        (ScaleType::F32, [a, b, c, d, ..]) => f32::from_le_bytes([*a, *b, *c, *d]),
        (ScaleType::F16, [_, _, ..]) => half_at(scales, 0),
        _ => kind.read(scales, 0),
    };
    (first(scaling.scale, row.scales), scaling.bias.map(|bias| first(bias, row.biases)))
}

/// Calls `each` with every scale and its bias, in order; sixteen are widened at once.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn each_block(scaling: Scaling, row: RowParts<'_>, mut each: impl FnMut(f32, Option<f32>)) {
    let [mut scales, mut biases] = [[0.0; LANES]; 2];
    let (mut done, count) = (0, row.scales.len() / scaling.scale.size());
    while done < count {
        let here = (count - done).min(LANES);
        read(scaling.scale, row.scales, done, &mut scales);
        if let Some(bias) = scaling.bias {
            read(bias, row.biases, done, &mut biases);
        }
        for (scale, bias) in scales[..here].iter().zip(&biases) {
            each(*scale, scaling.bias.map(|_| *bias));
        }
        done += here;
    }
}

/// Reads scales from an index on, as many as there are of sixteen.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn read(kind: ScaleType, scales: &[u8], index: usize, out: &mut [f32; LANES]) {
    let scales = &scales[index * kind.size()..];
    match kind {
        ScaleType::F32 => each_of(scales, out, |bytes| f32::from_le_bytes(*bytes)),
        ScaleType::F16 => each_of(scales, out, |bytes: &[u8; 2]| half_at(bytes, 0)),
        ScaleType::BF16 => each_of(scales, out, |bytes| bf16::from_le_bytes(*bytes).to_f32()),
        ScaleType::E8M0 => each_of(scales, out, |[code]: &[u8; 1]| e8m0(*code)),
    }
}

/// Reads numbers that take `BYTES` bytes each, as many as there are and fit.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn each_of<const BYTES: usize>(
    scales: &[u8],
    out: &mut [f32; LANES],
    number: impl Fn(&[u8; BYTES]) -> f32,
) {
    for (out, bytes) in out.iter_mut().zip(scales.as_chunks().0) {
        *out = number(bytes);
    }
}

/// Calls `put` for each sixteen elements of a piece and their codes; for a rest with what is
/// there, padded.
#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn each<O: Element, const BYTES: usize, const GROUPS: usize>(
    bytes: &[u8],
    out: &mut [O],
    codes: impl Fn(&[u8; BYTES]) -> [Codes; GROUPS],
    put: impl Fn(&mut [O; LANES], Codes),
) {
    let (whole, rest) = bytes.as_chunks::<BYTES>();
    let (outs, out_rest) = out.split_at_mut(whole.len() * GROUPS * LANES);
    let (outs, _) = outs.as_chunks_mut::<LANES>();
    for (bytes, outs) in whole.iter().zip(outs.as_chunks_mut::<GROUPS>().0) {
        for (codes, out) in codes(bytes).into_iter().zip(outs) {
            put(out, codes);
        }
    }
    if rest.is_empty() {
        return;
    }
    let mut padded = [0; BYTES];
    padded[..rest.len()].copy_from_slice(rest);
    let (outs, out_rest) = out_rest.as_chunks_mut::<LANES>();
    let mut codes = codes(&padded).into_iter();
    for (codes, out) in codes.by_ref().take(outs.len()).zip(outs) {
        put(out, codes);
    }
    if let (Some(codes), 1..) = (codes.next(), out_rest.len()) {
        let mut padded = [O::zeroed(); LANES];
        padded[..out_rest.len()].copy_from_slice(out_rest);
        put(&mut padded, codes);
        out_rest.copy_from_slice(&padded[..out_rest.len()]);
    }
}

/// Takes twice sixteen elements apart.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn twice<const BYTES: usize, const HALF: usize>(
    bytes: &[u8; BYTES],
    codes: impl Fn([u8; HALF]) -> Codes,
) -> [Codes; 2] {
    let (low, high) = bytes.split_at(HALF);
    let half = |bytes: &[u8]| {
        let mut half = [0; HALF];
        half.copy_from_slice(bytes);
        half
    };
    [codes(half(low)), codes(half(high))]
}

/// Where `code` is one of the 16 bits of `codes`, `nan` takes its place.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn with_nan(codes: __m256i, masked: __m256i, code: i16, nan: i16) -> __m256i {
    let is_nan = _mm256_cmpeq_epi16(masked, _mm256_set1_epi16(code));
    let difference = _mm256_set1_epi16(nan.wrapping_sub(code));
    _mm256_add_epi16(codes, _mm256_and_si256(is_nan, difference))
}

/// The bits of the f16 NaN that is quiet and has no payload.
const NAN: i16 = 0x7e00;

#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn f8_e4m3<O: Element>(
    encoding: Encoding,
    row: RowParts<'_>,
    out: &mut [O],
    put: impl Fn(&mut [O; LANES], Coded),
) {
    // The biases are 7 and 15.
    decode(
        encoding,
        row,
        out,
        256.0,
        |bytes: &[u8; 32]| twice(bytes, |bytes| e4m3(bytes, true)),
        put,
    );
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn f8_e4m3fnuz<O: Element>(
    encoding: Encoding,
    row: RowParts<'_>,
    out: &mut [O],
    put: impl Fn(&mut [O; LANES], Coded),
) {
    // The biases are 8 and 15.
    decode(
        encoding,
        row,
        out,
        128.0,
        |bytes: &[u8; 32]| twice(bytes, |bytes| e4m3(bytes, false)),
        put,
    );
}

/// Four bits of exponent and three of mantissa in the place that an f16 has for them.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn e4m3(bytes: [u8; LANES], finite: bool) -> Codes {
    const NUMBER: i16 = 0x3f80;
    const SIGN: i16 = i16::MIN;
    let wide = _mm256_slli_epi16::<7>(_mm256_cvtepi8_epi16(bytemuck::cast(bytes)));
    let bits = _mm256_and_si256(wide, _mm256_set1_epi16(SIGN | NUMBER));
    Codes::Halves(if finite {
        let number = _mm256_and_si256(wide, _mm256_set1_epi16(NUMBER));
        with_nan(bits, number, NUMBER, NAN)
    } else {
        with_nan(bits, bits, SIGN, NAN)
    })
}

/// The upper byte of an f16.
#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn f8_e5m2<O: Element>(
    encoding: Encoding,
    row: RowParts<'_>,
    out: &mut [O],
    put: impl Fn(&mut [O; LANES], Coded),
) {
    let codes = |bytes: [u8; LANES]| {
        Codes::Halves(_mm256_slli_epi16::<8>(_mm256_cvtepu8_epi16(bytemuck::cast(bytes))))
    };
    decode(encoding, row, out, 1.0, |bytes: &[u8; 32]| twice(bytes, codes), put);
}

/// As many bits of exponent as an f16 has, all of them for numbers: so by way of an f32.
#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn f8_e5m2fnuz<O: Element>(
    encoding: Encoding,
    row: RowParts<'_>,
    out: &mut [O],
    put: impl Fn(&mut [O; LANES], Coded),
) {
    // The biases are 16 and 127.
    const POWER: f32 = f32::from_bits((127 + 127 - 16) << 23);
    let codes = |bytes: [u8; LANES]| {
        let bytes: __m128i = bytemuck::cast(bytes);
        Codes::Numbers([bytes, _mm_unpackhi_epi64(bytes, bytes)].map(|bytes| {
            let wide = _mm256_slli_epi32::<21>(_mm256_cvtepi8_epi32(bytes));
            let sign = _mm256_set1_epi32(i32::MIN);
            let bits = _mm256_and_si256(wide, _mm256_set1_epi32(i32::MIN | 0x0fe0_0000));
            let nan = _mm256_set1_epi32(0x7fc0_0000);
            _mm256_castsi256_ps(_mm256_blendv_epi8(bits, nan, _mm256_cmpeq_epi32(bits, sign)))
        }))
    };
    decode(encoding, row, out, POWER, |bytes: &[u8; 32]| twice(bytes, codes), put);
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn i8<O: Element>(
    encoding: Encoding,
    row: RowParts<'_>,
    out: &mut [O],
    put: impl Fn(&mut [O; LANES], Coded),
) {
    let codes = |bytes: &[u8; 2 * LANES]| bytemuck::cast::<_, [_; 2]>(*bytes).map(Codes::Signed);
    decode(encoding, row, out, 1.0, codes, put);
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn u8<O: Element>(
    encoding: Encoding,
    row: RowParts<'_>,
    out: &mut [O],
    put: impl Fn(&mut [O; LANES], Coded),
) {
    let codes = |bytes: &[u8; 2 * LANES]| bytemuck::cast::<_, [_; 2]>(*bytes).map(Codes::Unsigned);
    decode(encoding, row, out, 1.0, codes, put);
}

/// Two elements a byte, the lower half first.
#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn u4<O: Element>(
    encoding: Encoding,
    row: RowParts<'_>,
    out: &mut [O],
    put: impl Fn(&mut [O; LANES], Coded),
) {
    let codes = |bytes: &[u8; LANES]| {
        let [low, high] = nibbles(bytemuck::cast(*bytes));
        [_mm_unpacklo_epi8(low, high), _mm_unpackhi_epi8(low, high)].map(Codes::Signed)
    };
    decode(encoding, row, out, 1.0, codes, put);
}

/// Four elements in three bytes, from the lowest bits on.
#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn u6<O: Element>(
    encoding: Encoding,
    row: RowParts<'_>,
    out: &mut [O],
    put: impl Fn(&mut [O; LANES], Coded),
) {
    let codes = |bytes: [u8; 12]| {
        let mut padded = [0; LANES];
        padded[..12].copy_from_slice(&bytes);
        let bytes = _mm256_broadcastsi128_si256(bytemuck::cast(padded));
        // Each three bytes four times over.
        let three = |first: i32| first | (first + 1) << 8 | (first + 2) << 16 | i32::MIN;
        Codes::Numbers([0, 6].map(|first| {
            let (low, high) = (three(first), three(first + 3));
            let places = _mm256_setr_epi32(low, low, low, low, high, high, high, high);
            six_bits(_mm256_shuffle_epi8(bytes, places))
        }))
    };
    decode(encoding, row, out, 1.0, |bytes: &[u8; 24]| twice(bytes, codes), put);
}

/// Six bits of each 32, other ones in each.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn six_bits(words: __m256i) -> __m256 {
    let places = _mm256_setr_epi32(0, 6, 12, 18, 0, 6, 12, 18);
    let six = _mm256_and_si256(_mm256_srlv_epi32(words, places), _mm256_set1_epi32(63));
    _mm256_cvtepi32_ps(six)
}
