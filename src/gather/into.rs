//! The gathers: everything is checked, then one thread or several copy.

use super::ids::{Id, check_ids};
use super::options::{GatherOptions, kernels};
use super::pool::{self, Crew};
use super::rows::View;
use super::warm::Copying;
use crate::codec::{Codec, Decode, Decoder, Encoding, stream};
use crate::dtype::Output;
use crate::error::{Error, Result};
use crate::storage::zeros;
use crate::table::{Access, Table};

/// The bytes of a part, and the most parts for a thread.
const PART_BYTES: usize = 512 << 10;
const PARTS: usize = 8;

/// The bytes of output from which it is written past the caches, where several threads write:
/// more than a last-level cache keeps of it. At 12 MB it was 1.1 times as fast through the caches.
const STREAM_BYTES: usize = 24 << 20;

/// The bytes of an output row from which writing it past the caches pays. Measured: 1.3 times
/// as fast at 2,048 and at 8,192 bytes, but 0.7 times at 1,024 and 0.6 times at 512.
const STREAM_ROW_BYTES: usize = 2048;

impl Table {
    /// Gathers rows as `f32`, `f16` or `bf16`, whatever the table stores: row `ids[i]` goes
    /// to `out[i * dim..][..dim]`.
    ///
    /// Where the stored type is the asked one the bits are copied; else numbers are rounded
    /// once, to nearest. The result does not depend on the number of threads.
    ///
    /// # Errors
    ///
    /// [`Error::RowOutOfRange`] names the first id that is not below `vocab`,
    /// [`Error::OutputLength`] an output that is not `ids.len() * dim` long; nothing is
    /// written then. [`Error::Io`] and [`Error::FileChanged`] with [`Access::Read`], where
    /// the output is written in part.
    ///
    /// [`Access::Read`]: crate::Access::Read
    ///
    /// ```
    /// # fn main() -> Result<(), embmap::Error> {
    /// let table = embmap::Table::load("fixtures/minilm-2k")?;
    /// let mut out = vec![0f32; 3 * table.dim()];
    /// table.gather_into(&[391u32, 1009, 391], &mut out)?;
    /// assert_eq!(out[..384], out[768..]);
    ///
    /// let error = table.gather_into(&[0i64, -1], &mut out[..768]).unwrap_err();
    /// assert_eq!(
    ///     error.to_string(),
    ///     "id -1 at position 1 is out of range: the table has 2003 rows (valid ids are 0 to 2002)"
    /// );
    /// # Ok(())
    /// # }
    /// ```
    pub fn gather_into<I: Id, O: Output>(&self, ids: &[I], out: &mut [O]) -> Result<()> {
        self.gather_into_with(ids, out, &GatherOptions::new())
    }

    /// Gathers rows into a fresh `Vec` of `ids.len() * dim` elements.
    ///
    /// As [`gather_into`](Table::gather_into), with memory in large pages where the system
    /// has them: a large fresh output costs more to page in than to fill. An output that is
    /// used again costs nothing of the kind, so reuse one in a loop.
    ///
    /// # Errors
    ///
    /// As [`gather_into`](Table::gather_into), and [`Error::OutputMemory`] where there is not
    /// enough memory.
    ///
    /// ```
    /// # fn main() -> Result<(), embmap::Error> {
    /// let table = embmap::Table::load("fixtures/minilm-2k")?;
    /// let rows: Vec<f32> = table.gather(&[391u32, 1009])?;
    /// assert_eq!(rows.len(), 2 * table.dim());
    /// # Ok(())
    /// # }
    /// ```
    pub fn gather<I: Id, O: Output>(&self, ids: &[I]) -> Result<Vec<O>> {
        check_ids(ids, self.vocab())?;
        let bytes = (ids.len() as u128)
            .saturating_mul(self.dim() as u128)
            .saturating_mul(size_of::<O>() as u128);
        let length = ids.len().checked_mul(self.dim());
        let mut out = length.and_then(zeros).ok_or(Error::OutputMemory { bytes })?;
        self.gather_into(ids, &mut out)?;
        Ok(out)
    }

    /// [`gather_into`](Table::gather_into) with an output row stride or a number of threads.
    ///
    /// # Errors
    ///
    /// As [`gather_into`](Table::gather_into); [`Error::OutputStride`] where the stride is
    /// shorter than a row, [`Error::Threads`] where the threads cannot be started. With a
    /// stride the output holds at least `(ids.len() - 1) * stride + dim` elements.
    pub fn gather_into_with<I: Id, O: Output>(
        &self,
        ids: &[I],
        out: &mut [O],
        options: &GatherOptions,
    ) -> Result<()> {
        let encoding = self.encoding();
        let decoder = Decoder::of(encoding, kernels(options.portable));
        let plain = encoding == Encoding { dtype: O::DTYPE, codec: Codec::Plain };
        let streaming = plain.then(|| Decoder::new(encoding, stream));
        let copying = Copying {
            row: self.dim(),
            stride: options.row_stride.unwrap_or(self.dim()),
            view: View::Parts,
            decoder,
            copies: plain,
            fence: false,
        };
        self.gather_rows(ids, out, options, copying, streaming)
    }

