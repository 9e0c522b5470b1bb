//! Making a table cold, on files that can be and on files that cannot.
#![cfg(target_os = "linux")]
#![allow(unsafe_code, clippy::unwrap_used, clippy::cast_possible_truncation)]

mod support;

use embmap::{DType, OpenOptions, Table};

const ROWS: usize = 4096;

fn all(table: &Table) -> Vec<u8> {
    let ids: Vec<u64> = (0..ROWS as u64).collect();
    let mut out = vec![0; ROWS * 128];
    table.gather_bytes_into(&ids, &mut out).unwrap();
    out
}

#[test]
fn what_was_evicted_is_cold_and_reads_the_same() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = directory.path().join("table.emb");
    support::write_random(&path, ROWS as u64, 64, DType::F16, None);
    // SAFETY: the test's own file, which nothing writes to.
    let mapped = unsafe { OpenOptions::new().map(&path).unwrap() };
    let read = OpenOptions::new().open(&path).unwrap();
    let before = all(&mapped);
    read.warm(..).unwrap();
    let left = read.residency().unwrap();
    assert_eq!(left.cached_bytes, Some(left.total_bytes));
    assert_eq!(mapped.evict().unwrap().cached_bytes, Some(0));
    assert_eq!(all(&mapped), before);

    let left = read.evict().unwrap().cached_bytes;
    assert!(left > Some(0), "pages that someone has mapped stay: {left:?}");
    mapped.release().unwrap();
    assert_eq!(read.evict().unwrap().cached_bytes, Some(0));
    assert_eq!(all(&read), before);
}

#[test]
fn what_lies_in_memory_alone_stays_and_says_so() {
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = directory.path().join("table.emb");
    support::write_random(&path, ROWS as u64, 64, DType::F16, None);
    let left = OpenOptions::new().open(&path).unwrap().evict().unwrap();
    assert_eq!(left.cached_bytes, Some(left.total_bytes));

    let loaded = Table::load(&path).unwrap();
    let left = loaded.evict().unwrap();
    assert_eq!(left.cached_bytes, Some(left.total_bytes));
    assert_eq!(all(&loaded).len(), ROWS * 128);
}
