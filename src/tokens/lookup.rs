//! Finding tokens in sections that are mapped, owned or read, without loading them.

use std::borrow::Cow;

use byteorder::{ByteOrder, LittleEndian};

use super::LONGEST_TOKEN;
use super::index::{INDEX_HEADER_BYTES, IndexShape, LONGEST_BUCKET, fingerprint, token_hash};
use crate::error::{Error, FormatError, Result};
use crate::storage::{StoredFile, Stretch};

/// Where the token sections lie in their file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TokenParts {
    /// `count + 1` offsets into the token bytes, u64 each.
    pub(crate) offsets: Stretch,
    pub(crate) bytes: Stretch,
    /// One bit a token: an absent token is not an empty one.
    pub(crate) presence: Stretch,
    pub(crate) index: Stretch,
}

impl TokenParts {
    /// The number of tokens, absent ones included.
    pub(crate) fn count(&self) -> u64 {
        self.offsets.bytes / 8 - 1
    }
}

/// Token sections, with the file that they lie in.
#[derive(Clone, Copy)]
pub(crate) struct Tokens<'a> {
    pub(crate) file: &'a StoredFile,
    pub(crate) parts: &'a TokenParts,
}

/// The most index entries read at once from a file that is not in memory.
const ENTRIES_A_READ: u64 = 256;

impl<'a> Tokens<'a> {
    /// The token of a row; `None` where it is absent or beyond the last token.
    pub(crate) fn token(self, id: u64) -> Result<Option<Cow<'a, str>>> {
        let Some(bytes) = self.token_bytes(id)? else { return Ok(None) };
        let token = match bytes {
            Cow::Borrowed(bytes) => std::str::from_utf8(bytes).map(Cow::Borrowed).ok(),
            Cow::Owned(bytes) => String::from_utf8(bytes).map(Cow::Owned).ok(),
        };
        token.map(Some).ok_or_else(|| self.damaged(FormatError::TokenUtf8 { id }))
    }

    /// The lowest id of a token, through the index.
    ///
    /// Every candidate is compared with its token, so a damaged index can only miss.
    pub(crate) fn id_of(self, token: &str) -> Result<Option<u64>> {
        let index = self.parts.index;
        let shape = self.index_shape()?;
        let hash = token_hash(token.as_bytes());
        let bucket = shape.bucket_of(hash);
        let at = index.offset + IndexShape::directory_entry_at(bucket);
        let bounds = self.file.bytes_at(at, 16)?;
        let (start, end) =
            (LittleEndian::read_u64(&bounds[0..8]), LittleEndian::read_u64(&bounds[8..16]));
        let rule = if start > end || end > shape.entries {
            Some("buckets ascend and end with the last entry")
        } else if end - start > LONGEST_BUCKET {
            Some("a bucket has at most 65,536 entries")
        } else {
            None
        };
        if let Some(rule) = rule {
            return Err(self.damaged(FormatError::TokenIndex { rule, at: bucket }));
        }
        let mut next = start;
        while next < end {
            let entries = (end - next).min(ENTRIES_A_READ);
            let at = index.offset + shape.entries_at() + next * shape.entry_bytes();
            let bytes = self.file.bytes_at(at, entries * shape.entry_bytes())?;
            #[expect(clippy::cast_possible_truncation, reason = "an entry has 6 or 10 bytes")]
            for entry in bytes.chunks_exact(shape.entry_bytes() as usize) {
                let (kept, id) = shape.entry(entry);
                if kept == fingerprint(hash)
                    && self.token_bytes(id)?.is_some_and(|found| *found == *token.as_bytes())
                {
                    return Ok(Some(id));
                }
            }
            next += entries;
        }
        Ok(None)
    }

    pub(super) fn index_shape(self) -> Result<IndexShape> {
        let index = self.parts.index;
        let too_short = "it has a header of 32 bytes";
        let shape = if index.bytes < INDEX_HEADER_BYTES as u64 {
            Err(too_short)
        } else {
            IndexShape::parse(
                &self.file.bytes_at(index.offset, INDEX_HEADER_BYTES as u64)?,
                index.bytes,
            )
        };
        shape.map_err(|rule| self.damaged(FormatError::TokenIndex { rule, at: 0 }))
    }

    pub(super) fn damaged(self, source: FormatError) -> Error {
        Error::Format { path: self.file.path().to_path_buf(), source }
    }

    fn token_bytes(self, id: u64) -> Result<Option<Cow<'a, [u8]>>> {
        if id >= self.parts.count() {
            return Ok(None);
        }
        let present = self.file.bytes_at(self.parts.presence.offset + id / 8, 1)?;
        if present[0] >> (id % 8) & 1 == 0 {
            return Ok(None);
        }
        let bounds = self.file.bytes_at(self.parts.offsets.offset + id * 8, 16)?;
        let (start, end) =
            (LittleEndian::read_u64(&bounds[0..8]), LittleEndian::read_u64(&bounds[8..16]));
        let bytes = self.parts.bytes.bytes;
        if start > end || end > bytes || end - start > LONGEST_TOKEN {
            return Err(self.damaged(FormatError::TokenOffsets { id, start, end, bytes }));
        }
        self.file.bytes_at(self.parts.bytes.offset + start, end - start).map(Some)
    }
}
