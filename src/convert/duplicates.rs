//! One row of each token: which is known only once all tokens were read. Rows and tokens are put
//! aside on the disk meanwhile, and sorted there, so that memory does not grow with them.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use byteorder::{ByteOrder, LittleEndian, WriteBytesExt};

use crate::error::{Error, Result};
use crate::import::Duplicates;
use crate::publish::Operations;
use crate::source::{BATCH_BYTES, Batch, RowStream, StreamForm};
use crate::tokens::token_hash;
use crate::writer::{PairSorter, Spool, TwinFinder};

/// The bytes of a spool that are kept in memory.
const IN_MEMORY: usize = 1 << 20;

/// The pairs that are sorted at once.
const RUN: usize = 1 << 20;

/// The rows of a stream that are left without duplicates, in their order.
pub(super) struct Kept {
    /// The destination, for errors.
    path: PathBuf,
    row_bytes: usize,
    batch_rows: usize,
    aside: Aside,
    /// The ids that are left out, in ascending order.
    left_out: Spool,
    /// The number of rows put aside, and the next of them.
    count: u64,
    row: u64,
    /// The place of the next id that is left out.
    next_out: u64,
}

/// Rows and tokens put aside.
struct Aside {
    rows: Spool,
    /// Where each token starts in the bytes, and where the last one ends.
    offsets: Spool,
    bytes: Spool,
    /// A byte for each token: 1 where it is there.
    presence: Spool,
}

impl Kept {
    /// Reads all of a stream.
    pub(super) fn read(
        mut stream: Box<dyn RowStream>,
        form: &StreamForm,
        path: &Path,
        which: Duplicates,
        progress: &mut dyn FnMut(&Batch, u64) -> Result<()>,
    ) -> Result<Self> {
        let failed = |source| Error::io("put aside the rows of", path, source);
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory: Arc<Path> = Arc::from(directory.unwrap_or(Path::new(".")));
        let spool = || Spool::new(&Operations::default(), &directory, IN_MEMORY);
        let mut aside =
            Aside { rows: spool(), offsets: spool(), bytes: spool(), presence: spool() };
        aside.offsets.write_u64::<LittleEndian>(0).map_err(failed)?;
        let mut pairs = PairSorter::new(RUN, spool());
        let (mut count, mut batch) = (0, Batch::default());
        while stream.next(&mut batch)? {
            aside.add(&batch, count, &mut pairs).map_err(failed)?;
            count += batch.count as u64;
            progress(&batch, stream.consumed())?;
        }
        let left_out = aside.twins(pairs, which, spool()).map_err(failed)?;
        Ok(Kept {
            path: path.to_path_buf(),
            row_bytes: form.row_bytes(),
            batch_rows: form.batch_rows(),
            aside,
            left_out,
            count,
            row: 0,
            next_out: 0,
        })
    }

    /// The rows that are left out.
    pub(super) fn dropped(&self) -> u64 {
        self.left_out.bytes() / 8
    }

    /// The rows that are kept.
    pub(super) fn rows(&self) -> u64 {
        self.count - self.dropped()
    }

    fn read_batch(&mut self, batch: &mut Batch) -> io::Result<()> {
        let left = usize::try_from(self.count - self.row).unwrap_or(usize::MAX);
        let mut rows = left.min(self.batch_rows);
        let mut offsets = vec![0; (rows + 1) * 8];
        self.aside.offsets.read_at(self.row * 8, &mut offsets)?;
        let offsets: Vec<u64> = offsets.chunks_exact(8).map(LittleEndian::read_u64).collect();
        // Tokens may be long: as many rows as have few bytes of them, and at least one.
        while rows > 1 && offsets[rows] - offsets[0] > BATCH_BYTES as u64 {
            rows /= 2;
        }
        let length = |start: u64, end: u64| usize::try_from(end - start).unwrap_or(usize::MAX);
        let mut text = vec![0; length(offsets[0], offsets[rows])];
        self.aside.bytes.read_at(offsets[0], &mut text)?;
        let mut bytes = vec![0; rows * self.row_bytes];
        self.aside.rows.read_at(self.row * self.row_bytes as u64, &mut bytes)?;
        let mut presence = vec![0; rows];
        self.aside.presence.read_at(self.row, &mut presence)?;
        let mut out = self.next_left_out()?;
        for (index, row) in bytes.chunks_exact(self.row_bytes).enumerate() {
            if out == Some(self.row + index as u64) {
                self.next_out += 1;
                out = self.next_left_out()?;
                continue;
            }
            let token = length(offsets[0], offsets[index])..length(offsets[0], offsets[index + 1]);
            let token = std::str::from_utf8(&text[token]).map_err(io::Error::other)?;
            batch.count += 1;
            batch.rows.extend_from_slice(row);
            batch.tokens.push((presence[index] == 1).then_some(token));
        }
        self.row += rows as u64;
        Ok(())
    }

    fn next_left_out(&self) -> io::Result<Option<u64>> {
        if self.next_out == self.dropped() {
            return Ok(None);
        }
        let mut id = [0; 8];
        self.left_out.read_at(self.next_out * 8, &mut id)?;
        Ok(Some(LittleEndian::read_u64(&id)))
    }
}

impl RowStream for Kept {
    fn next(&mut self, batch: &mut Batch) -> Result<bool> {
        batch.clear();
        while batch.count == 0 && self.row < self.count {
            self.read_batch(batch)
                .map_err(|source| Error::io("read back the rows of", &self.path, source))?;
        }
        Ok(batch.count > 0)
    }

    fn consumed(&self) -> u64 {
        0
    }
}

impl Aside {
    fn add(&mut self, batch: &Batch, first: u64, pairs: &mut PairSorter) -> io::Result<()> {
        self.rows.write_all(&batch.rows)?;
        for (id, token) in (first..).zip(batch.tokens.iter()) {
            if let Some(token) = token {
                self.bytes.write_all(token.as_bytes())?;
                pairs.push((token_hash(token.as_bytes()), id))?;
            }
            self.offsets.write_u64::<LittleEndian>(self.bytes.bytes())?;
            self.presence.write_u8(token.is_some().into())?;
        }
        Ok(())
    }

    /// The ids that are left out, in ascending order.
    fn twins(&self, pairs: PairSorter, which: Duplicates, spool: Spool) -> io::Result<Spool> {
        let mut left_out = spool.sibling();
        let mut found = PairSorter::new(RUN, spool);
        let mut finder = TwinFinder::new(&self.offsets, &self.bytes);
        pairs.merge(|pair| match (finder.before(pair)?, which) {
            (None, _) => Ok(()),
            (Some(before), Duplicates::Last) => found.push((before, 0)),
            (Some(_), _) => found.push((pair.1, 0)),
        })?;
        found.merge(|(id, _)| left_out.write_u64::<LittleEndian>(id))?;
        Ok(left_out)
    }
}
