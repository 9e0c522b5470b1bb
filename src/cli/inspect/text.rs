//! The report for people, on a terminal.

use std::io::Write;

use anyhow::Result;
use embmap::inspect::{Duplicates, NormBin};

use super::super::console::size;
use super::super::escape::printable_path;
use super::super::output::Output;
use super::super::tensors::columns;
use super::lines::{self, Line};
use super::report::{Report, figure};

/// The widest bar of a histogram.
const WIDEST: u64 = 40;

/// The groups of repeated rows that are listed.
const GROUPS: usize = 5;

pub(super) fn print(report: &Report<'_>) -> Result<()> {
    let mut out = Output::stdout();
    let (table, found) = (report.table, report.found);
    let path = printable_path(report.path);
    let bytes = size(table.vocab().saturating_mul(table.row_bytes()));
    let (vocab, dim, dtype) = (table.vocab(), table.dim(), table.dtype());
    writeln!(out, "{path}: {vocab} x {dim} {dtype}, {bytes} of rows")?;
    for finding in &report.findings {
        writeln!(out, "  ! {finding}")?;
    }
    if report.findings.is_empty() {
        writeln!(out, "  nothing out of the ordinary")?;
    }
    section(&mut out, "rows", &lines::rows(report))?;
    groups(&mut out, report, &found.duplicates)?;
    if !found.norms.histogram.is_empty() {
        section(&mut out, "lengths of rows", &lines::norms(report))?;
        histogram(&mut out, &found.norms.histogram)?;
    }
    if found.values.count > 0 {
        section(&mut out, "elements", &lines::elements(report))?;
    }
    if let Some(directions) = &found.directions {
        let name = format!("directions, of {}", report.sampled(directions.rows));
        section(&mut out, &name, &lines::directions(report))?;
    }
    if !found.costs.is_empty() && found.cost_rows > 0 {
        writeln!(out, "\nsmaller dtypes, of {}", report.sampled(found.cost_rows))?;
        let costs = lines::costs(report).into_iter().map(|mut line| {
            line[0].insert_str(0, "  ");
            line
        });
        writeln!(out, "{}", columns(costs, &[1, 2, 3, 4, 5]))?;
    }
    match &found.tokens {
        None => writeln!(out, "\nno tokens")?,
        Some(tokens) => {
            let name = format!("{} tokens", tokens.count);
            section(&mut out, &name, &lines::tokens(report, tokens))?;
            groups(&mut out, report, &tokens.duplicates)?;
        }
    }
    out.finish()
}

fn section(out: &mut impl Write, name: &str, lines: &[Line]) -> Result<()> {
    let lines = lines.iter().map(|(name, value)| [format!("  {name}"), value.clone()]);
    writeln!(out, "\n{name}\n{}", columns(lines, &[]))?;
    Ok(())
}

fn groups(out: &mut impl Write, report: &Report<'_>, found: &Duplicates) -> Result<()> {
    for group in found.largest.iter().take(GROUPS) {
        let rows = report.rows(&group.ids, group.count);
        writeln!(out, "    {} times: {rows}", group.count)?;
    }
    if found.groups > GROUPS as u64 {
        writeln!(out, "    …")?;
    }
    Ok(())
}

fn histogram(out: &mut impl Write, bins: &[NormBin]) -> Result<()> {
    let most = bins.iter().map(|bin| bin.rows).max().unwrap_or(1).max(1);
    let bars = bins
        .iter()
        .map(|bin| [format!("  {}", figure(bin.from)), bar(bin.rows, most), bin.rows.to_string()]);
    writeln!(out, "{}", columns(bars, &[0]))?;
    Ok(())
}

/// A bar in eighths of a character; something that is there shows.
fn bar(count: u64, most: u64) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (u128::from(count) * u128::from(WIDEST * 8)).div_ceil(u128::from(most));
    let eighths = usize::try_from(eighths).unwrap_or(0);
    format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_show_what_is_there() {
        assert_eq!(bar(0, 10), "");
        assert_eq!(bar(10, 10).chars().count(), 40);
        assert_eq!(bar(1, 1_000_000), "▏");
        assert_eq!(bar(5, 10), "█".repeat(20));
        assert_eq!(bar(u64::MAX, u64::MAX).chars().count(), 40);
    }
}
