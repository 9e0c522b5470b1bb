//! How many pages a row that is not in memory costs.

use super::Table;
use crate::layout::{Extent, Layout};

/// The pages that are counted. Systems with larger ones read no less.
const PAGE: u64 = 4096;

impl Table {
    /// The mean number of pages of 4,096 bytes that a row lies on, over all rows: what a
    /// gather of cold rows reads from the device for each. 0 for a table without rows.
    ///
    /// Where values, scales and biases lie apart, each of them has its pages. What all rows
    /// share is not counted.
    ///
    /// ```
    /// # fn main() -> Result<(), embmap::Error> {
    /// let table = embmap::Table::load("fixtures/minilm-2k")?;
    /// // Of rows of 768 bytes, one after the other, nearly a fifth lie across two pages.
    /// assert!((1.18..1.19).contains(&table.pages_per_row()));
    /// assert_eq!(table.pages_per_row_at(1024), 1.0);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn pages_per_row(&self) -> f64 {
        mean(pages(&self.layout), self.vocab())
    }

    /// What [`pages_per_row`](Table::pages_per_row) would be in an `.emb` file of this table
    /// with this row stride, in bytes. A row and its scales lie in one piece there.
    #[must_use]
    pub fn pages_per_row_at(&self, row_stride: u64) -> f64 {
        mean(pages_of(0, self.vocab(), row_stride, self.row_bytes()), self.vocab())
    }
}

#[expect(clippy::cast_precision_loss, reason = "a mean that is shown")]
fn mean(pages: u128, rows: u64) -> f64 {
    if rows == 0 { 0.0 } else { pages as f64 / rows as f64 }
}

/// The pages of all rows, counted again for each row.
fn pages(layout: &Layout) -> u128 {
    // A plane without a stride holds what the rows of a piece share.
    let planes = layout.planes().filter(|plane| plane.row_stride() > 0);
    let of_extent =
        |extent: &Extent, stride, bytes| pages_of(extent.offset % PAGE, extent.rows, stride, bytes);
    planes
        .flat_map(|plane| {
            let (stride, bytes) = (plane.row_stride(), plane.row_bytes());
            plane.extents().iter().map(move |extent| of_extent(extent, stride, bytes))
        })
        .sum()
}

/// The pages of a run of rows. Where they start in a page repeats after a while.
fn pages_of(start: u64, rows: u64, stride: u64, bytes: u64) -> u128 {
    let Some(last) = bytes.checked_sub(1) else { return 0 };
    let of_row = |row: u64| {
        let at = (start + (row % PAGE) * (stride % PAGE)) % PAGE;
        u128::from((at + last) / PAGE + 1)
    };
    let period = PAGE >> stride.trailing_zeros().min(PAGE.trailing_zeros());
    let first = |rows: u64| (0..rows).map(of_row).sum::<u128>();
    first(period) * u128::from(rows / period) + first(rows % period)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one_by_one(start: u64, rows: u64, stride: u64, bytes: u64) -> u128 {
        let of_row = |row| {
            let (first, end) = (start + row * stride, start + row * stride + bytes);
            if bytes == 0 { 0 } else { u128::from((end - 1) / PAGE - first / PAGE + 1) }
        };
        (0..rows).map(of_row).sum()
    }

    proptest! {
        #[test]
        fn rows_are_counted_as_one_by_one(
            start in 0..PAGE, rows in 0u64..9000, bytes in 0u64..9000, padding in 0u64..5000,
        ) {
            let stride = bytes + padding;
            prop_assert_eq!(
                pages_of(start, rows, stride, bytes),
                one_by_one(start, rows, stride, bytes)
            );
        }
    }

    #[test]
    fn strides_of_every_power_of_two_are_counted() {
        for shift in 0..14 {
            for (start, rows) in [(0, 5000), (1, 4097), (4095, 3), (64, 0), (0, 4096)] {
                let stride = 1 << shift;
                for bytes in [1, stride / 2, stride] {
                    assert_eq!(
                        pages_of(start, rows, stride, bytes),
                        one_by_one(start, rows, stride, bytes),
                        "{start} {rows} {stride} {bytes}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_table_of_any_size_takes_no_time() {
        let pages = pages_of(17, 1 << 60, 168, 168);
        #[expect(clippy::cast_precision_loss, reason = "compared within some margin")]
        let share = pages as f64 / (1u64 << 60) as f64;
        // Rows start at every eighth byte, and reach over the page from 21 of 512 such places.
        assert!((share - (1.0 + 21.0 / 512.0)).abs() < 1e-9, "{share}");
    }
}
