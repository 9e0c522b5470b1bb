//! What of a file is in memory, and the ways to bring it there and to let it go.

use super::ahead::page_bytes;
use super::file::StoredFile;
use crate::error::{Error, Result};

/// The bytes that are looked at, or brought into the page tables, in one system call.
const STRIDE: u64 = 256 << 20;

impl StoredFile {
    /// Says of a map that its rows are touched in no order, so that a fault reads one page.
    #[cfg_attr(not(unix), allow(clippy::unused_self, reason = "nothing to say there"))]
    pub(crate) fn expect_random(&self) {
        #[cfg(unix)]
        if let Some(map) = self.mapped() {
            // Refused advice costs time, not rows.
            let _ = map.advise(memmap2::Advice::Random);
        }
    }

    /// The bytes from `start` to `end` that the page cache holds, or `None` where the system
    /// does not tell.
    pub(crate) fn cached_bytes(&self, start: u64, end: u64) -> Result<Option<u64>> {
        let mut cached = 0;
        for (start, end) in strides(start, end) {
            match system::cached_pages(self, start, end) {
                Ok(Some(pages)) => cached += pages.saturating_mul(page_bytes()).min(end - start),
                Ok(None) => return Ok(None),
                Err(source) => return Err(Error::io("inspect", self.path(), source)),
            }
        }
        Ok(Some(cached))
    }

    /// Bytes in memory: owned ones, or those of a map where the page cache holds all of them.
    /// `None` where they are not, or where the system does not tell.
    pub(crate) fn cached_slice(&self, offset: u64, bytes: u64) -> Result<Option<&[u8]>> {
        let Some(slice) = usize::try_from(bytes).ok().and_then(|bytes| self.slice(offset, bytes))
        else {
            return Ok(None);
        };
        if self.is_owned() {
            return Ok(Some(slice));
        }
        let page = page_bytes();
        let (start, end) = (offset - offset % page, (offset + bytes).min(self.bytes()));
        let cached = self.cached_bytes(start, end)?;
        Ok((cached == Some(end - start)).then_some(slice))
    }

    /// The bytes of the map that are in this process's page tables, or `None` where the
    /// system does not tell.
    pub(crate) fn mapped_bytes(&self) -> Result<Option<u64>> {
        system::mapped_bytes(self).map_err(|source| Error::io("inspect", self.path(), source))
    }

    /// Brings the bytes from `start` to `end` into the page cache and the page tables.
    ///
    /// What a touch of the map would answer with a signal is an error here.
    pub(crate) fn prefault(&self, start: u64, end: u64) -> Result<()> {
        for (start, end) in strides(start, end) {
            // Reading in order is much faster than the page tables' way of reading.
            if self.cached_bytes(start, end)? != Some(end - start) {
                self.fill(start, end, |_| true)?;
            }
            system::populate(self, start, end).map_err(|source| match self.check_alive() {
                Err(changed) => changed,
                Ok(()) => Error::io("prefault", self.path(), source),
            })?;
        }
        Ok(())
    }

    /// Asks the system to forget the file's pages. What is mapped by someone, or is being read,
    /// stays; so does all of a file that lives in memory alone.
    pub(crate) fn evict(&self) -> Result<()> {
        self.release()?;
        system::evict(self).map_err(|source| Error::io("evict", self.path(), source))
    }

    /// Takes the map out of this process's page tables; the page cache stays.
    pub(crate) fn release(&self) -> Result<()> {
        self.release_range(0, self.bytes())
    }

    /// Takes the whole pages of a range out of this process's page tables, where the file is
    /// mapped; the page cache stays.
    pub(crate) fn release_range(&self, offset: u64, bytes: u64) -> Result<()> {
        system::release(self, offset, bytes)
            .map_err(|source| Error::io("release", self.path(), source))
    }
}

/// The bytes of files that this process has mapped and that are resident, of whatever file;
/// `None` where the system does not tell.
pub(crate) fn file_backed_bytes() -> Option<u64> {
    system::file_backed_bytes()
}

/// A range in parts that end at multiples of the stride.
fn strides(start: u64, end: u64) -> impl Iterator<Item = (u64, u64)> {
    let mut next = start;
    std::iter::from_fn(move || {
        let start = next;
        next = end.min((start / STRIDE + 1) * STRIDE);
        (start < end).then_some((start, next))
    })
}

