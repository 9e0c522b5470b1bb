//! Gathers of quantized rows beside those of f32 rows of the same shape, and beside the limit:
//! the same bytes read and as many written, without decoding; interleaved in one run.
//!
//! `cargo bench --no-default-features --bench quantized [-- ROUNDS PART... size=ROWS dim=COLUMNS
//! codec=NAME]` writes files of up to a gigabyte below `target` and prints medians. The parts are
//! `cached` (rows that stay in the caches: what decoding takes alone), `gather` and `bag`; all of
//! them, all codecs and all batches unless said. `-- --test` is a quick run on small files.

#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::print_stdout
)]

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use embmap::{Codec, DType, OpenOptions, Output, Pooling, ScaleType, Scaling, Table, WriteOptions};
use half::bf16;

#[path = "../tests/support/mod.rs"]
mod support;

use support::Random;

/// The rows of a table that stays in the caches.
const CACHED: u64 = 256;

/// The bytes of values in 8 bits of a table that does not.
const LARGE_BYTES: u64 = 200 << 20;

/// What is to be run.
struct Run {
    arguments: Vec<String>,
    quick: bool,
    rounds: usize,
}

impl Run {
    fn of_arguments() -> Self {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let quick = arguments.iter().any(|argument| argument == "--test");
        let rounds = arguments.iter().find_map(|argument| argument.parse().ok());
        Run { rounds: rounds.unwrap_or(if quick { 1 } else { 15 }), arguments, quick }
    }

    fn wants(&self, part: &str) -> bool {
        let said = |part: &str| self.arguments.iter().any(|argument| argument == part);
        said(part) || !["cached", "gather", "bag"].iter().any(|part| said(part))
    }

    /// True where nothing else is said of a name.
    fn takes(&self, name: &str, value: &str) -> bool {
        let mut said = self.arguments.iter().filter_map(|argument| argument.split_once('='));
        let mut said = said.by_ref().filter(|(own, _)| *own == name).peekable();
        said.peek().is_none() || said.any(|(_, wanted)| value.contains(wanted))
    }
}

fn main() {
    let run = Run::of_arguments();
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let dims = [160, 256, 768];
    let cached = dims.into_iter().filter(|_| run.wants("cached")).map(|dim| (dim, CACHED));
    let vocab = |dim| if run.quick { 1000 } else { LARGE_BYTES / dim as u64 };
    let large = dims.into_iter().filter(|_| run.wants("gather") || run.wants("bag"));
    let large = large.map(|dim| (dim, vocab(dim)));
    for (dim, vocab) in cached.chain(large).filter(|(dim, _)| run.takes("dim", &dim.to_string())) {
        let tables: Vec<Measured> = codecs(dim)
            .into_iter()
            .filter(|(name, ..)| name == "f32" || run.takes("codec", name))
            .map(|(name, dtype, codec)| {
                let path = directory.path().join("table.emb");
                Measured::write(&path, name, dtype, codec, dim, vocab)
            })
            .collect();
        println!("\n{vocab} rows of {dim}, {} rounds", run.rounds);
        let sizes: &[usize] = match (vocab, run.quick) {
            (CACHED, _) => &[64],
            (_, true) => &[16, 300],
            (_, false) => &[16, 1024, 65_536],
        };
        let sizes = sizes.iter().filter(|size| run.takes("size", &size.to_string()));
        for size in sizes.filter(|_| vocab == CACHED || run.wants("gather")) {
            compare::<f32>(&tables, *size, run.rounds);
            compare::<bf16>(&tables, *size, run.rounds);
        }
        if vocab == CACHED || run.wants("bag") {
            bags(&tables, if run.quick || vocab == CACHED { 512 } else { 16_384 }, run.rounds);
        }
    }
}

