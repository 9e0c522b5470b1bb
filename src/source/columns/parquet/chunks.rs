//! A Parquet file as the library reads it: what a page declares is held against what it can hold
//! before anything is set aside for it.

use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use crate::error::Error;
use crate::storage::StoredFile;

/// The bytes of a page's header in which its sizes lie: three numbers of at most five bytes, each
/// after a byte that says so.
const LONGEST_SIZES: u64 = 18;

/// The bytes that any page may say it has: too few to matter, whoever counts what.
const SPARE: u64 = 64 << 10;

/// What a page may unpack to, whatever its codec: the longest row, and the largest pages that
/// writers make (`DuckDB`: 100 MB).
pub(super) const MOST_UNPACKED: u64 = 128 << 20;

/// Beyond that, a page may unpack to so many times its own bytes.
const TIMES_PACKED: u64 = 4;

/// Where the reader of a column stands, for errors.
#[derive(Debug, Default)]
pub(super) struct Position {
    row_group: AtomicU64,
    /// Where the header of the last page that was read starts.
    page: AtomicU64,
    /// The bytes that this page says it unpacks to.
    unpacked: AtomicU64,
    /// What stopped it: the library hands on no more than a text.
    fault: Mutex<Option<Error>>,
}

impl Position {
    /// The column goes on in another row group.
    pub(super) fn enter(&self, row_group: usize, start: u64) {
        self.row_group.store(row_group as u64, Ordering::Relaxed);
        self.page.store(start, Ordering::Relaxed);
    }

    pub(super) fn row_group(&self) -> u64 {
        self.row_group.load(Ordering::Relaxed)
    }

    pub(super) fn page(&self) -> u64 {
        self.page.load(Ordering::Relaxed)
    }

    pub(super) fn unpacked(&self) -> u64 {
        self.unpacked.load(Ordering::Relaxed)
    }

    /// Keeps an error of ours, the first of them, and gives the one that the library sees.
    pub(super) fn stop(&self, error: Error) -> ParquetError {
        let shown = ParquetError::General(error.to_string());
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        shown
    }

    /// The error that was kept.
    pub(super) fn take_fault(&self) -> Option<Error> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What is read.
#[derive(Debug, Clone)]
pub(super) enum What {
    /// The footer.
    Footer,
    /// The pages of a column, packed in a way.
    Pages(Compression, Arc<Position>),
}

/// A file as the library reads it.
pub(super) struct Chunks {
    pub(super) file: Arc<StoredFile>,
    pub(super) what: What,
}

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.file.bytes()
    }
}

impl ChunkReader for Chunks {
    type T = ChunkRead;

    fn get_read(&self, start: u64) -> Result<ChunkRead, ParquetError> {
        let unchecked = match &self.what {
            What::Footer => None,
            What::Pages(codec, position) => Some((*codec, Arc::clone(position))),
        };
        Ok(ChunkRead { file: Arc::clone(&self.file), at: start, unchecked })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<bytes::Bytes, ParquetError> {
        let end = start.checked_add(length as u64);
        if end.is_none_or(|end| end > self.file.bytes()) {
            let reason = format!("{length} bytes at byte {start} reach beyond the end of the file");
            return Err(ParquetError::EOF(reason));
        }
        let bytes = self.file.bytes_at(start, length as u64);
        bytes
            .map(|bytes| bytes.into_owned().into())
            .map_err(|error| ParquetError::External(Box::new(error)))
    }
}

/// A file from a place on, which is where a page starts if anything is read at all: of a page whose
/// header is known, the library takes the bytes together.
pub(super) struct ChunkRead {
    file: Arc<StoredFile>,
    at: u64,
    /// How the page is packed, until that was checked.
    unchecked: Option<(Compression, Arc<Position>)>,
}

impl Read for ChunkRead {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = self.file.bytes().saturating_sub(self.at);
        if let Some((codec, position)) = self.unchecked.take() {
            let header = self.file.bytes_at(self.at, left.min(LONGEST_SIZES));
            position.page.store(self.at, Ordering::Relaxed);
            let unpacked = check_page(&header.map_err(io::Error::other)?, codec);
            position.unpacked.store(unpacked.map_err(io::Error::other)?, Ordering::Relaxed);
        }
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(out.len());
        self.file.read_at(self.at, &mut out[..length]).map_err(io::Error::other)?;
        self.at += length as u64;
        Ok(length)
    }
}

