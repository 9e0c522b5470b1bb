//! Numbers of 8 bits by a table in registers, 64 at a time, where a CPU has AVX-512 VBMI.
//!
//! The upper half of an f32 holds any of them. Without the sign there are 128, whose two bytes
//! fill four registers; `vpermi2b` looks 64 of either byte up at once (Intel, "Software
//! Developer's Manual", volume 2).

use std::arch::x86_64::{
    __m512i, _mm512_and_si512, _mm512_castsi512_ps, _mm512_cmpeq_epi8_mask, _mm512_mask_mov_epi8,
    _mm512_or_si512, _mm512_permutex2var_epi8, _mm512_permutexvar_epi32, _mm512_set1_epi8,
    _mm512_setr_epi32, _mm512_setzero_si512, _mm512_unpackhi_epi8, _mm512_unpackhi_epi16,
    _mm512_unpacklo_epi8, _mm512_unpacklo_epi16,
};

use super::lanes::{Coded, Codes, LANES};
use super::scaled::{self, each, of_row};
use crate::codec::float8::{E4M3, E4M3_FNUZ, E5M2, E5M2_FNUZ};
use crate::codec::{Codec, Encoding, RowParts, Scaling};
use crate::dtype::Element;

/// The bytes that are looked up at once.
const BYTES: usize = 64;

/// Both halves of a table of 128 bytes.
type Halves = [[u8; BYTES]; 2];

/// The upper byte of the numbers from 0 on, and the byte below it.
const fn bytes_of(numbers: &[f32; 256]) -> [Halves; 2] {
    let mut bytes = [[[0; BYTES]; 2]; 2];
    let mut code = 0;
    while code < 2 * BYTES {
        let [.., below, upper] = numbers[code].to_bits().to_le_bytes();
        bytes[0][code / BYTES][code % BYTES] = upper;
        bytes[1][code / BYTES][code % BYTES] = below;
        code += 1;
    }
    bytes
}

/// Numbers from codes, in order. `one_zero` is true of a format whose negative zero is a NaN.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi")]
#[inline]
fn look_up(codes: &[u8; BYTES], tables: &'static [Halves; 2], one_zero: bool) -> [Codes; 4] {
    // So that what the unpacking below brings together is in order again.
    let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    let codes = _mm512_permutexvar_epi32(order, bytemuck::cast(*codes));
    let [mut upper, mut below] = tables.map(|[low, high]| {
        _mm512_permutex2var_epi8(bytemuck::cast(low), codes, bytemuck::cast(high))
    });
    let sign = _mm512_set1_epi8(i8::MIN);
    upper = _mm512_or_si512(upper, _mm512_and_si512(codes, sign));
    if one_zero {
        let nan = _mm512_cmpeq_epi8_mask(codes, sign);
        upper = _mm512_mask_mov_epi8(upper, nan, _mm512_set1_epi8(0x7f));
        below = _mm512_mask_mov_epi8(below, nan, _mm512_set1_epi8(0xc0u8.cast_signed()));
    }
    let zero = _mm512_setzero_si512();
    let [first, second]: [__m512i; 2] =
        [_mm512_unpacklo_epi8(below, upper), _mm512_unpackhi_epi8(below, upper)];
    [
        _mm512_unpacklo_epi16(zero, first),
        _mm512_unpackhi_epi16(zero, first),
        _mm512_unpacklo_epi16(zero, second),
        _mm512_unpackhi_epi16(zero, second),
    ]
    .map(|bits| Codes::Wide(_mm512_castsi512_ps(bits)))
}

/// The elements that have one scale for all, or none, and fill the registers; the others, with
/// how they are encoded, are left to the kernels of `scaled.rs`.
fn divide(encoding: Encoding, dim: usize) -> (usize, Encoding) {
    let whole = dim / BYTES * BYTES;
    let Codec::Scaled(scaling) = encoding.codec else { return (whole, encoding) };
    if scaling.block as usize != dim {
        return (0, encoding);
    }
    let block = scaling.block % 64;
    (whole, Encoding { codec: Codec::Scaled(Scaling { block, ..scaling }), ..encoding })
}

macro_rules! kernels {
    ($($kernel:ident: $numbers:ident, $one_zero:literal;)*) => {
        $(#[target_feature(enable = "avx2,f16c,avx512f,avx512bw,avx512vl,avx512vbmi")]
        #[inline]
        pub(super) fn $kernel<O: Element>(
            encoding: Encoding,
            row: RowParts<'_>,
            out: &mut [O],
            put: impl Fn(&mut [O; LANES], Coded),
        ) {
            static TABLES: [Halves; 2] = bytes_of(&$numbers);
            let (whole, others) = divide(encoding, out.len());
            let (values, rest) = row.values.split_at(whole);
            let (outs, out_rest) = out.split_at_mut(whole);
            if whole > 0 {
                let (scale, bias) = match encoding.codec {
                    Codec::Scaled(scaling) => of_row(scaling, row),
                    _ => (1.0, None),
                };
                let codes = |bytes: &_| look_up(bytes, &TABLES, $one_zero);
                each(values, outs, codes, |out, codes| put(out, Coded { codes, scale, bias }));
            }
            if !rest.is_empty() {
                scaled::$kernel(others, RowParts { values: rest, ..row }, out_rest, &put);
            }
        })*
    };
}

kernels! {
    f8_e4m3: E4M3, false;
    f8_e5m2: E5M2, false;
    f8_e4m3fnuz: E4M3_FNUZ, true;
    f8_e5m2fnuz: E5M2_FNUZ, true;
}
