//! Mapping a file, and whether that is wise.

use std::fs::File;
use std::io;
use std::path::Path;

use memmap2::{Mmap, MmapOptions};

use super::network;
use crate::error::{Error, Result};

/// What a caller accepts for a file to be mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MapPolicy {
    /// Only a file that the system proves immutable (sealed memfd, fs-verity).
    Immutable,
    /// The caller has promised that the file is not changed; network file systems refused.
    Promised {
        /// Network file systems accepted too.
        allow_network: bool,
    },
}

/// Maps a whole file, read-only and shared.
///
/// # Safety
///
/// Under [`MapPolicy::Promised`] the caller promises that the file is not written to or cut
/// while the map lives. Under [`MapPolicy::Immutable`] nothing is asked.
pub(super) unsafe fn map(file: &File, path: &Path, bytes: u64, policy: MapPolicy) -> Result<Mmap> {
    let length = usize::try_from(bytes)
        .map_err(|_| refused(path, bytes, io::Error::from(io::ErrorKind::OutOfMemory)))?;
    let mut options = MmapOptions::new();
    options.len(length);
    match policy {
        MapPolicy::Immutable => {
            let map = options.map_if_safe(file).map_err(|error| {
                if error.map_failed() {
                    refused(path, bytes, error.into())
                } else {
                    Error::NotSealed { path: path.to_path_buf(), reason: error.to_string() }
                }
            })?;
            // It may have been cut after it was opened and before it was sealed.
            let status = file.metadata().map_err(|source| Error::io("inspect", path, source))?;
            if status.len() != bytes {
                let reason = format!("it had {bytes} bytes, and has {}", status.len());
                return Err(Error::FileChanged { path: path.to_path_buf(), reason });
            }
            Ok(map)
        }
        MapPolicy::Promised { allow_network } => {
            if !allow_network {
                network::refuse(file, path)?;
            }
            // SAFETY: `Mmap` asks that the file is not modified while mapped, by this or
            // another process: that is this function's own contract.
            unsafe { options.map(file) }.map_err(|source| refused(path, bytes, source))
        }
    }
}

/// Turns a failed map into an error, with the limits that are the usual cause.
fn refused(path: &Path, bytes: u64, source: io::Error) -> Error {
    if source.kind() == io::ErrorKind::OutOfMemory {
        Error::MapLimit { path: path.to_path_buf(), bytes, source }
    } else {
        Error::io("map", path, source)
    }
}
