//! What storing rows with another dtype would cost.

use std::sync::Mutex;

use half::{bf16, f16};

use super::found::Cost;
use crate::codec::{Codec, Decoder, Encoding, Kernels, LossSum, Quantizer, RowParts};
use crate::dtype::{DType, Element};
use crate::error::Result;
use crate::gather::{Crew, lock};

/// The dtypes that a table may be converted to.
const DTYPES: [DType; 6] =
    [DType::F32, DType::F16, DType::BF16, DType::I8, DType::F8E4M3, DType::Q8_0];

/// The costs of dtypes with shorter rows than the table's, for rows of finite numbers that lie
/// one after the other.
pub(super) fn costs(crew: Crew, dim: usize, row_bytes: u64, rows: &[f32]) -> Result<Vec<Cost>> {
    let wanted: Vec<(DType, Encoding, u64)> = DTYPES
        .into_iter()
        .filter_map(|dtype| {
            let encoding = encoding(dtype, dim)?;
            let bytes = encoding.codec.row_bytes(encoding.dtype, dim as u64)?;
            (bytes < row_bytes).then_some((dtype, encoding, bytes))
        })
        .collect();
    let found = Mutex::new(Vec::new());
    crew.work(wanted.into_iter().enumerate().collect(), |(order, (dtype, encoding, bytes))| {
        let loss = match dtype {
            DType::F32 => through::<f32>(rows, dim),
            DType::F16 => through::<f16>(rows, dim),
            DType::BF16 => through::<bf16>(rows, dim),
            other => quantized(Quantizer::to(other), encoding, rows, dim),
        };
        let loss = loss.map(|sum| sum.finish());
        lock(&found).push((order, Cost { dtype, row_bytes: bytes, loss }));
        Ok(())
    })?;
    let mut found = std::mem::take(&mut *lock(&found));
    found.sort_unstable_by_key(|(order, _)| *order);
    Ok(found.into_iter().map(|(_, cost)| cost).collect())
}

fn encoding(dtype: DType, dim: usize) -> Option<Encoding> {
    match Quantizer::to(dtype) {
        Some(quantizer) => Some(quantizer.encoding(u32::try_from(dim).ok()?)),
        None => Some(Encoding { dtype, codec: Codec::Plain }),
    }
}

/// What rounding to a type costs; `None` where a number becomes infinite.
fn through<T: Element>(rows: &[f32], dim: usize) -> Option<LossSum> {
    let mut sum = LossSum::new();
    let mut read = vec![0f32; dim];
    for row in rows.chunks_exact(dim.max(1)) {
        for (read, given) in read.iter_mut().zip(row) {
            *read = given.convert::<T>().convert();
        }
        if read.iter().any(|value| !value.is_finite()) {
            return None;
        }
        sum.add(row, &read);
    }
    Some(sum)
}

/// What quantizing costs; `None` where a number cannot be held.
fn quantized(
    quantizer: Option<Quantizer>,
    encoding: Encoding,
    rows: &[f32],
    dim: usize,
) -> Option<LossSum> {
    let quantizer = quantizer?;
    let back = Decoder::of(encoding, Kernels::of_process());
    let values = encoding.codec.value_bytes(encoding.dtype, dim as u64)?;
    let values = usize::try_from(values).ok()?;
    let mut sum = LossSum::new();
    let (mut encoded, mut read) = (Vec::new(), vec![0f32; dim]);
    for row in rows.chunks_exact(dim.max(1)) {
        encoded.clear();
        quantizer.push(row, &mut encoded).ok()?;
        let (values, scales) = encoded.split_at(values);
        back.decode(RowParts { values, scales, biases: &[] }, &mut read);
        sum.add(row, &read);
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const CREW: Crew = Crew { threads: 2, spin: Duration::ZERO };

    fn of(costs: &[Cost], dtype: DType) -> Cost {
        *costs.iter().find(|cost| cost.dtype == dtype).unwrap()
    }

    #[test]
    fn costs_are_those_of_the_roundings() {
        let rows: Vec<f32> = (0..64 * 10u16).map(|at| (f32::from(at) * 0.37).sin()).collect();
        let found = costs(CREW, 64, 512, &rows).unwrap();
        let bytes: Vec<u64> = found.iter().map(|cost| cost.row_bytes).collect();
        assert_eq!(bytes, [256, 128, 128, 68, 68, 68]);
        assert_eq!(of(&found, DType::F32).loss.unwrap().max_error, 0.0);
        let f16_error = rows.iter().map(|it| (it - f16::from_f32(*it).to_f32()).abs());
        let expected = f16_error.fold(0f32, f32::max);
        assert_eq!(of(&found, DType::F16).loss.unwrap().max_error, f64::from(expected));
        let i8_loss = of(&found, DType::I8).loss.unwrap();
        assert!(i8_loss.max_error <= 1.0 / 254.0 + 1e-6 && i8_loss.min_cosine > 0.9999);
        // Only what is shorter is a saving.
        assert_eq!(costs(CREW, 64, 128, &rows).unwrap().len(), 3);
        assert_eq!(costs(CREW, 33, 132, &rows[..330]).unwrap().len(), 4, "no whole blocks");
    }

    #[test]
    fn what_cannot_be_held_has_no_loss() {
        let rows = vec![7e4f32; 32];
        let found = costs(CREW, 32, 128, &rows).unwrap();
        assert_eq!(of(&found, DType::F16).loss, None);
        assert!(of(&found, DType::BF16).loss.is_some() && of(&found, DType::I8).loss.is_some());
        assert_eq!(of(&costs(CREW, 32, 128, &[3e7; 32]).unwrap(), DType::Q8_0).loss, None);
    }
}
