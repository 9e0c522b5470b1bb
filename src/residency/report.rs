//! How much of a table is in memory.

use crate::error::Result;
use crate::table::{Access, Table};

/// How much of a table's rows is in memory: what [`Table::residency`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Residency {
    /// The bytes of all rows.
    pub total_bytes: u64,
    /// Of these, the bytes that the page cache holds, whoever brought them there. `None`
    /// where the system does not tell: to those who may not write to the file, Linux does not.
    pub cached_bytes: Option<u64>,
    /// The bytes that this process has mapped of the table's files: its share of the resident
    /// set. `None` where the table is not mapped, or the system does not tell.
    pub mapped_bytes: Option<u64>,
}

impl Table {
    /// Looks how much of the rows is in memory.
    ///
    /// It takes no memory to speak of, and a time that grows with what is cached and mapped:
    /// about a millisecond a gigabyte. It is a snapshot, for the system may evict pages at
    /// any time.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) where the system refuses to answer.
    ///
    /// ```
    /// # fn main() -> Result<(), embmap::Error> {
    /// let table = embmap::Table::load("fixtures/minilm-2k")?;
    /// let found = table.residency()?;
    /// assert_eq!(found.total_bytes, 2003 * 768);
    /// assert_eq!(found.cached_bytes, Some(found.total_bytes), "it owns its memory");
    /// # Ok(())
    /// # }
    /// ```
    pub fn residency(&self) -> Result<Residency> {
        let (mut total_bytes, mut cached_bytes) = (0, Some(0));
        for found in self.stretches(0, self.vocab()) {
            let (file, stretch) = found?;
            total_bytes += stretch.bytes;
            let cached = if self.access == Access::Memory {
                Some(stretch.bytes)
            } else {
                file.cached_bytes(stretch.offset, stretch.end())?
            };
            cached_bytes = cached_bytes.zip(cached).map(|(sum, cached)| sum + cached);
        }
        Ok(Residency { total_bytes, cached_bytes, mapped_bytes: self.mapped_bytes()? })
    }

    /// The bytes of the table's files that this process has mapped.
    pub(super) fn mapped_bytes(&self) -> Result<Option<u64>> {
        let mut sum = None;
        if self.access == Access::Map {
            for file in &self.files {
                if let Some(mapped) = file.mapped_bytes()? {
                    sum = Some(sum.unwrap_or(0) + mapped);
                }
            }
        }
        Ok(sum)
    }
}
