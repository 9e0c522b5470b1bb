//! Sixteen elements at a time by AVX2: from codes to numbers, and from numbers to where they go.
//!
//! Numbers go from the registers that they are decoded in to the output or the accumulators;
//! nothing lies in between. `wide.rs` has the same functions for AVX-512.

use std::arch::x86_64::{
    __m128i, __m256, __m256i, __m512, _CMP_GT_OQ, _CMP_UNORD_Q, _MM_FROUND_TO_NEAREST_INT,
    _mm_cvtph_ps, _mm_cvtsi32_si128, _mm_cvtss_f32, _mm_unpackhi_epi64, _mm256_add_epi32,
    _mm256_add_ps, _mm256_and_si256, _mm256_blendv_epi8, _mm256_blendv_ps, _mm256_castps_si256,
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

/// Sixteen elements as their codes come apart.
#[derive(Clone, Copy)]
pub(super) enum Codes {
    /// Signed bytes.
    Signed(__m128i),
    /// Unsigned bytes.
    Unsigned(__m128i),
    /// The bits of f16.
    Halves(__m256i),
    /// Numbers already.
    Numbers(Sixteen),
    /// Numbers in one register.
    Wide(__m512),
}

/// Sixteen elements and what makes numbers of them: a factor, then perhaps a term.
#[derive(Clone, Copy)]
pub(super) struct Coded {
    pub(super) codes: Codes,
    pub(super) scale: f32,
    pub(super) bias: Option<f32>,
}

/// The numbers that codes stand for.
#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn widen(codes: Codes) -> Sixteen {
    match codes {
        Codes::Signed(codes) => [codes, _mm_unpackhi_epi64(codes, codes)]
            .map(|codes| _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(codes))),
        Codes::Unsigned(codes) => [codes, _mm_unpackhi_epi64(codes, codes)]
            .map(|codes| _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(codes))),
        Codes::Halves(bits) => [_mm256_castsi256_si128(bits), _mm256_extracti128_si256::<1>(bits)]
            .map(|eight| _mm256_cvtph_ps(eight)),
        Codes::Numbers(numbers) => numbers,
        Codes::Wide(numbers) => bytemuck::cast(numbers),
    }
}

/// Numbers times a factor.
#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn times(numbers: Sixteen, factor: f32) -> Sixteen {
    let factor = _mm256_set1_ps(factor);
    numbers.map(|eight| _mm256_mul_ps(eight, factor))
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
fn numbers(coded: Coded) -> Sixteen {
    let products = times(widen(coded.codes), coded.scale);
    match coded.bias {
        Some(bias) => products.map(|eight| _mm256_add_ps(eight, _mm256_set1_ps(bias))),
        None => products,
    }
}

/// The f16 in two bytes of a block.
#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn half_at(block: &[u8], at: usize) -> f32 {
    let bits = u16::from_le_bytes([block[at], block[at + 1]]);
    _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(bits.into())))
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn put_f32(out: &mut [f32; LANES], coded: Coded) {
    *out = bytemuck::cast(numbers(coded));
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn put_f16(out: &mut [f16; LANES], coded: Coded) {
    let narrow = numbers(coded).map(|eight| _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(eight));
    *out = bytemuck::cast(narrow);
}

/// As `half` narrows: to nearest, ties to even; a NaN is made quiet and keeps what fits of it.
#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn put_bf16(out: &mut [bf16; LANES], coded: Coded) {
    let [low, high] = numbers(coded).map(|eight| {
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
pub(super) fn add(sums: &mut [f32; LANES], coded: Coded, weight: f32) {
    let [low, high] = times(numbers(coded), weight);
    let [first, second]: Sixteen = bytemuck::cast(*sums);
    *sums = bytemuck::cast([_mm256_add_ps(first, low), _mm256_add_ps(second, high)]);
}

/// The larger numbers stay in the accumulators, and NaNs.
#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn max(sums: &mut [f32; LANES], coded: Coded) {
    let [low, high] = numbers(coded);
    let [first, second]: Sixteen = bytemuck::cast(*sums);
    let joined = [(first, low), (second, high)].map(|(sum, value)| {
        let larger = _mm256_blendv_ps(sum, value, _mm256_cmp_ps::<_CMP_GT_OQ>(value, sum));
        _mm256_blendv_ps(larger, value, _mm256_cmp_ps::<_CMP_UNORD_Q>(value, value))
    });
    *sums = bytemuck::cast(joined);
}
