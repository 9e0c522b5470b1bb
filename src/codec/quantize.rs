//! From numbers to quantized rows, and what that costs.

use half::f16;

use super::float8::{LARGEST_E4M3, to_e4m3};
use super::{Codec, Encoding, ScaleType, Scaling};
use crate::dtype::DType;

/// The elements of a `q8_0` block.
const BLOCK: usize = 32;

/// The largest number that an `i8` is scaled from.
const LARGEST_I8: f32 = 127.0;

/// How rows are quantized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quantizer {
    /// The largest number of a row becomes 127; one f32 scale a row.
    I8,
    /// The largest number of a row becomes 448; one f32 scale a row.
    E4M3,
    /// Blocks of 32, as ggml's reference makes them.
    Q8_0,
}

impl Quantizer {
    /// The quantizer to a dtype, if there is one.
    pub(crate) fn to(dtype: DType) -> Option<Self> {
        match dtype {
            DType::I8 => Some(Quantizer::I8),
            DType::F8E4M3 => Some(Quantizer::E4M3),
            DType::Q8_0 => Some(Quantizer::Q8_0),
            _ => None,
        }
    }

    /// How the rows that it makes are encoded.
    pub(crate) fn encoding(self, dim: u32) -> Encoding {
        let row_scale = Codec::Scaled(Scaling { block: dim, scale: ScaleType::F32, bias: None });
        match self {
            Quantizer::I8 => Encoding { dtype: DType::I8, codec: row_scale },
            Quantizer::E4M3 => Encoding { dtype: DType::F8E4M3, codec: row_scale },
            Quantizer::Q8_0 => Encoding { dtype: DType::Q8_0, codec: Codec::Blocks },
        }
    }

    /// Appends a row of finite numbers, encoded; of `q8_0`, whole blocks. An error is the index
    /// of a number that cannot be held.
    pub(crate) fn push(self, row: &[f32], out: &mut Vec<u8>) -> Result<(), usize> {
        if let Some(at) = row.iter().position(|value| !value.is_finite()) {
            return Err(at);
        }
        match self {
            Quantizer::I8 => {
                let scale = largest(row) / LARGEST_I8;
                out.extend(row.iter().map(|value| to_i8(*value / scale).cast_unsigned()));
                out.extend(scale.to_le_bytes());
            }
            Quantizer::E4M3 => {
                let scale = largest(row) / LARGEST_E4M3;
                // Where the scale is zero, so is the row, or as good as.
                let code = |value: &f32| if scale == 0.0 { 0 } else { to_e4m3(value / scale) };
                out.extend(row.iter().map(code));
                out.extend(scale.to_le_bytes());
            }
            Quantizer::Q8_0 => {
                for (index, block) in row.chunks(BLOCK).enumerate() {
                    let scale = largest(block) / LARGEST_I8;
                    let stored = f16::from_f32(scale);
                    if stored.is_infinite() {
                        let size = largest(block);
                        let at = block.iter().position(|value| value.abs() >= size);
                        return Err(index * BLOCK + at.unwrap_or(0));
                    }
                    let inverse = if scale == 0.0 { 0.0 } else { scale.recip() };
                    out.extend(stored.to_le_bytes());
                    let code = |value: &f32| away_from_zero(*value * inverse).cast_unsigned();
                    out.extend(block.iter().map(code));
                }
            }
        }
        Ok(())
    }
}

/// The largest absolute value.
fn largest(row: &[f32]) -> f32 {
    row.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()))
}

/// The nearest integer, ties to even. A scale of zero asks for zero over zero, which is 0, or
/// for what is as small, which is 0 as well.
#[expect(clippy::cast_possible_truncation, reason = "clamped")]
fn to_i8(value: f32) -> i8 {
    if !value.is_finite() {
        return 0;
    }
    value.round_ties_even().clamp(-LARGEST_I8, LARGEST_I8) as i8
}

/// The nearest integer, ties away from zero, as ggml rounds.
///
/// Without the rounding of `f32::round` at the far end: the fraction is doubled and cut.
#[expect(clippy::cast_possible_truncation, reason = "127 at most, and infinities saturate")]
fn away_from_zero(value: f32) -> i8 {
    let whole = value.abs().floor();
    let size = whole + (2.0 * (value.abs() - whole)).floor();
    size.copysign(value) as i8
}

/// What quantizing cost: the numbers that were given against those that are read back.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Loss {
    /// The largest difference of two elements.
    pub max_error: f64,
    /// The root of the mean of the squared differences, over all elements.
    pub rms_error: f64,
    /// The mean over the rows of the cosine between what was given and what is read.
    pub mean_cosine: f64,
    /// The smallest such cosine of a row; 1 where there are no rows.
    pub min_cosine: f64,
}

