//! The limit: rows of the same size copied from memory in large pages, by loops that check
//! nothing and do nothing else, written without embmap's own kernels. The best of them counts.

use std::arch::x86_64::{
    _MM_HINT_T0, _mm_prefetch, _mm_sfence, _mm256_loadu_si256, _mm256_stream_si256,
};
use std::ffi::c_char;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use embmap::Table;
use rustix::thread::{CpuSet, Pid, gettid, sched_getaffinity, sched_getcpu, sched_setaffinity};

use crate::{opened, path, slice, slice_mut};

/// The loops: the lines of a row that are asked for ahead, how many rows ahead, and whether the
/// output is written past the caches.
const LOOPS: [(usize, usize, bool); 6] =
    [(1, 8, false), (2, 16, false), (4, 8, false), (8, 16, false), (2, 8, true), (4, 16, true)];

/// How long the second thread waits for work without sleeping.
const SPIN: Duration = Duration::from_micros(300);

/// Rows in memory, and a second thread that copies half of them.
pub struct Limit {
    rows: Table,
    row_bytes: usize,
    shared: Arc<Shared>,
    helper: Thread,
    helper_id: Pid,
    /// Where threads of this process may run.
    cores: CpuSet,
    /// The core that the second thread keeps away from: that of the first.
    away_from: AtomicUsize,
}

#[derive(Default)]
struct Shared {
    work: AtomicPtr<Work>,
    done: AtomicUsize,
    over: AtomicBool,
}

/// Half of a batch, or all of it.
struct Work {
    rows: *const u8,
    row_bytes: usize,
    ids: *const i64,
    count: usize,
    out: *mut u8,
    way: (usize, usize, bool),
}

/// Copies the rows of a table to memory.
///
/// # Safety
///
/// `file` is a string that ends with a zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn limit_open(file: *const c_char) -> *mut Limit {
    // SAFETY: the caller's promise.
    opened(Table::load(unsafe { path(file) }).map(|rows| {
        let shared = Arc::new(Shared::default());
        let of_helper = Arc::clone(&shared);
        let (told, id) = channel();
        let helper = thread::spawn(move || {
            let _ = told.send(gettid());
            help(&of_helper);
        });
        let (helper, helper_id) = (helper.thread().clone(), id.recv().unwrap_or(gettid()));
        let cores = sched_getaffinity(None).unwrap_or_default();
        let (row_bytes, away_from) = (rows.row_bytes() as usize, AtomicUsize::new(usize::MAX));
        Limit { rows, row_bytes, shared, helper, helper_id, cores, away_from }
    }))
}

/// Frees the rows, and ends the second thread.
///
/// # Safety
///
/// `limit` is a handle that is not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn limit_close(limit: *mut Limit) {
    // SAFETY: the caller's promise.
    let limit = unsafe { Box::from_raw(limit) };
    limit.shared.over.store(true, Ordering::Release);
    limit.helper.unpark();
}

/// The number of loops.
#[unsafe(no_mangle)]
pub extern "C" fn limit_loops() -> usize {
    LOOPS.len()
}

/// Copies rows by one of the loops, on one thread or two.
///
/// # Safety
///
/// `limit` is a handle, there are `count` ids below the number of rows, and room for `length`
/// bytes that nobody uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn limit_gather(
    limit: *const Limit,
    ids: *const i64,
    count: usize,
    out: *mut u8,
    length: usize,
    threads: usize,
    way: usize,
) -> i32 {
    // SAFETY: the caller's promise.
    let (limit, ids, out) = unsafe { (&*limit, slice(ids, count), slice_mut(out, length)) };
    let Ok((_, rows)) = limit.rows.encoded_extent(0) else { return 1 };
    let row_bytes = limit.row_bytes;
    let half = if threads == 2 { count / 2 } else { count };
    let (own_ids, other_ids) = ids.split_at(half);
    let (own_out, other_out) = out.split_at_mut(half * row_bytes);
    let work = |ids: &[i64], out: &mut [u8]| Work {
        rows: rows.as_ptr(),
        row_bytes,
        ids: ids.as_ptr(),
        count: ids.len(),
        out: out.as_mut_ptr(),
        way: LOOPS[way],
    };
    let mut other = work(other_ids, other_out);
    let before = limit.shared.done.load(Ordering::Acquire);
    if other.count > 0 {
        let here = sched_getcpu();
        if limit.away_from.swap(here, Ordering::Relaxed) != here {
            let mut cores = limit.cores;
            cores.unset(here);
            // With one core alone it stays there, and is slow.
            let _ = sched_setaffinity(Some(limit.helper_id), &cores);
        }
        limit.shared.work.store(&raw mut other, Ordering::Release);
        limit.helper.unpark();
    }
    // SAFETY: ids are in range, says the caller, and the output is split.
    unsafe { copy(&work(own_ids, own_out)) };
    while other.count > 0 && limit.shared.done.load(Ordering::Acquire) == before {
        std::hint::spin_loop();
    }
    0
}

/// What the second thread does.
fn help(shared: &Shared) {
    let mut idle = Instant::now();
    while !shared.over.load(Ordering::Acquire) {
        let work = shared.work.swap(std::ptr::null_mut(), Ordering::Acquire);
        if work.is_null() {
            if idle.elapsed() > SPIN {
                thread::park();
                idle = Instant::now();
            }
            std::hint::spin_loop();
            continue;
        }
        // SAFETY: who stored it waits until it is done.
        unsafe { copy(&*work) };
        shared.done.fetch_add(1, Ordering::Release);
        idle = Instant::now();
    }
}

/// # Safety
///
/// The ids are those of rows, and the output has room for them.
unsafe fn copy(work: &Work) {
    let (lines, ahead, past_caches) = work.way;
    for position in 0..work.count {
        // SAFETY: the caller's promise; what is asked for ahead need not be there.
        unsafe {
            if position + ahead < work.count {
                let id = *work.ids.add(position + ahead) as usize;
                let row = work.rows.wrapping_add(id * work.row_bytes);
                for line in 0..lines.min(work.row_bytes.div_ceil(64)) {
                    _mm_prefetch::<_MM_HINT_T0>(row.wrapping_add(line * 64).cast());
                }
            }
            let row = work.rows.add(*work.ids.add(position) as usize * work.row_bytes);
            let out = work.out.add(position * work.row_bytes);
            if past_caches && out.addr().is_multiple_of(32) && work.row_bytes.is_multiple_of(32) {
                stream(row, out, work.row_bytes);
            } else {
                out.copy_from_nonoverlapping(row, work.row_bytes);
            }
        }
    }
    // SAFETY: SSE is part of x86-64.
    unsafe { _mm_sfence() };
}

/// # Safety
///
/// Both are that long, a multiple of 32, and `to` lies at one.
#[target_feature(enable = "avx")]
unsafe fn stream(from: *const u8, to: *mut u8, bytes: usize) {
    for at in (0..bytes).step_by(32) {
        // SAFETY: the caller's promise.
        unsafe { _mm256_stream_si256(to.add(at).cast(), _mm256_loadu_si256(from.add(at).cast())) };
    }
}
