//! Elements of 4, 6 and 8 bits, with a scale and a bias or without.
//!
//! Numbers of 8 bits are widened by way of f16: moved to the place of its exponent and mantissa
//! they are right but for a power of two, subnormals included, and F16C does the rest. Where an
//! f16 has no room for the exponents, the same is done with the bits of an f32.

use std::arch::x86_64::{
    __m128i, __m256, __m256i, _mm_and_si128, _mm_cvtepu8_epi16, _mm_cvtsi64_si128, _mm_or_si128,
    _mm_set1_epi16, _mm_slli_epi16, _mm_unpackhi_epi64, _mm256_add_epi16, _mm256_and_si256,
    _mm256_blendv_epi8, _mm256_broadcastsi128_si256, _mm256_castsi256_ps, _mm256_cmpeq_epi16,
    _mm256_cmpeq_epi32, _mm256_cvtepi8_epi16, _mm256_cvtepi8_epi32, _mm256_cvtepi32_ps,
    _mm256_cvtepu8_epi16, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_setr_epi32,
    _mm256_shuffle_epi8, _mm256_slli_epi16, _mm256_slli_epi32, _mm256_srlv_epi32,
};

use super::lanes::{LANES, Sixteen, biased, halves, scaled, signed, unsigned};
use crate::codec::scaled::{Affine, each_piece};
use crate::codec::{Encoding, RowParts};

/// Decodes the elements of a row, a piece with one scale after the other. Sixteen take `BYTES`
/// bytes; `widen` makes numbers of them that are right but for the factor `power`.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn decode<const BYTES: usize>(
    encoding: Encoding,
    row: RowParts<'_>,
    length: usize,
    power: f32,
    widen: impl Fn(&[u8; BYTES]) -> Sixteen,
    mut put: impl FnMut(usize, usize, Sixteen),
) {
    each_piece(encoding, row, 0..length, |piece, affine| {
        let values = &row.values[piece.start * BYTES / LANES..piece.end * BYTES / LANES];
        let (scale, bias) = match affine {
            Affine::Keep => (1.0, None),
            Affine::Scale(scale) => (scale, None),
            Affine::ScaleBias(scale, bias) => (scale, Some(bias)),
        };
        // One product for two, where it is as exact: only what overflows takes both.
        let product = scale * power;
        let (first, second) = if product.is_finite() || !scale.is_finite() {
            (None, product)
        } else {
            (Some(power), scale)
        };
        let number = |codes: &[u8; BYTES]| {
            let mut numbers = widen(codes);
            if let Some(first) = first {
                numbers = scaled(numbers, first);
            }
            numbers = scaled(numbers, second);
            bias.map_or(numbers, |bias| biased(numbers, bias))
        };
        let (whole, rest) = values.as_chunks::<BYTES>();
        let mut at = piece.start;
        for codes in whole {
            put(at, LANES, number(codes));
            at += LANES;
        }
        if at < piece.end {
            let mut padded = [0; BYTES];
            padded[..rest.len()].copy_from_slice(rest);
            put(at, piece.end - at, number(&padded));
        }
    });
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
pub(super) fn f8_e4m3(
    encoding: Encoding,
    row: RowParts<'_>,
    length: usize,
    put: impl FnMut(usize, usize, Sixteen),
) {
    // The biases are 7 and 15.
    decode(encoding, row, length, 256.0, |codes| halves(e4m3_codes(codes, true)), put);
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn f8_e4m3fnuz(
    encoding: Encoding,
    row: RowParts<'_>,
    length: usize,
    put: impl FnMut(usize, usize, Sixteen),
) {
    // The biases are 8 and 15.
    decode(encoding, row, length, 128.0, |codes| halves(e4m3_codes(codes, false)), put);
}

/// Four bits of exponent and three of mantissa in the place that an f16 has for them.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn e4m3_codes(codes: &[u8; LANES], finite: bool) -> __m256i {
    const NUMBER: i16 = 0x3f80;
    const SIGN: i16 = i16::MIN;
    let wide = _mm256_slli_epi16::<7>(_mm256_cvtepi8_epi16(bytemuck::cast(*codes)));
    let bits = _mm256_and_si256(wide, _mm256_set1_epi16(SIGN | NUMBER));
    if finite {
        let number = _mm256_and_si256(wide, _mm256_set1_epi16(NUMBER));
        with_nan(bits, number, NUMBER, NAN)
    } else {
        with_nan(bits, bits, SIGN, NAN)
    }
}

/// The upper byte of an f16.
#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn f8_e5m2(
    encoding: Encoding,
    row: RowParts<'_>,
    length: usize,
    put: impl FnMut(usize, usize, Sixteen),
) {
    let widen = |codes: &[u8; LANES]| {
        halves(_mm256_slli_epi16::<8>(_mm256_cvtepu8_epi16(bytemuck::cast(*codes))))
    };
    decode(encoding, row, length, 1.0, widen, put);
}

