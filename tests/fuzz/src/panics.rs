//! Panics that the library catches are its business; those that reach its caller are failures.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::sync::Once;

/// Runs something in which a library's panics are caught, and aborts if one gets out. The fuzzer
/// itself would abort at every one.
pub(crate) fn only_uncaught<T>(run: impl FnOnce() -> T) -> T {
    static HOOK: Once = Once::new();
    thread_local! {
        static LAST: RefCell<String> = const { RefCell::new(String::new()) };
    }
    HOOK.call_once(|| {
        set_hook(Box::new(|panic| LAST.with_borrow_mut(|last| *last = panic.to_string())));
    });
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
        LAST.with_borrow(|last| eprintln!("uncaught: {last}"));
        std::process::abort()
    })
}
