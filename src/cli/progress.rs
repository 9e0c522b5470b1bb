//! A progress bar, on a terminal, for work that takes longer than a second.

use std::fmt;
use std::time::{Duration, Instant};

use indicatif::style::ProgressTracker;
use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::console::Console;

const PATIENCE: Duration = Duration::from_secs(1);

/// What is counted.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Unit {
    Rows,
    Bytes,
    /// Rounds of a calculation.
    Steps,
    /// Milliseconds of work that ends by the clock.
    Time,
}

/// How far a piece of work has come.
pub(crate) struct Progress {
    unit: Unit,
    drawn: bool,
    start: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    pub(crate) fn new(unit: Unit, console: &Console) -> Self {
        Progress { unit, drawn: console.draws_progress(), start: Instant::now(), bar: None }
    }

    /// Shows that `done` of `all` is done.
    pub(crate) fn show(&mut self, done: u64, all: u64) {
        if !self.drawn || (self.bar.is_none() && self.start.elapsed() < PATIENCE) {
            return;
        }
        let (unit, start) = (self.unit, self.start);
        self.bar.get_or_insert_with(|| bar(unit, all, start)).set_position(done);
    }

    /// Says what is done after the last of them, where a bar is drawn: how long that takes is
    /// not known.
    pub(crate) fn then(&self, what: &'static str) {
        let style = ProgressStyle::with_template("{spinner} {msg}");
        if let (Some(bar), Ok(style)) = (&self.bar, style) {
            bar.set_style(style);
            bar.set_message(what);
            bar.enable_steady_tick(Duration::from_millis(100));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(unit: Unit, all: u64, start: Instant) -> ProgressBar {
    let template = match unit {
        Unit::Rows => "{percent:>3} % {wide_bar} {human_pos}/{human_len} rows, {left} left",
        Unit::Bytes => "{percent:>3} % {wide_bar} {binary_bytes}/{binary_total_bytes}, {left} left",
        Unit::Steps => "{percent:>3} % {wide_bar} step {human_pos} of {human_len}, {left} left",
        Unit::Time => "{percent:>3} % {wide_bar} {left} left",
    };
    let bar = ProgressBar::with_draw_target(Some(all), ProgressDrawTarget::stderr());
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style.with_key("left", Left { start })),
        Err(_) => bar,
    }
}

/// The time that is left at the mean speed so far. The bar's own estimate takes what was done
/// before it was first drawn for the work of a moment.
#[derive(Debug, Clone, Copy)]
struct Left {
    start: Instant,
}

impl ProgressTracker for Left {
    fn clone_box(&self) -> Box<dyn ProgressTracker> {
        Box::new(*self)
    }

    fn tick(&mut self, _: &ProgressState, _: Instant) {}

    fn reset(&mut self, _: &ProgressState, _: Instant) {}

    fn write(&self, state: &ProgressState, out: &mut dyn fmt::Write) {
        let (done, all) = (u128::from(state.pos()), u128::from(state.len().unwrap_or(0)));
        let left = self.start.elapsed().as_millis() * all.saturating_sub(done) / done.max(1);
        let left = Duration::from_millis(u64::try_from(left).unwrap_or(u64::MAX));
        // A line that cannot be formatted is not drawn.
        _ = write!(out, "{:#}", HumanDuration(left));
    }
}
