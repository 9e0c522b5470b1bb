//! Reading all of the token sections and checking every rule that they keep.

use byteorder::{ByteOrder, LittleEndian};

use super::index::{IndexShape, LONGEST_BUCKET};
use super::lookup::Tokens;
use crate::error::{FormatError, Result};
use crate::storage::{Scan, Stretch};

/// The bytes read at once.
const PIECE: usize = 1 << 20;

/// The most tokens that are looked up through the index, spread over all of them.
const MOST_LOOKUPS: u64 = 1_000_000;

/// Checks offsets, presence, UTF-8 and the index; the first finding is the error.
///
/// Whether the index finds each token, and its lowest id, is tried for every token of up to a
/// million, and for a million spread evenly of more.
///
/// # Errors
///
/// The rule that is broken, or a failed read.
pub(crate) fn verify_tokens(tokens: Tokens<'_>) -> Result<()> {
    verify_index(tokens)?;
    verify_walk(tokens)
}

fn verify_walk(tokens: Tokens<'_>) -> Result<()> {
    let count = tokens.parts.count();
    let step = count.div_ceil(MOST_LOOKUPS).max(1);
    let mut walk = tokens.walk(0, count);
    while let Some((id, token)) = walk.next()? {
        let Some(token) = token.filter(|_| id.is_multiple_of(step)) else { continue };
        if tokens.id_of(token)?.is_none_or(|found| found > id) {
            let rule = "each token has an entry, with its lowest id";
            return Err(tokens.damaged(FormatError::TokenIndex { rule, at: id }));
        }
    }
    verify_ends(tokens)
}

/// The last offset, and the presence bits beyond the last token.
fn verify_ends(tokens: Tokens<'_>) -> Result<()> {
    let (file, parts, count) = (tokens.file, tokens.parts, tokens.parts.count());
    let last = file.bytes_at(parts.offsets.offset + count * 8, 8)?;
    let (start, bytes) = (LittleEndian::read_u64(&last), parts.bytes.bytes);
    if start != bytes {
        let id = count.saturating_sub(1);
        let found = FormatError::TokenOffsets { id, start, end: start, bytes };
        return Err(tokens.damaged(found));
    }
    if !count.is_multiple_of(8) {
        let last = file.bytes_at(parts.presence.offset + count / 8, 1)?;
        if last[0] >> (count % 8) != 0 {
            return Err(tokens.damaged(FormatError::TokenPresence { id: count }));
        }
    }
    Ok(())
}

