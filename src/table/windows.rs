//! Rows as they lie, for several threads: windows of them, each read by one.
//!
//! A window that is in memory is handed out as it lies. Of a mapped file that is so where the
//! page cache holds all of it; what is not there is read in order through the descriptor, so
//! that no touch of the map waits for a device one page at a time.

use std::ops::Range;

use super::Table;
use crate::codec::RowParts;
use crate::error::Result;
use crate::layout::{Layout, Part, Plane};
use crate::storage::ReadAhead;

/// The bytes of a window: so many that taking one costs nothing beside it.
const WINDOW: u64 = 4 << 20;

/// The bytes that are read at once: few enough to stay in a core's own cache until they are used.
const PIECE: u64 = 256 << 10;

/// The bytes of a map that scans leave in the page tables where no budget is set, so that the next
/// scan finds them there; of what lies behind these, each window is let go once it was used.
const KEPT: u64 = 4 << 30;

/// Cuts a range of rows into windows; none crosses from one extent of a plane to another.
pub(crate) struct RowWindows<'a> {
    layout: &'a Layout,
    rows: Range<u64>,
    /// The most rows of one.
    most: u64,
}

impl RowWindows<'_> {
    /// Leaves out what is left.
    pub(crate) fn stop(&mut self) {
        self.rows.start = self.rows.end;
    }
}

impl Iterator for RowWindows<'_> {
    type Item = Range<u64>;

    fn next(&mut self) -> Option<Range<u64>> {
        let first = self.rows.start;
        if first >= self.rows.end {
            return None;
        }
        let left = self.layout.planes().filter_map(|plane| plane.rows_from(first));
        let most = left.fold(self.most, u64::min).max(1);
        self.rows.start = self.rows.end.min(first.saturating_add(most));
        Some(first..self.rows.start)
    }
}

/// Rows that follow each other, wherever their bytes are.
pub(crate) struct WindowRows<'a> {
    layout: &'a Layout,
    /// The place of the first: its id, unless rows are in an order of their own.
    pub(crate) first: u64,
    /// How many there are.
    pub(crate) count: usize,
    planes: [PlaneBytes<'a>; 3],
    /// True where rows are values and nothing else.
    plain: bool,
}

/// The bytes of one plane, from the start of the first row to the end of the last.
#[derive(Default, Clone, Copy)]
struct PlaneBytes<'a> {
    bytes: &'a [u8],
    stride: usize,
    row: usize,
}

impl<'a> PlaneBytes<'a> {
    #[inline]
    fn row(&self, index: usize) -> &'a [u8] {
        let start = index * self.stride;
        &self.bytes[start..start + self.row]
    }
}

impl<'a> WindowRows<'a> {
    /// The row at an index among these.
    #[inline]
    pub(crate) fn row(&self, index: usize) -> RowParts<'a> {
        if self.plain {
            return RowParts::of(self.planes[0].row(index));
        }
        let mut planes = self.planes.iter();
        self.layout.parts_of(|_| planes.next().map_or(&[], |plane| plane.row(index)))
    }
}

/// What reads windows on one thread.
pub(crate) struct WindowReader<'a> {
    table: &'a Table,
    /// The windows that are read at the same time.
    threads: u64,
    /// Where planes are read to.
    buffers: [Vec<u8>; 3],
}

