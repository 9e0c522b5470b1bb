//! Which rows of a table are converted, and the order that they are written in.

use std::borrow::Cow;
use std::ops::{ControlFlow, Range};

use serde_json::{Value, json};

use super::ConvertOptions;
use super::rows::Recoding;
use crate::error::{Error, Result};
use crate::table::Table;
use crate::writer::{TableWriter, WriteOptions};

/// The bytes read at once; rounded down to whole rows, and at least one row.
const PIECE: usize = 4 << 20;

/// The tokens between two looks at whether to stop.
const UNSEEN: u64 = 4096;

/// Told the rows written and the rows to write; says whether to go on.
pub(super) type Told<'a> = &'a mut dyn FnMut(u64, u64) -> ControlFlow<()>;

/// Some rows of a table.
pub(super) struct Selection<'a> {
    table: &'a Table,
    rows: Selected<'a>,
    /// The ids whose rows lie first.
    placed: Vec<u64>,
}

enum Selected<'a> {
    Range(Range<u64>),
    /// Rows here and there, which get the ids of their places in this list.
    Picked(Cow<'a, [u64]>),
}

impl<'a> Selection<'a> {
    /// The rows that options ask for; an error where they are not the table's.
    pub(super) fn of(table: &'a Table, options: &'a ConvertOptions) -> Result<Self> {
        let invalid =
            |option, reason: &str| Err(Error::InvalidOption { option, reason: reason.to_owned() });
        let parts = [options.rows.is_some(), options.picked.is_some(), options.kept.is_some()];
        let parts = parts.into_iter().filter(|given| *given).count();
        let order = options.order.as_ref().filter(|ids| !ids.is_empty());
        if order.is_some() && parts > 0 {
            return invalid(
                "order",
                "an order is one of all rows, and some were asked for; convert those first, and \
                 then that table with a trace of its own ids",
            );
        }
        if parts > 1 {
            return invalid(
                "rows",
                "rows are taken by a range, by ids or by tokens, and by one of them",
            );
        }
        let rows = match (&options.picked, &options.kept) {
            (Some(ids), _) => {
                let vocab = table.vocab();
                if let Some(position) = ids.iter().position(|id| *id >= vocab) {
                    let id = ids[position].into();
                    return Err(Error::RowOutOfRange { id, position: Some(position), vocab });
                }
                Selected::Picked(Cow::Borrowed(ids))
            }
            (None, Some(tokens)) => {
                let ids = ids_of(table, tokens)?;
                options.check_kept(ids.len() as u64)?;
                Selected::Picked(Cow::Owned(ids))
            }
            (None, None) => Selected::Range(options.rows_of(table)?),
        };
        let mut selection = Selection { table, rows, placed: Vec::new() };
        if selection.is_whole() {
            selection.placed = match (&options.order, table.places()?) {
                (Some(ids), _) => ids.clone(),
                (None, Some(places)) => places.ids()?.into_placed(),
                (None, None) => Vec::new(),
            };
        }
        Ok(selection)
    }

    /// The number of rows.
    pub(super) fn count(&self) -> u64 {
        match &self.rows {
            Selected::Range(rows) => rows.end - rows.start,
            Selected::Picked(ids) => ids.len() as u64,
        }
    }

    /// True where all rows keep their ids.
    pub(super) fn is_whole(&self) -> bool {
        matches!(&self.rows, Selected::Range(rows) if *rows == (0..self.table.vocab()))
    }

    /// Tells a writer which rows will come. The ids of a part are not the tokenizer's.
    pub(super) fn describe(&self, write: WriteOptions) -> Result<WriteOptions> {
        let write = write.vocab(self.count()).order(self.placed.as_slice());
        Ok(match self.table.tokenizer_json()?.filter(|_| self.is_whole()) {
            Some(json) => write.tokenizer(json.into_owned()),
            None => write,
        })
    }

    /// Adds to what a file says of its source.
    pub(super) fn tell(&self, source: &mut Value) {
        match &self.rows {
            Selected::Range(_) if self.is_whole() => {}
            Selected::Range(rows) => source["rows"] = json!([rows.start, rows.end]),
            Selected::Picked(ids) => source["picked_rows"] = ids.len().into(),
        }
    }

