//! Rows that may have to be read first: found out while copying, then asked for in windows.
//!
//! A warm row is best copied at once; a cold one best asked for together with hundreds of
//! others, before any is copied. Nobody has to say which it is. A batch starts plainly and
//! looks now and then whether its thread had to wait for a device. Where it had, windows of
//! rows are asked for, each while the one before is copied, until a number of rows in
//! sequence were in memory anyway. The table remembers this from batch to batch, so that a
//! cold batch of a few rows is asked for as a whole.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::ids::Id;
use crate::error::Result;
use crate::storage::{ReadAhead, Waits, waited};
use crate::table::{Access, Patience, Table, Temperature};

/// The most rows, and the most bytes, of a window.
const WINDOW_ROWS: usize = 512;
const WINDOW_BYTES: u64 = 16 << 20;

/// The rows that are copied before the first look, and the most between two later ones. A
/// look keeps the processor from overlapping the rows before it with those behind it.
const FIRST_UNSEEN: usize = 16;
const MOST_UNSEEN: usize = 256;

/// What took less time needs no look: few devices answer sooner, and none of them so much
/// sooner that several rows were waited for.
const SOONEST_READ: Duration = Duration::from_micros(20);

/// The rows from which a batch pays for a look before it starts, so that what its thread did
/// before is not taken for its own.
const FIRST_LOOK: usize = 128;

impl Table {
    /// Copies the rows of checked ids in order, on this thread, by `copy`: it is handed
    /// ranges of positions in `ids` that follow each other.
    pub(super) fn copy_by_plan<I: Id>(
        &self,
        ids: &[I],
        mut copy: impl FnMut(Range<usize>) -> Result<()>,
    ) -> Result<()> {
        // No page of the cache is waited for, and none is mapped.
        if self.access == Access::Direct {
            return copy(0..ids.len());
        }
        let Some(rows) = self.rows_between_looks() else {
            return self.copy_planned(ids, copy);
        };
        for (part, ids) in ids.chunks(rows).enumerate() {
            let start = part * rows;
            self.copy_planned(ids, |range| copy(range.start + start..range.end + start))?;
            self.keep_to_budget();
        }
        Ok(())
    }

    fn copy_planned<I: Id>(
        &self,
        ids: &[I],
        mut copy: impl FnMut(Range<usize>) -> Result<()>,
    ) -> Result<()> {
        if self.access == Access::Memory || self.temperature == Temperature::Warm {
            return copy(0..ids.len());
        }
        let before = match self.temperature {
            Temperature::Cold => Patience::FULL,
            Temperature::Measured | Temperature::Warm => self.patience.get(),
        };
        // A single row is waited for once in any case.
        if before == 0 && ids.len() == 1 {
            return copy(0..1);
        }
        let mut plan = Plan { table: self, ids, done: 0, patience: before };
        while plan.done < ids.len() {
            if plan.patience == 0 {
                plan.copy_warm(&mut copy)?;
            } else {
                plan.copy_cold(&mut copy)?;
            }
        }
        self.patience.set(plan.patience);
        Ok(())
    }

    /// Asks for the rows of checked ids; nothing waits for them.
    pub(super) fn ask_for<I: Id>(&self, ids: &[I], ahead: &mut ReadAhead) {
        for plane in self.layout.planes() {
            for place in ids.iter().filter_map(|id| plane.place(id.row())) {
                ahead.add(place.file, place.offset, plane.row_bytes());
            }
        }
        ahead.start(&self.files);
    }

    /// The number of rows of a window.
    pub(super) fn window_rows(&self) -> usize {
        let rows = WINDOW_BYTES / self.row_bytes().max(1);
        usize::try_from(rows).unwrap_or(WINDOW_ROWS).clamp(1, WINDOW_ROWS)
    }

    /// What a cold row shows as: a fault on a map, else a read.
    fn waits(&self) -> Waits {
        if self.access == Access::Map { Waits::Faults } else { Waits::Reads }
    }
}

/// A batch that is being copied.
struct Plan<'a, I> {
    table: &'a Table,
    ids: &'a [I],
    /// The number of rows that are copied.
    done: usize,
    /// As [`Patience`] has it.
    patience: u32,
}

