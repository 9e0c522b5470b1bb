//! The published n-gram tables at their full size: sparse checkpoints of 47 and 98 GiB, opened,
//! gathered from as engines do, and converted in part. Alone in its binary, because it looks at
//! the process's peak memory.

#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::float_cmp,
    clippy::print_stderr
)]
#![cfg(target_os = "linux")]

#[path = "support/ngram.rs"]
mod ngram;
mod support;

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use embmap::{ConvertOptions, DType, OpenOptions, Table, convert};
use half::bf16;
use ngram::Shape;
use support::Random;

/// The rows that are no zeros, besides those at the edges of pieces.
const WRITTEN: usize = 1500;

/// The rows of a decoding step, and of a chunk of a prompt.
const STEP: usize = 16;
const CHUNK: usize = 65_536;

fn peak_rss_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The bytes of the files below a folder, as they are long and as they lie on the disk.
fn sizes(directory: &Path) -> (u64, u64) {
    let files = std::fs::read_dir(directory).unwrap().map(|file| file.unwrap().metadata().unwrap());
    files.fold((0, 0), |(long, on_disk), file| (long + file.len(), on_disk + file.blocks() * 512))
}

fn open(path: &Path, shape: Shape) -> Table {
    let options = OpenOptions::new().tensor(shape.tensor());
    // SAFETY: the test's own files, which nothing writes to any more.
    unsafe { options.map(path).unwrap() }
}

/// Opens a checkpoint some times; the quickest is what opening takes.
fn check_open(path: &Path, shape: Shape) {
    let mut quickest = Duration::MAX;
    for _ in 0..20 {
        let started = Instant::now();
        let table = open(path, shape);
        quickest = quickest.min(started.elapsed());
        drop(table);
    }
    eprintln!("{quickest:?} to open {} pieces", shape.pieces);
    // What is promised of an optimised build; another leaves room.
    let most = if cfg!(debug_assertions) { 100 } else { 5 };
    assert!(quickest < Duration::from_millis(most), "{quickest:?}");
}

fn check_rows(table: &Table, shape: Shape, ids: &[u64]) {
    let dim = table.dim();
    let (mut narrow, mut wide) =
        (vec![bf16::NAN; ids.len() * dim], vec![f32::NAN; ids.len() * dim]);
    table.gather_into(ids, &mut narrow).unwrap();
    table.gather_into(ids, &mut wide).unwrap();
    for (row, id) in ids.iter().enumerate() {
        let numbers = shape.numbers(*id);
        assert_eq!(wide[row * dim..][..dim], numbers, "row {id}");
        let rounded: Vec<bf16> = numbers.iter().map(|number| bf16::from_f32(*number)).collect();
        assert_eq!(narrow[row * dim..][..dim], rounded, "row {id}");
    }
}

/// A chunk of a prompt: rows all over the table, nearly all of them zeros.
fn check_chunk(table: &Table, shape: Shape, written: &[u64]) {
    let (mut random, dim) = (Random(shape.dim ^ 7), table.dim());
    let mut ids: Vec<u64> = (0..CHUNK).map(|_| random.below(table.vocab())).collect();
    let known: Vec<(usize, u64)> =
        written.iter().map(|id| (random.below(CHUNK as u64) as usize, *id)).collect();
    known.iter().for_each(|(at, id)| ids[*at] = *id);
    let mut out = vec![bf16::NAN; CHUNK * dim];
    let started = Instant::now();
    table.gather_into(&ids, &mut out).unwrap();
    eprintln!("{:?} for {CHUNK} rows that were never read", started.elapsed());
    let written: std::collections::HashSet<u64> = written.iter().copied().collect();
    for (id, row) in ids.iter().zip(out.chunks(dim)) {
        if written.contains(id) {
            let numbers = shape.numbers(*id);
            assert!(row.iter().zip(&numbers).all(|(a, b)| *a == bf16::from_f32(*b)), "row {id}");
        } else {
            assert!(row.iter().all(|number| *number == bf16::ZERO), "row {id}");
        }
    }
}

/// Converts rows around the edge between two pieces, or at the end: the whole would be a file of
/// many gigabytes that is not sparse.
fn check_convert(path: &Path, shape: Shape, directory: &Path) {
    let table = OpenOptions::new().tensor(shape.tensor()).open(path).unwrap();
    let edge = if shape.pieces > 1 { 77 * shape.rows } else { shape.rows - 1 };
    let rows = edge - 20_000..(edge + 20_000).min(shape.vocab());
    let target = directory.join("rows.emb");
    let options = ConvertOptions::new().rows(rows.clone()).replace(true);
    convert(&table, &target, &options).unwrap();
    let copy = Table::load(&target).unwrap();
    assert_eq!((copy.vocab(), copy.dtype()), (rows.end - rows.start, DType::F8E4M3));
    let bytes = shape.dim + shape.scale_bytes();
    assert_eq!(copy.row_bytes(), bytes, "values and scales together");
    for id in [edge - 1, edge].into_iter().filter(|id| *id < shape.vocab()) {
        let mut row = vec![0f32; copy.dim()];
        copy.gather_into(&[id - rows.start], &mut row).unwrap();
        let is_edge = shape.pieces > 1 || id == shape.vocab() - 1;
        let expected = if is_edge { shape.numbers(id) } else { vec![0.0; row.len()] };
        assert_eq!(row, expected, "row {id}");
        let [codes, scales] = [shape.row(id).0, shape.row(id).1];
        if is_edge {
            assert_eq!(copy.encoded_row(id - rows.start).unwrap(), [codes, scales].concat());
        }
    }
    assert!(copy.verify().unwrap().is_sound());
    std::fs::remove_file(target).unwrap();
}

#[test]
fn the_published_tables_are_opened_gathered_and_converted_where_they_lie() {
    for (shape, gibibytes) in [(ngram::PIECES, 47), (ngram::BLOCKS, 94)] {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let path = directory.path().join("model");
        std::fs::create_dir(&path).unwrap();
        let written = shape.written(WRITTEN);
        shape.write(&path, &written, 2000);
        let (long, on_disk) = sizes(&path);
        assert!(long >> 30 >= gibibytes && on_disk < 1 << 30, "{long} bytes, {on_disk} on disk");

        check_open(&path, shape);
        check_convert(&path, shape, directory.path());
        let peak = peak_rss_kib();
        eprintln!("{peak} KiB of peak memory");
        // What a gather maps counts too, so only before the first one.
        if shape.pieces > 1 {
            assert!(peak < 30 * 1024, "{peak} KiB of peak memory");
        }

        let table = open(&path, shape);
        assert_eq!((table.vocab(), table.dim() as u64), (shape.vocab(), shape.dim));
        let info = table.info();
        assert_eq!((info.pieces as u64, info.files.len() as u64), (shape.pieces, shape.files));
        for step in written.chunks(STEP) {
            check_rows(&table, shape, step);
        }
        check_chunk(&table, shape, &written);
        assert!(table.gather_into(&[shape.vocab()], &mut vec![0f32; table.dim()]).is_err());
    }
}
