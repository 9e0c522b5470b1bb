//! What `lanes.rs` does, by AVX-512: sixteen numbers are one register.

use std::arch::x86_64::{
    __m512, _CMP_GT_OQ, _CMP_UNORD_Q, _MM_FROUND_TO_NEAREST_INT, _mm256_castps_pd,
    _mm512_add_epi32, _mm512_add_ps, _mm512_and_si512, _mm512_castpd_ps, _mm512_castps_pd,
    _mm512_castps_si512, _mm512_castps256_ps512, _mm512_cmp_ps_mask, _mm512_cvtepi8_epi32,
    _mm512_cvtepi32_epi16, _mm512_cvtepi32_ps, _mm512_cvtepu8_epi32, _mm512_cvtph_ps,
    _mm512_cvtps_ph, _mm512_insertf64x4, _mm512_mask_blend_ps, _mm512_mask_or_epi32, _mm512_mul_ps,
    _mm512_set1_epi32, _mm512_set1_ps, _mm512_srli_epi32,
};

use half::{bf16, f16};

use super::lanes::{Coded, Codes, LANES};

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
#[inline]
fn numbers(coded: Coded) -> __m512 {
    let numbers = match coded.codes {
        Codes::Signed(bytes) => _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes)),
        Codes::Unsigned(bytes) => _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes)),
        Codes::Halves(bits) => _mm512_cvtph_ps(bits),
        Codes::Numbers([low, high]) => {
            let low = _mm512_castps_pd(_mm512_castps256_ps512(low));
            _mm512_castpd_ps(_mm512_insertf64x4::<1>(low, _mm256_castps_pd(high)))
        }
        Codes::Wide(numbers) => numbers,
    };
    let products = _mm512_mul_ps(numbers, _mm512_set1_ps(coded.scale));
    match coded.bias {
        Some(bias) => _mm512_add_ps(products, _mm512_set1_ps(bias)),
        None => products,
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
#[inline]
pub(super) fn put_f32(out: &mut [f32; LANES], coded: Coded) {
    *out = bytemuck::cast(numbers(coded));
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
#[inline]
pub(super) fn put_f16(out: &mut [f16; LANES], coded: Coded) {
    *out = bytemuck::cast(_mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(numbers(coded)));
}

/// The instruction that narrows to bf16 (`avx512_bf16`) takes subnormal numbers for zeros, so
/// it is done by hand.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
#[inline]
pub(super) fn put_bf16(out: &mut [bf16; LANES], coded: Coded) {
    let numbers = numbers(coded);
    let bits = _mm512_castps_si512(numbers);
    let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
    let half = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
    let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(numbers, numbers);
    let quiet = _mm512_set1_epi32(0x0040_0000);
    let rounded = _mm512_mask_or_epi32(_mm512_add_epi32(bits, half), nan, bits, quiet);
    *out = bytemuck::cast(_mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(rounded)));
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
#[inline]
pub(super) fn add(sums: &mut [f32; LANES], coded: Coded, weight: f32) {
    let weighted = _mm512_mul_ps(numbers(coded), _mm512_set1_ps(weight));
    *sums = bytemuck::cast(_mm512_add_ps(bytemuck::cast(*sums), weighted));
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
#[inline]
pub(super) fn max(sums: &mut [f32; LANES], coded: Coded) {
    let (sum, value) = (bytemuck::cast(*sums), numbers(coded));
    let is_larger = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(value, sum);
    let is_nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(value, value);
    *sums = bytemuck::cast(_mm512_mask_blend_ps(is_larger | is_nan, sum, value));
}
