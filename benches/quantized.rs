//! Gathers of quantized rows beside those of f32 rows of the same shape, and beside the limit:
//! the same bytes read and the same bytes written, without decoding; interleaved in one run.
//!
//! `cargo bench --no-default-features --bench quantized [-- ROUNDS PART... size=ROWS]`
//! writes files of up to a gigabyte below `target` and prints medians; the parts are `cached`,
//! `gather` and `bag`, all of them and batches of each size unless said. `-- --test` is a quick run on small files.

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

use embmap::{
    BagOptions, Codec, DType, OpenOptions, Output, Pooling, ScaleType, Scaling, Table, WriteOptions,
};
use half::bf16;

#[path = "../tests/support/mod.rs"]
mod support;

use support::Random;

/// The codecs that are measured, by the names in the tables that are printed.
fn codecs(dim: usize) -> Vec<(String, DType, Codec)> {
    let scaled =
        |block: usize, scale, bias| Codec::Scaled(Scaling { block: block as u32, scale, bias });
    let row = |scale, bias| scaled(dim, scale, bias);
    let (half, whole) = (ScaleType::F16, ScaleType::F32);
    let mut all = vec![
        ("f32".to_owned(), DType::F32, Codec::Plain),
        ("f16".to_owned(), DType::F16, Codec::Plain),
        ("f8_e4m3, a scale a row".to_owned(), DType::F8E4M3, row(whole, None)),
        ("f8_e4m3, e8m0 each 32".to_owned(), DType::F8E4M3, scaled(32, ScaleType::E8M0, None)),
        ("f8_e5m2, a scale a row".to_owned(), DType::F8E5M2, row(whole, None)),
        ("i8, a scale a row".to_owned(), DType::I8, row(whole, None)),
        ("u8, scale and bias a row".to_owned(), DType::U8, row(whole, Some(whole))),
        ("u4, f16 pair each 32".to_owned(), DType::U4, scaled(32, half, Some(half))),
        ("u4, f16 pair each 64".to_owned(), DType::U4, scaled(64, half, Some(half))),
        ("u6, f16 pair each 64".to_owned(), DType::U6, scaled(64, half, Some(half))),
    ];
    if let Ok(only) = std::env::var("ONLY") {
        all.retain(|(n, _, _)| only.split(";").any(|o| n.starts_with(o)));
    }
    all.retain(|(_, _, codec)| match codec {
        Codec::Scaled(scaling) => dim.is_multiple_of(scaling.block as usize),
        _ => true,
    });
    let blocks = DType::ALL.into_iter().filter(|dtype| {
        dtype.is_blocks()
            && (std::env::var("ONLY").is_err() || *dtype == DType::Q8_0 || *dtype == DType::Q4K)
    });
    all.extend(
        blocks
            .filter(|dtype| dim.is_multiple_of(dtype.block_elements()))
            .map(|dtype| (dtype.name().to_owned(), dtype, Codec::Blocks)),
    );
    all
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let quick = arguments.iter().any(|argument| argument == "--test");
    let rounds = arguments.iter().find_map(|argument| argument.parse().ok());
    let rounds: usize = rounds.unwrap_or(if quick { 1 } else { 15 });
    let all =
        !["cached", "gather", "bag"].iter().any(|part| arguments.iter().any(|name| name == part));
    let wanted = |part| all || arguments.iter().any(|argument| argument == part);
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    // Few rows stay in the caches: what decoding takes alone.
    let cached = [(256, 1024), (768, 512)].into_iter().filter(|_| wanted("cached"));
    let large = [256, 768].map(|dim| (dim, if quick { 1000 } else { (200 << 20) / dim as u64 }));
    let large = large.into_iter().filter(|_| wanted("gather") || wanted("bag"));
    for (dim, vocab) in cached.chain(large) {
        let tables: Vec<Measured> = codecs(dim)
            .into_iter()
            .map(|(name, dtype, codec)| {
                let path = directory.path().join("table.emb");
                Measured::write(&path, name, dtype, codec, dim, vocab)
            })
            .collect();
        println!("\n{vocab} rows of {dim}, {rounds} rounds");
        if vocab <= 1024 && !quick {
            compare::<f32>(&tables, 64, rounds);
            compare::<bf16>(&tables, 64, rounds);
            bags(&tables, 64, rounds);
            continue;
        }
        let sizes: &[usize] = if quick { &[16, 300] } else { &[16, 1024, 65_536] };
        let only: Option<usize> =
            arguments.iter().find_map(|argument| argument.strip_prefix("size=")?.parse().ok());
        let is_wanted = |size: &&usize| wanted("gather") && only.is_none_or(|only| only == **size);
        for size in sizes.iter().filter(is_wanted) {
            compare::<f32>(&tables, *size, rounds);
            compare::<bf16>(&tables, *size, rounds);
        }
        if wanted("bag") {
            bags(&tables, if quick { 32 } else { 32 * 512 }, rounds);
        }
    }
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
        let row_bytes = Self::row_bytes(dtype, codec, dim);
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

    fn row_bytes(dtype: DType, codec: Codec, dim: usize) -> usize {
        let values = dtype.bytes_of(dim as u64).unwrap() as usize;
        match codec {
            Codec::Scaled(scaling) => {
                let each = scaling.scale.size() + scaling.bias.map_or(0, ScaleType::size);
                values + dim / scaling.block as usize * each
            }
            _ => values,
        }
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
            let start = Instant::now();
            for ids in &ids {
                match WAYS[way] {
                    Way::Gather => table.gather_into(ids, &mut out).unwrap(),
                    Way::Limit => move_bytes(owned, ids, &mut out, false),
                    Way::LimitPast => move_bytes(owned, ids, &mut out, true),
                }
                black_box(&mut out);
            }
            // The first round is for what has never been touched.
            if round > 0 {
                times[at][way].push(start.elapsed().as_secs_f64() / repeats as f64);
            }
        }
    }
    println!("gather of {size} rows to {}", O::DTYPE);
    for (measured, [own, cached, past]) in tables.iter().zip(&times) {
        let ratio: Vec<f64> = times[0][0].iter().zip(own).map(|(f32, own)| f32 / own).collect();
        let limit = if median(past) < median(cached) { past } else { cached };
        let share: Vec<f64> = limit.iter().zip(own).map(|(limit, own)| limit / own).collect();
        println!(
            "  {:<26} {:>5} B {:>8.1} ns a row, {:.2} x f32, {:.2} of the limit",
            measured.name,
            measured.table.row_bytes(),
            median(own) * 1e9 / size as f64,
            median(&ratio),
            median(&share),
        );
    }
}

