//! The token index: ids in the order of their tokens' hashes, behind a directory of buckets.
//!
//! Written in one pass over pairs that are already in order, so that whoever sorts them
//! decides how much memory that takes.

use std::io::{self, Write};

use byteorder::{ByteOrder, LittleEndian, WriteBytesExt};
use xxhash_rust::xxh3::xxh3_64;

/// The bytes before the directory.
pub(crate) const INDEX_HEADER_BYTES: usize = 32;

/// The bytes of one directory entry.
const DIRECTORY_ENTRY_BYTES: u64 = 8;

/// The bytes of a hash that an entry keeps.
const FINGERPRINT_BYTES: u64 = 2;

/// The mean number of entries in a bucket that the writer aims for.
const BUCKET_ENTRIES: u64 = 16;

/// The most entries of a bucket: a bound for what a lookup reads.
///
/// Each token is in the index once, so a writer comes near this for no tokens but ones whose
/// hashes were made to collide, and a reader need not serve those.
pub(super) const LONGEST_BUCKET: u64 = 65_536;

/// The most bits that may choose a bucket.
const MOST_BUCKET_BITS: u32 = 40;

/// The bytes of the index of `tokens` distinct tokens of ids below `ids`.
#[cfg(feature = "import")]
pub(crate) fn index_bytes(tokens: u64, ids: u64) -> Option<u64> {
    IndexShape { entries: tokens, ..IndexShape::for_tokens(tokens, ids) }.bytes()
}

/// The hash that orders the index.
pub(crate) fn token_hash(token: &[u8]) -> u64 {
    xxh3_64(token)
}

/// The sizes that an index's own header records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IndexShape {
    /// The high bits of a hash that choose its bucket.
    pub(super) bucket_bits: u32,
    /// The bytes of an id.
    pub(super) id_bytes: u32,
    /// The number of entries.
    pub(super) entries: u64,
}

impl IndexShape {
    /// The shape for a number of tokens to be found among ids up to `ids`.
    fn for_tokens(tokens: u64, ids: u64) -> Self {
        let buckets = tokens.div_ceil(BUCKET_ENTRIES).max(1).next_power_of_two();
        let id_bytes = if u32::try_from(ids).is_ok() { 4 } else { 8 };
        IndexShape {
            bucket_bits: buckets.trailing_zeros().min(MOST_BUCKET_BITS),
            id_bytes,
            entries: 0,
        }
    }

    /// Reads the index's header; `bytes` is the length of the whole section.
    pub(super) fn parse(header: &[u8], bytes: u64) -> Result<Self, &'static str> {
        let shape = IndexShape {
            bucket_bits: LittleEndian::read_u32(&header[0..4]),
            id_bytes: LittleEndian::read_u32(&header[4..8]),
            entries: LittleEndian::read_u64(&header[8..16]),
        };
        if shape.bucket_bits > MOST_BUCKET_BITS {
            return Err("at most 40 bits choose a bucket");
        }
        if !matches!(shape.id_bytes, 4 | 8) {
            return Err("ids take 4 or 8 bytes");
        }
        if header[16..32].iter().any(|byte| *byte != 0) {
            return Err("the reserved bytes of its header are zero");
        }
        if shape.bytes() != Some(bytes) {
            return Err("its length is that of its header, directory and entries");
        }
        Ok(shape)
    }

    /// The length of the section.
    fn bytes(self) -> Option<u64> {
        self.entries.checked_mul(self.entry_bytes())?.checked_add(self.entries_at())
    }

    fn encode(self) -> [u8; INDEX_HEADER_BYTES] {
        let mut header = [0; INDEX_HEADER_BYTES];
        LittleEndian::write_u32(&mut header[0..4], self.bucket_bits);
        LittleEndian::write_u32(&mut header[4..8], self.id_bytes);
        LittleEndian::write_u64(&mut header[8..16], self.entries);
        header
    }

    pub(super) fn buckets(self) -> u64 {
        1 << self.bucket_bits
    }

    pub(super) fn bucket_of(self, hash: u64) -> u64 {
        hash.checked_shr(64 - self.bucket_bits).unwrap_or(0)
    }

    pub(super) fn directory_entry_at(bucket: u64) -> u64 {
        INDEX_HEADER_BYTES as u64 + bucket * DIRECTORY_ENTRY_BYTES
    }

    pub(super) fn entries_at(self) -> u64 {
        Self::directory_entry_at(self.buckets() + 1)
    }

    pub(super) fn entry_bytes(self) -> u64 {
        FINGERPRINT_BYTES + u64::from(self.id_bytes)
    }

    /// The fingerprint and the id of an entry.
    pub(super) fn entry(self, bytes: &[u8]) -> (u16, u64) {
        let (fingerprint, id) = bytes.split_at(2);
        (LittleEndian::read_u16(fingerprint), LittleEndian::read_uint(id, self.id_bytes as usize))
    }
}

/// The part of a hash that an entry keeps.
pub(super) fn fingerprint(hash: u64) -> u16 {
    (hash & 0xffff) as u16
}

/// Writes an index from pairs in ascending order of hash, then id.
///
/// Each distinct token is pushed once, with its lowest id. The directory and the entries go
/// to two streams, because neither can be complete before the other; the header is known
/// last. An index is header, directory, entries.
pub(crate) struct IndexBuilder {
    shape: IndexShape,
    /// Directory entries written: the start of this many buckets is known.
    started: u64,
}

impl IndexBuilder {
    /// An index for at most `tokens` distinct tokens of ids below `ids`.
    pub(crate) fn new(tokens: u64, ids: u64) -> Self {
        IndexBuilder { shape: IndexShape::for_tokens(tokens, ids), started: 0 }
    }

    /// Adds the next pair.
    pub(crate) fn push(
        &mut self,
        hash: u64,
        id: u64,
        directory: &mut impl Write,
        entries: &mut impl Write,
    ) -> io::Result<()> {
        self.start_buckets(self.shape.bucket_of(hash), directory)?;
        entries.write_u16::<LittleEndian>(fingerprint(hash))?;
        entries.write_uint::<LittleEndian>(id, self.shape.id_bytes as usize)?;
        self.shape.entries += 1;
        Ok(())
    }

    /// Completes the directory and gives the header.
    pub(crate) fn finish(
        mut self,
        directory: &mut impl Write,
    ) -> io::Result<[u8; INDEX_HEADER_BYTES]> {
        self.start_buckets(self.shape.buckets(), directory)?;
        Ok(self.shape.encode())
    }

    fn start_buckets(&mut self, last: u64, directory: &mut impl Write) -> io::Result<()> {
        while self.started <= last {
            directory.write_u64::<LittleEndian>(self.shape.entries)?;
            self.started += 1;
        }
        Ok(())
    }
}
