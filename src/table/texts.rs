//! The texts that come with a table: its metadata, its tokenizer.

use std::borrow::Cow;
use std::path::PathBuf;

use super::Table;
use crate::error::{Error, FormatError, Result};
use crate::storage::{StoredFile, Stretch};

/// The longest text that is read whole, in bytes.
const LONGEST_TEXT: u64 = 1 << 30;

/// Where a text comes from.
pub(crate) enum TextSource {
    Nothing,
    /// A section of the table's own file, with its place in the directory.
    Section(u32, Stretch),
    /// A file beside a checkpoint.
    Beside(PathBuf),
}

impl Table {
    /// The metadata of an `.emb` file: a JSON text, or `None` where there is none.
    ///
    /// # Errors
    ///
    /// [`Error::Format`] where it is not UTF-8, [`Error::Io`] where it cannot be read.
    pub fn metadata(&self) -> Result<Option<Cow<'_, str>>> {
        self.text(&self.metadata)
    }

    /// The tokenizer of the model, a `tokenizer.json` text, or `None` where there is none.
    ///
    /// # Errors
    ///
    /// [`Error::Format`] where it is not UTF-8, [`Error::Io`] where it cannot be read.
    pub fn tokenizer_json(&self) -> Result<Option<Cow<'_, str>>> {
        self.text(&self.tokenizer)
    }

    fn text(&self, source: &TextSource) -> Result<Option<Cow<'_, str>>> {
        match source {
            TextSource::Nothing => Ok(None),
            TextSource::Section(index, stretch) => {
                let file = &self.files[0];
                let bytes = file.bytes_at(stretch.offset, stretch.bytes)?;
                let text = match bytes {
                    Cow::Borrowed(bytes) => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
                    Cow::Owned(bytes) => String::from_utf8(bytes).ok().map(Cow::Owned),
                };
                text.map(Some).ok_or_else(|| Error::Format {
                    path: file.path().to_path_buf(),
                    source: FormatError::SectionUtf8 { index: *index },
                })
            }
            TextSource::Beside(path) => {
                let file = StoredFile::open(path)?;
                if file.bytes() > LONGEST_TEXT {
                    return Err(Error::Tokenizer {
                        path: path.clone(),
                        reason: format!(
                            "the file has {} bytes, expected at most {LONGEST_TEXT}",
                            file.bytes()
                        ),
                    });
                }
                let bytes = file.bytes_at(0, file.bytes())?.into_owned();
                String::from_utf8(bytes).map(|text| Some(Cow::Owned(text))).map_err(|error| {
                    Error::Tokenizer {
                        path: path.clone(),
                        reason: format!("{error}, expected UTF-8"),
                    }
                })
            }
        }
    }
}
