//! Opening, single rows, batches and conversion, on random bits, with the results checked
//! against the file's own rows before anything is timed.
//!
//! Names are stable: `open/<rows>`, `row/<dtype>x<dim>`, `gather/<from>-<to>x<dim>/<batch>`,
//! `gather_ids/<uniform or zipf>/<threads>/<batch>`, `gather_read/...`, `gather_fresh/...`, `bag/<dtype>x<dim>/<pooling>` (bags of 32), `convert/<from>-<to>`, `verify`, `id_of`.

#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::float_cmp
)]
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

use std::hint::black_box;
use std::path::Path;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use embmap::{
    ConvertOptions, DType, GatherOptions, OpenOptions, Output, Pooling, Table, WriteOptions,
    convert,
};
use half::{bf16, f16};

#[path = "../tests/support/mod.rs"]
mod support;

use support::Random;

const VOCAB: u64 = 50_257;

fn map(path: &Path) -> Table {
    // SAFETY: the bench's own files, which nothing writes to while they are mapped.
    unsafe { Table::map(path).unwrap() }
}

fn open(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let mut group = criterion.benchmark_group("open");
    for vocab in [1_000, VOCAB] {
        let path = directory.path().join(format!("{vocab}.emb"));
        support::write_random(&path, vocab, 768, DType::F16, None);
        group.bench_function(BenchmarkId::from_parameter(vocab), |bencher| {
            bencher.iter(|| black_box(map(&path).vocab()));
        });
    }
    group.finish();
}

fn row(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("rows.emb");
    let encoded = support::write_random(&path, VOCAB, 768, DType::F32, None);
    let table = map(&path);
    let mut random = Random(3);
    let ids: Vec<u64> = (0..4096).map(|_| random.below(VOCAB)).collect();
    for id in &ids {
        let start = *id as usize * 3072;
        assert_eq!(table.encoded_row(*id).unwrap(), &encoded[start..start + 3072]);
    }
    let mut next = 0;
    criterion.bench_function("row/f32x768", |bencher| {
        bencher.iter(|| {
            next = (next + 1) % ids.len();
            black_box(table.row::<f32>(ids[next]).unwrap().as_ptr())
        });
    });
}

/// Compares rows with those that were written.
fn check(rows: &[u8], ids: &[u32], encoded: &[u8], bytes: usize) {
    for (id, row) in ids.iter().zip(rows.chunks(bytes)) {
        assert!(row == &encoded[*id as usize * bytes..][..bytes], "row {id}");
    }
}

fn gather_as<O: Output>(
    criterion: &mut Criterion,
    table: &Table,
    encoded: &[u8],
    kind: &str,
    batches: &[usize],
) {
    let (dtype, dim) = (table.dtype(), table.dim());
    let mut group = criterion.benchmark_group(format!("{kind}/{dtype}-{}x{dim}", O::DTYPE));
    let mut random = Random(dim as u64);
    for batch in batches {
        let mut out = vec![O::from_f32(0.0); batch * dim];
        let ids: Vec<u32> = (0..*batch).map(|_| random.below(VOCAB) as u32).collect();
        table.gather_into(&ids, &mut out).unwrap();
        let bytes = dim * dtype.block_bytes();
        if O::DTYPE == dtype {
            check(bytemuck::cast_slice(&out), &ids, encoded, bytes);
        } else {
            // The portable code, on one thread.
            let mut expected = out.clone();
            let options = GatherOptions::new().threads(1).portable(true);
            table.gather_into_with(&ids, &mut expected, &options).unwrap();
            assert_eq!(bytemuck::cast_slice::<O, u8>(&out), bytemuck::cast_slice(&expected));
        }
        group.throughput(Throughput::Bytes((batch * dim * dtype.block_bytes()) as u64));
        // Fresh ids for every round: ids gathered before are in the cache.
        let rounds: Vec<Vec<u32>> =
            (0..16).map(|_| (0..*batch).map(|_| random.below(VOCAB) as u32).collect()).collect();
        let mut round = 0;
        group.bench_function(BenchmarkId::from_parameter(batch), |bencher| {
            bencher.iter(|| {
                round = (round + 1) % rounds.len();
                table.gather_into(&rounds[round], &mut out).unwrap();
            });
        });
    }
    group.finish();
}

