//! Bytes that are packed: gzip, zstd, and the members of zip archives.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::{DeflateDecoder, MultiGzDecoder};
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::bytes::{Bytes, FileReader, Unpacking};
use super::npz;
use super::zip::{self, Member, Packing};
use crate::error::Result;
use crate::storage::StoredFile;

/// The packed bytes that are read at once.
const PIECE: usize = 128 << 10;

/// What a gzip stream unpacks to; one of several parts is all of them.
pub(crate) fn gunzip(bytes: Bytes) -> Bytes {
    bytes.unpacked(|packed| {
        let decoder = MultiGzDecoder::new(BufReader::with_capacity(PIECE, packed));
        Box::new(Named { reader: decoder, format: "gzip" })
    })
}

/// What a zstd stream unpacks to, frame after frame.
pub(crate) fn unzstd(bytes: Bytes) -> Bytes {
    bytes.unpacked(|packed| Box::new(zstd_frames(packed)))
}

/// What frames of zstd unpack to, one after the other.
pub(super) fn zstd_frames(packed: Box<dyn Read + Send>) -> impl Read + Send {
    let frames = Frames {
        source: BufReader::with_capacity(PIECE, packed),
        decoder: FrameDecoder::new(),
        in_frame: false,
    };
    Named { reader: frames, format: "zstd" }
}

/// The bytes of a member of an archive. What is unpacked is held against the length and the
/// sum that the directory declares.
pub(crate) fn member(file: StoredFile, member: &Member) -> Result<Bytes> {
    let start = zip::place(&file, member)?;
    let path = file.path().to_path_buf();
    let packed = FileReader { file, at: start, end: start + member.packed };
    let reader: Box<dyn Read + Send> = match member.packing {
        Packing::Stored => Box::new(packed),
        Packing::Deflated => Box::new(DeflateDecoder::new(BufReader::with_capacity(PIECE, packed))),
        Packing::Other(_) | Packing::Encrypted => {
            let how = npz::packed(member.packing).unwrap_or_default();
            let reason = format!("member {:?} is {how}, expected stored or deflated", member.name);
            return zip::fault(&path, start, reason);
        }
    };
    let checked =
        Checked { reader, crc: flate2::Crc::new(), expected: member.crc32, left: member.bytes };
    let reader = Box::new(Named { reader: checked, format: "zip" });
    Ok(Bytes::of_length(reader, path, member.bytes))
}

/// Bytes that end where they are declared to, and add up.
struct Checked {
    reader: Box<dyn Read + Send>,
    crc: flate2::Crc,
    expected: u32,
    left: u64,
}

impl Read for Checked {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        let read = self.reader.read(out)?;
        let lie = |reason: &str| Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        if read as u64 > self.left {
            return lie("a member holds more bytes than its archive declares");
        }
        if read == 0 && self.left > 0 {
            return lie("a member holds fewer bytes than its archive declares");
        }
        self.crc.update(&out[..read]);
        self.left -= read as u64;
        if self.left == 0 && self.crc.sum() != self.expected {
            return lie("a member is damaged: its CRC-32 is another than its archive declares");
        }
        Ok(read)
    }
}

/// Adds to what a decoder finds wrong what it decodes.
struct Named<R> {
    reader: R,
    format: &'static str,
}

impl<R: Read> Read for Named<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.reader.read(out).map_err(|error| match error.kind() {
            // Errors of ours, and of the system, pass.
            io::ErrorKind::Interrupted | io::ErrorKind::Other if error.raw_os_error().is_none() => {
                error
            }
            io::ErrorKind::UnexpectedEof => io::Error::other(Unpacking {
                format: self.format,
                reason: "it ends early: cut short, copy it again".to_owned(),
            }),
            _ if error.raw_os_error().is_some() => error,
            _ => io::Error::other(Unpacking { format: self.format, reason: error.to_string() }),
        })
    }
}

/// The frames of a zstd stream, one after the other.
struct Frames<R> {
    source: BufReader<R>,
    decoder: FrameDecoder,
    in_frame: bool,
}

impl<R: Read> Frames<R> {
    /// Starts the next frame; false at the end of the stream.
    fn start(&mut self) -> io::Result<bool> {
        if self.source.fill_buf()?.is_empty() {
            return Ok(false);
        }
        match self.decoder.reset(&mut self.source) {
            Ok(()) => self.in_frame = true,
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length,
                ..
            })) => {
                let skipped =
                    io::copy(&mut self.source.by_ref().take(length.into()), &mut io::sink())?;
                if skipped < length.into() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            Err(error) => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, error.to_string()));
            }
        }
        Ok(true)
    }

    fn end(&mut self) -> io::Result<()> {
        self.in_frame = false;
        let stored = self.decoder.get_checksum_from_data();
        if stored.is_some() && stored != self.decoder.get_calculated_checksum() {
            let reason = "a frame is damaged: its checksum is another than it declares";
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        Ok(())
    }
}

