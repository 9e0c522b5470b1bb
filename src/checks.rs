//! Block sums and section sums: XXH3-64, seeded so that a block of another file, or of
//! another place in this one, does not pass.

use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_64_with_seed};

use crate::storage::Stretch;

/// What `verify` can check about a table's first file, beyond its rows' values.
///
/// Empty for files of foreign formats, which carry no sums.
#[derive(Debug, Default)]
pub(crate) struct CheckPlan {
    /// The seed of all sums.
    pub(crate) seed: u64,
    /// What the block sums cover, and where they lie.
    pub(crate) blocks: Option<BlockSums>,
    /// Every section, in the order of the directory.
    pub(crate) sections: Vec<SectionCheck>,
    /// Stretches that hold nothing and must be zero.
    pub(crate) zeros: Vec<Stretch>,
}

/// The block sums of a file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockSums {
    /// The bytes that are summed, a block at a time.
    pub(crate) covered: Stretch,
    /// The sums, u64 each.
    pub(crate) sums: Stretch,
}

/// A section and the sum that is recorded for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SectionCheck {
    /// The section's place in the directory.
    pub(crate) index: u32,
    pub(crate) stretch: Stretch,
    pub(crate) sum: u64,
}

/// The bytes that one block sum covers.
pub(crate) const BLOCK_BYTES: u32 = 65_536;

/// The seed that ties sums to one file.
pub(crate) fn seed_of(file_id: &[u8; 16]) -> u64 {
    xxh3_64(file_id)
}

/// The sum of one block.
pub(crate) fn block_sum(seed: u64, block: u64, bytes: &[u8]) -> u64 {
    xxh3_64_with_seed(bytes, seed.wrapping_add(block))
}

/// Sums a section as it streams by.
pub(crate) struct SectionSum(Box<Xxh3>);

impl SectionSum {
    /// A sum of nothing yet.
    pub(crate) fn new(seed: u64) -> Self {
        SectionSum(Box::new(Xxh3::with_seed(seed)))
    }

    /// Adds the next bytes of the section.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The sum of what was added.
    pub(crate) fn finish(&self) -> u64 {
        self.0.digest()
    }
}

/// Sums blocks as they stream by, in pieces of any size.
pub(crate) struct BlockSummer {
    seed: u64,
    block: u64,
    partial: Vec<u8>,
}

impl BlockSummer {
    /// A summer at the start of the first block.
    pub(crate) fn new(seed: u64) -> Self {
        BlockSummer { seed, block: 0, partial: Vec::with_capacity(BLOCK_BYTES as usize) }
    }

    /// Adds bytes, handing each completed block's sum to `emit`.
    pub(crate) fn update(&mut self, mut bytes: &[u8], mut emit: impl FnMut(u64)) {
        let block_bytes = BLOCK_BYTES as usize;
        if !self.partial.is_empty() {
            let (head, rest) = bytes.split_at(bytes.len().min(block_bytes - self.partial.len()));
            self.partial.extend_from_slice(head);
            bytes = rest;
            if self.partial.len() < block_bytes {
                return;
            }
            emit(block_sum(self.seed, self.block, &self.partial));
            self.block += 1;
            self.partial.clear();
        }
        let whole = bytes.chunks_exact(block_bytes);
        self.partial.extend_from_slice(whole.remainder());
        for block in whole {
            emit(block_sum(self.seed, self.block, block));
            self.block += 1;
        }
    }

    /// The sum of the last, shorter block, where there is one.
    pub(crate) fn finish(self) -> Option<u64> {
        (!self.partial.is_empty()).then(|| block_sum(self.seed, self.block, &self.partial))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn sums_do_not_depend_on_the_pieces(
            length in 0usize..300_000,
            cuts in proptest::collection::vec(0usize..300_000, 0..8),
            seed: u64,
        ) {
            let bytes: Vec<u8> = (0..length).map(|i| (i * 31 % 251) as u8).collect();
            let naive: Vec<u64> = (0..).zip(bytes.chunks(BLOCK_BYTES as usize))
                .map(|(block, bytes)| block_sum(seed, block, bytes))
                .collect();

            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(length)).collect();
            cuts.extend([0, length]);
            cuts.sort_unstable();
            let mut summer = BlockSummer::new(seed);
            let mut sums = Vec::new();
            for piece in cuts.windows(2) {
                summer.update(&bytes[piece[0]..piece[1]], |sum| sums.push(sum));
            }
            sums.extend(summer.finish());
            prop_assert_eq!(sums, naive);
        }
    }

    #[test]
    fn a_block_of_another_place_or_file_has_another_sum() {
        let block = vec![7; BLOCK_BYTES as usize];
        let seed = seed_of(b"0123456789abcdef");
        assert_ne!(block_sum(seed, 0, &block), block_sum(seed, 1, &block));
        assert_ne!(block_sum(seed, 0, &block), block_sum(seed_of(b"0123456789abcdeF"), 0, &block));
    }
}
