//! The plain codec: `dim` little-endian elements, one after the other.
//!
//! Rows may start at any byte (safetensors allows it), so elements are read unaligned.
//! Conversions round once, to nearest, ties to even, as the crate `half` does; equal types
//! are copied, so every bit survives.

use half::{bf16, f16};

use super::{Decode, Kernels, Recipe, RowParts, float8, runs};
use crate::dtype::{DType, Element};

/// The function that decodes rows of a dtype into elements of type `O`, chosen once for
/// many rows.
pub(super) fn decoder<O: Element>(dtype: DType, kernels: Kernels) -> Decode<O> {
    if dtype == O::DTYPE {
        return copy::<O>;
    }
    #[cfg(target_arch = "x86_64")]
    if let (Kernels::Fastest, Some(decode)) = (kernels, super::x86::decoder::<O>(dtype)) {
        return decode;
    }
    let _ = kernels;
    match dtype {
        DType::F32 => convert::<f32, O>,
        DType::F16 => convert::<f16, O>,
        DType::BF16 => convert::<bf16, O>,
        DType::F64 => convert::<f64, O>,
        _ => runs::decode,
    }
}

fn copy<O: Element>(_: Recipe, row: RowParts<'_>, out: &mut [O]) {
    bytemuck::cast_slice_mut(out).copy_from_slice(row.values);
}

/// As [`decoder`] chooses it where the dtype is `O`'s own, but past the caches: for large outputs. Each
/// run of rows ends with [`stream_fence`](super::stream_fence).
pub(crate) fn stream<O: Element>(_: Recipe, row: RowParts<'_>, out: &mut [O]) {
    super::kernels::stream_copy(row.values, bytemuck::cast_slice_mut(out));
}

/// The oracle: one element after the other.
#[inline]
pub(super) fn convert<S: Element, O: Element>(_: Recipe, row: RowParts<'_>, out: &mut [O]) {
    convert_values::<S, O>(row.values, out);
}

#[inline]
pub(super) fn convert_values<S: Element, O: Element>(values: &[u8], out: &mut [O]) {
    for (bytes, out) in values.chunks_exact(size_of::<S>()).zip(out) {
        *out = bytemuck::pod_read_unaligned::<S>(bytes).convert();
    }
}

/// Counts the NaNs and the infinities among elements of the plain codec.
pub(crate) fn count_non_finite(dtype: DType, bytes: &[u8]) -> (u64, u64) {
    // Narrow counters over short runs let the compiler use vectors.
    const RUN: usize = 4096;
    fn count<S: Element>(bytes: &[u8]) -> (u64, u64) {
        let (mut nan, mut infinite) = (0, 0);
        for run in bytes.chunks(RUN * size_of::<S>()) {
            let (mut nan_here, mut infinite_here) = (0u32, 0u32);
            for bytes in run.chunks_exact(size_of::<S>()) {
                let value = bytemuck::pod_read_unaligned::<S>(bytes);
                nan_here += u32::from(value.is_nan());
                infinite_here += u32::from(value.is_infinite());
            }
            nan += u64::from(nan_here);
            infinite += u64::from(infinite_here);
        }
        (nan, infinite)
    }
    match dtype {
        DType::F32 => count::<f32>(bytes),
        DType::F16 => count::<f16>(bytes),
        DType::BF16 => count::<bf16>(bytes),
        DType::F64 => count::<f64>(bytes),
        DType::F8E4M3 | DType::F8E5M2 | DType::F8E4M3Fnuz | DType::F8E5M2Fnuz => {
            count_codes(dtype, bytes)
        }
        // Integers are neither.
        _ => (0, 0),
    }
}

/// As [`count_non_finite`], for the numbers of 8 bits.
fn count_codes(dtype: DType, codes: &[u8]) -> (u64, u64) {
    let Some(table) = float8::table(dtype) else { return (0, 0) };
    let (mut nan, mut infinite) = (0, 0);
    for code in codes {
        let value = table[usize::from(*code)];
        nan += u64::from(value.is_nan());
        infinite += u64::from(value.is_infinite());
    }
    (nan, infinite)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Codec, Encoding};

    fn decode<O: Element>(dtype: DType, values: &[u8], dim: usize) -> Vec<O> {
        let mut out = vec![O::from_f32(7.0); dim];
        let encoding = Encoding { dtype, codec: Codec::Plain };
        let recipe = Recipe::of(encoding, Kernels::Portable);
        decoder::<O>(dtype, Kernels::Portable)(recipe, RowParts::of(values), &mut out);
        out
    }

    #[test]
    fn every_f16_becomes_the_f32_that_half_says() {
        let all: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
        let got = decode::<f32>(DType::F16, bytemuck::cast_slice(&all), all.len());
        for (bits, (value, got)) in all.iter().zip(got).enumerate() {
            assert_eq!(got.to_bits(), value.to_f32().to_bits(), "f16 bits {bits:#06x}");
        }
    }

    #[test]
    fn every_bf16_becomes_the_f16_that_half_says() {
        let all: Vec<bf16> = (0..=u16::MAX).map(bf16::from_bits).collect();
        let got = decode::<f16>(DType::BF16, bytemuck::cast_slice(&all), all.len());
        for (value, got) in all.iter().zip(got) {
            assert_eq!(got.to_bits(), f16::from_f32(value.to_f32()).to_bits(), "{value:?}");
        }
    }

    #[test]
    fn equal_types_keep_nan_payloads() {
        let values = [f32::from_bits(0x7f80_0001), f32::from_bits(0xffc1_2345), -0.0];
        let got = decode::<f32>(DType::F32, bytemuck::cast_slice(&values), 3);
        assert_eq!(got.map_bits(), values.map(f32::to_bits));
    }

    #[test]
    fn rows_may_start_at_any_byte() {
        let mut bytes = vec![0xaa];
        bytes.extend(1.5f32.to_le_bytes());
        bytes.extend((-2.25f32).to_le_bytes());
        assert_eq!(
            decode::<f16>(DType::F32, &bytes[1..], 2),
            [f16::from_f32(1.5), f16::from_f32(-2.25)]
        );
        assert_eq!(decode::<f32>(DType::F32, &bytes[1..], 2), [1.5, -2.25]);
    }

    #[test]
    fn counts_nan_and_infinity_apart() {
        let values = [f64::NAN, 1.0, f64::INFINITY, f64::NEG_INFINITY, -f64::NAN, 0.0];
        assert_eq!(count_non_finite(DType::F64, bytemuck::cast_slice(&values)), (2, 2));
    }

    trait Bits {
        fn map_bits(self) -> Vec<u32>;
    }

    impl Bits for Vec<f32> {
        fn map_bits(self) -> Vec<u32> {
            self.into_iter().map(f32::to_bits).collect()
        }
    }
}