/// Adds up what quantizing costs, row by row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LossSum {
    max: f64,
    squares: f64,
    elements: u64,
    cosines: f64,
    least: f64,
    rows: u64,
}

impl LossSum {
    pub(crate) fn new() -> Self {
        LossSum { max: 0.0, squares: 0.0, elements: 0, cosines: 0.0, least: 1.0, rows: 0 }
    }

    /// Adds a row as it was given, and as it is read back.
    pub(crate) fn add(&mut self, given: &[f32], read: &[f32]) {
        let (mut dot, mut one, mut other) = (0.0, 0.0, 0.0);
        for (given, read) in given.iter().zip(read) {
            let (given, read) = (f64::from(*given), f64::from(*read));
            self.max = self.max.max((given - read).abs());
            self.squares += (given - read) * (given - read);
            dot += given * read;
            one += given * given;
            other += read * read;
        }
        // Two rows of zeros are alike; one alone has no direction.
        let cosine = if one + other == 0.0 {
            1.0
        } else if one * other == 0.0 {
            0.0
        } else {
            (dot / (one.sqrt() * other.sqrt())).min(1.0)
        };
        self.least = self.least.min(cosine);
        self.cosines += cosine;
        self.rows += 1;
        self.elements += given.len() as u64;
    }

    pub(crate) fn finish(&self) -> Loss {
        #[expect(clippy::cast_precision_loss, reason = "means over the nearest f64")]
        let mean = |sum: f64, count: u64| sum / count.max(1) as f64;
        Loss {
            max_error: self.max,
            rms_error: mean(self.squares, self.elements).sqrt(),
            mean_cosine: if self.rows == 0 { 1.0 } else { mean(self.cosines, self.rows) },
            min_cosine: self.least,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(quantizer: Quantizer, row: &[f32]) -> Vec<u8> {
        let mut out = Vec::new();
        quantizer.push(row, &mut out).unwrap();
        out
    }

    #[test]
    fn the_largest_number_of_a_row_takes_the_largest_code() {
        let row = encoded(Quantizer::I8, &[1.27, -0.64, 0.0]);
        assert_eq!(row[..3], [127, (-64i8).cast_unsigned(), 0]);
        assert_eq!(row[3..], (1.27f32 / 127.0).to_le_bytes());
        let row = encoded(Quantizer::E4M3, &[-448.0, 1.0, 0.0, -0.0]);
        assert_eq!(row[..4], [0xfe, 0x38, 0x00, 0x80]);
        assert_eq!(row[4..], 1f32.to_le_bytes());
    }

    #[test]
    fn zeros_and_numbers_below_every_scale_become_zeros() {
        let tiny = f32::from_bits(1);
        for row in [[0.0, -0.0, 0.0], [tiny, -tiny, 0.0]] {
            assert_eq!(encoded(Quantizer::I8, &row), [0; 7]);
            assert_eq!(encoded(Quantizer::E4M3, &row), [0; 7]);
        }
        assert_eq!(encoded(Quantizer::Q8_0, &[0.0; 32]), [0; 34]);
    }

    #[test]
    fn what_cannot_be_held_is_named() {
        let mut out = Vec::new();
        for quantizer in [Quantizer::I8, Quantizer::E4M3, Quantizer::Q8_0] {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut row = [1.0; 64];
                row[40] = bad;
                assert_eq!(quantizer.push(&row, &mut out), Err(40));
            }
        }
        let mut row = [1.0; 64];
        row[33] = -1e9;
        assert_eq!(Quantizer::Q8_0.push(&row, &mut out), Err(33));
        assert_eq!(Quantizer::I8.push(&[f32::MAX, f32::MIN], &mut out), Ok(()));
    }

    #[test]
    fn losses_are_those_of_the_definition() {
        let mut sum = LossSum::new();
        sum.add(&[3.0, 4.0], &[4.0, 3.0]);
        sum.add(&[0.0, 0.0], &[0.0, 0.0]);
        let loss = sum.finish();
        assert_eq!((loss.max_error, loss.rms_error), (1.0, 0.5f64.sqrt()));
        assert!((loss.min_cosine - 0.96).abs() < 1e-12);
        assert!((loss.mean_cosine - 0.98).abs() < 1e-12);
        assert_eq!(LossSum::new().finish().mean_cosine, 1.0);
        sum.add(&[1.0], &[0.0]);
        assert_eq!(sum.finish().min_cosine, 0.0);
    }
}
