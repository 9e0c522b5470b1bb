//! A forked child gathers in parallel after its parent did. Alone in its binary, because a
//! fork wants a process with few threads.

#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::float_cmp,
    clippy::print_stderr
)]
#![cfg(target_os = "linux")]

mod support;

use std::time::{Duration, Instant};

use embmap::{DType, GatherOptions, Table};

#[test]
fn a_forked_child_gathers_after_its_parent_did() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fork.emb");
    support::write_random(&path, 5000, 128, DType::F32, None);
    // SAFETY: the test's own file, which nothing writes to.
    let table = unsafe { Table::map(&path).unwrap() };
    let ids: Vec<u32> = (0..5000).rev().collect();
    let options = GatherOptions::new().threads(2);
    let gather = || {
        let mut out = vec![0f32; ids.len() * 128];
        table.gather_into_with(&ids, &mut out, &options).unwrap();
        out.iter().map(|value| u64::from(value.to_bits())).sum::<u64>()
    };
    let expected = gather();
    assert_ne!(expected, 0);

    // SAFETY: the child does nothing but gather, compare and leave without unwinding.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let status = i32::from(gather() != expected);
        // SAFETY: ends the child at once, without the parent's destructors.
        unsafe { libc::_exit(status) };
    }
    assert!(child > 0);
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
    assert_eq!(status, 0, "the child's rows are the parent's");
    assert_eq!(gather(), expected, "the parent's pool still works");
}
