//! Rows into one, eight elements at a time, up to eight rows a pass.
//!
//! The rows of a pass are joined in their order, element by element, so the sums are those of
//! the portable loop. A product is rounded before it is added: no fused instruction is used.

use std::arch::x86_64::{
    __m256, _CMP_GT_OQ, _CMP_UNORD_Q, _mm256_add_ps, _mm256_blendv_ps, _mm256_castsi256_ps,
    _mm256_cmp_ps, _mm256_cvtepu16_epi32, _mm256_cvtph_ps, _mm256_mul_ps, _mm256_set1_ps,
    _mm256_slli_epi32,
};

use half::{bf16, f16};

use super::copy::{LINE, prefetch};
use super::quantized;
use crate::codec::sum::{GROUP, Group, Join, join_rows};
use crate::codec::{JoinRows, Recipe, RowParts};
use crate::dtype::{DType, Element};

/// The joiner of a dtype for this CPU, or `None` where the portable one is as good.
pub(in crate::codec) fn joiner(dtype: DType) -> Option<JoinRows> {
    if !is_x86_feature_detected!("avx2") || !is_x86_feature_detected!("f16c") {
        return None;
    }
    match dtype {
        DType::F32 => Some(checked::join_f32),
        DType::F16 => Some(checked::join_f16),
        DType::BF16 => Some(checked::join_bf16),
        _ => quantized::joiner(dtype),
    }
}

/// The kernels as plain functions, for [`joiner`] alone.
mod checked {
    use super::{Group, Join, Recipe};

    macro_rules! checked {
        ($($kernel:ident)*) => {
            $(pub(super) fn $kernel(recipe: Recipe, join: Join, group: Group<'_>, sums: &mut [f32]) {
                // SAFETY: `joiner`, the only one to name this function, has found AVX2 and
                // F16C on this CPU.
                #[allow(unsafe_code)]
                unsafe {
                    super::$kernel(recipe, join, group, sums);
                }
            })*
        };
    }

    checked! { join_f32 join_f16 join_bf16 }
}

#[target_feature(enable = "avx2,f16c")]
fn join_f32(recipe: Recipe, join: Join, group: Group<'_>, sums: &mut [f32]) {
    let widen = |eight: &[u8; 32]| bytemuck::cast(*eight);
    join_with::<f32, 32>(recipe, join, group, sums, widen);
}

#[target_feature(enable = "avx2,f16c")]
fn join_f16(recipe: Recipe, join: Join, group: Group<'_>, sums: &mut [f32]) {
    let widen = |eight: &[u8; 16]| _mm256_cvtph_ps(bytemuck::cast(*eight));
    join_with::<f16, 16>(recipe, join, group, sums, widen);
}

// A signalling NaN stays one here, where `half` makes it quiet; the sum, the product and the
// maximum differ in nothing else, and any NaN is as good as another.
#[target_feature(enable = "avx2,f16c")]
fn join_bf16(recipe: Recipe, join: Join, group: Group<'_>, sums: &mut [f32]) {
    let widen = |eight: &[u8; 16]| {
        let wide = _mm256_cvtepu16_epi32(bytemuck::cast(*eight));
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
    };
    join_with::<bf16, 16>(recipe, join, group, sums, widen);
}

/// Joins rows whose eight elements take `BYTES` bytes and become `f32` by `widen`.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn join_with<S: Element, const BYTES: usize>(
    recipe: Recipe,
    join: Join,
    group: Group<'_>,
    sums: &mut [f32],
    widen: impl Fn(&[u8; BYTES]) -> __m256,
) {
    let (eights, rest) = sums.as_chunks_mut::<8>();
    let mut left = group;
    while let Some(rows) = left.rows.first_chunk::<GROUP>() {
        join_group(join, rows, left, eights, &widen);
        left = after::<GROUP>(left);
    }
    while let Some(rows) = left.rows.first_chunk::<4>() {
        join_group(join, rows, left, eights, &widen);
        left = after::<4>(left);
    }
    while let Some(rows) = left.rows.first_chunk::<1>() {
        join_group(join, rows, left, eights, &widen);
        left = after::<1>(left);
    }
    if !rest.is_empty() {
        let Group { rows, weights, .. } = group;
        for (index, row) in rows.iter().enumerate() {
            let row = [RowParts::of(&row.values[eights.len() * BYTES..])];
            let weights = weights.get(index..).unwrap_or(&[]);
            join_rows::<S>(recipe, join, Group { rows: &row, weights, coming: &[] }, rest);
        }
    }
}

