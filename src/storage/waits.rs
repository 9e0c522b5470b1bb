//! Whether this thread had to wait for a device.

/// What counts as having waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waits {
    /// A page that had to be read when it was touched: a major fault.
    Faults,
    /// Any read from a device that this thread started.
    Reads,
}

/// True where this thread waited since it last asked, whatever for.
///
/// One system call; false where the system does not count by thread.
#[cfg(target_os = "linux")]
pub(crate) fn waited(what: Waits) -> bool {
    use std::cell::Cell;

    thread_local! {
        static SEEN: Cell<[libc::c_long; 2]> = const { Cell::new([0; 2]) };
    }
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: `usage` has the room of one `rusage`, which is all that the call writes.
    let status = unsafe { libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr()) };
    if status != 0 {
        return false;
    }
    // SAFETY: zeroed, which is a valid `rusage` of integers, and then filled by the call.
    let usage = unsafe { usage.assume_init() };
    let now = [usage.ru_majflt, usage.ru_inblock];
    let before = SEEN.replace(now);
    match what {
        Waits::Faults => now[0] != before[0],
        Waits::Reads => now != before,
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn waited(_what: Waits) -> bool {
    false
}
