//! Ctrl-C: at once where nothing is half done, else at the next look.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use super::failure::Ending;

static DEFERRED: AtomicBool = AtomicBool::new(false);
static SEEN: AtomicBool = AtomicBool::new(false);

/// Handles the signals that ask to stop.
pub(crate) fn install() {
    let handler = || {
        // A second signal is from someone who will not wait.
        if !DEFERRED.load(Ordering::SeqCst) || SEEN.swap(true, Ordering::SeqCst) {
            std::process::exit(i32::from(Ending::Interrupted.code()));
        }
    };
    // Refused where a signal is ignored already (nohup, a background job of a script): what
    // started us decided that, and it stays so.
    _ = ctrlc::try_set_handler(handler);
}

/// From here on there is something to clean up: signals only leave word for [`check`].
pub(crate) fn defer() {
    DEFERRED.store(true, Ordering::SeqCst);
}

/// Stops the work where a signal came.
pub(crate) fn check() -> ControlFlow<()> {
    if SEEN.load(Ordering::SeqCst) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// The same where an error is what stops the work.
pub(crate) fn stop() -> Result<(), embmap::Error> {
    if check().is_break() { Err(embmap::Error::Interrupted) } else { Ok(()) }
}
