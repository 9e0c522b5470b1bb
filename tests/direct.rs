//! Direct reads against what was written: every way to carry them out, every shape of table,
//! and what happens when the file goes away under them.

#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::float_cmp,
    clippy::print_stderr
)]
#![cfg(target_os = "linux")]

mod support;

use std::fs::File;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use embmap::{Access, BagOptions, DType, Error, GatherOptions, OpenOptions, Pooling, Table};
use support::Random;
use tempfile::TempDir;

/// A directory on a real disk, as far as the build's own directory lies on one.
fn on_disk() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn open(path: &Path, io_uring: bool) -> Table {
    OpenOptions::new().access(Access::Direct).io_uring(io_uring).open(path).unwrap()
}

/// The table by `io_uring`, where the system has it, and by threads.
fn every_way(path: &Path) -> [Table; 2] {
    let tables = [open(path, true), open(path, false)];
    if !tables[0].direct_io().unwrap().unwrap().io_uring {
        eprintln!("no io_uring here: threads are tested twice");
    }
    assert!(!tables[1].direct_io().unwrap().unwrap().io_uring);
    tables
}

fn check(table: &Table, encoded: &[u8], ids: &[u64], threads: usize) {
    let row = table.row_bytes() as usize;
    for stride in [row, row + 5] {
        let length = if ids.is_empty() { 0 } else { (ids.len() - 1) * stride + row };
        let mut out = vec![0xa5; length];
        let options = GatherOptions::new().threads(threads).row_stride(stride);
        table.gather_bytes_into_with(ids, &mut out, &options).unwrap();
        for (position, (id, out)) in ids.iter().zip(out.chunks(stride)).enumerate() {
            let expected = &encoded[*id as usize * row..][..row];
            assert!(&out[..row] == expected, "row {id} at {position} of {}", ids.len());
            assert!(out[row..].iter().all(|byte| *byte == 0xa5), "padding is not written");
        }
    }
}

/// Fails where something takes longer than a minute.
fn in_time(work: impl FnOnce() + Send + 'static) {
    let (done, wait) = mpsc::channel();
    let worker = std::thread::spawn(move || {
        work();
        done.send(()).unwrap();
    });
    match wait.recv_timeout(Duration::from_secs(60)) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        _ => worker.join().unwrap(),
    }
}

#[test]
fn rows_of_every_size_are_the_rows_that_were_written() {
    let directory = on_disk();
    let path = directory.path().join("table.emb");
    // Bytes a row: 2, 6, 100, 512, 3,000, 3,072, 4,096, 20,004, 300,000.
    for (dim, dtype, vocab, align) in [
        (1, DType::F16, 100_003, None),
        (3, DType::F16, 70_001, None),
        (25, DType::F32, 30_011, None),
        (128, DType::F32, 9001, None),
        (1500, DType::F16, 3001, None),
        (768, DType::F32, 3001, Some(4096)),
        (1024, DType::F32, 2003, None),
        (5001, DType::F32, 501, None),
        (75_000, DType::F32, 31, None),
    ] {
        let encoded = support::write_random(&path, vocab, dim, dtype, align);
        let mut random = Random(vocab);
        for table in every_way(&path) {
            check(&table, &encoded, &[], 1);
            check(&table, &encoded, &[vocab - 1], 1);
            check(&table, &encoded, &[0, vocab - 1, 0, vocab - 1, 1], 2);
            let most = (3_000_000 / table.row_bytes()).clamp(40, 5000) as usize;
            for (count, threads) in [(17, 1), (most / 2, 1), (most, 2), (most, 3)] {
                let ids: Vec<u64> = (0..count).map(|_| random.below(vocab)).collect();
                check(&table, &encoded, &ids, threads);
            }
            let ordered: Vec<u64> = (0..vocab.min(most as u64)).rev().collect();
            check(&table, &encoded, &ordered, 4);
        }
    }
}

