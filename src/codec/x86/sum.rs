//! Rows into one, a vector of elements at a time, by AVX2 or AVX-512.
//!
//! A block of accumulators stays in registers while the rows of a group are joined to it, row after
//! row, so that what is read of a row is in one piece. Each accumulator takes the rows in their
//! order, so the sums are those of the portable loop. A product is rounded before it is added: no
//! fused instruction is used. The order of work, blocks of columns outside and rows within, is that
//! of FBGEMM's `EmbeddingSpMDM.cc`.

use std::arch::x86_64::{
    __m128i, __m256, __m256i, __m512, _CMP_GT_OQ, _CMP_UNORD_Q, _mm256_add_ps, _mm256_blendv_ps,
    _mm256_castsi256_ps, _mm256_cmp_ps, _mm256_cvtepu16_epi32, _mm256_cvtph_ps, _mm256_mul_ps,
    _mm256_set1_ps, _mm256_slli_epi32, _mm512_add_ps, _mm512_castsi512_ps, _mm512_cmp_ps_mask,
    _mm512_cvtepu16_epi32, _mm512_cvtph_ps, _mm512_mask_blend_ps, _mm512_mul_ps, _mm512_set1_ps,
    _mm512_slli_epi32,
};

use bytemuck::Pod;
use half::{bf16, f16};

use super::copy::{LINE, prefetch_at};
use super::quantized;
use crate::codec::sum::{Group, Join, join_rows};
use crate::codec::{JoinRows, Recipe};
use crate::dtype::{DType, Element};

/// The joiner of a dtype for this CPU, or `None` where the portable one is as good.
pub(in crate::codec) fn joiner(dtype: DType) -> Option<JoinRows> {
    wide_joiner(dtype).or_else(|| narrow_joiner(dtype))
}

fn wide_joiner(dtype: DType) -> Option<JoinRows> {
    if !is_x86_feature_detected!("avx512f") {
        return None;
    }
    match dtype {
        DType::F32 => Some(wide_f32),
        DType::F16 => Some(wide_f16),
        DType::BF16 => Some(wide_bf16),
        _ => None,
    }
}

fn narrow_joiner(dtype: DType) -> Option<JoinRows> {
    if !is_x86_feature_detected!("avx2") || !is_x86_feature_detected!("f16c") {
        return None;
    }
    match dtype {
        DType::F32 => Some(narrow_f32),
        DType::F16 => Some(narrow_f16),
        DType::BF16 => Some(narrow_bf16),
        _ => quantized::joiner(dtype),
    }
}

/// The kernels for vectors of one length, as plain functions for [`wide_joiner`] and
/// [`narrow_joiner`] alone.
macro_rules! kernels {
    (
        $features:literal, $lanes:literal of $vector:ident by $add:ident $multiply:ident $splat:ident $max:ident;
        $($kernel:ident $stored:ident $bytes:literal $widen:expr;)*
    ) => {
        $(fn $kernel(recipe: Recipe, join: Join, group: Group<'_>, sums: &mut [f32]) {
            #[target_feature(enable = $features)]
            fn kernel(recipe: Recipe, join: Join, group: Group<'_>, sums: &mut [f32]) {
                let number = $widen;
                let widen =
                    |elements: &[u8; $bytes]| -> $vector { number(bytemuck::cast(*elements)) };
                let (whole, rest) = sums.as_chunks_mut::<$lanes>();
                let done = whole.len() * $bytes;
                match join {
                    Join::Add => {
                        join_blocks(group, whole, &widen, &|sum, value, _| $add(sum, value));
                    }
                    Join::AddWeighted => {
                        join_blocks(group, whole, &widen, &|sum, value, weight| {
                            $add(sum, $multiply(value, $splat(weight)))
                        });
                    }
                    Join::Max => {
                        join_blocks(group, whole, &widen, &|sum, value, _| $max(sum, value));
                    }
                }
                join_rest::<$stored>(recipe, join, group, done, rest);
            }

            // SAFETY: `wide_joiner` or `narrow_joiner`, the only ones to name this function, have
            // found the features on this CPU.
            #[allow(unsafe_code)]
            unsafe {
                kernel(recipe, join, group, sums);
            }
        })*
    };
}

// A signalling NaN of a bf16 stays one here, where `half` makes it quiet; the sum, the product and
// the maximum differ in nothing else, and any NaN is as good as another.
kernels! {
    "avx2,f16c", 8 of __m256 by _mm256_add_ps _mm256_mul_ps _mm256_set1_ps narrow_max;
    narrow_f32 f32 32 |eight: __m256| eight;
    narrow_f16 f16 16 |eight: __m128i| _mm256_cvtph_ps(eight);
    narrow_bf16 bf16 16 |eight: __m128i| {
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(eight)))
    };
}

kernels! {
    "avx512f", 16 of __m512 by _mm512_add_ps _mm512_mul_ps _mm512_set1_ps wide_max;
    wide_f32 f32 64 |sixteen: __m512| sixteen;
    wide_f16 f16 32 |sixteen: __m256i| _mm512_cvtph_ps(sixteen);
    wide_bf16 bf16 32 |sixteen: __m256i| {
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(sixteen)))
    };
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
fn narrow_max(sum: __m256, value: __m256) -> __m256 {
    let larger = _mm256_blendv_ps(sum, value, _mm256_cmp_ps::<_CMP_GT_OQ>(value, sum));
    _mm256_blendv_ps(larger, value, _mm256_cmp_ps::<_CMP_UNORD_Q>(value, value))
}