fn gather(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    for dim in [128, 768] {
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            let path = directory.path().join("gather.emb");
            let encoded = support::write_random(&path, VOCAB, dim, dtype, None);
            let table = map(&path);
            match dtype {
                DType::F16 => gather_as::<f16>(criterion, &table, &encoded, "gather", &[4096]),
                DType::BF16 => gather_as::<bf16>(criterion, &table, &encoded, "gather", &[4096]),
                _ => {}
            }
            gather_as::<f32>(criterion, &table, &encoded, "gather", &[64, 4096, 65_536]);
            if (dim, dtype) == (768, DType::F32) {
                let read = OpenOptions::new().open(&path).unwrap();
                gather_as::<f32>(criterion, &read, &encoded, "gather_read", &[64, 4096]);
            }
        }
    }
}

/// Ids as texts have them: few are frequent. That of rank r has a probability of about 1/r.
fn zipf(random: &mut Random) -> u32 {
    let uniform = random.below(1 << 53) as f64 / (1u64 << 53) as f64;
    let rank = (VOCAB as f64).powf(uniform) as u64;
    // The number of rows is a prime, so each rank has a row of its own.
    (rank * 7919 % VOCAB) as u32
}

fn ids_and_threads(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ids.emb");
    let encoded = support::write_random(&path, VOCAB, 768, DType::F32, None);
    let table = map(&path);
    let mut random = Random(13);
    for (name, zipfian) in [("uniform", false), ("zipf", true)] {
        for threads in [1, 2] {
            let mut group = criterion.benchmark_group(format!("gather_ids/{name}/{threads}"));
            let options = GatherOptions::new().threads(threads);
            for batch in [64, 4096, 65_536] {
                let mut fresh_ids = || -> Vec<u32> {
                    let id = |random: &mut Random| {
                        if zipfian { zipf(random) } else { random.below(VOCAB) as u32 }
                    };
                    (0..batch).map(|_| id(&mut random)).collect()
                };
                let rounds: Vec<Vec<u32>> = (0..16).map(|_| fresh_ids()).collect();
                let mut out = vec![0f32; batch * 768];
                table.gather_into_with(&rounds[0], &mut out, &options).unwrap();
                check(bytemuck::cast_slice(&out), &rounds[0], &encoded, 3072);
                group.throughput(Throughput::Bytes((batch * 3072) as u64));
                let mut round = 0;
                group.bench_function(BenchmarkId::from_parameter(batch), |bencher| {
                    bencher.iter(|| {
                        round = (round + 1) % rounds.len();
                        table.gather_into_with(&rounds[round], &mut out, &options).unwrap();
                    });
                });
            }
            group.finish();
        }
    }
}

fn fresh(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fresh.emb");
    let encoded = support::write_random(&path, VOCAB, 768, DType::F32, None);
    let table = map(&path);
    let mut group = criterion.benchmark_group("gather_fresh/f32-f32x768");
    group.sample_size(10);
    let mut random = Random(11);
    for batch in [64, 4096, 65_536] {
        let ids: Vec<u32> = (0..batch).map(|_| random.below(VOCAB) as u32).collect();
        let out: Vec<f32> = table.gather(&ids).unwrap();
        let last = ids[batch - 1] as usize * 3072;
        let row: &[u8] = bytemuck::cast_slice(&out[(batch - 1) * 768..]);
        assert_eq!(row, &encoded[last..last + 3072]);
        group.throughput(Throughput::Bytes((batch * 3072) as u64));
        group.bench_function(BenchmarkId::from_parameter(batch), |bencher| {
            bencher.iter(|| table.gather::<_, f32>(&ids).unwrap());
        });
    }
    group.finish();
}

