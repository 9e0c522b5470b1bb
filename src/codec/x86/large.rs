//! The blocks of GGUF that hold 256 elements, whose scales are quantized too.
//!
//! All scales of a block are taken apart at once, in a general register, and widened; then
//! 32 codes at a time, as in `blocks.rs`.

use std::arch::x86_64::{
    __m128i, __m256i, _mm_cvtsi64_si128, _mm_set1_epi8, _mm_sub_epi8, _mm256_and_si256,
    _mm256_castsi256_si128, _mm256_extracti128_si256, _mm256_mul_ps, _mm256_or_si256,
    _mm256_set1_epi8, _mm256_set1_ps, _mm256_slli_epi16, _mm256_srli_epi16, _mm256_sub_epi8,
};

use super::blocks::{nibbles, sixteen_at, uneven};
use super::lanes::{Coded, Codes, LANES, half_at, times, widen};
use crate::codec::{Encoding, RowParts};
use crate::dtype::Element;

/// The elements of a block.
const BLOCK: usize = 256;

/// The elements or accumulators of a block, sixteen by sixteen.
type Outs<'a, O> = std::slice::IterMut<'a, [O; LANES]>;

/// Decodes blocks one after the other: `each` is given where the elements of one belong.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn each_block<O: Element, const BYTES: usize>(
    row: RowParts<'_>,
    out: &mut [O],
    each: impl Fn(&[u8; BYTES], Outs<'_, O>),
) {
    let (blocks, _) = row.values.as_chunks::<BYTES>();
    for (block, out) in blocks.iter().zip(out.as_chunks_mut::<BLOCK>().0) {
        each(block, out.as_chunks_mut().0.iter_mut());
    }
}

/// 32 bytes of a block.
#[inline]
fn bytes_at(block: &[u8], at: usize) -> __m256i {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(&block[at..at + 32]);
    bytemuck::cast(bytes)
}

#[inline]
fn word_at(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
}

/// Some bits of each byte, from the lowest on; bits from the byte above are cut off.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn low_bits(bytes: __m256i, mask: i8) -> __m256i {
    _mm256_and_si256(bytes, _mm256_set1_epi8(mask))
}

/// The lower sixteen of 32 bytes, and the upper ones.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn sixteens(bytes: __m256i) -> [__m128i; 2] {
    [_mm256_castsi256_si128(bytes), _mm256_extracti128_si256::<1>(bytes)]
}

#[inline]
fn coded(codes: __m128i, scale: f32, bias: Option<f32>) -> Coded {
    Coded { codes: Codes::Signed(codes), scale, bias }
}

/// Sixteen scales of a block, times the one that they share.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn scales_of(codes: __m128i, shared: f32) -> [f32; LANES] {
    bytemuck::cast(times(widen(Codes::Signed(codes)), shared))
}

/// Four bytes of four bits each: those at a place in the words that hold them.
#[inline]
fn fours(word: u32, shift: u32) -> u32 {
    word >> shift & 0x0f0f_0f0f
}

