//! Going through all tokens in order, reading ahead in pieces of a constant size.

use byteorder::{ByteOrder, LittleEndian};

use super::LONGEST_TOKEN;
use super::lookup::Tokens;
use crate::error::{FormatError, Result};
use crate::storage::{StoredFile, Stretch};

/// The bytes read at once.
const PIECE: u64 = 1 << 20;

/// The tokens from one id to another, each checked against the rules of its sections.
///
/// It is a lending iterator: a token is valid until the next call.
pub(crate) struct TokenWalk<'a> {
    tokens: Tokens<'a>,
    next: u64,
    end: u64,
    offsets: Window<'a>,
    bytes: Window<'a>,
    presence: Window<'a>,
}

impl<'a> Tokens<'a> {
    /// A walk over the tokens of the ids from `start` to `end`, which is at most the count.
    pub(crate) fn walk(self, start: u64, end: u64) -> TokenWalk<'a> {
        let window = |stretch| Window { file: self.file, stretch, start: 0, piece: Vec::new() };
        TokenWalk {
            tokens: self,
            next: start,
            end: end.min(self.parts.count()),
            offsets: window(self.parts.offsets),
            bytes: window(self.parts.bytes),
            presence: window(self.parts.presence),
        }
    }
}

impl TokenWalk<'_> {
    /// The next id and its token, `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<(u64, Option<&str>)>> {
        let id = self.next;
        if id >= self.end {
            return Ok(None);
        }
        self.next += 1;
        let bounds = self.offsets.get(id * 8, 16)?;
        let (start, end) =
            (LittleEndian::read_u64(&bounds[0..8]), LittleEndian::read_u64(&bounds[8..16]));
        let present = self.presence.get(id / 8, 1)?[0] >> (id % 8) & 1 == 1;
        let bytes = self.tokens.parts.bytes.bytes;
        let first_is_wrong = id == 0 && start != 0;
        if first_is_wrong || start > end || end > bytes || end - start > LONGEST_TOKEN {
            let found = FormatError::TokenOffsets { id, start, end, bytes };
            return Err(self.tokens.damaged(found));
        }
        if !present {
            if start != end {
                return Err(self.tokens.damaged(FormatError::TokenPresence { id }));
            }
            return Ok(Some((id, None)));
        }
        let token = std::str::from_utf8(self.bytes.get(start, end - start)?)
            .map_err(|_| self.tokens.damaged(FormatError::TokenUtf8 { id }))?;
        Ok(Some((id, Some(token))))
    }
}

/// A part of a stretch in memory that moves forward with what is asked of it.
struct Window<'a> {
    file: &'a StoredFile,
    stretch: Stretch,
    start: u64,
    piece: Vec<u8>,
}

impl Window<'_> {
    /// Bytes of the stretch, which must hold them.
    fn get(&mut self, start: u64, bytes: u64) -> Result<&[u8]> {
        let held = self.start + self.piece.len() as u64;
        if bytes > 0 && (start < self.start || start + bytes > held) {
            let left = self.stretch.bytes - start;
            let length = left.min(bytes.max(PIECE));
            self.piece = self.file.bytes_at(self.stretch.offset + start, length)?.into_owned();
            self.start = start;
        }
        let from = usize::try_from(start.saturating_sub(self.start)).unwrap_or(usize::MAX);
        let length = usize::try_from(bytes).unwrap_or(usize::MAX);
        Ok(if bytes == 0 { &[] } else { &self.piece[from..from + length] })
    }
}
