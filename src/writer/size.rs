//! The length of a file before it is written.

use super::options::WriteOptions;
use crate::checks::BLOCK_BYTES;
use crate::error::{Error, Result};
use crate::format::{ROWS_OFFSET, TRAILER_BYTES, align_up};
use crate::order::OrderShape;
use crate::tokens::index_bytes;

/// The tokens of a table, added up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TokenTotals {
    /// All of them, absent ones included.
    pub(crate) count: u64,
    /// The distinct ones among those that are there.
    pub(crate) distinct: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
}

impl TokenTotals {
    /// Counts a token, which is taken for one that no other row has.
    pub(crate) fn add(&mut self, token: Option<&str>) {
        self.count += 1;
        self.distinct += u64::from(token.is_some());
        self.bytes += token.map_or(0, str::len) as u64;
    }
}

impl WriteOptions {
    /// The length of the file of so many rows and these tokens, and its row stride.
    pub(crate) fn planned(&self, vocab: u64, tokens: TokenTotals) -> Result<(u64, u64)> {
        let shape = self.shape()?;
        let rows_end = shape.rows_end(vocab)?;
        let mut sections = Vec::new();
        if let Some(order) = OrderShape::of(vocab, self.order.len() as u64) {
            sections.push(Some(order.bytes()));
        }
        if tokens.count > 0 {
            sections.push(tokens.count.checked_add(1).and_then(|count| count.checked_mul(8)));
            sections.push(Some(tokens.bytes));
            sections.push(Some(tokens.count.div_ceil(8)));
            sections.push(index_bytes(tokens.distinct, tokens.count));
        }
        let texts =
            [self.tokenizer.as_ref().map(Vec::len), self.metadata.as_ref().map(String::len)];
        sections.extend(texts.into_iter().flatten().map(|text| Some(text as u64)));
        if self.norms {
            sections.push(vocab.checked_mul(4));
        }
        let end = sections
            .into_iter()
            .try_fold(rows_end, |end, section| align_up(end)?.checked_add(section?));
        let bytes = end.and_then(align_up).and_then(|sums| {
            // A sum of 8 bytes for each block from the rows to the sums.
            let blocks = (sums - ROWS_OFFSET).div_ceil(BLOCK_BYTES.into());
            align_up(sums.checked_add(8 * blocks)?)?.checked_add(TRAILER_BYTES as u64)
        });
        let form = shape.form;
        let too_large = Error::TooLarge { vocab, dim: form.dim.into(), dtype: form.dtype };
        Ok((bytes.ok_or(too_large)?, shape.row_stride))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dtype::DType;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_file_is_as_long_as_it_was_said_to_be(
            vocab in 0u64..3000,
            dim in 1usize..40,
            tokens in proptest::collection::hash_set("\\PC{0,9}", 0..300),
            absent in 0u64..5,
            align in proptest::option::of(prop_oneof![Just(64u64), Just(4096)]),
            order in 0u64..3,
            metadata in proptest::option::of(0usize..5000),
        ) {
            let mut options = WriteOptions::new(dim, DType::F16).norms(absent > 2);
            if let Some(bytes) = align {
                options = options.align(bytes);
            }
            if let Some(length) = metadata {
                options = options.metadata("x".repeat(length)).tokenizer("y".repeat(length / 2));
            }
            if order > 0 && vocab > order {
                options = options.order((0..order).rev().collect::<Vec<_>>());
            }
            let mut totals = TokenTotals::default();
            let directory = tempfile::tempdir().unwrap();
            let mut writer = options.clone().create(directory.path().join("x.emb")).unwrap();
            writer.push_encoded(&vec![0; usize::try_from(vocab).unwrap() * dim * 2]).unwrap();
            for token in tokens.iter().map(|it| Some(it.as_str())).chain((0..absent).map(|_| None)) {
                totals.add(token);
                writer.push_token(token).unwrap();
            }
            let written = writer.finish().unwrap();
            let planned = options.planned(vocab, totals).unwrap();
            prop_assert_eq!(planned, (written.file_bytes, written.row_stride));
        }
    }
}
