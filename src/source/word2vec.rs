//! word2vec's binary format: a line with the number of words and of columns, then for each word
//! its bytes, a space, and its numbers as little-endian f32.
//!
//! Google's own tool writes a newline after each row, gensim does not; both are read, as gensim
//! does: newlines before a word are none of its bytes.

use super::bytes::Bytes;
use super::kind::word2vec_header;
use super::stream::{Batch, RowStream, StreamForm};
use super::text::{TextEncoding, shown};
use crate::dtype::DType;
use crate::error::{Error, Place, Result};
use crate::layout::LARGEST_DIM;

/// The format's names: of text, which fastText writes too, and of binary.
pub(crate) const TEXT: &str = "word2vec";
pub(crate) const BINARY: &str = "word2vec-binary";

/// The longest word: what bounds the search for the space after it.
const LONGEST_WORD: usize = 1 << 20;

/// The bytes that are looked at first, which nearly every word is shorter than.
const SHORT_WORD: usize = 256;

/// The header of both formats, taken from the bytes: words and columns.
pub(crate) fn take_header(bytes: &mut Bytes, format: &'static str) -> Result<(u64, usize)> {
    let head = bytes.peek(64)?;
    let Some((vocab, dim, length)) = word2vec_header(head) else {
        let reason = format!(
            "expected a line with the number of words and the number of columns, found \"{}\"",
            shown(head)
        );
        return fault(bytes, format, Place::Line(1), reason);
    };
    if dim == 0 || dim > LARGEST_DIM as u64 {
        let reason = format!("{dim} columns are declared, expected 1 to {LARGEST_DIM}");
        return fault(bytes, format, Place::Line(1), reason);
    }
    bytes.take(length);
    Ok((vocab, usize::try_from(dim).unwrap_or(LARGEST_DIM)))
}

/// Refuses a number of rows that the bytes that are left cannot hold, where it is known how
/// many they are. `least` is the fewest bytes of a row.
pub(crate) fn check_count(
    bytes: &Bytes,
    format: &'static str,
    vocab: u64,
    least: u64,
) -> Result<()> {
    match bytes.left() {
        Some(left) if vocab.checked_mul(least).is_none_or(|needed| needed > left) => {
            let reason = format!(
                "{vocab} words are declared, which take at least {least} bytes each, and {left} \
                 bytes follow: cut short, or a wrong number"
            );
            fault(bytes, format, Place::Line(1), reason)
        }
        _ => Ok(()),
    }
}

/// The rows of a binary file.
pub(crate) struct BinaryWords {
    bytes: Bytes,
    form: StreamForm,
    encoding: TextEncoding,
    vocab: u64,
    row: u64,
}

impl BinaryWords {
    /// Reads the header.
    pub(crate) fn open(mut bytes: Bytes, encoding: TextEncoding) -> Result<Self> {
        let (vocab, dim) = take_header(&mut bytes, BINARY)?;
        let row_bytes = dim as u64 * 4;
        // The space after the word, which may be empty.
        check_count(&bytes, BINARY, vocab, row_bytes + 1)?;
        let rows_are_sure = bytes.left().is_some();
        let form = StreamForm {
            format: BINARY,
            dtype: DType::F32,
            dim,
            rows: Some(vocab),
            rows_are_sure,
            has_tokens: true,
        };
        Ok(BinaryWords { bytes, form, encoding, vocab, row: 0 })
    }

    pub(crate) fn form(&self) -> &StreamForm {
        &self.form
    }

    fn word(&mut self, batch: &mut Batch) -> Result<()> {
        while self.bytes.peek(1)? == b"\n" {
            self.bytes.take(1);
        }
        let mut length = memchr::memchr(b' ', self.bytes.peek(SHORT_WORD)?);
        if length.is_none() {
            length = memchr::memchr(b' ', self.bytes.peek(LONGEST_WORD + 1)?);
        }
        let Some(length) = length else {
            let held = self.bytes.peek(LONGEST_WORD + 1)?.len();
            if held > LONGEST_WORD {
                let reason = format!(
                    "word {} of {} has no space after it within {LONGEST_WORD} bytes: not binary \
                     word2vec, or damaged before this place",
                    self.row, self.vocab
                );
                return self.fault(reason);
            }
            return self.cut();
        };
        let word = self.bytes.peek(length)?;
        match self.encoding.decode(word) {
            Ok(token) => batch.tokens.push(Some(&token)),
            Err(reason) => return self.fault(format!("word {}: {reason}", self.row)),
        }
        self.bytes.take(length + 1);
        let row_bytes = self.form.row_bytes();
        if self.bytes.append_to(row_bytes, &mut batch.rows)? < row_bytes {
            return self.cut();
        }
        batch.count += 1;
        self.row += 1;
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        while self.bytes.peek(1)? == b"\n" {
            self.bytes.take(1);
        }
        if self.bytes.peek(1)?.is_empty() {
            return Ok(());
        }
        let reason = format!("{} words are declared, and the file goes on after them", self.vocab);
        self.fault(reason)
    }

    fn cut<T>(&self) -> Result<T> {
        let reason = format!(
            "the file ends within word {} of {}: cut short, copy it again",
            self.row, self.vocab
        );
        self.fault(reason)
    }

    fn fault<T>(&self, reason: String) -> Result<T> {
        fault(&self.bytes, BINARY, Place::Offset(self.bytes.position()), reason)
    }
}

impl RowStream for BinaryWords {
    fn next(&mut self, batch: &mut Batch) -> Result<bool> {
        batch.clear();
        while !batch.is_full(&self.form) && self.row < self.vocab {
            self.word(batch)?;
        }
        if batch.count == 0 {
            self.end()?;
        }
        Ok(batch.count > 0)
    }

    fn consumed(&self) -> u64 {
        self.bytes.consumed()
    }
}

fn fault<T>(bytes: &Bytes, format: &'static str, place: Place, reason: String) -> Result<T> {
    Err(Error::Foreign { path: bytes.path().to_path_buf(), format, place, reason })
}
