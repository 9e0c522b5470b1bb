//! The threads of large gathers: pools of our own, built when first needed.
//!
//! A forked child has its parent's memory but none of its threads, so a pool counts only in
//! the process that built it; the global pool of rayon would wait there for ever. Pools are
//! never dropped, for dropping an inherited one would wait too. They form a list that only
//! grows, without a lock that a fork could leave held.

use std::cell::Cell;
use std::num::NonZero;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use rayon::{ThreadPool, ThreadPoolBuilder};

use super::placing::Placing;
use crate::error::{Error, Result};

struct Node {
    process: u32,
    threads: usize,
    pool: ThreadPool,
    /// The helpers that wait without sleeping.
    awake: AtomicUsize,
    /// When the last call that could have used them ended or began, in [`nanos`].
    called: AtomicU64,
    /// The calls that are being worked on.
    calls: AtomicUsize,
    placing: Arc<Placing>,
    next: OnceLock<&'static Node>,
}

static FIRST: OnceLock<&'static Node> = OnceLock::new();

/// The number of threads where nothing was said: one for each core this process may use.
fn default_threads() -> usize {
    static THREADS: OnceLock<usize> = OnceLock::new();
    *THREADS.get_or_init(|| available_parallelism().map_or(1, NonZero::get))
}

/// The threads for a call: its own number, the table's, or one for each core.
pub(crate) fn threads(of_call: Option<usize>, of_table: Option<usize>) -> Result<usize> {
    match of_call.or(of_table) {
        Some(threads @ (0 | 65_536..)) => {
            let reason = format!("expected 1 to 65,535, found {threads}");
            Err(Error::InvalidOption { option: "threads", reason })
        }
        Some(threads) => Ok(threads),
        None => Ok(default_threads()),
    }
}

/// The bytes of work from which several threads pay for waking them.
const PARALLEL_BYTES: usize = 1 << 20;

/// The bytes of work from which several threads pay where they are awake.
const AWAKE_BYTES: usize = 96 << 10;

/// How long the caller of a parallel gather looks for its helpers to end before it sleeps.
const LAST_LOOK: Duration = Duration::from_micros(100);

/// How long it does so without letting others have its core.
const POLITE: Duration = Duration::from_micros(5);

/// The turns of a loop that a helper is given from its last line to the end of its job, which
/// ends the call: a caller that came first would sleep.
const GRACE: usize = 32;

/// The threads of one call, and how long its helpers wait for another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Crew {
    /// The threads, the calling one included.
    pub(crate) threads: usize,
    /// How long helpers stay awake for the next call.
    pub(crate) spin: Duration,
}

impl Crew {
    /// The threads for work that belongs to no table: so many, or one for each core.
    pub(crate) fn of(threads: Option<usize>, spin: Duration) -> Result<Self> {
        Ok(Crew { threads: self::threads(threads, None)?, spin })
    }

    /// True where work on so many bytes pays for several threads.
    pub(crate) fn pays_for(self, bytes: usize) -> Result<bool> {
        if self.threads < 2 || bytes < AWAKE_BYTES {
            return Ok(false);
        }
        Ok(bytes >= PARALLEL_BYTES || self.is_awake()?)
    }

    /// True where work of a moderate size would find helpers awake. Where calls follow each
    /// other so closely that sleeping in between makes no sense, this wakes them for the next.
    fn is_awake(self) -> Result<bool> {
        if self.spin.is_zero() {
            return Ok(false);
        }
        let node = node(self.threads - 1)?;
        if node.awake.load(Ordering::Relaxed) > 0 {
            return Ok(true);
        }
        let now = nanos();
        let spin = u64::try_from(self.spin.as_nanos()).unwrap_or(u64::MAX);
        if now.saturating_sub(node.called.swap(now, Ordering::Relaxed)) < spin {
            node.placing.keep_away();
            node.pool.spawn_broadcast(move |_| stay_awake(node, self.spin));
        }
        Ok(false)
    }

    /// Does the parts of some work, each on whichever thread is free next, this one included:
    /// it would only wait otherwise, and waking another takes 20 to 50 us.
    ///
    /// # Errors
    ///
    /// That of the first part that failed.
    pub(crate) fn work<P: Send>(
        self,
        parts: Vec<P>,
        work: impl Fn(P) -> Result<()> + Sync,
    ) -> Result<()> {
        let helpers = self.threads.min(parts.len()).saturating_sub(1);
        if helpers == 0 {
            return parts.into_iter().try_for_each(work);
        }
        let node = node(helpers)?;
        let failed = Mutex::new(None);
        let queue = Mutex::new(parts.into_iter().enumerate());
        let next = || lock(&queue).next();
        let run = || {
            while let Some((index, part)) = next() {
                if let Err(error) = work(part) {
                    let mut failed = lock(&failed);
                    if failed.as_ref().is_none_or(|(first, _)| index < *first) {
                        *failed = Some((index, error));
                    }
                }
            }
        };
        let running = AtomicUsize::new(helpers);
        // Where several threads call at a time they need no help to fill the cores.
        if node.calls.fetch_add(1, Ordering::Relaxed) == 0 {
            node.placing.keep_away();
        }
        let (run, running) = (&run, &running);
        node.pool.in_place_scope(|scope| {
            for _ in 0..helpers {
                scope.spawn(move |_| {
                    run();
                    running.fetch_sub(1, Ordering::Release);
                    if !self.spin.is_zero() && !AWAKE.get() {
                        // On this thread's own queue, so next.
                        rayon::spawn(move || stay_awake(node, self.spin));
                    }
                });
            }
            run();
            let since = Instant::now();
            while running.load(Ordering::Acquire) > 0 && since.elapsed() < LAST_LOOK {
                if since.elapsed() < POLITE {
                    std::hint::spin_loop();
                } else {
                    // A helper that was woken on this core waits for it.
                    std::thread::yield_now();
                }
            }
            for _ in 0..GRACE {
                std::hint::spin_loop();
            }
        });
        node.calls.fetch_sub(1, Ordering::Relaxed);
        node.called.store(nanos(), Ordering::Relaxed);
        match lock(&failed).take() {
            Some((_, error)) => Err(error),
            None => Ok(()),
        }
    }
}