/// Reads rows and writes as many bytes as decoding them would, on as many threads.
fn move_bytes<O: Output>(table: &Table, ids: &[u64], out: &mut [O], past: bool) {
    let (_, rows) = table.encoded_extent(0).unwrap();
    let (row, out_row) = (table.row_bytes() as usize, size_of::<O>() * table.dim());
    let part = |ids: &[u64], out: &mut [u8]| {
        let at = |id: u64| id as usize * row;
        for (position, (id, out)) in ids.iter().zip(out.chunks_exact_mut(out_row)).enumerate() {
            if let Some(next) = ids.get(position + 12) {
                (at(*next)..at(*next) + row).step_by(64).for_each(|line| prefetch(&rows[line]));
            }
            let row = &rows[at(*id)..at(*id) + row];
            for out in out.chunks_mut(row.len() / 64 * 64) {
                if past {
                    copy_past(&row[..out.len()], out)
                } else {
                    out.copy_from_slice(&row[..out.len()])
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
        return part(ids, out);
    }
    let half = ids.len() / 2;
    let (first, second) = out.split_at_mut(half * out_row);
    rayon::join(|| part(&ids[..half], first), || part(&ids[half..], second));
}

fn prefetch(byte: &u8) {
    // SAFETY: a prefetch reads nothing that shows, and SSE is part of x86-64.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(byte).cast());
    }
}

/// Copies past the caches, where the output lies so that it can be.
fn copy_past(from: &[u8], to: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if to.as_ptr().addr().is_multiple_of(16) && to.len().is_multiple_of(16) {
        for (from, to) in from.chunks_exact(16).zip(to.chunks_exact_mut(16)) {
            // SAFETY: both are 16 bytes, and the second lies at a multiple of 16.
            unsafe {
                use std::arch::x86_64::{_mm_loadu_si128, _mm_stream_si128};
                _mm_stream_si128(to.as_mut_ptr().cast(), _mm_loadu_si128(from.as_ptr().cast()));
            }
        }
        return;
    }
    to.copy_from_slice(from);
}

fn report(tables: &[Measured], times: &[Vec<f64>], size: usize) {
    for (measured, own) in tables.iter().zip(times) {
        let ratio: Vec<f64> = times[0].iter().zip(own).map(|(f32, own)| f32 / own).collect();
        println!(
            "  {:<26} {:>5} B {:>8.1} ns a row, {:.2} x f32",
            measured.name,
            measured.table.row_bytes(),
            median(own) * 1e9 / size as f64,
            median(&ratio),
        );
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
            let start = Instant::now();
            let options = BagOptions::new();
            table
                .embedding_bag_into_with(&ids, &offsets, None, Pooling::Sum, &mut out, &options)
                .unwrap();
            black_box(&mut out);
            if round > 0 {
                times[at].push(start.elapsed().as_secs_f64());
            }
        }
    }
    println!("sums of bags of 32, {size} rows");
    report(tables, &times, size);
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
