//! Rows of a table that is not in memory, read some at a time.

use std::ops::Range;

use super::direct::DirectWindow;
use super::ids::Id;
use super::rows::{BatchRows, View};
use crate::codec::RowParts;
use crate::error::Result;
use crate::layout::Layout;
use crate::table::Table;

/// The bytes of a window: few enough to stay in a cache until they are used.
const BYTES: usize = 256 << 10;

/// Some rows of a batch, as they were read.
pub(super) enum Window<'a> {
    /// One after the other.
    Read(ReadWindow<'a>),
    /// Past the page cache.
    Direct(DirectWindow<'a>),
}

impl BatchRows for Window<'_> {
    #[inline]
    fn row(&self, position: usize, id: u64) -> Option<RowParts<'_>> {
        match self {
            Window::Read(window) => window.row(position),
            Window::Direct(window) => window.row(position, id),
        }
    }

    fn ask(&self, _id: u64) {}

    fn coming(&self, _id: u64) -> &[u8] {
        &[]
    }

    fn ahead(&self) -> usize {
        0
    }
}

/// Some rows of a batch, as they were read into one piece of memory.
pub(super) struct ReadWindow<'a> {
    layout: &'a Layout,
    view: View,
    /// The position of the first row in the batch.
    start: usize,
    row_bytes: usize,
    bytes: Vec<u8>,
}

impl ReadWindow<'_> {
    #[inline]
    fn row(&self, position: usize) -> Option<RowParts<'_>> {
        let start = position.checked_sub(self.start)? * self.row_bytes;
        let row = self.bytes.get(start..start + self.row_bytes)?;
        Some(match self.view {
            View::Parts => self.layout.parts(row),
            View::Encoded => RowParts::of(row),
        })
    }
}

impl Table {
    /// Reads the rows of checked ids, in order, and hands them out with their positions. An
    /// id that is no row's stands for padding, and is not read.
    pub(super) fn each_window<I: Id>(
        &self,
        ids: &[I],
        view: View,
        mut take: impl FnMut(Range<usize>, &Window<'_>) -> Result<()>,
    ) -> Result<()> {
        if let Some(direct) = &self.direct {
            return self.each_direct_window(direct, ids, view, take);
        }
        let row_bytes = usize::try_from(self.row_bytes()).unwrap_or(usize::MAX);
        let rows = (BYTES / row_bytes.max(1)).clamp(1, ids.len().max(1));
        let bytes = vec![0; rows.saturating_mul(row_bytes)];
        let (layout, start) = (&self.layout, 0);
        let mut window = ReadWindow { layout, view, start, row_bytes, bytes };
        while window.start < ids.len() {
            let (start, end) = (window.start, ids.len().min(window.start + rows));
            let outs = window.bytes.chunks_exact_mut(row_bytes.max(1));
            for (id, out) in ids[start..end].iter().zip(outs) {
                self.read_row(id.row(), out)?;
            }
            let filled = Window::Read(window);
            take(start..end, &filled)?;
            let Window::Read(used) = filled else { return Ok(()) };
            window = ReadWindow { start: end, ..used };
        }
        Ok(())
    }

    /// Reads one encoded row, plane by plane.
    fn read_row(&self, id: u64, mut out: &mut [u8]) -> Result<()> {
        for plane in self.layout.planes() {
            let Some(place) = plane.place(id) else { return Ok(()) };
            let bytes = usize::try_from(plane.row_bytes()).unwrap_or(usize::MAX);
            let (row, rest) = out.split_at_mut(bytes.min(out.len()));
            self.files[place.file].read_at(place.offset, row)?;
            out = rest;
        }
        Ok(())
    }
}
