//! Rows that are not in memory: gathers find them, asking ahead brings them, and what is
//! resident can be looked at, filled and let go. On a file system whose pages can be dropped.

#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::float_cmp,
    clippy::print_stderr
)]
#![cfg(target_os = "linux")]

mod support;

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use embmap::{Access, DType, Error, GatherOptions, OpenOptions, Table, Temperature};
use support::Random;
use tempfile::TempDir;

const DIM: usize = 192;
const ROW: u64 = DIM as u64 * 4;

/// A table of random rows on a real disk, out of the page cache.
struct Cold {
    _directory: TempDir,
    path: PathBuf,
    encoded: Vec<u8>,
    vocab: u64,
}

impl Cold {
    /// `None`, and a word about it, where the file system keeps its pages in any case.
    fn new(vocab: u64) -> Option<Cold> {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let path = directory.path().join("cold.emb");
        let encoded = support::write_random(&path, vocab, DIM, DType::F32, None);
        let cold = Cold { _directory: directory, path, encoded, vocab };
        cold.drop_pages();
        let cached = cold.read().residency().unwrap().cached_bytes;
        if cached == Some(0) {
            return Some(cold);
        }
        eprintln!("skipped: {cached:?} bytes stay in the page cache of this file system");
        None
    }

    fn drop_pages(&self) {
        let file = File::open(&self.path).unwrap();
        file.sync_all().unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    }

    fn map(&self) -> Table {
        self.map_as(Temperature::Measured)
    }

    fn map_as(&self, temperature: Temperature) -> Table {
        map_as(&self.path, temperature)
    }

    fn read(&self) -> Table {
        OpenOptions::new().access(Access::Read).open(&self.path).unwrap()
    }

    fn check(&self, table: &Table, ids: &[u64], threads: usize) {
        let row = ROW as usize;
        let mut out = vec![0xaa; ids.len() * row];
        let options = GatherOptions::new().threads(threads);
        table.gather_bytes_into_with(ids, &mut out, &options).unwrap();
        for (id, out) in ids.iter().zip(out.chunks(row)) {
            assert!(out == &self.encoded[*id as usize * row..][..row], "row {id}");
        }
    }

    fn ids(&self, seed: u64, count: usize) -> Vec<u64> {
        let mut random = Random(seed);
        (0..count).map(|_| random.below(self.vocab)).collect()
    }
}

fn map_as(path: &Path, temperature: Temperature) -> Table {
    // SAFETY: the test's own file, which nothing writes to while it is mapped.
    unsafe { OpenOptions::new().temperature(temperature).map(path).unwrap() }
}

fn cached(table: &Table) -> u64 {
    table.residency().unwrap().cached_bytes.unwrap()
}

fn major_faults() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    let fields = stat.rsplit_once(')').unwrap().1;
    fields.split_ascii_whitespace().nth(9).unwrap().parse().unwrap()
}

#[test]
fn cold_rows_are_the_same_rows() {
    let Some(cold) = Cold::new(20_011) else { return };
    for temperature in [Temperature::Measured, Temperature::Warm, Temperature::Cold] {
        for (count, threads) in [(1, 1), (17, 1), (700, 1), (4000, 1), (9001, 2), (9001, 3)] {
            cold.drop_pages();
            let table = cold.map_as(temperature);
            cold.check(&table, &cold.ids(count as u64, count), threads);
            // And again: warm now in part, and the table remembers that it was cold.
            cold.check(&table, &cold.ids(count as u64 + 1, count), threads);
        }
    }
    cold.drop_pages();
    let table = cold.read();
    for seed in 0..3 {
        cold.check(&table, &cold.ids(seed, 4000), 2);
    }
}

#[test]
fn a_cold_batch_waits_for_few_rows() {
    let Some(cold) = Cold::new(40_009) else { return };
    let ids = cold.ids(5, 2000);

    let table = cold.map();
    let before = major_faults();
    cold.check(&table, &ids, 1);
    let planned = major_faults() - before;
    // More than a thousand pages were read, and each would be a fault without a plan.
    assert!(planned <= 40, "{planned} faults");
    let wanted = wanted_bytes(&ids);
    assert!(cached(&table) <= wanted + wanted / 4, "{} for {wanted}", cached(&table));

    // The table remembers: not even the first row of a small batch is waited for.
    drop(table);
    cold.drop_pages();
    let table = cold.map();
    cold.check(&table, &[0], 1);
    cold.check(&table, &[cold.vocab / 2, cold.vocab - 1], 1);
    let before = major_faults();
    for seed in 10..20 {
        cold.check(&table, &cold.ids(seed, 16), 1);
    }
    let remembered = major_faults() - before;
    assert!(remembered <= 5, "{remembered} faults in ten batches of 16 rows");
}

/// The bytes of the pages that rows lie in.
fn wanted_bytes(ids: &[u64]) -> u64 {
    let pages = ids.iter().flat_map(|id| [id * ROW / 4096, (id * ROW + ROW - 1) / 4096]);
    pages.collect::<BTreeSet<u64>>().len() as u64 * 4096
}

