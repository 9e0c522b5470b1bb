//! Products of rows and queries, and the norms of rows, in an order that no CPU changes.
//!
//! There are 16 lanes, all zero at first. Element `i` of a row, as an `f32`, is multiplied by
//! element `i` of the query, and the product is added to lane `i % 16`: two roundings, never one.
//! Then lane `l` takes in lane `l + 8`, for `l` from 0 to 7, then `l + 4` for `l` from 0 to 3, then
//! `l + 2`, then `l + 1`: lane 0 is the product. That is what vectors of 4, 8 and 16 elements
//! do equally well, so that each CPU gives the same bits.
//!
//! A norm is the same sum of squares in `f64`, where the square of an `f32` is exact, its square
//! root, rounded to `f32`: large and tiny numbers have norms too.

use half::{bf16, f16};

use super::{Decoder, Encoding, Kernels, RowParts};
use crate::dtype::{DType, Element};

/// The lanes of a sum.
pub(super) const LANES: usize = 16;

/// Multiplies each row by each query: `products[row * queries + query]`, and gives the norms of
/// rows where there is room for them. Rows are plain elements, queries lie one after the other,
/// `dim` elements each, and there is at least one.
pub(super) type DotRows = fn(
    rows: &[&[u8]],
    queries: &[f32],
    dim: usize,
    products: &mut [f32],
    norms: Option<&mut [f32]>,
);

/// The function for plain rows of a dtype, or `None` where they have to be decoded first.
fn dot_of(dtype: DType, kernels: Kernels) -> Option<DotRows> {
    #[cfg(target_arch = "x86_64")]
    if let (Kernels::Fastest, Some(dot)) = (kernels, super::x86::multiplier(dtype)) {
        return Some(dot);
    }
    let _ = kernels;
    match dtype {
        DType::F32 => Some(dot_rows::<f32>),
        DType::F16 => Some(dot_rows::<f16>),
        DType::BF16 => Some(dot_rows::<bf16>),
        DType::F64 => Some(dot_rows::<f64>),
        _ => None,
    }
}

/// The queries from which rows that are not `f32` are decoded once for all of them.
const DECODED: usize = 16;

/// What multiplies the rows of a table by queries, chosen once for many rows.
pub(crate) struct Multiplier {
    decoder: Decoder<f32>,
    dim: usize,
    dtype: DType,
    /// For rows as they are encoded, where that is possible.
    encoded: Option<DotRows>,
    decoded: DotRows,
    /// Rows that were decoded.
    tile: Vec<f32>,
}

/// The rows that are multiplied at once: those that one tile holds.
const TILE: usize = 32 << 10;

impl Multiplier {
    /// The multiplier of an encoding, for rows of `dim` elements.
    pub(crate) fn of(encoding: Encoding, dim: usize, kernels: Kernels) -> Self {
        let plain = encoding.codec == super::Codec::Plain;
        Multiplier {
            decoder: Decoder::of(encoding, kernels),
            dim,
            dtype: encoding.dtype,
            encoded: dot_of(encoding.dtype, kernels).filter(|_| plain),
            decoded: dot_of(DType::F32, kernels).unwrap_or(dot_rows::<f32>),
            tile: Vec::new(),
        }
    }

    /// The most rows that [`multiply`](Multiplier::multiply) is best given at once.
    pub(crate) fn group(&self) -> usize {
        (TILE / self.dim.max(1)).clamp(4, GROUP)
    }

