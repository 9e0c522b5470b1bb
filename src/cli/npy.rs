//! The little of numpy's .npy format that is needed: ids in, rows out.

use std::io::{self, Write};

use embmap::DType;

/// The first bytes of every .npy file.
const MAGIC: &[u8] = b"\x93NUMPY";

/// The longest header that is read. numpy's own are below 200 bytes.
const MOST_HEADER: usize = 1 << 16;

/// The start of the data is a multiple of this.
const ALIGNMENT: usize = 64;

/// True for bytes that mean to be a .npy file.
pub(crate) fn is_npy(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// Writes the header, version 1.0, of an array of `rows` x `dim`.
pub(crate) fn write_header(
    out: &mut impl Write,
    dtype: DType,
    rows: usize,
    dim: usize,
) -> io::Result<()> {
    let mut header = format!(
        "{{'descr': '{}', 'fortran_order': False, 'shape': ({rows}, {dim}), }}",
        descr(dtype)
    );
    let fixed = MAGIC.len() + 4;
    let bytes = (fixed + header.len() + 1).next_multiple_of(ALIGNMENT);
    header.extend(std::iter::repeat_n(' ', bytes - fixed - header.len() - 1));
    header.push('\n');
    let length = u16::try_from(header.len()).map_err(io::Error::other)?;
    out.write_all(MAGIC)?;
    out.write_all(&[1, 0])?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(header.as_bytes())
}

/// The name of a dtype. numpy has no bf16: this is what it saves an array of `ml_dtypes` as.
fn descr(dtype: DType) -> String {
    match dtype {
        DType::BF16 => "<V2".to_owned(),
        float => format!("<f{}", float.block_bytes()),
    }
}

/// Reads an array of integers as ids, in the order of its elements. An error is a reason.
pub(crate) fn read_ids(bytes: &[u8]) -> Result<impl ExactSizeIterator<Item = i128>, String> {
    let (header, data) = Header::split(bytes)?;
    let integer = Integer::parse(&header.descr)?;
    if header.fortran_order && header.shape.iter().filter(|length| **length > 1).count() > 1 {
        return Err("the ids lie in Fortran order, expected C order".to_owned());
    }
    let count = header.shape.iter().try_fold(1u64, |count, length| count.checked_mul(*length));
    let expected = count.and_then(|count| count.checked_mul(integer.bytes as u64));
    if expected != Some(data.len() as u64) {
        return Err(format!(
            "the shape {:?} of {} does not go with {} bytes of data",
            header.shape,
            header.descr,
            data.len()
        ));
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
    fn parse(descr: &str) -> Result<Self, String> {
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

/// What the header says.
#[derive(Debug, PartialEq, Eq)]
struct Header {
    descr: String,
    fortran_order: bool,
    shape: Vec<u64>,
}

impl Header {
    /// The header and the data after it.
    fn split(bytes: &[u8]) -> Result<(Header, &[u8]), String> {
        let cut = || "the header is cut short".to_owned();
        let rest = bytes.strip_prefix(MAGIC).ok_or("the magic is missing")?;
        let (length, rest) = match rest {
            [1, _, low, high, rest @ ..] => (u32::from(u16::from_le_bytes([*low, *high])), rest),
            [2 | 3, _, a, b, c, d, rest @ ..] => (u32::from_le_bytes([*a, *b, *c, *d]), rest),
            [major @ (0 | 4..), minor, ..] => {
                return Err(format!("the version is {major}.{minor}, expected 1.0 to 3.0"));
            }
            _ => return Err(cut()),
        };
        let length = length as usize;
        if length > MOST_HEADER {
            return Err(format!("the header has {length} bytes, expected at most {MOST_HEADER}"));
        }
        let (header, data) = rest.split_at_checked(length).ok_or_else(cut)?;
        Ok((Literal { rest: header }.header()?, data))
    }
}

/// A reader of the one Python literal that a header is.
struct Literal<'a> {
    rest: &'a [u8],
}

impl Literal<'_> {
    fn header(mut self) -> Result<Header, String> {
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        self.expect(b'{')?;
        while !self.eat(b'}') {
            let key = self.string()?;
            self.expect(b':')?;
            let fresh = match key.as_str() {
                "descr" => descr.replace(self.string()?).is_none(),
                "fortran_order" => fortran_order.replace(self.boolean()?).is_none(),
                "shape" => shape.replace(self.shape()?).is_none(),
                _ => return Err(format!("the header has an unknown key {key:?}")),
            };
            if !fresh {
                return Err(format!("the header has {key:?} twice"));
            }
            if !self.eat(b',') {
                self.expect(b'}')?;
                break;
            }
        }
        self.skip_space();
        if !self.rest.is_empty() {
            return Err("the header goes on after its end".to_owned());
        }
        match (descr, fortran_order, shape) {
            (Some(descr), Some(fortran_order), Some(shape)) => {
                Ok(Header { descr, fortran_order, shape })
            }
            _ => Err("the header lacks descr, fortran_order or shape".to_owned()),
        }
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }

    fn eat(&mut self, wanted: u8) -> bool {
        self.skip_space();
        let rest = self.rest.strip_prefix(&[wanted]);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn expect(&mut self, wanted: u8) -> Result<(), String> {
        if self.eat(wanted) {
            return Ok(());
        }
        let found = match self.rest.first() {
            Some(byte) => format!("'{}'", byte.escape_ascii()),
            None => "its end".to_owned(),
        };
        Err(format!("in the header, expected '{}', found {found}", char::from(wanted)))
    }

    /// A string without escapes: none of the three keys and no integer type has any.
    fn string(&mut self) -> Result<String, String> {
        let quote = if self.eat(b'"') { b'"' } else { b'\'' };
        if quote == b'\'' {
            self.expect(quote)?;
        }
        let end = self.rest.iter().position(|byte| *byte == quote);
        let end = end.ok_or("in the header, a string does not end")?;
        let text = String::from_utf8_lossy(&self.rest[..end]).into_owned();
        self.rest = &self.rest[end + 1..];
        Ok(text)
    }

    fn boolean(&mut self) -> Result<bool, String> {
        self.skip_space();
        for (name, value) in [("True", true), ("False", false)] {
            if let Some(rest) = self.rest.strip_prefix(name.as_bytes()) {
                self.rest = rest;
                return Ok(value);
            }
        }
        Err("in the header, expected True or False for fortran_order".to_owned())
    }

    fn shape(&mut self) -> Result<Vec<u64>, String> {
        let mut shape = Vec::new();
        self.expect(b'(')?;
        while !self.eat(b')') {
            shape.push(self.length()?);
            if !self.eat(b',') {
                self.expect(b')')?;
                break;
            }
        }
        Ok(shape)
    }

    fn length(&mut self) -> Result<u64, String> {
        self.skip_space();
        let digits = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (number, rest) = self.rest.split_at(digits);
        // Python 2 wrote long integers with an L.
        self.rest = rest.strip_prefix(b"L").unwrap_or(rest);
        let number = std::str::from_utf8(number).ok().and_then(|number| number.parse().ok());
        number.ok_or_else(|| "in the header, the shape has a length that is no number".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(bytes: &[u8]) -> Result<Vec<i128>, String> {
        read_ids(bytes).map(Iterator::collect)
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

    #[test]
    fn the_header_is_the_one_that_numpy_writes() {
        let mut bytes = Vec::new();
        write_header(&mut bytes, DType::F32, 2, 3).unwrap();
        assert_eq!(bytes, file("<f4", "(2, 3)", &[]));
        bytes.clear();
        write_header(&mut bytes, DType::BF16, usize::MAX, usize::MAX).unwrap();
        assert_eq!(bytes.len() % 64, 0);
        assert!(bytes.ends_with(b" \n") || bytes.ends_with(b"}\n"));
    }
}
