//! Tokens in numbers: ten million of them in an optimised build. Alone in its binary, because it
//! looks at the process's peak memory and at the time that a look-up takes.

#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::print_stderr
)]
#![cfg(target_os = "linux")]

mod support;

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use embmap::{DType, OpenOptions, Table, WriteOptions};
use support::Random;

const TOKENS: u64 = if cfg!(debug_assertions) { 100_000 } else { 10_000_000 };

/// The token of a row: words of several lengths, as vocabularies have them. The first letters
/// tell few tokens apart.
fn token(id: u64) -> String {
    let word = Random(id).next() % 1_000_000;
    format!("{}{word}-{id}", ["the", "Ġ", "##", "наш"][usize::try_from(word % 4).unwrap()])
}

fn write(path: &Path) {
    let mut writer = WriteOptions::new(4, DType::I8).vocab(TOKENS).create(path).unwrap();
    for id in 0..TOKENS {
        writer.push_encoded(&id.to_le_bytes()[..4]).unwrap();
        writer.push_token(Some(&token(id))).unwrap();
    }
    assert_eq!(writer.finish().unwrap().tokens, TOKENS);
}

fn peak_rss_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The mean time of a look-up of tokens here and there, each checked.
fn look_up(table: &Table, count: u64) -> Duration {
    let mut random = Random(count);
    let asked: Vec<(u64, String)> =
        (0..count).map(|_| random.below(TOKENS)).map(|id| (id, token(id))).collect();
    let started = Instant::now();
    for (id, token) in &asked {
        assert_eq!(black_box(table).id_of(token).unwrap(), Some(*id), "{token}");
    }
    started.elapsed() / u32::try_from(count).unwrap()
}

#[test]
fn a_token_among_ten_million_is_found_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tokens.emb");
    let started = Instant::now();
    write(&path);
    let peak = peak_rss_kib();
    eprintln!("{TOKENS} tokens written in {:?}, {peak} KiB of peak memory", started.elapsed());
    assert!(peak < 120 * 1024, "{peak} KiB of peak memory");

    let mut quickest = Duration::MAX;
    for _ in 0..50 {
        let started = Instant::now();
        // SAFETY: the test's own file, which nothing writes to any more.
        let table = unsafe { Table::map(&path).unwrap() };
        assert_eq!(table.id_of(&token(TOKENS / 2)).unwrap(), Some(TOKENS / 2));
        quickest = quickest.min(started.elapsed());
    }
    // SAFETY: as above.
    let table = unsafe { Table::map(&path).unwrap() };
    assert_eq!(table.token_count().unwrap(), TOKENS);
    let index = table.info().sections.iter().find(|it| it.name == "token_index").unwrap();
    // An entry of 6 bytes a token, and a directory of 8 bytes for 8 to 16 of them.
    let most = 32 + 6 * TOKENS + 8 * (TOKENS.div_ceil(16).next_power_of_two() + 1);
    eprintln!("{:.2} bytes of index a token", index.bytes as f64 / TOKENS as f64);
    assert_eq!(index.bytes, most);

    look_up(&table, TOKENS / 50);
    let warm = (0..3).map(|_| look_up(&table, TOKENS / 50)).min().unwrap();
    eprintln!("{quickest:?} to open and look a token up, {warm:?} for one more");
    for absent in ["", "the", "the1-", "##"] {
        assert_eq!(table.id_of(absent).unwrap(), None);
    }
    let read = OpenOptions::new().open(&path).unwrap();
    eprintln!("{:?} where each look-up reads the file", look_up(&read, 1000));
    // What is promised of an optimised build.
    if !cfg!(debug_assertions) {
        assert!(quickest < Duration::from_millis(1), "{quickest:?}");
        assert!(warm < Duration::from_micros(2), "{warm:?}");
    }
}
