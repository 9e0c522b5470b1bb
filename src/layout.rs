//! From an id to the place of its bytes. Checked arithmetic only.
//!
//! A row is made of up to three planes (values, scales, biases), a plane of extents: runs of
//! rows at one place in one file. Scales and biases may also lie within the row of the values,
//! or be the same for the whole table. Everything is checked against the lengths of the files
//! when a layout is made, so that finding a place afterwards cannot overflow.

use std::num::NonZero;

use crate::codec::RowParts;

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
    /// The rows of every extent but the last, where they are the same number.
    piece_rows: Option<NonZero<u64>>,
}

impl Plane {
    /// A plane over extents that follow each other without a gap from id 0.
    ///
    /// `None` where an extent does not fit in its file, leaves a gap, or overflows.
    /// `file_bytes` holds the length of each file. With a stride of 0 all rows of an extent lie
    /// at the same place: what they share.
    pub(crate) fn new(
        row_bytes: u64,
        row_stride: u64,
        extents: Vec<Extent>,
        file_bytes: &[u64],
    ) -> Option<Self> {
        let mut next = 0u64;
        for extent in &extents {
            if extent.first != next || (row_stride < row_bytes && row_stride != 0) {
                return None;
            }
            next = next.checked_add(extent.rows)?;
            let end =
                extent_bytes(extent.rows, row_bytes, row_stride)?.checked_add(extent.offset)?;
            if end > *file_bytes.get(extent.file)? {
                return None;
            }
        }
        let piece_rows = piece_rows(&extents);
        Some(Plane { row_bytes, row_stride, extents, piece_rows })
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
        self.bytes_of(extent.rows)
    }

    /// The bytes from the first to the end of the last of so many rows of one extent.
    pub(crate) fn bytes_of(&self, rows: u64) -> u64 {
        extent_bytes(rows, self.row_bytes, self.row_stride).unwrap_or(0)
    }

    /// The rows from an id to the end of the extent that it lies in, or `None` where the id is
    /// not below the number of rows.
    pub(crate) fn rows_from(&self, id: u64) -> Option<u64> {
        let after = self.extents.partition_point(|extent| extent.first <= id);
        let extent = &self.extents[after.checked_sub(1)?];
        (extent.first + extent.rows).checked_sub(id).filter(|rows| *rows > 0)
    }

