//! All products of some vectors with each other.

use crate::codec::{Codec, Encoding, Kernels, Multiplier, ROWS_AT_ONCE, RowParts};
use crate::dtype::DType;
use crate::error::Result;
use crate::gather::Crew;

/// The elements of each vector that are multiplied before sums go on in `f64`: few enough that
/// blocks of vectors stay in a core's own cache.
const PIECE: usize = 1024;

/// The products of each two of `count` vectors of `length` elements, in both orders, as a matrix.
/// `element(vector, at)` gives the elements.
pub(super) fn products(
    crew: Crew,
    count: usize,
    length: usize,
    element: impl Fn(usize, usize) -> f32,
) -> Result<Vec<f64>> {
    let mut sums = vec![0f64; count * count];
    let mut piece = Vec::new();
    for start in (0..length).step_by(PIECE) {
        let own = PIECE.min(length - start);
        piece.clear();
        for vector in 0..count {
            piece.extend((start..start + own).map(|at| element(vector, at)));
        }
        let piece = piece.as_slice();
        let blocks = sums.chunks_mut(count.max(1) * ROWS_AT_ONCE).enumerate().collect();
        crew.work(blocks, |(block, sums): (usize, &mut [f64])| {
            add_block(piece, own, block * ROWS_AT_ONCE, count, sums);
            Ok(())
        })?;
    }
    for row in 0..count {
        for column in 0..row {
            sums[row * count + column] = sums[column * count + row];
        }
    }
    Ok(sums)
}

/// Adds the products of a block of vectors with those from the block on.
fn add_block(piece: &[f32], length: usize, first: usize, count: usize, sums: &mut [f64]) {
    let encoding = Encoding { dtype: DType::F32, codec: Codec::Plain };
    let mut multiplier = Multiplier::of(encoding, length, Kernels::of_process());
    let group = multiplier.group();
    let rows = sums.len() / count;
    let mut products = vec![0f32; group * ROWS_AT_ONCE];
    let vector = |at: usize| RowParts::of(bytemuck::cast_slice(&piece[at * length..][..length]));
    for columns in (first..count).step_by(ROWS_AT_ONCE) {
        let wide = ROWS_AT_ONCE.min(count - columns);
        let queries = &piece[columns * length..(columns + wide) * length];
        for row in (0..rows).step_by(group) {
            let high = group.min(rows - row);
            let mut parts = [RowParts::of(&[]); ROWS_AT_ONCE];
            for (at, parts) in parts[..high].iter_mut().enumerate() {
                *parts = vector(first + row + at);
            }
            let products = &mut products[..high * wide];
            multiplier.multiply(&parts[..high], queries, products, None);
            for (at, products) in products.chunks_exact(wide).enumerate() {
                let sums = &mut sums[(row + at) * count + columns..][..wide];
                for (sum, product) in sums.iter_mut().zip(products) {
                    *sum += f64::from(*product);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        clippy::needless_for_each
    )]

    use super::*;
    use std::time::Duration;

    #[test]
    fn products_are_those_of_the_definition() {
        for (count, length) in [(1, 1), (3, 5), (70, 1030), (130, 64), (4, 3000)] {
            let element = |vector: usize, at: usize| ((vector * 31 + at * 17) % 23) as f32 - 11.0;
            for threads in [1, 2] {
                let crew = Crew { threads, spin: Duration::ZERO };
                let found = products(crew, count, length, element).unwrap();
                for row in 0..count {
                    for column in 0..count {
                        let product = |at| f64::from(element(row, at) * element(column, at));
                        let expected: f64 = (0..length).map(product).sum();
                        assert_eq!(found[row * count + column], expected, "{count} x {length}");
                    }
                }
            }
        }
    }
}
