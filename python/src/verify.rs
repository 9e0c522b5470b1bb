//! `Table.verify`.

use embmap::{Damage, Table};
use pyo3::prelude::*;

use crate::error::raised;
use crate::progress::Progress;

/// Verifies a table, as `embmap.Verification`.
pub(crate) fn verify<'py>(
    py: Python<'py>,
    table: &Table,
    progress: Option<&Py<PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let mut progress = Progress::new(progress);
    let found = py.detach(|| table.verify_with(|done, total| progress.step(done, total)));
    let found = match (found, progress.stopped()) {
        (_, Some(error)) => return Err(error),
        (found, None) => found.map_err(raised)?,
    };
    let damage: Vec<String> = found.damage.iter().map(described).collect();
    let class = py.import("embmap")?.getattr("Verification")?;
    class.call1((
        found.is_sound(),
        found.bytes,
        found.blocks,
        found.nan,
        found.infinite,
        found.first_non_finite_row,
        damage,
    ))
}

fn described(damage: &Damage) -> String {
    match damage {
        Damage::Block { block, offset, bytes, rows, .. } => format!(
            "rows {}:{}: block {block}, {bytes} bytes at offset {offset}, does not match its sum",
            rows.start, rows.end
        ),
        Damage::Format(error) => error.to_string(),
        // Of a kind that this wheel does not know yet.
        other => format!("{other:?}"),
    }
}
