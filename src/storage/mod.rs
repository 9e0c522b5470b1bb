//! Where bytes live: files, maps, heap.
//!
//! The one place, with the kernels, where `unsafe` is allowed. Everything above sees
//! [`StoredFile`]: bytes at offsets, borrowed where they are in memory, read where not.

mod ahead;
mod batch;
mod direct;
mod file;
mod fill;
mod heap;
mod map;
mod network;
mod output;
mod resident;
mod scan;
mod waits;

pub(crate) use ahead::ReadAhead;
#[cfg(all(test, target_os = "linux"))]
pub(crate) use batch::forbid;
pub(crate) use direct::{
    Direct, DirectFile, DirectReads, Filled, WINDOW_BYTES, WINDOW_STRETCHES, Way,
};
#[cfg(not(unix))]
pub(crate) use file::kind_of;
pub(crate) use file::{StoredFile, Stretch};
pub(crate) use map::MapPolicy;
pub(crate) use output::{zeros, zeros_in_large_pages};
pub(crate) use resident::file_backed_bytes;
pub(crate) use scan::Scan;
pub(crate) use waits::{Waits, waited};
