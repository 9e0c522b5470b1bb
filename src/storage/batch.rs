//! Asking the kernel to read, in as few system calls as it allows.

use super::ahead::Pages;
use super::file::StoredFile;

/// Starts reading pieces, in one system call for a thousand where they are mapped.
#[cfg(target_os = "linux")]
pub(super) fn start(files: &[StoredFile], pieces: &[Pages]) {
    let mut ranges = Vec::new();
    for pieces in pieces.chunks(MOST_RANGES) {
        ranges.clear();
        ranges.extend(pieces.iter().map_while(|piece| mapped_range(files, piece)));
        // A piece without a map is in a table without any.
        let started = if ranges.len() == pieces.len() { start_ranges(&ranges) } else { 0 };
        pieces[started..].iter().for_each(|piece| start_one(files, piece));
    }
}

/// Starts reading pieces, one by one.
#[cfg(not(target_os = "linux"))]
pub(super) fn start(files: &[StoredFile], pieces: &[Pages]) {
    for piece in pieces {
        start_one(files, piece);
    }
}

#[cfg(target_os = "linux")]
fn start_one(files: &[StoredFile], piece: &Pages) {
    let Some(file) = files.get(piece.file).and_then(StoredFile::descriptor) else { return };
    let bytes = std::num::NonZero::new(piece.end - piece.start);
    // A refused hint costs time, not rows.
    let _ = rustix::fs::fadvise(file, piece.start, bytes, rustix::fs::Advice::WillNeed);
}

#[cfg(all(unix, not(target_os = "linux")))]
fn start_one(files: &[StoredFile], piece: &Pages) {
    let Some(map) = files.get(piece.file).and_then(StoredFile::mapped) else { return };
    let (start, length) = (usize::try_from(piece.start), usize::try_from(piece.end - piece.start));
    if let (Ok(start), Ok(length)) = (start, length) {
        // A refused hint costs time, not rows.
        let _ = map.advise_range(memmap2::Advice::WillNeed, start, length);
    }
}

#[cfg(not(unix))]
fn start_one(_files: &[StoredFile], _piece: &Pages) {}

#[cfg(all(test, target_os = "linux"))]
pub(crate) use linux::forbid;
#[cfg(target_os = "linux")]
use linux::{MOST_RANGES, mapped_range, start_ranges};

#[cfg(target_os = "linux")]
mod linux {
    use std::io;
    use std::os::fd::{AsRawFd, IntoRawFd, RawFd};
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::{Pages, StoredFile};

    /// The most ranges that one `process_madvise` takes.
    pub(super) const MOST_RANGES: usize = 1024;

    /// This process as `process_madvise` wants it: its id in the upper half, a descriptor of
    /// it in the lower. A forked child finds its parent's id here and opens its own.
    static PROCESS: AtomicU64 = AtomicU64::new(UNKNOWN);
    const UNKNOWN: u64 = 0;
    /// The call is missing, or not allowed here: never tried again.
    const FORBIDDEN: u64 = u64::MAX;

    /// Where a piece lies in memory, or `None` where its file is not mapped.
    pub(super) fn mapped_range(files: &[StoredFile], piece: &Pages) -> Option<libc::iovec> {
        let map = files.get(piece.file)?.mapped()?;
        let start = usize::try_from(piece.start).ok()?;
        let length = usize::try_from(piece.end - piece.start).ok()?;
        let bytes = map.get(start..start.checked_add(length)?)?;
        Some(libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: length })
    }

    /// Starts reading ranges of this process's memory and gives the number that were started.
    pub(super) fn start_ranges(ranges: &[libc::iovec]) -> usize {
        let mut started = 0;
        while started < ranges.len() {
            let Some(process) = this_process() else { return started };
            match advise(process, &ranges[started..]) {
                // It stops short where a range is refused: the next call says why.
                Ok(bytes) if bytes > 0 => started += whole_ranges(&ranges[started..], bytes),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => return started,
                Ok(_) | Err(_) => {
                    PROCESS.store(FORBIDDEN, Ordering::Relaxed);
                    return started;
                }
            }
        }
        started
    }

    /// The ranges that `bytes` advised bytes cover; at least one, for one was begun.
    fn whole_ranges(ranges: &[libc::iovec], mut bytes: usize) -> usize {
        let mut whole = 0;
        for range in ranges {
            // Lengths count as whole pages, so that the last one of a file may count more.
            bytes = match bytes.checked_sub(range.iov_len) {
                Some(left) => left,
                None => break,
            };
            whole += 1;
        }
        whole.max(1)
    }

    /// A descriptor of this process, opened on first use and after a fork.
    fn this_process() -> Option<RawFd> {
        let id = u64::from(std::process::id()) << 32;
        let known = PROCESS.load(Ordering::Relaxed);
        if known == FORBIDDEN {
            return None;
        }
        if known & !0xffff_ffff == id {
            return RawFd::try_from(known & 0xffff_ffff).ok();
        }
        let flags = rustix::process::PidfdFlags::empty();
        let opened = rustix::process::pidfd_open(rustix::process::getpid(), flags);
        let Ok(opened) = opened else {
            PROCESS.store(FORBIDDEN, Ordering::Relaxed);
            return None;
        };
        let mine = id | u64::from(opened.as_raw_fd().cast_unsigned());
        if PROCESS.compare_exchange(known, mine, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            // What a parent left here stays open: this process may have closed it already,
            // and have something else under its number.
            return Some(opened.into_raw_fd());
        }
        this_process()
    }

    fn advise(process: RawFd, ranges: &[libc::iovec]) -> io::Result<usize> {
        // SAFETY: `ranges` is a live slice of as many `iovec` as said. MADV_WILLNEED changes
        // no memory, whatever addresses they hold: it starts reads of mapped files.
        let bytes = unsafe {
            libc::syscall(
                libc::SYS_process_madvise,
                process,
                ranges.as_ptr(),
                ranges.len(),
                libc::MADV_WILLNEED,
                0,
            )
        };
        usize::try_from(bytes).map_err(|_| io::Error::last_os_error())
    }

    /// Makes this process one where the call is forbidden.
    #[cfg(test)]
    pub(crate) fn forbid() {
        PROCESS.store(FORBIDDEN, Ordering::Relaxed);
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        fn range(bytes: usize) -> libc::iovec {
            libc::iovec { iov_base: std::ptr::null_mut(), iov_len: bytes }
        }

        #[test]
        fn a_call_that_stopped_short_is_taken_up_where_it_stopped() {
            let ranges = [range(4096), range(8192), range(4096)];
            assert_eq!(whole_ranges(&ranges, 4096), 1);
            assert_eq!(whole_ranges(&ranges, 4096 + 8192), 2);
            assert_eq!(whole_ranges(&ranges, 4096 + 4096), 1);
            assert_eq!(whole_ranges(&ranges, 4096 + 8192 + 4096), 3);
            assert_eq!(whole_ranges(&ranges, 1), 1, "it goes on, whatever it is told");
        }
    }
}
