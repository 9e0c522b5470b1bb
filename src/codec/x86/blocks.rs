//! The blocks of GGUF that hold 32 elements and a scale.
//!
//! Codes are taken apart as bytes, made signed where the type asks for it, and widened; the
//! order of operations is that of the twins in `codec/blocks.rs`.

use std::arch::x86_64::{
    __m128i, _mm_and_si128, _mm_cmpeq_epi8, _mm_or_si128, _mm_set_epi64x, _mm_set1_epi8,
    _mm_set1_epi32, _mm_set1_epi64x, _mm_shuffle_epi8, _mm_srli_epi16, _mm_sub_epi8,
};

use super::lanes::{Coded, Codes, LANES, half_at};
use crate::codec::blocks::UNEVEN;
use crate::codec::{Encoding, RowParts};
use crate::dtype::Element;

/// The elements of a block.
const BLOCK: usize = 32;

/// Sixteen codes, and sixteen more.
pub(super) type Bytes = [__m128i; 2];

/// Decodes blocks: `parts` takes one apart into its codes, its scale and its minimum.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn decode<O: Element, const BYTES: usize>(
    row: RowParts<'_>,
    out: &mut [O],
    parts: impl Fn(&[u8; BYTES]) -> (Bytes, f32, Option<f32>),
    put: impl Fn(&mut [O; LANES], Coded),
) {
    let (blocks, _) = row.values.as_chunks::<BYTES>();
    let (outs, _) = out.as_chunks_mut::<LANES>();
    for (block, outs) in blocks.iter().zip(outs.as_chunks_mut().0) {
        let (codes, scale, bias) = parts(block);
        let [low, high]: &mut [_; BLOCK / LANES] = outs;
        for (codes, out) in codes.into_iter().zip([low, high]) {
            put(out, Coded { codes: Codes::Signed(codes), scale, bias });
        }
    }
}

/// Sixteen bytes of a block.
#[inline]
pub(super) fn sixteen_at(block: &[u8], at: usize) -> __m128i {
    let mut bytes = [0; LANES];
    bytes.copy_from_slice(&block[at..at + LANES]);
    bytemuck::cast(bytes)
}

/// The lower halves of sixteen bytes, and the upper ones.
#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn nibbles(bytes: __m128i) -> Bytes {
    let low = _mm_set1_epi8(15);
    [_mm_and_si128(bytes, low), _mm_and_si128(_mm_srli_epi16::<4>(bytes), low)]
}

/// The lower half of each byte as an index into the 16 uneven steps.
#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn uneven(codes: Bytes) -> Bytes {
    codes.map(|codes| _mm_shuffle_epi8(bytemuck::cast(UNEVEN), codes))
}

/// Adds 16 where a bit is set: of 32 bits the first half is for the first codes.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn with_fifth(codes: Bytes, fifth: [u8; 4]) -> Bytes {
    let fifth = _mm_set1_epi32(i32::from_le_bytes(fifth));
    // A bit of its own for each of eight bytes.
    let own = _mm_set1_epi64x(i64::from_le_bytes([1, 2, 4, 8, 16, 32, 64, 128]));
    let [low, high] = [0x0000_0000_0000_0000, 0x0202_0202_0202_0202].map(|first| {
        let places = _mm_set_epi64x(first + 0x0101_0101_0101_0101, first);
        let bits = _mm_and_si128(_mm_shuffle_epi8(fifth, places), own);
        _mm_and_si128(_mm_cmpeq_epi8(bits, own), _mm_set1_epi8(16))
    });
    [_mm_or_si128(codes[0], low), _mm_or_si128(codes[1], high)]
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
fn less(codes: Bytes, by: i8) -> Bytes {
    codes.map(|codes| _mm_sub_epi8(codes, _mm_set1_epi8(by)))
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn q8_0<O: Element>(
    _: Encoding,
    row: RowParts<'_>,
    out: &mut [O],
    put: impl Fn(&mut [O; LANES], Coded),
) {
    let parts =
        |block: &[u8; 34]| ([sixteen_at(block, 2), sixteen_at(block, 18)], half_at(block, 0), None);
    decode(row, out, parts, put);
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn q4_0<O: Element>(
    _: Encoding,
    row: RowParts<'_>,
    out: &mut [O],
    put: impl Fn(&mut [O; LANES], Coded),
) {
    let parts =
        |block: &[u8; 18]| (less(nibbles(sixteen_at(block, 2)), 8), half_at(block, 0), None);
    decode(row, out, parts, put);
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn q4_1<O: Element>(
    _: Encoding,
    row: RowParts<'_>,
    out: &mut [O],
    put: impl Fn(&mut [O; LANES], Coded),
) {
    let parts = |block: &[u8; 20]| {
        (nibbles(sixteen_at(block, 4)), half_at(block, 0), Some(half_at(block, 2)))
    };
    decode(row, out, parts, put);
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn q5_0<O: Element>(
    _: Encoding,
    row: RowParts<'_>,
    out: &mut [O],
    put: impl Fn(&mut [O; LANES], Coded),
) {
    let parts = |block: &[u8; 22]| {
        let fifth = [block[2], block[3], block[4], block[5]];
        let codes = with_fifth(nibbles(sixteen_at(block, 6)), fifth);
        (less(codes, 16), half_at(block, 0), None)
    };
    decode(row, out, parts, put);
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn q5_1<O: Element>(
    _: Encoding,
    row: RowParts<'_>,
    out: &mut [O],
    put: impl Fn(&mut [O; LANES], Coded),
) {
    let parts = |block: &[u8; 24]| {
        let fifth = [block[4], block[5], block[6], block[7]];
        let codes = with_fifth(nibbles(sixteen_at(block, 8)), fifth);
        (codes, half_at(block, 0), Some(half_at(block, 2)))
    };
    decode(row, out, parts, put);
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn iq4_nl<O: Element>(
    _: Encoding,
    row: RowParts<'_>,
    out: &mut [O],
    put: impl Fn(&mut [O; LANES], Coded),
) {
    let parts = |block: &[u8; 18]| (uneven(nibbles(sixteen_at(block, 2))), half_at(block, 0), None);
    decode(row, out, parts, put);
}
