//! Whether what is measured is right: figures of wrong rows are worth nothing.

use anyhow::{Result, bail};
use embmap::{GatherOptions, Table};

use super::args::Out;
use super::work::{Memory, Work, row_bytes};

/// The output rows that are compared.
const LOOKS: usize = 32;

/// Gathers a batch and compares some of its rows with the same rows read one by one from the
/// file, by the portable kernels.
pub(super) fn check(
    work: &Work<'_>,
    ids: &[u64],
    memory: &mut Memory,
    reader: &Table,
) -> Result<()> {
    work.gather(ids, memory)?;
    let dim = work.table.dim();
    let one = GatherOptions::new().threads(1).portable(true);
    let bag = if let Out::Bag(bag) = work.out { bag.get() } else { 1 };
    let outputs = ids.len().div_ceil(bag);
    // The ends of a batch and what lies between them.
    let looks = LOOKS.min(outputs);
    for look in 0..looks {
        let output = look * (outputs - 1) / looks.saturating_sub(1).max(1);
        let sources = &ids[output * bag..ids.len().min((output + 1) * bag)];
        let right = if work.out == Out::Native {
            let row = row_bytes(work.table);
            let mut expected = vec![0u8; row];
            reader.gather_bytes_into_with(sources, &mut expected, &one)?;
            memory.of::<u8>(ids.len() * row)[output * row..][..row] == expected
        } else {
            let expected = sum(reader, sources, &one)?;
            let found = &memory.of::<f32>(outputs * dim)[output * dim..][..dim];
            // A NaN is one whatever its payload.
            let same =
                |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
            found.iter().zip(&expected).all(same)
        };
        if !right {
            bail!("the rows gathered are wrong: output row {output}, of ids {sources:?}");
        }
    }
    Ok(())
}

/// The sum of rows, in the order of their ids, as a bag promises it; of one row, the row.
fn sum(reader: &Table, ids: &[u64], one: &GatherOptions) -> Result<Vec<f32>> {
    let mut row = vec![0f32; reader.dim()];
    let mut sum: Option<Vec<f32>> = None;
    for id in ids {
        reader.gather_into_with(&[*id], &mut row, one)?;
        match &mut sum {
            None => sum = Some(row.clone()),
            Some(sum) => sum.iter_mut().zip(&row).for_each(|(sum, value)| *sum += value),
        }
    }
    Ok(sum.unwrap_or_default())
}
