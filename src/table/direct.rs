//! How direct reads of a table are carried out.

use super::Table;
use crate::error::Result;
use crate::storage::{DirectFile, StoredFile, Way};

/// How a table's direct reads are carried out: what [`Table::direct_io`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct DirectIo {
    /// The files that hold rows.
    pub files: usize,
    /// Of these, the files that are read past the page cache. Of the others the file system
    /// refuses direct reads, and they are read through it.
    pub past_cache: usize,
    /// What offsets and lengths of reads are multiples of, in bytes: the largest of any file.
    pub alignment: u64,
    /// True where reads go through `io_uring`, false where a pool of threads makes them.
    pub io_uring: bool,
}

impl Table {
    /// How direct reads are carried out; `None` where the table is not opened with
    /// [`Access::Direct`](crate::Access::Direct).
    ///
    /// # Errors
    ///
    /// [`Error::Threads`](crate::Error::Threads) where neither `io_uring` nor a thread can be
    /// had.
    ///
    /// ```
    /// use embmap::{Access, OpenOptions};
    ///
    /// # fn main() -> Result<(), embmap::Error> {
    /// let table = OpenOptions::new().access(Access::Direct).open("fixtures/minilm-2k")?;
    /// assert_eq!(table.direct_io()?.unwrap().files, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn direct_io(&self) -> Result<Option<DirectIo>> {
        let Some(direct) = &self.direct else { return Ok(None) };
        let files = || self.files.iter().filter_map(StoredFile::direct);
        Ok(Some(DirectIo {
            files: self.files.len(),
            past_cache: files().filter(|file| file.bypasses()).count(),
            alignment: files().map(DirectFile::alignment).max().unwrap_or(1),
            io_uring: direct.way()? == Way::Ring,
        }))
    }
}
