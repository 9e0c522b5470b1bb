//! The memory that reads end in.

use std::io;

use memmap2::{MmapOptions, MmapRaw};

/// Whole pages of memory that a kernel or another thread may write to behind our back.
///
/// It is reached by pointer alone while reads are in flight.
pub(super) struct Arena {
    map: MmapRaw,
}

impl Arena {
    /// Zeros, which take no memory before they are written to.
    pub(super) fn new(bytes: usize) -> io::Result<Self> {
        let map = MmapRaw::from(MmapOptions::new().len(bytes.max(1)).map_anon()?);
        // A child that is forked while a read is in flight would share its pages, and then the
        // first of the two who writes to one would miss what the read brings: open(2). What
        // is not inherited cannot be shared; a refusal costs no more than that.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::DontFork);
        Ok(Arena { map })
    }

    pub(super) fn bytes(&self) -> usize {
        self.map.len()
    }

    /// A place in the arena for a read of `bytes` bytes.
    ///
    /// # Panics
    ///
    /// Where it does not lie within the arena.
    pub(super) fn place(&self, at: usize, bytes: usize) -> *mut u8 {
        let inside = at.checked_add(bytes).is_some_and(|end| end <= self.map.len());
        assert!(inside, "a read of {bytes} bytes at {at} of an arena of {}", self.map.len());
        self.map.as_mut_ptr().wrapping_add(at)
    }

    /// What was read.
    ///
    /// # Safety
    ///
    /// As long as the slice lives, nothing may be reading into the arena.
    pub(super) unsafe fn as_slice(&self) -> &[u8] {
        // SAFETY: the map is live, readable and initialised over its whole length, for it
        // began as zeros; the caller sees to it that nobody writes.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr(), self.map.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arena_is_zeros_on_a_page_boundary() {
        let arena = Arena::new(10_000).unwrap();
        assert_eq!(arena.place(0, 10_000).addr() % 4096, 0);
        assert_eq!(arena.place(512, 1).addr() % 4096, 512);
        // SAFETY: nothing reads into it.
        assert!(unsafe { arena.as_slice() }.iter().all(|byte| *byte == 0));
    }

    #[test]
    #[should_panic(expected = "a read of 8 bytes at 4096")]
    fn a_place_outside_is_refused() {
        Arena::new(4096).unwrap().place(4096, 8);
    }
}
