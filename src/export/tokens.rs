//! The tokens of the rows that are exported, and what becomes of those that a format cannot
//! hold.

use std::borrow::Cow;
use std::ops::Range;

use super::format::ExportFormat;
use super::options::UnfitTokens;
use crate::error::{Error, Result};
use crate::table::Table;
use crate::tokens::TokenWalk;

/// The tokens of a range of rows, one for each row.
///
/// It is a lending iterator: a token is valid until the next call.
pub(super) struct RowTokens<'a> {
    walk: Option<TokenWalk<'a>>,
    next: u64,
    end: u64,
}

impl<'a> RowTokens<'a> {
    pub(super) fn of(table: &'a Table, rows: &Range<u64>) -> Result<Self> {
        let walk = table.token_sections()?.map(|tokens| tokens.walk(rows.start, rows.end));
        Ok(RowTokens { walk, next: rows.start, end: rows.end })
    }

    /// The next row and its token, `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Option<&str>)>> {
        if self.next >= self.end {
            return Ok(None);
        }
        let id = self.next;
        self.next += 1;
        let found = match &mut self.walk {
            Some(walk) => walk.next()?,
            None => None,
        };
        // Tokens may end before the rows do.
        Ok(Some((id, found.and_then(|(_, token)| token))))
    }
}

/// Why a format cannot hold a token, or `None` where it can. `first` is that of the first row.
fn flaw(format: ExportFormat, token: Option<&str>, first: bool) -> Option<&'static str> {
    let Some(token) = token else { return Some("the row has no token") };
    if token.is_empty() {
        return Some("an empty token leaves nothing to split the line at");
    }
    if format == ExportFormat::Glove {
        if token.contains(['\n', '\r']) {
            return Some("a line break in a token ends its line");
        }
        // Where numbers follow a header, there is something else before the token.
        return (first && token.starts_with('\u{feff}'))
            .then_some("readers drop a byte order mark at the start of a file");
    }
    token
        .contains(|c: char| c.is_ascii_whitespace() || c == '\u{b}')
        .then_some("a token ends at the first white space")
}

/// What to do about a token that does not fit.
const WAY_OUT: &str = "leave such rows out with --unfit-tokens skip or change their tokens with \
                       replace (`ExportOptions::unfit_tokens`), or export to a format that holds \
                       any token";

/// Makes each token one that the format holds, and counts what that took.
#[derive(Debug, Clone)]
pub(super) struct Fitter {
    format: ExportFormat,
    what: UnfitTokens,
    /// The rows that have passed, those that are left out not counted.
    pub(super) kept: u64,
    pub(super) skipped: u64,
    pub(super) replaced: u64,
}

impl Fitter {
    pub(super) fn new(format: ExportFormat, what: UnfitTokens) -> Self {
        Fitter { format, what, kept: 0, skipped: 0, replaced: 0 }
    }

    /// What is written for the token of a row; `None` where the row is left out.
    pub(super) fn fit<'t>(
        &mut self,
        id: u64,
        token: Option<&'t str>,
    ) -> Result<Option<Cow<'t, str>>> {
        let Some(reason) = flaw(self.format, token, self.kept == 0) else {
            self.kept += 1;
            return Ok(token.map(Cow::Borrowed));
        };
        match self.what {
            UnfitTokens::Error => Err(Error::UnfitToken {
                id,
                token: token.map(str::to_owned),
                format: self.format.name(),
                reason,
                way_out: WAY_OUT,
            }),
            UnfitTokens::Skip => {
                self.skipped += 1;
                Ok(None)
            }
            UnfitTokens::Replace => {
                self.kept += 1;
                self.replaced += 1;
                Ok(Some(Cow::Owned(replacement(id, token.unwrap_or_default()))))
            }
        }
    }
}

fn replacement(id: u64, token: &str) -> String {
    if token.is_empty() {
        return format!("<{id}>");
    }
    let plain = |c: char| if c.is_whitespace() || c == '\u{feff}' { '_' } else { c };
    token.chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(format: ExportFormat, token: Option<&str>) -> bool {
        flaw(format, token, false).is_none()
    }

    #[test]
    fn each_format_says_what_it_cannot_hold() {
        use ExportFormat::{Glove, Word2Vec, Word2VecBinary};
        for (token, word2vec, glove) in [
            (Some("cat"), true, true),
            (Some("Ġkočka\u{a0}猫"), true, true),
            (Some("new york"), false, true),
            (Some(" "), false, true),
            (Some("a\tb"), false, true),
            (Some("a\u{b}b"), false, true),
            (Some("a\nb"), false, false),
            (Some("a\r"), false, false),
            (Some(""), false, false),
            (None, false, false),
        ] {
            assert_eq!(fits(Word2Vec, token), word2vec, "{token:?}");
            assert_eq!(fits(Word2VecBinary, token), word2vec, "{token:?}");
            assert_eq!(fits(Glove, token), glove, "{token:?}");
        }
        assert!(flaw(Glove, Some("\u{feff}a"), true).is_some());
        assert!(flaw(Glove, Some("\u{feff}a"), false).is_none());
    }

    #[test]
    fn what_takes_the_place_of_a_token_fits() {
        for token in [None, Some(""), Some("new york\u{b}\r\n\u{2028}x"), Some("\u{feff} \n")] {
            for format in [ExportFormat::Word2Vec, ExportFormat::Glove] {
                let mut fitter = Fitter::new(format, UnfitTokens::Replace);
                let found = fitter.fit(7, token).unwrap().unwrap().into_owned();
                assert_eq!(flaw(format, Some(&found), true), None, "{token:?}: {found:?}");
                assert_eq!((fitter.kept, fitter.replaced), (1, 1));
            }
        }
        assert_eq!(replacement(7, ""), "<7>");
        assert_eq!(replacement(7, "new york"), "new_york");
    }
}
