//! Ids from numpy's .npy files.

use std::path::Path;

use anyhow::{Result, anyhow};
use embmap::NpyHeader;

use super::escape::printable_path;

/// True for bytes that mean to be a .npy file.
pub(crate) fn is_npy(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x93NUMPY")
}

/// Reads an array of integers as ids, in the order of its elements; `name` is shown in errors.
pub(crate) fn read_ids(bytes: &[u8], name: &Path) -> Result<impl ExactSizeIterator<Item = i128>> {
    let (header, start) = NpyHeader::parse(bytes, name)?;
    let refused =
        |reason: String| anyhow!("{}: cannot be read as .npy ids: {reason}", printable_path(name));
    let data = usize::try_from(start).ok().and_then(|start| bytes.get(start..)).unwrap_or_default();
    let integer = Integer::parse(&header.descr).map_err(refused)?;
    if header.fortran_order && header.shape.iter().filter(|length| **length > 1).count() > 1 {
        return Err(refused("the ids lie in Fortran order, expected C order".to_owned()));
    }
    let expected = header.elements().and_then(|count| count.checked_mul(integer.bytes as u64));
    if expected != Some(data.len() as u64) {
        return Err(refused(format!(
            "the shape {:?} of {} does not go with {} bytes of data",
            header.shape,
            header.descr,
            data.len()
        )));
    }
    Ok(data.chunks_exact(integer.bytes).map(move |bytes| integer.id(bytes)))
}

/// An integer type.
struct Integer {
    bytes: usize,
    signed: bool,
    big_endian: bool,
}

impl Integer {
    fn parse(descr: &str) -> std::result::Result<Self, String> {
        let refused =
            || format!("the dtype is {descr:?}, expected an integer type such as '<i8' or '<u4'");
        let (order, kind, size) = match descr.as_bytes() {
            [order, kind, size] => (*order, *kind, *size),
            _ => return Err(refused()),
        };
        let bytes = match size {
            size @ (b'1' | b'2' | b'4' | b'8') => usize::from(size - b'0'),
            _ => return Err(refused()),
        };
        let big_endian = match order {
            b'<' => false,
            b'|' if bytes == 1 => false,
            b'>' => true,
            _ => return Err(refused()),
        };
        match kind {
            b'i' => Ok(Integer { bytes, signed: true, big_endian }),
            b'u' => Ok(Integer { bytes, signed: false, big_endian }),
            _ => Err(refused()),
        }
    }

    fn id(&self, bytes: &[u8]) -> i128 {
        let unsigned = bytes.iter().enumerate().fold(0u64, |value, (index, byte)| {
            let place = if self.big_endian { bytes.len() - 1 - index } else { index };
            value | u64::from(*byte) << (8 * place)
        });
        let unused = 64 - 8 * u32::try_from(self.bytes).unwrap_or(8);
        let signed = (unsigned << unused).cast_signed() >> unused;
        if self.signed { signed.into() } else { unsigned.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::result::Result;

    fn read_all(bytes: &[u8]) -> Result<Vec<i128>, String> {
        let ids = read_ids(bytes, Path::new("ids.npy")).map_err(|error| error.to_string());
        ids.map(Iterator::collect)
    }

    /// As numpy 2.4 saves `np.array([[1, 0], [7, 258]], dtype='<i8')`.
    fn file(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((118u16).to_le_bytes());
        bytes.extend(format!("{header:<117}\n").as_bytes());
        bytes.extend(data);
        bytes
    }

    #[test]
    fn integers_of_every_size_and_order_are_read() {
        let data = [1u64, 0, 7, 258].map(u64::to_le_bytes).concat();
        assert_eq!(read_all(&file("<i8", "(2, 2)", &data)), Ok(vec![1, 0, 7, 258]));
        assert_eq!(read_all(&file("<u8", "(4,)", &data)), Ok(vec![1, 0, 7, 258]));
        let data = [1u32, 70_000].map(u32::to_be_bytes).concat();
        assert_eq!(read_all(&file(">u4", "(2,)", &data)), Ok(vec![1, 70_000]));
        assert_eq!(read_all(&file("<i2", "(1, 1)", &[2, 1])), Ok(vec![258]));
        assert_eq!(read_all(&file("|u1", "(2,)", &[255, 0])), Ok(vec![255, 0]));
        assert_eq!(
            read_all(&file("<u8", "()", &[9, 0, 0, 0, 0, 0, 0, 0x80])),
            Ok(vec![(1 << 63) + 9])
        );
        assert_eq!(read_all(&file("<i8", "(0,)", &[])), Ok(vec![]));
    }

    #[test]
    fn negative_ids_keep_their_sign() {
        assert_eq!(read_all(&file("|i1", "(3,)", &[1, 2, 0xff])), Ok(vec![1, 2, -1]));
        let data = [3i32, i32::MIN].map(i32::to_le_bytes).concat();
        assert_eq!(read_all(&file("<i4", "(2,)", &data)), Ok(vec![3, i32::MIN.into()]));
    }

    #[test]
    fn what_is_not_an_array_of_integers_is_refused() {
        let refused = |bytes: &[u8], part: &str| {
            let error = read_all(bytes).unwrap_err();
            assert!(error.contains(part), "{error}");
        };
        refused(&file("<f4", "(1,)", &[0; 4]), "'<i8'");
        refused(&file("<i8", "(2,)", &[0; 8]), "does not go with 8 bytes");
        refused(&file("<i8", "(18446744073709551615, 2)", &[0; 8]), "does not go with");
        refused(&file("<i8", "(99999999999999999999,)", &[0; 8]), "no number");
        refused(&file("<i8", "(1 2)", &[0; 8]), "expected ')'");
        refused(&file("<i8', 'descr': '<i8", "(1,)", &[0; 8]), "twice");
        refused(b"\x93NUMPY\x01\x00\xff", "cut short");
        refused(b"\x93NUMPY\x01\x00\xff\x00{", "cut short");
        refused(b"\x93NUMPY\x02\x00\xff\xff\xff\xff{", "at most");
        refused(b"\x93NUMPY\x09\x00\x00\x00", "version is 9.0");
        let whole = file("<i8", "(2,)", &[0; 16]);
        for cut in 0..whole.len() {
            assert!(read_all(&whole[..cut]).is_err(), "cut at {cut}");
        }
    }
}
