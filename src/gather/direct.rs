//! Windows of rows that are read past the page cache, each while the one before is used.

use std::collections::VecDeque;
use std::ops::Range;

use super::ids::Id;
use super::rows::{BatchRows, View};
use super::window::Window;
use crate::codec::RowParts;
use crate::error::Result;
use crate::layout::Layout;
use crate::storage::{Direct, DirectReads, Filled, WINDOW_BYTES, WINDOW_STRETCHES};
use crate::table::Table;

/// The rows that are used between two looks at what has come meanwhile.
const UNSEEN: usize = 128;

/// Some rows of a batch, wherever in an arena they were read to.
pub(super) struct DirectWindow<'a> {
    layout: &'a Layout,
    view: View,
    /// The planes that rows lie in.
    planes: usize,
    /// The position of the first row in the batch.
    start: usize,
    filled: Filled,
}

impl BatchRows for DirectWindow<'_> {
    #[inline]
    fn row(&self, position: usize, id: u64) -> Option<RowParts<'_>> {
        if id >= self.layout.vocab {
            return None;
        }
        let mut stretch = position.checked_sub(self.start)? * self.planes;
        let mut short = false;
        let mut next = |bytes| {
            let bytes = self.filled.get(stretch, bytes);
            stretch += 1;
            short |= bytes.is_none();
            bytes.unwrap_or(&[])
        };
        let parts = match self.view {
            View::Parts => self.layout.parts_of(next),
            View::Encoded => {
                let mut of_planes = self
                    .layout
                    .planes()
                    .map(|plane| next(usize::try_from(plane.row_bytes()).unwrap_or(usize::MAX)));
                let mut part = || of_planes.next().unwrap_or(&[]);
                RowParts { values: part(), scales: part(), biases: part() }
            }
        };
        (!short).then_some(parts)
    }

    fn ask(&self, _id: u64) {}

    fn coming(&self, _id: u64) -> &[u8] {
        &[]
    }

    fn ahead(&self) -> usize {
        0
    }
}

impl Table {
    /// Reads the rows of checked ids past the page cache and hands them out in order, with
    /// their positions. An id that is no row's stands for padding, and is not read.
    pub(super) fn each_direct_window<I: Id>(
        &self,
        direct: &Direct,
        ids: &[I],
        view: View,
        mut take: impl FnMut(Range<usize>, &Window<'_>) -> Result<()>,
    ) -> Result<()> {
        let layout = &self.layout;
        let planes = layout.planes().count();
        let row_bytes = usize::try_from(self.row_bytes()).unwrap_or(usize::MAX);
        let rows = (WINDOW_BYTES / row_bytes.max(1)).clamp(1, WINDOW_STRETCHES / planes);
        let mut reads = DirectReads::new(&self.files, direct)?;
        let mut begun = VecDeque::new();
        let mut next = 0;
        loop {
            while next < ids.len()
                && reads.has_room()
                && (row_bytes <= WINDOW_BYTES || begun.is_empty())
            {
                let end = ids.len().min(next + rows);
                reads.begin(|wanted| {
                    for id in &ids[next..end] {
                        for plane in layout.planes() {
                            match plane.place(id.row()) {
                                Some(place) => {
                                    wanted.add(place.file, place.offset, plane.row_bytes());
                                }
                                None => wanted.skip(),
                            }
                        }
                    }
                })?;
                begun.push_back(next..end);
                next = end;
            }
            let Some(range) = begun.pop_front() else { return Ok(()) };
            let Some(filled) = reads.finish()? else { return Ok(()) };
            let window = DirectWindow { layout, view, planes, start: range.start, filled };
            let window = Window::Direct(window);
            let mut start = range.start;
            while start < range.end {
                let end = range.end.min(start + UNSEEN);
                take(start..end, &window)?;
                start = end;
                reads.pump()?;
            }
            if let Window::Direct(window) = window {
                reads.give_back(window.filled);
            }
        }
    }
}