#[cfg(target_os = "linux")]
mod system {
    use std::fs::File;
    use std::io::{self, BufRead, BufReader};
    use std::os::fd::AsRawFd;

    use memmap2::{Advice, Mmap, UncheckedAdvice};

    use super::{StoredFile, page_bytes};

    /// `cachestat`, by the number that all but two old architectures call it. There it is
    /// no call at all.
    const CACHESTAT: libc::c_long = 451;

    #[repr(C)]
    struct Range {
        offset: u64,
        bytes: u64,
    }

    #[repr(C)]
    #[derive(Default)]
    struct Statistics {
        cached: u64,
        dirty: u64,
        writeback: u64,
        evicted: u64,
        recently_evicted: u64,
    }

    pub(super) fn cached_pages(file: &StoredFile, start: u64, end: u64) -> io::Result<Option<u64>> {
        let Some(descriptor) = file.descriptor() else { return Ok(None) };
        let mut range = Range { offset: start, bytes: end - start };
        let mut found = Statistics::default();
        // SAFETY: the call reads one `Range` and writes one `Statistics`, laid out as the
        // kernel's, and both live through it.
        let status = unsafe {
            libc::syscall(CACHESTAT, descriptor.as_raw_fd(), &raw mut range, &raw mut found, 0)
        };
        if status == 0 {
            return Ok(Some(found.cached));
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            // A kernel before 6.5, or a sandbox.
            Some(libc::ENOSYS) => mincore(file, start, end),
            // To those who may not write to a file, its page cache is nobody's business;
            // mincore would say that all of it is there.
            Some(libc::EPERM | libc::EACCES | libc::EOPNOTSUPP) => Ok(None),
            _ => Err(error),
        }
    }