    /// Writes the rows.
    pub(super) fn copy_rows(
        &self,
        recoding: &mut Recoding<'_>,
        writer: &mut TableWriter,
        told: Told<'_>,
    ) -> Result<()> {
        let mut copying = Copying { table: self.table, recoding, writer, told, all: self.count() };
        match &self.rows {
            Selected::Range(rows) if self.placed.is_empty() => copying.copy_range(rows, 0, &[]),
            Selected::Range(rows) => {
                copying.copy_picked(&self.placed)?;
                let mut placed = self.placed.clone();
                placed.sort_unstable();
                copying.copy_range(rows, placed.len() as u64, &placed)
            }
            Selected::Picked(ids) => copying.copy_picked(ids),
        }
    }

    /// Hands out the tokens of the rows, in the order of their new ids. Tokens beyond the last row
    /// stay with a whole table.
    pub(super) fn each_token(
        &self,
        mut take: impl FnMut(Option<&str>) -> Result<()>,
        mut go_on: impl FnMut() -> ControlFlow<()>,
    ) -> Result<()> {
        let Some(tokens) = self.table.token_sections()? else { return Ok(()) };
        let mut stop = |count: u64| {
            let stops = count.is_multiple_of(UNSEEN) && go_on().is_break();
            if stops { Err(Error::Interrupted) } else { Ok(()) }
        };
        match &self.rows {
            Selected::Range(rows) => {
                let end = if rows.end == self.table.vocab() { u64::MAX } else { rows.end };
                let mut walk = tokens.walk(rows.start, end);
                while let Some((id, token)) = walk.next()? {
                    take(token)?;
                    stop(id)?;
                }
            }
            Selected::Picked(ids) => {
                for (count, id) in (0..).zip(&**ids) {
                    take(tokens.token(*id)?.as_deref())?;
                    stop(count)?;
                }
            }
        }
        stop(0)
    }
}

/// The ids of the tokens that a table has rows of, in ascending order.
fn ids_of(table: &Table, tokens: &[String]) -> Result<Vec<u64>> {
    if table.token_count()? == 0 {
        return Err(Error::Missing {
            path: table.info().path.clone(),
            what: "tokens",
            way_out: "pick rows by their ids, or open the model directory that holds its \
                      vocabulary",
        });
    }
    let mut ids = Vec::new();
    for token in tokens {
        ids.extend(table.id_of(token)?.filter(|id| *id < table.vocab()));
    }
    ids.sort_unstable();
    Ok(ids)
}

/// Rows on their way into a file.
struct Copying<'a, 'r, 't> {
    table: &'a Table,
    recoding: &'a mut Recoding<'r>,
    writer: &'a mut TableWriter,
    told: Told<'t>,
    all: u64,
}

impl Copying<'_, '_, '_> {
    fn row_bytes(&self) -> usize {
        usize::try_from(self.table.row_bytes()).unwrap_or(usize::MAX).max(1)
    }

    /// Copies rows that follow each other, but for some ids in ascending order. `done` rows were
    /// written before.
    fn copy_range(&mut self, rows: &Range<u64>, mut done: u64, but: &[u64]) -> Result<()> {
        let row_bytes = self.row_bytes();
        let mut scan = self.table.scan_rows(rows.clone(), PIECE);
        while let Some(piece) = scan.next()? {
            let end = piece.first + (piece.bytes.len() / row_bytes) as u64;
            let out =
                but.partition_point(|id| *id < piece.first)..but.partition_point(|id| *id < end);
            let mut first = piece.first;
            for gap in but[out].iter().copied().chain([end]) {
                let at =
                    |id: u64| usize::try_from(id - piece.first).unwrap_or(usize::MAX) * row_bytes;
                let rows = &piece.bytes[at(first)..at(gap)];
                self.writer.push_encoded(self.recoding.encode(first, rows, row_bytes)?)?;
                done += gap - first;
                first = gap + 1;
            }
            self.tell(done)?;
        }
        Ok(())
    }

    /// Copies rows here and there, which are gathered some at a time.
    fn copy_picked(&mut self, ids: &[u64]) -> Result<()> {
        let row_bytes = self.row_bytes();
        let mut rows = Vec::new();
        let mut done = 0;
        for ids in ids.chunks((PIECE / row_bytes).max(1)) {
            rows.resize(ids.len().saturating_mul(row_bytes), 0);
            self.table.gather_bytes_into(ids, &mut rows)?;
            for (id, row) in ids.iter().zip(rows.chunks_exact(row_bytes)) {
                self.writer.push_encoded(self.recoding.encode(*id, row, row_bytes)?)?;
            }
            done += ids.len() as u64;
            self.tell(done)?;
        }
        Ok(())
    }

    fn tell(&mut self, done: u64) -> Result<()> {
        match (self.told)(done, self.all) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Interrupted),
        }
    }
}
