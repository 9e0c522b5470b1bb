//! Reading a file from one end to the other, never through a map that gathers use.

use super::file::StoredFile;
use crate::error::Result;

/// A sequential reading of a range of a file, in pieces of a constant size.
///
/// It is a lending iterator: each piece is valid until the next call.
pub(crate) struct Scan<'a> {
    file: &'a StoredFile,
    offset: u64,
    end: u64,
    buffer: Vec<u8>,
}

impl<'a> Scan<'a> {
    /// A scan of the bytes from `start` to `end`, in pieces of `piece` bytes; the last one
    /// may be shorter.
    pub(crate) fn new(file: &'a StoredFile, start: u64, end: u64, piece: usize) -> Self {
        Scan::reusing(file, start, end, piece, Vec::new())
    }

    /// As [`new`](Scan::new), with the buffer of an earlier scan.
    pub(crate) fn reusing(
        file: &'a StoredFile,
        start: u64,
        end: u64,
        piece: usize,
        mut buffer: Vec<u8>,
    ) -> Self {
        let piece = usize::try_from(end.saturating_sub(start)).unwrap_or(piece).min(piece);
        buffer.resize(piece, 0);
        Scan { file, offset: start, end, buffer }
    }

    /// The buffer, for another scan.
    pub(crate) fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }

    /// The next piece and its offset in the file, or `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<(u64, &[u8])>> {
        let left = self.end.saturating_sub(self.offset);
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
        if length == 0 {
            return Ok(None);
        }
        let offset = self.offset;
        let piece = &mut self.buffer[..length];
        self.file.read_at(offset, piece)?;
        self.offset += length as u64;
        Ok(Some((offset, piece)))
    }
}
