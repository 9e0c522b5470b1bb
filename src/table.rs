//! The table: rows by id, tokens, over any layout and storage.

use std::fmt;
use std::time::Duration;

use crate::checks::CheckPlan;
use crate::codec::{Codec, Encoding};
use crate::dtype::{DType, Element};
use crate::error::{Error, Result};
use crate::layout::{Extent, Layout};
use crate::storage::{Direct, StoredFile, Stretch};

mod budget;
mod direct;
mod extent;
mod info;
mod order;
mod pages;
mod rows;
mod scan;
mod temperature;
mod texts;
mod tokens;
mod windows;

pub(crate) use budget::Budget;
pub use direct::DirectIo;
pub use info::{Access, SectionInfo, TableInfo};
pub(crate) use order::{IdsByPlace, Places, RowOrder, Run};
pub use rows::Rows;
pub(crate) use temperature::Patience;
pub use temperature::Temperature;
pub(crate) use texts::TextSource;
pub(crate) use tokens::TokenSource;
pub(crate) use windows::WindowRows;

/// An embedding table of `vocab` rows of `dim` elements, open for reading.
///
/// Opened by [`Table::map`], [`Table::load`], [`Table::from_bytes`] or
/// [`OpenOptions`](crate::OpenOptions). Sharing one between threads needs no lock.
///
/// ```
/// # fn main() -> Result<(), embmap::Error> {
/// let table = embmap::Table::load("fixtures/minilm-2k")?;
/// assert_eq!((table.vocab(), table.dim()), (2003, 384));
///
/// let cat = table.id_of("cat")?.unwrap();
/// let row: &[half::f16] = table.row(cat)?;
/// assert_eq!(row.len(), 384);
/// # Ok(())
/// # }
/// ```
pub struct Table {
    pub(crate) files: Vec<StoredFile>,
    pub(crate) layout: Layout,
    /// The order of the rows, where it is not that of their ids. Places then take the part of
    /// ids in the layout.
    pub(crate) order: Option<RowOrder>,
    pub(crate) dtype: DType,
    pub(crate) codec: Codec,
    pub(crate) tokens: TokenSource,
    pub(crate) tokenizer: TextSource,
    pub(crate) metadata: TextSource,
    /// The norm of each row, in the table's first file.
    pub(crate) norms: Option<Stretch>,
    pub(crate) checks: CheckPlan,
    pub(crate) access: Access,
    /// What carries out direct reads, with [`Access::Direct`].
    pub(crate) direct: Option<Direct>,
    pub(crate) threads: Option<usize>,
    /// How long threads wait for the next large gather.
    pub(crate) spin: Duration,
    pub(crate) temperature: Temperature,
    pub(crate) patience: Patience,
    pub(crate) budget: Option<Budget>,
    pub(crate) info: TableInfo,
}

impl Table {
    /// The number of rows.
    #[must_use]
    pub fn vocab(&self) -> u64 {
        self.layout.vocab
    }

