//! Texts, from arguments and from the lines of standard input.

use std::io::{self, BufRead, BufReader, Read, StdinLock};

use anyhow::{Result, anyhow, bail};
use clap::Args;

use super::failure::Usage;

/// The bytes of text that are held at once, unless a single one is longer.
const BATCH: usize = 1 << 20;

/// The most texts that are held at once.
const MOST: usize = 1 << 14;

/// The longest line that is read as a text, in bytes.
const LONGEST: u64 = 64 << 20;

#[derive(Args)]
pub(crate) struct TextArgs {
    /// Texts; - takes each line of standard input as one
    #[arg(value_name = "TEXT", required = true)]
    texts: Vec<String>,
}

/// A text, and where it comes from.
pub(crate) struct Text {
    pub(crate) text: String,
    pub(crate) place: Place,
}

/// Where a text comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Argument(usize),
    Line(u64),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Argument(number) => write!(f, "text {number}"),
            Place::Line(number) => write!(f, "standard input, line {number}"),
        }
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl TextArgs {
    pub(crate) fn check(&self) -> Result<(), Usage> {
        if self.texts.iter().filter(|text| *text == "-").count() > 1 {
            return Err(Usage("standard input can be read only once".to_owned()));
        }
        Ok(())
    }

    /// The number of texts, where that is known before they are read.
    pub(crate) fn count(&self) -> Option<usize> {
        (!self.texts.iter().any(|text| text == "-")).then_some(self.texts.len())
    }

    /// True where there is one text and no more.
    pub(crate) fn is_single(&self) -> bool {
        self.count() == Some(1)
    }

    /// The texts in their order.
    pub(crate) fn read(&self) -> Texts<'_> {
        Texts { arguments: self.texts.iter().enumerate(), lines: None }
    }
}

/// Texts that are read as they are asked for.
pub(crate) struct Texts<'a> {
    arguments: std::iter::Enumerate<std::slice::Iter<'a, String>>,
    lines: Option<Lines<BufReader<StdinLock<'static>>>>,
}

impl Texts<'_> {
    /// The next texts: as many as there are, up to a limit, without waiting for those that
    /// standard input does not have yet. Empty at the end.
    pub(crate) fn next_batch(&mut self) -> Result<Vec<Text>> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while bytes < BATCH && batch.len() < MOST {
            if let Some(lines) = &mut self.lines {
                if !batch.is_empty() && lines.would_wait() {
                    break;
                }
                if let Some((number, text)) = lines.next()? {
                    bytes += text.len();
                    batch.push(Text { text, place: Place::Line(number) });
                } else {
                    self.lines = None;
                }
                continue;
            }
            match self.arguments.next() {
                None => break,
                Some((_, dash)) if dash == "-" => {
                    let reader = BufReader::with_capacity(BATCH, io::stdin().lock());
                    self.lines = Some(Lines { reader, number: 0 });
                }
                Some((index, text)) => {
                    bytes += text.len();
                    batch.push(Text { text: text.clone(), place: Place::Argument(index + 1) });
                }
            }
        }
        Ok(batch)
    }
}

/// Lines of text, without their ends.
struct Lines<R> {
    reader: R,
    number: u64,
}

impl<R: Read> Lines<BufReader<R>> {
    /// True where nothing was read ahead, so that the next line has to be read.
    fn would_wait(&self) -> bool {
        self.reader.buffer().is_empty()
    }
}

impl<R: BufRead> Lines<R> {
    fn next(&mut self) -> Result<Option<(u64, String)>> {
        let number = self.number + 1;
        let mut line = Vec::new();
        let read = (&mut self.reader).take(LONGEST + 1).read_until(b'\n', &mut line);
        read.map_err(|error| anyhow!("cannot read standard input: {error}"))?;
        if line.is_empty() {
            return Ok(None);
        }
        if line.len() as u64 > LONGEST {
            bail!("{}: expected at most {LONGEST} bytes, found more", Place::Line(number));
        }
        if line.ends_with(b"\n") {
            line.pop();
            if line.ends_with(b"\r") {
                line.pop();
            }
        }
        self.number = number;
        let text = String::from_utf8(line).map_err(|error| {
            anyhow!("{}: expected UTF-8 text, and {}", Place::Line(number), error.utf8_error())
        })?;
        Ok(Some((number, text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_without_their_ends() {
        let mut lines = Lines { reader: &b"a\r\n\nb\rc\n d"[..], number: 0 };
        let mut found = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            found.push(line);
        }
        let expected = ["a", "", "b\rc", " d"].map(str::to_owned);
        assert_eq!(found, (1..).zip(expected).collect::<Vec<_>>());
    }

    #[test]
    fn a_line_that_is_no_text_is_named() {
        let mut lines = Lines { reader: &b"a\n\xff\n"[..], number: 0 };
        lines.next().unwrap();
        let error = lines.next().unwrap_err().to_string();
        assert!(error.contains("line 2: expected UTF-8"), "{error}");
        let long = vec![b'a'; usize::try_from(LONGEST).unwrap() + 2];
        let error = Lines { reader: &long[..], number: 0 }.next().unwrap_err().to_string();
        assert!(error.contains("line 1: expected at most"), "{error}");
    }
}
