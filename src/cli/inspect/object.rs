//! The report for scripts.

use embmap::inspect::{Duplicates, NormedRow, RowList};
use serde_json::{Value, json};

use super::super::json::Object;
use super::report::Report;

pub(super) fn object(report: &Report<'_>) -> Object {
    let (table, found) = (report.table, report.found);
    Object::new()
        .with("path", report.path.to_string_lossy())
        .with("vocab", table.vocab())
        .with("dim", table.dim())
        .with("dtype", table.dtype().name())
        .with("row_bytes", table.row_bytes())
        .with("findings", report.findings.clone())
        .with("nan", found.nan)
        .with("infinite", found.infinite)
        .with("non_finite_rows", list(&found.non_finite_rows))
        .with("zero_rows", list(&found.zero_rows))
        .with("duplicates", duplicates(&found.duplicates))
        .with("norms", norms(report))
        .with("values", values(report))
        .with("directions", directions(report))
        .with("cost_rows", found.cost_rows)
        .with("costs", costs(report))
        .with("tokens", tokens(report))
}

fn list(list: &RowList) -> Value {
    json!({ "count": list.count, "first": list.first })
}

fn duplicates(found: &Duplicates) -> Value {
    let group =
        |group: &embmap::inspect::Repeated| json!({ "count": group.count, "ids": group.ids });
    json!({
        "exact": found.exact,
        "share_of_hashes": found.share,
        "rows": found.rows,
        "groups": found.groups,
        "largest": found.largest.iter().map(group).collect::<Vec<_>>(),
    })
}

fn norms(report: &Report<'_>) -> Value {
    let norms = &report.found.norms;
    let bins = norms.histogram.iter().map(|bin| json!([bin.from, bin.to, bin.rows]));
    let row = |row: &NormedRow| json!({ "id": row.id, "norm": row.norm });
    let rows = |rows: &[NormedRow]| rows.iter().map(row).collect::<Vec<_>>();
    json!({
        "rows": norms.count,
        "min": norms.min,
        "max": norms.max,
        "mean": norms.mean,
        "std": norms.std,
        "quantiles": norms.quantiles,
        "histogram": bins.collect::<Vec<_>>(),
        "shortest": rows(&norms.shortest),
        "longest": rows(&norms.longest),
    })
}

fn values(report: &Report<'_>) -> Value {
    let values = &report.found.values;
    json!({
        "count": values.count,
        "min": values.min,
        "max": values.max,
        "mean": values.mean,
        "std": values.std,
        "smallest": values.smallest,
        "zeros": values.zeros,
        "beyond_f16": values.beyond_f16,
    })
}

fn directions(report: &Report<'_>) -> Value {
    let Some(directions) = &report.found.directions else { return Value::Null };
    json!({
        "mean_cosine": directions.mean_cosine,
        "rows": directions.rows,
        "effective_dim": directions.effective_dim,
        "isotropy": directions.isotropy,
        "common": directions.common,
        "first_axis": directions.first_axis,
        "axes": directions.axes,
    })
}

fn costs(report: &Report<'_>) -> Vec<Value> {
    let cost = |cost: &embmap::inspect::Cost| {
        json!({
            "dtype": cost.dtype.name(),
            "row_bytes": cost.row_bytes,
            "max_error": cost.loss.map(|loss| loss.max_error),
            "rms_error": cost.loss.map(|loss| loss.rms_error),
            "mean_cosine": cost.loss.map(|loss| loss.mean_cosine),
            "min_cosine": cost.loss.map(|loss| loss.min_cosine),
        })
    };
    report.found.costs.iter().map(cost).collect()
}

fn tokens(report: &Report<'_>) -> Value {
    let Some(tokens) = &report.found.tokens else { return Value::Null };
    json!({
        "count": tokens.count,
        "rows_without": list(&tokens.rows_without),
        "without_rows": list(&tokens.without_rows),
        "empty": list(&tokens.empty),
        "longest_bytes": tokens.longest,
        "duplicates": duplicates(&tokens.duplicates),
    })
}
