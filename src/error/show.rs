//! How values from files and callers look in messages.

use std::fmt;
use std::path::Path;

/// Shows a path with control characters escaped, so that a name from a hostile archive
/// cannot write to the terminal.
pub(super) struct Shown<'a>(pub(super) &'a Path);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.to_string_lossy().chars() {
            if c.is_control() {
                write!(f, "{}", c.escape_default())?;
            } else {
                write!(f, "{c}")?;
            }
        }
        Ok(())
    }
}

/// Shows a token, escaped and cut.
pub(super) struct Token<'a>(pub(super) Option<&'a str>);

impl fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST: usize = 60;
        let Some(token) = self.0 else { return f.write_str("an absent token") };
        match token.char_indices().nth(MOST) {
            Some((end, _)) => write!(f, "the token {:?}...", &token[..end]),
            None => write!(f, "the token {token:?}"),
        }
    }
}

/// Shows the position of an id in its batch.
pub(super) struct At(pub(super) Option<usize>);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |position| write!(f, " at position {position}"))
    }
}

/// Shows how many rows a table has, and which ids are theirs.
pub(super) struct RowCount(pub(super) u64);

impl fmt::Display for RowCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.checked_sub(1) {
            None => f.write_str("no rows"),
            Some(last) => write!(f, "{} rows (valid ids are 0 to {last})", self.0),
        }
    }
}

/// Shows what a tensor could have been picked from.
pub(super) struct Candidates<'a>(pub(super) &'a [String]);

impl fmt::Display for Candidates<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST: usize = 20;
        if self.0.is_empty() {
            return write!(f, "There is no two-dimensional tensor here");
        }
        write!(f, "There are: {}", self.0[..self.0.len().min(MOST)].join(", "))?;
        if self.0.len() > MOST {
            write!(f, ", and {} more", self.0.len() - MOST)?;
        }
        Ok(())
    }
}

/// Shows bytes as one hexadecimal number.
pub(super) struct Hex<'a>(pub(super) &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use crate::Error;

    #[test]
    fn a_table_without_rows_has_no_valid_ids() {
        let message = |vocab| Error::RowOutOfRange { id: 7, position: Some(1), vocab }.to_string();
        assert_eq!(message(0), "id 7 at position 1 is out of range: the table has no rows");
        assert!(message(5).ends_with("the table has 5 rows (valid ids are 0 to 4)"));
    }
}
