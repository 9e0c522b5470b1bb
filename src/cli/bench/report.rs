//! Figures, for people and for scripts.

use std::io::Write;
use std::path::Path;

use anyhow::Result;
use embmap::Table;
use serde_json::Value;

use super::super::console::size;
use super::super::escape::{printable, printable_path};
use super::super::json::Object;
use super::super::output::Output;
use super::super::tensors::columns;
use super::args::{BenchArgs, State};
use super::figures::{Figures, Numbers};

/// What was found, printed as it is found for scripts and at the end for people.
pub(super) struct Report<'a> {
    args: &'a BenchArgs,
    table: &'a Table,
    pub(super) figures: Vec<Figures>,
}

impl<'a> Report<'a> {
    pub(super) fn new(args: &'a BenchArgs, table: &'a Table) -> Self {
        Report { args, table, figures: Vec::new() }
    }

    /// Adds a configuration.
    pub(super) fn push(&mut self, figures: Figures) -> Result<()> {
        if self.args.json {
            let mut out = Output::stdout();
            self.object(&figures).write(&mut out)?;
            out.finish()?;
        }
        self.figures.push(figures);
        Ok(())
    }

    /// Ends the report.
    pub(super) fn finish(&self) -> Result<()> {
        if self.args.json {
            return Ok(());
        }
        let mut out = Output::stdout();
        writeln!(out, "{}", self.title(&printable_path(&self.args.path)))?;
        let heads = ["state", "threads", "batch", "rows/s", "GB/s", "p50", "p99", "faults"];
        let more = ["read", "amplified", "limit rows/s", "share"];
        let heads: Vec<String> = heads.into_iter().chain(more).map(str::to_owned).collect();
        let lines = self.figures.iter().map(line);
        let lines = std::iter::once(heads.try_into().unwrap_or_default()).chain(lines);
        writeln!(out, "{}", columns(lines, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]))?;
        out.finish()
    }

    pub(super) fn path(&self) -> &Path {
        &self.args.path
    }

    /// What was measured, on a line; `name` stands for the table.
    pub(super) fn title(&self, name: &str) -> String {
        format!(
            "{name}: {} x {} {} ({} a row), {}, {} to {}",
            self.table.vocab(),
            self.table.dim(),
            self.table.dtype(),
            size(self.table.row_bytes()),
            self.table.access().name(),
            printable(&self.args.ids.to_string()),
            self.args.out,
        )
    }

    fn object(&self, figures: &Figures) -> Object {
        let Figures { state, threads, batch, found } = figures;
        let numbers = found.as_ref().ok();
        let number = |pick: fn(&Numbers) -> f64| numbers.map(pick);
        let count = |pick: fn(&Numbers) -> Option<u64>| numbers.and_then(pick);
        let limit = numbers.and_then(Numbers::limit);
        let limits = numbers.map(|numbers| {
            let ways =
                numbers.limits.iter().map(|(way, rows)| (way.name().to_owned(), (*rows).into()));
            Value::Object(ways.collect())
        });
        Object::new()
            .with("table", self.args.path.to_string_lossy())
            .with("vocab", self.table.vocab())
            .with("dim", self.table.dim())
            .with("dtype", self.table.dtype().name())
            .with("row_bytes", self.table.row_bytes())
            .with("access", self.table.access().name())
            .with("ids", self.args.ids.to_string())
            .with("out", self.args.out.to_string())
            .with("state", state.to_string())
            .with("threads", *threads)
            .with("batch", *batch)
            .with("measured", found.is_ok())
            .with("reason", found.as_ref().err().cloned())
            .with("batches", count(|it| Some(it.batches)))
            .with("discarded", count(|it| Some(it.discarded)))
            .with("rows_per_second", number(|it| it.rows_per_second))
            .with("bytes_per_second", number(|it| it.bytes_per_second))
            .with("p50_seconds", number(|it| it.p50))
            .with("p99_seconds", number(|it| it.p99))
            .with("major_faults", count(|it| it.counted.faults))
            .with("device_bytes", count(|it| it.counted.device_bytes))
            .with("asked_bytes", count(|it| Some(it.asked_bytes)))
            .with("amplification", numbers.and_then(Numbers::amplification))
            .with("limit", limit.map(|(way, _)| way.name()))
            .with("limit_rows_per_second", limit.map(|(_, rows_per_second)| rows_per_second))
            .with("limits", limits)
            .with("share", numbers.and_then(Numbers::share))
    }
}

/// Why a state has no figures.
pub(super) fn refusal(state: State, reason: &str) -> String {
    format!(
        "{state}: the table could not be brought into this state, so there are no figures: {reason}"
    )
}

fn line(figures: &Figures) -> [String; 12] {
    let Figures { state, threads, batch, found } = figures;
    let (state, threads, batch) = (state.to_string(), threads.to_string(), batch.to_string());
    let none = || "-".to_owned();
    let Ok(found) = found else {
        let mut line = [(); 12].map(|()| none());
        [line[0], line[1], line[2]] = [state, threads, batch];
        return line;
    };
    [
        state,
        threads,
        batch,
        format!("{:.0}", found.rows_per_second),
        format!("{:.2}", found.bytes_per_second / 1e9),
        time(found.p50),
        time(found.p99),
        found.counted.faults.map_or_else(none, |faults| faults.to_string()),
        found.counted.device_bytes.map_or_else(none, size),
        found.amplification().map_or_else(none, |times| format!("{times:.2}")),
        found.limit().map_or_else(none, |(_, rows)| format!("{rows:.0}")),
        found.share().map_or_else(none, |share| format!("{share:.2}")),
    ]
}

/// A time of three digits.
fn time(seconds: f64) -> String {
    let (number, unit) = match seconds {
        seconds if seconds < 1e-3 => (seconds * 1e6, "us"),
        seconds if seconds < 1.0 => (seconds * 1e3, "ms"),
        seconds => (seconds, "s"),
    };
    let digits = if number < 10.0 { 2 } else { usize::from(number < 100.0) };
    format!("{number:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits() {
        assert_eq!(time(0.000_002_345), "2.35 us");
        assert_eq!(time(0.012_345), "12.3 ms");
        assert_eq!(time(0.123_45), "123 ms");
        assert_eq!(time(2.0), "2.00 s");
    }
}
