//! Sixteen elements at a time: from codes to numbers, and from numbers to where they go.
//!
//! Numbers go from the registers that they are decoded in to the output or the accumulators;
//! nothing lies in between. A rest of less than sixteen goes the same way, padded.

use std::arch::x86_64::{
    __m128i, __m256, __m256i, _CMP_GT_OQ, _CMP_UNORD_Q, _MM_FROUND_TO_NEAREST_INT, _mm_cvtph_ps,
    _mm_cvtsi32_si128, _mm_cvtss_f32, _mm_unpackhi_epi64, _mm256_add_epi32, _mm256_add_ps,
    _mm256_and_si256, _mm256_blendv_epi8, _mm256_blendv_ps, _mm256_castps_si256,
    _mm256_castsi256_si128, _mm256_cmp_ps, _mm256_cvtepi8_epi32, _mm256_cvtepi32_ps,
    _mm256_cvtepu8_epi32, _mm256_cvtph_ps, _mm256_cvtps_ph, _mm256_extracti128_si256,
    _mm256_mul_ps, _mm256_or_si256, _mm256_packus_epi32, _mm256_permute4x64_epi64,
    _mm256_set1_epi32, _mm256_set1_ps, _mm256_srli_epi32,
};

use half::{bf16, f16};

/// The elements that are decoded at once.
pub(super) const LANES: usize = 16;

/// Sixteen numbers in order.
pub(super) type Sixteen = [__m256; 2];

/// Signed bytes as numbers.
#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn signed(codes: __m128i) -> Sixteen {
    let high = _mm_unpackhi_epi64(codes, codes);
    [codes, high].map(|codes| _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(codes)))
}

/// Unsigned bytes as numbers.
#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn unsigned(codes: __m128i) -> Sixteen {
    let high = _mm_unpackhi_epi64(codes, codes);
    [codes, high].map(|codes| _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(codes)))
}

/// Sixteen f16 as f32.
#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn halves(halves: __m256i) -> Sixteen {
    let [low, high] = [_mm256_castsi256_si128(halves), _mm256_extracti128_si256::<1>(halves)];
    [_mm256_cvtph_ps(low), _mm256_cvtph_ps(high)]
}

/// The f16 in two bytes of a block.
#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn half_at(block: &[u8], at: usize) -> f32 {
    let bits = u16::from_le_bytes([block[at], block[at + 1]]);
    _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(bits.into())))
}

/// What sixteen numbers are multiplied by, and what is added then.
#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn scaled([low, high]: Sixteen, scale: f32) -> Sixteen {
    let scale = _mm256_set1_ps(scale);
    [_mm256_mul_ps(low, scale), _mm256_mul_ps(high, scale)]
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn biased([low, high]: Sixteen, bias: f32) -> Sixteen {
    let bias = _mm256_set1_ps(bias);
    [_mm256_add_ps(low, bias), _mm256_add_ps(high, bias)]
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn put_f32(out: &mut [f32; LANES], sixteen: Sixteen) {
    *out = bytemuck::cast(sixteen);
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn put_f16(out: &mut [f16; LANES], sixteen: Sixteen) {
    let narrow = sixteen.map(|eight| _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(eight));
    *out = bytemuck::cast(narrow);
}

/// As `half` narrows: to nearest, ties to even; a NaN is made quiet and keeps what fits of it.
#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn put_bf16(out: &mut [bf16; LANES], sixteen: Sixteen) {
    let [low, high] = sixteen.map(|eight| {
        let bits = _mm256_castps_si256(eight);
        let cut = _mm256_srli_epi32::<16>(bits);
        let odd = _mm256_and_si256(cut, _mm256_set1_epi32(1));
        let half = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
        let rounded = _mm256_srli_epi32::<16>(_mm256_add_epi32(bits, half));
        let quiet = _mm256_or_si256(cut, _mm256_set1_epi32(0x40));
        let nan = _mm256_cmp_ps::<_CMP_UNORD_Q>(eight, eight);
        _mm256_blendv_epi8(rounded, quiet, _mm256_castps_si256(nan))
    });
    let packed = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi32(low, high));
    *out = bytemuck::cast(packed);
}

/// Adds numbers times a weight to the accumulators, each step rounded by itself. A weight of 1
/// changes no number.
#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn add(sums: &mut [f32; LANES], [low, high]: Sixteen, weight: f32) {
    let weight = _mm256_set1_ps(weight);
    let [first, second]: Sixteen = bytemuck::cast(*sums);
    let first = _mm256_add_ps(first, _mm256_mul_ps(low, weight));
    let second = _mm256_add_ps(second, _mm256_mul_ps(high, weight));
    *sums = bytemuck::cast([first, second]);
}

/// The larger numbers stay in the accumulators, and NaNs.
#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn max(sums: &mut [f32; LANES], [low, high]: Sixteen) {
    let [first, second]: Sixteen = bytemuck::cast(*sums);
    let joined = [(first, low), (second, high)].map(|(sum, value)| {
        let larger = _mm256_blendv_ps(sum, value, _mm256_cmp_ps::<_CMP_GT_OQ>(value, sum));
        _mm256_blendv_ps(larger, value, _mm256_cmp_ps::<_CMP_UNORD_Q>(value, value))
    });
    *sums = bytemuck::cast(joined);
}
