//! The token sections, streamed: any number of tokens in a bounded amount of memory.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use byteorder::{ByteOrder, LittleEndian, WriteBytesExt};

use super::body::{Body, SectionWriter};

use super::options::Sizes;
use super::sort::{PairReader, PairSorter, write_pair};
use super::spool::Spool;
use crate::format::SectionKind;
use crate::publish::Operations;
use crate::tokens::{IndexBuilder, token_hash};

/// Tokens put aside until the rows are written.
pub(super) struct TokenSpool {
    offsets: Spool,
    bytes: Spool,
    presence: Spool,
    /// The bits of the last tokens, until there are eight.
    presence_byte: u8,
    count: u64,
    pairs: PairSorter,
}

impl TokenSpool {
    /// No tokens yet.
    pub(super) fn new(operations: &Operations, directory: &Path, sizes: Sizes) -> io::Result<Self> {
        let directory: Arc<Path> = Arc::from(directory);
        let spool = || Spool::new(operations, &directory, sizes.spool);
        let mut offsets = spool();
        offsets.write_u64::<LittleEndian>(0)?;
        Ok(TokenSpool {
            offsets,
            bytes: spool(),
            presence: spool(),
            presence_byte: 0,
            count: 0,
            pairs: PairSorter::new(sizes.run, spool()),
        })
    }

    /// The number of tokens, absent ones included.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Adds the token of the next row.
    pub(super) fn push(&mut self, token: Option<&str>) -> io::Result<()> {
        let bit = self.count % 8;
        if let Some(token) = token {
            self.bytes.write_all(token.as_bytes())?;
            self.pairs.push((token_hash(token.as_bytes()), self.count))?;
            self.presence_byte |= 1 << bit;
        }
        if bit == 7 {
            self.presence.write_u8(self.presence_byte)?;
            self.presence_byte = 0;
        }
        self.offsets.write_u64::<LittleEndian>(self.bytes.bytes())?;
        self.count += 1;
        Ok(())
    }

    /// Writes offsets, bytes, presence and index; says which tokens several rows have.
    pub(super) fn write_to(mut self, body: &mut Body) -> io::Result<Twins> {
        if !self.count.is_multiple_of(8) {
            self.presence.write_u8(self.presence_byte)?;
        }
        body.section(SectionKind::TokenOffsets, |section| self.offsets.copy_to(section))?;
        body.section(SectionKind::TokenBytes, |section| self.bytes.copy_to(section))?;
        body.section(SectionKind::TokenPresence, |section| self.presence.copy_to(section))?;
        let mut distinct = self.offsets.sibling();
        let mut finder = TwinFinder::new(&self.offsets, &self.bytes);
        let mut twins = Twins::default();
        self.pairs.merge(|pair| match finder.before(pair)? {
            None => write_pair(&mut distinct, pair),
            Some(before) => {
                twins.add(before, pair.1);
                Ok(())
            }
        })?;
        if let Some((first, _)) = twins.earliest {
            let (start, length) = finder.bounds(first)?;
            twins.token = finder.bytes.get(start, length)?.to_vec();
        }
        let write = |section: &mut SectionWriter<'_>| write_index(&distinct, self.count, section);
        body.section(SectionKind::TokenIndex, write)?;
        Ok(twins)
    }
}

/// Which tokens several rows have.
#[derive(Debug, Default)]
pub(crate) struct Twins {
    /// The rows whose token a row before them has.
    pub(crate) count: u64,
    /// Of these the earliest, behind the row before it.
    pub(crate) earliest: Option<(u64, u64)>,
    /// The token of both.
    pub(crate) token: Vec<u8>,
}

impl Twins {
    fn add(&mut self, before: u64, id: u64) {
        self.count += 1;
        if self.earliest.is_none_or(|(_, earliest)| id < earliest) {
            self.earliest = Some((before, id));
        }
    }
}

/// Writes the index in two passes over the pairs: its header and directory come before the
/// entries, and are known only after them.
fn write_index(distinct: &Spool, ids: u64, section: &mut impl Write) -> io::Result<()> {
    let tokens = PairReader::all(distinct).pairs();
    let mut directory = distinct.sibling();
    let header = build_index(distinct, tokens, ids, &mut directory, &mut io::sink())?;
    section.write_all(&header)?;
    directory.copy_to(section)?;
    build_index(distinct, tokens, ids, &mut io::sink(), section)?;
    Ok(())
}

