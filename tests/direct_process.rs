//! What direct reads do to a process: its memory, and its children. Alone in its binary,
//! because a fork wants a process with few threads and a peak is that of the whole process.

#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::float_cmp,
    clippy::print_stderr
)]
#![cfg(target_os = "linux")]

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use embmap::{Access, DType, GatherOptions, OpenOptions, Table};
use support::Random;

const DIM: usize = 768;
const VOCAB: u64 = 20_000;

#[test]
fn memory_is_bounded_and_forked_children_read() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = directory.path().join("table.emb");
    support::write_random(&path, VOCAB, DIM, DType::F32, None);
    for io_uring in [true, false] {
        memory(&path, io_uring);
    }
    for io_uring in [true, false] {
        children(&path, io_uring);
    }
}

fn open(path: &Path, io_uring: bool) -> Table {
    OpenOptions::new().access(Access::Direct).io_uring(io_uring).open(path).unwrap()
}

/// A batch of 65,536 rows takes no more memory besides its output than one of 4,096.
fn memory(path: &Path, io_uring: bool) {
    let mut random = Random(1);
    let ids: Vec<u64> = (0..65_536).map(|_| random.below(VOCAB)).collect();
    let mut out = vec![1f32; ids.len() * DIM];
    let table = open(path, io_uring);
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = peak();
    table.gather_into_with(&ids, &mut out, &GatherOptions::new().threads(2)).unwrap();
    let more = peak() - before;
    eprintln!("65,536 rows of {} bytes: {} KiB more at the peak", DIM * 4, more >> 10);
    assert!(more < 40 << 20, "{more} bytes for two threads");
}

/// The most of this process that was ever in memory.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// A child that is forked between gathers reads by itself, and may drop what it inherited.
fn children(path: &Path, io_uring: bool) {
    let table = Box::new(open(path, io_uring));
    let ids: Vec<u32> = (0..3000).rev().collect();
    let gather = |table: &Table| {
        let mut out = vec![0f32; ids.len() * DIM];
        table.gather_into_with(&ids, &mut out, &GatherOptions::new().threads(2)).unwrap();
        out.iter().map(|value| u64::from(value.to_bits())).fold(0, u64::wrapping_add)
    };
    let expected = gather(&table);
    assert_ne!(expected, 0);
    // SAFETY: the child does nothing but gather, compare and leave without unwinding.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let same = gather(&table) == expected;
        // Memory of its own where the parent's arenas were: dropping must not unmap that.
        let own: Vec<Vec<u8>> = (0..20).map(|_| vec![7; 4 << 20]).collect();
        drop(table);
        let kept = own.iter().all(|own| own.iter().all(|byte| *byte == 7));
        let status = i32::from(!same) + 2 * i32::from(!kept);
        // SAFETY: ends the child at once, without the parent's destructors.
        unsafe { libc::_exit(status) };
    }
    assert!(child > 0);
    // The parent reads on meanwhile.
    for _ in 0..5 {
        assert_eq!(gather(&table), expected);
    }
    let started = Instant::now();
    let mut status = -1;
    loop {
        // SAFETY: waits for the child forked above; `status` outlives the call.
        let done = unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) };
        if done == child {
            break;
        }
        if started.elapsed() > Duration::from_secs(60) {
            // SAFETY: ends the child forked above.
            unsafe { libc::kill(child, libc::SIGKILL) };
            panic!("the child hangs");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(status, 0, "the child's rows are the parent's, and its memory its own");
    assert_eq!(gather(&table), expected);
}
