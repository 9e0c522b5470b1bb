//! How a run ends: exit codes, and the one line that says why.

use std::fmt;
use std::io;
use std::process::ExitCode;

use super::Outcome;
use super::console::Console;
use super::escape::printable;

/// What a run that did not fail has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finding {
    Sound,
    Damage,
}

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Done,
    Failed,
    Usage,
    Interrupted,
}

impl Ending {
    /// The exit code, as scripts know it.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Ending::Done => 0,
            Ending::Failed => 1,
            Ending::Usage => 2,
            Ending::Interrupted => 130,
        }
    }

    /// The ending where the arguments were not parsed: help that was asked for is no error.
    pub(crate) const fn of_usage(code: i32) -> Self {
        if code == 0 { Ending::Done } else { Ending::Usage }
    }
}

impl From<Ending> for ExitCode {
    fn from(ending: Ending) -> Self {
        ExitCode::from(ending.code())
    }
}

/// A wrong use that the parser cannot see.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Tells a failure on standard error and chooses the exit code.
pub(crate) fn report(outcome: Outcome, console: &Console) -> Ending {
    let error = match outcome {
        Ok(Finding::Sound) => return Ending::Done,
        Ok(Finding::Damage) => return Ending::Failed,
        Err(error) => error,
    };
    if is_broken_pipe(&error) {
        return Ending::Done;
    }
    // The messages of the library hold their sources already: the outermost one says all.
    console.error(&printable(&error.to_string()));
    if error.is::<Usage>() {
        Ending::Usage
    } else if matches!(error.downcast_ref(), Some(embmap::Error::Interrupted)) {
        Ending::Interrupted
    } else {
        Ending::Failed
    }
}

/// True where the reader of our output went away, as `head` does: it had what it wanted.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<io::Error>();
        let json = cause.downcast_ref::<serde_json::Error>();
        let kind = io.map(io::Error::kind).or(json.and_then(serde_json::Error::io_error_kind));
        kind == Some(io::ErrorKind::BrokenPipe)
    })
}
