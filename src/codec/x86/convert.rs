//! Conversions between `f32` and the 16-bit types, eight elements at a time.
//!
//! F16C converts as IEEE 754 asks, subnormals included, makes signalling NaNs quiet and keeps
//! their payload, as `half` does in software (Intel, "Software Developer's Manual", volume 2,
//! VCVTPH2PS and VCVTPS2PH). To narrow to bf16 is the portable code compiled for AVX2: the
//! compiler finds the vectors. To widen it is not: by hand it is twice as fast.

use std::arch::x86_64::{
    __m128i, _CMP_UNORD_Q, _MM_FROUND_TO_NEAREST_INT, _mm256_and_ps, _mm256_castsi256_ps,
    _mm256_cmp_ps, _mm256_cvtepu16_epi32, _mm256_cvtph_ps, _mm256_cvtps_ph, _mm256_or_ps,
    _mm256_set1_ps, _mm256_slli_epi32,
};

use half::{bf16, f16};

use super::quantized;
use crate::codec::{Decode, Recipe, RowParts, plain};
use crate::dtype::{DType, Element};

/// The decoder of a dtype for this CPU, or `None` where the portable one is as good.
pub(in crate::codec) fn decoder<O: Element>(dtype: DType) -> Option<Decode<O>> {
    if !is_x86_feature_detected!("avx2") || !is_x86_feature_detected!("f16c") {
        return None;
    }
    match (dtype, O::DTYPE) {
        (DType::F16, DType::F32) => Some(checked::f16_to_f32),
        (DType::BF16, DType::F32) => Some(checked::bf16_to_f32),
        (DType::F32, DType::F16) => Some(checked::f32_to_f16),
        (DType::F32, DType::BF16) => Some(checked::f32_to_bf16),
        _ => quantized::decoder::<O>(dtype),
    }
}

/// The kernels as plain functions, for [`decoder`] alone.
mod checked {
    use super::{Element, Recipe, RowParts};

    macro_rules! checked {
        ($($kernel:ident)*) => {
            $(pub(super) fn $kernel<O: Element>(_: Recipe, row: RowParts<'_>, out: &mut [O]) {
                // The same type under its own name: `decoder` has compared the dtypes.
                let out = bytemuck::cast_slice_mut(out);
                // SAFETY: `decoder`, the only one to name this function, has found AVX2 and
                // F16C on this CPU.
                #[allow(unsafe_code)]
                unsafe {
                    super::$kernel(row.values, out);
                }
            })*
        };
    }

    checked! { f16_to_f32 bf16_to_f32 f32_to_f16 f32_to_bf16 }
}

#[target_feature(enable = "avx2,f16c")]
fn f16_to_f32(values: &[u8], out: &mut [f32]) {
    let (eights, rest) = values[..out.len() * 2].as_chunks::<16>();
    let (outs, out_rest) = out.as_chunks_mut::<8>();
    for (eight, out) in eights.iter().zip(outs) {
        let eight: __m128i = bytemuck::cast(*eight);
        *out = bytemuck::cast(_mm256_cvtph_ps(eight));
    }
    plain::convert_values::<f16, f32>(rest, out_rest);
}

#[target_feature(enable = "avx2,f16c")]
fn f32_to_f16(values: &[u8], out: &mut [f16]) {
    let (eights, rest) = values[..out.len() * 4].as_chunks::<32>();
    let (outs, out_rest) = out.as_chunks_mut::<8>();
    for (eight, out) in eights.iter().zip(outs) {
        let eight = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(bytemuck::cast(*eight));
        *out = bytemuck::cast(eight);
    }
    plain::convert_values::<f32, f16>(rest, out_rest);
}

