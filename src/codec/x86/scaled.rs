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

use half::bf16;

use super::lanes::{Coded, Codes, LANES, half_at, times, widen};
use crate::codec::float8::e8m0;
use crate::codec::{Codec, Encoding, RowParts, ScaleType};
use crate::dtype::Element;

/// Decodes the elements of a row, a piece with one scale after the other. Sixteen take `BYTES`
/// bytes; `codes` takes them apart into what is right but for the factor `power`.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn decode<O: Element, const BYTES: usize>(
    encoding: Encoding,
    row: RowParts<'_>,
    out: &mut [O],
    power: f32,
    codes: impl Fn(&[u8; BYTES]) -> Codes,
    put: impl Fn(&mut [O; LANES], Coded),
) {
    let Codec::Scaled(scaling) = encoding.codec else {
        return each(row.values, out, |bytes, out| {
            put(out, Coded { codes: codes(bytes), scale: power, bias: None });
        });
    };
    let block = scaling.block as usize;
    let pieces = row.values.chunks_exact(block * BYTES / LANES).zip(out.chunks_exact_mut(block));
    let [mut scales, mut biases] = [[0.0; LANES]; 2];
    for (index, (piece, out)) in pieces.enumerate() {
        let at = index % LANES;
        if at == 0 {
            read(scaling.scale, row.scales, index, &mut scales);
            if let Some(bias) = scaling.bias {
                read(bias, row.biases, index, &mut biases);
            }
        }
        let scale = scales[at];
        // One product for two, where it is as exact: only what overflows takes both.
        let product = scale * power;
        if product.is_infinite() && scale.is_finite() {
            let bias = scaling.bias.map(|_| biases[at]);
            each(piece, out, |bytes, out| {
                let codes = Codes::Numbers(times(widen(codes(bytes)), power));
                put(out, Coded { codes, scale, bias });
            });
        } else if scaling.bias.is_some() {
            let bias = Some(biases[at]);
            each(piece, out, |bytes, out| {
                put(out, Coded { codes: codes(bytes), scale: product, bias });
            });
        } else {
            each(piece, out, |bytes, out| {
                put(out, Coded { codes: codes(bytes), scale: product, bias: None });
            });
        }
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
fn each<O: Element, const BYTES: usize>(
    codes: &[u8],
    out: &mut [O],
    put: impl Fn(&[u8; BYTES], &mut [O; LANES]),
) {
    let (whole, rest) = codes.as_chunks::<BYTES>();
    let (outs, out_rest) = out.as_chunks_mut::<LANES>();
    for (codes, out) in whole.iter().zip(outs) {
        put(codes, out);
    }
    if !out_rest.is_empty() {
        let mut codes = [0; BYTES];
        codes[..rest.len()].copy_from_slice(rest);
        let mut padded = [O::zeroed(); LANES];
        padded[..out_rest.len()].copy_from_slice(out_rest);
        put(&codes, &mut padded);
        out_rest.copy_from_slice(&padded[..out_rest.len()]);
    }
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
    decode(encoding, row, out, 256.0, |bytes| Codes::Halves(e4m3(bytes, true)), put);
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
    decode(encoding, row, out, 128.0, |bytes| Codes::Halves(e4m3(bytes, false)), put);
}

/// Four bits of exponent and three of mantissa in the place that an f16 has for them.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn e4m3(bytes: &[u8; LANES], finite: bool) -> __m256i {
    const NUMBER: i16 = 0x3f80;
    const SIGN: i16 = i16::MIN;
    let wide = _mm256_slli_epi16::<7>(_mm256_cvtepi8_epi16(bytemuck::cast(*bytes)));
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
pub(super) fn f8_e5m2<O: Element>(
    encoding: Encoding,
    row: RowParts<'_>,
    out: &mut [O],
    put: impl Fn(&mut [O; LANES], Coded),
) {
    let codes = |bytes: &[u8; LANES]| {
        Codes::Halves(_mm256_slli_epi16::<8>(_mm256_cvtepu8_epi16(bytemuck::cast(*bytes))))
    };
    decode(encoding, row, out, 1.0, codes, put);
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
    let codes = |bytes: &[u8; LANES]| {
        let bytes: __m128i = bytemuck::cast(*bytes);
        Codes::Numbers([bytes, _mm_unpackhi_epi64(bytes, bytes)].map(|bytes| {
            let wide = _mm256_slli_epi32::<21>(_mm256_cvtepi8_epi32(bytes));
            let sign = _mm256_set1_epi32(i32::MIN);
            let bits = _mm256_and_si256(wide, _mm256_set1_epi32(i32::MIN | 0x0fe0_0000));
            let nan = _mm256_set1_epi32(0x7fc0_0000);
            _mm256_castsi256_ps(_mm256_blendv_epi8(bits, nan, _mm256_cmpeq_epi32(bits, sign)))
        }))
    };
    decode(encoding, row, out, POWER, codes, put);
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn i8<O: Element>(
    encoding: Encoding,
    row: RowParts<'_>,
    out: &mut [O],
    put: impl Fn(&mut [O; LANES], Coded),
) {
    let codes = |bytes: &[u8; LANES]| Codes::Signed(bytemuck::cast(*bytes));
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
    let codes = |bytes: &[u8; LANES]| Codes::Unsigned(bytemuck::cast(*bytes));
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
    let codes = |bytes: &[u8; 8]| {
        let bytes = _mm_cvtepu8_epi16(_mm_cvtsi64_si128(bytemuck::cast(*bytes)));
        let apart = _mm_or_si128(bytes, _mm_slli_epi16::<4>(bytes));
        Codes::Signed(_mm_and_si128(apart, _mm_set1_epi16(0x0f0f)))
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
    let codes = |bytes: &[u8; 12]| {
        let mut padded = [0; LANES];
        padded[..12].copy_from_slice(bytes);
        let bytes = _mm256_broadcastsi128_si256(bytemuck::cast(padded));
        // Each three bytes four times over.
        let three = |first: i32| first | (first + 1) << 8 | (first + 2) << 16 | i32::MIN;
        Codes::Numbers([0, 6].map(|first| {
            let (low, high) = (three(first), three(first + 3));
            let places = _mm256_setr_epi32(low, low, low, low, high, high, high, high);
            six_bits(_mm256_shuffle_epi8(bytes, places))
        }))
    };
    decode(encoding, row, out, 1.0, codes, put);
}

/// Six bits of each 32, other ones in each.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn six_bits(words: __m256i) -> __m256 {
    let places = _mm256_setr_epi32(0, 6, 12, 18, 0, 6, 12, 18);
    let six = _mm256_and_si256(_mm256_srlv_epi32(words, places), _mm256_set1_epi32(63));
    _mm256_cvtepi32_ps(six)
}
