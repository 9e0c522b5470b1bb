//! Copying or decoding a run of rows on one thread.

use std::ops::Range;

use super::ids::Id;
use super::rows::{BatchRows, ResidentRows, View};
use crate::codec::{Decoder, stream_fence};
use crate::error::Result;
use crate::table::Table;

/// How rows come into an output.
pub(super) struct Copying<O> {
    /// The output elements that a row fills.
    pub(super) row: usize,
    /// The output elements from one row to the next.
    pub(super) stride: usize,
    /// The bytes that `decoder` is given of a row.
    pub(super) view: View,
    /// What makes output elements of them.
    pub(super) decoder: Decoder<O>,
    /// True where `decoder` streams past the caches.
    pub(super) fence: bool,
}

impl<O> Clone for Copying<O> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<O> Copy for Copying<O> {}

impl Table {
    /// Copies the rows at some positions of checked ids, in order, on this thread.
    pub(super) fn gather_chunk<I: Id, O: bytemuck::Pod>(
        &self,
        ids: &[I],
        range: Range<usize>,
        out: &mut [O],
        copying: Copying<O>,
    ) -> Result<()> {
        match ResidentRows::of(self, copying.view) {
            Some(ResidentRows::Together(rows)) => {
                self.copy_rows(&rows, ids, range, out, copying)?;
            }
            Some(ResidentRows::Parted(rows)) => {
                self.copy_rows(&rows, ids, range, out, copying)?;
            }
            None => {
                let (mut rest, ids) = (out, &ids[range]);
                self.each_window(ids, copying.view, |range, rows| {
                    let length = rest.len().min(range.len() * copying.stride);
                    let (part, after) = std::mem::take(&mut rest).split_at_mut(length);
                    rest = after;
                    self.copy_rows(rows, ids, range, part, copying)
                })?;
            }
        }
        if copying.fence {
            stream_fence();
        }
        Ok(())
    }

    /// Copies the rows at some positions of `ids`.
    fn copy_rows<I: Id, O: bytemuck::Pod>(
        &self,
        rows: &impl BatchRows,
        ids: &[I],
        range: Range<usize>,
        out: &mut [O],
        copying: Copying<O>,
    ) -> Result<()> {
        let Copying { row, stride, decoder, .. } = copying;
        let ahead = rows.ahead();
        let ask = |position: usize| {
            if let Some(id) = ids.get(position) {
                rows.ask(id.row());
            }
        };
        // Whoever copied the rows before these has asked for the first of them.
        if range.start == 0 {
            range.clone().take(ahead).for_each(ask);
        }
        let outs = out.chunks_mut(stride.max(1)).map(|out| &mut out[..row]);
        for (position, out) in range.zip(outs) {
            ask(position + ahead);
            let id = ids[position].row();
            let parts = rows.row(position, id).ok_or_else(|| self.out_of_range(id, None))?;
            decoder.decode(parts, out);
        }
        Ok(())
    }
}
