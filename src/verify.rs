//! Reading all of a table and checking everything that its file promises.

use std::ops::{ControlFlow, Range};

use byteorder::{ByteOrder, LittleEndian};

use crate::checks::{BLOCK_BYTES, BlockSums, SectionSum, block_sum};
use crate::codec::count_non_finite;
use crate::error::{Error, FormatError, Result};
use crate::layout::Extent;
use crate::order::verify_order;
use crate::storage::{Scan, StoredFile, Stretch};
use crate::table::Table;
use crate::tokens::verify_tokens;

mod norms;
mod numbers;
mod rows;

use rows::RowChecks;

/// The bytes read at once: whole blocks, and a multiple of every element's size.
const PIECE: usize = 16 * BLOCK_BYTES as usize;

/// The most findings that are kept; all are counted.
const MOST_DAMAGE: usize = 1000;

/// What [`Table::verify`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verification {
    /// Bytes read.
    pub bytes: u64,
    /// Blocks whose sum was compared; 0 for a file without block sums.
    pub blocks: u64,
    /// Elements that are NaN. Not damage: they are kept bit for bit.
    pub nan: u64,
    /// Elements that are infinite. Not damage either.
    pub infinite: u64,
    /// The first row with a NaN or an infinity.
    pub first_non_finite_row: Option<u64>,
    /// What is wrong, the first thousand findings.
    pub damage: Vec<Damage>,
    /// How many findings there are.
    pub damage_count: u64,
}

impl Verification {
    /// True where nothing is wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.damage_count == 0
    }

    fn add(&mut self, damage: Damage) {
        self.damage_count += 1;
        if self.damage.len() < MOST_DAMAGE {
            self.damage.push(damage);
        }
    }
}

/// One thing that is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Damage {
    /// A block that does not match its sum.
    Block {
        /// The block, counted from the start of the rows.
        block: u64,
        /// Where it starts in the file.
        offset: u64,
        /// Its length in bytes.
        bytes: u64,
        /// The rows that lie in it, in whole or in part; empty beyond the rows. Their places,
        /// where rows lie in an order of their own.
        rows: Range<u64>,
        /// The sum recorded.
        expected: u64,
        /// The sum of the block as read.
        found: u64,
    },
    /// A rule of the format that is broken.
    Format(FormatError),
}

impl Table {
    /// Reads the whole table and checks all that can be checked: every block and section
    /// sum, the token sections, the padding; and counts NaNs and infinities.
    ///
    /// Damage is a finding, not an error; see [`Verification::is_sound`]. The files of a
    /// mapped table are read through their descriptors, so a file that was cut is an error
    /// here and not a signal.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, or that was cut or written to since it was opened.
    ///
    /// ```
    /// # fn main() -> Result<(), embmap::Error> {
    /// let table = embmap::Table::load("fixtures/minilm-2k")?;
    /// let found = table.verify()?;
    /// assert!(found.is_sound());
    /// assert_eq!((found.nan, found.infinite), (0, 0));
    /// # Ok(())
    /// # }
    /// ```
    pub fn verify(&self) -> Result<Verification> {
        self.verify_with(|_, _| ControlFlow::Continue(()))
    }

