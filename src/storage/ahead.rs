//! Starting the reads of many small stretches at once, without waiting for any.

use super::batch;
use super::file::StoredFile;

/// The longest stretch that is asked for in one piece. A kernel reads no more of a longer
/// one than its readahead window, which is 128 KiB unless someone set it higher.
const PIECE: u64 = 128 << 10;

/// Pages of one file, from the byte `start` to the byte `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pages {
    pub(super) file: usize,
    pub(super) start: u64,
    pub(super) end: u64,
}

/// A set of stretches whose reads are to be started.
pub(crate) struct ReadAhead {
    page: u64,
    wanted: Vec<Pages>,
    pieces: Vec<Pages>,
}

impl ReadAhead {
    pub(crate) fn new() -> Self {
        ReadAhead { page: page_bytes(), wanted: Vec::new(), pieces: Vec::new() }
    }

    /// Adds a stretch of a file.
    pub(crate) fn add(&mut self, file: usize, offset: u64, bytes: u64) {
        let start = offset - offset % self.page;
        let end = offset.saturating_add(bytes).div_ceil(self.page).saturating_mul(self.page);
        self.wanted.push(Pages { file, start, end });
    }

    /// Starts reading what was added, in the order of the files, and forgets it.
    ///
    /// It is a hint: what cannot be started is read when it is touched.
    pub(crate) fn start(&mut self, files: &[StoredFile]) {
        self.arrange(|file| files.get(file).map_or(0, StoredFile::bytes));
        batch::start(files, &self.pieces);
    }

    /// Sorts and merges what was added into pieces of whole pages, none beyond its file.
    fn arrange(&mut self, file_bytes: impl Fn(usize) -> u64) {
        self.wanted.sort_unstable();
        self.pieces.clear();
        let mut wanted = self.wanted.drain(..).peekable();
        while let Some(mut run) = wanted.next() {
            while let Some(next) =
                wanted.next_if(|next| next.file == run.file && next.start <= run.end)
            {
                run.end = run.end.max(next.end);
            }
            run.end = run.end.min(file_bytes(run.file));
            while run.start < run.end {
                let end = run.end.min(run.start + PIECE);
                self.pieces.push(Pages { end, ..run });
                run.start = end;
            }
        }
    }
}

/// The bytes of a page of memory.
pub(super) fn page_bytes() -> u64 {
    #[cfg(unix)]
    return rustix::param::page_size() as u64;
    #[cfg(not(unix))]
    return 4096;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arranged(stretches: &[(usize, u64, u64)], file_bytes: u64) -> Vec<(usize, u64, u64)> {
        let mut ahead = ReadAhead::new();
        ahead.page = 4096;
        for (file, offset, bytes) in stretches {
            ahead.add(*file, *offset, *bytes);
        }
        ahead.arrange(|_| file_bytes);
        assert!(ahead.wanted.is_empty());
        ahead.pieces.iter().map(|pages| (pages.file, pages.start, pages.end)).collect()
    }

    #[test]
    fn stretches_become_whole_pages_in_order_and_each_once() {
        let pieces = arranged(
            &[(0, 20_000, 10), (0, 5000, 100), (0, 5000, 100), (0, 8000, 400), (0, 0, 1)],
            1 << 30,
        );
        assert_eq!(pieces, [(0, 0, 12_288), (0, 16_384, 20_480)]);
    }

    #[test]
    fn files_are_not_merged() {
        assert_eq!(arranged(&[(1, 0, 1), (0, 0, 1)], 1 << 30), [(0, 0, 4096), (1, 0, 4096)]);
        assert_eq!(arranged(&[(1, 4096, 1), (0, 0, 1)], 1 << 30), [(0, 0, 4096), (1, 4096, 8192)]);
    }

    #[test]
    fn nothing_lies_beyond_its_file() {
        assert_eq!(arranged(&[(0, 4000, 200)], 4200), [(0, 0, 4200)]);
        assert_eq!(arranged(&[(0, 8192, 200), (0, 0, 1)], 8192), [(0, 0, 4096)]);
        assert_eq!(arranged(&[(0, 0, u64::MAX)], 4096), [(0, 0, 4096)]);
        assert_eq!(arranged(&[], 4096), []);
    }

    #[test]
    fn long_runs_are_cut_where_a_kernel_would_stop_reading() {
        let rows: Vec<_> = (0..100).map(|row| (0, row * 3000, 3000)).collect();
        let pieces = arranged(&rows, 1 << 30);
        assert_eq!(pieces, [(0, 0, 131_072), (0, 131_072, 262_144), (0, 262_144, 303_104)]);
    }
}
