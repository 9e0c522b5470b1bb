//! The bytes of a source in their order: a file's, a stream's, or what either unpacks to.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Place, Result};
use crate::storage::{StoredFile, Stretch};

/// The most bytes that are read at once.
const PIECE: usize = 128 << 10;

/// Bytes in their order, of which some can be looked at before they are taken.
pub(crate) struct Bytes {
    path: PathBuf,
    reader: Box<dyn Read + Send>,
    /// What was read and not taken: from `start` on.
    buffer: Vec<u8>,
    start: usize,
    /// The bytes taken so far.
    position: u64,
    ended: bool,
    /// The bytes read of the source itself, which are fewer where they are packed.
    consumed: Arc<AtomicU64>,
    /// The bytes of the source, where it is known how many there are.
    total: Option<u64>,
    /// True where what is read is the source itself, so that the total is of these bytes.
    plain: bool,
}

impl Bytes {
    /// The bytes of a file.
    pub(crate) fn of_file(file: StoredFile) -> Self {
        let (path, total) = (file.path().to_path_buf(), file.bytes());
        Bytes::new(path, Some(total), Box::new(FileReader { file, at: 0, end: total }))
    }

    /// The bytes of a part of a file, which is within it.
    pub(crate) fn of_stretch(file: StoredFile, part: Stretch) -> Self {
        let (path, end) = (file.path().to_path_buf(), part.end());
        Bytes::new(path, Some(part.bytes), Box::new(FileReader { file, at: part.offset, end }))
    }

    /// The bytes of a reader; `path` is shown in errors.
    pub(crate) fn of_reader(reader: Box<dyn Read + Send>, path: PathBuf) -> Self {
        Bytes::new(path, None, reader)
    }

    /// The bytes of a reader that is to give so many.
    pub(super) fn of_length(reader: Box<dyn Read + Send>, path: PathBuf, total: u64) -> Self {
        Bytes::new(path, Some(total), reader)
    }

    fn new(path: PathBuf, total: Option<u64>, reader: Box<dyn Read + Send>) -> Self {
        let consumed = Arc::new(AtomicU64::new(0));
        let reader = Box::new(Counted { reader, consumed: Arc::clone(&consumed) });
        Bytes {
            path,
            reader,
            buffer: Vec::new(),
            start: 0,
            position: 0,
            ended: false,
            consumed,
            total,
            plain: true,
        }
    }

    /// What these bytes unpack to.
    pub(crate) fn unpacked(
        self,
        unpack: impl FnOnce(Box<dyn Read + Send>) -> Box<dyn Read + Send>,
    ) -> Self {
        let Bytes { path, reader, buffer, start, consumed, total, .. } = self;
        let rest = buffer.get(start..).unwrap_or_default().to_vec();
        let reader = unpack(Box::new(io::Cursor::new(rest).chain(reader)));
        Bytes {
            path,
            reader,
            buffer: Vec::new(),
            start: 0,
            position: 0,
            ended: false,
            consumed,
            total,
            plain: false,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The bytes taken so far.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The bytes read of the source itself.
    pub(crate) fn consumed(&self) -> u64 {
        self.consumed.load(Ordering::Relaxed)
    }

    /// The bytes of the source itself, packed or not, where that is known.
    pub(crate) fn total(&self) -> Option<u64> {
        self.total
    }

    /// The bytes that there are to take, where that is known.
    pub(crate) fn left(&self) -> Option<u64> {
        self.total.filter(|_| self.plain).map(|total| total.saturating_sub(self.position))
    }

    /// The next bytes: as many as asked for, and fewer only at the end.
    pub(crate) fn peek(&mut self, bytes: usize) -> Result<&[u8]> {
        while self.buffer.len() - self.start < bytes && !self.ended {
            self.fill()?;
        }
        let held = &self.buffer[self.start..];
        Ok(&held[..bytes.min(held.len())])
    }

    /// Passes over bytes that were looked at.
    pub(crate) fn take(&mut self, bytes: usize) {
        let bytes = bytes.min(self.buffer.len() - self.start);
        self.start += bytes;
        self.position += bytes as u64;
    }

    /// Appends so many bytes to `out`, or what is left of them; gives the number.
    pub(crate) fn append_to(&mut self, bytes: usize, out: &mut Vec<u8>) -> Result<usize> {
        let held = (self.buffer.len() - self.start).min(bytes);
        out.extend_from_slice(&self.buffer[self.start..self.start + held]);
        self.take(held);
        let before = out.len();
        let mut wanted = bytes - held;
        // What is asked for may be a lie: memory grows with what is there.
        while wanted > 0 && !self.ended {
            let from = out.len();
            out.resize(from + wanted.min(PIECE), 0);
            let read = self.read(from, out);
            out.truncate(from + *read.as_ref().unwrap_or(&0));
            wanted -= read?;
        }
        self.position += (out.len() - before) as u64;
        Ok(held + out.len() - before)
    }

    fn fill(&mut self) -> Result<()> {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        let from = self.buffer.len();
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(from + PIECE, 0);
        let read = self.read(from, &mut buffer);
        buffer.truncate(from + *read.as_ref().unwrap_or(&0));
        self.buffer = buffer;
        read.map(drop)
    }

    /// Reads once into `out` from a place on.
    fn read(&mut self, from: usize, out: &mut [u8]) -> Result<usize> {
        loop {
            match self.reader.read(&mut out[from..]) {
                Ok(0) => {
                    self.ended = true;
                    return Ok(0);
                }
                Ok(read) => return Ok(read),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
    }

    /// An error of a reader, which may hold one of ours.
    fn failed(&self, error: io::Error) -> Error {
        let error = match error.downcast::<Unpacking>() {
            Ok(Unpacking { format, reason }) => {
                let place = Place::Offset(self.consumed());
                return Error::Foreign { path: self.path.clone(), format, place, reason };
            }
            Err(error) => error,
        };
        match error.downcast::<Error>() {
            Ok(ours) => ours,
            Err(error) => Error::io("read", &self.path, error),
        }
    }
}

/// What is wrong with packed bytes.
#[derive(Debug)]
pub(super) struct Unpacking {
    pub(super) format: &'static str,
    pub(super) reason: String,
}

impl std::fmt::Display for Unpacking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Unpacking {}

/// Counts what is read.
struct Counted {
    reader: Box<dyn Read + Send>,
    consumed: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(out)?;
        self.consumed.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// Reads a part of a file from one end to the other.
pub(super) struct FileReader {
    pub(super) file: StoredFile,
    pub(super) at: u64,
    pub(super) end: u64,
}

impl Read for FileReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        if left == 0 {
            // What was changed meanwhile was read before or after.
            self.file.check_alive().map_err(io::Error::other)?;
        }
        let length = out.len().min(left);
        self.file.read_at(self.at, &mut out[..length]).map_err(io::Error::other)?;
        self.at += length as u64;
        Ok(length)
    }
}
