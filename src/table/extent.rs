//! Runs of rows, as they lie.

use std::ops::Range;

use super::Table;
use crate::error::{Error, Result};

impl Table {
    /// The run of rows that a row lies in, zero-copy: the ids of the run, and its bytes from
    /// the first row's start to the last row's end, [`row_stride`](Table::row_stride) apart.
    ///
    /// For handing whole tables to other libraries, which know arrays of a stride. A table
    /// that lies in one piece is one run; one spread over shards is several, and the id behind
    /// a run is in the next one.
    ///
    /// # Errors
    ///
    /// As [`encoded_row`](Table::encoded_row); [`Error::RowsOrdered`] where rows lie in an order
    /// of their own.
    ///
    /// ```
    /// # fn main() -> Result<(), embmap::Error> {
    /// # let table = embmap::Table::load("fixtures/minilm-2k")?;
    /// let (ids, bytes) = table.encoded_extent(7)?;
    /// assert_eq!(ids, 0..2003);
    /// assert_eq!(&bytes[7 * 768..8 * 768], table.encoded_row(7)?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn encoded_extent(&self, id: u64) -> Result<(Range<u64>, &[u8])> {
        if !self.layout.is_together() {
            return Err(Error::RowApart);
        }
        if self.order.is_some() {
            return Err(Error::RowsOrdered);
        }
        let plane = &self.layout.values;
        let extents = plane.extents();
        let after = extents.partition_point(|extent| extent.first <= id);
        let extent = after.checked_sub(1).map(|index| &extents[index]);
        let extent = extent.filter(|extent| id - extent.first < extent.rows);
        let Some(extent) = extent else {
            return Err(Error::RowOutOfRange {
                id: id.into(),
                position: None,
                vocab: self.vocab(),
            });
        };
        let bytes = plane.extent_bytes(extent);
        let bytes = self.resident(extent.file, extent.offset, bytes, "encoded_extent")?;
        Ok((extent.first..extent.first + extent.rows, bytes))
    }
}

#[cfg(test)]
mod tests {
    use crate::{Access, Error, OpenOptions, Table};

    #[test]
    fn runs_follow_each_other_and_hold_every_row() {
        for (path, runs) in [("fixtures/minilm-2k", 1), ("fixtures/v1/bf16-align64.emb", 1)] {
            let table = Table::load(path).unwrap();
            let stride = usize::try_from(table.row_stride()).unwrap();
            let (mut next, mut found) = (0, 0);
            while next < table.vocab() {
                let (ids, bytes) = table.encoded_extent(next).unwrap();
                assert_eq!(ids.start, next);
                let rows = bytes.chunks(stride);
                assert_eq!(rows.len() as u64, ids.end - ids.start);
                for (id, row) in ids.clone().zip(rows) {
                    let expected = table.encoded_row(id).unwrap();
                    assert_eq!(&row[..expected.len()], expected);
                }
                (next, found) = (ids.end, found + 1);
            }
            assert_eq!(found, runs, "{path}");
        }
    }

    #[test]
    fn ids_and_tables_without_a_run_are_refused() {
        let table = Table::load("fixtures/minilm-2k").unwrap();
        assert!(matches!(table.encoded_extent(2003), Err(Error::RowOutOfRange { id: 2003, .. })));
        assert!(table.encoded_extent(u64::MAX).is_err());
        let options = OpenOptions::new().access(Access::Read);
        let table = options.open("fixtures/minilm-2k").unwrap();
        assert!(matches!(table.encoded_extent(0), Err(Error::NotMapped { .. })));
    }
}
