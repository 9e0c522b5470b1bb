//! Some rows of a table, in memory of their own.

use std::ops::{Range, RangeBounds};

use crate::checks::CheckPlan;
use crate::error::{Error, Result};
use crate::layout::{Extent, Layout, Part, Plane};
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
    /// let hot = table.load_rows(1000..1010)?;
    /// assert_eq!(hot.vocab(), 10);
    /// assert_eq!(hot.encoded_row(7)?, table.encoded_row(1007)?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn load_rows(&self, rows: impl RangeBounds<u64>) -> Result<Table> {
        let (start, end) = self.row_range(&rows)?;
        let rows = start..end.max(start);
        let Layout { dim, value_bytes, scales, biases, .. } = &self.layout;
        let mut files = Vec::new();
        let values = self.load_plane(&self.layout.values, &rows, &mut files)?;
        let mut part = |part: &Part| match part {
            Part::Apart(plane) => self.load_plane(plane, &rows, &mut files).map(Part::Apart),
            same => Ok(same.clone()),
        };
        let (scales, biases) = (part(scales)?, part(biases)?);
        let vocab = rows.end - rows.start;
        Ok(Table {
            files,
            order: None,
            layout: Layout { vocab, dim: *dim, values, value_bytes: *value_bytes, scales, biases },
            dtype: self.dtype,
            codec: self.codec,
            tokens: TokenSource::Nothing,
            tokenizer: TextSource::Nothing,
            metadata: TextSource::Nothing,
            norms: None,
            checks: CheckPlan::default(),
            access: Access::Memory,
            threads: self.threads,
            spin: self.spin,
            temperature: self.temperature,
            patience: Patience::default(),
            direct: None,
            budget: None,
            info: TableInfo {
                file_id: None,
                checksums: false,
                placed_rows: 0,
                sections: Vec::new(),
                tokens_from: None,
                tokenizer: false,
                ..self.info.clone()
            },
        })
    }

    /// Copies the rows of a plane, with what lies between them, as one more file in memory.
    fn load_plane(
        &self,
        plane: &Plane,
        rows: &Range<u64>,
        files: &mut Vec<StoredFile>,
    ) -> Result<Plane> {
        let path = &self.info.path;
        let out_of_memory = || Error::OutOfMemory { path: path.clone(), bytes: u64::MAX };
        let stride = plane.row_stride();
        let count = rows.end - rows.start;
        let bytes = count.checked_mul(stride).ok_or_else(out_of_memory)?;
        let copy_rows = |copy: &mut [u8]| {
            for found in self.plane_stretches(plane, rows.clone()) {
                let (first, source, stretch) = found?;
                let at = |offset: u64| {
                    let bytes = (first - rows.start) * stride + (offset - stretch.offset);
                    usize::try_from(bytes).unwrap_or(usize::MAX)
                };
                let mut scan = Scan::new(source, stretch.offset, stretch.end(), PIECE);
                while let Some((offset, piece)) = scan.next()? {
                    copy[at(offset)..][..piece.len()].copy_from_slice(piece);
                }
            }
            Ok(())
        };
        let file = files.len();
        files.push(StoredFile::filled(bytes, path, copy_rows)?);
        let extent = Extent { first: 0, rows: count, file, offset: 0 };
        let mut lengths = vec![0; file];
        lengths.push(bytes);
        Plane::new(plane.row_bytes(), stride, vec![extent], &lengths).ok_or_else(out_of_memory)
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
                let copy = read.load_rows(start..end).unwrap();
                assert_eq!(copy.vocab(), end - start);
                for id in start..end {
                    assert_eq!(
                        copy.encoded_row(id - start).unwrap(),
                        table.encoded_row(id).unwrap()
                    );
                }
            }
            assert!(read.load_rows(..=vocab).is_err());
        }
    }
}
