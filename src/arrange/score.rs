//! What an order of rows costs: the pages that batches touch.

/// The pages that are counted, and read from a device at least.
const PAGE: u64 = 4096;

/// How rows lie from the start of a page on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lying {
    pub(super) row_bytes: u64,
    pub(super) row_stride: u64,
}

impl Lying {
    /// The pages of a row, the first and the last.
    fn pages(self, place: u64) -> (u64, u64) {
        let start = place.saturating_mul(self.row_stride);
        (start / PAGE, start.saturating_add(self.row_bytes.max(1) - 1) / PAGE)
    }
}

/// Where each row lies: some first, in an order of their own, the others by their ids.
pub(super) struct Places {
    /// The ids that are placed and their places, by id.
    placed: Vec<(u64, u64)>,
}

impl Places {
    pub(super) fn of(ids: &[u64]) -> Self {
        let mut placed: Vec<(u64, u64)> = ids.iter().copied().zip(0..).collect();
        placed.sort_unstable();
        Places { placed }
    }

    fn of_id(&self, id: u64) -> u64 {
        match self.placed.binary_search_by_key(&id, |pair| pair.0) {
            Ok(rank) => self.placed[rank].1,
            Err(rank) => id + (self.placed.len() - rank) as u64,
        }
    }

    /// The mean number of pages that a batch touches; 0 of no batch.
    #[expect(clippy::cast_precision_loss, reason = "a mean that is shown and compared")]
    pub(super) fn pages_of<'a>(
        &self,
        batches: impl Iterator<Item = &'a [u64]>,
        lying: Lying,
    ) -> f64 {
        let (mut count, mut sum) = (0u64, 0u64);
        let mut pages = Vec::new();
        for batch in batches {
            pages.clear();
            for id in batch {
                let (first, last) = lying.pages(self.of_id(*id));
                pages.extend(first..=last);
            }
            pages.sort_unstable();
            pages.dedup();
            sum += pages.len() as u64;
            count += 1;
        }
        if count == 0 { 0.0 } else { sum as f64 / count as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_counted_once_a_batch() {
        let lying = Lying { row_bytes: 1000, row_stride: 1024 };
        let batches: [&[u64]; 2] = [&[0, 1, 2, 3, 4], &[8, 100]];
        assert_eq!(Places::of(&[]).pages_of(batches.into_iter(), lying), 2.0);
        assert_eq!(Places::of(&[100, 8]).pages_of(batches[1..].iter().copied(), lying), 1.0);
        let straddling = Lying { row_bytes: 3072, row_stride: 3072 };
        let one: [&[u64]; 1] = [&[1]];
        assert_eq!(Places::of(&[]).pages_of(one.into_iter(), straddling), 2.0);
        assert_eq!(Places::of(&[1]).pages_of(one.into_iter(), straddling), 1.0);
        assert_eq!(Places::of(&[]).pages_of(std::iter::empty(), lying), 0.0);
    }

    #[test]
    fn rows_that_are_not_placed_follow_by_their_ids() {
        let places = Places::of(&[5, 2]);
        let found: Vec<u64> = (0..8).map(|id| places.of_id(id)).collect();
        assert_eq!(found, [2, 3, 1, 4, 5, 0, 6, 7]);
    }
}
