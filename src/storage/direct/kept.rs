//! What a table keeps from one gather to the next: rings and arenas.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::engine::{Engine, MOST_IN_FLIGHT, Way};
use super::process::PerProcess;
use super::reads::Window;
use crate::error::Result;

/// The most that is kept, each a few megabytes: as many threads gather at a time without
/// setting anything up.
const MOST_KEPT: usize = 16;

/// The fewest reads in flight of each thread, however many there are.
const FEWEST_IN_FLIGHT: usize = 32;

/// The direct reads of a table.
pub(crate) struct Direct {
    io_uring: bool,
    of_process: PerProcess<Kept>,
}

#[derive(Default)]
struct Kept {
    idle: Mutex<Vec<Tools>>,
    /// The threads that read at the moment.
    readers: AtomicUsize,
}

/// What a thread needs to read. Nothing is in flight.
pub(super) struct Tools {
    pub(super) engine: Engine,
    pub(super) windows: Vec<Window>,
}

/// A thread that reads. They share the depth that a device is kept busy with.
pub(super) struct Reader<'a>(&'a Kept);

impl Direct {
    /// Rings where `io_uring` is true and they can be had, else threads.
    pub(crate) fn new(io_uring: bool) -> Self {
        Direct { io_uring, of_process: PerProcess::new() }
    }

    /// What carries the reads out.
    pub(crate) fn way(&self) -> Result<Way> {
        let (tools, reader) = self.take()?;
        let way = tools.engine.way();
        reader.keep(tools);
        Ok(way)
    }

    /// Tools to read with.
    pub(super) fn take(&self) -> Result<(Tools, Reader<'_>)> {
        let kept = self.of_process.get(Kept::default);
        let idle = lock(&kept.idle).pop();
        let tools = match idle {
            Some(tools) => tools,
            None => Tools { engine: Engine::new(self.io_uring)?, windows: Vec::new() },
        };
        kept.readers.fetch_add(1, Ordering::Relaxed);
        Ok((tools, Reader(kept)))
    }
}

impl Reader<'_> {
    /// The reads that this thread may have in flight.
    pub(super) fn depth(&self) -> usize {
        let readers = self.0.readers.load(Ordering::Relaxed).max(1);
        (MOST_IN_FLIGHT / readers).max(FEWEST_IN_FLIGHT)
    }

    /// Keeps tools for the next who reads.
    pub(super) fn keep(&self, tools: Tools) {
        let mut idle = lock(&self.0.idle);
        if idle.len() < MOST_KEPT {
            idle.push(tools);
        }
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        self.0.readers.fetch_sub(1, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
