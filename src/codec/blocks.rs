//! The block types of GGUF: elements and their scales in blocks of 32 or 256.
//!
//! The layouts are those of the structs `block_q8_0` and so on of ggml (`ggml-common.h`); the
//! order of operations is that of the Python package `gguf` (`gguf/quants.py`), so that results
//! agree bit for bit: scales are widened from f16 and multiplied in f32, then the element is
//! multiplied, then the minimum is added or taken away.

use super::RowParts;
use super::float8::half_at;
use super::runs::DecodeRun;
use crate::dtype::DType;

/// The elements of a large block.
const LARGE: usize = 256;

/// What the 16 codes of `iq4_nl` and `iq4_xs` stand for.
pub(super) const UNEVEN: [i8; 16] =
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// The function that decodes blocks of a dtype, or `None` where it is no block type.
pub(super) fn run_of(dtype: DType) -> Option<DecodeRun> {
    Some(match dtype {
        DType::Q8_0 => |_, row, start, out| decode_run(row, start, out, q8_0),
        DType::Q4_0 => |_, row, start, out| decode_run(row, start, out, q4_0),
        DType::Q4_1 => |_, row, start, out| decode_run(row, start, out, q4_1),
        DType::Q5_0 => |_, row, start, out| decode_run(row, start, out, q5_0),
        DType::Q5_1 => |_, row, start, out| decode_run(row, start, out, q5_1),
        DType::Q2K => |_, row, start, out| decode_run(row, start, out, q2_k),
        DType::Q3K => |_, row, start, out| decode_run(row, start, out, q3_k),
        DType::Q4K => |_, row, start, out| decode_run(row, start, out, q4_k),
        DType::Q5K => |_, row, start, out| decode_run(row, start, out, q5_k),
        DType::Q6K => |_, row, start, out| decode_run(row, start, out, q6_k),
        DType::IQ4NL => |_, row, start, out| decode_run(row, start, out, iq4_nl),
        DType::IQ4XS => |_, row, start, out| decode_run(row, start, out, iq4_xs),
        _ => return None,
    })
}

/// Decodes whole blocks, the first of which holds the element `start`.
#[inline]
fn decode_run<const BYTES: usize, const ELEMENTS: usize>(
    row: RowParts<'_>,
    start: usize,
    out: &mut [f32],
    decode: impl Fn(&[u8; BYTES], &mut [f32; ELEMENTS]),
) {
    let blocks = &row.values.as_chunks::<BYTES>().0[start / ELEMENTS..];
    for (block, out) in blocks.iter().zip(out.as_chunks_mut::<ELEMENTS>().0) {
        decode(block, out);
    }
}

/// An element of a few bits as a number.
#[inline]
fn number(element: u8) -> f32 {
    f32::from(element)
}

/// The bytes of a block from `start` on.
#[inline]
fn part<const BYTES: usize>(block: &[u8], start: usize) -> &[u8; BYTES] {
    let (parts, _) = block[start..].as_chunks::<BYTES>();
    &parts[0]
}

#[inline]
fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let scale = half_at(block, 0);
    let codes: &[u8; 32] = part(block, 2);
    for (out, code) in out.iter_mut().zip(codes) {
        *out = f32::from(code.cast_signed()) * scale;
    }
}

/// 16 bytes of two elements each: the lower halves first, then the upper ones.
#[inline]
fn nibbles(codes: &[u8; 16], out: &mut [f32; 32], value: impl Fn(u8) -> f32) {
    let (low, high) = out.split_at_mut(16);
    for ((code, low), high) in codes.iter().zip(low).zip(high) {
        *low = value(code & 15);
        *high = value(code >> 4);
    }
}

#[inline]
fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let scale = half_at(block, 0);
    nibbles(part(block, 2), out, |code| scale * (number(code) - 8.0));
}

#[inline]
fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let (scale, minimum) = (half_at(block, 0), half_at(block, 2));
    nibbles(part(block, 4), out, |code| scale * number(code) + minimum);
}

/// Elements of which one bit lies apart from the other four.
#[inline]
fn with_fifth(codes: &[u8; 16], fifth: [u8; 4], out: &mut [f32; 32], value: impl Fn(u8) -> f32) {
    let fifth = u32::from_le_bytes(fifth);
    let (low, high) = out.split_at_mut(16);
    for (at, ((code, low), high)) in (0u32..).zip(codes.iter().zip(low).zip(high)) {
        let bits = [fifth >> at & 1, fifth >> (at + 16) & 1].map(|bit| u8::from(bit == 1) << 4);
        *low = value(code & 15 | bits[0]);
        *high = value(code >> 4 | bits[1]);
    }
}

#[inline]
fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let scale = half_at(block, 0);
    let fifth = *part(block, 2);
    with_fifth(part(block, 6), fifth, out, |code| scale * (number(code) - 16.0));
}

#[inline]
fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let (scale, minimum) = (half_at(block, 0), half_at(block, 2));
    let fifth = *part(block, 4);
    with_fifth(part(block, 8), fifth, out, |code| scale * number(code) + minimum);
}

#[inline]
fn q2_k(block: &[u8; 84], out: &mut [f32; LARGE]) {
    let scales: &[u8; 16] = part(block, 0);
    let codes: &[u8; 64] = part(block, 16);
    let (scale, minimum) = (half_at(block, 80), half_at(block, 82));
    for (at, (out, packed)) in out.as_chunks_mut::<16>().0.iter_mut().zip(scales).enumerate() {
        let scale = scale * number(packed & 15);
        let minimum = minimum * number(packed >> 4);
        // 32 bytes hold 128 elements: the lowest bits the first 32, and so on.
        let codes: &[u8; 16] = part(codes, at / 8 * 32 + at % 2 * 16);
        let shift = at / 2 % 4 * 2;
        for (out, code) in out.iter_mut().zip(codes) {
            *out = scale * number(code >> shift & 3) - minimum;
        }
    }
}

