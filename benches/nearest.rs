//! Exact search over all rows, beside a plain reading of the same bytes, interleaved in one run.
//!
//! `cargo bench --no-default-features --bench nearest [-- ROUNDS]` writes tables of 1,000,000 rows
//! of 768 elements below `target` and prints medians. `-- --test` is a quick run on small ones.

#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::print_stdout
)]

use std::hint::black_box;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use embmap::format::ROWS_OFFSET;
use embmap::{
    Access, ConvertOptions, DType, Metric, NearestOptions, OpenOptions, Table, WriteOptions,
    convert,
};
use memmap2::Mmap;

#[path = "../tests/support/mod.rs"]
mod support;

use support::Random;

const DIM: usize = 768;
const K: usize = 10;
/// How far ahead the plain reading asks for what it will read.
const AHEAD: usize = 8 << 10;

/// One way to look at all rows, and the seconds of each round.
struct Way<'a> {
    name: String,
    /// The bytes of rows.
    bytes: u64,
    run: Box<dyn Fn() + 'a>,
    seconds: Vec<f64>,
}

impl<'a> Way<'a> {
    fn new(name: String, bytes: u64, run: Box<dyn Fn() + 'a>) -> Self {
        Way { name, bytes, run, seconds: Vec::new() }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let quick = arguments.iter().any(|argument| argument == "--test");
    let rounds = arguments.iter().find_map(|argument| argument.parse().ok());
    let rounds: usize = rounds.unwrap_or(if quick { 1 } else { 7 });
    let rows = if quick { 3000 } else { 1_000_000 };

    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = |dtype: DType| directory.path().join(format!("{dtype}.emb"));
    write(&path(DType::F32), rows);
    let table = map(&path(DType::F32));
    for dtype in [DType::F16, DType::I8] {
        convert(&table, path(dtype), &ConvertOptions::new().dtype(dtype)).unwrap();
    }
    let mut random = Random(9);
    let queries: Vec<f32> = (0..64 * DIM).map(|_| element(&mut random)).collect();

    let tables: Vec<(DType, Table, Table, Mmap)> = [DType::F32, DType::F16, DType::I8]
        .map(|dtype| {
            let read = OpenOptions::new().access(Access::Read).open(path(dtype)).unwrap();
            let file = std::fs::File::open(path(dtype)).unwrap();
            // SAFETY: nothing writes to the bench's own file while it is mapped.
            (dtype, map(&path(dtype)), read, unsafe { Mmap::map(&file).unwrap() })
        })
        .into();
    for threads in [1, 2] {
        println!("\n{rows} rows of {DIM}, {threads} threads, {rounds} rounds");
        let mut ways: Vec<Way<'_>> = Vec::new();
        for (dtype, mapped, read, lying) in &tables {
            let bytes = mapped.vocab() * mapped.row_bytes();
            let way = |name: &str, run| Way::new(format!("{dtype} {name}"), bytes, run);
            let rows = &lying[ROWS_OFFSET as usize..ROWS_OFFSET as usize + bytes as usize];
            ways.push(way("plain reading", Box::new(move || add_up(rows, threads))));
            for (name, metric, queries) in [
                ("dot", Metric::Dot, &queries[..DIM]),
                ("cosine", Metric::Cosine, &queries[..DIM]),
                ("dot, 4 queries", Metric::Dot, &queries[..4 * DIM]),
                ("dot, 64 queries", Metric::Dot, &queries[..]),
            ] {
                ways.push(way(name, Box::new(move || search(mapped, queries, metric, threads))));
            }
            let query = &queries[..DIM];
            ways.push(way(
                "dot, read",
                Box::new(move || search(read, query, Metric::Dot, threads)),
            ));
        }
        for round in 0..=rounds {
            for way in &mut ways {
                let start = Instant::now();
                (way.run)();
                // The first round brings pages in.
                if round > 0 {
                    way.seconds.push(start.elapsed().as_secs_f64());
                }
            }
        }
        println!("| way | ms | GB/s | of a plain reading |\n|---|--:|--:|--:|");
        let mut plain = 0.0;
        for way in &mut ways {
            way.seconds.sort_unstable_by(f64::total_cmp);
            let median = way.seconds[way.seconds.len() / 2];
            if way.name.ends_with("plain reading") {
                plain = median;
            }
            let speed = way.bytes as f64 / median / 1e9;
            println!("| {} | {:.1} | {speed:.1} | {:.2} |", way.name, median * 1e3, plain / median);
        }
    }
}

fn element(random: &mut Random) -> f32 {
    (random.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
}

fn write(path: &Path, rows: usize) {
    let mut random = Random(1);
    let mut writer = WriteOptions::new(DIM, DType::F32).create(path).unwrap();
    let mut some = vec![0f32; 1000 * DIM];
    for _ in 0..rows / 1000 {
        for value in &mut some {
            *value = element(&mut random);
        }
        writer.push(&some).unwrap();
    }
    writer.finish().unwrap();
}

fn map(path: &Path) -> Table {
    // SAFETY: the bench's own file, which nothing writes to while it is mapped.
    unsafe { Table::map(path).unwrap() }
}

fn search(table: &Table, queries: &[f32], metric: Metric, threads: usize) {
    let options = NearestOptions::new().threads(threads);
    black_box(table.nearest_with(queries, K, metric, &options).unwrap());
}

/// Adds up the words of some memory, in pieces that threads take in turn.
fn add_up(bytes: &[u8], threads: usize) {
    let next = AtomicUsize::new(0);
    let pieces: Vec<&[u8]> = bytes.chunks(4 << 20).collect();
    let run = || {
        while let Some(piece) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("avx2") {
                // SAFETY: the CPU was asked.
                black_box(unsafe { add_up_wide(piece) });
                continue;
            }
            black_box(add_up_words(piece));
        }
    };
    std::thread::scope(|scope| {
        (1..threads).for_each(|_| drop(scope.spawn(run)));
        run();
    });
}

#[inline]
fn add_up_words(piece: &[u8]) -> u64 {
    let mut sums = [0u64; 16];
    for words in piece.as_chunks::<128>().0 {
        let words: [u64; 16] = bytemuck::cast(*words);
        sums.iter_mut().zip(words).for_each(|(sum, word)| *sum = sum.wrapping_add(word));
    }
    sums.iter().fold(0, |sum, word| sum.wrapping_add(*word))
}

/// The same in wide vectors, asking ahead for what is read: the fastest reading that was found.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn add_up_wide(piece: &[u8]) -> u64 {
    let mut sums = [0u64; 16];
    for words in piece.as_chunks::<128>().0 {
        prefetch(words, AHEAD);
        prefetch(words, AHEAD + 64);
        let words: [u64; 16] = bytemuck::cast(*words);
        sums.iter_mut().zip(words).for_each(|(sum, word)| *sum = sum.wrapping_add(word));
    }
    sums.iter().fold(0, |sum, word| sum.wrapping_add(*word))
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn prefetch(reading: &[u8; 128], bytes: usize) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: a prefetch cannot fault, whatever lies there.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(reading.as_ptr().wrapping_add(bytes).cast()) };
}
