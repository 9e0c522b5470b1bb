//! Products and norms, 16 lanes in two vectors of eight.
//!
//! The first query is multiplied by one row after the other: memory is read fastest from one
//! place on. Rows are in the cache then, and of the other queries some are multiplied by some
//! rows at once, which share what is loaded, and whose sums do not wait for each other. A product
//! is rounded before it is added, as the portable twin does it; the squares of norms are exact, so
//! that there nothing is rounded but sums.

use std::arch::x86_64::{
    __m256, __m256d, _mm_add_ps, _mm_add_ss, _mm_cvtss_f32, _mm_movehl_ps, _mm_shuffle_ps,
    _mm256_add_pd, _mm256_add_ps, _mm256_castps256_ps128, _mm256_castsi256_ps,
    _mm256_cvtepu16_epi32, _mm256_cvtpd_ps, _mm256_cvtph_ps, _mm256_cvtps_pd,
    _mm256_extractf128_ps, _mm256_mul_pd, _mm256_mul_ps, _mm256_set_m128, _mm256_setzero_pd,
    _mm256_setzero_ps, _mm256_slli_epi32,
};

use super::copy::{LINE, prefetch_behind};
use crate::codec::dot::{DotRows, LANES, root};
use crate::dtype::DType;

/// The function for a dtype on this CPU, or `None` where the portable one is to be used.
pub(in crate::codec) fn multiplier(dtype: DType) -> Option<DotRows> {
    if !is_x86_feature_detected!("avx2") || !is_x86_feature_detected!("f16c") {
        return None;
    }
    match dtype {
        DType::F32 => Some(checked::dot_f32),
        DType::F16 => Some(checked::dot_f16),
        DType::BF16 => Some(checked::dot_bf16),
        DType::F64 => Some(checked::dot_f64),
        _ => None,
    }
}

/// The kernels as plain functions, for [`multiplier`] alone.
mod checked {
    macro_rules! checked {
        ($($dot:ident)*) => {
            $(pub(super) fn $dot(
                rows: &[&[u8]],
                queries: &[f32],
                dim: usize,
                products: &mut [f32],
                norms: Option<&mut [f32]>,
            ) {
                // SAFETY: `multiplier`, the only one to name this function, has found AVX2 and
                // F16C on this CPU.
                #[allow(unsafe_code)]
                unsafe {
                    super::$dot(rows, queries, dim, products, norms);
                }
            })*
        };
    }

    checked! { dot_f32 dot_f16 dot_bf16 dot_f64 }
}

macro_rules! kernels {
    ($($dot:ident $bytes:literal $widen:expr;)*) => {
        $(#[target_feature(enable = "avx2,f16c")]
        fn $dot(
            rows: &[&[u8]],
            queries: &[f32],
            dim: usize,
            products: &mut [f32],
            norms: Option<&mut [f32]>,
        ) {
            dot_with::<$bytes>(rows, queries, dim, products, norms, &$widen);
        }
        )*
    };
}

kernels! {
    dot_f32 32 |eight: &[u8; 32]| bytemuck::cast(*eight);
    dot_f16 16 |eight: &[u8; 16]| _mm256_cvtph_ps(bytemuck::cast(*eight));
    dot_bf16 16 |eight: &[u8; 16]| {
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(bytemuck::cast(*eight))))
    };
    dot_f64 64 |eight: &[u8; 64]| {
        let [low, high]: [__m256d; 2] = bytemuck::cast(*eight);
        _mm256_set_m128(_mm256_cvtpd_ps(high), _mm256_cvtpd_ps(low))
    };
}

/// How far ahead of its use a row is asked for. Measured: 8 KiB and more made `f16` a quarter
/// faster, 4 KiB half as much; four rows at once instead of one, 0.6 times as fast.
const AHEAD: usize = 8 << 10;

/// Multiplies rows whose eight elements take `BYTES` bytes and become `f32` by `widen`.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn dot_with<const BYTES: usize>(
    rows: &[&[u8]],
    queries: &[f32],
    dim: usize,
    products: &mut [f32],
    norms: Option<&mut [f32]>,
    widen: &impl Fn(&[u8; BYTES]) -> __m256,
) {
    let (count, query) = (queries.len() / dim, &queries[..dim]);
    let places = rows.iter().zip(products.chunks_exact_mut(count));
    if let Some(norms) = norms {
        for ((row, products), norm) in places.zip(norms) {
            let (product, squares) = first::<BYTES, true>(row, query, widen);
            (products[0], *norm) = (product, root(squares));
        }
    } else {
        for (row, products) in places {
            products[0] = first::<BYTES, false>(row, query, widen).0;
        }
    }
    let mut at = 1;
    while at < count {
        let query = |at: usize| &queries[at * dim..(at + 1) * dim];
        let place = |row: usize| row * count + at;
        if at + 2 <= count {
            let pair = [query(at), query(at + 1)];
            let (threes, rest) = rows.as_chunks::<3>();
            for (three, group) in (0..).zip(threes) {
                for (row, sums) in (3 * three..).zip(tile::<3, 2, BYTES>(*group, pair, widen)) {
                    products[place(row)..][..2].copy_from_slice(&sums);
                }
            }
            for (row, group) in (rows.len() - rest.len()..).zip(rest) {
                let [sums] = tile::<1, 2, BYTES>([*group], pair, widen);
                products[place(row)..][..2].copy_from_slice(&sums);
            }
            at += 2;
        } else {
            for (row, group) in rows.iter().enumerate() {
                [[products[place(row)]]] = tile::<1, 1, BYTES>([*group], [query(at)], widen);
            }
            at += 1;
        }
    }
}