thread_local! {
    /// True on a helper that waits for work without sleeping.
    static AWAKE: Cell<bool> = const { Cell::new(false) };
}

/// Keeps this helper from sleeping until nothing came for a while. What comes is done here.
fn stay_awake(node: &Node, spin: Duration) {
    if AWAKE.replace(true) {
        return;
    }
    node.awake.fetch_add(1, Ordering::Relaxed);
    let mut idle = Instant::now();
    while idle.elapsed() < spin {
        if rayon::yield_now() == Some(rayon::Yield::Executed) {
            idle = Instant::now();
        } else {
            std::hint::spin_loop();
        }
    }
    node.awake.fetch_sub(1, Ordering::Relaxed);
    AWAKE.set(false);
}

/// Nanoseconds since some instant of this process.
fn nanos() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    u64::try_from(START.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Locks what no holder leaves half changed, so that a panic elsewhere does not matter.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A pool of a number of threads, for work that is no gather.
#[cfg(feature = "import")]
pub(crate) fn pool_of(threads: usize) -> Result<&'static ThreadPool> {
    node(threads).map(|node| &node.pool)
}

/// This process's pool of a number of threads.
fn node(threads: usize) -> Result<&'static Node> {
    let process = std::process::id();
    let mut place = &FIRST;
    let mut fresh: Option<&'static Node> = None;
    loop {
        if let Some(node) = place.get() {
            if node.process == process && node.threads == threads {
                return Ok(node);
            }
            place = &node.next;
            continue;
        }
        let node = match fresh {
            Some(node) => node,
            None => Box::leak(Box::new(build(process, threads)?)),
        };
        fresh = Some(node);
        // Where another thread was first, its node stands here now, and the search goes on.
        if place.set(node).is_ok() {
            return Ok(node);
        }
    }
}

fn build(process: u32, threads: usize) -> Result<Node> {
    let placing = Arc::new(Placing::new(threads));
    let of_helpers = Arc::clone(&placing);
    let pool = ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|index| format!("embmap-{index}"))
        .start_handler(move |_| of_helpers.join())
        .build()
        .map_err(|error| Error::Threads { threads, reason: error.to_string() })?;
    Ok(Node {
        process,
        threads,
        pool,
        awake: AtomicUsize::new(0),
        called: AtomicU64::new(0),
        calls: AtomicUsize::new(0),
        placing,
        next: OnceLock::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_built_once_for_each_number_of_threads() {
        let pools: Vec<_> = std::thread::scope(|scope| {
            let started: Vec<_> =
                (0..8).map(|index| scope.spawn(move || node(2 + index % 2).unwrap())).collect();
            started.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for (index, found) in pools.iter().enumerate() {
            assert_eq!(found.pool.current_num_threads(), 2 + index % 2);
            assert!(std::ptr::eq(*found, node(2 + index % 2).unwrap()));
        }
    }

    fn crew(threads: usize, spin: u64) -> Crew {
        Crew { threads, spin: Duration::from_micros(spin) }
    }

    #[test]
    fn every_part_is_done_once_and_the_first_failure_is_told() {
        for (threads, spin) in [(1, 0), (2, 0), (2, 50), (4, 50), (9, 200)] {
            for parts in [0usize, 1, 2, 3, 40] {
                for _ in 0..20 {
                    let done: Vec<_> = (0..parts).map(|_| AtomicUsize::new(0)).collect();
                    let work = |part: usize| {
                        done[part].fetch_add(1, Ordering::Relaxed);
                        Ok(())
                    };
                    crew(threads, spin).work((0..parts).collect(), work).unwrap();
                    assert!(done.iter().all(|count| count.load(Ordering::Relaxed) == 1));
                }
            }
        }
        let fail = |part: usize| match part {
            7 | 9 => Err(Error::RowCount { expected: 0, got: part as u64 }),
            _ => Ok(()),
        };
        // Each of two parts waits for the other: they are done at the same time.
        let both = std::sync::Barrier::new(2);
        crew(2, 50)
            .work(vec![(), ()], |()| {
                both.wait();
                Ok(())
            })
            .unwrap();
        let error = crew(3, 50).work((0..20).collect(), fail).unwrap_err();
        assert!(matches!(error, Error::RowCount { got: 7, .. }), "{error}");
    }

    #[test]
    fn helpers_stay_awake_for_a_while_and_then_sleep() {
        // A number of threads that no other test uses.
        let crew = crew(6, 200_000);
        assert!(!crew.is_awake().unwrap());
        crew.work((0..6).collect(), |_| {
            std::thread::sleep(Duration::from_millis(5));
            Ok(())
        })
        .unwrap();
        let until = |awake| {
            let start = Instant::now();
            while (node(5).unwrap().awake.load(Ordering::Relaxed) > 0) != awake {
                assert!(start.elapsed() < Duration::from_secs(20));
                std::thread::yield_now();
            }
        };
        until(true);
        assert!(crew.is_awake().unwrap());
        until(false);
        // Two calls in close succession wake them again.
        assert!(!crew.is_awake().unwrap());
        crew.is_awake().unwrap();
        until(true);
    }
}
