//! Memory for outputs that are filled once.

use bytemuck::Pod;

/// The bytes from which large pages are asked for. Smaller blocks an allocator keeps when they
/// are freed, paged in, for the next who asks (glibc: up to 32 MiB).
const LARGE: usize = 32 << 20;

/// `length` zeros, or `None` where there is not that much memory.
///
/// A large block comes from the system as pages that are zeros and are not there until they
/// are written to, so nothing is written twice. In pages of 4 KiB that costs several times
/// what a gather into them does; so large ones are asked for.
pub(crate) fn zeros<T: Pod>(length: usize) -> Option<Vec<T>> {
    if length.saturating_mul(size_of::<T>()) >= LARGE {
        return zeros_in_large_pages(length);
    }
    bytemuck::try_zeroed_vec(length).ok()
}

/// The same in large pages, wherever one fits: for memory that is kept.
pub(crate) fn zeros_in_large_pages<T: Pod>(length: usize) -> Option<Vec<T>> {
    let mut zeros = bytemuck::try_zeroed_vec(length).ok()?;
    ask_for_large_pages(bytemuck::cast_slice_mut(&mut zeros));
    Some(zeros)
}

#[cfg(target_os = "linux")]
fn ask_for_large_pages(memory: &mut [u8]) {
    /// The size of a large page on x86-64, and a multiple of every small one.
    const PAGE: usize = 2 << 20;
    let head = memory.as_ptr().align_offset(PAGE);
    let Some(pages) = memory.get_mut(head..) else { return };
    let length = pages.len() / PAGE * PAGE;
    if length == 0 {
        return;
    }
    let start = pages.as_mut_ptr().cast();
    // SAFETY: the range lies within `memory`, which is borrowed as mutable, and the advice
    // changes how the system holds those bytes, never what they are. A refusal changes
    // nothing either.
    let _ = unsafe { rustix::mm::madvise(start, length, rustix::mm::Advice::LinuxHugepage) };
}

#[cfg(not(target_os = "linux"))]
fn ask_for_large_pages(_: &mut [u8]) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_zeros_of_the_asked_length() {
        for length in [0, 1, 1000, LARGE / 4 - 1, LARGE / 4, (9 << 20) + 3] {
            let mut zeros: Vec<u32> = zeros(length).unwrap();
            assert_eq!(zeros.len(), length);
            assert!(zeros.iter().all(|value| *value == 0));
            zeros.fill(7);
        }
    }

    #[test]
    fn memory_that_is_not_there_is_refused() {
        assert!(zeros::<f32>(usize::MAX / 8).is_none());
    }
}
