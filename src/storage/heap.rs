//! Owned memory, aligned so that rows of any dtype can be seen as typed slices.

use bytemuck::{Pod, Zeroable};

/// One cache line, the unit of alignment.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Line([u8; 64]);

// SAFETY: a `Line` is an array of 64 bytes whose alignment equals its size, so it has no
// padding; all bit patterns are valid for bytes, all zeros included, and it is `Copy`.
unsafe impl Zeroable for Line {}
// SAFETY: as above.
unsafe impl Pod for Line {}

/// Bytes on the heap whose first one lies on a 64-byte boundary.
pub(crate) struct AlignedBytes {
    lines: Vec<Line>,
    len: usize,
}

impl AlignedBytes {
    /// `len` zero bytes, in large pages where there are many, or `None` where there is not that much memory.
    pub(crate) fn zeroed(len: usize) -> Option<Self> {
        let lines = super::output::zeros(len.div_ceil(size_of::<Line>()))?;
        Some(AlignedBytes { lines, len })
    }

    /// A copy of `bytes`, or `None` where there is not that much memory.
    pub(crate) fn copy_of(bytes: &[u8]) -> Option<Self> {
        let mut copy = Self::zeroed(bytes.len())?;
        copy.as_mut_slice().copy_from_slice(bytes);
        Some(copy)
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_start_on_a_cache_line() {
        for len in [0, 1, 63, 64, 65, 4097] {
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