fn bag(criterion: &mut Criterion) {
    const BAGS: usize = 2048;
    const LENGTH: usize = 32;
    let directory = tempfile::tempdir().unwrap();
    let offsets: Vec<u64> = (0..=BAGS).map(|bag| (bag * LENGTH) as u64).collect();
    for (dtype, dim) in
        [(DType::F32, 128), (DType::F32, 768), (DType::F16, 768), (DType::BF16, 768)]
    {
        let path = directory.path().join("bag.emb");
        support::write_random(&path, VOCAB, dim, dtype, None);
        let table = map(&path);
        let mut random = Random(dim as u64);
        let mut fresh_ids =
            || (0..BAGS * LENGTH).map(|_| random.below(VOCAB) as u32).collect::<Vec<_>>();
        let rounds: Vec<Vec<u32>> = (0..8).map(|_| fresh_ids()).collect();
        let weights: Vec<f32> = rounds[0].iter().map(|id| *id as f32 / VOCAB as f32).collect();
        let mut out = vec![0f32; BAGS * dim];
        let mut group = criterion.benchmark_group(format!("bag/{dtype}x{dim}"));
        group.throughput(Throughput::Bytes((BAGS * LENGTH * dim * dtype.block_bytes()) as u64));
        for (name, pooling, weights) in [
            ("sum", Pooling::Sum, None),
            ("weighted_mean", Pooling::Mean, Some(weights.as_slice())),
            ("max", Pooling::Max, None),
        ] {
            table.embedding_bag_into(&rounds[0], &offsets, weights, pooling, &mut out).unwrap();
            let mut naive = vec![0f32; LENGTH * dim];
            table.gather_into(&rounds[0][..LENGTH], &mut naive).unwrap();
            if name == "sum" {
                let sum = naive.iter().step_by(dim).fold(0f32, |sum, value| sum + value);
                assert!(sum == out[0] || sum.is_nan() && out[0].is_nan());
            }
            let mut round = 0;
            group.bench_function(name, |bencher| {
                bencher.iter(|| {
                    round = (round + 1) % rounds.len();
                    let ids = &rounds[round];
                    table.embedding_bag_into(ids, &offsets, weights, pooling, &mut out).unwrap();
                });
            });
        }
        group.finish();
    }
}

fn whole(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("whole.emb");
    let target = directory.path().join("target.emb");
    let encoded = support::write_random(&path, VOCAB, 768, DType::F32, None);
    let table = map(&path);
    let mut group = criterion.benchmark_group("convert");
    group.sample_size(10);
    group.throughput(Throughput::Bytes(encoded.len() as u64));
    for dtype in [DType::F32, DType::F16] {
        let options = ConvertOptions::new().dtype(dtype).replace(true);
        convert(&table, &target, &options).unwrap();
        if dtype == DType::F32 {
            let written = Table::load(&target).unwrap();
            assert_eq!(written.encoded_row(VOCAB - 1).unwrap(), &encoded[encoded.len() - 3072..]);
        }
        group.bench_function(format!("f32-{dtype}"), |bencher| {
            bencher.iter(|| convert(&table, &target, &options).unwrap());
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("verify");
    group.sample_size(10);
    group.throughput(Throughput::Bytes(encoded.len() as u64));
    assert!(table.verify().unwrap().is_sound());
    group.bench_function("f32x768", |bencher| bencher.iter(|| table.verify().unwrap()));
    group.finish();
}

fn tokens(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tokens.emb");
    let mut writer = WriteOptions::new(1, DType::F16).create(&path).unwrap();
    let tokens: Vec<String> = (0..1_000_000).map(|id| format!("token number {id}")).collect();
    for token in &tokens {
        writer.push_token(Some(token)).unwrap();
    }
    writer.finish().unwrap();
    let table = map(&path);
    let mut random = Random(5);
    let asked: Vec<usize> = (0..4096).map(|_| random.below(1_000_000) as usize).collect();
    for id in &asked {
        assert_eq!(table.id_of(&tokens[*id]).unwrap(), Some(*id as u64));
    }
    let mut next = 0;
    criterion.bench_function("id_of/1000000", |bencher| {
        bencher.iter(|| {
            next = (next + 1) % asked.len();
            black_box(table.id_of(&tokens[asked[next]]).unwrap())
        });
    });
}

criterion_group!(benches, open, row, gather, ids_and_threads, fresh, bag, whole, tokens);
criterion_main!(benches);
