//! Reading rows in the order of their ids, plane by plane, never through a map that gathers
//! use.

use std::ops::Range;

use super::{Run, Table};
use crate::error::Result;
use crate::layout::Plane;
use crate::storage::ReadAhead;

/// The bytes between two runs of rows that are read with them, rather than in two readings.
const GAP: u64 = 16 << 10;

/// The most bytes of rows, and of what lies between them, that are read at once.
const MOST: u64 = 4 << 20;

/// A sequential reading of rows, some at a time.
///
/// Where rows lie in an order of their own, those of each piece are read in that order.
///
/// It is a lending iterator: rows are valid until the next call.
pub(crate) struct RowScan<'a> {
    table: &'a Table,
    rows: Range<u64>,
    /// True where the rows are not by their ids, but as they lie.
    lying: bool,
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
        RowScan { lying: self.order.is_none(), ..self.scan_places(rows, piece) }
    }

    /// The same of the rows at a range of places, which may be another's.
    pub(crate) fn scan_places(&self, rows: Range<u64>, piece: usize) -> RowScan<'_> {
        let strides = self.layout.planes().map(Plane::row_stride);
        let row = strides.fold(0, u64::saturating_add).max(1);
        let window = (piece as u64 / row).clamp(1, (rows.end - rows.start).max(1));
        let row_bytes = usize::try_from(self.row_bytes()).unwrap_or(usize::MAX);
        let (bytes, plane) = (Vec::new(), Vec::new());
        RowScan { table: self, rows, lying: true, window, row_bytes, bytes, plane }
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
        if !self.lying {
            self.read_ordered(first..end)?;
            return Ok(Some(ScannedRows { first, bytes: &self.bytes }));
        }
        let mut start = 0;
        for plane in self.table.layout.planes() {
            self.read_plane(plane, first..end, start)?;
            start += usize::try_from(plane.row_bytes()).unwrap_or(usize::MAX);
        }
        Ok(Some(ScannedRows { first, bytes: &self.bytes }))
    }

    /// Reads rows that lie in an order of their own: in one plane and one extent.
    fn read_ordered(&mut self, rows: Range<u64>) -> Result<()> {
        let (table, row_bytes) = (self.table, self.row_bytes);
        let plane = &table.layout.values;
        let Some(extent) = plane.extents().first() else { return Ok(()) };
        let stride = plane.row_stride();
        let mut runs = table.runs(rows.clone()).collect::<Result<Vec<_>>>()?;
        runs.sort_unstable_by_key(|run| run.first_place);
        let offset = |place: u64| extent.offset + place * stride;
        let end = |run: &Run| offset(run.first_place) + plane.bytes_of(run.rows);
        if runs.len() > 1 {
            let mut ahead = ReadAhead::new();
            for run in &runs {
                ahead.add(extent.file, offset(run.first_place), plane.bytes_of(run.rows));
            }
            ahead.start(&table.files);
        }
        let file = &table.files[extent.file];
        let mut rest = runs.as_slice();
        while let Some(first) = rest.first() {
            let start = offset(first.first_place);
            // Of a damaged order rows may lie in one another: those are read one by one.
            let near = |pair: &[Run]| {
                let gap = offset(pair[1].first_place).checked_sub(end(&pair[0]));
                gap.is_some_and(|gap| gap <= GAP) && end(&pair[1]) - start <= MOST
            };
            let count = 1 + rest.windows(2).take_while(|pair| near(pair)).count();
            let (together, after) = rest.split_at(count);
            rest = after;
            let last = together.last().unwrap_or(first);
            let at = |offset: u64| usize::try_from(offset - start).unwrap_or(usize::MAX);
            self.plane.resize(at(end(last)), 0);
            file.read_at(start, &mut self.plane)?;
            for run in together {
                let index = usize::try_from(run.first_id - rows.start).unwrap_or(usize::MAX);
                let lying = self.plane[at(offset(run.first_place))..].chunks(at(start + stride));
                let count = usize::try_from(run.rows).unwrap_or(usize::MAX);
                let own = self.bytes[index * row_bytes..].chunks_exact_mut(row_bytes);
                for (row, lying) in own.take(count).zip(lying) {
                    row.copy_from_slice(&lying[..row_bytes]);
                }
            }
        }
        Ok(())
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
            // With a stride of 0 every row finds the same bytes.
            for (index, row) in here.chunks_exact_mut(self.row_bytes).enumerate() {
                let at = index * stride;
                row[start..start + own].copy_from_slice(&self.plane[at..at + own]);
            }
        }
        Ok(())
    }
}
