//! Where the rows are before a batch: brought there, and looked at.
//!
//! Whoever reads figures of cold rows must be able to believe that they were cold. So each
//! function here either leaves the state that was asked for or says why it is not there.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use embmap::Table;

use super::super::console::size;
use super::super::interrupt;
use super::counters::{Counters, available_memory};

/// Why a state cannot be had.
pub(super) type Reason = String;

/// Brings all rows into memory, in the order of the files, and into the page tables.
pub(super) fn warm(table: &Arc<Table>) -> Result<Result<(), Reason>> {
    let found = table.residency()?;
    let total = found.total_bytes;
    if found.cached_bytes != Some(total) {
        if let Some(available) = available_memory().filter(|available| total > *available) {
            let (total, available) = (size(total), size(available));
            return Ok(Err(format!("the rows take {total}, and {available} of memory are there")));
        }
        let warming = table.warm_in_background(..)?;
        while !warming.is_finished() {
            interrupt::stop()?;
            std::thread::sleep(Duration::from_millis(10));
        }
        warming.wait()?;
    }
    table.prefault(..)?;
    let cached = table.residency()?.cached_bytes;
    Ok(match cached.filter(|cached| *cached < total) {
        Some(cached) => Err(format!(
            "after all rows were read {} of {} are in the page cache",
            size(cached),
            size(total)
        )),
        None => Ok(()),
    })
}

/// Takes all rows out of memory.
pub(super) fn evict(table: &Table) -> Result<Result<(), Reason>> {
    let left = table.evict()?;
    Ok(match left.cached_bytes.filter(|cached| *cached > left.total_bytes / 1000) {
        Some(cached) => Err(format!(
            "{} of {} stay in the page cache: the files lie in memory (tmpfs), or another process \
             has mapped, locked or is writing them",
            size(cached),
            size(left.total_bytes)
        )),
        None => Ok(()),
    })
}

/// Whether a batch that should have been read from the device was.
///
/// What the system says is cached may be wrong: an overlay's pages are those of the file below
/// it, and another process may have read the same rows meanwhile. What was read is certain.
pub(super) fn was_cold(
    table: &Table,
    counted: Counters,
    distinct_rows: u64,
) -> Result<Result<(), Reason>> {
    let needed = distinct_rows * table.row_bytes();
    Ok(match counted.device_bytes {
        Some(read) if u128::from(read) * 10 < u128::from(needed) * 9 => Err(format!(
            "{} were read from a device where {} had to be: something held the rest",
            size(read),
            size(needed)
        )),
        // Then only the page cache itself can tell.
        None if table.residency()?.cached_bytes.is_none() => {
            Err("the system tells neither what is cached nor what was read".to_owned())
        }
        _ => Ok(()),
    })
}

/// Whether rows that should have been in memory were: nearly nothing was read.
pub(super) fn was_warm(counted: Counters, asked: u64) -> Result<(), Reason> {
    match counted.device_bytes.filter(|read| *read > asked / 100) {
        Some(read) => Err(format!(
            "{} were read from a device for {} asked for: the rows did not stay in memory",
            size(read),
            size(asked)
        )),
        None => Ok(()),
    }
}

/// Whether the page cache kept to its cap.
pub(super) fn was_capped(table: &Table, bytes: u64) -> Result<Result<(), Reason>> {
    let cached = table.residency()?.cached_bytes;
    Ok(match cached.filter(|cached| *cached > bytes) {
        Some(cached) => Err(format!("{} are in the page cache", size(cached))),
        None => Ok(()),
    })
}
