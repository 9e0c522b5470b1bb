//! The rows that are exported, some at a time, as the numbers that are written.

use std::ops::{ControlFlow, Range};

use crate::convert::Recoding;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::table::Table;

/// The bytes read at once; rounded down to whole rows, and at least one row.
const PIECE: usize = 4 << 20;

/// Told the rows written and the rows to write; says whether to go on.
pub(super) type Progress<'a> = &'a mut dyn FnMut(u64, u64) -> ControlFlow<()>;

/// Rows that follow each other, as plain numbers without padding.
pub(super) struct Piece<'a> {
    pub(super) count: usize,
    pub(super) bytes: &'a [u8],
}

impl<'a> Piece<'a> {
    /// The bytes of a row.
    pub(super) fn row_bytes(&self) -> usize {
        (self.bytes.len() / self.count.max(1)).max(1)
    }

    /// The numbers of each row.
    pub(super) fn rows(&self) -> impl Iterator<Item = &'a [u8]> {
        self.bytes.chunks_exact(self.row_bytes())
    }
}

/// Hands each piece of a range of rows to `take`, as numbers of a type.
pub(super) fn each_piece(
    table: &Table,
    rows: &Range<u64>,
    dtype: DType,
    progress: Progress<'_>,
    mut take: impl FnMut(Piece<'_>) -> Result<()>,
) -> Result<()> {
    let mut recoding = Recoding::new(table, dtype)?;
    let row_bytes = usize::try_from(table.row_bytes()).unwrap_or(usize::MAX);
    let mut scan = table.scan_rows(rows.clone(), PIECE);
    while let Some(piece) = scan.next()? {
        let count = piece.bytes.len() / row_bytes.max(1);
        let bytes = recoding.encode(piece.first, piece.bytes, row_bytes)?;
        take(Piece { count, bytes })?;
        let done = piece.first + count as u64 - rows.start;
        if progress(done, rows.end - rows.start).is_break() {
            return Err(Error::Interrupted);
        }
    }
    table.check_alive()
}
