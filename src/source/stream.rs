//! What a source gives that cannot be read in place: rows and tokens, some at a time.

use std::ops::Range;

use byteorder::{ByteOrder, LittleEndian};

use crate::dtype::DType;
use crate::error::{Place, Result};

/// The bytes of rows that a batch has about; at least a row.
pub(crate) const BATCH_BYTES: usize = 1 << 20;

/// What all rows of a stream are like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StreamForm {
    /// The format's name as `info` would show it: `word2vec`, `parquet`.
    pub(crate) format: &'static str,
    pub(crate) dtype: DType,
    pub(crate) dim: usize,
    /// The number of rows, where the source tells.
    pub(crate) rows: Option<u64>,
    /// True where that is no more than the source's bytes can hold, so that space may be set
    /// aside for them.
    pub(crate) rows_are_sure: bool,
    /// True where each row has a token, present or absent.
    pub(crate) has_tokens: bool,
}

impl StreamForm {
    /// The bytes of an encoded row.
    pub(crate) fn row_bytes(&self) -> usize {
        self.dim.saturating_mul(self.dtype.block_bytes())
    }

    /// The rows that make a batch.
    pub(crate) fn batch_rows(&self) -> usize {
        (BATCH_BYTES / self.row_bytes().max(1)).max(1)
    }
}

/// A source of rows in the order of their ids. Memory is bounded by a batch and by what the
/// format itself keeps together, such as a page of Parquet.
pub(crate) trait RowStream: Send {
    /// Replaces what a batch holds by the next rows; false at the end.
    fn next(&mut self, batch: &mut Batch) -> Result<bool>;

    /// Where a row stands in the source, for errors.
    fn place(&self, row: u64) -> Place {
        Place::Row(row)
    }

    /// The bytes of the source that have been read.
    fn consumed(&self) -> u64;
}

/// Rows that follow each other, with their tokens.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// The number of rows.
    pub(crate) count: usize,
    /// The rows, encoded, one after the other.
    pub(crate) rows: Vec<u8>,
    /// The token of each row, where the stream has tokens.
    pub(crate) tokens: TokenList,
    /// The NaNs and infinities among numbers that were text.
    pub(crate) non_finite: u64,
}

impl Batch {
    /// Keeps the rows of a range within it, of so many bytes each, and their tokens.
    pub(crate) fn keep(&mut self, rows: Range<usize>, row_bytes: usize) {
        if rows == (0..self.count) {
            return;
        }
        self.rows.truncate(rows.end * row_bytes);
        self.rows.drain(..rows.start * row_bytes);
        let mut tokens = TokenList::default();
        self.tokens.iter().take(rows.end).skip(rows.start).for_each(|token| tokens.push(token));
        (self.count, self.tokens) = (rows.len(), tokens);
    }

    /// Keeps the rows whose token is one of those that `wanted` is true of, of so many bytes each.
    pub(crate) fn keep_where(
        &mut self,
        row_bytes: usize,
        mut wanted: impl FnMut(usize, Option<&str>) -> Result<bool>,
    ) -> Result<()> {
        let (mut tokens, mut count) = (TokenList::default(), 0);
        for (row, token) in self.tokens.iter().enumerate() {
            if wanted(row, token)? {
                self.rows.copy_within(row * row_bytes..(row + 1) * row_bytes, count * row_bytes);
                tokens.push(token);
                count += 1;
            }
        }
        self.rows.truncate(count * row_bytes);
        (self.count, self.tokens) = (count, tokens);
        Ok(())
    }

    /// Counts what is not finite again, after rows were left out.
    pub(crate) fn recount(&mut self, dtype: DType) {
        if self.non_finite == 0 {
            return;
        }
        let wide = |bytes: &[u8]| !LittleEndian::read_f64(bytes).is_finite();
        let narrow = |bytes: &[u8]| !LittleEndian::read_f32(bytes).is_finite();
        let numbers = self.rows.chunks_exact(dtype.block_bytes());
        let count = numbers.filter(|it| if dtype == DType::F64 { wide(it) } else { narrow(it) });
        self.non_finite = count.count() as u64;
    }

    /// True where it holds as much as a batch of a form is to.
    pub(crate) fn is_full(&self, form: &StreamForm) -> bool {
        self.count >= form.batch_rows() || self.tokens.text.len() >= BATCH_BYTES
    }

    /// Forgets what the batch holds, but for its memory.
    pub(crate) fn clear(&mut self) {
        self.count = 0;
        self.rows.clear();
        self.tokens.clear();
        self.non_finite = 0;
    }
}

/// Tokens, one after the other.
#[derive(Debug, Default)]
pub(crate) struct TokenList {
    text: String,
    /// Where each token ends in the text; `None` for an absent one.
    ends: Vec<Option<usize>>,
}

impl TokenList {
    pub(crate) fn push(&mut self, token: Option<&str>) {
        if let Some(token) = token {
            self.text.push_str(token);
        }
        self.ends.push(token.map(|_| self.text.len()));
    }

    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Option<&str>> {
        let mut start = 0;
        self.ends.iter().map(move |end| {
            let token = &self.text[start..(*end)?];
            start += token.len();
            Some(token)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_as_they_went_in() {
        let tokens = [Some("the"), None, Some(""), None, None, Some("çà"), Some("")];
        let mut list = TokenList::default();
        for token in tokens {
            list.push(token);
        }
        assert_eq!(list.iter().collect::<Vec<_>>(), tokens);
        list.clear();
        assert_eq!(list.iter().count(), 0);
    }
}