impl Table {
    /// Windows over a range of places that there are.
    pub(crate) fn row_windows(&self, rows: Range<u64>) -> RowWindows<'_> {
        RowWindows { layout: &self.layout, rows, most: self.rows_in(WINDOW) }
    }

    /// One of `threads` readers of windows.
    pub(crate) fn window_reader(&self, threads: usize) -> WindowReader<'_> {
        WindowReader { table: self, threads: threads as u64, buffers: Default::default() }
    }

    /// The rows that about so many bytes hold, at least one.
    fn rows_in(&self, bytes: u64) -> u64 {
        let strides = self.layout.planes().map(Plane::row_stride);
        let row = strides.fold(0, u64::saturating_add).max(1);
        (bytes / row).max(1)
    }

    /// Rows of one extent of each plane, whose bytes `find` gives by the plane's number; `None`
    /// where it does not give all.
    fn rows_of<'a>(
        &'a self,
        rows: &Range<u64>,
        mut find: impl FnMut(usize, &Plane) -> Result<Option<&'a [u8]>>,
    ) -> Result<Option<WindowRows<'a>>> {
        let layout = &self.layout;
        let mut planes = [PlaneBytes::default(); 3];
        for (index, plane) in layout.planes().enumerate() {
            let Some(bytes) = find(index, plane)? else { return Ok(None) };
            let size = |bytes| usize::try_from(bytes).unwrap_or(usize::MAX);
            let (stride, row) = (size(plane.row_stride()), size(plane.row_bytes()));
            planes[index] = PlaneBytes { bytes, stride, row };
        }
        let plain = (&layout.scales, &layout.biases) == (&Part::Absent, &Part::Absent);
        let count = usize::try_from(rows.end - rows.start).unwrap_or(usize::MAX);
        Ok(Some(WindowRows { layout, first: rows.start, count, planes, plain }))
    }
}

impl WindowReader<'_> {
    /// Hands the rows of a window to `each`, in order and some at a time, until it fails.
    pub(crate) fn read(
        &mut self,
        window: Range<u64>,
        mut each: impl FnMut(&WindowRows<'_>) -> Result<()>,
    ) -> Result<()> {
        let table = self.table;
        let in_memory = table.rows_of(&window, |_, plane| {
            let Some(place) = plane.place(window.start) else { return Ok(None) };
            let bytes = plane.bytes_of(window.end - window.start);
            table.files[place.file].cached_slice(place.offset, bytes)
        })?;
        if let Some(rows) = in_memory {
            each(&rows)?;
            return self.let_go(&window);
        }
        self.ask_for_the_next(&window);
        let most = table.rows_in(PIECE);
        let mut first = window.start;
        while first < window.end {
            let rows = first..window.end.min(first.saturating_add(most));
            for (plane, buffer) in table.layout.planes().zip(&mut self.buffers) {
                let Some(place) = plane.place(first) else { continue };
                let bytes = plane.bytes_of(rows.end - rows.start);
                buffer.resize(usize::try_from(bytes).unwrap_or(usize::MAX), 0);
                table.files[place.file].read_at(place.offset, buffer)?;
            }
            first = rows.end;
            let buffers = &self.buffers;
            let rows = table.rows_of(&rows, |index, _| Ok(Some(buffers[index].as_slice())))?;
            if let Some(rows) = rows {
                each(&rows)?;
            }
        }
        Ok(())
    }

    /// Starts reading the window that this thread will probably be given next.
    fn ask_for_the_next(&self, window: &Range<u64>) {
        let rows = window.end - window.start;
        let first = window.start.saturating_add(rows.saturating_mul(self.threads));
        let mut ahead = ReadAhead::new();
        for plane in self.table.layout.planes() {
            if let (Some(place), Some(left)) = (plane.place(first), plane.rows_from(first)) {
                ahead.add(place.file, place.offset, plane.bytes_of(rows.min(left)));
            }
        }
        ahead.start(&self.table.files);
    }

    /// Takes a window of a map out of the page tables again, beyond those that stay there.
    fn let_go(&self, window: &Range<u64>) -> Result<()> {
        let table = self.table;
        let kept = table.budget.as_ref().map_or(KEPT, |budget| budget.limit / 2);
        if window.end <= kept / table.layout.row_bytes().max(1) {
            return Ok(());
        }
        for plane in table.layout.planes().filter(|plane| plane.row_stride() > 0) {
            if let Some(place) = plane.place(window.start) {
                let bytes = plane.bytes_of(window.end - window.start);
                table.files[place.file].release_range(place.offset, bytes)?;
            }
        }
        Ok(())
    }
}
