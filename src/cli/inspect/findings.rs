//! What of it all is out of the ordinary.

use embmap::{DType, Inspection, Table};

use super::report::{figure, percent, ratio};

/// The mean cosine from which rows are said to point the same way.
const ALIKE: f64 = 0.3;

/// The part of its directions that a table should use.
const FEW_DIRECTIONS: f64 = 0.1;

/// The length of the longest row over the median from which it is worth a word.
const LONG: f64 = 10.0;

/// Sentences about what deserves a look, the worst first.
pub(super) fn findings(found: &Inspection, table: &Table) -> Vec<String> {
    let mut all = Vec::new();
    let rows = |count: u64| if count == 1 { "1 row".to_owned() } else { format!("{count} rows") };
    if found.rows == 0 {
        return vec!["the table has no rows".to_owned()];
    }
    if found.non_finite_rows.count > 0 {
        let (count, nan, infinite) = (found.non_finite_rows.count, found.nan, found.infinite);
        let of = rows(count);
        all.push(format!("{of} with NaN or infinite elements ({nan} NaN, {infinite} infinite)"));
    }
    if found.zero_rows.count > 0 {
        let part = percent(ratio(found.zero_rows.count, found.rows));
        all.push(format!(
            "{} of zeros, {part} of all: never trained, or padding",
            rows(found.zero_rows.count)
        ));
    }
    if found.duplicates.rows > 0 {
        let count = found.duplicates.rows;
        let about = if found.duplicates.exact { "" } else { "about " };
        let part = percent(ratio(count, found.rows));
        all.push(format!("{about}{} repeat an earlier one, {part} of all", rows(count)));
    }
    if let Some(tokens) = &found.tokens {
        if tokens.rows_without.count > 0 {
            all.push(format!("{} without a token", rows(tokens.rows_without.count)));
        }
        if tokens.without_rows.count > 0 {
            all.push(format!("{} tokens without a row", tokens.without_rows.count));
        }
        if tokens.duplicates.rows > 0 {
            let count = tokens.duplicates.rows;
            let noun = if count == 1 { "token" } else { "tokens" };
            all.push(format!(
                "{count} {noun} that an earlier row has: looked up, they give that row"
            ));
        }
    }
    if found.values.beyond_f16 > 0 && table.dtype() != DType::F16 {
        let (count, max) = (found.values.beyond_f16, found.values.max.max(-found.values.min));
        all.push(format!("{count} elements beyond the range of f16, up to {}", figure(max)));
    }
    let median = found.norms.quantiles.iter().find(|(share, _)| (share - 0.5).abs() < 1e-9);
    if let Some((_, median)) = median
        && found.norms.max > LONG * median
    {
        let times = figure(found.norms.max / median);
        all.push(format!("the longest row is {times} times as long as the median"));
    }
    if let Some(directions) = &found.directions {
        if directions.mean_cosine > ALIKE {
            let cosine = figure(directions.mean_cosine);
            all.push(format!(
                "rows point much the same way (mean cosine {cosine}): subtract their mean before comparing them"
            ));
        }
        if directions.effective_dim < FEW_DIRECTIONS * dim(table) && table.dim() >= 32 {
            let used = figure(directions.effective_dim);
            all.push(format!("rows vary in about {used} of {} directions", table.dim()));
        }
    }
    all
}

#[expect(clippy::cast_precision_loss, reason = "at most 2^24")]
fn dim(table: &Table) -> f64 {
    table.dim() as f64
}
