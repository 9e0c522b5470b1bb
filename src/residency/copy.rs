//! Some rows of a table, in memory of their own.

use std::ops::RangeBounds;

use crate::checks::CheckPlan;
use crate::error::{Error, Result};
use crate::layout::{Extent, Layout, Plane};
use crate::storage::{Scan, StoredFile};
use crate::table::{Access, Patience, Table, TableInfo, TextSource, TokenSource};

/// The bytes that are read at once.
const PIECE: usize = 1 << 20;

impl Table {
    /// Copies a range of rows into memory of their own, in large pages where the system has
    /// them: a table of these rows alone, whose row 0 is the first of the range.
    ///
    /// For the rows that are used most, and for measuring against: gathers from memory in
    /// large pages are as fast as gathers are. Tokens do not come along.
    ///
    /// # Errors
    ///
    /// [`Error::RowOutOfRange`] where the range ends behind the last row,
    /// [`Error::OutOfMemory`] where there is not enough memory, [`Error::Io`] and
    /// [`Error::FileChanged`] where the rows cannot be read.
    ///
    /// ```
    /// # fn main() -> Result<(), embmap::Error> {
    /// let table = embmap::Table::load("fixtures/minilm-2k")?;
    /// let hot = table.copy_rows(1000..1010)?;
    /// assert_eq!(hot.vocab(), 10);
    /// assert_eq!(hot.encoded_row(7)?, table.encoded_row(1007)?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn copy_rows(&self, rows: impl RangeBounds<u64>) -> Result<Table> {
        let (start, end) = self.row_range(&rows)?;
        let rows = end.saturating_sub(start);
        let path = &self.info.path;
        let out_of_memory = || Error::OutOfMemory { path: path.clone(), bytes: u64::MAX };
        let stride = self.row_stride();
        let bytes = rows.checked_mul(stride).ok_or_else(out_of_memory)?;
        let file = StoredFile::filled(bytes, path, |copy| self.copy_into(copy, start, end))?;
        let extent = Extent { first: 0, rows, file: 0, offset: 0 };
        let values = Plane::new(self.row_bytes(), stride, vec![extent], &[bytes]);
        Ok(Table {
            files: vec![file],
            layout: Layout {
                vocab: rows,
                dim: self.dim(),
                values: values.ok_or_else(out_of_memory)?,
            },
            dtype: self.dtype,
            codec: self.codec,
            tokens: TokenSource::Nothing,
            tokenizer: TextSource::Nothing,
            metadata: TextSource::Nothing,
            checks: CheckPlan::default(),
            access: Access::Memory,
            threads: self.threads,
            temperature: self.temperature,
            patience: Patience::default(),
            budget: None,
            info: TableInfo {
                file_id: None,
                checksums: false,
                sections: Vec::new(),
                tokens_from: None,
                tokenizer: false,
                ..self.info.clone()
            },
        })
    }

    /// Copies rows, with what lies between them, in the order of the file.
    fn copy_into(&self, copy: &mut [u8], start: u64, end: u64) -> Result<()> {
        let stride = usize::try_from(self.row_stride()).unwrap_or(usize::MAX);
        let mut at = 0usize;
        for (file, stretch) in self.stretches(start, end) {
            let mut scan = Scan::new(file, stretch.offset, stretch.end(), PIECE);
            while let Some((offset, piece)) = scan.next()? {
                let place = at + usize::try_from(offset - stretch.offset).unwrap_or(usize::MAX);
                copy[place..place + piece.len()].copy_from_slice(piece);
            }
            // The last row of a run may lack its padding.
            let bytes = usize::try_from(stretch.bytes).unwrap_or(usize::MAX);
            at += bytes.next_multiple_of(stride.max(1));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::{OpenOptions, Table};

    #[test]
    fn copied_rows_are_the_rows() {
        let own = ["fixtures/v1/f32.emb", "fixtures/v1/bf16-align64.emb", "fixtures/v1/f64.emb"];
        for path in own.into_iter().chain(["fixtures/minilm-2k", "fixtures/sharded"]) {
            let read = OpenOptions::new().open(path).unwrap();
            let table = Table::load(path).unwrap();
            let vocab = table.vocab();
            for (start, end) in [(0, vocab), (1, vocab - 1), (vocab / 2, vocab), (1, 1)] {
                let copy = read.copy_rows(start..end).unwrap();
                assert_eq!(copy.vocab(), end - start);
                for id in start..end {
                    assert_eq!(
                        copy.encoded_row(id - start).unwrap(),
                        table.encoded_row(id).unwrap()
                    );
                }
            }
            assert!(read.copy_rows(..=vocab).is_err());
        }
    }
}
