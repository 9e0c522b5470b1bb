//! Filling the page cache in the order of a file, which brings large pages.

use super::file::StoredFile;
use super::scan::Scan;
use crate::error::Result;

/// The bytes that are looked at before they are read, and the largest page that a kernel
/// keeps a file in.
const BLOCK: u64 = 2 << 20;

/// How far ahead of the reading blocks are looked at: more than a system reads ahead.
const LOOK_AHEAD: u64 = 64 << 20;

/// The bytes that are read at once.
const PIECE: usize = 1 << 20;

impl StoredFile {
    /// Reads the bytes from `start` to `end` in order, for the page cache to hold them.
    /// Stops where `go_on`, told the bytes read in each step, says no.
    ///
    /// A block of which some pages are there already is dropped first: they were read one by
    /// one, and would keep the whole block in small pages. Where most is missing at the start,
    /// blocks that are whole when their turn comes were read so meanwhile, and are dropped too.
    pub(crate) fn fill(
        &self,
        start: u64,
        end: u64,
        mut go_on: impl FnMut(u64) -> bool,
    ) -> Result<bool> {
        let mut buffer = Vec::new();
        let mostly_cold =
            self.cached_bytes(start, end)?.is_some_and(|cached| cached < (end - start) / 2);
        let mut far = blocks(start, end);
        let mut looked = start;
        for (start, end) in blocks(start, end) {
            // Far enough ahead for what is found not to be what reading this block brought.
            while looked < end.saturating_add(LOOK_AHEAD)
                && let Some((start, end)) = far.next()
            {
                let in_pieces = |cached| 0 < cached && (mostly_cold || cached < end - start);
                if self.cached_bytes(start, end)?.is_some_and(in_pieces) {
                    system::drop_pages(self, start, end);
                }
                looked = end;
            }
            let mut scan = Scan::reusing(self, start, end, PIECE, buffer);
            while let Some((_, piece)) = scan.next()? {
                let bytes = piece.len() as u64;
                if !go_on(bytes) {
                    return Ok(false);
                }
            }
            buffer = scan.into_buffer();
        }
        Ok(true)
    }
}

/// A range in parts that end at multiples of a block.
fn blocks(start: u64, end: u64) -> impl Iterator<Item = (u64, u64)> {
    let mut next = start;
    std::iter::from_fn(move || {
        let start = next;
        next = end.min((start / BLOCK + 1) * BLOCK);
        (start < end).then_some((start, next))
    })
}

#[cfg(target_os = "linux")]
mod system {
    use std::num::NonZero;

    use super::StoredFile;

    /// Drops pages from this process's page tables and from the page cache, as far as nobody
    /// else has them mapped. What is refused stays as it was.
    pub(super) fn drop_pages(file: &StoredFile, start: u64, end: u64) {
        let _ = file.release_range(start, end - start);
        if let Some(descriptor) = file.descriptor() {
            let bytes = NonZero::new(end - start);
            let _ = rustix::fs::fadvise(descriptor, start, bytes, rustix::fs::Advice::DontNeed);
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    pub(super) fn drop_pages(_: &super::StoredFile, _: u64, _: u64) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_a_range_once() {
        let parts: Vec<_> = blocks(5, 2 * BLOCK + 1).collect();
        assert_eq!(parts, [(5, BLOCK), (BLOCK, 2 * BLOCK), (2 * BLOCK, 2 * BLOCK + 1)]);
        assert_eq!(blocks(5, 5).count(), 0);
        assert_eq!(blocks(9, 5).count(), 0);
    }
}
