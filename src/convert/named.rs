//! The rows of some tokens of a stream.

use std::collections::HashMap;
use std::path::PathBuf;

use super::stream::twins;
use crate::error::{Place, Result};
use crate::source::{Batch, RowStream, StreamForm};

/// What becomes of the second row of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Second {
    /// It is an error that names both.
    Refused,
    /// It is left out.
    LeftOut,
    /// It is kept: another stage chooses.
    Kept,
}

/// Those rows of a stream that have one of some tokens.
pub(super) struct Named {
    stream: Box<dyn RowStream>,
    form: StreamForm,
    path: PathBuf,
    /// The row that each token was first found in.
    wanted: HashMap<Box<str>, Option<u64>>,
    second: Second,
    /// The row that the stream gives next.
    next: u64,
}

impl Named {
    pub(super) fn new(
        stream: Box<dyn RowStream>,
        form: &StreamForm,
        path: PathBuf,
        tokens: &[String],
        second: Second,
    ) -> Self {
        let wanted = tokens.iter().map(|token| (token.as_str().into(), None)).collect();
        Named { stream, form: form.clone(), path, wanted, second, next: 0 }
    }
}

impl RowStream for Named {
    fn next(&mut self, batch: &mut Batch) -> Result<bool> {
        while self.stream.next(batch)? {
            let Named { stream, form, path, wanted, second, next } = self;
            let first = *next;
            *next += batch.count as u64;
            batch.keep_where(form.row_bytes(), |row, token| {
                let row = first + row as u64;
                let Some(before) = token.and_then(|token| wanted.get_mut(token)) else {
                    return Ok(false);
                };
                match (*before, *second) {
                    (None, _) => *before = Some(row),
                    (Some(_), Second::Kept) => {}
                    (Some(_), Second::LeftOut) => return Ok(false),
                    (Some(before), Second::Refused) => {
                        let places = (stream.place(before), stream.place(row));
                        return Err(twins(path, form.format, places, token.unwrap_or_default(), 1));
                    }
                }
                Ok(true)
            })?;
            batch.recount(form.dtype);
            if batch.count > 0 {
                return Ok(true);
            }
        }
        batch.clear();
        Ok(false)
    }

    fn place(&self, row: u64) -> Place {
        // Each token is there once: nobody asks where another one is.
        Place::Row(row)
    }

    fn consumed(&self) -> u64 {
        self.stream.consumed()
    }
}
