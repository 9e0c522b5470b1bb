//! Reads by a bounded pool of threads, where there are no rings.
//!
//! The pool belongs to the process, is built when first needed and grows with what is asked
//! of it. A forked child builds its own.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::engine::Completion;
use super::process::PerProcess;
use crate::error::{Error, Result};

/// The most threads. More are in each other's way; fewer keep a device waiting.
const MOST_THREADS: usize = 32;

static POOL: PerProcess<Pool> = PerProcess::new();

/// The threads of a process and what they have to do.
struct Pool {
    state: Mutex<State>,
    wanted: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
}

/// One read.
struct Job {
    file: Arc<File>,
    offset: u64,
    place: Place,
    bytes: usize,
    id: u64,
    done: Arc<Done>,
}

/// Where a read ends: memory that belongs to the job until it is done.
struct Place(*mut u8);

// SAFETY: the pointer is used by the one thread that has the job, and `Threads::start` asks
// that nobody else touches what it points to until the job is done.
unsafe impl Send for Place {}

/// The completions of one user of the pool.
#[derive(Default)]
struct Done {
    completions: Mutex<VecDeque<Completion>>,
    more: Condvar,
}

/// A user of the pool.
pub(super) struct Threads {
    pool: &'static Pool,
    done: Arc<Done>,
    in_flight: usize,
}

impl Threads {
    pub(super) fn new() -> Result<Self> {
        let pool =
            POOL.get(|| Pool { state: Mutex::new(State::default()), wanted: Condvar::new() });
        pool.grow(&mut lock(&pool.state), 1)?;
        Ok(Threads { pool, done: Arc::new(Done::default()), in_flight: 0 })
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Starts a read.
    ///
    /// # Safety
    ///
    /// `place` is valid for reads and writes of `bytes` initialised bytes, and until the
    /// read's completion was taken it stays so and nobody else reads or writes there.
    pub(super) unsafe fn start(
        &mut self,
        file: &Arc<File>,
        offset: u64,
        place: *mut u8,
        bytes: usize,
        id: u64,
    ) {
        let (file, done) = (Arc::clone(file), Arc::clone(&self.done));
        let mut state = lock(&self.pool.state);
        state.jobs.push_back(Job { file, offset, place: Place(place), bytes, id, done });
        self.in_flight += 1;
        if state.idle >= state.jobs.len() {
            drop(state);
            self.pool.wanted.notify_one();
        } else {
            // One thread is there at least; that there are no more costs time alone.
            let threads = state.threads + 1;
            let _ = self.pool.grow(&mut state, threads);
            drop(state);
            self.pool.wanted.notify_one();
        }
    }

    /// Waits until at least `completions` reads are completed, no more than are in flight.
    pub(super) fn wait(&mut self, completions: usize) {
        let mut done = lock(&self.done.completions);
        while done.len() < completions.min(self.in_flight) {
            done = self.done.more.wait(done).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A read that is completed.
    pub(super) fn completed(&mut self) -> Option<Completion> {
        let completion = lock(&self.done.completions).pop_front()?;
        self.in_flight -= 1;
        Some(completion)
    }
}

impl Pool {
    /// Starts threads until there are as many as asked, or as many as there may be.
    fn grow(&'static self, state: &mut State, threads: usize) -> Result<()> {
        while state.threads < threads.min(MOST_THREADS) {
            let started = thread::Builder::new()
                .name(format!("embmap-read-{}", state.threads))
                .stack_size(64 << 10)
                .spawn(|| self.work());
            started.map_err(|error| Error::Threads { threads: 1, reason: error.to_string() })?;
            state.threads += 1;
        }
        Ok(())
    }

    /// What a thread does, as long as the process lives.
    fn work(&self) {
        let mut state = lock(&self.state);
        loop {
            let Some(job) = state.jobs.pop_front() else {
                state.idle += 1;
                state = self.wanted.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
                continue;
            };
            drop(state);
            job.run();
            state = lock(&self.state);
        }
    }
}

impl Job {
    fn run(self) {
        // SAFETY: `Threads::start` was promised that the place is valid, initialised, and
        // nobody else's until the completion below is taken.
        let out = unsafe { std::slice::from_raw_parts_mut(self.place.0, self.bytes) };
        let result = loop {
            match read_at(&self.file, out, self.offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        // Before its user can go on, and drop the table that it belongs to.
        drop(self.file);
        lock(&self.done.completions).push_back(Completion { id: self.id, result });
        self.done.more.notify_one();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(unix)]
fn read_at(file: &File, out: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, out, offset)
}

#[cfg(windows)]
fn read_at(file: &File, out: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, out, offset)
}