/// How many times its own bytes a page may unpack to, at most: what the codec can say.
fn expansion(codec: Compression) -> u64 {
    match codec {
        Compression::UNCOMPRESSED => 1,
        // Copies of 64 bytes, in 3 bytes each.
        Compression::SNAPPY => 22,
        // A byte for each 255.
        Compression::LZ4 | Compression::LZ4_RAW => 256,
        // Two bits for each 258.
        Compression::GZIP(_) => 1033,
        // Blocks of 128 KiB, in 4 bytes each.
        _ => 1 << 15,
    }
}

/// What a page says it unpacks to; refused where its bytes cannot, or where it is more than a page
/// is given: memory is set aside by that number before anything is unpacked.
fn check_page(header: &[u8], codec: Compression) -> Result<u64, String> {
    let Some((unpacked, packed)) = page_sizes(header) else {
        return Err("the page has a header without its sizes".to_owned());
    };
    if unpacked > packed.saturating_mul(expansion(codec)).saturating_add(SPARE) {
        return Err(format!(
            "the page says that {packed} bytes unpack to {unpacked}, which they cannot"
        ));
    }
    if unpacked > MOST_UNPACKED.max(packed.saturating_mul(TIMES_PACKED)) {
        return Err(format!(
            "the page says that {packed} bytes unpack to {unpacked}, expected at most \
             {MOST_UNPACKED}; write it again with smaller pages"
        ));
    }
    Ok(unpacked)
}

/// The bytes of a page, unpacked and as they are, from the start of its header: the second and the
/// third field, in Thrift's compact protocol.
fn page_sizes(mut header: &[u8]) -> Option<(u64, u64)> {
    // A 32-bit number, in the field after the one before.
    const NEXT_NUMBER: u8 = 0x15;
    let mut number = || {
        let (mut value, mut shift) = (0u64, 0);
        (*header.split_off_first()? == NEXT_NUMBER).then_some(())?;
        while shift < 35 {
            let byte = *header.split_off_first()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                // Odd ones stand for negative numbers.
                return (value & 1 == 0).then_some(value >> 1);
            }
            shift += 7;
        }
        None
    };
    number()?;
    Some((number()?, number()?))
}

#[cfg(test)]
mod tests {
    use parquet::basic::GzipLevel;

    use super::*;

    /// The start of a page's header.
    fn header(unpacked: u64, packed: u64) -> Vec<u8> {
        let mut header = vec![0x15, 0];
        for number in [unpacked, packed] {
            header.push(0x15);
            let mut zigzag = number << 1;
            while zigzag >= 0x80 {
                header.push((zigzag & 0x7f) as u8 | 0x80);
                zigzag >>= 7;
            }
            header.push(zigzag as u8);
        }
        header
    }

    #[test]
    fn a_page_may_say_what_its_bytes_can_be_and_no_more_than_a_limit() {
        let gzip = Compression::GZIP(GzipLevel::default());
        let check = |unpacked, packed, codec| check_page(&header(unpacked, packed), codec);
        for (unpacked, packed, codec) in [
            (1 << 20, 1 << 20, Compression::UNCOMPRESSED),
            (400 << 20, 400 << 20, Compression::UNCOMPRESSED),
            (400 << 20, 100 << 20, Compression::SNAPPY),
            (100_000_000, 98_000, gzip),
            (MOST_UNPACKED, 1 << 20, gzip),
        ] {
            assert_eq!(check(unpacked, packed, codec), Ok(unpacked));
        }
        let cannot = check(2 << 20, 1 << 20, Compression::UNCOMPRESSED).unwrap_err();
        assert!(cannot.contains("which they cannot"), "{cannot}");
        assert!(check(2 << 20, 1 << 10, gzip).unwrap_err().contains("which they cannot"));
        let much = check(MOST_UNPACKED + 1, 1 << 20, gzip).unwrap_err();
        assert!(much.contains("expected at most 134217728"), "{much}");
        assert!(check_page(&[0x15, 0, 0x15], gzip).unwrap_err().contains("without its sizes"));
    }
}