/// The codecs that are measured, by the names in the tables that are printed.
fn codecs(dim: usize) -> Vec<(String, DType, Codec)> {
    let scaled =
        |block: usize, scale, bias| Codec::Scaled(Scaling { block: block as u32, scale, bias });
    let (half, whole) = (ScaleType::F16, ScaleType::F32);
    let mut all = vec![
        ("f32".to_owned(), DType::F32, Codec::Plain),
        ("f16".to_owned(), DType::F16, Codec::Plain),
        ("f8_e4m3".to_owned(), DType::F8E4M3, Codec::Plain),
        ("f8_e4m3, a scale a row".to_owned(), DType::F8E4M3, scaled(dim, whole, None)),
        ("f8_e4m3, e8m0 each 32".to_owned(), DType::F8E4M3, scaled(32, ScaleType::E8M0, None)),
        ("f8_e5m2, a scale a row".to_owned(), DType::F8E5M2, scaled(dim, whole, None)),
        ("i8, a scale a row".to_owned(), DType::I8, scaled(dim, whole, None)),
        ("u8, scale and bias a row".to_owned(), DType::U8, scaled(dim, whole, Some(whole))),
        ("u4, f16 pair each 32".to_owned(), DType::U4, scaled(32, half, Some(half))),
        ("u4, f16 pair each 64".to_owned(), DType::U4, scaled(64, half, Some(half))),
        ("u6, f16 pair each 64".to_owned(), DType::U6, scaled(64, half, Some(half))),
    ];
    all.retain(|(_, _, codec)| match codec {
        Codec::Scaled(scaling) => dim.is_multiple_of(scaling.block as usize),
        _ => true,
    });
    let blocks = DType::ALL.into_iter().filter(|dtype| dtype.is_blocks());
    all.extend(
        blocks
            .filter(|dtype| dim.is_multiple_of(dtype.block_elements()))
            .map(|dtype| (dtype.name().to_owned(), dtype, Codec::Blocks)),
    );
    all
}

/// A table that is mapped and in memory, and the same in large pages.
struct Measured {
    name: String,
    table: Table,
    owned: Table,
}

impl Measured {
    fn write(
        path: &Path,
        name: String,
        dtype: DType,
        codec: Codec,
        dim: usize,
        vocab: u64,
    ) -> Self {
        let mut random = Random(dim as u64);
        let options = WriteOptions::new(dim, dtype).codec(codec).vocab(vocab).replace(true);
        let mut writer = options.create(path).unwrap();
        let row_bytes = support::row_bytes(dtype, codec, dim);
        // Bits of any kind: no number is slower than another.
        let mut left = vocab as usize;
        while left > 0 {
            let rows = left.min(1 << 16);
            writer.push_encoded(&random.bytes(rows * row_bytes)).unwrap();
            left -= rows;
        }
        writer.finish().unwrap();
        // SAFETY: the bench's own file, which is replaced and never written to.
        let table = unsafe { OpenOptions::new().map(path).unwrap() };
        table.warm(..).unwrap();
        table.prefault(..).unwrap();
        let owned = Table::load(path).unwrap();
        Measured { name, table, owned }
    }
}

/// What is done with a batch in turn.
#[derive(Clone, Copy)]
enum Way {
    /// Gathered from the map.
    Gather,
    /// As many bytes read from large pages, and as many written, through the caches.
    Limit,
    /// The same, written past the caches.
    LimitPast,
}

const WAYS: [Way; 3] = [Way::Gather, Way::Limit, Way::LimitPast];

/// Gathers of every table in turn, beside those of the first and beside the limit.
fn compare<O: Output>(tables: &[Measured], size: usize, rounds: usize) {
    let mut random = Random(size as u64);
    let dim = tables[0].table.dim();
    let mut out = vec![O::from_f32(1.0); size * dim];
    let repeats = (4096 / size).clamp(1, 64);
    let mut times = vec![[const { Vec::new() }; WAYS.len()]; tables.len()];
    for round in 0..=rounds {
        for turn in 0..tables.len() * WAYS.len() {
            let turn = (turn + round) % (tables.len() * WAYS.len());
            let (at, way) = (turn / WAYS.len(), turn % WAYS.len());
            let Measured { table, owned, .. } = &tables[at];
            let ids: Vec<Vec<u64>> = (0..repeats)
                .map(|_| (0..size).map(|_| random.below(table.vocab())).collect())
                .collect();
            let mut run = || {
                for ids in &ids {
                    match WAYS[way] {
                        Way::Gather => table.gather_into(ids, &mut out).unwrap(),
                        Way::Limit => move_bytes(owned, ids, &mut out, false),
                        Way::LimitPast => move_bytes(owned, ids, &mut out, true),
                    }
                    black_box(&mut out);
                }
            };
            if table.vocab() <= CACHED {
                run();
            }
            let start = Instant::now();
            run();
            // The first round is for what has never been touched.
            if round > 0 {
                times[at][way].push(start.elapsed().as_secs_f64() / repeats as f64);
            }
        }
    }
    println!("gather of {size} rows to {}", O::DTYPE);
    for (measured, [own, cached, past]) in tables.iter().zip(&times) {
        let limit = if median(past) < median(cached) { past } else { cached };
        let share = format!(", {:.2} of the limit", median(&ratios(limit, own)));
        measured.report(size, &times[0][0], own, &share);
    }
}

