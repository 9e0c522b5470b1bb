//! Orders of the rows that a trace speaks of.

use std::ops::ControlFlow;

use super::bisect::bisect;
use crate::error::Result;
use crate::gather::Crew;

/// Some batches, with the rows in them numbered from 0 on in the order of their use.
pub(super) struct Uses {
    /// The id of each row, the most used first; of those that are used as often the one that
    /// was used first.
    ids: Vec<u64>,
    /// How many rows are used in more than one batch.
    common: usize,
    /// The batches of each row, one row after the other.
    batches: Vec<u32>,
    /// Where those of each row end.
    ends: Vec<usize>,
    batch_count: usize,
}

impl Uses {
    /// The uses in batches of distinct ids.
    pub(super) fn of<'a>(batches: impl Iterator<Item = &'a [u64]> + Clone) -> Self {
        let mut uses: Vec<(u64, u32)> = (0u32..)
            .zip(batches.clone())
            .flat_map(|(batch, ids)| ids.iter().map(move |id| (*id, batch)))
            .collect();
        uses.sort_unstable();
        // The number of uses (the most first), the first batch, the id and where its uses start.
        let mut rows: Vec<(usize, u32, u64, usize)> = Vec::new();
        let mut start = 0;
        for same in uses.chunk_by(|one, other| one.0 == other.0) {
            rows.push((usize::MAX - same.len(), same[0].1, same[0].0, start));
            start += same.len();
        }
        rows.sort_unstable();
        let mut found = Uses {
            ids: rows.iter().map(|row| row.2).collect(),
            common: rows.partition_point(|row| usize::MAX - row.0 > 1),
            batches: Vec::with_capacity(uses.len()),
            ends: Vec::with_capacity(rows.len()),
            batch_count: batches.count(),
        };
        for (count, _, _, start) in rows {
            let own = &uses[start..start + (usize::MAX - count)];
            found.batches.extend(own.iter().map(|(_, batch)| *batch));
            found.ends.push(found.batches.len());
        }
        found
    }

    /// The batches of a row, by its number.
    pub(super) fn batches_of(&self, row: u32) -> &[u32] {
        let row = row as usize;
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.batches[start..self.ends[row]]
    }

    pub(super) fn batch_count(&self) -> usize {
        self.batch_count
    }

    /// The ids by how much they are used.
    pub(super) fn by_use(&self) -> Vec<u64> {
        self.ids.clone()
    }

    /// The ids so that those of one batch are near each other. Rows of which nothing is known but
    /// a single batch follow, batch by batch.
    pub(super) fn together(
        &self,
        crew: Crew,
        progress: &(impl Fn(u64, u64) -> ControlFlow<()> + Sync),
    ) -> Result<Vec<u64>> {
        let mut rows: Vec<u32> = (0u32..).take(self.common).collect();
        bisect(self, &mut rows, crew, progress)?;
        let common = rows.into_iter().map(|row| self.ids[row as usize]);
        Ok(common.chain(self.ids[self.common..].iter().copied()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_numbered_by_their_use() {
        let batches: [&[u64]; 4] = [&[3, 9], &[1, 3, 7], &[0, 3, 7], &[0, 9]];
        let uses = Uses::of(batches.into_iter());
        // 3 in three batches; 9, 7, 0 in two, by the first; 1 in one.
        assert_eq!(uses.by_use(), [3, 9, 7, 0, 1]);
        assert_eq!((uses.common, uses.batch_count()), (4, 4));
        let found: Vec<&[u32]> = (0..5).map(|row| uses.batches_of(row)).collect();
        assert_eq!(found, [&[0, 1, 2][..], &[0, 3], &[1, 2], &[2, 3], &[1]]);
        assert_eq!(Uses::of(std::iter::empty()).by_use(), [0; 0]);
    }
}