/// The product of a row and a query and, with `NORM`, the sum of the row's squares. What will be
/// read soon is asked for.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn first<const BYTES: usize, const NORM: bool>(
    row: &[u8],
    query: &[f32],
    widen: &impl Fn(&[u8; BYTES]) -> __m256,
) -> (f32, f64) {
    let (factors, _) = query.as_chunks::<8>().0.as_chunks::<2>();
    let values = &row.as_chunks::<BYTES>().0.as_chunks::<2>().0[..factors.len()];
    let mut sums = [[[_mm256_setzero_ps(); 2]]];
    let mut squares = [_mm256_setzero_pd(); 4];
    for (at, (values, factors)) in values.iter().zip(factors).enumerate() {
        let start = at * 2 * BYTES;
        for line in (start..start + 2 * BYTES).filter(|byte| byte % LINE == 0) {
            prefetch_behind(row, line + AHEAD);
        }
        step(&mut sums, [values], [factors], widen);
        if NORM {
            add_squares(&mut squares, values, widen);
        }
    }
    if !query.len().is_multiple_of(LANES) {
        let values = end(row, values.len() * 2 * BYTES);
        step(&mut sums, [&values], [&end(query, factors.len() * LANES)], widen);
        if NORM {
            add_squares(&mut squares, &values, widen);
        }
    }
    let [[[low, high]]] = sums;
    (fold(_mm256_add_ps(low, high)), fold_squares(squares))
}

/// The products of `R` rows and `Q` queries.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn tile<const R: usize, const Q: usize, const BYTES: usize>(
    rows: [&[u8]; R],
    queries: [&[f32]; Q],
    widen: &impl Fn(&[u8; BYTES]) -> __m256,
) -> [[f32; Q]; R] {
    let whole = queries[0].len() / LANES;
    let mut sums = [[[_mm256_setzero_ps(); 2]; Q]; R];
    let values = rows.map(|row| &row.as_chunks::<BYTES>().0.as_chunks::<2>().0[..whole]);
    let factors = queries.map(|query| &query.as_chunks::<8>().0.as_chunks::<2>().0[..whole]);
    for at in 0..whole {
        step(&mut sums, values.map(|row| &row[at]), factors.map(|query| &query[at]), widen);
    }
    if !queries[0].len().is_multiple_of(LANES) {
        // What is missing of 16 elements counts as zeros, which change no sum.
        let values = rows.map(|row| end(row, whole * 2 * BYTES));
        let factors = queries.map(|query| end(query, whole * LANES));
        step(&mut sums, values.each_ref(), factors.each_ref(), widen);
    }
    sums.map(|sums| sums.map(|[low, high]| fold(_mm256_add_ps(low, high))))
}

/// Adds 16 products to each sum.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn step<const R: usize, const Q: usize, const BYTES: usize>(
    sums: &mut [[[__m256; 2]; Q]; R],
    values: [&[[u8; BYTES]; 2]; R],
    factors: [&[[f32; 8]; 2]; Q],
    widen: &impl Fn(&[u8; BYTES]) -> __m256,
) {
    for half in 0..2 {
        let values = values.map(|row| widen(&row[half]));
        for (query, factors) in factors.iter().enumerate() {
            let factor = bytemuck::cast(factors[half]);
            for (sums, value) in sums.iter_mut().zip(values) {
                let sum = &mut sums[query][half];
                *sum = _mm256_add_ps(*sum, _mm256_mul_ps(value, factor));
            }
        }
    }
}

/// What follows `start`, with zeros behind it.
#[inline]
fn end<T: Copy + Default, const N: usize>(all: &[T], start: usize) -> [[T; N]; 2]
where
    [T; N]: Copy,
{
    let mut end = [[T::default(); N]; 2];
    let rest = &all[start..];
    end.as_flattened_mut()[..rest.len()].copy_from_slice(rest);
    end
}

/// The sum of eight lanes, each added to the one four further, then two, then one.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn fold(eight: __m256) -> f32 {
    let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
}

/// The sum of 16 lanes, each added to the one eight further, then four, and so on.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn fold_squares([a, b, c, d]: [__m256d; 4]) -> f64 {
    let four = _mm256_add_pd(_mm256_add_pd(a, c), _mm256_add_pd(b, d));
    let [a, b, c, d]: [f64; 4] = bytemuck::cast(four);
    (a + c) + (b + d)
}

/// Adds 16 squares to the sums.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn add_squares<const BYTES: usize>(
    sums: &mut [__m256d; 4],
    values: &[[u8; BYTES]; 2],
    widen: &impl Fn(&[u8; BYTES]) -> __m256,
) {
    for (eight, sums) in values.iter().zip(sums.as_chunks_mut::<2>().0) {
        let eight = widen(eight);
        let halves = [_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight)];
        for (half, sum) in halves.into_iter().zip(sums) {
            let wide = _mm256_cvtps_pd(half);
            *sum = _mm256_add_pd(*sum, _mm256_mul_pd(wide, wide));
        }
    }
}