    /// Multiplies at most [`GROUP`] rows by each query, which lie one after the other, into
    /// `products[row * queries + query]`, and gives the rows' norms where they are asked for.
    pub(crate) fn multiply(
        &mut self,
        rows: &[RowParts<'_>],
        queries: &[f32],
        products: &mut [f32],
        norms: Option<&mut [f32]>,
    ) {
        let dim = self.dim;
        let mut slices = [&[][..]; GROUP];
        let slices = &mut slices[..rows.len()];
        let count = queries.len() / dim.max(1);
        let direct = self.encoded.filter(|_| self.dtype == DType::F32 || count < DECODED);
        let dot = if let Some(encoded) = direct {
            for (slice, row) in slices.iter_mut().zip(rows) {
                *slice = row.values;
            }
            encoded
        } else {
            self.tile.resize(rows.len() * dim, 0.0);
            for (row, out) in rows.iter().zip(self.tile.chunks_exact_mut(dim.max(1))) {
                self.decoder.decode(*row, out);
            }
            for (slice, row) in slices.iter_mut().zip(self.tile.chunks_exact(dim.max(1))) {
                *slice = bytemuck::cast_slice(row);
            }
            self.decoded
        };
        dot(slices, queries, dim, products, norms);
    }
}

/// The most rows that are multiplied at once.
pub(crate) const GROUP: usize = 64;

/// What gives the norms of rows, as a search finds them and files hold them.
pub(crate) struct Norms {
    multiplier: Multiplier,
    /// A query that nobody asks for.
    zeros: Vec<f32>,
    products: [f32; GROUP],
}

impl Norms {
    /// The norms of rows of an encoding, of `dim` elements each.
    pub(crate) fn of(encoding: Encoding, dim: usize, kernels: Kernels) -> Self {
        let multiplier = Multiplier::of(encoding, dim, kernels);
        Norms { multiplier, zeros: vec![0.0; dim], products: [0.0; GROUP] }
    }

    /// Finds the norms of at most [`GROUP`] rows.
    pub(crate) fn find(&mut self, rows: &[RowParts<'_>], norms: &mut [f32]) {
        let products = &mut self.products[..rows.len()];
        self.multiplier.multiply(rows, &self.zeros, products, Some(norms));
    }
}

/// The oracle: one row, one query, one element after the other.
fn dot_rows<S: Element>(
    rows: &[&[u8]],
    queries: &[f32],
    dim: usize,
    products: &mut [f32],
    norms: Option<&mut [f32]>,
) {
    if let Some(norms) = norms {
        norm_rows::<S>(rows, norms);
    }
    let mut products = products.iter_mut();
    for row in rows {
        for (query, product) in queries.chunks_exact(dim.max(1)).zip(&mut products) {
            let mut lanes = [0f32; LANES];
            each_lanes::<S>(row, |start, values| {
                for ((lane, value), factor) in lanes.iter_mut().zip(values).zip(&query[start..]) {
                    *lane += value * factor;
                }
            });
            *product = fold(lanes, |a, b| a + b);
        }
    }
}

/// The oracle of norms.
fn norm_rows<S: Element>(rows: &[&[u8]], norms: &mut [f32]) {
    for (row, norm) in rows.iter().zip(norms) {
        let mut lanes = [0f64; LANES];
        each_lanes::<S>(row, |_, values| {
            for (lane, value) in lanes.iter_mut().zip(values) {
                *lane += f64::from(*value) * f64::from(*value);
            }
        });
        *norm = root(fold(lanes, |a, b| a + b));
    }
}

/// The norm that a sum of squares gives.
#[inline]
pub(super) fn root(squares: f64) -> f32 {
    <f32 as Element>::from_f64(squares.sqrt())
}

/// The elements of a row, 16 at a time, each as many of them as there are.
#[inline]
fn each_lanes<S: Element>(row: &[u8], mut each: impl FnMut(usize, &[f32])) {
    let mut values = [0f32; LANES];
    for (start, bytes) in (0..).step_by(LANES).zip(row.chunks(LANES * size_of::<S>())) {
        let count = bytes.len() / size_of::<S>();
        for (value, bytes) in values.iter_mut().zip(bytes.chunks_exact(size_of::<S>())) {
            *value = bytemuck::pod_read_unaligned::<S>(bytes).convert();
        }
        each(start, &values[..count]);
    }
}

/// The sum of the lanes.
#[inline]
pub(super) fn fold<T: Copy>(mut lanes: [T; LANES], add: impl Fn(T, T) -> T) -> T {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] = add(lanes[lane], lanes[lane + half]);
        }
        half /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random_bytes(state: &mut u64, count: usize) -> Vec<u8> {
        let mut next = || {
            *state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (*state >> 56) as u8
        };
        (0..count).map(|_| next()).collect()
    }