#[test]
fn numbers_and_bags_are_those_of_a_map() {
    let directory = on_disk();
    let path = directory.path().join("table.emb");
    for dtype in [DType::F32, DType::F16, DType::BF16, DType::F64] {
        // Rows that are numbers, for NaNs have payloads that sums may change.
        let mut writer =
            embmap::WriteOptions::new(77, DType::F32).replace(true).create(&path).unwrap();
        let mut random = Random(5);
        for _ in 0..5003 {
            let row: Vec<f32> = (0..77).map(|_| random.below(2000) as f32 / 7.0 - 140.0).collect();
            writer.push(&row).unwrap();
        }
        writer.finish().unwrap();
        let other = directory.path().join("other.emb");
        let f32s = Table::load(&path).unwrap();
        let options = embmap::ConvertOptions::new().dtype(dtype).replace(true);
        embmap::convert(&f32s, &other, &options).unwrap();
        // SAFETY: the test's own file, which nothing writes to while it is mapped.
        let map = unsafe { Table::map(&other).unwrap() };
        let ids: Vec<i64> = (0..9000).map(|_| random.below(5003).cast_signed()).collect();
        let mut padded = ids.clone();
        padded.iter_mut().step_by(7).for_each(|id| *id = -1);
        let offsets: Vec<u64> = (0..=300).map(|bag| bag * 30).collect();
        let weights: Vec<f32> = (0..9000).map(|_| random.below(100) as f32 / 50.0).collect();
        for direct in every_way(&other) {
            let (mut expected, mut found) = (vec![0f32; 9000 * 77], vec![1f32; 9000 * 77]);
            map.gather_into(&ids, &mut expected).unwrap();
            direct.gather_into(&ids, &mut found).unwrap();
            assert!(expected == found, "{dtype}");
            assert!(direct.gather::<_, f32>(&ids).unwrap() == expected);
            for threads in 1..=4 {
                let options = BagOptions::new().threads(threads).padding_id(-1).row_stride(80);
                for (pooling, weights) in [
                    (Pooling::Sum, Some(&weights[..])),
                    (Pooling::Mean, None),
                    (Pooling::Max, None),
                ] {
                    let bags = |table: &Table| {
                        let mut out = vec![0f32; 300 * 80];
                        table
                            .embedding_bag_into_with(
                                &padded, &offsets, weights, pooling, &mut out, &options,
                            )
                            .unwrap();
                        out
                    };
                    assert!(bags(&map) == bags(&direct), "{dtype}, {pooling:?}, {threads}");
                }
            }
        }
    }
}

#[test]
fn a_checkpoint_is_read_where_it_lies_however_oddly() {
    let directory = on_disk();
    let mut random = Random(11);
    // Rows of 300 bytes, whose tensors start at odd places and end where their files do.
    let mut encoded = Vec::new();
    let shards: [u64; 4] = [1000, 1000, 1000, 457];
    for (number, rows) in shards.iter().enumerate() {
        let written = random.bytes(*rows as usize * 300);
        let name = format!("model.embeddings.{number}.weight");
        let header = format!(
            r#"{{"{name}":{{"dtype":"F16","shape":[{rows},150],"data_offsets":[0,{}]}}{}}}"#,
            written.len(),
            " ".repeat(number * 3)
        );
        let file = format!("part-{number}.safetensors");
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(&written);
        std::fs::write(directory.path().join(&file), bytes).unwrap();
        encoded.push(written);
    }
    // Each shard by itself: one file, rows at an odd offset, the last at an odd end.
    for (number, rows) in shards.iter().enumerate() {
        let path = directory.path().join(format!("part-{number}.safetensors"));
        for table in every_way(&path) {
            assert_eq!(table.vocab(), *rows);
            let ids: Vec<u64> = (0..3000).map(|_| random.below(*rows)).chain([rows - 1]).collect();
            check(&table, &encoded[number], &ids, 2);
        }
    }
}

#[test]
fn the_sharded_fixture_is_the_same_in_every_way() {
    let load = Table::load("fixtures/sharded").unwrap();
    let ids: Vec<u64> = (0..load.vocab()).rev().chain(0..load.vocab()).collect();
    let mut expected = vec![0; ids.len() * load.row_bytes() as usize];
    load.gather_bytes_into(&ids, &mut expected).unwrap();
    for direct in every_way(Path::new("fixtures/sharded")) {
        let mut found = vec![1; expected.len()];
        direct.gather_bytes_into(&ids, &mut found).unwrap();
        assert!(found == expected);
    }
}

#[test]
fn a_large_batch_is_read() {
    let directory = on_disk();
    let path = directory.path().join("table.emb");
    let encoded = support::write_random(&path, 40_009, 64, DType::F32, None);
    let mut random = Random(3);
    let ids: Vec<u64> = (0..100_000).map(|_| random.below(40_009)).collect();
    for table in every_way(&path) {
        check(&table, &encoded, &ids, 2);
    }
}

#[test]
fn memory_file_systems_are_read_too() {
    let Ok(directory) = tempfile::tempdir_in("/dev/shm") else { return };
    let path = directory.path().join("table.emb");
    let encoded = support::write_random(&path, 3001, 100, DType::F32, None);
    let mut random = Random(4);
    let ids: Vec<u64> = (0..5000).map(|_| random.below(3001)).chain([3000]).collect();
    for table in every_way(&path) {
        check(&table, &encoded, &ids, 2);
    }
}

