//! Filling the page cache while gathers go on.

use std::ops::RangeBounds;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::table::Table;

/// A table that is being read into memory by a thread of its own: what
/// [`Table::warm_in_background`] started.
///
/// Dropped, it stops the reading within a megabyte, and does not wait for that.
#[derive(Debug)]
pub struct Warming {
    shared: Arc<Shared>,
    /// Taken by `wait`.
    thread: Option<JoinHandle<Result<()>>>,
    total_bytes: u64,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    bytes: AtomicU64,
}

/// How long the filling stands back for gathers of cold rows, all in all: longer than a first
/// batch takes, and short beside filling a table that is worth it.
const PATIENCE: Duration = Duration::from_millis(100);
const NAP: Duration = Duration::from_micros(500);

impl Table {
    /// Starts a thread that does what [`warm`](Table::warm) does, while gathers go on.
    ///
    /// The first cold gathers have the device to themselves, as far as they take no more than
    /// a tenth of a second.
    ///
    /// # Errors
    ///
    /// [`Error::RowOutOfRange`] where the range ends behind the last row,
    /// [`Error::Threads`] where the thread cannot be started.
    ///
    /// ```
    /// # fn main() -> Result<(), embmap::Error> {
    /// let table = std::sync::Arc::new(embmap::Table::load("fixtures/minilm-2k")?);
    /// let warming = table.warm_in_background(..)?;
    /// let mut out = vec![0f32; table.dim()];
    /// table.gather_into(&[7u32], &mut out)?;
    /// warming.wait()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn warm_in_background(self: &Arc<Self>, rows: impl RangeBounds<u64>) -> Result<Warming> {
        let (start, end) = self.row_range(&rows)?;
        let bytes = self.stretches(start, end).map(|found| found.map(|(_, stretch)| stretch.bytes));
        let total_bytes = bytes.sum::<Result<u64>>()?;
        let shared = Arc::new(Shared::default());
        let (table, told) = (Arc::clone(self), Arc::clone(&shared));
        let thread = std::thread::Builder::new()
            .name("embmap-warm".to_owned())
            .spawn(move || {
                let mut patient = PATIENCE;
                table.warm_while(start, end, |bytes| {
                    told.bytes.fetch_add(bytes, Ordering::Relaxed);
                    while table.patience.is_reading() && !patient.is_zero() {
                        std::thread::sleep(NAP);
                        patient = patient.saturating_sub(NAP);
                    }
                    !told.stop.load(Ordering::Relaxed)
                })
            })
            .map_err(|error| Error::Threads { threads: 1, reason: error.to_string() })?;
        Ok(Warming { shared, thread: Some(thread), total_bytes })
    }
}

impl Warming {
    /// The bytes that were read so far, and those to be read in all.
    #[must_use]
    pub fn progress(&self) -> (u64, u64) {
        (self.shared.bytes.load(Ordering::Relaxed), self.total_bytes)
    }

    /// True where nothing is left to wait for: everything was read, or it failed.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits until everything is read.
    ///
    /// # Errors
    ///
    /// As [`Table::warm`].
    ///
    /// # Panics
    ///
    /// Where the thread panicked, with its payload.
    pub fn wait(mut self) -> Result<()> {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(payload)) => std::panic::resume_unwind(payload),
            None => Ok(()),
        }
    }

    /// Stops the reading and waits until it has stopped. What was read stays in the cache.
    ///
    /// # Errors
    ///
    /// As [`Table::warm`], for what was read.
    pub fn cancel(self) -> Result<()> {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.wait()
    }
}

impl Drop for Warming {
    // Without waiting: in a forked child there is no thread to wait for.
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}
