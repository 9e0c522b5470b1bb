//! Opening does not depend on size: a sparse terabyte. Alone in its binary, because it looks
//! at the process's peak memory.

#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::float_cmp,
    clippy::print_stderr
)]
#![cfg(target_os = "linux")]

mod support;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use byteorder::{ByteOrder, LittleEndian};
use embmap::format::{ROWS_OFFSET, TRAILER_BYTES};
use embmap::{DType, Table};

const DIM: u64 = 256;
const LAST: [f32; 4] = [1.0, -2.5, 3.25, f32::INFINITY];

/// A file of a terabyte whose last row alone is not zero, made from a small one.
fn sparse_emb(path: &Path, vocab: u64) {
    support::write_random(path, 0, DIM as usize, DType::F32, None);
    let mut file = std::fs::read(path).unwrap();
    let rows = vocab * DIM * 4;
    let bytes = (ROWS_OFFSET + rows).next_multiple_of(4096) + TRAILER_BYTES as u64;
    let mut set = |name: &str, value: u64| {
        let field = support::field(name);
        LittleEndian::write_uint(&mut file[field.range()], value, field.bytes);
    };
    set("vocab", vocab);
    set("rows_bytes", rows);
    set("file_bytes", bytes);
    // Without sums: a terabyte of zeros would have 128 MB of them.
    for name in ["checksum_kind", "checksum_block_bytes", "section_count"] {
        set(name, 0);
    }
    let sections = support::field("sections").range();
    file[sections].fill(0);
    support::reseal(&mut file);

    let trailer = file.len() - TRAILER_BYTES;
    LittleEndian::write_u64(&mut file[trailer + 8..trailer + 16], bytes);
    let sparse = File::create(path).unwrap();
    sparse.set_len(bytes).unwrap();
    sparse.write_all_at(&file[..4096], 0).unwrap();
    sparse.write_all_at(&file[trailer..], bytes - TRAILER_BYTES as u64).unwrap();
    sparse.write_all_at(bytemuck::cast_slice(&LAST), ROWS_OFFSET + rows - 16).unwrap();
}

/// A safetensors file of 100 GB, its data starting at an even and at an odd byte.
fn sparse_safetensors(path: &Path, vocab: u64, padding: usize) {
    let data = vocab * DIM * 4;
    let mut header = format!(
        r#"{{"model.embed_tokens.weight":{{"dtype":"F32","shape":[{vocab},{DIM}],"data_offsets":[0,{data}]}}}}"#
    );
    while (8 + header.len()) % 64 != padding {
        header.push(' ');
    }
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    let bytes = 8 + header.len() as u64 + data;
    file.set_len(bytes).unwrap();
    file.write_all_at(bytemuck::cast_slice(&LAST), bytes - 16).unwrap();
}

fn check(path: &Path, vocab: u64, aligned: bool) {
    let mut quickest = Duration::MAX;
    for _ in 0..50 {
        let started = Instant::now();
        // SAFETY: the test's own file, which nothing writes to any more.
        let table = unsafe { Table::map(path).unwrap() };
        quickest = quickest.min(started.elapsed());
        drop(table);
    }
    eprintln!("{quickest:?} to open {}", path.display());
    // What is promised of an optimised build; another leaves room, and none for reading a
    // terabyte.
    let most = if cfg!(debug_assertions) { 2000 } else { 100 };
    assert!(quickest < Duration::from_micros(most), "{quickest:?} to open {}", path.display());

    // SAFETY: as above.
    let table = unsafe { Table::map(path).unwrap() };
    assert_eq!(table.vocab(), vocab);
    let row = table.encoded_row(vocab - 1).unwrap();
    assert_eq!(row[row.len() - 16..], *bytemuck::cast_slice::<f32, u8>(&LAST));
    if aligned {
        let rows = table.rows::<f32>().unwrap();
        assert_eq!(rows[vocab - 1][252..], LAST);
    } else {
        let error = table.row::<f32>(vocab - 1).unwrap_err();
        assert!(matches!(error, embmap::Error::Misaligned { .. }), "{error}");
    }
    let ids: Vec<u64> = (0..64).map(|i| vocab - 1 - i * (vocab / 64)).collect();
    let mut out = vec![7f32; 64 * DIM as usize];
    table.gather_into(&ids, &mut out).unwrap();
    assert_eq!(out[252..256], LAST);
    assert!(out[256..].iter().all(|value| *value == 0.0));
    assert!(table.encoded_row(vocab).is_err());
    as_fast_as_a_small_one(&table, &ids);
}

/// The quickest of many gathers of the same few rows, here and in a table of 64 rows.
fn as_fast_as_a_small_one(huge: &Table, ids: &[u64]) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("small.emb");
    support::write_random(&path, 64, DIM as usize, DType::F32, None);
    // SAFETY: the test's own file, which nothing writes to any more.
    let small = unsafe { Table::map(&path).unwrap() };
    let mut out = vec![0f32; 64 * DIM as usize];
    let mut quickest = |table: &Table, ids: &[u64]| {
        let time = |_| {
            let started = Instant::now();
            table.gather_into(ids, &mut out).unwrap();
            started.elapsed()
        };
        (0..500).map(time).min().unwrap()
    };
    let all: Vec<u64> = (0..64).collect();
    let (here, there) = (quickest(huge, ids), quickest(&small, &all));
    eprintln!("{here:?} to gather 64 rows, {there:?} from a small table");
    // Rows far apart miss the TLB each; ten times as long would be something else.
    assert!(here < there * 10 + Duration::from_micros(20));
}

/// Converts the last 100 MB of a table: memory does not grow with what is copied.
fn convert_the_end(path: &Path, vocab: u64) {
    let target = path.with_extension("emb");
    let rows = vocab - 100_000..vocab;
    let table = embmap::OpenOptions::new().open(path).unwrap();
    embmap::convert(&table, &target, &embmap::ConvertOptions::new().rows(rows)).unwrap();
    let end = embmap::OpenOptions::new().open(&target).unwrap();
    assert_eq!(end.vocab(), 100_000);
    let mut last = vec![7f32; DIM as usize];
    end.gather_into(&[99_999u32], &mut last).unwrap();
    assert_eq!(last[252..], LAST);
    assert!(end.verify().unwrap().is_sound());
}

fn peak_rss_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_terabyte_opens_like_a_kilobyte() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("terabyte.emb");
    let vocab = 1 << 30;
    sparse_emb(&path, vocab);
    assert!(std::fs::metadata(&path).unwrap().len() > 1 << 40);
    check(&path, vocab, true);

    for padding in [0, 5] {
        let path = directory.path().join(format!("hundred-{padding}.safetensors"));
        let vocab = 100_000_003;
        sparse_safetensors(&path, vocab, padding);
        check(&path, vocab, padding == 0);
        convert_the_end(&path, vocab);
    }
    let peak = peak_rss_kib();
    eprintln!("{peak} KiB of peak memory");
    assert!(peak < 20 * 1024, "{peak} KiB of peak memory");
}