#[target_feature(enable = "avx512f")]
#[inline]
fn wide_max(sum: __m512, value: __m512) -> __m512 {
    let larger = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(value, sum);
    let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(value, value);
    _mm512_mask_blend_ps(larger | nan, sum, value)
}

/// Joins the rows of a group to whole vectors of accumulators, block by block.
#[expect(clippy::inline_always, reason = "the features are those of the kernel around it")]
#[inline(always)]
fn join_blocks<V: Pod, const LANES: usize, const BYTES: usize>(
    group: Group<'_>,
    sums: &mut [[f32; LANES]],
    widen: &impl Fn(&[u8; BYTES]) -> V,
    join: &impl Fn(V, V, f32) -> V,
) {
    let mut at = 0;
    // AVX-512 has twice as many registers.
    let (blocks, rest) = if LANES == 16 { sums.as_chunks_mut::<16>() } else { (&mut [][..], sums) };
    for block in blocks {
        join_block(group, at, block, widen, join);
        at += 16 * BYTES;
    }
    let (blocks, rest) = rest.as_chunks_mut::<8>();
    for block in blocks {
        join_block(group, at, block, widen, join);
        at += 8 * BYTES;
    }
    let (blocks, rest) = rest.as_chunks_mut::<2>();
    for block in blocks {
        join_block(group, at, block, widen, join);
        at += 2 * BYTES;
    }
    for block in rest.as_chunks_mut::<1>().0 {
        join_block(group, at, block, widen, join);
        at += BYTES;
    }
}

/// Joins the elements that stand `at` bytes behind the start of each row, and asks for those of the
/// rows to come.
#[expect(clippy::inline_always, reason = "the features are those of the kernel around it")]
#[inline(always)]
fn join_block<V: Pod, const VECTORS: usize, const LANES: usize, const BYTES: usize>(
    group: Group<'_>,
    at: usize,
    block: &mut [[f32; LANES]; VECTORS],
    widen: &impl Fn(&[u8; BYTES]) -> V,
    join: &impl Fn(V, V, f32) -> V,
) {
    // A block of part of a line asks for all of it.
    let lines = (VECTORS * BYTES).div_ceil(LINE);
    let mut sums: [V; VECTORS] = block.map(|sums| bytemuck::cast(sums));
    for (index, row) in group.values.iter().enumerate() {
        if let Some(coming) = group.coming.get(index) {
            prefetch_at(coming, at, lines);
        }
        let weight = group.weights.get(index).copied().unwrap_or(1.0);
        let values = &row[at..at + VECTORS * BYTES];
        for (sum, elements) in sums.iter_mut().zip(values.as_chunks::<BYTES>().0) {
            *sum = join(*sum, widen(elements), weight);
        }
    }
    *block = sums.map(|sums| bytemuck::cast(sums));
}

/// Joins the elements behind the whole vectors.
fn join_rest<S: Element>(
    recipe: Recipe,
    join: Join,
    group: Group<'_>,
    done: usize,
    rest: &mut [f32],
) {
    if rest.is_empty() {
        return;
    }
    for (index, row) in group.values.iter().enumerate() {
        let values = [&row[done..]];
        let weights = group.weights.get(index..).unwrap_or(&[]);
        let group = Group { values: &values, scales: &[], biases: &[], weights, coming: &[] };
        join_rows::<S>(recipe, join, group, rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::sum::GROUP;
    use crate::codec::{Codec, Encoding, Kernels, sum};

    /// NaNs are one another's equals: which payload a sum keeps is the compiler's choice.
    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|v| if v.is_nan() { 0x7fc0_0000 } else { v.to_bits() }).collect()
    }

    #[test]
    fn kernels_equal_the_oracle_bit_for_bit() {
        let mut state = 7u64;
        let mut random = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
            (state >> 33) as u32
        };
        let bytes: Vec<u8> = (0..40_000).map(|_| random() as u8).collect();
        let weights: Vec<f32> = (0..GROUP).map(|_| f32::from_bits(random() << 1)).collect();
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            let encoding = Encoding { dtype, codec: Codec::Plain };
            let recipe = Recipe::of(encoding, Kernels::Portable);
            let oracle = sum::joiner(dtype, Kernels::Portable);
            let kernels = [wide_joiner(dtype), narrow_joiner(dtype)];
            for dim in [0, 1, 7, 8, 9, 24, 48, 63, 64, 65, 128, 300, 423] {
                for count in [0, 1, 2, 3, 8, 31, GROUP] {
                    for join in [Join::Add, Join::AddWeighted, Join::Max] {
                        let size = dim * dtype.block_bytes();
                        let rows: Vec<&[u8]> = (0..count)
                            .map(|_| {
                                let start = random() as usize % (bytes.len() - size);
                                &bytes[start..start + size]
                            })
                            .collect();
                        // More or fewer may come than are there.
                        let coming: Vec<&[u8]> =
                            rows.iter().copied().chain([&[][..]]).skip(2).collect();
                        let weights = &weights[..count];
                        let (values, coming) = (&rows[..], &coming[..]);
                        let group = Group { values, scales: &[], biases: &[], weights, coming };
                        let mut expected = vec![join.start(); dim];
                        oracle(recipe, join, group, &mut expected);
                        for fast in kernels.into_iter().flatten() {
                            let mut got = vec![join.start(); dim];
                            fast(recipe, join, group, &mut got);
                            let case = format!("{dtype} {join:?} {count}x{dim}");
                            assert_eq!(bits(&got), bits(&expected), "{case}");
                        }
                    }
                }
            }
        }
    }
}