    /// Gathers rows as they are encoded, without padding: row `ids[i]` goes to
    /// `out[i * row_bytes..][..row_bytes]`.
    ///
    /// # Errors
    ///
    /// As [`gather_into`](Table::gather_into).
    ///
    /// ```
    /// # fn main() -> Result<(), embmap::Error> {
    /// let table = embmap::Table::load("fixtures/minilm-2k")?;
    /// let mut out = vec![0; 2 * 768];
    /// table.gather_bytes_into(&[976u64, 629], &mut out)?;
    /// assert_eq!(&out[768..], table.encoded_row(629)?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn gather_bytes_into<I: Id>(&self, ids: &[I], out: &mut [u8]) -> Result<()> {
        self.gather_bytes_into_with(ids, out, &GatherOptions::new())
    }

    /// [`gather_bytes_into`](Table::gather_bytes_into) with an output row stride or a number
    /// of threads.
    ///
    /// # Errors
    ///
    /// As [`gather_into_with`](Table::gather_into_with).
    pub fn gather_bytes_into_with<I: Id>(
        &self,
        ids: &[I],
        out: &mut [u8],
        options: &GatherOptions,
    ) -> Result<()> {
        let row = usize::try_from(self.row_bytes()).unwrap_or(usize::MAX);
        let concatenate: Decode<u8> = |_, parts, out| {
            let (values, out) = out.split_at_mut(parts.values.len());
            let (scales, biases) = out.split_at_mut(parts.scales.len());
            values.copy_from_slice(parts.values);
            scales.copy_from_slice(parts.scales);
            biases.copy_from_slice(parts.biases);
        };
        let copying = Copying {
            row,
            stride: options.row_stride.unwrap_or(row),
            view: View::Encoded,
            decoder: Decoder::new(self.encoding(), concatenate),
            copies: true,
            fence: false,
        };
        self.gather_rows(ids, out, options, copying, None)
    }

    /// Checks everything, then copies by one thread or several. `streaming` is the decoder
    /// for large outputs.
    fn gather_rows<I: Id, O: bytemuck::Pod + Send>(
        &self,
        ids: &[I],
        out: &mut [O],
        options: &GatherOptions,
        copying: Copying<O>,
        streaming: Option<Decoder<O>>,
    ) -> Result<()> {
        check_ids(ids, self.vocab())?;
        let Copying { row, stride, .. } = copying;
        check_output(ids.len(), out.len(), row, stride, options.row_stride.is_some())?;
        let crew = self.crew(options.threads)?;
        match self.places_of(ids, None, crew)? {
            Some(places) => self.gather_checked(&places, out, crew, copying, streaming),
            None => self.gather_checked(ids, out, crew, copying, streaming),
        }
    }

    /// Copies rows by one thread or several.
    fn gather_checked<I: Id, O: bytemuck::Pod + Send>(
        &self,
        ids: &[I],
        out: &mut [O],
        crew: Crew,
        mut copying: Copying<O>,
        streaming: Option<Decoder<O>>,
    ) -> Result<()> {
        let Copying { row, stride, .. } = copying;
        let bytes = size_of_val(out);
        if ids.len() < 2 || !crew.pays_for(bytes)? {
            return self.gather_part(ids, out, copying);
        }
        let large = bytes >= STREAM_BYTES && row * size_of::<O>() >= STREAM_ROW_BYTES;
        if let Some(streaming) = streaming.filter(|_| large) {
            (copying.decoder, copying.copies, copying.fence) = (streaming, false, true);
        }
        let chunk = ids.len().div_ceil(self.parts(crew, bytes));
        let outs = out.chunks_mut(chunk.saturating_mul(stride).max(1));
        crew.work(ids.chunks(chunk).zip(outs).collect(), |(ids, out)| {
            self.gather_part(ids, out, copying)
        })
    }

    /// The threads for a call.
    pub(crate) fn crew(&self, of_call: Option<usize>) -> Result<Crew> {
        Ok(Crew { threads: pool::threads(of_call, self.threads)?, spin: self.spin })
    }

    /// The parts to divide work on so many bytes into: a few for each thread, so that those
    /// that start late do less. Rows that are read at each call want one run a thread.
    pub(super) fn parts(&self, crew: Crew, bytes: usize) -> usize {
        match self.access {
            Access::Map | Access::Memory => {
                (bytes / PART_BYTES).clamp(crew.threads, crew.threads.saturating_mul(PARTS))
            }
            Access::Read | Access::Direct => crew.threads,
        }
    }

    /// Copies one thread's part of a batch.
    fn gather_part<I: Id, O: bytemuck::Pod>(
        &self,
        ids: &[I],
        out: &mut [O],
        copying: Copying<O>,
    ) -> Result<()> {
        let mut rest = out;
        self.copy_by_plan(ids, |range| {
            let length = rest.len().min(range.len() * copying.stride);
            let (part, after) = std::mem::take(&mut rest).split_at_mut(length);
            rest = after;
            self.gather_chunk(ids, range, part, copying)
        })
    }
}

/// A dense output has exactly the elements of the rows; one with a stride has at least
/// those up to the end of the last row.
pub(super) fn check_output(
    rows: usize,
    got: usize,
    row: usize,
    stride: usize,
    strided: bool,
) -> Result<()> {
    if stride < row {
        return Err(Error::OutputStride { dim: row as u64, got: stride });
    }
    let before_last = (rows as u128).saturating_sub(1) * stride as u128;
    let expected = if rows == 0 { 0 } else { before_last + row as u128 };
    let fits = if strided { got as u128 >= expected } else { got as u128 == expected };
    if fits { Ok(()) } else { Err(Error::OutputLength { rows, row: stride, expected, got }) }
}
