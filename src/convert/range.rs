//! The rows of a range of a stream.

use std::ops::Range;

use crate::error::{Error, Place, Result};
use crate::source::{Batch, RowStream, StreamForm};

/// Those rows of a stream that lie in a range. One that ends at `u64::MAX` goes to the end.
pub(super) struct Ranged {
    stream: Box<dyn RowStream>,
    form: StreamForm,
    range: Range<u64>,
    /// The row that the stream gives next.
    next: u64,
}

impl Ranged {
    pub(super) fn new(stream: Box<dyn RowStream>, form: &StreamForm, range: Range<u64>) -> Self {
        Ranged { stream, form: form.clone(), range, next: 0 }
    }

    fn outside(&self) -> Error {
        let Range { start, end } = self.range;
        let reason = format!("expected a range within 0:{}, found {start}:{end}", self.next);
        Error::InvalidOption { option: "rows", reason }
    }
}

impl RowStream for Ranged {
    fn next(&mut self, batch: &mut Batch) -> Result<bool> {
        let Range { start, end } = self.range;
        if start > end {
            let reason =
                format!("expected a range that does not end before it starts, found {start}:{end}");
            return Err(Error::InvalidOption { option: "rows", reason });
        }
        while self.next < end {
            if !self.stream.next(batch)? {
                let open = end == u64::MAX && start <= self.next;
                batch.clear();
                return if open { Ok(false) } else { Err(self.outside()) };
            }
            let first = self.next;
            self.next += batch.count as u64;
            let within =
                |row: u64| usize::try_from(row.saturating_sub(first)).unwrap_or(usize::MAX);
            let keep = within(start).min(batch.count)..within(end).min(batch.count);
            if !keep.is_empty() {
                batch.keep(keep, self.form.row_bytes());
                batch.recount(self.form.dtype);
                return Ok(true);
            }
        }
        batch.clear();
        Ok(false)
    }

    fn place(&self, row: u64) -> Place {
        self.stream.place(row.saturating_add(self.range.start))
    }

    fn consumed(&self) -> u64 {
        self.stream.consumed()
    }
}
