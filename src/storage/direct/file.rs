//! A file opened once more, past the page cache.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What reads are made multiples of where a file system does not say, or does not care: the
/// block of nearly every device, and a page of the cache.
const USUAL: u64 = 4096;

/// What a file system may ask for; more than this is a file that is better read plainly.
const LARGEST: u64 = 4096;

/// A descriptor for direct reads.
pub(crate) struct DirectFile {
    file: Arc<File>,
    /// Offsets, lengths and addresses of reads are multiples of this.
    alignment: u64,
    /// True where reads go past the page cache.
    bypasses: AtomicBool,
}

impl DirectFile {
    /// Opens the file behind a descriptor once more, whatever its name leads to by now.
    ///
    /// Where the file system refuses direct reads, or there is no way to ask, the file is
    /// read through the page cache: slower, and the rows are the same.
    pub(crate) fn open(file: &File) -> io::Result<Self> {
        if let Some((direct, alignment)) = reopen(file)? {
            return Ok(DirectFile::new(direct, alignment, true));
        }
        Ok(DirectFile::new(file.try_clone()?, USUAL, false))
    }

    fn new(file: File, alignment: u64, bypasses: bool) -> Self {
        DirectFile { file: Arc::new(file), alignment, bypasses: AtomicBool::new(bypasses) }
    }

    pub(super) fn file(&self) -> &Arc<File> {
        &self.file
    }

    pub(crate) fn alignment(&self) -> u64 {
        self.alignment
    }

    pub(crate) fn bypasses(&self) -> bool {
        self.bypasses.load(Ordering::Relaxed)
    }

    /// Reads through the page cache from now on: the file system took the descriptor, and
    /// refuses the reads.
    pub(super) fn give_up(&self) {
        #[cfg(target_os = "linux")]
        if self.bypasses.swap(false, Ordering::Relaxed) {
            let flags = rustix::fs::fcntl_getfl(&*self.file);
            // Where this fails each read is refused again, and made plainly.
            let _ = flags.map(|flags| {
                rustix::fs::fcntl_setfl(&*self.file, flags - rustix::fs::OFlags::DIRECT)
            });
        }
    }

    /// A descriptor whose reads are refused: it is direct, and its alignment a lie.
    #[cfg(test)]
    pub(crate) fn misaligned(file: &File) -> Self {
        let direct = DirectFile::open(file).expect("opened");
        DirectFile { alignment: 1, ..direct }
    }

    /// A descriptor that is read through the page cache.
    #[cfg(test)]
    pub(crate) fn plain(file: &File) -> Self {
        DirectFile::new(file.try_clone().expect("cloned"), USUAL, false)
    }
}

/// A second descriptor of the same file, with `O_DIRECT`, and its alignment; `None` where
/// that is refused.
#[cfg(target_os = "linux")]
fn reopen(file: &File) -> io::Result<Option<(File, u64)>> {
    use std::os::fd::AsRawFd;

    use rustix::fs::{Mode, OFlags};

    // The link leads to the open file itself: renamed, replaced or deleted, it is this one.
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC | OFlags::NOCTTY;
    let direct = match rustix::fs::open(link, flags, Mode::empty()) {
        Ok(direct) => File::from(direct),
        Err(limit @ (rustix::io::Errno::MFILE | rustix::io::Errno::NFILE)) => {
            return Err(limit.into());
        }
        // No /proc, no right to open it a second time, or a file system without direct reads.
        Err(_) => return Ok(None),
    };
    if !is_same(file, &direct)? {
        return Ok(None);
    }
    Ok(alignment(&direct).map(|alignment| (direct, alignment)))
}

#[cfg(not(target_os = "linux"))]
fn reopen(_: &File) -> io::Result<Option<(File, u64)>> {
    Ok(None)
}

#[cfg(target_os = "linux")]
fn is_same(one: &File, other: &File) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;

    let (one, other) = (one.metadata()?, other.metadata()?);
    Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
}

/// What reads of a file must be multiples of; `None` where it cannot be read directly, or not
/// in pieces of a page.
#[cfg(target_os = "linux")]
fn alignment(file: &File) -> Option<u64> {
    use rustix::fs::{AtFlags, StatxFlags};

    match rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN) {
        Ok(found) if found.stx_mask & StatxFlags::DIOALIGN.bits() != 0 => {
            usable(found.stx_dio_mem_align.into(), found.stx_dio_offset_align.into())
        }
        // An older kernel, or a file system that does not tell.
        _ => Some(USUAL),
    }
}

/// One alignment that does for memory and for offsets. Zeros mean that there are no direct
/// reads.
#[cfg(target_os = "linux")]
fn usable(memory: u64, offset: u64) -> Option<u64> {
    let alignment = memory.max(offset);
    let may = memory != 0 && offset != 0 && alignment.is_power_of_two() && alignment <= LARGEST;
    may.then_some(alignment)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_stricter_alignment_is_taken_and_odd_ones_are_refused() {
        assert_eq!(usable(512, 512), Some(512));
        assert_eq!(usable(4, 4096), Some(4096));
        assert_eq!(usable(0, 0), None);
        assert_eq!(usable(512, 0), None);
        assert_eq!(usable(512, 3000), None);
        assert_eq!(usable(512, 65_536), None, "an arena starts on a page");
    }

    #[test]
    fn the_descriptor_is_that_of_the_open_file_whatever_the_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, vec![1; 5000]).unwrap();
        let file = File::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, vec![2; 9000]).unwrap();
        let direct = DirectFile::open(&file).unwrap();
        assert!(is_same(&file, direct.file()).unwrap());
        assert!(direct.alignment().is_power_of_two() && direct.alignment() <= 4096);
    }
}
