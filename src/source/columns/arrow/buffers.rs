//! The buffers of a record batch, each read from one end to the other.

use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use arrow_ipc::CompressionType;

use super::super::super::bytes::Unpacking;
use super::super::super::packed::zstd_frames;
use super::fault;
use crate::error::{Error, Place};
use crate::storage::{StoredFile, Stretch};

/// The bytes that are read at once.
const PIECE: usize = 64 << 10;

/// The bytes of a message's body.
#[derive(Clone)]
pub(super) struct Body {
    pub(super) file: Arc<StoredFile>,
    pub(super) at: Stretch,
}

/// How the buffers of a record batch are packed.
pub(super) type Packed = Option<CompressionType>;

/// A buffer, read from its start on.
pub(super) struct Buffer(BufReader<Box<dyn Read + Send>>);

/// What is wrong with a row.
pub(super) enum RowFault {
    Row(String),
    Read(io::Error),
}

impl From<io::Error> for RowFault {
    fn from(error: io::Error) -> Self {
        RowFault::Read(error)
    }
}

impl From<String> for RowFault {
    fn from(reason: String) -> Self {
        RowFault::Row(reason)
    }
}

impl RowFault {
    /// The error of what stands at a place.
    pub(super) fn told(self, path: &Path, place: Place) -> Error {
        let wrong = |reason| fault(path, place, reason);
        let error = match self {
            RowFault::Row(reason) => return wrong(reason),
            RowFault::Read(error) => error,
        };
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return wrong("it lies beyond the end of its buffer".to_owned());
        }
        let error = match error.downcast::<Unpacking>() {
            Ok(Unpacking { format, reason }) => return wrong(format!("{format}: {reason}")),
            Err(error) => error,
        };
        match error.downcast::<Error>() {
            Ok(ours) => ours,
            Err(error) if error.raw_os_error().is_none() => wrong(error.to_string()),
            Err(error) => Error::io("read", path, error),
        }
    }
}

impl Body {
    /// A buffer within the body; `None` where it lies outside.
    pub(super) fn buffer(&self, offset: i64, length: i64, packed: Packed) -> Option<Buffer> {
        let (offset, length) = (u64::try_from(offset).ok()?, u64::try_from(length).ok()?);
        let within = offset.checked_add(length).is_some_and(|end| end <= self.at.bytes);
        let at = self.at.offset + offset;
        let part = Part { file: Arc::clone(&self.file), at, end: at.checked_add(length)? };
        within.then(|| Buffer::new(part, packed.filter(|_| length > 0)))
    }
}

impl Buffer {
    fn new(part: Part, packed: Packed) -> Self {
        let reader: Box<dyn Read + Send> = match packed {
            None => Box::new(part),
            Some(packed) => Box::new(Lazy { part: Some(part), packed, reader: None }),
        };
        Buffer(BufReader::with_capacity(PIECE, reader))
    }

    /// The next bytes, all of them.
    pub(super) fn fill(&mut self, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact(out)
    }

    /// The next four bytes, as a number.
    pub(super) fn number(&mut self) -> io::Result<i32> {
        let mut bytes = [0; 4];
        self.fill(&mut bytes).map(|()| i32::from_le_bytes(bytes))
    }

    /// The next eight bytes, as a number.
    pub(super) fn long_number(&mut self) -> io::Result<i64> {
        let mut bytes = [0; 8];
        self.fill(&mut bytes).map(|()| i64::from_le_bytes(bytes))
    }

    /// Passes over bytes.
    pub(super) fn skip(&mut self, bytes: u64) -> io::Result<()> {
        let passed = io::copy(&mut (&mut self.0).take(bytes), &mut io::sink())?;
        if passed == bytes { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// All that is left, at most so many bytes.
    pub(super) fn rest(&mut self, most: u64, out: &mut Vec<u8>) -> io::Result<()> {
        (&mut self.0).take(most).read_to_end(out).map(drop)
    }
}

/// A part of a file, from one end to the other.
struct Part {
    file: Arc<StoredFile>,
    at: u64,
    end: u64,
}

impl Read for Part {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let length = left.min(out.len());
        self.file.read_at(self.at, &mut out[..length]).map_err(io::Error::other)?;
        self.at += length as u64;
        Ok(length)
    }
}

/// A packed buffer, whose first eight bytes say how long it is, or -1 where it is not packed
/// after all.
struct Lazy {
    part: Option<Part>,
    packed: CompressionType,
    reader: Option<Box<dyn Read + Send>>,
}

impl Read for Lazy {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if let Some(mut part) = self.part.take() {
            let mut length = [0; 8];
            part.read_exact(&mut length)?;
            let length = i64::from_le_bytes(length);
            let reader: Box<dyn Read + Send> = match (u64::try_from(length), self.packed) {
                (Err(_), _) if length == -1 => Box::new(part),
                (Ok(length), CompressionType::LZ4_FRAME) => {
                    Box::new(lz4_flex::frame::FrameDecoder::new(part).take(length))
                }
                (Ok(length), CompressionType::ZSTD) => {
                    Box::new(zstd_frames(Box::new(part)).take(length))
                }
                (Ok(_), other) => {
                    let reason = format!("packed by {other:?}, expected LZ4 or ZSTD");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
                }
                (Err(_), _) => {
                    let reason = format!("a packed buffer declares {length} bytes");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
                }
            };
            self.reader = Some(reader);
        }
        self.reader.as_mut().map_or(Ok(0), |reader| reader.read(out))
    }
}

/// Bits, the lowest of each byte first; all are set where there is no buffer.
pub(super) struct Bits {
    buffer: Option<Buffer>,
    byte: u8,
    at: u8,
}

impl Bits {
    pub(super) fn new(buffer: Option<Buffer>) -> Self {
        Bits { buffer, byte: 0, at: 0 }
    }

    pub(super) fn are_all_set(&self) -> bool {
        self.buffer.is_none()
    }

    pub(super) fn next(&mut self) -> io::Result<bool> {
        let Some(buffer) = &mut self.buffer else { return Ok(true) };
        if self.at == 0 {
            buffer.fill(std::slice::from_mut(&mut self.byte))?;
        }
        let bit = self.byte >> self.at & 1 == 1;
        self.at = (self.at + 1) % 8;
        Ok(bit)
    }

    pub(super) fn skip(&mut self, bits: u64) -> io::Result<()> {
        if let Some(buffer) = &mut self.buffer {
            buffer.skip(bits / 8)?;
        }
        (0..bits % 8).try_for_each(|_| self.next().map(drop))
    }
}
