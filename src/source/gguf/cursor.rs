//! Reading the head of a file in order, in small steps, without holding it.

use super::FORMAT;
use crate::error::{Error, Place, Result};
use crate::storage::StoredFile;

/// The most that is read of a file's head. Vocabularies of a million tokens with their merges
/// take a quarter of it.
const MOST_HEAD: u64 = 256 << 20;

/// The bytes that are read at once.
const WINDOW: u64 = 64 << 10;

/// A place in a file that moves on as values are taken.
pub(super) struct Cursor<'a> {
    file: &'a StoredFile,
    window: Vec<u8>,
    /// Where the window starts in the file.
    start: u64,
    /// The place in the window.
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(file: &'a StoredFile) -> Self {
        Cursor { file, window: Vec::new(), start: 0, at: 0 }
    }

    /// The offset in the file of what is taken next.
    pub(super) fn position(&self) -> u64 {
        self.start + self.at as u64
    }

    /// The bytes of the head that are left, at most.
    pub(super) fn left(&self) -> u64 {
        self.file.bytes().min(MOST_HEAD).saturating_sub(self.position())
    }

    /// An error about what was taken last, or is to be taken next.
    pub(super) fn refuse<T>(&self, reason: String) -> Result<T> {
        Err(Error::Foreign {
            path: self.file.path().to_path_buf(),
            format: FORMAT,
            place: Place::Offset(self.position()),
            reason,
        })
    }

    /// Refuses what takes more bytes than are left.
    pub(super) fn expect(&self, bytes: u64) -> Result<()> {
        if bytes <= self.left() {
            return Ok(());
        }
        if self.file.bytes() <= MOST_HEAD {
            return self.refuse(format!(
                "{bytes} bytes are expected here, the file has {} more: it was cut short or damaged, copy it again",
                self.left()
            ));
        }
        self.refuse(format!(
            "{bytes} bytes are expected here, and the head of a file is at most {MOST_HEAD} bytes long: a damaged file, or not a model"
        ))
    }

    /// Passes over bytes without reading them.
    pub(super) fn skip(&mut self, bytes: u64) -> Result<()> {
        self.expect(bytes)?;
        match usize::try_from(bytes) {
            Ok(bytes) if bytes <= self.window.len() - self.at => self.at += bytes,
            _ => {
                self.start = self.position() + bytes;
                self.at = 0;
                self.window.clear();
            }
        }
        Ok(())
    }

    /// The next bytes, as many as the array holds.
    pub(super) fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut taken = [0; N];
        if let Some(here) = self.window.get(self.at..self.at + N) {
            taken.copy_from_slice(here);
            self.at += N;
            return Ok(taken);
        }
        self.expect(N as u64)?;
        self.fill()?;
        taken.copy_from_slice(&self.window[..N]);
        self.at = N;
        Ok(taken)
    }

    /// The next bytes, appended to `text`.
    pub(super) fn append(&mut self, bytes: u64, text: &mut Vec<u8>) -> Result<()> {
        self.expect(bytes)?;
        let mut left = usize::try_from(bytes).unwrap_or(usize::MAX);
        while left > 0 {
            if self.at == self.window.len() {
                self.fill()?;
            }
            let here = left.min(self.window.len() - self.at);
            text.extend_from_slice(&self.window[self.at..self.at + here]);
            self.at += here;
            left -= here;
        }
        Ok(())
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        self.take().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64> {
        self.take().map(u64::from_le_bytes)
    }

    /// Reads the window that starts at the place.
    fn fill(&mut self) -> Result<()> {
        let start = self.position();
        let bytes = usize::try_from(self.left().min(WINDOW)).unwrap_or(usize::MAX);
        self.window.resize(bytes, 0);
        self.file.read_at(start, &mut self.window)?;
        self.start = start;
        self.at = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_taken_across_windows() {
        let bytes: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
        let file = StoredFile::from_bytes(&bytes, "test").unwrap();
        let mut cursor = Cursor::new(&file);
        assert_eq!(cursor.take::<3>().unwrap(), [0, 0, 0]);
        cursor.skip(1).unwrap();
        let mut text = Vec::new();
        cursor.append(299_996, &mut text).unwrap();
        assert_eq!(text, bytes[4..300_000]);
        assert_eq!((cursor.u32().unwrap(), cursor.position()), (75_000, 300_004));
        cursor.skip(100_000).unwrap();
        assert_eq!(cursor.u32().unwrap(), 100_001);
        cursor.skip(cursor.left() - 4).unwrap();
        assert!(cursor.u64().is_err());
        assert_eq!(cursor.u32().unwrap(), 199_999);
        assert_eq!(cursor.left(), 0);
        assert!(cursor.take::<1>().is_err() && cursor.skip(1).is_err());
        assert!(cursor.skip(u64::MAX).is_err() && cursor.append(u64::MAX, &mut text).is_err());
    }
}
