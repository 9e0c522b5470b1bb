//! Unpacking pages whose codecs do not keep to a length by themselves: the library's own gzip and
//! LZ4 go on to whatever end there is. zstd comes with it, for there is a reader of it in Rust.

use std::io::{self, Cursor, Read};

use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
use parquet::basic::Compression;
use parquet::column::page::Page;

use super::super::super::packed::zstd_frames;

/// True for codecs that are unpacked here.
pub(super) fn is_ours(codec: Compression) -> bool {
    let is_zstd = matches!(codec, Compression::ZSTD(_));
    matches!(codec, Compression::GZIP(_) | Compression::LZ4)
        || is_zstd && cfg!(not(feature = "parquet-zstd"))
}

/// Unpacks a page in place, to exactly so many bytes. An error is a reason.
pub(super) fn unpack_page(codec: Compression, page: &mut Page, bytes: u64) -> Result<(), String> {
    let (buffer, plain) = match page {
        Page::DataPage { buf, .. } | Page::DictionaryPage { buf, .. } => (buf, 0),
        Page::DataPageV2 { is_compressed: false, .. } => return Ok(()),
        Page::DataPageV2 { buf, def_levels_byte_len, rep_levels_byte_len, .. } => {
            (buf, *def_levels_byte_len as usize + *rep_levels_byte_len as usize)
        }
    };
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    if plain > buffer.len() || plain > bytes {
        return Err("the levels of the page are longer than the page".to_owned());
    }
    let mut out = vec![0; bytes];
    out[..plain].copy_from_slice(&buffer[..plain]);
    // Where there are no numbers, some writers leave nothing to unpack.
    if bytes > plain {
        unpack(codec, &buffer.slice(plain..), &mut out[plain..])?;
    }
    *buffer = out.into();
    Ok(())
}

fn unpack(codec: Compression, packed: &Bytes, out: &mut [u8]) -> Result<(), String> {
    match codec {
        Compression::GZIP(_) => fill(MultiGzDecoder::new(packed.as_ref()), out),
        Compression::LZ4 => lz4(packed, out),
        _ => fill(zstd_frames(Box::new(Cursor::new(packed.clone()))), out),
    }
}

/// Reads exactly as many bytes as there is room for.
fn fill(mut reader: impl Read, out: &mut [u8]) -> Result<(), String> {
    let bytes = out.len();
    reader.read_exact(out).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            format!("the page unpacks to fewer bytes than the {bytes} it declares")
        }
        _ => format!("the page does not unpack: {error}"),
    })?;
    match reader.read(&mut [0]) {
        Ok(0) => Ok(()),
        Ok(_) => Err(format!("the page unpacks to more bytes than the {bytes} it declares")),
        Err(error) => Err(format!("the page does not unpack: {error}")),
    }
}

/// What was written as LZ4 before that was one thing: blocks with their lengths before them, as
/// Hadoop has them, or a frame, or one block.
fn lz4(packed: &[u8], out: &mut [u8]) -> Result<(), String> {
    if hadoop_blocks(packed, out).is_some() {
        return Ok(());
    }
    let Err(reason) = fill(lz4_flex::frame::FrameDecoder::new(packed), out) else { return Ok(()) };
    match lz4_flex::block::decompress_into(packed, out) {
        Ok(bytes) if bytes == out.len() => Ok(()),
        _ => Err(reason),
    }
}

fn hadoop_blocks(mut packed: &[u8], mut out: &mut [u8]) -> Option<()> {
    let length = |packed: &mut &[u8]| {
        let (length, rest) = packed.split_first_chunk()?;
        *packed = rest;
        Some(u32::from_be_bytes(*length) as usize)
    };
    while !out.is_empty() {
        let (bytes, taken) = (length(&mut packed)?, length(&mut packed)?);
        let (block, rest) = packed.split_at_checked(taken)?;
        let (place, left) = out.split_at_mut_checked(bytes)?;
        (lz4_flex::block::decompress_into(block, place).ok()? == bytes).then_some(())?;
        (packed, out) = (rest, left);
    }
    packed.is_empty().then_some(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use parquet::basic::{GzipLevel, ZstdLevel};

    use super::*;

    fn packed(plain: &[u8]) -> Vec<(Compression, Vec<u8>)> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(plain).unwrap();
        let mut frame = lz4_flex::frame::FrameEncoder::new(Vec::new());
        frame.write_all(plain).unwrap();
        let block = lz4_flex::block::compress(plain);
        let (half, other) = plain.split_at(plain.len() / 2);
        let mut hadoop = Vec::new();
        for part in [half, other] {
            let block = lz4_flex::block::compress(part);
            for length in [part.len(), block.len()] {
                hadoop.extend(u32::try_from(length).unwrap().to_be_bytes());
            }
            hadoop.extend(block);
        }
        let level = ruzstd::encoding::CompressionLevel::Fastest;
        vec![
            (Compression::GZIP(GzipLevel::default()), gzip.finish().unwrap()),
            (Compression::LZ4, frame.finish().unwrap()),
            (Compression::LZ4, block),
            (Compression::LZ4, hadoop),
            (
                Compression::ZSTD(ZstdLevel::default()),
                ruzstd::encoding::compress_to_vec(plain, level),
            ),
        ]
    }

    #[test]
    fn a_page_is_unpacked_to_its_length_and_to_no_other() {
        let plain: Vec<u8> = (0..100_000u32).flat_map(|i| (i / 9).to_le_bytes()).collect();
        for (codec, packed) in packed(&plain) {
            let packed = Bytes::from(packed);
            let mut out = vec![0; plain.len()];
            unpack(codec, &packed, &mut out).unwrap();
            assert!(out == plain, "{codec:?}");
            for wrong in [0, plain.len() - 1, plain.len() + 1] {
                let refused = unpack(codec, &packed, &mut vec![0; wrong]);
                assert!(refused.is_err(), "{codec:?} to {wrong} bytes");
            }
            let cut = packed.slice(..packed.len() / 2);
            assert!(unpack(codec, &cut, &mut out).is_err(), "{codec:?}");
        }
    }

    #[test]
    fn what_unpacks_to_more_than_it_declares_is_unpacked_no_further() {
        let mut bomb = Vec::new();
        for _ in 0..1000 {
            let zeros = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            let mut zeros = io::BufWriter::new(zeros);
            zeros.write_all(&[0; 1000]).unwrap();
            bomb.extend(zeros.into_inner().unwrap().finish().unwrap());
        }
        let codec = Compression::GZIP(GzipLevel::default());
        let refused = unpack(codec, &Bytes::from(bomb), &mut [0; 2000]);
        assert_eq!(refused, Err("the page unpacks to more bytes than the 2000 it declares".into()));
    }
}
