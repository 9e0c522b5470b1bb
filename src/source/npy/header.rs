//! The header of a .npy file: a magic, a version, and one Python literal.
//!
//! The format is numpy's NEP 1; what numpy itself writes and reads decides where that is vague.

use std::io::{self, Write};
use std::path::Path;

use super::literal::Literal;
use crate::dtype::DType;
use crate::error::{Error, Place, Result};

/// The format's name in errors and in `info`.
pub(crate) const FORMAT: &str = "npy";

/// The first bytes of every .npy file.
const MAGIC: &[u8] = b"\x93NUMPY";

/// The longest header that is read. numpy's own are below 200 bytes; only structured types
/// need more, and they are no tables.
const MOST_HEADER: usize = 1 << 16;

/// The most bytes before the data: magic, version, length and header.
pub(crate) const MOST_BEFORE_DATA: usize = MAGIC.len() + 6 + MOST_HEADER;

/// The start of the data is a multiple of this.
const ALIGNMENT: usize = 64;

/// True for the first bytes of a .npy file.
pub(crate) fn looks_like(head: &[u8]) -> bool {
    head.starts_with(MAGIC)
}

/// What the header of a .npy file says of its array.
///
/// ```
/// use embmap::{DType, NpyHeader};
///
/// let mut file = Vec::new();
/// NpyHeader::of_rows(DType::F32, 2, 3).write_to(&mut file)?;
/// assert_eq!(file.len(), 128);
///
/// let (header, data) = NpyHeader::parse(&file, "rows.npy")?;
/// assert_eq!((header.descr.as_str(), header.shape.as_slice()), ("<f4", &[2, 3][..]));
/// assert_eq!(data, 128);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NpyHeader {
    /// The type of the elements as numpy writes it, such as `<f4`.
    pub descr: String,
    /// True where the first index changes fastest.
    pub fortran_order: bool,
    /// The length of each dimension.
    pub shape: Vec<u64>,
}

impl NpyHeader {
    /// The header of `rows` x `dim` elements, one row after the other.
    ///
    /// numpy has no bf16 and no 8-bit floats: they are called what it saves arrays of
    /// `ml_dtypes` as. Of a type whose elements share bytes, and that no array can hold, the
    /// header is that of its bytes.
    #[must_use]
    pub fn of_rows(dtype: DType, rows: u64, dim: u64) -> Self {
        let (descr, dim) = match dtype {
            DType::F32 | DType::F16 | DType::F64 => (format!("<f{}", dtype.block_bytes()), dim),
            DType::BF16 => ("<V2".to_owned(), dim),
            DType::F8E4M3 | DType::F8E5M2 | DType::F8E4M3Fnuz | DType::F8E5M2Fnuz => {
                ("|V1".to_owned(), dim)
            }
            DType::I8 => ("|i1".to_owned(), dim),
            DType::U8 => ("|u1".to_owned(), dim),
            shared => {
                let blocks = dim.div_ceil(shared.block_elements() as u64);
                ("|u1".to_owned(), blocks.saturating_mul(shared.block_bytes() as u64))
            }
        };
        NpyHeader { descr, fortran_order: false, shape: vec![rows, dim] }
    }

    /// Reads a header from the first bytes of a file: the header, and where the data starts.
    ///
    /// # Errors
    ///
    /// [`Error::Foreign`], naming `path`, for bytes that are no such header, or that end within it.
    pub fn parse(bytes: &[u8], path: impl AsRef<Path>) -> Result<(Self, u64)> {
        let fault = |at: usize, reason: String| Error::Foreign {
            path: path.as_ref().to_path_buf(),
            format: FORMAT,
            place: Place::Offset(at as u64),
            reason,
        };
        let cut = || fault(bytes.len(), "the header is cut short".to_owned());
        if !looks_like(bytes) {
            return Err(fault(0, "expected the bytes \\x93NUMPY, found others".to_owned()));
        }
        let at = MAGIC.len();
        let (length, start) = match bytes[at..] {
            [1, 0, low, high, ..] => (u32::from(u16::from_le_bytes([low, high])), at + 4),
            [2 | 3, 0, a, b, c, d, ..] => (u32::from_le_bytes([a, b, c, d]), at + 6),
            // numpy refuses a minor version, too.
            [major, minor, ..] if minor != 0 || !(1..=3).contains(&major) => {
                let reason = format!("the version is {major}.{minor}, expected 1.0, 2.0 or 3.0");
                return Err(fault(at, reason));
            }
            _ => return Err(cut()),
        };
        let length = length as usize;
        if length > MOST_HEADER {
            let reason = format!("the header has {length} bytes, expected at most {MOST_HEADER}");
            return Err(fault(at + 2, reason));
        }
        let text = bytes.get(start..start + length).ok_or_else(cut)?;
        let header =
            Literal::new(text).header().map_err(|(at, reason)| fault(start + at, reason))?;
        Ok((header, (start + length) as u64))
    }

    /// Writes the header, as numpy does; the data is to follow it.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        let shape = match self.shape.as_slice() {
            [only] => format!("({only},)"),
            lengths => {
                let lengths: Vec<String> = lengths.iter().map(u64::to_string).collect();
                format!("({})", lengths.join(", "))
            }
        };
        let order = if self.fortran_order { "True" } else { "False" };
        let mut header =
            format!("{{'descr': '{}', 'fortran_order': {order}, 'shape': {shape}, }}", self.descr);
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

    /// The number of elements; `None` where it overflows.
    #[must_use]
    pub fn elements(&self) -> Option<u64> {
        // A length of zero makes any other harmless.
        if self.shape.contains(&0) {
            return Some(0);
        }
        self.shape.iter().try_fold(1u64, |count, length| count.checked_mul(*length))
    }
}