#[inline]
fn q3_k(block: &[u8; 110], out: &mut [f32; LARGE]) {
    let high: &[u8; 32] = part(block, 0);
    let codes: &[u8; 64] = part(block, 32);
    let scales: &[u8; 12] = part(block, 96);
    let scale = half_at(block, 108);
    for (at, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let low_bits = scales[at % 8] >> (at / 8 * 4) & 15;
        let high_bits = scales[8 + at % 4] >> (at / 4 * 2) & 3;
        let scale = scale * (number(low_bits | high_bits << 4) - 32.0);
        let codes: &[u8; 16] = part(codes, at / 8 * 32 + at % 2 * 16);
        let high: &[u8; 16] = part(high, at % 2 * 16);
        let (shift, bit) = (at / 2 % 4 * 2, at / 2);
        for ((out, code), high) in out.iter_mut().zip(codes).zip(high) {
            // The third bit counts where it is not set.
            let code = code >> shift & 3 | (high >> bit & 1) << 2;
            *out = scale * (number(code) - 4.0);
        }
    }
}

/// The scale and the minimum of each 32 elements of `q4_k` and `q5_k`: 6 bits each in 12 bytes.
#[inline]
fn scales_and_minima(packed: &[u8; 12], at: usize) -> (f32, f32) {
    let (scale, minimum) = if at < 4 {
        (packed[at] & 63, packed[at + 4] & 63)
    } else {
        (
            packed[at + 4] & 0x0f | packed[at - 4] >> 2 & 0x30,
            packed[at + 4] >> 4 | packed[at] >> 2 & 0x30,
        )
    };
    (number(scale), number(minimum))
}

#[inline]
fn q4_k(block: &[u8; 144], out: &mut [f32; LARGE]) {
    let (scale, minimum) = (half_at(block, 0), half_at(block, 2));
    let scales: &[u8; 12] = part(block, 4);
    let codes: &[u8; 128] = part(block, 16);
    for (at, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (own_scale, own_minimum) = scales_and_minima(scales, at);
        let (scale, minimum) = (scale * own_scale, minimum * own_minimum);
        let codes: &[u8; 32] = part(codes, at / 2 * 32);
        let shift = at % 2 * 4;
        for (out, code) in out.iter_mut().zip(codes) {
            *out = scale * number(code >> shift & 15) - minimum;
        }
    }
}

#[inline]
fn q5_k(block: &[u8; 176], out: &mut [f32; LARGE]) {
    let (scale, minimum) = (half_at(block, 0), half_at(block, 2));
    let scales: &[u8; 12] = part(block, 4);
    let high: &[u8; 32] = part(block, 16);
    let codes: &[u8; 128] = part(block, 48);
    for (at, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (own_scale, own_minimum) = scales_and_minima(scales, at);
        let (scale, minimum) = (scale * own_scale, minimum * own_minimum);
        let codes: &[u8; 32] = part(codes, at / 2 * 32);
        let shift = at % 2 * 4;
        for ((out, code), high) in out.iter_mut().zip(codes).zip(high) {
            let code = code >> shift & 15 | (high >> at & 1) << 4;
            *out = scale * number(code) - minimum;
        }
    }
}

#[inline]
fn q6_k(block: &[u8; 210], out: &mut [f32; LARGE]) {
    let low: &[u8; 128] = part(block, 0);
    let high: &[u8; 64] = part(block, 128);
    let scales: &[u8; 16] = part(block, 192);
    let scale = half_at(block, 208);
    for (at, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let scale = scale * f32::from(scales[at].cast_signed());
        // 128 elements: the lower halves of 64 bytes, then the upper halves.
        let (half, within) = (at / 8, at % 8);
        let low: &[u8; 16] = part(low, half * 64 + within % 4 * 16);
        let high: &[u8; 16] = part(high, half * 32 + within % 2 * 16);
        let (low_shift, high_shift) = (within / 4 * 4, within / 2 * 2);
        for ((out, low), high) in out.iter_mut().zip(low).zip(high) {
            let code = low >> low_shift & 15 | (high >> high_shift & 3) << 4;
            *out = scale * (number(code) - 32.0);
        }
    }
}

#[inline]
fn iq4_nl(block: &[u8; 18], out: &mut [f32; 32]) {
    let scale = half_at(block, 0);
    nibbles(part(block, 2), out, |code| scale * f32::from(UNEVEN[usize::from(code)]));
}

/// The scale of each 32 elements of `iq4_xs`: 4 bits in one place, 2 in another.
#[inline]
fn iq4_xs_scale(block: &[u8; 136], at: usize) -> f32 {
    let low = block[4 + at / 2] >> (at % 2 * 4) & 15;
    let high = block[2 + at / 4] >> (at % 4 * 2) & 3;
    half_at(block, 0) * (number(low | high << 4) - 32.0)
}

#[inline]
fn iq4_xs(block: &[u8; 136], out: &mut [f32; LARGE]) {
    for (at, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let scale = iq4_xs_scale(block, at);
        let codes = part(block, 8 + at * 16);
        nibbles(codes, out, |code| scale * f32::from(UNEVEN[usize::from(code)]));
    }
}
