//! Rows by their tokens, and what to say where there is none.

use std::path::Path;

use anyhow::{Result, anyhow, bail};
use embmap::{Error, Table};

use super::hint;
use super::ids::read_bytes;

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

/// The tokens of a file, one a line; `-` is standard input. Lines without anything are none.
pub(crate) fn read_list(path: &Path) -> Result<Vec<String>> {
    let (name, bytes) = read_bytes(path)?;
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let mut tokens = Vec::new();
    for (line, bytes) in (1u64..).zip(bytes.split(|byte| *byte == b'\n')) {
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        let token = std::str::from_utf8(bytes)
            .map_err(|error| anyhow!("{name}: line {line}: expected a token in UTF-8: {error}"))?;
        if !token.is_empty() {
            tokens.push(token.to_owned());
        }
    }
    if tokens.is_empty() {
        bail!("{name}: expected tokens, one a line, and there are none");
    }
    Ok(tokens)
}
