//! The threads of large gathers: pools of our own, built when first needed.
//!
//! A forked child has its parent's memory but none of its threads, so a pool counts only in
//! the process that built it; the global pool of rayon would wait there for ever. Pools are
//! never dropped, for dropping an inherited one would wait too. They form a list that only
//! grows, without a lock that a fork could leave held.

use std::num::NonZero;
use std::sync::OnceLock;
use std::thread::available_parallelism;

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::{Error, Result};

struct Node {
    process: u32,
    threads: usize,
    pool: ThreadPool,
    next: OnceLock<&'static Node>,
}

static FIRST: OnceLock<&'static Node> = OnceLock::new();

/// The number of threads where nothing was said: one for each core this process may use.
fn default_threads() -> usize {
    static THREADS: OnceLock<usize> = OnceLock::new();
    *THREADS.get_or_init(|| available_parallelism().map_or(1, NonZero::get))
}

/// The threads for a call: its own number, the table's, or one for each core.
pub(super) fn threads(of_call: Option<usize>, of_table: Option<usize>) -> Result<usize> {
    match of_call.or(of_table) {
        Some(threads @ (0 | 65_536..)) => {
            let reason = format!("expected 1 to 65,535, found {threads}");
            Err(Error::InvalidOption { option: "threads", reason })
        }
        Some(threads) => Ok(threads),
        None => Ok(default_threads()),
    }
}

/// Does each part of some work on a thread of its own, the first on this one.
///
/// The calling thread would only wait otherwise, and waking a thread costs 20 to 50 us.
pub(super) fn in_parallel<P: Send>(
    parts: Vec<P>,
    work: impl Fn(P) -> Result<()> + Sync,
) -> Result<()> {
    let mut parts = parts.into_iter();
    let Some(own) = parts.next() else { return Ok(()) };
    if parts.len() == 0 {
        return work(own);
    }
    let mut results: Vec<Result<()>> = parts.as_slice().iter().map(|_| Ok(())).collect();
    let work = &work;
    let own = pool(parts.len())?.in_place_scope(|scope| {
        for (part, result) in parts.zip(&mut results) {
            scope.spawn(move |_| *result = work(part));
        }
        work(own)
    });
    own.and(results.into_iter().collect())
}

/// This process's pool of a number of threads.
fn pool(threads: usize) -> Result<&'static ThreadPool> {
    let process = std::process::id();
    let mut place = &FIRST;
    let mut fresh: Option<&'static Node> = None;
    loop {
        if let Some(node) = place.get() {
            if node.process == process && node.threads == threads {
                return Ok(&node.pool);
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
            return Ok(&node.pool);
        }
    }
}

fn build(process: u32, threads: usize) -> Result<Node> {
    let pool = ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|index| format!("embmap-{index}"))
        .build()
        .map_err(|error| Error::Threads { threads, reason: error.to_string() })?;
    Ok(Node { process, threads, pool, next: OnceLock::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_built_once_for_each_number_of_threads() {
        let pools: Vec<_> = std::thread::scope(|scope| {
            let started: Vec<_> =
                (0..8).map(|index| scope.spawn(move || pool(2 + index % 2).unwrap())).collect();
            started.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for (index, found) in pools.iter().enumerate() {
            assert_eq!(found.current_num_threads(), 2 + index % 2);
            assert!(std::ptr::eq(*found, pool(2 + index % 2).unwrap()));
        }
    }
}
