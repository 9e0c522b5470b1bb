//! Which reads bring the stretches of a window: sorted, merged, aligned, and where each ends.

/// The longest read. Longer runs are cut, so that they are read in several pieces at a time.
const PIECE: u64 = 128 << 10;

/// A gap that costs less to read than another read costs to start.
const BRIDGE: u64 = 4096;

/// A stretch of a file that somebody wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Wanted {
    file: usize,
    offset: u64,
    bytes: u64,
    index: usize,
}

/// One read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) file: usize,
    pub(super) offset: u64,
    /// What is asked for: it may reach over the end of the file, to the end of its block.
    pub(super) bytes: usize,
    /// What must come.
    pub(super) needed: usize,
    /// What has come.
    pub(super) done: usize,
    /// Where it begins in the arena.
    pub(super) at: usize,
}

/// The stretches of a window and the reads that bring them.
#[derive(Debug, Default)]
pub(crate) struct Arrangement {
    wanted: Vec<Wanted>,
    /// Where each stretch begins in the arena, in the order that they were added in.
    places: Vec<usize>,
    pub(super) pieces: Vec<Piece>,
    /// The bytes of arena that the pieces take.
    pub(super) arena_bytes: usize,
}

/// Neighbouring stretches that are read together.
struct Run {
    file: usize,
    start: u64,
    /// The end of the last stretch, and the same up to its block's end.
    wanted_end: u64,
    end: u64,
    at: usize,
}

impl Arrangement {
    pub(super) fn clear(&mut self) {
        self.wanted.clear();
        self.places.clear();
        self.pieces.clear();
        self.arena_bytes = 0;
    }

    /// Adds a stretch, the next in the count.
    pub(crate) fn add(&mut self, file: usize, offset: u64, bytes: u64) {
        let index = self.places.len();
        self.wanted.push(Wanted { file, offset, bytes, index });
        self.places.push(0);
    }

    /// Counts a stretch that nobody reads.
    pub(crate) fn skip(&mut self) {
        self.places.push(0);
    }

    /// Where a stretch begins in the arena.
    #[inline]
    pub(super) fn place(&self, index: usize) -> Option<usize> {
        self.places.get(index).copied()
    }

    /// Works the reads out. `alignment` is that of a file, a power of two and at most a page.
    pub(super) fn arrange(&mut self, alignment: impl Fn(usize) -> u64) {
        self.wanted.sort_unstable();
        let wanted = std::mem::take(&mut self.wanted);
        let mut open: Option<Run> = None;
        for stretch in wanted.iter().filter(|stretch| stretch.bytes > 0) {
            let block = alignment(stretch.file);
            let start = stretch.offset - stretch.offset % block;
            let wanted_end = stretch.offset.saturating_add(stretch.bytes);
            let end = wanted_end.div_ceil(block).saturating_mul(block);
            let run = match &mut open {
                Some(run) if run.file == stretch.file && start <= run.end + BRIDGE => {
                    run.wanted_end = run.wanted_end.max(wanted_end);
                    run.end = run.end.max(end);
                    run
                }
                _ => {
                    self.close(open.take());
                    let at = self.arena_bytes.next_multiple_of(length(block));
                    open.insert(Run { file: stretch.file, start, wanted_end, end, at })
                }
            };
            self.places[stretch.index] = run.at + length(stretch.offset - run.start);
        }
        self.close(open);
        self.wanted = wanted;
    }

    /// Cuts a run into reads.
    fn close(&mut self, run: Option<Run>) {
        let Some(Run { file, start, wanted_end, end, at }) = run else { return };
        self.arena_bytes = at + length(end - start);
        let mut offset = start;
        while offset < end {
            let bytes = PIECE.min(end - offset);
            self.pieces.push(Piece {
                file,
                offset,
                bytes: length(bytes),
                needed: length(bytes.min(wanted_end - offset)),
                done: 0,
                at: at + length(offset - start),
            });
            offset += bytes;
        }
    }
}