/// A group without its first rows.
fn after<const ROWS: usize>(group: Group<'_>) -> Group<'_> {
    Group {
        rows: group.rows.get(ROWS..).unwrap_or(&[]),
        weights: group.weights.get(ROWS..).unwrap_or(&[]),
        coming: group.coming.get(ROWS..).unwrap_or(&[]),
    }
}

/// Joins the first rows of a group.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn join_group<'a, const ROWS: usize, const BYTES: usize>(
    join: Join,
    rows: &[RowParts<'a>; ROWS],
    group: Group<'a>,
    sums: &mut [[f32; 8]],
    widen: &impl Fn(&[u8; BYTES]) -> __m256,
) {
    let eights = |row: &'a [u8]| row.as_chunks::<BYTES>().0.get(..sums.len());
    let rows: [&[[u8; BYTES]]; ROWS] =
        std::array::from_fn(|row| eights(rows[row].values).unwrap_or(&[]));
    let coming = std::array::from_fn(|row| {
        // What is there already is asked for in vain, where nothing comes.
        group.coming.get(row).and_then(|row| eights(row)).unwrap_or(rows[row])
    });
    let rows = Pass { rows, coming };
    let none = [0.0; ROWS];
    match join {
        Join::Add => pass(rows, none, sums, widen, |sum, value, _| _mm256_add_ps(sum, value)),
        Join::AddWeighted => {
            let weights = group.weights.first_chunk().unwrap_or(&none);
            pass(rows, *weights, sums, widen, |sum, value, weight| {
                _mm256_add_ps(sum, _mm256_mul_ps(value, _mm256_set1_ps(weight)))
            });
        }
        Join::Max => pass(rows, none, sums, widen, |sum, value, _| {
            let larger = _mm256_blendv_ps(sum, value, _mm256_cmp_ps::<_CMP_GT_OQ>(value, sum));
            _mm256_blendv_ps(larger, value, _mm256_cmp_ps::<_CMP_UNORD_Q>(value, value))
        }),
    }
}

/// The rows of a pass, eight elements at a time, and as many that will come soon.
struct Pass<'a, const ROWS: usize, const BYTES: usize> {
    rows: [&'a [[u8; BYTES]]; ROWS],
    coming: [&'a [[u8; BYTES]]; ROWS],
}

/// One pass over the accumulators with `ROWS` rows, in order.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn pass<const ROWS: usize, const BYTES: usize>(
    Pass { rows, coming }: Pass<'_, ROWS, BYTES>,
    weights: [f32; ROWS],
    sums: &mut [[f32; 8]],
    widen: &impl Fn(&[u8; BYTES]) -> __m256,
    join: impl Fn(__m256, __m256, f32) -> __m256,
) {
    let (mut here, mut ahead) = (rows, coming);
    for row in 0..ROWS {
        (here[row], ahead[row]) = (&rows[row][..sums.len()], &coming[row][..sums.len()]);
    }
    for (at, place) in sums.iter_mut().enumerate() {
        if (at * BYTES).is_multiple_of(LINE) {
            for row in ahead {
                prefetch(&row[at], 1);
            }
        }
        let mut sum: __m256 = bytemuck::cast(*place);
        for (row, weight) in here.iter().zip(weights) {
            sum = join(sum, widen(&row[at]), weight);
        }
        *place = bytemuck::cast(sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
            let Some(fast) = joiner(dtype) else { return };
            let encoding = Encoding { dtype, codec: Codec::Plain };
            let recipe = Recipe::of(encoding, Kernels::Portable);
            let oracle = sum::joiner(dtype, Kernels::Portable);
            for dim in [0, 1, 7, 8, 9, 63, 64, 65, 300] {
                for count in 0..=GROUP {
                    for join in [Join::Add, Join::AddWeighted, Join::Max] {
                        let size = dim * dtype.block_bytes();
                        let rows: Vec<RowParts<'_>> = (0..count)
                            .map(|_| {
                                let start = random() as usize % (bytes.len() - size);
                                RowParts::of(&bytes[start..start + size])
                            })
                            .collect();
                        // More or fewer may come than are there.
                        let coming: Vec<&[u8]> =
                            rows.iter().map(|row| row.values).chain([&[][..]]).skip(2).collect();
                        let weights = &weights[..count];
                        let group = Group { rows: &rows, weights, coming: &coming };
                        let mut expected = vec![join.start(); dim];
                        oracle(recipe, join, group, &mut expected);
                        let mut got = vec![join.start(); dim];
                        fast(recipe, join, group, &mut got);
                        assert_eq!(bits(&got), bits(&expected), "{dtype} {join:?} {count}x{dim}");
                    }
                }
            }
        }
    }
}
