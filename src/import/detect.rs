//! What text is: word2vec's, its binary, or `GloVe`'s; and how many columns it has.

use super::ImportFormat;
use crate::dtype::DType;
use crate::error::{Error, Place, Result};
use crate::source::{Batch, Bytes, Kind, LineForm, TextEncoding, columns, word2vec_header};

/// The bytes that are looked at.
const LOOKED_AT: usize = 1 << 20;

/// The bytes that tell the kind.
const HEAD_BYTES: usize = 4096;

/// The byte order mark of UTF-8.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// Passes over a byte order mark, and refuses those of UTF-16.
pub(super) fn skip_mark(bytes: &mut Bytes) -> Result<()> {
    let head = bytes.peek(MARK.len())?;
    if head == MARK {
        bytes.take(MARK.len());
    } else if let [0xff, 0xfe, ..] | [0xfe, 0xff, ..] = head {
        let reason = "text in UTF-16 by its first bytes, expected UTF-8; convert it, such as with \
                      iconv -f UTF-16 -t UTF-8";
        return Err(Error::NoTable { path: bytes.path().to_path_buf(), reason: reason.to_owned() });
    }
    Ok(())
}

/// True where what follows word2vec's header is binary.
///
/// Text shows from its second line: a token and as many numbers as the header says. Where that
/// line is damaged, it is text that has no control characters.
pub(super) fn is_binary(bytes: &mut Bytes) -> Result<bool> {
    let head = bytes.peek(LOOKED_AT)?;
    let Some((_, dim, length)) = word2vec_header(head) else { return Ok(false) };
    let rest = &head[length..];
    let end = memchr::memchr(b'\n', rest);
    let line = &rest[..end.unwrap_or(rest.len())];
    let form = LineForm {
        dim: usize::try_from(dim).unwrap_or(usize::MAX),
        dtype: DType::F64,
        encoding: TextEncoding::Latin1,
        dim_is_sure: true,
    };
    // A word of the binary format has a space after it, and its first number may look like text:
    // not all of them.
    if end.is_some() && form.push(line, &mut Batch::default()).is_ok() {
        return Ok(false);
    }
    let is_control = |byte: &u8| *byte < b' ' && !matches!(byte, b'\t' | b'\r');
    Ok(line.iter().any(is_control))
}

/// The number of columns of lines without a header.
pub(super) fn columns_of(bytes: &mut Bytes) -> Result<usize> {
    let head = bytes.peek(LOOKED_AT)?;
    // A line that is not there to its end may lack columns.
    let end = if head.len() == LOOKED_AT { memchr::memrchr(b'\n', head) } else { None };
    match columns(&head[..end.unwrap_or(head.len())]) {
        Some(columns) => Ok(columns),
        None => Err(Error::Foreign {
            path: bytes.path().to_path_buf(),
            format: "glove",
            place: Place::Line(1),
            reason: "expected lines of a token and numbers, found none that ends in a number"
                .to_owned(),
        }),
    }
}

/// The format of bytes that come in their order.
pub(super) fn format(bytes: &mut Bytes, name: &str) -> Result<ImportFormat> {
    skip_mark(bytes)?;
    let name = [".gz", ".zst"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
    let kind = Kind::of(bytes.peek(HEAD_BYTES)?, name);
    let reason = match kind {
        Kind::Npy => return Ok(ImportFormat::Npy),
        Kind::Word2Vec if is_binary(bytes)? => return Ok(ImportFormat::Word2VecBinary),
        Kind::Word2Vec => return Ok(ImportFormat::Word2Vec),
        Kind::Lines => return Ok(ImportFormat::Glove),
        Kind::Unknown => {
            "expected a table: safetensors, GGUF, npy, npz, word2vec, GloVe, Parquet, \
                          Arrow or a model directory; its first bytes are those of none (name the \
                          format with --from, `ImportOptions::format`)"
                .to_owned()
        }
        Kind::Pickle | Kind::FastTextModel | Kind::Hdf5 | Kind::Sqlite => {
            kind.refusal().unwrap_or_default()
        }
        Kind::Gzip | Kind::Zstd => "packed twice, expected once: unpack it".to_owned(),
        _ => "a format that is not read from a stream or an archive; give the path of a file \
              that is not packed"
            .to_owned(),
    };
    Err(Error::NoTable { path: bytes.path().to_path_buf(), reason })
}
