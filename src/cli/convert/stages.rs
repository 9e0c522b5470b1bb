//! The progress of a conversion, stage by stage.

use std::ops::ControlFlow;

use embmap::{Progress as Told, Stage};

use crate::cli::console::Console;
use crate::cli::interrupt;
use crate::cli::progress::{Progress, Unit};

/// A bar for each stage.
pub(super) struct Stages<'a> {
    console: &'a Console,
    stage: Stage,
    progress: Progress,
}

impl<'a> Stages<'a> {
    pub(super) fn new(console: &'a Console) -> Self {
        Stages { console, stage: Stage::Reading, progress: Progress::new(Unit::Rows, console) }
    }

    /// Shows how far it has come, and stops where a signal came.
    pub(super) fn show(&mut self, told: Told) -> ControlFlow<()> {
        if told.stage == Stage::Finishing {
            self.progress.then("writing tokens and checksums, and flushing");
        } else {
            // Where nobody knows how many rows there are, the bytes tell how far it is.
            let unit = match (told.rows.1, told.bytes.1) {
                (None, Some(_)) => Unit::Bytes,
                _ => Unit::Rows,
            };
            if told.stage != self.stage || unit != self.progress.unit() {
                self.stage = told.stage;
                self.progress = Progress::new(unit, self.console);
            }
            let (done, all) = if unit == Unit::Bytes { told.bytes } else { told.rows };
            self.progress.show_of(done, all);
        }
        interrupt::check()
    }
}