    /// [`verify`](Table::verify), telling `progress` the bytes read and the bytes to read.
    ///
    /// # Errors
    ///
    /// As [`verify`](Table::verify); [`Error::Interrupted`] where `progress` breaks off.
    pub fn verify_with(
        &self,
        mut progress: impl FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<Verification> {
        self.check_alive()?;
        let mut found = Verification::default();
        let plane = &self.layout.values;
        let rows: u64 = plane.extents().iter().map(|extent| plane.extent_bytes(extent)).sum();
        let mut checks = RowChecks::of(self);
        match self.checks.blocks {
            Some(blocks) => {
                self.verify_blocks(blocks, checks.as_mut(), &mut found, &mut progress)?;
            }
            None if checks.is_some() => {
                let mut scan = self.scan_places(0..self.vocab(), PIECE);
                while let (Some(piece), Some(checks)) = (scan.next()?, &mut checks) {
                    found.bytes += piece.bytes.len() as u64;
                    checks.apply(piece.first, piece.bytes, &mut found);
                    if progress(found.bytes, self.vocab() * self.row_bytes()).is_break() {
                        return Err(Error::Interrupted);
                    }
                }
            }
            None => {
                for extent in plane.extents() {
                    let bytes =
                        Stretch { offset: extent.offset, bytes: plane.extent_bytes(extent) };
                    let mut scan = scan(&self.files[extent.file], bytes);
                    while let Some((offset, piece)) = scan.next()? {
                        found.bytes += piece.len() as u64;
                        self.count_plain(extent, offset, piece, &mut found);
                        if progress(found.bytes, rows).is_break() {
                            return Err(Error::Interrupted);
                        }
                    }
                }
            }
        }
        checks.map_or(Ok(()), RowChecks::finish)?;
        // What was found there is the place of a row.
        if let Some(place) = found.first_non_finite_row {
            found.first_non_finite_row = Some(self.id_at(place));
        }
        self.verify_sections(&mut found)?;
        self.verify_order(&mut found)?;
        match self.token_sections()?.map(verify_tokens) {
            Some(Err(Error::Format { source, .. })) => found.add(Damage::Format(source)),
            Some(Err(error)) => return Err(error),
            Some(Ok(())) | None => {}
        }
        self.verify_texts(&mut found)?;
        self.check_alive()?;
        Ok(found)
    }

    /// The order of the rows is one: each has a place of its own.
    fn verify_order(&self, found: &mut Verification) -> Result<()> {
        let Some((order, file)) = self.order.as_ref().zip(self.files.first()) else {
            return Ok(());
        };
        match verify_order(file, order.section, order.shape) {
            Err(Error::Format { source, .. }) => found.add(Damage::Format(source)),
            other => return other,
        }
        Ok(())
    }

    /// The metadata is one JSON object, the tokenizer UTF-8.
    fn verify_texts(&self, found: &mut Verification) -> Result<()> {
        match self.metadata() {
            Err(Error::Format { source, .. }) => found.add(Damage::Format(source)),
            Err(error) => return Err(error),
            Ok(None) => {}
            Ok(Some(text)) => {
                let parsed =
                    serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&text);
                if let Err(error) = parsed {
                    let reason = error.to_string();
                    found.add(Damage::Format(FormatError::Metadata { reason }));
                }
            }
        }
        match self.tokenizer_json() {
            Err(Error::Format { source, .. }) => found.add(Damage::Format(source)),
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        Ok(())
    }

    /// One pass over everything that block sums cover, rows included.
    fn verify_blocks(
        &self,
        blocks: BlockSums,
        mut checks: Option<&mut RowChecks<'_>>,
        found: &mut Verification,
        progress: &mut impl FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<()> {
        let Some((file, extent)) = self.files.first().zip(self.layout.values.extents().first())
        else {
            return Ok(());
        };
        let block_bytes = u64::from(BLOCK_BYTES);
        let mut covered = scan(file, blocks.covered);
        while let Some((offset, piece)) = covered.next()? {
            found.bytes += piece.len() as u64;
            let first = (offset - blocks.covered.offset) / block_bytes;
            let count = piece.len().div_ceil(BLOCK_BYTES as usize) as u64;
            let sums = file.bytes_at(blocks.sums.offset + first * 8, count * 8)?;
            let recorded = sums.chunks_exact(8).map(LittleEndian::read_u64);
            for ((block, bytes), expected) in
                (first..).zip(piece.chunks(BLOCK_BYTES as usize)).zip(recorded)
            {
                found.blocks += 1;
                let sum = block_sum(self.checks.seed, block, bytes);
                if sum != expected {
                    let offset = blocks.covered.offset + block * block_bytes;
                    let bytes = bytes.len() as u64;
                    let rows = self.rows_within(extent, offset, bytes);
                    found.add(Damage::Block { block, offset, bytes, rows, expected, found: sum });
                }
            }
            let rows = self.inspect_padding(extent, offset, piece, found);
            match &mut checks {
                Some(checks) => checks.apply_lying(offset - extent.offset, rows, found),
                None => self.count_plain(extent, offset, rows, found),
            }
            if progress(found.bytes, blocks.covered.bytes).is_break() {
                return Err(Error::Interrupted);
            }
        }
        Ok(())
    }

    /// Section sums, and the bytes that must be zero.
    fn verify_sections(&self, found: &mut Verification) -> Result<()> {
        let Some(file) = self.files.first() else { return Ok(()) };
        for section in &self.checks.sections {
            let mut sum = SectionSum::new(self.checks.seed);
            let mut scan = scan(file, section.stretch);
            while let Some((_, piece)) = scan.next()? {
                sum.update(piece);
            }
            if sum.finish() != section.sum {
                let (index, expected) = (section.index, section.sum);
                let source = FormatError::SectionSum { index, expected, found: sum.finish() };
                found.add(Damage::Format(source));
            }
        }
        for zeros in &self.checks.zeros {
            let mut scan = scan(file, *zeros);
            while let Some((offset, piece)) = scan.next()? {
                if let Some(at) = piece.iter().position(|byte| *byte != 0) {
                    let offset = offset + at as u64;
                    found.add(Damage::Format(FormatError::Reserved { offset }));
                    break;
                }
            }
        }
        Ok(())
    }

    /// Counts the non-finite elements of plain rows in a piece of the file.
    fn count_plain(&self, extent: &Extent, offset: u64, rows: &[u8], found: &mut Verification) {
        // Zero padding adds nothing to the counts, so padded rows need no walk of their own.
        let (nan, infinite) = count_non_finite(self.dtype, rows);
        found.nan += nan;
        found.infinite += infinite;
        if found.first_non_finite_row.is_none() && nan + infinite > 0 {
            let element = self.dtype.block_bytes();
            let first = rows
                .chunks_exact(element)
                .position(|bytes| count_non_finite(self.dtype, bytes) != (0, 0));
            let at = offset - extent.offset + (first.unwrap_or(0) * element) as u64;
            found.first_non_finite_row = Some(extent.first + at / self.row_stride());
        }
    }

    /// Finds padding that is not zero in a piece of the file, and gives the rows that lie in it.
    fn inspect_padding<'a>(
        &self,
        extent: &Extent,
        offset: u64,
        piece: &'a [u8],
        found: &mut Verification,
    ) -> &'a [u8] {
        let end = extent.offset + self.layout.values.extent_bytes(extent);
        let rows = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX);
        let piece = &piece[..piece.len().min(rows)];
        let (row_bytes, stride) = (self.row_bytes(), self.row_stride());
        if stride > row_bytes {
            let mut at = 0;
            while at < piece.len() as u64 {
                let in_row = (offset - extent.offset + at) % stride;
                let next = (at + stride - in_row).min(piece.len() as u64);
                let padding = at + row_bytes.saturating_sub(in_row);
                let bytes = (padding.min(next)..next).zip(as_range(piece, padding.min(next), next));
                for (at, byte) in bytes {
                    if *byte != 0 {
                        let offset = offset + at;
                        found.add(Damage::Format(FormatError::Reserved { offset }));
                        break;
                    }
                }
                at = next;
            }
        }
        piece
    }

    /// The rows that lie, in whole or in part, in a stretch of the file.
    fn rows_within(&self, extent: &Extent, offset: u64, bytes: u64) -> Range<u64> {
        let stride = self.row_stride();
        let first = (offset.saturating_sub(extent.offset) / stride).min(extent.rows);
        let end = (offset + bytes).saturating_sub(extent.offset).div_ceil(stride).min(extent.rows);
        extent.first + first..extent.first + end
    }
}

fn scan(file: &StoredFile, stretch: Stretch) -> Scan<'_> {
    Scan::new(file, stretch.offset, stretch.end(), PIECE)
}

fn as_range(piece: &[u8], start: u64, end: u64) -> &[u8] {
    let place = |at| usize::try_from(at).unwrap_or(usize::MAX);
    &piece[place(start)..place(end)]
}