fn build_index(
    distinct: &Spool,
    tokens: u64,
    ids: u64,
    directory: &mut impl Write,
    entries: &mut impl Write,
) -> io::Result<Vec<u8>> {
    let mut builder = IndexBuilder::new(tokens, ids);
    let mut pairs = PairReader::all(distinct);
    while let Some((hash, id)) = pairs.next()? {
        builder.push(hash, id, directory, entries)?;
    }
    Ok(builder.finish(directory)?.to_vec())
}

/// Tells which rows have the token of a row before them, given pairs of a token's hash and its
/// id in ascending order.
pub(crate) struct TwinFinder<'a> {
    offsets: Window<'a>,
    bytes: Window<'a>,
    hash: Option<u64>,
    first_id: u64,
    /// The distinct tokens of this hash, with the latest id of each; empty until there is a
    /// second id to compare. A map, because hashes can be made to collide on purpose.
    latest: HashMap<Vec<u8>, u64>,
}

impl<'a> TwinFinder<'a> {
    /// `offsets` holds where each token starts in `bytes`, and where the last one ends.
    pub(crate) fn new(offsets: &'a Spool, bytes: &'a Spool) -> Self {
        TwinFinder {
            offsets: Window::new(offsets),
            bytes: Window::new(bytes),
            hash: None,
            first_id: 0,
            latest: HashMap::new(),
        }
    }

    /// The row of the same token that is the last before this one, if there is one.
    pub(crate) fn before(&mut self, (hash, id): (u64, u64)) -> io::Result<Option<u64>> {
        if self.hash != Some(hash) {
            self.hash = Some(hash);
            self.first_id = id;
            self.latest.clear();
            return Ok(None);
        }
        if self.latest.is_empty() {
            let (start, length) = self.bounds(self.first_id)?;
            self.latest.insert(self.bytes.get(start, length)?.to_vec(), self.first_id);
        }
        let (start, length) = self.bounds(id)?;
        let token = self.bytes.get(start, length)?;
        if let Some(latest) = self.latest.get_mut(token) {
            return Ok(Some(std::mem::replace(latest, id)));
        }
        self.latest.insert(token.to_vec(), id);
        Ok(None)
    }

    /// Where a token starts, and its length.
    fn bounds(&mut self, id: u64) -> io::Result<(u64, usize)> {
        let bounds = self.offsets.get(id * 8, 16)?;
        let (start, end) =
            (LittleEndian::read_u64(&bounds[..8]), LittleEndian::read_u64(&bounds[8..]));
        Ok((start, usize::try_from(end - start).unwrap_or(usize::MAX)))
    }
}

/// A part of a spool in memory: equal tokens come by ascending ids, so the next is near.
struct Window<'a> {
    spool: &'a Spool,
    start: u64,
    piece: Vec<u8>,
}

impl<'a> Window<'a> {
    /// The bytes read at once.
    const PIECE: usize = 8192;

    fn new(spool: &'a Spool) -> Self {
        Window { spool, start: 0, piece: Vec::new() }
    }

    fn get(&mut self, offset: u64, length: usize) -> io::Result<&[u8]> {
        let end = offset + length as u64;
        if offset < self.start || end > self.start + self.piece.len() as u64 {
            let left = usize::try_from(self.spool.bytes() - offset).unwrap_or(usize::MAX);
            self.piece.resize(left.min(length.max(Self::PIECE)), 0);
            self.start = offset;
            self.spool.read_at(offset, &mut self.piece)?;
        }
        let from = usize::try_from(offset - self.start).unwrap_or(usize::MAX);
        self.piece.get(from..from + length).ok_or(io::ErrorKind::UnexpectedEof.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_whose_hashes_collide_are_told_apart() {
        let directory: Arc<Path> = Arc::from(std::env::temp_dir());
        let tokens = ["a", "b", "a", "", "b", "c", "", "a"];
        for most in [1, 1 << 20] {
            let mut offsets = Spool::new(&Operations::default(), &directory, most);
            let mut bytes = offsets.sibling();
            offsets.write_u64::<LittleEndian>(0).unwrap();
            for token in tokens {
                bytes.write_all(token.as_bytes()).unwrap();
                offsets.write_u64::<LittleEndian>(bytes.bytes()).unwrap();
            }
            let mut finder = TwinFinder::new(&offsets, &bytes);
            let before: Vec<_> = (0..8).map(|id| finder.before((7, id)).unwrap()).collect();
            let expected = [None, None, Some(0), None, Some(1), None, Some(3), Some(2)];
            assert_eq!(before, expected);
            assert_eq!(finder.before((8, 2)).unwrap(), None);
            assert_eq!(finder.before((8, 7)).unwrap(), Some(2));
            assert_eq!(finder.before((9, 6)).unwrap(), None);
        }
    }
}
