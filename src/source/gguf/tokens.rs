//! The tokens of a GGUF file, which lie in its head.

use std::path::Path;

use super::super::tokenizer_json::Listed;
use super::super::vocabulary::Vocabulary;
use super::cursor::Cursor;
use super::header;
use crate::error::Result;
use crate::storage::StoredFile;

/// The longest token.
const MOST_BYTES: u64 = 1 << 20;

/// Tokens as they are read, one after the other.
#[derive(Default)]
pub(super) struct TokenText {
    text: Vec<u8>,
    list: Vec<Listed>,
}

impl TokenText {
    /// Reads one more token.
    pub(super) fn push(&mut self, cursor: &mut Cursor<'_>) -> Result<()> {
        let (number, at) = (self.list.len(), self.text.len());
        let bytes = cursor.u64()?;
        if bytes > MOST_BYTES {
            return cursor.refuse(format!(
                "token {number} has {bytes} bytes, expected at most {MOST_BYTES}"
            ));
        }
        cursor.append(bytes, &mut self.text)?;
        if let Err(error) = std::str::from_utf8(&self.text[at..]) {
            return cursor.refuse(format!("token {number} is not UTF-8: {error}"));
        }
        let fits = (u32::try_from(number), u32::try_from(at), u32::try_from(bytes));
        let (Ok(id), Ok(at), Ok(length)) = fits else {
            return cursor.refuse("the tokens are too long".to_owned());
        };
        self.list.push(Listed { id, at, length });
        Ok(())
    }
}

/// The tokens of a file, by id.
pub(in super::super) fn read_tokens(path: &Path) -> Result<Vocabulary> {
    let file = StoredFile::open(path)?;
    let mut tokens = TokenText::default();
    header::read_with(&file, Some(&mut tokens))?;
    // Every token was checked, so that all of them together are UTF-8 too.
    let text = String::from_utf8(tokens.text).unwrap_or_default();
    Ok(Vocabulary::of(text, tokens.list))
}