#[target_feature(enable = "avx2,f16c")]
fn bf16_to_f32(values: &[u8], out: &mut [f32]) {
    let (eights, rest) = values[..out.len() * 2].as_chunks::<16>();
    let (outs, out_rest) = out.as_chunks_mut::<8>();
    for (eight, out) in eights.iter().zip(outs) {
        let wide = _mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(bytemuck::cast(*eight)));
        let wide = _mm256_castsi256_ps(wide);
        // `half` makes signalling NaNs quiet.
        let nan = _mm256_cmp_ps::<_CMP_UNORD_Q>(wide, wide);
        let quiet = _mm256_and_ps(nan, _mm256_set1_ps(f32::from_bits(0x0040_0000)));
        *out = bytemuck::cast(_mm256_or_ps(wide, quiet));
    }
    plain::convert_values::<bf16, f32>(rest, out_rest);
}

#[target_feature(enable = "avx2,f16c")]
fn f32_to_bf16(values: &[u8], out: &mut [bf16]) {
    plain::convert_values::<f32, bf16>(values, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Codec, Encoding, Kernels};

    /// Bits of every kind: random ones, and the neighbours of every power of two, of the
    /// infinities and of zero, both signs.
    fn hard_f32() -> Vec<u32> {
        let mut state = 1u64;
        let random = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 32) as u32
        });
        let edges = (0..=0xffu32).flat_map(|exponent| {
            let near = [0, 1, 2, 0x0fff, 0x1000, 0x1001, 0x2fff, 0x3000, 0x7fff, 0x8000, 0x8001];
            near.into_iter().flat_map(move |low| {
                let bits = (exponent << 23) | low;
                [bits, bits | 0x8000_0000, bits | 0x7f_0000, bits.wrapping_sub(1)]
            })
        });
        edges.chain(random.take(200_000)).collect()
    }

    /// Compares kernel and oracle on elements that start at any byte, in rows of odd lengths.
    fn compare<O: Element>(dtype: DType, encoded: &[u8], oracle: impl Fn(usize) -> O) {
        let fast = decoder::<O>(dtype);
        let portable = plain::decoder::<O>(dtype, Kernels::Portable);
        let encoding = Encoding { dtype, codec: Codec::Plain };
        let recipe = Recipe::of(encoding, Kernels::Portable);
        let count = encoded.len() / dtype.block_bytes();
        let cuts = [1, 7, 8, 9, 15, 16, 17, 31, 33, 100, 1023];
        for shift in 0..4 {
            let mut moved = vec![0; shift];
            moved.extend_from_slice(encoded);
            for decode in fast.into_iter().chain([portable]) {
                let mut at = 0;
                for length in cuts.iter().cycle() {
                    let length = (*length).min(count - at);
                    let start = shift + at * dtype.block_bytes();
                    let values = &moved[start..start + length * dtype.block_bytes()];
                    let mut out = vec![O::from_f32(7.0); length + 1];
                    decode(recipe, RowParts::of(values), &mut out[..length]);
                    for (index, got) in out[..length].iter().enumerate() {
                        let expected = oracle(at + index);
                        assert!(
                            bytemuck::bytes_of(got) == bytemuck::bytes_of(&expected),
                            "{dtype} -> {}: element {} of {values:02x?}",
                            O::DTYPE,
                            index
                        );
                    }
                    assert_eq!(
                        bytemuck::bytes_of(&out[length]),
                        bytemuck::bytes_of(&O::from_f32(7.0))
                    );
                    at += length;
                    if at == count {
                        break;
                    }
                }
            }
        }
    }

    #[test]
    fn every_16_bit_pattern_widens_as_in_software() {
        let all: Vec<u16> = (0..=u16::MAX).collect();
        let encoded: &[u8] = bytemuck::cast_slice(&all);
        compare::<f32>(DType::F16, encoded, |index| f16::from_bits(all[index]).to_f32_const());
        compare::<f32>(DType::BF16, encoded, |index| bf16::from_bits(all[index]).to_f32_const());
    }

    #[test]
    fn f32_narrows_as_in_software() {
        let bits = hard_f32();
        let encoded: &[u8] = bytemuck::cast_slice(&bits);
        compare::<f16>(DType::F32, encoded, |i| f16::from_f32_const(f32::from_bits(bits[i])));
        compare::<bf16>(DType::F32, encoded, |i| bf16::from_f32_const(f32::from_bits(bits[i])));
    }
}