    /// NaNs are one another's equals: which one a sum becomes is the CPU's choice.
    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|v| if v.is_nan() { 0x7fc0_0000 } else { v.to_bits() }).collect()
    }

    #[test]
    fn kernels_equal_the_oracle_bit_for_bit() {
        let mut state = 11;
        for dtype in [DType::F32, DType::F16, DType::BF16, DType::F64] {
            let fast = dot_of(dtype, Kernels::Fastest).unwrap();
            let oracle = dot_of(dtype, Kernels::Portable).unwrap();
            let size = dtype.block_bytes();
            for dim in [1usize, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 100, 384] {
                for (rows, queries) in [(1, 1), (2, 1), (3, 2), (4, 3), (7, 5), (8, 8), (9, 1)] {
                    // Rows start at any byte.
                    let bytes = random_bytes(&mut state, rows * dim * size + 1);
                    let rows: Vec<&[u8]> = bytes[1..].chunks_exact(dim * size).collect();
                    let queries: Vec<f32> = random_bytes(&mut state, queries * dim)
                        .into_iter()
                        .map(|byte| f32::from(byte) / 100.0 - 1.0)
                        .collect();
                    let run = |dot: DotRows, normed: bool| {
                        let mut out = vec![7.0; rows.len() * queries.len() / dim];
                        let mut norms = vec![7.0; rows.len()];
                        dot(&rows, &queries, dim, &mut out, normed.then_some(&mut norms[..]));
                        (bits(&out), bits(&norms))
                    };
                    for normed in [false, true] {
                        let (got, expected) = (run(fast, normed), run(oracle, normed));
                        assert_eq!(got, expected, "{dtype}, {} rows of {dim}", rows.len());
                    }
                }
            }
        }
    }

    #[test]
    fn products_and_norms_are_what_they_should_be() {
        let row: Vec<f32> = (1u8..=40).map(f32::from).collect();
        let rows = [bytemuck::cast_slice(&row)];
        let (mut product, mut norm) = ([0.0], [0.0]);
        let dot = dot_of(DType::F32, Kernels::Fastest).unwrap();
        dot(&rows, &row, 40, &mut product, Some(&mut norm));
        assert_eq!((product[0], norm[0]), (22_140.0, 22_140f32.sqrt()));
    }

    /// A sum where the order shows: large numbers that cancel, and a small one that is lost
    /// where it meets them.
    #[test]
    fn lanes_are_added_in_the_order_of_the_specification() {
        let mut lanes = [0f32; LANES];
        (lanes[0], lanes[8], lanes[1]) = (1e8, -1e8, 1.0);
        assert_eq!(fold(lanes, |a, b| a + b), 1.0, "lane 8 meets lane 0 first");
        (lanes[0], lanes[1], lanes[8], lanes[9]) = (1e8, 1.0, 0.0, -1e8);
        assert_eq!(fold(lanes, |a, b| a + b), 0.0, "lane 9 meets lane 1 first");
    }

    #[test]
    fn any_number_of_rows_is_multiplied_as_one_by_one() {
        let mut state = 3;
        for (dtype, queries) in [(DType::F16, 3), (DType::F16, 20), (DType::I8, 1), (DType::F32, 2)]
        {
            let encoding = Encoding { dtype, codec: super::super::Codec::Plain };
            let mut all = Multiplier::of(encoding, 24, Kernels::Fastest);
            let mut one = Multiplier::of(encoding, 24, Kernels::Portable);
            let size = 24 * dtype.block_bytes();
            let bytes = random_bytes(&mut state, GROUP * size);
            let rows: Vec<RowParts<'_>> = bytes.chunks(size).map(RowParts::of).collect();
            let queries: Vec<f32> =
                random_bytes(&mut state, queries * 24).into_iter().map(f32::from).collect();
            let count = queries.len() / 24;
            let (mut products, mut norms) = (vec![0.0; GROUP * count], vec![0.0; GROUP]);
            all.multiply(&rows, &queries, &mut products, Some(&mut norms));
            for (at, row) in rows.iter().enumerate() {
                let (mut product, mut norm) = (vec![0.0; count], [0.0]);
                one.multiply(&[*row], &queries, &mut product, Some(&mut norm));
                assert_eq!(bits(&products[at * count..][..count]), bits(&product), "{dtype}");
                assert_eq!(bits(&norms[at..=at]), bits(&norm), "{dtype}");
            }
        }
    }
}
