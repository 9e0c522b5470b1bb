//! The rows of a table in memory, their places worked out once for many of them.

use crate::codec::{RowParts, prefetch, prefetch_at};
use crate::layout::{Layout, Part, Plane};
use crate::storage::StoredFile;
use crate::table::Table;

/// How the bytes of a row are handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    /// Cut into values, scales and biases, to be decoded.
    Parts,
    /// As they are encoded, plane after plane: what is the same for all rows is left out.
    Encoded,
}

/// The rows of a batch, wherever their bytes are.
pub(super) trait BatchRows {
    /// The row at a position of the batch, or `None` where the id there is no row's.
    fn row(&self, position: usize, id: u64) -> Option<RowParts<'_>>;

    /// Asks for a row that will be reached soon.
    fn ask(&self, id: u64);

    /// The values of a row that will be reached soon, for who asks for them bit by bit; what else
    /// it is made of is asked for.
    fn coming(&self, id: u64) -> &[u8];

    /// How many rows ahead of their use to ask for them.
    fn ahead(&self) -> usize;
}

/// A table in memory.
pub(super) enum ResidentRows<'a> {
    /// Each row is one piece of bytes, and all lie in one run.
    Run(RunRows<'a>),
    /// Each row is one piece of bytes.
    Together(PlaneRows<'a>),
    /// Rows have parts.
    Parted(PartedRows<'a>),
}

impl<'a> ResidentRows<'a> {
    /// The rows of a table, or `None` where its files are not in memory.
    pub(super) fn of(table: &'a Table, view: View) -> Option<Self> {
        if !table.files.iter().all(StoredFile::is_resident) {
            return None;
        }
        let Layout { values, value_bytes, scales, biases, .. } = &table.layout;
        let only_values = (scales, biases) == (&Part::Absent, &Part::Absent);
        if only_values || (view == View::Encoded && table.layout.is_together()) {
            let rows = PlaneRows::of(table, values)?;
            return Some(match rows.bytes {
                [] => ResidentRows::Together(rows),
                _ => ResidentRows::Run(RunRows::of(&rows)),
            });
        }
        let values = PlaneRows::of(table, values)?;
        let value_bytes = if view == View::Parts { *value_bytes } else { values.row_bytes };
        let scales = PartRows::of(table, scales, view)?;
        let biases = PartRows::of(table, biases, view)?;
        Some(ResidentRows::Parted(PartedRows { values, value_bytes, scales, biases }))
    }
}

/// The rows of one plane.
#[derive(Clone, Copy)]
pub(super) struct PlaneRows<'a> {
    files: &'a [StoredFile],
    plane: &'a Plane,
    /// The bytes of the only extent; empty where there are several.
    bytes: &'a [u8],
    row_bytes: usize,
    row_stride: usize,
    /// The cache lines of a row that are asked for ahead.
    lines: usize,
}

/// The bytes of a row up to which all of it is asked for ahead, and the lines that are asked for
/// of a longer one: the CPU follows by itself from there. Measured on Zen 5: twice as fast as two
/// lines at 128 and at 512 bytes, 1.05 times at 3,072, and slower at 8,192.
const WHOLE_ROW_BYTES: usize = 4096;
const LINES_OF_LONG: usize = 8;
const LINE: usize = 64;

impl<'a> PlaneRows<'a> {
    fn of(table: &'a Table, plane: &'a Plane) -> Option<Self> {
        let bytes = match plane.extents() {
            [only] => {
                let bytes = plane.extent_bytes(only);
                table.resident(only.file, only.offset, bytes, "gather").unwrap_or(&[])
            }
            _ => &[],
        };
        let row_bytes = usize::try_from(plane.row_bytes()).ok()?;
        let row_stride = usize::try_from(plane.row_stride()).ok()?;
        let whole = row_bytes <= WHOLE_ROW_BYTES;
        let lines = if whole { row_bytes.div_ceil(LINE) } else { LINES_OF_LONG };
        Some(PlaneRows { files: &table.files, plane, bytes, row_bytes, row_stride, lines })
    }

    /// The bytes of one row, or `None` where the id is no row's.
    #[inline]
    fn bytes_of(&self, id: u64) -> Option<&'a [u8]> {
        if self.bytes.is_empty() {
            return self.bytes_of_many(id);
        }
        let start = usize::try_from(id).ok()?.checked_mul(self.row_stride)?;
        self.bytes.get(start..start.checked_add(self.row_bytes)?)
    }

    #[inline(never)]
    fn bytes_of_many(&self, id: u64) -> Option<&'a [u8]> {
        let place = self.plane.place(id)?;
        self.files.get(place.file)?.slice(place.offset, self.row_bytes)
    }
}