#[test]
fn a_file_that_is_cut_is_an_error_and_nothing_hangs() {
    in_time(|| {
        let directory = on_disk();
        let path = directory.path().join("table.emb");
        for cut in [70_000, 66_000, 65_536 + 3072 * 1000 + 7, 1] {
            let encoded = support::write_random(&path, 4001, 768, DType::F32, None);
            let tables = every_way(&path);
            let file = File::options().write(true).open(&path).unwrap();
            file.set_len(cut).unwrap();
            let ids: Vec<u64> = (0..4001).rev().chain(0..4001).collect();
            for table in &tables {
                for threads in [1, 2] {
                    let mut out = vec![0; ids.len() * 3072];
                    let options = GatherOptions::new().threads(threads);
                    let error = table.gather_bytes_into_with(&ids, &mut out, &options).unwrap_err();
                    let Error::FileChanged { path: named, reason } = &error else {
                        panic!("{error}");
                    };
                    assert!(named.ends_with("table.emb"), "{error}");
                    assert!(reason.contains("ends before byte"), "{error}");
                }
                // What is still there is still read.
                let whole = cut.saturating_sub(65_536) / 3072;
                let left: Vec<u64> = (0..whole).collect();
                check(table, &encoded, &left, 1);
            }
        }
    });
}

#[test]
fn a_file_that_is_deleted_or_replaced_stays_what_was_opened() {
    let directory = on_disk();
    let path = directory.path().join("table.emb");
    let encoded = support::write_random(&path, 2003, 96, DType::F32, None);
    let tables = every_way(&path);
    std::fs::remove_file(&path).unwrap();
    let ids: Vec<u64> = (0..2003).rev().collect();
    for table in &tables {
        check(table, &encoded, &ids, 2);
    }
    support::write_random(&path, 77, 5, DType::F16, None);
    for table in &tables {
        check(table, &encoded, &ids, 2);
    }
}

#[test]
fn what_needs_memory_says_so_and_what_needs_no_cache_does_nothing() {
    let directory = on_disk();
    let path = directory.path().join("table.emb");
    let encoded = support::write_random(&path, 2003, 96, DType::F32, None);
    let table = open(&path, true);
    assert_eq!((table.access(), table.access().name()), (Access::Direct, "direct"));
    assert!(matches!(table.row::<f32>(0), Err(Error::NotMapped { .. })));
    assert!(matches!(table.rows::<f32>(), Err(Error::NotMapped { .. })));
    assert!(matches!(table.encoded_row(0), Err(Error::NotMapped { .. })));
    let error = table.gather_bytes_into(&[0u64, 2003], &mut vec![0; 2 * 384]).unwrap_err();
    assert!(matches!(error, Error::RowOutOfRange { id: 2003, position: Some(1), .. }));
    let error = table.gather_bytes_into(&[0u64], &mut [0; 5]).unwrap_err();
    assert!(matches!(error, Error::OutputLength { .. }));

    let file = File::open(&path).unwrap();
    file.sync_all().unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    let before = table.residency().unwrap();
    assert!(table.prefetch(&[5u64]).is_ok());
    assert!(table.prefetch(&[2003u64]).is_err());
    table.warm(..).unwrap();
    table.prefault(..).unwrap();
    table.release().unwrap();
    check(&table, &encoded, &(0..2003).collect::<Vec<_>>(), 1);
    let after = table.residency().unwrap();
    assert_eq!(after.mapped_bytes, None);
    if before.cached_bytes == Some(0) && table.direct_io().unwrap().unwrap().past_cache == 1 {
        assert_eq!(after.cached_bytes, Some(0), "rows pass the page cache by");
    }

    assert!(table.verify().unwrap().damage.is_empty());
    let copy = directory.path().join("copy.emb");
    embmap::convert(&table, &copy, &embmap::ConvertOptions::new()).unwrap();
    check(&open(&copy, true), &encoded, &(0..2003).collect::<Vec<_>>(), 1);
}

#[test]
fn many_threads_gather_at_a_time() {
    let directory = on_disk();
    let path = directory.path().join("table.emb");
    let encoded = support::write_random(&path, 5003, 300, DType::F32, None);
    for table in every_way(&path) {
        std::thread::scope(|scope| {
            for seed in 0..24 {
                let (table, encoded) = (&table, &encoded);
                scope.spawn(move || {
                    let mut random = Random(seed);
                    for round in 0..6 {
                        let ids: Vec<u64> = (0..round * 150).map(|_| random.below(5003)).collect();
                        check(table, encoded, &ids, 2);
                    }
                });
            }
        });
    }
}
