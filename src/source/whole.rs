//! Small files that are read whole.

use std::borrow::Cow;
use std::path::Path;

use crate::error::{Error, Place, Result};
use crate::storage::StoredFile;

/// The bytes of a `tokenizer.json`.
#[cfg(any(feature = "import", feature = "text"))]
pub(crate) fn read_tokenizer(path: &Path) -> Result<Vec<u8>> {
    read_whole(path, "tokenizer.json", 1 << 30)
}

/// A whole small file, refused before anything is allocated where it is too long.
pub(super) fn read_whole(path: &Path, format: &'static str, most: u64) -> Result<Vec<u8>> {
    let file = StoredFile::open(path)?;
    if file.bytes() > most {
        let reason = format!("the file has {} bytes, expected at most {most}", file.bytes());
        let place = Place::Offset(most);
        return Err(Error::Foreign { path: path.to_path_buf(), format, place, reason });
    }
    file.bytes_at(0, file.bytes()).map(Cow::into_owned)
}
