//! Owned memory, aligned so that rows of any dtype can be seen as typed slices.

use super::output::zeros;

/// One cache line, the unit of alignment.
const LINE: usize = 64;

/// Bytes on the heap whose first one lies on a 64-byte boundary.
pub(crate) struct AlignedBytes {
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl AlignedBytes {
    /// `len` zero bytes, in large pages where there are many, or `None` where there is not
    /// that much memory.
    ///
    /// The boundary is found within a longer block: asked for as an alignment, the allocator
    /// would write the zeros itself, before large pages can be asked for.
    pub(crate) fn zeroed(len: usize) -> Option<Self> {
        let memory: Vec<u8> = zeros(len.checked_add(LINE - 1)?)?;
        let start = memory.as_ptr().align_offset(LINE);
        memory.get(start..)?.get(..len)?;
        Some(AlignedBytes { memory, start, len })
    }

    /// A copy of `bytes`, or `None` where there is not that much memory.
    pub(crate) fn copy_of(bytes: &[u8]) -> Option<Self> {
        let mut copy = Self::zeroed(bytes.len())?;
        copy.as_mut_slice().copy_from_slice(bytes);
        Some(copy)
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.memory[self.start..][..self.len]
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..][..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_start_on_a_cache_line() {
        for len in [0, 1, 63, 64, 65, 4097, (33 << 20) + 1] {
            let bytes = AlignedBytes::copy_of(&vec![0xab; len]).unwrap();
            assert_eq!(bytes.as_slice(), vec![0xab; len]);
            assert_eq!(bytes.as_slice().as_ptr().addr() % 64, 0);
        }
    }

    #[test]
    fn memory_that_is_not_there_is_refused() {
        assert!(AlignedBytes::zeroed(usize::MAX - 64).is_none());
    }
}
