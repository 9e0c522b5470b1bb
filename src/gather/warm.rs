//! Copying or decoding a run of rows on one thread.

use std::ops::Range;

use super::ids::Id;
use super::rows::{BatchRows, ResidentRows, View};
use crate::codec::{Decoder, RowParts, stream_fence};
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
    /// True where all that `decoder` does to a row in one piece is to copy it.
    pub(super) copies: bool,
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
        let decode = |parts: RowParts<'_>, out: &mut [O]| copying.decoder.decode(parts, out);
        match ResidentRows::of(self, copying.view) {
            Some(ResidentRows::Run(rows)) if copying.copies => {
                // As the decoder would, but without a call.
                let copy = |parts: RowParts<'_>, out: &mut [O]| {
                    bytemuck::cast_slice_mut(out).copy_from_slice(parts.values);
                };
                self.copy_rows(&rows, ids, range, out, copying, copy)?;
            }
            Some(ResidentRows::Run(rows)) => {
                self.copy_rows(&rows, ids, range, out, copying, decode)?;
            }
            Some(ResidentRows::Together(rows)) => {
                self.copy_rows(&rows, ids, range, out, copying, decode)?;
            }
            Some(ResidentRows::Parted(rows)) => {
                self.copy_rows(&rows, ids, range, out, copying, decode)?;
            }
            None => {
                let (mut rest, ids) = (out, &ids[range]);
                self.each_window(ids, copying.view, |range, rows| {
                    let length = rest.len().min(range.len() * copying.stride);
                    let (part, after) = std::mem::take(&mut rest).split_at_mut(length);
                    rest = after;
                    self.copy_rows(rows, ids, range, part, copying, decode)
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
        decode: impl Fn(RowParts<'_>, &mut [O]),
    ) -> Result<()> {
        let Copying { row, stride, .. } = copying;
        let ahead = rows.ahead();
        // Whoever copied the rows before these has asked for the first of them.
        if range.start == 0 {
            ids[range.clone()].iter().take(ahead).for_each(|id| rows.ask(id.row()));
        }
        let coming = ids.get(range.start + ahead..).unwrap_or(&[]);
        let outs = out.chunks_mut(stride.max(1)).map(|out| &mut out[..row]);
        for ((index, id), out) in ids[range.clone()].iter().enumerate().zip(outs) {
            if let Some(id) = coming.get(index) {
                rows.ask(id.row());
            }
            let id = id.row();
            let Some(parts) = rows.row(range.start + index, id) else {
                return Err(self.out_of_range(id, None));
            };
            decode(parts, out);
        }
        Ok(())
    }
}
