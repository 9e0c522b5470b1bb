//! What converting a table would write.

use std::ops::Range;

use super::rows::Recoding;
use super::stream::Planned;
use super::{ConvertOptions, metadata};
use crate::error::Result;
use crate::table::Table;
use crate::writer::{TokenTotals, WriteOptions};

/// Headers and tokens are read, rows are not.
pub(super) fn of_table(table: &Table, options: &ConvertOptions) -> Result<Planned> {
    let rows = options.rows_of(table)?;
    let whole = rows == (0..table.vocab());
    let dtype = options.dtype.unwrap_or(table.dtype());
    let recoding = Recoding::new(table, dtype)?;
    let write = options.describe(recoding.describe(WriteOptions::new(table.dim(), dtype)));
    let mut write =
        write.norms(options.norms || table.norms.is_some()).metadata(metadata(table, &rows, None)?);
    if let Some(json) = table.tokenizer_json()?.filter(|_| whole) {
        write = write.tokenizer(json.into_owned());
    }
    let tokens = totals(table, &rows)?;
    let (file_bytes, row_stride) = write.planned(rows.end - rows.start, tokens)?;
    Ok(Planned {
        vocab: rows.end - rows.start,
        dim: table.dim(),
        dtype,
        row_stride,
        tokens: tokens.count,
        file_bytes,
        at_most: tokens.count > 0,
        non_finite: None,
    })
}

fn totals(table: &Table, rows: &Range<u64>) -> Result<TokenTotals> {
    let mut totals = TokenTotals::default();
    let Some(tokens) = table.token_sections()? else { return Ok(totals) };
    let end = if rows.end == table.vocab() { u64::MAX } else { rows.end };
    let mut walk = tokens.walk(rows.start, end);
    while let Some((_, token)) = walk.next()? {
        totals.add(token);
    }
    Ok(totals)
}
