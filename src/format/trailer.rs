//! The last 64 bytes, which tell a whole file from a partly downloaded one.

use byteorder::{ByteOrder, LittleEndian};

use super::field::{MAGIC, TRAILER_BYTES};
use crate::error::FormatError;

/// The trailer of a file: inverted magic, length, file id, zeros.
pub(crate) fn encode_trailer(file_bytes: u64, file_id: &[u8; 16]) -> [u8; TRAILER_BYTES] {
    let mut trailer = [0; TRAILER_BYTES];
    trailer[0..8].copy_from_slice(&MAGIC.map(|byte| !byte));
    LittleEndian::write_u64(&mut trailer[8..16], file_bytes);
    trailer[16..32].copy_from_slice(file_id);
    trailer
}

/// Checks every byte of a trailer against the header.
pub(crate) fn check_trailer(
    trailer: &[u8; TRAILER_BYTES],
    file_bytes: u64,
    file_id: &[u8; 16],
) -> Result<(), FormatError> {
    let expected = encode_trailer(file_bytes, file_id);
    let Some(at) = expected.iter().zip(trailer).position(|(expected, found)| expected != found)
    else {
        return Ok(());
    };
    Err(match at {
        0..8 => {
            let mut found = [0; 8];
            found.copy_from_slice(&trailer[0..8]);
            FormatError::TrailerMagic { found }
        }
        8..16 => FormatError::TrailerFileBytes {
            expected: file_bytes,
            found: LittleEndian::read_u64(&trailer[8..16]),
        },
        16..32 => {
            let mut found = [0; 16];
            found.copy_from_slice(&trailer[16..32]);
            FormatError::TrailerFileId { expected: *file_id, found }
        }
        _ => FormatError::Reserved { offset: file_bytes - TRAILER_BYTES as u64 + at as u64 },
    })
}
