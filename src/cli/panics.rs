//! Panics, which are bugs here or in a dependency: one line, as for any other failure.

use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::{Mutex, PoisonError};

use anyhow::anyhow;

use super::Outcome;

/// What the latest panic of any thread said, and where.
static LATEST: Mutex<Option<String>> = Mutex::new(None);

/// Lets a panic print nothing: the library catches some of them and goes on, and
/// [`caught`] tells of the others.
pub(crate) fn keep_quiet() {
    panic::set_hook(Box::new(|info| {
        *LATEST.lock().unwrap_or_else(PoisonError::into_inner) = Some(describe(info));
    }));
}

/// Runs the command; a panic becomes an error.
pub(crate) fn caught(run: impl FnOnce() -> Outcome) -> Outcome {
    // Nothing that a panic left half done is looked at again: the program ends.
    panic::catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
        let latest = LATEST.lock().unwrap_or_else(PoisonError::into_inner).take();
        Err(anyhow!("this is a bug in embmap: {}", latest.as_deref().unwrap_or("a panic")))
    })
}

fn describe(info: &PanicHookInfo<'_>) -> String {
    let payload = info.payload();
    let literal = payload.downcast_ref::<&str>().copied();
    let message = literal.or(payload.downcast_ref::<String>().map(String::as_str));
    let message = message.unwrap_or("a panic");
    match info.location() {
        Some(location) => format!("{message} (at {location})"),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::failure::Finding;

    #[test]
    fn a_panic_is_an_error_of_one_line() {
        let before = panic::take_hook();
        keep_quiet();
        let outcome = caught(|| panic!("boom {}", 1));
        panic::set_hook(before);
        let message = outcome.unwrap_err().to_string();
        assert!(message.starts_with("this is a bug in embmap: boom 1 (at src"), "{message}");
        assert!(matches!(caught(|| Ok(Finding::Sound)), Ok(Finding::Sound)));
    }
}
