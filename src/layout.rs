//! From an id to the place of its bytes. Checked arithmetic only.
//!
//! A row is made of planes (values; later scales and biases), a plane of extents: runs of
//! rows at one place in one file. Everything is checked against the lengths of the files
//! when a layout is made, so that finding a place afterwards cannot overflow.

/// The most elements of a row: a bound for the memory that one row takes.
pub(crate) const LARGEST_DIM: usize = 1 << 24;

/// A run of rows at one place in one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Extent {
    /// The id of the first row.
    pub(crate) first: u64,
    /// The number of rows.
    pub(crate) rows: u64,
    /// The file, as an index into the table's storage.
    pub(crate) file: usize,
    /// Where the first row starts in that file.
    pub(crate) offset: u64,
}

/// Where one row's bytes of one plane lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RowPlace {
    /// The file, as an index into the table's storage.
    pub(crate) file: usize,
    /// Where the row starts in that file.
    pub(crate) offset: u64,
}

/// One of the byte streams that rows are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plane {
    row_bytes: u64,
    row_stride: u64,
    extents: Vec<Extent>,
}

impl Plane {
    /// A plane over extents that follow each other without a gap from id 0.
    ///
    /// `None` where an extent does not fit in its file, leaves a gap, or overflows.
    /// `file_bytes` holds the length of each file.
    pub(crate) fn new(
        row_bytes: u64,
        row_stride: u64,
        extents: Vec<Extent>,
        file_bytes: &[u64],
    ) -> Option<Self> {
        let mut next = 0u64;
        for extent in &extents {
            if extent.first != next || row_stride < row_bytes {
                return None;
            }
            next = next.checked_add(extent.rows)?;
            let end =
                extent_bytes(extent.rows, row_bytes, row_stride)?.checked_add(extent.offset)?;
            if end > *file_bytes.get(extent.file)? {
                return None;
            }
        }
        Some(Plane { row_bytes, row_stride, extents })
    }

    /// The bytes of one row.
    pub(crate) fn row_bytes(&self) -> u64 {
        self.row_bytes
    }

    /// The distance between row starts.
    pub(crate) fn row_stride(&self) -> u64 {
        self.row_stride
    }

    /// The runs of rows, in the order of their ids.
    pub(crate) fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// The bytes from an extent's first row to the end of its last one.
    pub(crate) fn extent_bytes(&self, extent: &Extent) -> u64 {
        extent_bytes(extent.rows, self.row_bytes, self.row_stride).unwrap_or(0)
    }

    /// The place of a row, or `None` where the id is not below the number of rows.
    #[inline]
    pub(crate) fn place(&self, id: u64) -> Option<RowPlace> {
        let extent = match self.extents.as_slice() {
            [only] => only,
            extents => {
                &extents[extents.partition_point(|extent| extent.first <= id).checked_sub(1)?]
            }
        };
        let row = id - extent.first;
        (row < extent.rows)
            .then(|| RowPlace { file: extent.file, offset: extent.offset + row * self.row_stride })
    }
}

fn extent_bytes(rows: u64, row_bytes: u64, row_stride: u64) -> Option<u64> {
    match rows.checked_sub(1) {
        Some(before_last) => before_last.checked_mul(row_stride)?.checked_add(row_bytes),
        None => Some(0),
    }
}

/// The shape of a table and the places of its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    /// The number of rows.
    pub(crate) vocab: u64,
    /// The number of elements in a row.
    pub(crate) dim: usize,
    /// The plane of values.
    pub(crate) values: Plane,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(first: u64, rows: u64, file: usize, offset: u64) -> Extent {
        Extent { first, rows, file, offset }
    }

    #[test]
    fn places_follow_the_stride_within_one_extent() {
        let plane = Plane::new(12, 16, vec![extent(0, 3, 0, 100)], &[144]).unwrap();
        assert_eq!(plane.place(2), Some(RowPlace { file: 0, offset: 132 }));
        assert_eq!(plane.place(3), None);
        assert_eq!(plane.place(u64::MAX), None);
    }

    #[test]
    fn several_extents_are_one_row_space() {
        let extents = vec![extent(0, 3, 0, 0), extent(3, 5, 1, 64), extent(8, 1, 0, 24)];
        let plane = Plane::new(8, 8, extents, &[32, 104]).unwrap();
        let places: Vec<_> = (0..9).map(|id| plane.place(id).unwrap()).collect();
        assert_eq!(places[2], RowPlace { file: 0, offset: 16 });
        assert_eq!(places[3], RowPlace { file: 1, offset: 64 });
        assert_eq!(places[7], RowPlace { file: 1, offset: 96 });
        assert_eq!(places[8], RowPlace { file: 0, offset: 24 });
        assert_eq!(plane.place(9), None);
    }

    #[test]
    fn a_last_row_may_end_the_file_without_its_padding() {
        assert!(Plane::new(12, 16, vec![extent(0, 3, 0, 0)], &[44]).is_some());
        assert!(Plane::new(12, 16, vec![extent(0, 3, 0, 0)], &[43]).is_none());
    }

    #[test]
    fn sizes_that_overflow_are_refused() {
        let huge = u64::MAX / 4;
        assert!(Plane::new(8, 8, vec![extent(0, huge, 0, 0)], &[u64::MAX]).is_none());
        assert!(Plane::new(8, 8, vec![extent(0, 2, 0, u64::MAX - 8)], &[u64::MAX]).is_none());
        assert!(Plane::new(8, 8, vec![extent(0, 1, 3, 0)], &[64]).is_none(), "no such file");
        assert!(Plane::new(8, 8, vec![extent(1, 1, 0, 0)], &[64]).is_none(), "a gap");
    }

    #[test]
    fn an_empty_table_has_no_rows() {
        let plane = Plane::new(8, 8, vec![extent(0, 0, 0, 64)], &[64]).unwrap();
        assert_eq!(plane.place(0), None);
        let none = Plane::new(8, 8, vec![], &[]).unwrap();
        assert_eq!(none.place(0), None);
    }
}
