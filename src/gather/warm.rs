//! Copying or decoding a run of rows on one thread.

use super::ids::Id;
use crate::codec::{Decode, RowParts, prefetch, stream_fence};
use crate::error::Result;
use crate::storage::StoredFile;
use crate::table::Table;

/// The cache lines of a row that are asked for ahead: the CPU follows by itself from there, and
/// more were slower for rows of 512 bytes.
const PREFETCH_LINES: usize = 2;

/// How rows come into an output.
pub(super) struct Copying<O> {
    /// The output elements that a row fills.
    pub(super) row: usize,
    /// The output elements from one row to the next.
    pub(super) stride: usize,
    /// What makes output elements of a row's bytes.
    pub(super) decode: Decode<O>,
    /// True where `decode` streams past the caches.
    pub(super) fence: bool,
}

impl<O> Clone for Copying<O> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<O> Copy for Copying<O> {}

/// Where the rows of a table in memory lie, worked out once for many rows.
#[derive(Clone, Copy)]
pub(super) struct ResidentRows<'a> {
    table: &'a Table,
    /// The bytes of the only extent, and its stride; empty where there are several.
    bytes: &'a [u8],
    row_bytes: usize,
    row_stride: usize,
}

impl<'a> ResidentRows<'a> {
    /// The rows of a table, or `None` where its files are not in memory.
    pub(super) fn of(table: &'a Table) -> Option<Self> {
        if !table.files.iter().all(StoredFile::is_resident) {
            return None;
        }
        let plane = &table.layout.values;
        let bytes = match plane.extents() {
            [only] => {
                let bytes = plane.extent_bytes(only);
                table.resident(only.file, only.offset, bytes, "gather").unwrap_or(&[])
            }
            _ => &[],
        };
        let row_bytes = usize::try_from(plane.row_bytes()).ok()?;
        let row_stride = usize::try_from(plane.row_stride()).ok()?;
        Some(ResidentRows { table, bytes, row_bytes, row_stride })
    }

    /// The bytes of one row, or `None` where the id is no row's.
    #[inline]
    pub(super) fn row(&self, id: u64) -> Option<&'a [u8]> {
        if self.bytes.is_empty() {
            return self.row_of_many(id);
        }
        let start = usize::try_from(id).ok()?.checked_mul(self.row_stride)?;
        self.bytes.get(start..start.checked_add(self.row_bytes)?)
    }

    #[inline(never)]
    fn row_of_many(&self, id: u64) -> Option<&'a [u8]> {
        self.table.encoded_row(id).ok()
    }

    /// Asks for the start of the row at a position that will be reached soon.
    #[inline]
    pub(super) fn ask<I: Id>(&self, ids: &[I], position: usize, lines: usize) {
        if let Some(row) = ids.get(position).and_then(|id| self.row(id.row())) {
            prefetch(row, lines);
        }
    }

    /// How many rows ahead of the copy to ask for: short rows pass by faster.
    pub(super) fn ahead(&self) -> usize {
        if self.row_bytes <= 512 { 16 } else { 8 }
    }
}

impl Table {
    /// Copies the rows of checked ids, in order, on this thread.
    pub(super) fn gather_chunk<I: Id, O: bytemuck::Pod>(
        &self,
        ids: &[I],
        out: &mut [O],
        copying: Copying<O>,
    ) -> Result<()> {
        let Copying { row, stride, decode, fence } = copying;
        let outs = out.chunks_mut(stride.max(1)).map(|out| &mut out[..row]);
        if let Some(rows) = ResidentRows::of(self) {
            let ahead = rows.ahead();
            (0..ahead).for_each(|position| rows.ask(ids, position, PREFETCH_LINES));
            for (position, (id, out)) in ids.iter().zip(outs).enumerate() {
                rows.ask(ids, position + ahead, PREFETCH_LINES);
                let values = rows.row(id.row()).ok_or_else(|| self.out_of_range(id.row(), None))?;
                decode(RowParts { values }, out);
            }
            if fence {
                stream_fence();
            }
            return Ok(());
        }
        let mut values = vec![0; self.row_bytes_in_memory()];
        for (id, out) in ids.iter().zip(outs) {
            self.read_row(id.row(), &mut values)?;
            decode(RowParts { values: &values }, out);
        }
        Ok(())
    }

    /// The bytes of a row as a length; larger ones than memory can hold fail to allocate.
    pub(super) fn row_bytes_in_memory(&self) -> usize {
        usize::try_from(self.row_bytes()).unwrap_or(usize::MAX)
    }

    /// Reads the bytes of one row of a table that is not in memory.
    pub(super) fn read_row(&self, id: u64, values: &mut [u8]) -> Result<()> {
        let place = self.layout.values.place(id).ok_or_else(|| self.out_of_range(id, None))?;
        self.files[place.file].read_at(place.offset, values)
    }
}
