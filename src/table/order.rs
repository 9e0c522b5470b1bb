//! Where the row of an id lies, in a table whose rows are in an order of their own.
//!
//! Of a table in memory the section is looked at where it lies; of another it is read on first
//! use, and its sum compared.

use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Table;
use crate::checks::SectionSum;
use crate::error::{Error, FormatError, Result};
use crate::order::OrderShape;
use crate::storage::{ReadAhead, StoredFile, Stretch};

/// The longest section that is read ahead in one piece before it is first used.
const ASKED: u64 = 64 << 20;

/// The order of a table's rows, in its first file.
#[derive(Debug)]
pub(crate) struct RowOrder {
    pub(crate) shape: OrderShape,
    pub(crate) section: Stretch,
    /// The section, where the file is not in memory.
    read: OnceLock<Vec<u8>>,
    /// True once the section was asked for.
    asked: AtomicBool,
}

impl RowOrder {
    pub(crate) fn new(section: Stretch, shape: OrderShape) -> Self {
        RowOrder { shape, section, read: OnceLock::new(), asked: AtomicBool::new(false) }
    }

    /// The place of an id's row, where the file is in memory; `None` where it is not, where no
    /// row has the id, or where the section is damaged.
    #[inline]
    pub(super) fn place_in_memory(&self, file: &StoredFile, id: u64) -> Option<u64> {
        self.shape.place(id, |at, bytes| file.slice(self.section.offset + at, bytes))
    }

    /// Has the section asked for again: it was taken out of memory.
    pub(crate) fn forget(&self) {
        self.asked.store(false, Ordering::Relaxed);
    }
}

/// The order of a table's rows, in memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Places<'a> {
    shape: OrderShape,
    bytes: &'a [u8],
    path: &'a Path,
}

impl<'a> Places<'a> {
    /// The place of the row of an id that there is.
    #[inline]
    pub(crate) fn of(self, id: u64) -> Result<u64> {
        self.find(id).ok_or_else(|| self.damaged(id))
    }

    /// The same, or `None` where no row has the id, or where the section is damaged.
    #[inline]
    pub(crate) fn find(self, id: u64) -> Option<u64> {
        self.shape.place(id, self.fetch())
    }

    /// The id of the row at a place. It is looked for, which takes a while.
    pub(crate) fn id_at(self, place: u64) -> Option<u64> {
        self.shape.id_at(place, self.fetch())
    }

    /// The ids of all rows by their places, for looking many up.
    pub(crate) fn ids(self) -> Result<IdsByPlace<'a>> {
        let placed = self.shape.placed_ids(self.fetch()).ok_or_else(|| self.damaged(0))?;
        Ok(IdsByPlace { places: self, placed })
    }

    fn fetch(self) -> impl Fn(u64, usize) -> Option<&'a [u8]> + Copy {
        let section = self.bytes;
        move |at, bytes| {
            let at = usize::try_from(at).ok()?;
            section.get(at..at.checked_add(bytes)?)
        }
    }

    #[cold]
    fn damaged(self, id: u64) -> Error {
        let rule = "each row has a place of its own";
        Error::Format {
            path: self.path.to_path_buf(),
            source: FormatError::RowOrder { rule, at: id },
        }
    }
}

/// The ids of rows by their places.
#[derive(Debug)]
pub(crate) struct IdsByPlace<'a> {
    places: Places<'a>,
    /// Those of the placed rows.
    placed: Vec<u64>,
}

impl IdsByPlace<'_> {
    /// The ids of the placed rows, in the order that they lie in.
    pub(crate) fn into_placed(self) -> Vec<u64> {
        self.placed
    }

    /// The id of the row at a place that there is.
    pub(crate) fn at(&self, place: u64) -> Result<u64> {
        let placed = usize::try_from(place).ok().and_then(|place| self.placed.get(place).copied());
        placed.or_else(|| self.places.id_at(place)).ok_or_else(|| self.places.damaged(place))
    }
}

/// Rows whose ids follow each other, and whose places do too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) first_id: u64,
    pub(crate) first_place: u64,
    pub(crate) rows: u64,
}

impl Table {
    /// The order of the rows; `None` where they lie by their ids.
    pub(crate) fn places(&self) -> Result<Option<Places<'_>>> {
        let Some((order, file)) = self.order.as_ref().zip(self.files.first()) else {
            return Ok(None);
        };
        let RowOrder { shape, section, read, asked } = order;
        let in_memory =
            usize::try_from(section.bytes).ok().and_then(|bytes| file.slice(section.offset, bytes));
        let bytes = if let Some(bytes) = in_memory {
            // A map reads single pages where it is touched. Of the groups, most will be.
            if section.bytes <= ASKED && !asked.swap(true, Ordering::Relaxed) {
                let mut ahead = ReadAhead::new();
                ahead.add(0, section.offset, section.bytes);
                ahead.start(&self.files);
            }
            bytes
        } else if let Some(bytes) = read.get() {
            bytes
        } else {
            let bytes = self.read_order(file, *section)?;
            read.get_or_init(|| bytes)
        };
        Ok(Some(Places { shape: *shape, bytes, path: file.path() }))
    }

    fn read_order(&self, file: &StoredFile, section: Stretch) -> Result<Vec<u8>> {
        let bytes = file.bytes_at(section.offset, section.bytes)?.into_owned();
        let check = self.checks.sections.iter().find(|check| check.stretch == section);
        if let Some(check) = check {
            let mut sum = SectionSum::new(self.checks.seed);
            sum.update(&bytes);
            let (index, expected, found) = (check.index, check.sum, sum.finish());
            if found != expected {
                let source = FormatError::SectionSum { index, expected, found };
                return Err(Error::Format { path: file.path().to_path_buf(), source });
            }
        }
        Ok(bytes)
    }

    /// A range of rows in runs, in the order of their ids.
    pub(crate) fn runs(&self, rows: Range<u64>) -> impl Iterator<Item = Result<Run>> {
        let places = self.places();
        let mut next = rows.start;
        let mut failed = false;
        let (places, mut error) = match places {
            Ok(places) => (places, None),
            Err(error) => (None, Some(error)),
        };
        std::iter::from_fn(move || {
            if let Some(error) = error.take() {
                failed = true;
                return Some(Err(error));
            }
            if failed || next >= rows.end {
                return None;
            }
            let first_id = next;
            let run = match places {
                None => Some((rows.end - first_id, first_id)),
                Some(places) => places.shape.run(first_id, rows.end, places.fetch()),
            };
            let Some((rows, first_place)) = run else {
                failed = true;
                return places.map(|places| Err(places.damaged(first_id)));
            };
            next += rows;
            Some(Ok(Run { first_id, first_place, rows }))
        })
    }

    /// The id of the row at a place; the place itself where rows lie by their ids, or where
    /// nobody can tell.
    pub(crate) fn id_at(&self, place: u64) -> u64 {
        let places = self.places().ok().flatten();
        places.and_then(|places| places.id_at(place)).unwrap_or(place)
    }
}