#[test]
fn a_touched_row_brings_its_own_pages_alone() {
    let Some(cold) = Cold::new(20_011) else { return };
    let touch = |table: &Table| {
        let ids: Vec<u64> = (0..20).map(|row| row * 1000 + 7).collect();
        for id in &ids {
            let row: &[f32] = table.row(*id).unwrap();
            let start = (*id * ROW) as usize;
            assert_eq!(
                bytemuck::cast_slice::<f32, u8>(row),
                &cold.encoded[start..][..ROW as usize]
            );
        }
        (cached(table), wanted_bytes(&ids))
    };
    let (brought, wanted) = touch(&cold.map());
    assert!(brought <= wanted + wanted / 4, "{brought} for {wanted}");

    // Stated warm, nothing is asked for ahead, and the system's own readahead stays on.
    cold.drop_pages();
    let (brought, wanted) = touch(&cold.map_as(Temperature::Warm));
    assert!(brought > wanted, "{brought} for {wanted}");
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(10), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn prefetch_brings_rows_and_little_else() {
    let Some(cold) = Cold::new(40_009) else { return };
    for table in [cold.map(), cold.read()] {
        cold.drop_pages();
        let ids = cold.ids(7, 1000);
        table.prefetch(&ids).unwrap();
        let wanted = wanted_bytes(&ids);
        wait_until("the pages come", || cached(&table) >= wanted);
        assert!(cached(&table) <= wanted + wanted / 4, "{} for {wanted}", cached(&table));
        let before = major_faults();
        cold.check(&table, &ids, 1);
        assert!(major_faults() - before <= 100, "of 2,000 rows");
    }
}

#[test]
fn prefetch_of_neighbours_brings_all_of_them() {
    let Some(cold) = Cold::new(8009) else { return };
    let table = cold.map();
    let all: Vec<u64> = (0..cold.vocab).collect();
    table.prefetch(&all).unwrap();
    wait_until("long runs are read whole", || cached(&table) == cold.vocab * ROW);
}

#[test]
fn prefetch_checks_ids_before_it_starts_anything() {
    let Some(cold) = Cold::new(3001) else { return };
    let table = cold.map();
    let error = table.prefetch(&[1u64, 3000, 3001]).unwrap_err();
    assert!(matches!(error, Error::RowOutOfRange { id: 3001, position: Some(2), vocab: 3001 }));
    assert_eq!(cached(&table), 0);
    table.prefetch::<u32>(&[]).unwrap();
}

/// All but what a system that trims its page cache may have taken back meanwhile.
fn nearly_all(table: &Table) -> bool {
    let total = table.residency().unwrap().total_bytes;
    cached(table) >= total - total / 20
}

#[test]
fn warm_fills_the_cache_with_a_range() {
    let Some(cold) = Cold::new(20_011) else { return };
    for table in [cold.map(), cold.read()] {
        cold.drop_pages();
        table.warm(..5000).unwrap();
        assert!(cached(&table) >= 5000 * ROW);
        table.warm(..).unwrap();
        assert!(nearly_all(&table));
        let before = major_faults();
        cold.check(&table, &cold.ids(3, 2000), 1);
        assert!(major_faults() - before <= 100, "of 2,000 rows");
        assert!(table.warm(0..20_012).is_err());
        assert!(table.warm(20_012..).is_err());
        table.warm(20_011..).unwrap();
    }
}

#[test]
fn warm_in_background_can_be_waited_for_and_stopped() {
    let Some(cold) = Cold::new(50_021) else { return };
    let table = Arc::new(cold.map());
    let warming = table.warm_in_background(..).unwrap();
    for seed in 0..20 {
        cold.check(&table, &cold.ids(seed, 100), 1);
    }
    let total = warming.progress().1;
    assert_eq!(total, cold.vocab * ROW);
    warming.wait().unwrap();
    assert!(nearly_all(&table));

    cold.drop_pages();
    drop(table.release());
    cold.drop_pages();
    assert!(cached(&table) < total / 4);
    let warming = table.warm_in_background(..).unwrap();
    warming.cancel().unwrap();
    assert!(cached(&table) < total, "it was stopped at once");

    drop(table.warm_in_background(..).unwrap());
    let weak = Arc::downgrade(&table);
    drop(table);
    wait_until("a dropped handle stops the thread", || weak.upgrade().is_none());
}

#[test]
fn release_leaves_the_cache_and_the_rows() {
    let Some(cold) = Cold::new(20_011) else { return };
    let table = cold.map();
    assert_eq!(cold.read().residency().unwrap().mapped_bytes, None);
    table.prefault(..).unwrap();
    let found = table.residency().unwrap();
    assert!(found.mapped_bytes.unwrap() >= found.total_bytes, "{found:?}");
    let row = table.row::<f32>(77).unwrap();
    table.release().unwrap();
    let found = table.residency().unwrap();
    assert_eq!(found.mapped_bytes, Some(0));
    assert_eq!(found.cached_bytes, Some(found.total_bytes));
    assert_eq!(
        bytemuck::cast_slice::<f32, u8>(row),
        &cold.encoded[77 * ROW as usize..][..row.len() * 4]
    );
    cold.check(&table, &cold.ids(1, 500), 1);
}

#[test]
fn prefault_answers_where_a_touch_would_kill() {
    let Some(cold) = Cold::new(20_011) else { return };
    for table in [cold.map(), cold.read()] {
        table.prefault(..).unwrap();
        drop(table);
    }
    let table = cold.map();
    let file = File::options().write(true).open(&cold.path).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    table.prefault(..1000).unwrap();
    let error = table.prefault(..).unwrap_err();
    assert!(matches!(error, Error::FileChanged { .. }), "{error}");
    assert!(table.prefault(0..=20_011).is_err());
}

#[test]
fn a_table_in_memory_needs_none_of_this() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("memory.emb");
    support::write_random(&path, 100, 8, DType::F32, None);
    let table = Table::load(&path).unwrap();
    table.prefetch(&[1u32, 99]).unwrap();
    assert!(table.prefetch(&[100u32]).is_err());
    table.warm(..).unwrap();
    table.prefault(..).unwrap();
    table.release().unwrap();
    let found = table.residency().unwrap();
    assert_eq!((found.cached_bytes, found.mapped_bytes), (Some(3200), None));
}
