//! The rows that are drawn.

use anyhow::{Result, ensure};
use embmap::Table;

/// Rows scaled to length 1, one after the other: where rows point is what a table means.
pub(super) struct Points {
    pub(super) dim: usize,
    pub(super) values: Vec<f32>,
}

impl Points {
    /// The rows of some ids; those without a direction are taken out of the ids.
    pub(super) fn gather(table: &Table, ids: &mut Vec<u64>) -> Result<Self> {
        let dim = table.dim();
        let mut values: Vec<f32> = table.gather(ids.as_slice())?;
        let mut kept = Vec::with_capacity(ids.len());
        let mut end = 0;
        for (at, id) in ids.iter().enumerate() {
            let row = &mut values[at * dim..(at + 1) * dim];
            let squares: f64 = row.iter().map(|value| f64::from(*value).powi(2)).sum();
            let length = squares.sqrt();
            if length == 0.0 || !length.is_finite() {
                continue;
            }
            for value in row {
                #[expect(clippy::cast_possible_truncation, reason = "rounding is the purpose")]
                let unit = (f64::from(*value) / length) as f32;
                *value = unit;
            }
            values.copy_within(at * dim..(at + 1) * dim, end);
            end += dim;
            kept.push(*id);
        }
        values.truncate(end);
        ensure!(
            !kept.is_empty(),
            "no row that was chosen has a direction: all are zeros, or no numbers"
        );
        *ids = kept;
        Ok(Points { dim, values })
    }

    pub(super) fn count(&self) -> usize {
        self.values.len() / self.dim
    }

    pub(super) fn row(&self, at: usize) -> &[f32] {
        &self.values[at * self.dim..(at + 1) * self.dim]
    }

    pub(super) fn rows(&self) -> std::slice::ChunksExact<'_, f32> {
        self.values.chunks_exact(self.dim)
    }
}

/// The product of two vectors, in 16 lanes, which the compiler makes vectors of.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut lanes = [0f32; LANES];
    let (chunks, others) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = chunks.remainder().iter().zip(others.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in chunks.zip(others) {
        for (lane, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *lane += a * b;
        }
    }
    lanes.iter().sum::<f32>() + rest
}

/// A count as a number to calculate with.
#[expect(clippy::cast_precision_loss, reason = "a picture has thousands of points")]
pub(super) fn real(count: usize) -> f64 {
    count as f64
}