/// A length in memory. One that does not fit makes an arena that cannot be had.
fn length(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX / 2)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn arranged(stretches: &[(usize, u64, u64)], block: u64) -> Arrangement {
        let mut arrangement = Arrangement::default();
        stretches.iter().for_each(|(file, offset, bytes)| arrangement.add(*file, *offset, *bytes));
        arrangement.arrange(|_| block);
        arrangement
    }

    fn reads(arrangement: &Arrangement) -> Vec<(usize, u64, usize, usize)> {
        let pieces = arrangement.pieces.iter();
        pieces.map(|piece| (piece.file, piece.offset, piece.bytes, piece.needed)).collect()
    }

    #[test]
    fn neighbours_are_one_read_and_duplicates_none() {
        let found = arranged(&[(0, 20_000, 10), (0, 3000, 3000), (0, 3000, 3000), (0, 0, 1)], 512);
        assert_eq!(reads(&found), [(0, 0, 6144, 6000), (0, 19_968, 512, 42)]);
        assert_eq!(found.places, [6144 + 32, 3000, 3000, 0]);
        assert_eq!(found.arena_bytes, 6144 + 512);
    }

    #[test]
    fn gaps_of_a_page_are_read_over_and_longer_ones_are_not() {
        assert_eq!(reads(&arranged(&[(0, 0, 512), (0, 4608, 512)], 512)), [(0, 0, 5120, 5120)]);
        assert_eq!(arranged(&[(0, 0, 512), (0, 5120, 512)], 512).pieces.len(), 2);
        assert_eq!(arranged(&[(0, 0, 512), (1, 512, 512)], 512).pieces.len(), 2, "two files");
    }

    #[test]
    fn long_stretches_are_read_in_pieces_that_follow_each_other_in_memory() {
        let found = arranged(&[(0, 100, 300_000)], 4096);
        let pieces = [(0, 0, 131_072, 131_072), (0, 131_072, 131_072, 131_072)];
        assert_eq!(reads(&found)[..2], pieces);
        assert_eq!(reads(&found)[2], (0, 262_144, 40_960, 300_100 - 262_144));
        assert_eq!(found.pieces[2].at, 262_144);
    }

    #[test]
    fn stretches_of_nothing_are_counted_and_not_read() {
        let mut found = Arrangement::default();
        found.skip();
        found.add(0, 700, 0);
        found.add(0, 4096, 8);
        found.arrange(|_| 4096);
        assert_eq!(found.pieces.len(), 1);
        assert_eq!(found.places, [0, 0, 0]);
        assert_eq!(found.place(3), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        /// Every wanted byte comes to its place, from within the file's blocks, no byte of the
        /// arena is written by two reads, and every read is aligned.
        #[test]
        fn every_wanted_byte_comes_once_to_its_place(
            stretches in prop::collection::vec(
                (0usize..3, 0u64..3_000_000, prop_oneof![0u64..9000, 0u64..400_000]),
                0..40,
            ),
            blocks in prop::collection::vec(prop_oneof![Just(1u64), Just(512), Just(4096)], 3),
        ) {
            let mut found = Arrangement::default();
            stretches.iter().for_each(|(file, offset, bytes)| found.add(*file, *offset, *bytes));
            found.arrange(|file| blocks[file]);
            let ends: Vec<u64> = (0..3)
                .map(|file| {
                    let of_file = stretches.iter().filter(|stretch| stretch.0 == file);
                    of_file.map(|(_, offset, bytes)| offset + bytes).max().unwrap_or(0)
                })
                .collect();
            let mut arena_end = 0;
            for piece in &found.pieces {
                let block = blocks[piece.file];
                prop_assert!(piece.offset.is_multiple_of(block));
                prop_assert!((piece.bytes as u64).is_multiple_of(block));
                prop_assert!((piece.at as u64).is_multiple_of(block));
                prop_assert!(piece.bytes as u64 <= PIECE && piece.bytes > 0);
                prop_assert!(0 < piece.needed && piece.needed <= piece.bytes);
                prop_assert!(piece.offset + piece.needed as u64 <= ends[piece.file]);
                prop_assert!(piece.at >= arena_end, "pieces do not overlap in memory");
                arena_end = piece.at + piece.bytes;
            }
            prop_assert!(arena_end <= found.arena_bytes);
            // Byte for byte: where a stretch lies in the arena, its bytes of the file are read.
            for (index, (file, offset, bytes)) in stretches.iter().enumerate() {
                let place = found.place(index).unwrap();
                let mut covered = 0;
                for piece in found.pieces.iter().filter(|piece| piece.file == *file) {
                    let start = piece.offset.max(*offset);
                    let end = (piece.offset + piece.needed as u64).min(offset + bytes);
                    if start < end {
                        let from_piece = piece.at as u64 + (start - piece.offset);
                        prop_assert_eq!(place as u64 + (start - offset), from_piece);
                        covered += end - start;
                    }
                }
                prop_assert_eq!(covered, *bytes);
            }
        }
    }
}
