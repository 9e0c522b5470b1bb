//! Python's progress functions, called from work that runs without the interpreter's lock.

use std::ops::ControlFlow;

use pyo3::prelude::*;

/// A progress function, and the exception that it raised.
pub(crate) struct Progress<'a> {
    told: Option<&'a Py<PyAny>>,
    stopped: Option<PyErr>,
}

impl<'a> Progress<'a> {
    pub(crate) fn new(told: Option<&'a Py<PyAny>>) -> Self {
        Progress { told, stopped: None }
    }

    /// Tells how far the work is, and breaks off where that raised, or a signal came.
    pub(crate) fn step(&mut self, done: u64, total: u64) -> ControlFlow<()> {
        let look = Python::attach(|py| {
            py.check_signals()?;
            self.told.map_or(Ok(()), |told| told.call1(py, (done, total)).map(drop))
        });
        match look {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.stopped = Some(error);
                ControlFlow::Break(())
            }
        }
    }

    /// The exception that broke the work off.
    pub(crate) fn stopped(self) -> Option<PyErr> {
        self.stopped
    }
}
