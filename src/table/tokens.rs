//! The tokens of a table's rows.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::Table;
use crate::error::Result;
use crate::storage::StoredFile;
use crate::tokens::{TokenParts, Tokens};

/// Where tokens come from. Nothing is read before the first token is asked for.
pub(crate) enum TokenSource {
    Nothing,
    /// The sections of the table's own file, its first one.
    Sections(TokenParts),
    /// A vocabulary beside a checkpoint, encoded as sections by `read` on first use.
    Beside {
        path: PathBuf,
        read: fn(&Path) -> Result<(StoredFile, TokenParts)>,
        sections: OnceLock<(StoredFile, TokenParts)>,
    },
}

impl Table {
    /// The number of tokens, absent ones included; 0 for a table without tokens.
    ///
    /// It need not be `vocab`: real tables have rows without tokens, and vocabularies have
    /// tokens without rows.
    ///
    /// # Errors
    ///
    /// A vocabulary beside a checkpoint that cannot be read.
    pub fn token_count(&self) -> Result<u64> {
        Ok(self.token_sections()?.map_or(0, |tokens| tokens.parts.count()))
    }

    /// The token of a row, in the vocabulary's own spelling; `None` where it has none.
    ///
    /// # Errors
    ///
    /// [`Error::RowOutOfRange`] where `id` is neither a row nor a token, [`Error::Format`]
    /// where the token sections are damaged.
    ///
    /// [`Error::RowOutOfRange`]: crate::Error::RowOutOfRange
    /// [`Error::Format`]: crate::Error::Format
    ///
    /// ```
    /// # fn main() -> Result<(), embmap::Error> {
    /// # let table = embmap::Table::load("fixtures/minilm-2k")?;
    /// assert_eq!(table.token(0)?.as_deref(), Some("[PAD]"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn token(&self, id: u64) -> Result<Option<Cow<'_, str>>> {
        let tokens = self.token_sections()?;
        let count = tokens.map_or(0, |tokens| tokens.parts.count());
        match tokens {
            Some(tokens) if id < count => tokens.token(id),
            _ if id < self.vocab() => Ok(None),
            _ => Err(self.out_of_range(id, None)),
        }
    }

    /// The lowest id of a token, or `None` where no row has it.
    ///
    /// A vocabulary may hold tokens without rows, so the id may not be below `vocab`.
    ///
    /// # Errors
    ///
    /// [`Error::Format`] where the token sections are damaged, and whatever reading a
    /// vocabulary beside a checkpoint can give.
    ///
    /// [`Error::Format`]: crate::Error::Format
    ///
    /// ```
    /// # fn main() -> Result<(), embmap::Error> {
    /// # let table = embmap::Table::load("fixtures/minilm-2k")?;
    /// assert_eq!(table.id_of("cat")?, Some(1811));
    /// assert_eq!(table.id_of("no such token")?, None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn id_of(&self, token: &str) -> Result<Option<u64>> {
        self.token_sections()?.map_or(Ok(None), |tokens| tokens.id_of(token))
    }

    pub(crate) fn token_sections(&self) -> Result<Option<Tokens<'_>>> {
        Ok(match &self.tokens {
            TokenSource::Nothing => None,
            TokenSource::Sections(parts) => self.files.first().map(|file| Tokens { file, parts }),
            TokenSource::Beside { path, read, sections } => {
                let (file, parts) = if let Some(sections) = sections.get() {
                    sections
                } else {
                    let fresh = read(path)?;
                    sections.get_or_init(|| fresh)
                };
                Some(Tokens { file, parts })
            }
        })
    }
}
