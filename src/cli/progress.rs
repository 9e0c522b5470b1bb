//! A progress bar, on a terminal, for work that takes longer than a second.

use std::fmt;
use std::time::{Duration, Instant};

use indicatif::style::ProgressTracker;
use indicatif::{
    HumanBytes, HumanCount, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState,
    ProgressStyle,
};

use super::console::Console;

const PATIENCE: Duration = Duration::from_secs(1);

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Rows,
    Bytes,
    /// Work whose parts nobody counts by hand.
    Work,
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

    /// What is counted.
    pub(crate) fn unit(&self) -> Unit {
        self.unit
    }

    /// Shows that `done` of `all` is done.
    pub(crate) fn show(&mut self, done: u64, all: u64) {
        self.show_of(done, Some(all));
    }

    /// Shows that `done` is done, of nobody knows how much where there is no `all`.
    pub(crate) fn show_of(&mut self, done: u64, all: Option<u64>) {
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

fn bar(unit: Unit, all: Option<u64>, start: Instant) -> ProgressBar {
    let template = match (unit, all) {
        (Unit::Rows, Some(_)) => {
            "{percent:>3} % {wide_bar} {human_pos}/{human_len} rows, {rate}, {left} left"
        }
        (Unit::Rows, None) => "{spinner} {human_pos} rows, {rate}",
        (Unit::Bytes, Some(_)) => {
            "{percent:>3} % {wide_bar} {binary_bytes}/{binary_total_bytes}, {rate}, {left} left"
        }
        (Unit::Bytes, None) => "{spinner} {binary_bytes}, {rate}",
        (Unit::Work, _) => "{percent:>3} % {wide_bar} {left} left",
    };
    let bar = ProgressBar::with_draw_target(all, ProgressDrawTarget::stderr());
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(
            style.with_key("left", Left { start }).with_key("rate", Rate { unit, start }),
        ),
        Err(_) => bar,
    }
}

/// What is done in a second, at the mean speed so far.
#[derive(Debug, Clone, Copy)]
struct Rate {
    unit: Unit,
    start: Instant,
}

impl ProgressTracker for Rate {
    fn clone_box(&self) -> Box<dyn ProgressTracker> {
        Box::new(*self)
    }

    fn tick(&mut self, _: &ProgressState, _: Instant) {}

    fn reset(&mut self, _: &ProgressState, _: Instant) {}

    fn write(&self, state: &ProgressState, out: &mut dyn fmt::Write) {
        let millis = self.start.elapsed().as_millis().max(1);
        let rate = u64::try_from(u128::from(state.pos()) * 1000 / millis).unwrap_or(u64::MAX);
        // A line that cannot be formatted is not drawn.
        _ = match self.unit {
            Unit::Bytes => write!(out, "{}/s", HumanBytes(rate)),
            Unit::Rows | Unit::Work => write!(out, "{} rows/s", HumanCount(rate)),
        };
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