impl BatchRows for PlaneRows<'_> {
    #[inline]
    fn row(&self, _position: usize, id: u64) -> Option<RowParts<'_>> {
        self.bytes_of(id).map(RowParts::of)
    }

    #[inline]
    fn ask(&self, id: u64) {
        if let Some(row) = self.bytes_of(id) {
            prefetch(row, self.lines);
        }
    }

    #[inline]
    fn coming(&self, id: u64) -> &[u8] {
        self.bytes_of(id).unwrap_or(&[])
    }

    fn ahead(&self) -> usize {
        ahead(self.row_bytes)
    }
}

/// How many rows ahead to ask for rows of a length: short ones pass by faster.
fn ahead(row_bytes: usize) -> usize {
    match row_bytes {
        0..=128 => 32,
        129..=1024 => 16,
        _ => 8,
    }
}

/// Rows in one run of bytes.
///
/// What is done for each row is as little as can be, for a CPU overlaps rows only as far as their
/// instructions fit in its window: where page tables are cold, that is what counts.
#[derive(Clone, Copy)]
pub(super) struct RunRows<'a> {
    bytes: &'a [u8],
    rows: u64,
    row_bytes: usize,
    row_stride: usize,
    lines: usize,
}

impl<'a> RunRows<'a> {
    fn of(rows: &PlaneRows<'a>) -> Self {
        let PlaneRows { bytes, row_bytes, row_stride, lines, .. } = *rows;
        let rows = rows.plane.extents().iter().map(|extent| extent.rows).sum();
        RunRows { bytes, rows, row_bytes, row_stride, lines }
    }

    /// Where a row starts. Of an id that is no row's it is any place.
    #[inline]
    fn start(&self, id: u64) -> usize {
        usize::try_from(id).unwrap_or(usize::MAX).wrapping_mul(self.row_stride)
    }
}

impl BatchRows for RunRows<'_> {
    #[inline]
    fn row(&self, _position: usize, id: u64) -> Option<RowParts<'_>> {
        if id >= self.rows {
            return None;
        }
        let start = self.start(id);
        self.bytes.get(start..start.wrapping_add(self.row_bytes)).map(RowParts::of)
    }

    #[inline]
    fn ask(&self, id: u64) {
        prefetch_at(self.bytes, self.start(id), self.lines);
    }

    #[inline]
    fn coming(&self, id: u64) -> &[u8] {
        let start = self.start(id);
        self.bytes.get(start..start.wrapping_add(self.row_bytes)).unwrap_or(&[])
    }

    fn ahead(&self) -> usize {
        ahead(self.row_bytes)
    }
}

/// Rows of several parts.
pub(super) struct PartedRows<'a> {
    values: PlaneRows<'a>,
    value_bytes: usize,
    scales: PartRows<'a>,
    biases: PartRows<'a>,
}

/// The scales, or the biases, of rows.
enum PartRows<'a> {
    Same(&'a [u8]),
    InRow(usize, usize),
    Apart(PlaneRows<'a>),
}

impl<'a> PartRows<'a> {
    fn of(table: &'a Table, part: &'a Part, view: View) -> Option<Self> {
        Some(match part {
            Part::Constant(bytes) if view == View::Parts => PartRows::Same(bytes),
            Part::InRow { start, bytes } if view == View::Parts => {
                PartRows::InRow(*start, *start + *bytes)
            }
            Part::Absent | Part::Constant(_) | Part::InRow { .. } => PartRows::Same(&[]),
            Part::Apart(plane) => PartRows::Apart(PlaneRows::of(table, plane)?),
        })
    }

    #[inline]
    fn bytes_of(&self, id: u64, row: &'a [u8]) -> Option<&'a [u8]> {
        match self {
            PartRows::Same(bytes) => Some(bytes),
            PartRows::InRow(start, end) => row.get(*start..*end),
            PartRows::Apart(rows) => rows.bytes_of(id),
        }
    }

    #[inline]
    fn ask(&self, id: u64) {
        if let PartRows::Apart(rows) = self {
            rows.ask(id);
        }
    }
}

impl BatchRows for PartedRows<'_> {
    #[inline]
    fn row(&self, _position: usize, id: u64) -> Option<RowParts<'_>> {
        let row = self.values.bytes_of(id)?;
        Some(RowParts {
            values: row.get(..self.value_bytes)?,
            scales: self.scales.bytes_of(id, row)?,
            biases: self.biases.bytes_of(id, row)?,
        })
    }

    #[inline]
    fn ask(&self, id: u64) {
        self.values.ask(id);
        self.scales.ask(id);
        self.biases.ask(id);
    }

    #[inline]
    fn coming(&self, id: u64) -> &[u8] {
        self.scales.ask(id);
        self.biases.ask(id);
        self.values.coming(id)
    }

    fn ahead(&self) -> usize {
        self.values.ahead()
    }
}
