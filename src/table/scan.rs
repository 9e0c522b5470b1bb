//! Reading rows in the order of their ids, plane by plane, never through a map that gathers
//! use.

use std::ops::Range;

use super::Table;
use crate::error::Result;
use crate::layout::Plane;

/// A sequential reading of rows, some at a time.
///
/// It is a lending iterator: rows are valid until the next call.
pub(crate) struct RowScan<'a> {
    table: &'a Table,
    rows: Range<u64>,
    /// The rows read at once.
    window: u64,
    row_bytes: usize,
    bytes: Vec<u8>,
    /// Rows of one plane as they lie, where they have to be taken apart.
    plane: Vec<u8>,
}

/// Rows that follow each other, encoded, without padding; those of several planes interleaved.
pub(crate) struct ScannedRows<'a> {
    pub(crate) first: u64,
    pub(crate) bytes: &'a [u8],
}

impl Table {
    /// Reads a range of rows that there are, in pieces of about `piece` bytes, at least a row.
    pub(crate) fn scan_rows(&self, rows: Range<u64>, piece: usize) -> RowScan<'_> {
        let strides = self.layout.planes().map(Plane::row_stride);
        let row = strides.fold(0, u64::saturating_add).max(1);
        let window = (piece as u64 / row).clamp(1, (rows.end - rows.start).max(1));
        let row_bytes = usize::try_from(self.row_bytes()).unwrap_or(usize::MAX);
        RowScan { table: self, rows, window, row_bytes, bytes: Vec::new(), plane: Vec::new() }
    }
}

impl RowScan<'_> {
    /// The next rows, or `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<ScannedRows<'_>>> {
        let first = self.rows.start;
        let end = self.rows.end.min(first.saturating_add(self.window));
        if first >= end {
            return Ok(None);
        }
        self.rows.start = end;
        let count = usize::try_from(end - first).unwrap_or(usize::MAX);
        self.bytes.resize(count.saturating_mul(self.row_bytes), 0);
        let mut start = 0;
        for plane in self.table.layout.planes() {
            self.read_plane(plane, first..end, start)?;
            start += usize::try_from(plane.row_bytes()).unwrap_or(usize::MAX);
        }
        Ok(Some(ScannedRows { first, bytes: &self.bytes }))
    }

    /// Reads the rows of one plane, which lie in each row from the byte `start` on.
    fn read_plane(&mut self, plane: &Plane, rows: Range<u64>, start: usize) -> Result<()> {
        let own = usize::try_from(plane.row_bytes()).unwrap_or(usize::MAX);
        let stride = usize::try_from(plane.row_stride()).unwrap_or(usize::MAX);
        if own == 0 {
            return Ok(());
        }
        let mut rest = self.bytes.as_mut_slice();
        for extent in plane.extents() {
            let first = rows.start.max(extent.first);
            let end = rows.end.min(extent.first + extent.rows);
            if first >= end {
                continue;
            }
            let count = usize::try_from(end - first).unwrap_or(usize::MAX);
            let (here, after) = rest.split_at_mut(count * self.row_bytes);
            rest = after;
            let file = &self.table.files[extent.file];
            let offset = extent.offset + (first - extent.first) * plane.row_stride();
            if own == self.row_bytes && own == stride {
                file.read_at(offset, here)?;
                continue;
            }
            self.plane.resize((count - 1) * stride + own, 0);
            file.read_at(offset, &mut self.plane)?;
            for (row, lying) in here.chunks_exact_mut(self.row_bytes).zip(self.plane.chunks(stride))
            {
                row[start..start + own].copy_from_slice(&lying[..own]);
            }
        }
        Ok(())
    }
}
