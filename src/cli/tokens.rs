//! Rows by their tokens, and what to say where there is none.

use std::path::Path;

use anyhow::{Result, bail};
use embmap::{Error, Table};

use super::hint;

/// An error where a table has no tokens.
pub(crate) fn check(table: &Table, path: &Path) -> Result<()> {
    if table.token_count()? > 0 {
        return Ok(());
    }
    Err(Error::Missing {
        path: path.to_path_buf(),
        what: "tokens",
        way_out: "give ids, or open the model directory that holds its vocabulary (and convert it \
                  again)",
    }
    .into())
}

/// The row of a token.
pub(crate) fn id_of(token: &str, table: &Table, path: &Path) -> Result<u64> {
    check(table, path)?;
    match table.id_of(token)? {
        Some(id) if id < table.vocab() => Ok(id),
        Some(id) => {
            bail!("the token {token:?} has id {id}, and the table has only {} rows", table.vocab())
        }
        None => bail!(hint::unknown_token(token, table)?),
    }
}
