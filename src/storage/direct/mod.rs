//! Reading past the page cache: many small reads in flight, none larger than it must be.
//!
//! Stretches of files are arranged in a window: sorted, each once, neighbours merged, widened
//! to what the file system wants. A window's reads go through a ring of the kernel's, where
//! that is allowed, else through a pool of threads, and end in an arena. While one window is
//! used the next is being read.

mod arena;
mod arrange;
mod engine;
mod file;
mod kept;
mod process;
mod reads;
#[cfg(target_os = "linux")]
mod ring;
mod threads;

pub(crate) use engine::Way;
pub(crate) use file::DirectFile;
pub(crate) use kept::Direct;
pub(crate) use reads::{DirectReads, Filled, WINDOW_BYTES, WINDOW_STRETCHES};
