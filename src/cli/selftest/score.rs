//! What was tried of a promise, and what came of it.

use std::io::{self, IsTerminal, Write};
use std::panic::{self, AssertUnwindSafe};

use anyhow::Result;
use clap::builder::styling::AnsiColor;
use serde_json::{Value, json};

use crate::cli::console::Console;
use crate::cli::escape::printable;
use crate::cli::tensors::columns;

/// The most failures that are told of a promise.
const TOLD: usize = 5;

/// The cases of one promise.
pub(super) struct Score {
    promise: &'static str,
    cases: u64,
    failures: u64,
    told: Vec<String>,
}

impl Score {
    pub(super) fn new(promise: &'static str) -> Self {
        Score { promise, cases: 0, failures: 0, told: Vec::new() }
    }

    pub(super) fn failures(&self) -> u64 {
        self.failures
    }

    /// Counts a case, which fails where something does not hold, or panics.
    pub(super) fn case(&mut self, what: impl FnOnce() -> String, holds: impl FnOnce() -> bool) {
        self.cases += 1;
        // A case keeps nothing that is looked at again.
        match panic::catch_unwind(AssertUnwindSafe(holds)) {
            Ok(true) => {}
            Ok(false) => self.fail(what()),
            Err(_) => self.fail(format!("{}: a panic", what())),
        }
    }

    pub(super) fn fail(&mut self, what: String) {
        self.failures += 1;
        if self.told.len() < TOLD {
            self.told.push(what);
        }
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "promise": self.promise,
            "cases": self.cases,
            "failures": self.failures,
            "told": self.told,
        })
    }
}

/// Prints a line a promise, and what failed below.
pub(super) fn print(out: &mut impl Write, scores: &[Score], console: &Console) -> Result<()> {
    let head = ["promise", "cases", "failures"].map(str::to_owned);
    let rows = scores.iter().map(|score| {
        [score.promise.to_owned(), score.cases.to_string(), score.failures.to_string()]
    });
    writeln!(out, "{}", columns(std::iter::once(head).chain(rows), &[1, 2]))?;
    for score in scores {
        for failure in &score.told {
            writeln!(out, "{}: {}", score.promise, printable(failure))?;
        }
    }
    let failures: u64 = scores.iter().map(Score::failures).sum();
    let (color, verdict) = match failures {
        0 => (AnsiColor::Green, "every promise holds".to_owned()),
        1 => (AnsiColor::Red, "1 case failed".to_owned()),
        count => (AnsiColor::Red, format!("{count} cases failed")),
    };
    let style = console.style(color, io::stdout().is_terminal());
    writeln!(out, "{style}{verdict}{style:#}")?;
    Ok(())
}