impl<I: Id> Plan<'_, I> {
    /// Copies plainly, to the end or until a row was cold.
    fn copy_warm(&mut self, copy: &mut impl FnMut(Range<usize>) -> Result<()>) -> Result<()> {
        let waits = self.table.waits();
        let rows = self.ids.len();
        if rows - self.done >= FIRST_LOOK {
            waited(waits);
        }
        let mut reach = FIRST_UNSEEN;
        let mut since = Instant::now();
        while self.done < rows {
            let end = rows.min(self.done + reach);
            copy(self.done..end)?;
            self.done = end;
            reach = MOST_UNSEEN.min(reach * 2);
            let now = Instant::now();
            if now - since >= SOONEST_READ && waited(waits) {
                self.patience = Patience::FULL;
                return Ok(());
            }
            since = now;
        }
        Ok(())
    }

    /// Copies window by window, each asked for while the one before is copied, to the end or
    /// until the rows are warm.
    fn copy_cold(&mut self, copy: &mut impl FnMut(Range<usize>) -> Result<()>) -> Result<()> {
        let _run = self.table.patience.cold_run();
        let mut ahead = ReadAhead::new();
        waited(Waits::Reads);
        let mut asked = self.ask(self.done, &mut ahead);
        while self.done < asked {
            let next = self.ask(asked, &mut ahead);
            copy(self.done..asked)?;
            (self.done, asked) = (asked, next);
        }
        Ok(())
    }

    /// Asks for the window that starts at `start` and gives its end. It has no more rows than
    /// patience is left for.
    fn ask(&mut self, start: usize, ahead: &mut ReadAhead) -> usize {
        let patient = usize::try_from(self.patience).unwrap_or(usize::MAX);
        let window = self.table.window_rows().min(patient).min(self.ids.len() - start);
        if window == 0 {
            return start;
        }
        self.table.ask_for(&self.ids[start..start + window], ahead);
        let read = waited(Waits::Reads) || self.table.temperature == Temperature::Cold;
        self.patience = if read {
            Patience::FULL
        } else {
            self.patience.saturating_sub(u32::try_from(window).unwrap_or(u32::MAX))
        };
        start + window
    }
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::path::Path;

    use super::*;
    use crate::{DType, OpenOptions, WriteOptions, storage};

    const DIM: usize = 256;
    const VOCAB: u64 = 10_007;

    fn write(path: &Path) {
        let mut writer = WriteOptions::new(DIM, DType::F32).create(path).unwrap();
        for row in 0..VOCAB as u16 {
            writer.push(&[f32::from(row); DIM]).unwrap();
        }
        writer.finish().unwrap();
        drop_pages(path);
    }

    fn drop_pages(path: &Path) {
        let file = File::open(path).unwrap();
        file.sync_all().unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    }

    fn map(path: &Path) -> Table {
        // SAFETY: the test's own file, which nothing writes to while it is mapped.
        #[allow(unsafe_code)]
        unsafe {
            OpenOptions::new().map(path).unwrap()
        }
    }

    /// Whether the table was out of memory, and is a table of a disk at all.
    fn is_cold(table: &Table) -> bool {
        table.residency().unwrap().cached_bytes == Some(0)
    }

    fn gather(table: &Table, ids: &[u64]) {
        let mut out = vec![-1f32; ids.len() * DIM];
        table.gather_into(ids, &mut out).unwrap();
        for (id, out) in ids.iter().zip(out.chunks(DIM)) {
            assert_eq!(out, [f32::from(*id as u16); DIM]);
        }
    }

    #[test]
    fn a_table_remembers_whether_it_was_cold() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("table.emb");
        write(&path);
        let table = map(&path);
        if !is_cold(&table) {
            return;
        }
        assert_eq!(table.patience.get(), Patience::FIRST);
        let spread: Vec<u64> = (0..16).map(|row| row * 600).collect();
        gather(&table, &spread);
        assert_eq!(table.patience.get(), Patience::FULL, "rows were read");
        gather(&table, &spread);
        assert_eq!(table.patience.get(), Patience::FULL - 16, "nothing was read");
        gather(&table, &[5000, 300]);
        assert_eq!(table.patience.get(), Patience::FULL, "two rows were read");
        (0..32).for_each(|_| gather(&table, &spread));
        assert_eq!(table.patience.get(), 0, "512 rows without a read");

        table.release().unwrap();
        drop_pages(&path);
        gather(&table, &[700]);
        assert_eq!(table.patience.get(), 0, "a single row tells nothing");
        gather(&table, &spread);
        assert_eq!(table.patience.get(), Patience::FULL, "rows were waited for");
        table.warm(..).unwrap();
        assert_eq!(table.patience.get(), 0);
        let all: Vec<u64> = (0..VOCAB).collect();
        gather(&table, &all);
        assert_eq!(table.patience.get(), 0, "a warm batch stays warm");
    }

    #[test]
    fn a_new_table_that_is_warm_counts_as_warm_after_a_few_rows() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("table.emb");
        write(&path);
        map(&path).warm(..).unwrap();
        let table = map(&path);
        let ids: Vec<u64> = (0..40).collect();
        gather(&table, &ids);
        assert_eq!(table.patience.get(), Patience::FIRST - 40);
        gather(&table, &ids);
        assert_eq!(table.patience.get(), 0);
    }

    #[test]
    fn without_the_batched_call_rows_come_all_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("table.emb");
        write(&path);
        let table = map(&path);
        if !is_cold(&table) {
            return;
        }
        storage::forbid();
        let ids: Vec<u64> = (0..900).map(|row| row * 7919 % VOCAB).collect();
        table.prefetch(&ids).unwrap();
        let pages = 900 * 1024 / 2;
        let start = Instant::now();
        while table.residency().unwrap().cached_bytes < Some(pages) {
            assert!(start.elapsed() < Duration::from_secs(10), "the pages come");
        }
        table.release().unwrap();
        drop_pages(&path);
        gather(&table, &ids);
        assert_eq!(table.patience.get(), Patience::FULL);
    }

    #[test]
    fn windows_follow_each_other_without_a_gap() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("table.emb");
        write(&path);
        let mut table = map(&path);
        for (temperature, patience) in [
            (Temperature::Measured, 0),
            (Temperature::Measured, 1),
            (Temperature::Measured, 600),
            (Temperature::Cold, 0),
            (Temperature::Warm, 0),
        ] {
            table.temperature = temperature;
            for rows in [0, 1, 2, 511, 512, 513, 1024, 1025, 5000] {
                table.patience.set(patience);
                let ids: Vec<u64> = (0..rows).map(|row| row * 7919 % VOCAB).collect();
                let mut next = 0;
                let copied = table.copy_by_plan(&ids, |range| {
                    assert_eq!(range.start, next);
                    assert!(range.end > range.start || rows == 0);
                    next = range.end;
                    Ok(())
                });
                copied.unwrap();
                assert_eq!(next, ids.len());
            }
        }
    }
}
