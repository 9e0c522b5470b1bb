//! The limit on the resident set. Alone in its binary, because it looks at what the process
//! has mapped.

#![allow(unsafe_code, clippy::unwrap_used, clippy::cast_possible_truncation, clippy::print_stderr)]
#![cfg(target_os = "linux")]

mod support;

use std::time::{Duration, Instant};

use embmap::{DType, OpenOptions, Table};
use support::Random;

const VOCAB: u64 = 50_021;
const ROW: usize = 768;
const LIMIT: u64 = 8 << 20;

#[test]
fn a_budget_bounds_the_map_and_not_the_cache() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = directory.path().join("budget.emb");
    let encoded = support::write_random(&path, VOCAB, ROW / 4, DType::F32, None);
    let open = |options: OpenOptions| {
        // SAFETY: the test's own file, which nothing writes to while it is mapped.
        unsafe { options.map(&path).unwrap() }
    };
    let free = open(OpenOptions::new());
    let bound = open(OpenOptions::new().rss_budget(LIMIT));

    // In small pages: a large one is mapped whole by one touch, and a small budget with it.
    let file = std::fs::File::open(&path).unwrap();
    file.sync_all().unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    if cached(&free) > 0 {
        eprintln!("skipped: the pages of this file system cannot be dropped");
        return;
    }
    let all: Vec<u64> = (0..VOCAB).collect();
    free.prefetch(&all).unwrap();
    let start = Instant::now();
    while cached(&free) < VOCAB * ROW as u64 {
        assert!(start.elapsed() < Duration::from_secs(10), "the pages come");
        std::thread::sleep(Duration::from_millis(5));
    }

    let mut random = Random(8);
    for _ in 0..6 {
        let ids: Vec<u64> = (0..10_000).map(|_| random.below(VOCAB)).collect();
        for table in [&free, &bound] {
            let mut out = vec![0; ids.len() * ROW];
            table.gather_bytes_into(&ids, &mut out).unwrap();
            for (id, out) in ids.iter().zip(out.chunks(ROW)) {
                assert!(out == &encoded[*id as usize * ROW..][..ROW], "row {id}");
            }
        }
        assert!(mapped(&bound) <= LIMIT + LIMIT / 2, "{}", mapped(&bound));
    }
    assert!(mapped(&free) > 3 * LIMIT, "{}", mapped(&free));
    assert_eq!(cached(&bound), VOCAB * ROW as u64);
}

fn cached(table: &Table) -> u64 {
    table.residency().unwrap().cached_bytes.unwrap()
}

fn mapped(table: &Table) -> u64 {
    table.residency().unwrap().mapped_bytes.unwrap()
}
