//! Which kernels run, and the ones that move bytes whatever they mean.

use std::sync::OnceLock;

/// Which of the kernels to use. Both give the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kernels {
    /// Those for the CPU at hand, portable ones where there are none.
    Fastest,
    /// Plain Rust, on every CPU.
    Portable,
}

impl Kernels {
    /// What this process uses: the fastest, unless `EMBMAP_PORTABLE=1` is set.
    pub(crate) fn of_process() -> Self {
        static KERNELS: OnceLock<Kernels> = OnceLock::new();
        *KERNELS.get_or_init(|| match std::env::var_os("EMBMAP_PORTABLE") {
            Some(value) if value == "1" => Kernels::Portable,
            _ => Kernels::Fastest,
        })
    }
}

/// Asks for the first `lines` cache lines of a row that will be read soon.
#[inline]
pub(crate) fn prefetch(row: &[u8], lines: usize) {
    #[cfg(target_arch = "x86_64")]
    super::x86::prefetch(row, lines);
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (row, lines);
}

/// Asks for cache lines from a place on. It is not looked whether the bytes reach there: nothing
/// comes of asking for what is not there, and a check for each row costs more.
#[inline]
pub(crate) fn prefetch_at(bytes: &[u8], start: usize, lines: usize) {
    #[cfg(target_arch = "x86_64")]
    super::x86::prefetch_at(bytes, start, lines);
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (bytes, start, lines);
}

/// Copies past the caches, for outputs that will not be read again soon.
///
/// Other threads may see the bytes late: end each run of copies with [`stream_fence`].
#[inline]
pub(crate) fn stream_copy(from: &[u8], to: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    super::x86::stream_copy(from, to);
    #[cfg(not(target_arch = "x86_64"))]
    to.copy_from_slice(from);
}

/// Makes what [`stream_copy`] wrote on this thread visible before anything that follows.
#[inline]
pub(crate) fn stream_fence() {
    #[cfg(target_arch = "x86_64")]
    super::x86::stream_fence();
}