    /// The place of a row, or `None` where the id is not below the number of rows.
    #[inline]
    pub(crate) fn place(&self, id: u64) -> Option<RowPlace> {
        let extent = match (self.extents.as_slice(), self.piece_rows) {
            ([only], _) => only,
            (extents, Some(rows)) => {
                let piece = usize::try_from(id / rows).unwrap_or(usize::MAX);
                &extents[piece.min(extents.len() - 1)]
            }
            (extents, None) => {
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

/// The number of rows that all extents share, the last one's at most that: so an id's extent
/// is found by a division.
fn piece_rows(extents: &[Extent]) -> Option<NonZero<u64>> {
    let (last, whole) = extents.split_last()?;
    let rows = NonZero::new(whole.first()?.rows)?;
    let equal = whole.iter().all(|extent| extent.rows == rows.get());
    (equal && last.rows <= rows.get()).then_some(rows)
}

/// Where the scales, or the biases, of rows lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// There are none.
    Absent,
    /// They are the same for each row.
    Constant(Box<[u8]>),
    /// Within the row of the values' plane, from a byte on.
    InRow {
        /// The first byte.
        start: usize,
        /// The number of bytes.
        bytes: usize,
    },
    /// In a plane of their own.
    Apart(Plane),
}

impl Part {
    /// The plane, where it is one of its own.
    pub(crate) fn plane(&self) -> Option<&Plane> {
        match self {
            Part::Apart(plane) => Some(plane),
            Part::Absent | Part::Constant(_) | Part::InRow { .. } => None,
        }
    }
}

/// The shape of a table and the places of its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    /// The number of rows.
    pub(crate) vocab: u64,
    /// The number of elements in a row.
    pub(crate) dim: usize,
    /// The plane of values, and of what lies in one row with them.
    pub(crate) values: Plane,
    /// The bytes that the values take of each row of their plane.
    pub(crate) value_bytes: usize,
    /// The scales.
    pub(crate) scales: Part,
    /// The biases.
    pub(crate) biases: Part,
}

impl Layout {
    /// A table of values alone. `None` where a row is longer than memory can be.
    pub(crate) fn of_values(vocab: u64, dim: usize, values: Plane) -> Option<Self> {
        let value_bytes = usize::try_from(values.row_bytes()).ok()?;
        Some(Layout { vocab, dim, values, value_bytes, scales: Part::Absent, biases: Part::Absent })
    }

    /// The planes that rows lie in, that of the values first.
    pub(crate) fn planes(&self) -> impl Iterator<Item = &Plane> + Clone {
        std::iter::once(&self.values).chain(self.scales.plane()).chain(self.biases.plane())
    }

    /// True where each row is one piece of bytes.
    pub(crate) fn is_together(&self) -> bool {
        self.scales.plane().or(self.biases.plane()).is_none()
    }

    /// The bytes of one encoded row, plane after plane, without what is the same for all.
    pub(crate) fn row_bytes(&self) -> u64 {
        self.planes().fold(0, |sum, plane| sum.saturating_add(plane.row_bytes()))
    }

    /// The parts of an encoded row as [`row_bytes`](Layout::row_bytes) counts it.
    #[inline]
    pub(crate) fn parts<'a>(&'a self, row: &'a [u8]) -> RowParts<'a> {
        let mut rest = row;
        self.parts_of(|bytes| {
            let (own, after) = rest.split_at(bytes.min(rest.len()));
            rest = after;
            own
        })
    }

    /// The parts of a row whose planes are somewhere: `next` gives so many bytes of each, in
    /// the order of [`planes`](Layout::planes).
    #[inline]
    pub(crate) fn parts_of<'a>(&'a self, mut next: impl FnMut(usize) -> &'a [u8]) -> RowParts<'a> {
        let mut of_plane =
            |plane: &Plane| next(usize::try_from(plane.row_bytes()).unwrap_or(usize::MAX));
        let here = of_plane(&self.values);
        let mut part = |part: &'a Part| match part {
            Part::Absent => &[][..],
            Part::Constant(bytes) => bytes,
            Part::InRow { start, bytes } => here.get(*start..*start + *bytes).unwrap_or(&[]),
            Part::Apart(plane) => of_plane(plane),
        };
        let (scales, biases) = (part(&self.scales), part(&self.biases));
        RowParts { values: &here[..self.value_bytes.min(here.len())], scales, biases }
    }
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
        let left: Vec<_> = (0..10).map(|id| plane.rows_from(id)).collect();
        let some = [3, 2, 1, 5, 4, 3, 2, 1, 1].map(Some);
        assert_eq!((&left[..9], left[9]), (&some[..], None));
        assert_eq!(plane.rows_from(u64::MAX), None);
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

    #[test]
    fn equal_pieces_are_found_by_division_and_others_by_search() {
        let pieces = |rows: &[u64]| {
            let mut first = 0;
            let extents: Vec<_> = rows
                .iter()
                .enumerate()
                .map(|(file, rows)| {
                    let piece = extent(first, *rows, file, 8 * file as u64);
                    first += rows;
                    piece
                })
                .collect();
            Plane::new(4, 4, extents, &vec![1 << 20; rows.len()]).unwrap()
        };
        for (rows, equal) in [
            (&[5u64, 5, 5][..], true),
            (&[5, 5, 2], true),
            (&[5, 5, 0], true),
            (&[5, 5, 6], false),
            (&[5, 4, 5], false),
            (&[0, 0, 5], false),
            (&[1, 0], true),
        ] {
            let plane = pieces(rows);
            assert_eq!(plane.piece_rows.is_some(), equal, "{rows:?}");
            let mut id = 0;
            for (file, rows) in rows.iter().enumerate() {
                for row in 0..*rows {
                    let offset = 8 * file as u64 + 4 * row;
                    assert_eq!(plane.place(id), Some(RowPlace { file, offset }), "row {id}");
                    id += 1;
                }
            }
            assert_eq!(plane.place(id), None);
            assert_eq!(plane.place(u64::MAX), None);
        }
    }

    #[test]
    fn parts_are_cut_out_of_an_encoded_row() {
        let plane = |bytes| Plane::new(bytes, bytes, vec![extent(0, 3, 0, 0)], &[1000]).unwrap();
        let mut layout = Layout::of_values(3, 4, plane(10)).unwrap();
        let row: Vec<u8> = (0..14).collect();
        assert_eq!(layout.parts(&row[..10]).values, &row[..10]);

        layout.value_bytes = 6;
        layout.scales = Part::InRow { start: 6, bytes: 4 };
        layout.biases = Part::Constant(Box::new([9]));
        let parts = layout.parts(&row[..10]);
        assert_eq!((parts.values, parts.scales, parts.biases), (&row[..6], &row[6..10], &[9][..]));
        assert!(layout.is_together() && layout.row_bytes() == 10);

        layout.value_bytes = 10;
        layout.scales = Part::Apart(plane(3));
        layout.biases = Part::Apart(plane(1));
        let parts = layout.parts(&row);
        assert_eq!(
            (parts.values, parts.scales, parts.biases),
            (&row[..10], &row[10..13], &row[13..])
        );
        assert!(!layout.is_together() && layout.row_bytes() == 14);
    }
}