/// The directory and the entries, one after the other.
fn verify_index(tokens: Tokens<'_>) -> Result<()> {
    let index = tokens.parts.index;
    let shape = tokens.index_shape()?;
    let damaged = |rule, at| Err(tokens.damaged(FormatError::TokenIndex { rule, at }));
    let directory = Stretch {
        offset: index.offset + IndexShape::directory_entry_at(0),
        bytes: shape.entries_at() - IndexShape::directory_entry_at(0),
    };
    let mut words = Scan::new(tokens.file, directory.offset, directory.end(), PIECE);
    let (mut bucket, mut before) = (0u64, 0);
    while let Some((_, piece)) = words.next()? {
        for word in piece.chunks_exact(8) {
            let start = LittleEndian::read_u64(word);
            if start < before || (bucket == 0 && start != 0) {
                return damaged("buckets ascend from zero", bucket);
            }
            if start - before > LONGEST_BUCKET {
                return damaged("a bucket has at most 65,536 entries", bucket - 1);
            }
            (before, bucket) = (start, bucket + 1);
        }
    }
    if before != shape.entries {
        return damaged("buckets ascend and end with the last entry", bucket - 1);
    }
    #[expect(clippy::cast_possible_truncation, reason = "an entry has 6 or 10 bytes")]
    let entry_bytes = shape.entry_bytes() as usize;
    let start = index.offset + shape.entries_at();
    let end = start + shape.entries * shape.entry_bytes();
    let mut entries = Scan::new(tokens.file, start, end, PIECE / entry_bytes * entry_bytes);
    let mut at = 0;
    while let Some((_, piece)) = entries.next()? {
        for entry in piece.chunks_exact(entry_bytes) {
            if shape.entry(entry).1 >= tokens.parts.count() {
                return damaged("ids are below the number of tokens", at);
            }
            at += 1;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{TokenParts, encode_tokens};
    use super::*;
    use crate::error::Error;
    use crate::storage::StoredFile;

    /// What verification says of 300 tokens, some of them twice, after a change to their bytes.
    fn after(change: impl Fn(&mut [u8], &TokenParts)) -> Option<FormatError> {
        let tokens: Vec<String> = (0..300).map(|id| format!("token {}", id % 290)).collect();
        let (mut encoded, parts) =
            encode_tokens(300, |id| (id % 7 != 0).then(|| tokens[id].as_str()));
        change(&mut encoded, &parts);
        let file = StoredFile::from_bytes(&encoded, "tokens").unwrap();
        match verify_tokens(Tokens { file: &file, parts: &parts }) {
            Ok(()) => None,
            Err(Error::Format { source, .. }) => Some(source),
            Err(other) => panic!("{other}"),
        }
    }

    fn place(stretch: Stretch) -> usize {
        stretch.offset as usize
    }

    #[test]
    fn what_was_encoded_is_sound() {
        assert_eq!(after(|_, _| ()), None);
    }

    #[test]
    fn offsets_that_lie_are_found() {
        for (token, value) in [(0, 1u64), (5, 0), (300, 1), (300, 1 << 40)] {
            let found = after(|bytes, parts| {
                let at = place(parts.offsets) + token * 8;
                LittleEndian::write_u64(&mut bytes[at..at + 8], value);
            });
            assert!(matches!(found, Some(FormatError::TokenOffsets { .. })), "{token}: {found:?}");
        }
    }

    #[test]
    fn tokens_longer_than_is_read_are_found() {
        for (length, is_sound) in [(1 << 20, true), ((1 << 20) + 1, false)] {
            let long = "x".repeat(length);
            let (encoded, parts) = encode_tokens(1, |_| Some(&long));
            let file = StoredFile::from_bytes(&encoded, "tokens").unwrap();
            let tokens = Tokens { file: &file, parts: &parts };
            assert_eq!(tokens.token(0).is_ok(), is_sound);
            assert_eq!(verify_walk(tokens).is_ok(), is_sound);
            assert_eq!(tokens.walk(0, 1).next().is_ok(), is_sound);
        }
    }

    #[test]
    fn presence_that_lies_is_found() {
        // Token 1 is there, and has bytes; bit 300 is beyond the last token.
        for bit in [1usize, 300] {
            let found =
                after(|bytes, parts| bytes[place(parts.presence) + bit / 8] ^= 1 << (bit % 8));
            assert_eq!(found, Some(FormatError::TokenPresence { id: bit as u64 }));
        }
    }

    #[test]
    fn bytes_that_are_no_utf8_are_found() {
        let found = after(|bytes, parts| bytes[place(parts.bytes)] = 0xff);
        assert_eq!(found, Some(FormatError::TokenUtf8 { id: 1 }));
    }

    #[test]
    fn an_index_that_leads_to_another_token_is_found() {
        let entries = |parts: &TokenParts| place(parts.index) + 32 + 8 * (16 + 1);
        // Every entry says token 1; then: no entry says anything that is sought.
        for (from, to) in [(2, 6), (0, 2)] {
            let found = after(|bytes, parts| {
                for entry in bytes[entries(parts)..].chunks_exact_mut(6) {
                    entry[from..to].fill(0);
                    entry[from] = 1;
                }
            });
            assert!(matches!(found, Some(FormatError::TokenIndex { .. })), "{found:?}");
        }
    }

    #[test]
    fn an_index_that_is_empty_is_found() {
        let found = after(|bytes, parts| {
            let index = place(parts.index);
            // All buckets end where they start, but the last, which the header asks for.
            bytes[index + 32..index + 32 + 8 * 16].fill(0);
        });
        assert!(matches!(found, Some(FormatError::TokenIndex { .. })), "{found:?}");
    }
}
