//! Rows into one: sums, weighted sums and maxima over decoded elements, in `f32`.
//!
//! Rows are taken one after the other, and a weight is multiplied before it is added, never
//! in one step: so the result is the same on every CPU, and that of the obvious loop.

use half::{bf16, f16};

use super::{JoinRows, Kernels, Recipe, RowParts, runs};
use crate::dtype::{DType, Element};

/// The rows that one call may take: as many as bags often have. Accumulators are loaded and stored
/// once for all of them, and more cache lines are on their way than for one row.
pub(crate) const GROUP: usize = 32;

/// Rows that are joined in one call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Group<'a> {
    /// The values of at most [`GROUP`] rows.
    pub(crate) values: &'a [&'a [u8]],
    /// The scales and the biases of each; no codec without them looks here.
    pub(crate) scales: &'a [&'a [u8]],
    pub(crate) biases: &'a [&'a [u8]],
    /// With [`Join::AddWeighted`], the weight of each row.
    pub(crate) weights: &'a [f32],
    /// Rows that will be joined soon. A kernel may ask for them line by line while it works: asked
    /// for at once they are in each other's way, and rows of 3 KiB took twice as long.
    pub(crate) coming: &'a [&'a [u8]],
}

impl<'a> Group<'a> {
    /// The rows in their order.
    pub(super) fn rows(self) -> impl Iterator<Item = RowParts<'a>> {
        self.values.iter().enumerate().map(move |(index, values)| RowParts {
            values,
            scales: self.scales.get(index).copied().unwrap_or(&[]),
            biases: self.biases.get(index).copied().unwrap_or(&[]),
        })
    }
}

/// How a row joins those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Join {
    /// Added to them.
    Add,
    /// Multiplied by its weight, then added.
    AddWeighted,
    /// The larger element stays; a NaN stays.
    Max,
}

impl Join {
    /// What accumulators hold before the first row.
    pub(crate) fn start(self) -> f32 {
        if self == Join::Max { f32::NEG_INFINITY } else { 0.0 }
    }
}

/// The function that joins rows of a dtype, chosen once for many rows.
pub(super) fn joiner(dtype: DType, kernels: Kernels) -> JoinRows {
    #[cfg(target_arch = "x86_64")]
    if let (Kernels::Fastest, Some(join)) = (kernels, super::x86::joiner(dtype)) {
        return join;
    }
    let _ = kernels;
    match dtype {
        DType::F32 => join_rows::<f32>,
        DType::F16 => join_rows::<f16>,
        DType::BF16 => join_rows::<bf16>,
        DType::F64 => join_rows::<f64>,
        _ => runs::join,
    }
}

/// The oracle: one row after the other, one element after the other.
pub(super) fn join_rows<S: Element>(_: Recipe, join: Join, group: Group<'_>, sums: &mut [f32]) {
    for (index, row) in group.rows().enumerate() {
        match join {
            Join::Add => each::<S>(row.values, sums, |sum, value| *sum += value),
            Join::AddWeighted => {
                let weight = group.weights[index];
                each::<S>(row.values, sums, |sum, value| *sum += value * weight);
            }
            Join::Max => each::<S>(row.values, sums, |sum, value| {
                if value > *sum || value.is_nan() {
                    *sum = value;
                }
            }),
        }
    }
}

#[inline]
fn each<S: Element>(row: &[u8], sums: &mut [f32], join: impl Fn(&mut f32, f32)) {
    for (bytes, sum) in row.chunks_exact(size_of::<S>()).zip(sums) {
        join(sum, bytemuck::pod_read_unaligned::<S>(bytes).convert());
    }
}

/// Joins decoded elements to the accumulators. There is a weight with [`Join::AddWeighted`].
#[inline]
pub(super) fn join_values(join: Join, values: &[f32], weight: Option<f32>, sums: &mut [f32]) {
    let pairs = sums.iter_mut().zip(values);
    match (join, weight) {
        (Join::Add | Join::AddWeighted, None) => pairs.for_each(|(sum, value)| *sum += value),
        (Join::Add, Some(_)) => pairs.for_each(|(sum, value)| *sum += value),
        (Join::AddWeighted, Some(weight)) => {
            pairs.for_each(|(sum, value)| *sum += value * weight);
        }
        (Join::Max, _) => pairs.for_each(|(sum, value)| {
            if *value > *sum || value.is_nan() {
                *sum = *value;
            }
        }),
    }
}