/// As many bits of exponent as an f16 has, all of them for numbers: so by way of an f32.
#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn f8_e5m2fnuz(
    encoding: Encoding,
    row: RowParts<'_>,
    length: usize,
    put: impl FnMut(usize, usize, Sixteen),
) {
    // The biases are 16 and 127.
    const POWER: f32 = f32::from_bits((127 + 127 - 16) << 23);
    let widen = |codes: &[u8; LANES]| {
        let codes: __m128i = bytemuck::cast(*codes);
        [codes, _mm_unpackhi_epi64(codes, codes)].map(|codes| {
            let wide = _mm256_slli_epi32::<21>(_mm256_cvtepi8_epi32(codes));
            let sign = _mm256_set1_epi32(i32::MIN);
            let bits = _mm256_and_si256(wide, _mm256_set1_epi32(i32::MIN | 0x0fe0_0000));
            let nan = _mm256_set1_epi32(0x7fc0_0000);
            _mm256_castsi256_ps(_mm256_blendv_epi8(bits, nan, _mm256_cmpeq_epi32(bits, sign)))
        })
    };
    decode(encoding, row, length, POWER, widen, put);
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn i8(
    encoding: Encoding,
    row: RowParts<'_>,
    length: usize,
    put: impl FnMut(usize, usize, Sixteen),
) {
    let widen = |codes: &[u8; LANES]| signed(bytemuck::cast(*codes));
    decode(encoding, row, length, 1.0, widen, put);
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn u8(
    encoding: Encoding,
    row: RowParts<'_>,
    length: usize,
    put: impl FnMut(usize, usize, Sixteen),
) {
    let widen = |codes: &[u8; LANES]| unsigned(bytemuck::cast(*codes));
    decode(encoding, row, length, 1.0, widen, put);
}

/// Two elements a byte, the lower half first.
#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn u4(
    encoding: Encoding,
    row: RowParts<'_>,
    length: usize,
    put: impl FnMut(usize, usize, Sixteen),
) {
    let widen = |codes: &[u8; 8]| {
        let bytes = _mm_cvtepu8_epi16(_mm_cvtsi64_si128(bytemuck::cast(*codes)));
        let apart = _mm_or_si128(bytes, _mm_slli_epi16::<4>(bytes));
        signed(_mm_and_si128(apart, _mm_set1_epi16(0x0f0f)))
    };
    decode(encoding, row, length, 1.0, widen, put);
}

/// Four elements in three bytes, from the lowest bits on.
#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn u6(
    encoding: Encoding,
    row: RowParts<'_>,
    length: usize,
    put: impl FnMut(usize, usize, Sixteen),
) {
    let widen = |codes: &[u8; 12]| {
        let mut padded = [0; LANES];
        padded[..12].copy_from_slice(codes);
        let codes = _mm256_broadcastsi128_si256(bytemuck::cast(padded));
        // Each three bytes four times over.
        let three = |first: i32| first | (first + 1) << 8 | (first + 2) << 16 | i32::MIN;
        [0, 6].map(|first| {
            let (low, high) = (three(first), three(first + 3));
            let places = _mm256_setr_epi32(low, low, low, low, high, high, high, high);
            six_bits(_mm256_shuffle_epi8(codes, places))
        })
    };
    decode(encoding, row, length, 1.0, widen, put);
}

/// Six bits of each 32, other ones in each.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn six_bits(words: __m256i) -> __m256 {
    let places = _mm256_setr_epi32(0, 6, 12, 18, 0, 6, 12, 18);
    let six = _mm256_and_si256(_mm256_srlv_epi32(words, places), _mm256_set1_epi32(63));
    _mm256_cvtepi32_ps(six)
}
