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

    /// How many rows are used in so many batches or more. They are the first by their use.
    pub(super) fn common(&self, least: usize) -> usize {
        let uses =
            |row: usize| self.ends[row] - row.checked_sub(1).map_or(0, |before| self.ends[before]);
        let (mut low, mut high) = (0, self.ids.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if uses(middle) >= least { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// The most batches that a row is used in.
    pub(super) fn most(&self) -> usize {
        self.ends.first().copied().unwrap_or(0)
    }

    /// The rows that are used in more than one batch, by how much they are used: of the others
    /// nothing is known that would help them.
    pub(super) fn by_use(&self) -> Vec<u32> {
        (0u32..).take(self.common(2)).collect()
    }

    /// The same rows, so that those of one batch are near each other.
    pub(super) fn together(
        &self,
        crew: Crew,
        progress: &(impl Fn(u64, u64) -> ControlFlow<()> + Sync),
    ) -> Result<Vec<u32>> {
        let mut rows = self.by_use();
        bisect(self, &mut rows, crew, progress)?;
        Ok(rows)
    }

    /// The ids of those of some rows that are used in so many batches or more.
    pub(super) fn ids(&self, rows: &[u32], least: usize) -> Vec<u64> {
        let common = self.common(least);
        let rows = rows.iter().map(|row| *row as usize).filter(|row| *row < common);
        rows.map(|row| self.ids[row]).collect()
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
        assert_eq!(uses.ids, [3, 9, 7, 0, 1]);
        assert_eq!([1, 2, 3, 4].map(|least| uses.common(least)), [5, 4, 1, 0]);
        assert_eq!((uses.most(), uses.batch_count()), (3, 4));
        assert_eq!(uses.ids(&uses.by_use(), 1), [3, 9, 7, 0]);
        assert_eq!(uses.ids(&[3, 2, 0], 3), [3]);
        let found: Vec<&[u32]> = (0..5).map(|row| uses.batches_of(row)).collect();
        assert_eq!(found, [&[0, 1, 2][..], &[0, 3], &[1, 2], &[2, 3], &[1]]);
        let none = Uses::of(std::iter::empty());
        assert_eq!((none.by_use().len(), none.most(), none.common(0)), (0, 0, 0));
    }
}
