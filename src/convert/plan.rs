//! What converting a table would write.

use std::ops::ControlFlow;

use super::rows::Recoding;
use super::selection::Selection;
use super::stream::Planned;
use super::{ConvertOptions, write_options};
use crate::error::Result;
use crate::table::Table;
use crate::writer::TokenTotals;

/// Headers and tokens are read, rows are not.
pub(super) fn of_table(table: &Table, options: &ConvertOptions) -> Result<Planned> {
    let selection = Selection::of(table, options)?;
    let dtype = options.dtype.unwrap_or(table.dtype());
    let recoding = Recoding::new(table, dtype)?;
    let write = write_options(table, options, &selection, &recoding)?;
    let mut tokens = TokenTotals::default();
    let count = |token: Option<&str>| {
        tokens.add(token);
        Ok(())
    };
    selection.each_token(count, || ControlFlow::Continue(()))?;
    let vocab = selection.count();
    let (file_bytes, row_stride) = write.planned(vocab, tokens)?;
    Ok(Planned {
        vocab,
        dim: table.dim(),
        dtype,
        row_stride,
        tokens: tokens.count,
        file_bytes,
        at_most: tokens.count > 0,
        non_finite: None,
    })
}
