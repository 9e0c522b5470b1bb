//! `Table.warm_in_background`.

use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;

use crate::error::raised;

/// A table that a thread is reading into memory; made by Table.warm_in_background.
///
/// When the last reference to it goes, the reading stops.
#[pyclass(frozen, module = "embmap")]
pub(crate) struct Warming {
    /// Taken by `wait` and `cancel`.
    running: Mutex<Option<embmap::Warming>>,
}

impl Warming {
    pub(crate) fn new(running: embmap::Warming) -> Self {
        Warming { running: Mutex::new(Some(running)) }
    }

    fn take(&self) -> Option<embmap::Warming> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[pymethods]
impl Warming {
    /// (bytes read, bytes to be read); None once it was waited for.
    #[getter]
    fn progress(&self) -> Option<(u64, u64)> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.as_ref().map(embmap::Warming::progress)
    }

    /// True where nothing is left to wait for.
    #[getter]
    fn done(&self) -> bool {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.as_ref().is_none_or(embmap::Warming::is_finished)
    }

    /// Waits until everything is read; raises what the reading raised.
    fn wait(&self, py: Python<'_>) -> PyResult<()> {
        let Some(running) = self.take() else { return Ok(()) };
        py.detach(|| running.wait()).map_err(raised)
    }

    /// Stops the reading. What was read stays in the page cache.
    fn cancel(&self, py: Python<'_>) -> PyResult<()> {
        let Some(running) = self.take() else { return Ok(()) };
        py.detach(|| running.cancel()).map_err(raised)
    }
}
