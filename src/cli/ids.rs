//! Ids, from arguments, from text and from .npy files.

use std::io::Read;
use std::path::Path;

use anyhow::{Result, anyhow, bail};
use embmap::{Error, Table};

use super::escape::{printable, printable_path};
use super::npy;
use super::output::is_dash;

/// An id on the command line, or `-` for those on standard input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum IdArg {
    Stdin,
    Id(i128),
    /// A number of more digits than any id has.
    Huge(String),
}

impl std::str::FromStr for IdArg {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        if text == "-" {
            Ok(IdArg::Stdin)
        } else if let Ok(id) = text.parse() {
            Ok(IdArg::Id(id))
        } else if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            Ok(IdArg::Huge(text.to_owned()))
        } else {
            Err("expected an id or - (find a token with --token)")
        }
    }
}

/// The ids of a batch, all of them rows of the table, so that nothing is written where one
/// is wrong.
pub(crate) struct Batch {
    ids: Vec<u64>,
    vocab: u64,
}

impl Batch {
    pub(crate) fn new(table: &Table) -> Self {
        Batch { ids: Vec::new(), vocab: table.vocab() }
    }

    pub(crate) fn into_ids(self) -> Vec<u64> {
        self.ids
    }

    pub(crate) fn push(&mut self, id: i128) -> embmap::Result<()> {
        match u64::try_from(id) {
            Ok(row) if row < self.vocab => {
                self.ids.push(row);
                Ok(())
            }
            _ => {
                let position = Some(self.ids.len());
                Err(Error::RowOutOfRange { id, position, vocab: self.vocab })
            }
        }
    }

    /// Adds the ids that arguments stand for.
    pub(crate) fn push_arguments(&mut self, arguments: &[IdArg]) -> Result<()> {
        for argument in arguments {
            match argument {
                IdArg::Stdin => self.push_file(Path::new("-"))?,
                IdArg::Id(id) => self.push(*id)?,
                IdArg::Huge(text) => {
                    bail!("position {}: {}", self.ids.len(), not_an_id(text.as_bytes()))
                }
            }
        }
        Ok(())
    }

    /// Adds the ids of a file: text, or a .npy array of integers. `-` is standard input.
    pub(crate) fn push_file(&mut self, path: &Path) -> Result<()> {
        let (name, bytes) = read_bytes(path)?;
        if npy::is_npy(&bytes) {
            let ids = npy::read_ids(&bytes, Path::new(&name))?;
            self.ids.reserve(ids.len());
            for id in ids {
                self.push(id)?;
            }
        } else {
            for id in text_ids(&bytes) {
                self.push(id.map_err(|reason| anyhow!("{name}: {reason}"))?)?;
            }
        }
        Ok(())
    }
}

/// The bytes of a file or of standard input, and what to call it.
pub(crate) fn read_bytes(path: &Path) -> Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let (name, read) = if is_dash(path) {
        ("standard input".to_owned(), std::io::stdin().lock().read_to_end(&mut bytes).map(|_| ()))
    } else {
        (printable_path(path), std::fs::read(path).map(|read| bytes = read))
    };
    match read {
        Ok(()) => Ok((name, bytes)),
        Err(error) => bail!("cannot read {name}: {error}"),
    }
}

/// Ids separated by white space.
fn text_ids(bytes: &[u8]) -> impl Iterator<Item = Result<i128, String>> {
    (1u64..).zip(bytes.split(|byte| *byte == b'\n')).flat_map(|(line, bytes)| {
        let words = bytes.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        words.map(move |word| {
            let id = std::str::from_utf8(word).ok().and_then(|word| word.parse().ok());
            id.ok_or_else(|| format!("line {line}: {}", not_an_id(word)))
        })
    })
}

/// Why a word is no id.
pub(crate) fn not_an_id(word: &[u8]) -> String {
    const MOST: usize = 40;
    let shown = printable(&String::from_utf8_lossy(&word[..word.len().min(MOST)]));
    let rest = if word.len() > MOST { "..." } else { "" };
    format!("expected an id, found \"{shown}\"{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_text(text: &[u8]) -> Result<Vec<i128>, String> {
        text_ids(text).collect()
    }

    #[test]
    fn text_ids_are_separated_by_any_white_space() {
        assert_eq!(parse_text(b"3\n1 -2\t0\r\n\n  7"), Ok(vec![3, 1, -2, 0, 7]));
        assert_eq!(parse_text(b""), Ok(vec![]));
        assert_eq!(parse_text(b"18446744073709551616"), Ok(vec![1 << 64]));
    }

    #[test]
    fn what_is_no_id_is_named_with_its_line() {
        let refused = |text: &[u8]| parse_text(text).unwrap_err();
        assert_eq!(refused(b"1\n\n1.5\n"), "line 3: expected an id, found \"1.5\"");
        assert_eq!(refused(b"\x1b[1m\xff"), "line 1: expected an id, found \"\\u{1b}[1m\u{fffd}\"");
        let digits = "9".repeat(50);
        let shown = "9".repeat(40);
        assert_eq!(
            refused(format!("1\n{digits}").as_bytes()),
            format!("line 2: expected an id, found \"{shown}\"...")
        );
    }

    #[test]
    fn a_batch_takes_rows_alone_and_names_the_position_of_what_is_none() {
        let mut batch = Batch { ids: Vec::new(), vocab: 5 };
        batch.push(4).unwrap();
        for id in [5, -1, i128::MAX, i128::MIN] {
            let error = batch.push(id).unwrap_err();
            let Error::RowOutOfRange { id: found, position: Some(1), vocab: 5 } = error else {
                panic!("{error}");
            };
            assert_eq!(found, id);
        }
        assert_eq!(batch.into_ids(), [4]);
    }

    #[test]
    fn an_argument_is_an_id_or_a_dash() {
        assert_eq!("-".parse(), Ok(IdArg::Stdin));
        assert_eq!("-1".parse(), Ok(IdArg::Id(-1)));
        assert_eq!("1811".parse(), Ok(IdArg::Id(1811)));
        let digits = format!("-{}", "9".repeat(50));
        assert_eq!(digits.parse(), Ok(IdArg::Huge(digits)));
        assert!("--".parse::<IdArg>().is_err());
        assert!("cat".parse::<IdArg>().is_err());
    }
}