    /// The number of elements in a row.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.layout.dim
    }

    /// The type of the elements, as stored.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// How rows are encoded.
    #[must_use]
    pub fn codec(&self) -> Codec {
        self.codec
    }

    pub(crate) fn encoding(&self) -> Encoding {
        Encoding { dtype: self.dtype, codec: self.codec }
    }

    /// The bytes of one encoded row, scales and biases included, without padding.
    #[must_use]
    pub fn row_bytes(&self) -> u64 {
        self.layout.row_bytes()
    }

    /// The distance between row starts, in bytes; where planes lie apart, that of the values.
    #[must_use]
    pub fn row_stride(&self) -> u64 {
        self.layout.values.row_stride()
    }

    /// How the table's bytes are reached.
    #[must_use]
    pub fn access(&self) -> Access {
        self.access
    }

    /// What the table is made of and where it lies.
    #[must_use]
    pub fn info(&self) -> &TableInfo {
        &self.info
    }

    /// One row of `dim` elements, zero-copy.
    ///
    /// Of a table with scales these are the elements as stored, `i8` or `u8`, not yet multiplied.
    ///
    /// # Errors
    ///
    /// [`Error::RowOutOfRange`] where `id` is not below `vocab`, [`Error::DTypeMismatch`]
    /// where `T` is not the stored type, [`Error::Misaligned`] where a checkpoint's rows do
    /// not start at a multiple of the element's alignment, [`Error::NotMapped`] with
    /// [`Access::Read`].
    ///
    /// ```
    /// # fn main() -> Result<(), embmap::Error> {
    /// # let table = embmap::Table::load("fixtures/minilm-2k")?;
    /// let row: &[half::f16] = table.row(7)?;
    /// assert_eq!(row.len(), table.dim());
    /// assert!(table.row::<f32>(7).is_err(), "the table stores f16");
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn row<T: Element>(&self, id: u64) -> Result<&[T]> {
        if self.dtype == T::DTYPE
            && let Some(bytes) = self.row_in_memory(id)
            && let Some(values) = bytes.get(..self.layout.value_bytes)
            && let Ok(row) = bytemuck::try_cast_slice(values)
        {
            return Ok(row);
        }
        Err(self.no_row::<T>(id))
    }

    /// All rows as typed slices: dtype and alignment are checked here, once.
    ///
    /// # Errors
    ///
    /// [`Error::DTypeMismatch`], [`Error::Misaligned`] and [`Error::NotMapped`], as for
    /// [`row`](Table::row).
    ///
    /// ```
    /// # fn main() -> Result<(), embmap::Error> {
    /// # let table = embmap::Table::load("fixtures/minilm-2k")?;
    /// let rows = table.rows::<half::f16>()?;
    /// assert_eq!(rows.len(), 2003);
    /// assert_eq!(&rows[7], table.row::<half::f16>(7)?);
    /// assert_eq!(rows.as_slice().unwrap().len(), 2003 * 384);
    /// # Ok(())
    /// # }
    /// ```
    pub fn rows<T: Element>(&self) -> Result<Rows<'_, T>> {
        self.check_dtype::<T>()?;
        let plane = &self.layout.values;
        let stride = usize::try_from(plane.row_stride()).ok();
        let stride = stride.filter(|stride| stride.is_multiple_of(size_of::<T>()));
        let stride = stride.ok_or_else(|| self.misaligned::<T>())? / size_of::<T>();
        let mut extents = Vec::with_capacity(plane.extents().len());
        for extent in plane.extents() {
            let bytes =
                self.resident(extent.file, extent.offset, plane.extent_bytes(extent), "rows")?;
            let elements = bytemuck::try_cast_slice(bytes).map_err(|_| self.misaligned::<T>())?;
            extents.push((extent.first, elements));
        }
        Ok(Rows::new(extents, self.places()?, self.vocab(), self.dim(), stride))
    }

    /// The bytes of one row, as encoded, zero-copy.
    ///
    /// # Errors
    ///
    /// [`Error::RowOutOfRange`] where `id` is not below `vocab`, [`Error::NotMapped`] with
    /// [`Access::Read`], [`Error::RowApart`] where scales lie apart from values.
    ///
    /// ```
    /// # fn main() -> Result<(), embmap::Error> {
    /// # let table = embmap::Table::load("fixtures/minilm-2k")?;
    /// assert_eq!(table.encoded_row(7)?.len() as u64, table.row_bytes());
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn encoded_row(&self, id: u64) -> Result<&[u8]> {
        match self.row_in_memory(id) {
            Some(bytes) if self.layout.is_together() => Ok(bytes),
            _ => Err(self.no_bytes(id)),
        }
    }

    /// Looks whether the table's files still are what was opened.
    ///
    /// One `fstat` a file. A file that was *replaced* by rename is fine: this table keeps
    /// the old one.
    ///
    /// # Errors
    ///
    /// [`Error::FileChanged`] where a file shrank, grew or was written to.
    pub fn check_alive(&self) -> Result<()> {
        self.files.iter().try_for_each(StoredFile::check_alive)
    }

    /// The bytes of a row of the values' plane, or `None` where it is not in memory or no row
    /// has the id.
    #[inline]
    fn row_in_memory(&self, id: u64) -> Option<&[u8]> {
        let place = match &self.order {
            None => id,
            Some(order) => order.place_in_memory(self.files.first()?, id)?,
        };
        let place = self.layout.values.place(place)?;
        let length = usize::try_from(self.layout.values.row_bytes()).ok()?;
        self.files.get(place.file)?.slice(place.offset, length)
    }

    /// Why there are no bytes for an id: found out only then.
    #[cold]
    #[inline(never)]
    fn no_bytes(&self, id: u64) -> Error {
        if self.layout.values.place(id).is_none() {
            return self.out_of_range(id, None);
        }
        if !self.layout.is_together() {
            return Error::RowApart;
        }
        match self.places().map(|places| places.map(|places| places.of(id))) {
            Err(error) | Ok(Some(Err(error))) => error,
            Ok(Some(Ok(_)) | None) => Error::NotMapped { operation: "row" },
        }
    }

    /// Why there is no typed row for an id.
    #[cold]
    #[inline(never)]
    fn no_row<T: Element>(&self, id: u64) -> Error {
        match self.check_dtype::<T>().and_then(|()| self.encoded_row(id)) {
            Err(error) => error,
            Ok(_) => self.misaligned::<T>(),
        }
    }

    #[cold]
    pub(crate) fn out_of_range(&self, id: impl Into<i128>, position: Option<usize>) -> Error {
        Error::RowOutOfRange { id: id.into(), position, vocab: self.vocab() }
    }

    #[inline]
    pub(crate) fn resident(
        &self,
        file: usize,
        offset: u64,
        bytes: u64,
        operation: &'static str,
    ) -> Result<&[u8]> {
        usize::try_from(bytes)
            .ok()
            .and_then(|length| self.files[file].slice(offset, length))
            .ok_or(Error::NotMapped { operation })
    }

    #[inline]
    fn check_dtype<T: Element>(&self) -> Result<()> {
        if self.dtype == T::DTYPE {
            return Ok(());
        }
        Err(Error::DTypeMismatch { requested: T::DTYPE, stored: self.dtype })
    }

    #[cold]
    fn misaligned<T: Element>(&self) -> Error {
        let alignment = align_of::<T>();
        let first = |extent: &&Extent| !extent.offset.is_multiple_of(alignment as u64);
        let extents = self.layout.values.extents();
        let offset =
            extents.iter().find(first).or(extents.first()).map_or(0, |extent| extent.offset);
        Error::Misaligned { dtype: self.dtype, offset, alignment }
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table")
            .field("path", &self.info.path)
            .field("vocab", &self.vocab())
            .field("dim", &self.dim())
            .field("dtype", &self.dtype)
            .field("codec", &self.codec)
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}
