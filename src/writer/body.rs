//! The bytes of the file in their order: rows, sections, sums, trailer, and last the header.

use std::io::{self, Write};
use std::sync::Arc;

use byteorder::{LittleEndian, WriteBytesExt};

use super::options::Sizes;
use super::spool::Spool;
use crate::checks::{BLOCK_BYTES, BlockSummer, SectionSum, seed_of};
use crate::format::{Header, ROWS_OFFSET, Section, SectionKind, align_up, encode_trailer};
use crate::publish::Temporary;

/// Zeros, to pad with.
static ZEROS: [u8; BLOCK_BYTES as usize] = [0; BLOCK_BYTES as usize];

const _: () = assert!(ZEROS.len() as u64 == ROWS_OFFSET);

/// The bytes summed and written at once: few enough to stay in the cache between the two.
const PIECE: usize = 1 << 20;

/// A file that grows at its end.
pub(super) struct Body {
    temporary: Temporary,
    file_id: [u8; 16],
    /// Bytes that are not written yet; they start at a whole number of blocks.
    buffer: Vec<u8>,
    /// What the buffer holds at most, a whole number of blocks.
    most: usize,
    /// Where the buffer's first byte goes.
    written: u64,
    /// The sums of the blocks so far, until they themselves are written.
    sums: Option<BlockSums>,
    sections: Vec<Section>,
}

struct BlockSums {
    summer: BlockSummer,
    spool: Spool,
    /// The sums that one write completed.
    completed: Vec<u64>,
}

impl Body {
    /// Starts a file with zeros up to the first row, so that nobody takes it for a table.
    pub(super) fn start(temporary: Temporary, file_id: [u8; 16], sizes: Sizes) -> io::Result<Self> {
        temporary.operations().write(temporary.file(), 0, &ZEROS)?;
        let directory = Arc::from(temporary.directory_path());
        let sums = BlockSums {
            summer: BlockSummer::new(seed_of(&file_id)),
            spool: Spool::new(temporary.operations(), &directory, sizes.spool),
            completed: Vec::new(),
        };
        Ok(Body {
            temporary,
            file_id,
            buffer: Vec::new(),
            most: sizes.buffer.next_multiple_of(BLOCK_BYTES as usize),
            written: ROWS_OFFSET,
            sums: Some(sums),
            sections: Vec::new(),
        })
    }

    pub(super) fn temporary(&self) -> &Temporary {
        &self.temporary
    }

    /// Adds bytes at the end of the file.
    pub(super) fn append(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        if bytes.len() < self.most {
            while bytes.len() >= self.most - self.buffer.len() {
                let (fits, rest) = bytes.split_at(self.most - self.buffer.len());
                self.buffer.extend_from_slice(fits);
                self.flush()?;
                bytes = rest;
            }
            self.buffer.extend_from_slice(bytes);
            return Ok(());
        }
        // Much at once goes out without a copy, but for the ends that are no whole blocks.
        let block = BLOCK_BYTES as usize;
        if !self.buffer.is_empty() {
            let gap = self.buffer.len().next_multiple_of(block) - self.buffer.len();
            let (fits, rest) = bytes.split_at(gap);
            self.buffer.extend_from_slice(fits);
            self.flush()?;
            bytes = rest;
        }
        let (whole, rest) = bytes.split_at(bytes.len() / block * block);
        self.write_out(whole)?;
        self.buffer.extend_from_slice(rest);
        Ok(())
    }

    /// Adds zeros at the end of the file.
    pub(super) fn append_zeros(&mut self, mut bytes: u64) -> io::Result<()> {
        while bytes > 0 {
            let zeros = usize::try_from(bytes).unwrap_or(usize::MAX).min(ZEROS.len());
            self.append(&ZEROS[..zeros])?;
            bytes -= zeros as u64;
        }
        Ok(())
    }

    /// Adds a section on the next boundary, from what `fill` writes.
    pub(super) fn section(
        &mut self,
        kind: SectionKind,
        fill: impl FnOnce(&mut SectionWriter<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        self.pad()?;
        let offset = self.end();
        let sum = SectionSum::new(seed_of(&self.file_id));
        let mut writer = SectionWriter { body: self, sum };
        fill(&mut writer)?;
        let sum = writer.sum.finish();
        let bytes = self.end() - offset;
        self.sections.push(Section { kind: kind.code(), offset, bytes, sum });
        Ok(())
    }

    /// Adds the block sums and the trailer, then the header page that makes it a table.
    ///
    /// `header` is complete but for the sections and the length.
    pub(super) fn finish(mut self, mut header: Header) -> io::Result<(Temporary, Header)> {
        self.pad()?;
        self.flush()?;
        if let Some(mut sums) = self.sums.take() {
            if let Some(last) = sums.summer.finish() {
                sums.spool.write_u64::<LittleEndian>(last)?;
            }
            self.section(SectionKind::BlockSums, |section| sums.spool.copy_to(section))?;
        }
        self.pad()?;
        let trailer_bytes = encode_trailer(0, &self.file_id).len() as u64;
        header.file_bytes = self.end() + trailer_bytes;
        self.append(&encode_trailer(header.file_bytes, &self.file_id))?;
        self.flush()?;
        header.sections = self.sections;
        let page = header.encode();
        self.temporary.operations().write(self.temporary.file(), 0, &page)?;
        Ok((self.temporary, header))
    }

    /// Where the next byte goes.
    fn end(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    fn pad(&mut self) -> io::Result<()> {
        let end = self.end();
        let boundary = align_up(end).ok_or(io::ErrorKind::FileTooLarge)?;
        self.append_zeros(boundary - end)
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let written = self.write_out(&buffer);
        buffer.clear();
        self.buffer = buffer;
        written
    }

    fn write_out(&mut self, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(PIECE) {
            if let Some(sums) = &mut self.sums {
                sums.summer.update(piece, |sum| sums.completed.push(sum));
                for sum in sums.completed.drain(..) {
                    sums.spool.write_u64::<LittleEndian>(sum)?;
                }
            }
            let temporary = &self.temporary;
            temporary.operations().write(temporary.file(), self.written, piece)?;
            self.written += piece.len() as u64;
        }
        Ok(())
    }
}

/// Writes a section's bytes, and sums them.
pub(super) struct SectionWriter<'a> {
    body: &'a mut Body,
    sum: SectionSum,
}

impl Write for SectionWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.sum.update(bytes);
        self.body.append(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