    fn mincore(file: &StoredFile, start: u64, end: u64) -> io::Result<Option<u64>> {
        let Some(map) = file.mapped() else { return Ok(None) };
        let page = page_bytes();
        let start = usize::try_from(start - start % page).map_err(io::Error::other)?;
        let end = usize::try_from(end).map_err(io::Error::other)?;
        let Some(bytes) = map.get(start..end) else { return Ok(None) };
        let mut pages = vec![0u8; bytes.len().div_ceil(rustix::param::page_size())];
        // SAFETY: `bytes` is a live part of a map that starts on a page, and `pages` has a
        // byte for each of its pages, which is what the call writes.
        let status = unsafe {
            libc::mincore(bytes.as_ptr().cast_mut().cast(), bytes.len(), pages.as_mut_ptr())
        };
        if status != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Some(pages.iter().map(|page| u64::from(page & 1)).sum()))
    }

    pub(super) fn mapped_bytes(file: &StoredFile) -> io::Result<Option<u64>> {
        let Some(map) = file.mapped() else { return Ok(None) };
        let smaps = match File::open("/proc/self/smaps") {
            Ok(smaps) => smaps,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        resident_in(BufReader::new(smaps), addresses(map))
    }

    pub(super) fn file_backed_bytes() -> Option<u64> {
        let counters = std::fs::read_to_string("/proc/self/statm").ok()?;
        let pages: u64 = counters.split_ascii_whitespace().nth(2)?.parse().ok()?;
        pages.checked_mul(page_bytes())
    }

    fn addresses(map: &Mmap) -> std::ops::Range<u64> {
        let start = map.as_ptr().addr() as u64;
        start..(start + map.len() as u64).next_multiple_of(page_bytes())
    }

    /// The resident bytes of the areas that lie within some addresses, from the text of
    /// `/proc/self/smaps`.
    pub(super) fn resident_in(
        mut smaps: impl BufRead,
        addresses: std::ops::Range<u64>,
    ) -> io::Result<Option<u64>> {
        let (mut inside, mut resident, mut seen) = (false, 0u64, false);
        let mut line = Vec::new();
        while {
            line.clear();
            smaps.read_until(b'\n', &mut line)?
        } > 0
        {
            // A path may hold any bytes, and stands at the end of an area's line.
            let Some(words) = std::str::from_utf8(&line[..line.len().min(64)])
                .ok()
                .or_else(|| line.utf8_chunks().next().map(|chunk| chunk.valid()))
            else {
                continue;
            };
            let mut words = words.split_ascii_whitespace();
            let (Some(first), second) = (words.next(), words.next()) else { continue };
            if let Some(area) = area(first) {
                inside = addresses.start <= area.start && area.end <= addresses.end;
                seen |= inside;
            } else if inside && first == "Rss:" {
                resident += second.and_then(|kib| kib.parse().ok()).unwrap_or(0) * 1024;
            }
        }
        Ok(seen.then_some(resident))
    }

    fn area(word: &str) -> Option<std::ops::Range<u64>> {
        let (start, end) = word.split_once('-')?;
        Some(u64::from_str_radix(start, 16).ok()?..u64::from_str_radix(end, 16).ok()?)
    }

    pub(super) fn populate(file: &StoredFile, start: u64, end: u64) -> io::Result<()> {
        let Some(map) = file.mapped() else { return Ok(()) };
        let start = usize::try_from(start).map_err(io::Error::other)?;
        let end = usize::try_from(end).map_err(io::Error::other)?;
        loop {
            match map.advise_range(Advice::PopulateRead, start, end - start) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A kernel before 5.14: the pages are in the cache, which is most of it.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return Ok(()),
                result => return result,
            }
        }
    }

    pub(super) fn release(file: &StoredFile, start: u64, bytes: u64) -> io::Result<()> {
        let Some(map) = file.mapped() else { return Ok(()) };
        let start = usize::try_from(start).map_err(io::Error::other)?;
        let bytes = usize::try_from(bytes).map_err(io::Error::other)?;
        // SAFETY: the map is shared, read-only and of a file, so that what is dropped is read
        // again, the same bytes, by the next touch: no slice of it sees a change. (A private
        // map that was written to would lose what was written.)
        unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, bytes) }
    }

    pub(super) fn evict(file: &StoredFile) -> io::Result<()> {
        let Some(descriptor) = file.descriptor() else { return Ok(()) };
        // Pages that are to be written yet are not forgotten. Where they cannot be written,
        // they stay, and who asks what is cached sees it.
        let _ = descriptor.sync_data();
        Ok(rustix::fs::fadvise(descriptor, 0, None, rustix::fs::Advice::DontNeed)?)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn only_the_areas_of_the_map_count() {
            let text = b"7f0000000000-7f0000001000 r--s 00000000 fe:00 7 /a \xff b\n\
                        Size:                  4 kB\nRss:                   4 kB\nPss: 2 kB\n\
                        7f0000001000-7f0000009000 r--s 00001000 fe:00 7 /a b\n\
                        Rss:                  12 kB\n\
                        7f0000009000-7f000000a000 rw-p 00000000 00:00 0 \n\
                        Rss:                   4 kB\n";
            let rss = |range| resident_in(&text[..], range).unwrap();
            assert_eq!(rss(0x7f00_0000_0000..0x7f00_0000_9000), Some(16 << 10));
            assert_eq!(rss(0x7f00_0000_1000..0x7f00_0000_9000), Some(12 << 10));
            assert_eq!(rss(0x1000..0x2000), None);
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    #![allow(clippy::unnecessary_wraps, reason = "as on Linux, where they fail")]

    use std::io;

    use super::StoredFile;

    pub(super) fn cached_pages(_: &StoredFile, _: u64, _: u64) -> io::Result<Option<u64>> {
        Ok(None)
    }

    pub(super) fn file_backed_bytes() -> Option<u64> {
        None
    }

    pub(super) fn mapped_bytes(_: &StoredFile) -> io::Result<Option<u64>> {
        Ok(None)
    }

    pub(super) fn populate(_: &StoredFile, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn release(_: &StoredFile, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn evict(_: &StoredFile) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strides_cover_a_range_once() {
        let parts: Vec<_> = strides(5, 2 * STRIDE + 1).collect();
        assert_eq!(parts, [(5, STRIDE), (STRIDE, 2 * STRIDE), (2 * STRIDE, 2 * STRIDE + 1)]);
        assert_eq!(strides(5, 5).count(), 0);
        assert_eq!(strides(9, 5).count(), 0);
    }
}