/// Sums of bags of 32.
fn bags(tables: &[Measured], size: usize, rounds: usize) {
    let mut random = Random(size as u64);
    let dim = tables[0].table.dim();
    let offsets: Vec<u64> = (0..=size as u64 / 32).map(|bag| bag * 32).collect();
    let mut out = vec![0f32; (offsets.len() - 1) * dim];
    let mut times = vec![Vec::new(); tables.len()];
    for round in 0..=rounds {
        for turn in 0..tables.len() {
            let at = (turn + round) % tables.len();
            let table = &tables[at].table;
            let ids: Vec<u64> = (0..size).map(|_| random.below(table.vocab())).collect();
            let mut run = || {
                table.embedding_bag_into(&ids, &offsets, None, Pooling::Sum, &mut out).unwrap();
                black_box(&mut out);
            };
            if table.vocab() <= CACHED {
                run();
            }
            let start = Instant::now();
            run();
            if round > 0 {
                times[at].push(start.elapsed().as_secs_f64());
            }
        }
    }
    println!("sums of bags of 32, {size} rows");
    for (measured, own) in tables.iter().zip(&times) {
        measured.report(size, &times[0], own, "");
    }
}

impl Measured {
    fn report(&self, size: usize, of_f32: &[f64], own: &[f64], more: &str) {
        println!(
            "  {:<26} {:>5} B {:>8.1} ns a row, {:.2} x f32{more}",
            self.name,
            self.table.row_bytes(),
            median(own) * 1e9 / size as f64,
            median(&ratios(of_f32, own)),
        );
    }
}

fn ratios(one: &[f64], other: &[f64]) -> Vec<f64> {
    one.iter().zip(other).map(|(one, other)| one / other).collect()
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// Reads rows and writes as many bytes as decoding them would, on as many threads.
fn move_bytes<O: Output>(table: &Table, ids: &[u64], out: &mut [O], past: bool) {
    let (_, rows) = table.encoded_extent(0).unwrap();
    let (row, out_row) = (table.row_bytes() as usize, size_of::<O>() * table.dim());
    let share = |ids: &[u64], out: &mut [u8]| {
        let at = |id: u64| id as usize * row;
        for (position, (id, out)) in ids.iter().zip(out.chunks_exact_mut(out_row)).enumerate() {
            if let Some(next) = ids.get(position + 12) {
                (at(*next)..at(*next) + row).step_by(64).for_each(|line| prefetch(&rows[line]));
            }
            let row = &rows[at(*id)..at(*id) + row];
            for out in out.chunks_mut(row.len() / 64 * 64) {
                if past {
                    copy_past(&row[..out.len()], out);
                } else {
                    out.copy_from_slice(&row[..out.len()]);
                }
            }
        }
        // SAFETY: SSE is part of x86-64.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            std::arch::x86_64::_mm_sfence();
        }
    };
    let out = bytemuck::cast_slice_mut(out);
    if out.len() < 1 << 20 {
        return share(ids, out);
    }
    let half = ids.len() / 2;
    let (first, second) = out.split_at_mut(half * out_row);
    rayon::join(|| share(&ids[..half], first), || share(&ids[half..], second));
}

fn prefetch(byte: &u8) {
    // SAFETY: a prefetch reads nothing that shows, and SSE is part of x86-64.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(byte).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    black_box(byte);
}

/// Copies past the caches, where the output lies so that it can be.
fn copy_past(from: &[u8], to: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if to.as_ptr().addr().is_multiple_of(16) && to.len().is_multiple_of(16) {
        for (from, to) in from.chunks_exact(16).zip(to.chunks_exact_mut(16)) {
            let sixteen = bytemuck::pod_read_unaligned(from);
            // SAFETY: it writes 16 bytes that are there, and lie at a multiple of 16.
            unsafe { std::arch::x86_64::_mm_stream_si128(to.as_mut_ptr().cast(), sixteen) };
        }
        return;
    }
    to.copy_from_slice(from);
}
