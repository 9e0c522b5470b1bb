//! From a header to rows: what may be a table, and where its rows lie.

use std::path::Path;

use super::super::FoundTable;
use super::header::{FORMAT, MOST_BEFORE_DATA, NpyHeader};
use crate::codec::Codec;
use crate::dtype::DType;
use crate::error::{Error, Place, Result};
use crate::layout::{Extent, Layout, Plane};
use crate::storage::{StoredFile, Stretch};

/// An array of two dimensions that is a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NpyArray {
    pub(crate) dtype: DType,
    pub(crate) vocab: u64,
    pub(crate) dim: u64,
    /// Column after column, where that is not the same as row after row.
    pub(crate) fortran_order: bool,
    pub(crate) big_endian: bool,
    /// Where the first element lies, from the start of the .npy file.
    pub(crate) data: u64,
    /// The bytes of all elements.
    pub(crate) bytes: u64,
}

impl NpyArray {
    /// Why the rows cannot be read where they lie, if they cannot.
    pub(crate) fn obstacle(&self) -> Option<&'static str> {
        match (self.fortran_order, self.big_endian) {
            (true, _) => Some("in Fortran order"),
            (_, true) => Some("in big-endian order"),
            (false, false) => None,
        }
    }
}

/// What the array of a header is as a table; an error where it is none.
pub(crate) fn describe(header: &NpyHeader, data: u64, path: &Path) -> Result<NpyArray> {
    let refuse = |reason| Error::NoTable { path: path.to_path_buf(), reason };
    let (dtype, big_endian) = element(&header.descr).map_err(refuse)?;
    let [vocab, dim] = header.shape[..] else {
        return Err(refuse(format!(
            "an array of the shape {:?}, expected two dimensions: rows and columns",
            header.shape
        )));
    };
    if dim == 0 {
        let reason = "an array of rows without elements, expected at least one column";
        return Err(refuse(reason.to_owned()));
    }
    let bytes = vocab.checked_mul(dim).and_then(|n| n.checked_mul(dtype.block_bytes() as u64));
    let bytes = bytes.filter(|bytes| i64::try_from(*bytes).is_ok());
    let bytes = bytes.ok_or(Error::TooLarge { vocab, dim, dtype })?;
    let fortran_order = header.fortran_order && vocab > 1 && dim > 1;
    Ok(NpyArray { dtype, vocab, dim, fortran_order, big_endian, data, bytes })
}

/// An element type, and whether its bytes are in big-endian order.
fn element(descr: &str) -> Result<(DType, bool), String> {
    let (order, kind) = descr.split_at_checked(1).unwrap_or_default();
    let dtype = match kind {
        "f4" => DType::F32,
        "f2" => DType::F16,
        "f8" => DType::F64,
        "i1" => DType::I8,
        "u1" => DType::U8,
        // What numpy saves an array of ml_dtypes' bfloat16 as.
        "V2" => DType::BF16,
        _ => return Err(not_numbers(descr, kind)),
    };
    match order {
        "<" | "|" => Ok((dtype, false)),
        ">" => Ok((dtype, dtype.block_bytes() > 1 && dtype != DType::BF16)),
        _ => Err(not_numbers(descr, kind)),
    }
}

fn not_numbers(descr: &str, kind: &str) -> String {
    if kind.starts_with('O') {
        return "an array of Python objects, which is a pickle inside: it can run any program and \
                is never read; save numbers, in Python: np.save(path, \
                np.stack(array).astype(np.float32))"
            .to_owned();
    }
    if kind == "V1" {
        return "an array of one-byte elements without a name: numpy does not keep which 8-bit \
                type they are; save them as np.float32, or convert them with --from raw"
            .to_owned();
    }
    format!(
        "an array of {descr:?}, expected f4, f2, f8, i1 or u1; save it as one of them, in Python: \
         np.save(path, array.astype(np.float32))"
    )
}

/// Reads the header of an array that takes a stretch of a file, and all of it.
pub(crate) fn read(file: &StoredFile, at: Stretch) -> Result<NpyArray> {
    let head = file.bytes_at(at.offset, at.bytes.min(MOST_BEFORE_DATA as u64))?;
    let (header, data) = NpyHeader::parse(&head, file.path())?;
    let array = describe(&header, data, file.path())?;
    check_length(&array, at.bytes, at.offset, file.path())?;
    Ok(array)
}

/// Refuses an array whose elements are not exactly what follows its header. The .npy file takes
/// `bytes` from `start` on.
pub(crate) fn check_length(array: &NpyArray, bytes: u64, start: u64, path: &Path) -> Result<()> {
    let found = bytes.saturating_sub(array.data);
    if found == array.bytes {
        return Ok(());
    }
    let NpyArray { vocab, dim, dtype, .. } = array;
    let reason = format!(
        "{vocab} x {dim} elements of {dtype} take {} bytes, and {found} follow the header",
        array.bytes
    );
    let at = start + array.data + found.min(array.bytes);
    Err(Error::Foreign {
        path: path.to_path_buf(),
        format: FORMAT,
        place: Place::Offset(at),
        reason,
    })
}

/// The table that a whole .npy file is.
pub(in super::super) fn find(file: StoredFile) -> Result<FoundTable> {
    let whole = Stretch { offset: 0, bytes: file.bytes() };
    let array = read(&file, whole)?;
    in_place(file, whole, &array, FORMAT)
}

/// The table that an array at a stretch of a file is.
pub(crate) fn in_place(
    file: StoredFile,
    at: Stretch,
    array: &NpyArray,
    format: &'static str,
) -> Result<FoundTable> {
    let &NpyArray { dtype, vocab, dim, data, .. } = array;
    if let Some(obstacle) = array.obstacle() {
        let reason = format!(
            "its array lies {obstacle}, and is not read in place; convert it: embmap convert"
        );
        return Err(Error::NoTable { path: file.path().to_path_buf(), reason });
    }
    let too_large = || Error::TooLarge { vocab, dim, dtype };
    let row_bytes = dim * dtype.block_bytes() as u64;
    let extent = Extent { first: 0, rows: vocab, file: 0, offset: at.offset + data };
    let plane = Plane::new(row_bytes, row_bytes, vec![extent], &[file.bytes()]);
    let dim = usize::try_from(dim).map_err(|_| too_large())?;
    let layout =
        plane.and_then(|plane| Layout::of_values(vocab, dim, plane)).ok_or_else(too_large)?;
    Ok(FoundTable {
        format,
        files: vec![file],
        tensor: None,
        pieces: 1,
        scales: None,
        biases: None,
        dtype,
        codec: Codec::Plain,
        layout,
        rows_are_tokens: true,
        tokens: None,
        tokenizer: None,
    })
}
