//! The token sections, streamed: any number of tokens in a bounded amount of memory.

use std::collections::HashSet;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use byteorder::{ByteOrder, LittleEndian, WriteBytesExt};

use super::body::Body;

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

    /// Writes offsets, bytes, presence and index.
    pub(super) fn write_to(mut self, body: &mut Body) -> io::Result<()> {
        if !self.count.is_multiple_of(8) {
            self.presence.write_u8(self.presence_byte)?;
        }
        body.section(SectionKind::TokenOffsets, |section| self.offsets.copy_to(section))?;
        body.section(SectionKind::TokenBytes, |section| self.bytes.copy_to(section))?;
        body.section(SectionKind::TokenPresence, |section| self.presence.copy_to(section))?;
        let mut distinct = self.offsets.sibling();
        let mut finder = DistinctFinder::new(&self.offsets, &self.bytes);
        self.pairs.merge(|pair| {
            if finder.is_new(pair)? { write_pair(&mut distinct, pair) } else { Ok(()) }
        })?;
        body.section(SectionKind::TokenIndex, |section| write_index(&distinct, self.count, section))
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

/// Tells the first id of each token from the later ones, given pairs in ascending order.
struct DistinctFinder<'a> {
    offsets: Window<'a>,
    bytes: Window<'a>,
    hash: Option<u64>,
    first_id: u64,
    /// The distinct tokens of this hash; empty until there is a second id to compare.
    /// A set, because hashes can be made to collide on purpose.
    tokens: HashSet<Vec<u8>>,
}

impl<'a> DistinctFinder<'a> {
    fn new(offsets: &'a Spool, bytes: &'a Spool) -> Self {
        DistinctFinder {
            offsets: Window::new(offsets),
            bytes: Window::new(bytes),
            hash: None,
            first_id: 0,
            tokens: HashSet::new(),
        }
    }

    fn is_new(&mut self, (hash, id): (u64, u64)) -> io::Result<bool> {
        if self.hash != Some(hash) {
            self.hash = Some(hash);
            self.first_id = id;
            self.tokens.clear();
            return Ok(true);
        }
        if self.tokens.is_empty() {
            let (start, length) = self.bounds(self.first_id)?;
            self.tokens.insert(self.bytes.get(start, length)?.to_vec());
        }
        let (start, length) = self.bounds(id)?;
        let token = self.bytes.get(start, length)?;
        if self.tokens.contains(token) {
            return Ok(false);
        }
        self.tokens.insert(token.to_vec());
        Ok(true)
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
            let mut finder = DistinctFinder::new(&offsets, &bytes);
            let new: Vec<u64> = (0..8).filter(|id| finder.is_new((7, *id)).unwrap()).collect();
            assert_eq!(new, [0, 1, 3, 5]);
            assert!(finder.is_new((8, 2)).unwrap());
            assert!(!finder.is_new((8, 7)).unwrap());
            assert!(finder.is_new((9, 6)).unwrap());
        }
    }
}