/// Two bits of each byte of a word, four places up.
#[inline]
fn twos_up(word: u32, shift: u32) -> u32 {
    (word >> shift & 0x0303_0303) << 4
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn q2_k<O: Element>(
    _: Encoding,
    row: RowParts<'_>,
    out: &mut [O],
    put: impl Fn(&mut [O; LANES], Coded),
) {
    each_block(row, out, |block: &[u8; 84], mut outs| {
        let [scales, minima] = nibbles(sixteen_at(block, 0));
        let scales = scales_of(scales, half_at(block, 80));
        let minima = scales_of(minima, half_at(block, 82));
        let mut pairs = scales.into_iter().zip(minima);
        for half in [16, 48] {
            let mut bits = bytes_at(block, half);
            for _ in 0..4 {
                let codes = sixteens(low_bits(bits, 3));
                for ((codes, (scale, minimum)), out) in
                    codes.into_iter().zip(&mut pairs).zip(&mut outs)
                {
                    put(out, coded(codes, scale, Some(-minimum)));
                }
                bits = _mm256_srli_epi16::<2>(bits);
            }
        }
    });
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn q3_k<O: Element>(
    _: Encoding,
    row: RowParts<'_>,
    out: &mut [O],
    put: impl Fn(&mut [O; LANES], Coded),
) {
    each_block(row, out, |block: &[u8; 110], mut outs| {
        let (low, middle, high) = (word_at(block, 96), word_at(block, 100), word_at(block, 104));
        let scales = bytemuck::cast([
            fours(low, 0) | twos_up(high, 0),
            fours(middle, 0) | twos_up(high, 2),
            fours(low, 4) | twos_up(high, 4),
            fours(middle, 4) | twos_up(high, 6),
        ]);
        let scales = _mm_sub_epi8(scales, _mm_set1_epi8(32));
        let scales = scales_of(scales, half_at(block, 108));
        let mut third = bytes_at(block, 0);
        let mut scales = scales.into_iter();
        for half in [32, 64] {
            let mut bits = bytes_at(block, half);
            for _ in 0..4 {
                let upper = _mm256_slli_epi16::<2>(low_bits(third, 1));
                let codes = _mm256_or_si256(low_bits(bits, 3), upper);
                let codes = sixteens(_mm256_sub_epi8(codes, _mm256_set1_epi8(4)));
                for ((codes, scale), out) in codes.into_iter().zip(&mut scales).zip(&mut outs) {
                    put(out, coded(codes, scale, None));
                }
                bits = _mm256_srli_epi16::<2>(bits);
                third = _mm256_srli_epi16::<1>(third);
            }
        }
    });
}

/// The eight scales and then the eight minima of `q4_k` and `q5_k`, 6 bits each in 12 bytes.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn scales_and_minima(block: &[u8]) -> [[f32; 8]; 2] {
    let (scales, minima, rest) = (word_at(block, 4), word_at(block, 8), word_at(block, 12));
    let six_bits = 0x3f3f_3f3f;
    let packed: __m128i = bytemuck::cast([
        scales & six_bits,
        fours(rest, 0) | twos_up(scales, 6),
        minima & six_bits,
        fours(rest, 4) | twos_up(minima, 6),
    ]);
    let [scales, minima] = widen(Codes::Unsigned(packed));
    let shared = [half_at(block, 0), half_at(block, 2)].map(|shared| _mm256_set1_ps(shared));
    bytemuck::cast([_mm256_mul_ps(shared[0], scales), _mm256_mul_ps(shared[1], minima)])
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn q4_k<O: Element>(
    _: Encoding,
    row: RowParts<'_>,
    out: &mut [O],
    put: impl Fn(&mut [O; LANES], Coded),
) {
    each_block(row, out, |block: &[u8; 144], mut outs| {
        let [scales, minima] = scales_and_minima(block);
        for pair in 0..4 {
            let bits = bytes_at(block, 16 + 32 * pair);
            let codes = [low_bits(bits, 15), low_bits(_mm256_srli_epi16::<4>(bits), 15)];
            for (at, codes) in (2 * pair..).zip(codes) {
                put_32(&mut outs, codes, scales[at], minima[at], &put);
            }
        }
    });
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn q5_k<O: Element>(
    _: Encoding,
    row: RowParts<'_>,
    out: &mut [O],
    put: impl Fn(&mut [O; LANES], Coded),
) {
    each_block(row, out, |block: &[u8; 176], mut outs| {
        let [scales, minima] = scales_and_minima(block);
        let mut fifth = bytes_at(block, 16);
        for pair in 0..4 {
            let bits = bytes_at(block, 48 + 32 * pair);
            let codes = [low_bits(bits, 15), low_bits(_mm256_srli_epi16::<4>(bits), 15)];
            for (at, codes) in (2 * pair..).zip(codes) {
                let codes = _mm256_or_si256(codes, _mm256_slli_epi16::<4>(low_bits(fifth, 1)));
                put_32(&mut outs, codes, scales[at], minima[at], &put);
                fifth = _mm256_srli_epi16::<1>(fifth);
            }
        }
    });
}

/// 32 elements with one scale and one minimum, which is taken away.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn put_32<O: Element>(
    outs: &mut Outs<'_, O>,
    codes: __m256i,
    scale: f32,
    minimum: f32,
    put: &impl Fn(&mut [O; LANES], Coded),
) {
    for (codes, out) in sixteens(codes).into_iter().zip(outs) {
        put(out, coded(codes, scale, Some(-minimum)));
    }
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn q6_k<O: Element>(
    _: Encoding,
    row: RowParts<'_>,
    out: &mut [O],
    put: impl Fn(&mut [O; LANES], Coded),
) {
    each_block(row, out, |block: &[u8; 210], mut outs| {
        let scales = scales_of(sixteen_at(block, 192), half_at(block, 208));
        let mut scales = scales.into_iter();
        for half in 0..2 {
            let low = [bytes_at(block, 64 * half), bytes_at(block, 64 * half + 32)];
            let mut upper = bytes_at(block, 128 + 32 * half);
            let high = low.map(|low| _mm256_srli_epi16::<4>(low));
            for lower in [low[0], low[1], high[0], high[1]] {
                let upper_bits = _mm256_slli_epi16::<4>(low_bits(upper, 3));
                let codes = _mm256_or_si256(low_bits(lower, 15), upper_bits);
                let codes = sixteens(_mm256_sub_epi8(codes, _mm256_set1_epi8(32)));
                for ((codes, scale), out) in codes.into_iter().zip(&mut scales).zip(&mut outs) {
                    put(out, coded(codes, scale, None));
                }
                upper = _mm256_srli_epi16::<2>(upper);
            }
        }
    });
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn iq4_xs<O: Element>(
    _: Encoding,
    row: RowParts<'_>,
    out: &mut [O],
    put: impl Fn(&mut [O; LANES], Coded),
) {
    each_block(row, out, |block: &[u8; 136], mut outs| {
        // Scale i has its lower four bits in half a byte, and its upper two elsewhere.
        let (low, high) = (word_at(block, 4), u32::from(block[2]) | u32::from(block[3]) << 8);
        let mut packed = [0; 8];
        for (at, packed) in (0u32..).zip(&mut packed) {
            let six = (low >> (4 * at) & 15) | (high >> (2 * at) & 3) << 4;
            #[expect(clippy::cast_possible_truncation, reason = "6 bits")]
            let six = six as u8;
            *packed = six;
        }
        let scales = _mm_cvtsi64_si128(i64::from_le_bytes(packed));
        let scales = _mm_sub_epi8(scales, _mm_set1_epi8(32));
        let scales = scales_of(scales, half_at(block, 0));
        for (at, scale) in (8..).step_by(16).zip(&scales[..8]) {
            let codes = uneven(nibbles(sixteen_at(block, at)));
            for (codes, out) in codes.into_iter().zip(&mut outs) {
                put(out, coded(codes, *scale, None));
            }
        }
    });
}
