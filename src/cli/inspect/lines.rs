//! The figures in words: names and values, the same on a terminal and on a page.

use embmap::inspect::{NormedRow, Tokens};

use super::super::console::size;
use super::report::{Report, figure, percent, ratio};

/// A name and what it stands for.
pub(super) type Line = (&'static str, String);

pub(super) fn rows(report: &Report<'_>) -> Vec<Line> {
    let found = report.found;
    vec![
        ("all zeros", report.list(&found.zero_rows)),
        ("NaN, infinite", report.list(&found.non_finite_rows)),
        ("repeated", Report::repeated(&found.duplicates, "rows")),
    ]
}

pub(super) fn norms(report: &Report<'_>) -> Vec<Line> {
    let norms = &report.found.norms;
    let end = |rows: &[NormedRow]| {
        let rows = rows.iter().map(|row| format!("{} ({})", report.row(row.id), figure(row.norm)));
        rows.collect::<Vec<_>>().join(", ")
    };
    let quantile = |wanted: f64| {
        let found = norms.quantiles.iter().find(|(share, _)| (share - wanted).abs() < 1e-9);
        figure(found.map_or(0.0, |(_, norm)| *norm))
    };
    let half = format!("half of all between {} and {}", quantile(0.25), quantile(0.75));
    vec![
        ("range", format!("{} to {}", figure(norms.min), figure(norms.max))),
        ("mean", format!("{}, deviation {}", figure(norms.mean), figure(norms.std))),
        ("median", format!("{}, {half}", quantile(0.5))),
        ("shortest", end(&norms.shortest)),
        ("longest", end(&norms.longest)),
    ]
}

pub(super) fn elements(report: &Report<'_>) -> Vec<Line> {
    let values = &report.found.values;
    vec![
        ("range", format!("{} to {}", figure(values.min), figure(values.max))),
        ("mean", format!("{}, deviation {}", figure(values.mean), figure(values.std))),
        ("nearest to zero", figure(values.smallest)),
        ("zeros", percent(ratio(values.zeros, values.count))),
        ("beyond f16", values.beyond_f16.to_string()),
    ]
}

pub(super) fn directions(report: &Report<'_>) -> Vec<Line> {
    let Some(directions) = &report.found.directions else { return Vec::new() };
    let (dim, effective) = (report.table.dim(), figure(directions.effective_dim));
    let mut lines = vec![
        ("effective dimension", format!("{effective} of {dim}")),
        ("isotropy", format!("{}, where 1 is all directions alike", figure(directions.isotropy))),
        ("mean cosine", format!("{}, of all pairs of all rows", figure(directions.mean_cosine))),
        ("in common", format!("{} of a row's squared length", percent(directions.common))),
    ];
    if let Some(first) = directions.first_axis {
        lines.push(("first axis", format!("{} of the variance", percent(first))));
    }
    let held = |(share, axes): &(f64, u64)| format!("{:.0} % in {axes}", share * 100.0);
    if !directions.axes.is_empty() {
        let held: Vec<String> = directions.axes.iter().map(held).collect();
        lines.push(("variance", format!("{} axes", held.join(", "))));
    }
    lines
}

/// A heading, and a line for each dtype.
pub(super) fn costs(report: &Report<'_>) -> Vec<[String; 6]> {
    let heading = ["dtype", "rows", "largest error", "RMS error", "mean cosine", "least cosine"];
    let mut lines = vec![heading.map(str::to_owned)];
    for cost in &report.found.costs {
        let bytes = size(report.table.vocab().saturating_mul(cost.row_bytes));
        let figures = match cost.loss {
            Some(loss) => [
                figure(loss.max_error),
                figure(loss.rms_error),
                format!("{:.6}", loss.mean_cosine),
                format!("{:.6}", loss.min_cosine),
            ],
            None => ["cannot hold all", "", "", ""].map(str::to_owned),
        };
        let [max, rms, mean, least] = figures;
        lines.push([cost.dtype.to_string(), bytes, max, rms, mean, least]);
    }
    lines
}

pub(super) fn tokens(report: &Report<'_>, tokens: &Tokens) -> Vec<Line> {
    vec![
        ("rows without", report.list(&tokens.rows_without)),
        ("without rows", report.list(&tokens.without_rows)),
        ("empty", report.list(&tokens.empty)),
        ("longest", format!("{} bytes", tokens.longest)),
        ("repeated", Report::repeated(&tokens.duplicates, "tokens")),
    ]
}