impl<R: Read> Read for Frames<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.in_frame {
                if !self.start()? {
                    return Ok(0);
                }
                continue;
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                let strategy = BlockDecodingStrategy::UptoBytes(PIECE);
                self.decoder.decode_blocks(&mut self.source, strategy).map_err(|error| {
                    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
                })?;
            }
            let read = self.decoder.read(out)?;
            if read > 0 {
                return Ok(read);
            }
            self.end()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::PathBuf;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder};

    use super::*;
    use crate::error::Error;

    fn bytes(packed: &[u8]) -> Bytes {
        let reader = io::Cursor::new(packed.to_vec());
        Bytes::of_reader(Box::new(reader), PathBuf::from("packed"))
    }

    fn all(mut bytes: Bytes) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        while bytes.append_to(1000, &mut out)? > 0 {}
        Ok(out)
    }

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(plain: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(plain, ruzstd::encoding::CompressionLevel::Fastest)
    }

    /// More than is read at once, and not all of it alike.
    fn text() -> Vec<u8> {
        (0..60_000u32).flat_map(|i| format!("{} ", i * i % 7919).into_bytes()).collect()
    }

    fn reason(result: Result<Vec<u8>>) -> String {
        match result.unwrap_err() {
            Error::Foreign { format, reason, .. } => format!("{format}: {reason}"),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn streams_of_several_parts_are_all_of_them() {
        let text = text();
        let (one, two) = text.split_at(text.len() / 3);
        for empty in [false, true] {
            let mut packed = gzip(one);
            if empty {
                packed.extend(gzip(b""));
            }
            packed.extend(gzip(two));
            assert_eq!(all(gunzip(bytes(&packed))).unwrap(), text);
            let mut packed = zstd(one);
            if empty {
                packed.extend(zstd(b""));
                // A frame to be skipped.
                packed.extend([0x53, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);
            }
            packed.extend(zstd(two));
            assert_eq!(all(unzstd(bytes(&packed))).unwrap(), text);
        }
    }

    #[test]
    fn what_was_looked_at_before_is_unpacked_too() {
        let mut packed = bytes(&gzip(&text()));
        assert_eq!(packed.peek(2).unwrap(), [0x1f, 0x8b]);
        let unpacked = gunzip(packed);
        assert_eq!(all(unpacked).unwrap(), text());
    }

    #[test]
    fn a_stream_that_is_cut_or_damaged_is_refused() {
        type Unpack = fn(Bytes) -> Bytes;
        let text = text();
        for (packed, unpack, format) in
            [(gzip(&text), gunzip as Unpack, "gzip"), (zstd(&text), unzstd as Unpack, "zstd")]
        {
            for cut in [1, 3, packed.len() / 2, packed.len() - 1] {
                let reason = reason(all(unpack(bytes(&packed[..cut]))));
                assert!(reason.starts_with(format), "{cut}: {reason}");
            }
            for at in [packed.len() / 2, packed.len() - 6] {
                let mut wrong = packed.clone();
                wrong[at] ^= 0x40;
                let found = all(unpack(bytes(&wrong)));
                assert!(found.is_err(), "{format}: a flipped bit at {at} went unseen");
            }
        }
        let trailing = [gzip(&text), b"garbage".to_vec()].concat();
        assert!(all(gunzip(bytes(&trailing))).is_err());
    }

    /// A member whose packed bytes are a whole file.
    fn unpack(
        packed: &[u8],
        packing: Packing,
        plain: &[u8],
        change: impl Fn(&mut Member),
    ) -> Result<Vec<u8>> {
        let mut archive = b"PK\x03\x04".to_vec();
        archive.resize(26, 0);
        archive.extend([1, 0, 0, 0, b'a']);
        archive.extend(packed);
        let file = StoredFile::from_bytes(&archive, "archive").unwrap();
        let mut crc = flate2::Crc::new();
        crc.update(plain);
        let mut declared =
            Member::of_test("a", packing, crc.sum(), packed.len() as u64, plain.len() as u64);
        change(&mut declared);
        all(member(file, &declared)?)
    }

    #[test]
    fn a_member_that_lies_about_its_bytes_is_refused() {
        let text = text();
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&text).unwrap();
        let packed = encoder.finish().unwrap();
        let deflated =
            |change: &dyn Fn(&mut Member)| unpack(&packed, Packing::Deflated, &text, change);
        assert_eq!(deflated(&|_| ()).unwrap(), text);
        assert_eq!(unpack(&text, Packing::Stored, &text, |_| ()).unwrap(), text);
        assert!(reason(deflated(&|it| it.bytes -= 1)).contains("more bytes than"));
        assert!(reason(deflated(&|it| it.bytes += 1)).contains("fewer bytes than"));
        assert!(reason(deflated(&|it| it.crc32 ^= 1)).contains("CRC-32"));
        assert!(reason(deflated(&|it| it.packed -= 9)).contains("cut short"));
        assert!(reason(deflated(&|it| it.packing = Packing::Other(93))).contains("method 93"));
        assert!(reason(deflated(&|it| it.packing = Packing::Encrypted)).contains("encrypted"));
        let mut wrong = text.clone();
        wrong[7] ^= 1;
        assert!(reason(unpack(&wrong, Packing::Stored, &text, |_| ())).contains("CRC-32"));
    }
}
