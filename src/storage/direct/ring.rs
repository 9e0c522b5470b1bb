//! Reads through a ring of the kernel's, `io_uring`.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::Duration;

use io_uring::{IoUring, Probe, opcode, types};

use super::engine::{Completion, MOST_IN_FLIGHT};

/// Whether this kernel, and this sandbox, let us have rings: learnt once a process.
static ALLOWED: AtomicU8 = AtomicU8::new(UNKNOWN);
const UNKNOWN: u8 = 0;
const YES: u8 = 1;
const NO: u8 = 2;

/// A ring. It is used by one thread at a time, and by the process that made it.
pub(super) struct Ring {
    ring: IoUring,
    /// Reads that were started and whose completion was not taken.
    in_flight: usize,
}

impl Ring {
    /// A ring, or `None` where there is none to be had.
    pub(super) fn new() -> Option<Self> {
        let known = ALLOWED.load(Ordering::Relaxed);
        if known == NO {
            return None;
        }
        let mut ring = match build() {
            Ok(ring) => Ring { ring, in_flight: 0 },
            Err(error) => {
                let forbidden = [libc::ENOSYS, libc::EPERM, libc::EACCES, libc::EINVAL];
                if error.raw_os_error().is_some_and(|code| forbidden.contains(&code)) {
                    ALLOWED.store(NO, Ordering::Relaxed);
                }
                return None;
            }
        };
        if known == UNKNOWN {
            let works = ring.works();
            ALLOWED.store(if works { YES } else { NO }, Ordering::Relaxed);
            if !works {
                return None;
            }
        }
        Some(ring)
    }

    /// Whether reads at offsets are known to this kernel, and it lets them be waited for.
    fn works(&mut self) -> bool {
        let mut probe = Probe::new();
        let known = self.ring.submitter().register_probe(&mut probe).is_ok()
            && probe.is_supported(opcode::Read::CODE);
        // SAFETY: it reads and writes nothing.
        let pushed = unsafe { self.ring.submission().push(&opcode::Nop::new().build()) };
        let waited = known && pushed.is_ok() && self.ring.submit_and_wait(1).is_ok();
        waited && self.ring.completion().next().is_some_and(|entry| entry.result() == 0)
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Starts a read at the next `wait`; false where the ring is full.
    ///
    /// # Safety
    ///
    /// `place` is valid for writes of `bytes` bytes, and until the read's completion was
    /// taken it stays so and nobody else reads or writes there.
    pub(super) unsafe fn start(
        &mut self,
        file: &File,
        offset: u64,
        place: *mut u8,
        bytes: u32,
        id: u64,
    ) -> bool {
        let read = opcode::Read::new(types::Fd(file.as_raw_fd()), place, bytes);
        let entry = read.offset(offset).build().user_data(id);
        // SAFETY: the caller keeps the memory for as long as the kernel may write to it. A
        // descriptor that were closed meanwhile would fail the read, or read another file
        // into the same memory.
        let pushed = unsafe { self.ring.submission().push(&entry) }.is_ok();
        self.in_flight += usize::from(pushed);
        pushed
    }

    /// Hands what was started to the kernel, and waits until at least `completions` reads are
    /// completed, no more than are in flight.
    pub(super) fn wait(&mut self, completions: usize) -> io::Result<()> {
        let completions = completions.min(self.in_flight);
        loop {
            let error = match self.ring.submit_and_wait(completions) {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            match error.raw_os_error() {
                Some(libc::EINTR) => {}
                // The kernel is short of something until reads complete, or are taken.
                Some(libc::EAGAIN | libc::EBUSY) => {
                    if !self.ring.completion().is_empty() || completions == 0 {
                        return Ok(());
                    }
                    thread::sleep(Duration::from_micros(200));
                }
                _ => return Err(error),
            }
        }
    }

    /// A read that is completed.
    pub(super) fn completed(&mut self) -> Option<Completion> {
        let entry = self.ring.completion().next()?;
        self.in_flight = self.in_flight.saturating_sub(1);
        let result = usize::try_from(entry.result())
            .map_err(|_| io::Error::from_raw_os_error(entry.result().saturating_neg()));
        Some(Completion { id: entry.user_data(), result })
    }
}

fn build() -> io::Result<IoUring> {
    #[expect(clippy::cast_possible_truncation, reason = "a hundred or so")]
    let entries = MOST_IN_FLIGHT as u32;
    // Completions wait until this thread asks, instead of interrupting it.
    let quiet = IoUring::builder().setup_coop_taskrun().build(entries);
    // Kernels before 5.19 do not know of that.
    quiet.or_else(|error| match error.raw_os_error() {
        Some(libc::EINVAL) => IoUring::new(entries),
        _ => Err(error),
    })
}
