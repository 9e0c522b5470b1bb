//! What carries reads out: a ring, or threads.

use std::fs::File;
use std::io;
use std::sync::{Arc, OnceLock};

#[cfg(target_os = "linux")]
use super::ring::Ring;
use super::threads::Threads;
use crate::error::Result;

/// The most reads in flight: what keeps a device busy.
pub(super) const MOST_IN_FLIGHT: usize = 128;

/// How direct reads are carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// `io_uring`.
    Ring,
    /// A pool of threads.
    Threads,
}

/// A read that was carried out.
pub(super) struct Completion {
    /// What the read was called when it was started.
    pub(super) id: u64,
    /// The bytes that came: fewer than asked at the end of the file, or for no reason.
    pub(super) result: io::Result<usize>,
}

/// Carries reads out, for one thread at a time.
pub(super) enum Engine {
    #[cfg(target_os = "linux")]
    Ring(Ring),
    Threads(Threads),
}

impl Engine {
    /// A ring where it may be one and there is one, else threads.
    pub(super) fn new(io_uring: bool) -> Result<Self> {
        #[cfg(target_os = "linux")]
        if io_uring
            && !is_ring_unwanted()
            && let Some(ring) = Ring::new()
        {
            return Ok(Engine::Ring(ring));
        }
        let _ = io_uring;
        Ok(Engine::Threads(Threads::new()?))
    }

    pub(super) fn way(&self) -> Way {
        match self {
            #[cfg(target_os = "linux")]
            Engine::Ring(_) => Way::Ring,
            Engine::Threads(_) => Way::Threads,
        }
    }

    /// Reads that were started and whose completion was not taken.
    pub(super) fn in_flight(&self) -> usize {
        match self {
            #[cfg(target_os = "linux")]
            Engine::Ring(ring) => ring.in_flight(),
            Engine::Threads(threads) => threads.in_flight(),
        }
    }

    /// Starts a read, at the next `wait` at the latest; false where no more can be started
    /// before others are completed.
    ///
    /// # Safety
    ///
    /// `place` is valid for reads and writes of `bytes` initialised bytes, and until the
    /// read's completion was taken it stays so and nobody else reads or writes there.
    pub(super) unsafe fn start(
        &mut self,
        file: &Arc<File>,
        offset: u64,
        place: *mut u8,
        bytes: usize,
        id: u64,
    ) -> bool {
        match self {
            #[cfg(target_os = "linux")]
            Engine::Ring(ring) => {
                let Ok(bytes) = u32::try_from(bytes) else { return false };
                // SAFETY: the caller's promise.
                unsafe { ring.start(file, offset, place, bytes, id) }
            }
            Engine::Threads(threads) => {
                // SAFETY: the caller's promise.
                unsafe { threads.start(file, offset, place, bytes, id) };
                true
            }
        }
    }

    /// Waits until at least `completions` reads are completed, no more than are in flight.
    ///
    /// After an error nothing is known of what is in flight.
    pub(super) fn wait(&mut self, completions: usize) -> io::Result<()> {
        match self {
            #[cfg(target_os = "linux")]
            Engine::Ring(ring) => ring.wait(completions),
            Engine::Threads(threads) => {
                threads.wait(completions);
                Ok(())
            }
        }
    }

    /// A read that is completed.
    pub(super) fn completed(&mut self) -> Option<Completion> {
        match self {
            #[cfg(target_os = "linux")]
            Engine::Ring(ring) => ring.completed(),
            Engine::Threads(threads) => threads.completed(),
        }
    }
}

/// Whether the environment forbids rings, for sandboxes that end a process which tries.
fn is_ring_unwanted() -> bool {
    static UNWANTED: OnceLock<bool> = OnceLock::new();
    *UNWANTED.get_or_init(|| std::env::var_os("EMBMAP_NO_IO_URING").is_some_and(|v| v != "0"))
}
