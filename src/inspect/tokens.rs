//! Tokens beside rows.

use xxhash_rust::xxh3::xxh3_64;

use super::duplicates::Seen;
use super::found::{RowList, Tokens};
use crate::error::{Error, Result};
use crate::table::Table;

/// The ids of a list that are kept.
const SHOWN: usize = 10;

/// The tokens between two looks at whether to go on.
const LOOK: u64 = 1 << 16;

impl RowList {
    /// Adds a row, in the order of ids.
    pub(super) fn add(&mut self, id: u64) {
        self.count += 1;
        if self.first.len() < SHOWN {
            self.first.push(id);
        }
    }

    /// Adds as many rows as follow each other.
    fn add_all(&mut self, ids: std::ops::Range<u64>) {
        let room = SHOWN - self.first.len();
        self.first.extend(ids.clone().take(room));
        self.count += ids.end.saturating_sub(ids.start);
    }

    /// Adds those of another, which may lie before or after.
    pub(super) fn join(&mut self, other: Self) {
        self.count += other.count;
        self.first.extend(other.first);
        self.first.sort_unstable();
        self.first.truncate(SHOWN);
    }
}

/// Walks over all tokens; `None` for a table without.
pub(super) fn tokens(
    table: &Table,
    memory: u64,
    mut goes_on: impl FnMut() -> bool,
) -> Result<Option<Tokens>> {
    let Some(sections) = table.token_sections()? else { return Ok(None) };
    let (count, vocab) = (sections.parts.count(), table.vocab());
    let [mut rows_without, mut without_rows, mut empty] = [const { RowList::EMPTY }; 3];
    let (mut there, mut longest) = (0, 0);
    let mut seen = Seen::new(memory);
    let mut walk = sections.walk(0, count);
    while let Some((id, token)) = walk.next()? {
        if id % LOOK == 0 && !goes_on() {
            return Err(Error::Interrupted);
        }
        let Some(token) = token else {
            if id < vocab {
                rows_without.add(id);
            }
            continue;
        };
        there += 1;
        longest = longest.max(token.len() as u64);
        if id >= vocab {
            without_rows.add(id);
        }
        if token.is_empty() {
            empty.add(id);
        }
        seen.add(xxh3_64(token.as_bytes()), id)?;
    }
    rows_without.add_all(count.min(vocab)..vocab);
    let duplicates = seen.finish(|id| id);
    Ok(Some(Tokens { count: there, rows_without, without_rows, empty, longest, duplicates }))
}

impl RowList {
    const EMPTY: RowList = RowList { count: 0, first: Vec::new() };
}
