//! Bringing rows into memory, and letting them go.

use std::ops::{Bound, Range, RangeBounds};

use crate::error::Result;
use crate::layout::Plane;
use crate::storage::{StoredFile, Stretch};
use crate::table::{Access, Run, Table};

impl Table {
    /// Reads rows into the page cache, in the order of the file: the fastest way to make a
    /// table that fits in memory warm.
    ///
    /// The system keeps what is read in order in larger pages, which later gathers are
    /// faster on than on pages that were read one by one. It does not keep it for ever:
    /// what is not used may be evicted. While this runs, other threads may gather. With
    /// [`Access::Direct`], which passes the page cache by, it does nothing.
    ///
    /// # Errors
    ///
    /// [`Error::RowOutOfRange`] where the range ends behind the last row, [`Error::Io`] and
    /// [`Error::FileChanged`] where the file cannot be read.
    ///
    /// [`Error::RowOutOfRange`]: crate::Error::RowOutOfRange
    /// [`Error::Io`]: crate::Error::Io
    /// [`Error::FileChanged`]: crate::Error::FileChanged
    ///
    /// ```
    /// # fn main() -> Result<(), embmap::Error> {
    /// let table = embmap::Table::load("fixtures/minilm-2k")?;
    /// table.warm(..)?;
    /// table.warm(..1000)?;
    /// assert!(table.warm(1000..2004).is_err(), "there are 2003 rows");
    /// # Ok(())
    /// # }
    /// ```
    pub fn warm(&self, rows: impl RangeBounds<u64>) -> Result<()> {
        let (start, end) = self.row_range(&rows)?;
        self.warm_while(start, end, |_| true)
    }

    /// Brings rows into the page cache and into this process's page tables, so that the
    /// first touch of each costs no fault.
    ///
    /// Where touching a mapped row would end the process with a signal, because the file was
    /// cut or its device fails, this returns an error.
    ///
    /// # Errors
    ///
    /// As [`warm`](Table::warm).
    ///
    /// ```
    /// # fn main() -> Result<(), embmap::Error> {
    /// let table = embmap::Table::load("fixtures/minilm-2k")?;
    /// table.prefault(..100)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn prefault(&self, rows: impl RangeBounds<u64>) -> Result<()> {
        let (start, end) = self.row_range(&rows)?;
        if matches!(self.access, Access::Memory | Access::Direct) {
            return Ok(());
        }
        self.stretches(start, end).try_for_each(|found| {
            let (file, stretch) = found?;
            file.prefault(stretch.offset, stretch.end())
        })
    }

    /// Takes the table's rows out of this process's resident set. The page cache keeps them,
    /// and slices of rows stay valid: what is touched again is mapped again.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) where the system refuses, as it does for memory that
    /// was locked.
    ///
    /// ```
    /// # fn main() -> Result<(), embmap::Error> {
    /// let table = embmap::Table::load("fixtures/minilm-2k")?;
    /// table.release()?;
    /// assert_eq!(table.encoded_row(0)?.len(), 768);
    /// # Ok(())
    /// # }
    /// ```
    pub fn release(&self) -> Result<()> {
        self.files.iter().try_for_each(StoredFile::release)
    }

    /// Fills the page cache with rows, in steps; `go_on` is told the bytes of each, and
    /// stops it by saying no.
    pub(super) fn warm_while(
        &self,
        start: u64,
        end: u64,
        mut go_on: impl FnMut(u64) -> bool,
    ) -> Result<()> {
        if matches!(self.access, Access::Memory | Access::Direct) {
            return Ok(());
        }
        for found in self.stretches(start, end) {
            let (file, stretch) = found?;
            if !file.fill(stretch.offset, stretch.end(), &mut go_on)? {
                return Ok(());
            }
        }
        // What is mapped already stays mapped in small pages until it is let go.
        self.release()?;
        if (start, end) == (0, self.vocab()) {
            self.patience.set(0);
        }
        Ok(())
    }

    /// The bytes of the rows from `start` to `end`, run by run, in no order.
    pub(super) fn stretches(
        &self,
        start: u64,
        end: u64,
    ) -> impl Iterator<Item = Result<(&StoredFile, Stretch)>> {
        let all = (start, end) == (0, self.vocab());
        let whole = all.then_some(Run { first_id: 0, first_place: 0, rows: end });
        let parts = (!all).then(move || self.layout.planes());
        let of_whole = whole.into_iter().flat_map(move |run| {
            self.layout.planes().flat_map(move |plane| self.run_stretches(plane, run)).map(Ok)
        });
        let of_parts = parts
            .into_iter()
            .flatten()
            .flat_map(move |plane| self.plane_stretches(plane, start..end));
        of_whole.chain(of_parts).map(|found| found.map(|(_, file, stretch)| (file, stretch)))
    }

    /// The bytes of rows of one plane, run by run, each with the id of its first row.
    pub(super) fn plane_stretches(
        &self,
        plane: &Plane,
        rows: Range<u64>,
    ) -> impl Iterator<Item = Result<(u64, &StoredFile, Stretch)>> {
        self.runs(rows).flat_map(move |run| {
            let (run, failed) = match run {
                Ok(run) => (Some(run), None),
                Err(error) => (None, Some(Err(error))),
            };
            let found = run.into_iter().flat_map(|run| self.run_stretches(plane, run));
            found.map(Ok).chain(failed)
        })
    }

    /// Where the rows of a run lie in one plane.
    fn run_stretches(
        &self,
        plane: &Plane,
        run: Run,
    ) -> impl Iterator<Item = (u64, &StoredFile, Stretch)> {
        let (start, end) = (run.first_place, run.first_place + run.rows);
        plane.extents().iter().filter_map(move |extent| {
            let first = start.max(extent.first);
            let last = end.min(extent.first + extent.rows).checked_sub(1)?;
            if first > last {
                return None;
            }
            let offset = extent.offset + (first - extent.first) * plane.row_stride();
            let bytes = (last - first) * plane.row_stride() + plane.row_bytes();
            let first_id = run.first_id + (first - start);
            Some((first_id, &self.files[extent.file], Stretch { offset, bytes }))
        })
    }

    /// The first row of a range and the one behind its last.
    pub(super) fn row_range(&self, rows: &impl RangeBounds<u64>) -> Result<(u64, u64)> {
        let start = match rows.start_bound() {
            Bound::Included(row) => *row,
            Bound::Excluded(row) => row.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match rows.end_bound() {
            Bound::Included(row) => row.saturating_add(1),
            Bound::Excluded(row) => *row,
            Bound::Unbounded => self.vocab(),
        };
        if end > self.vocab() {
            return Err(self.out_of_range(end - 1, None));
        }
        if start > self.vocab() {
            return Err(self.out_of_range(start, None));
        }
        Ok((start, end))
    }
}
