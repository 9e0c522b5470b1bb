//! Id traces: texts of ids, read as they are used, and written as they were.
//!
//! Ids are separated by white space, and those of a line were used together: a batch.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::num::NonZero;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};

use super::escape::printable_path;
use super::ids::not_an_id;
use super::output::Output;

/// The most bytes of a word that are kept: an id has at most 20.
const LONGEST_WORD: usize = 64;

/// A file of ids, separated by white space. It is read in a small window, whatever its size,
/// and from the start again when it ends.
pub(crate) struct Trace {
    path: PathBuf,
    reader: BufReader<File>,
    line: u64,
    word: Vec<u8>,
    vocab: u64,
    count: u64,
}

impl Trace {
    /// Opens a trace and reads it through once, so that a wrong id shows before any work.
    pub(crate) fn open(path: &Path, vocab: u64) -> Result<Self> {
        let name = printable_path(path);
        let failed = |error| anyhow!("cannot read {name}: {error}");
        // Looked at first: opening a FIFO would wait for who writes to it.
        if !std::fs::metadata(path).map_err(failed)?.is_file() {
            bail!("cannot read {name} as a trace: expected a regular file, for it is read twice");
        }
        let reader = BufReader::new(File::open(path).map_err(failed)?);
        let path = path.to_path_buf();
        let mut trace = Trace { path, reader, line: 1, word: Vec::new(), vocab, count: 0 };
        while trace.step()?.is_some() {
            trace.count += 1;
        }
        if trace.count == 0 {
            bail!("{name}: expected ids, separated by white space, and there are none");
        }
        trace.rewind()?;
        Ok(trace)
    }

    /// The next id; behind the last one the first.
    pub(crate) fn next(&mut self) -> Result<u64> {
        if let Some(id) = self.step()? {
            return Ok(id);
        }
        self.rewind()?;
        self.step()?.ok_or_else(|| anyhow!("{}: its ids are gone", printable_path(&self.path)))
    }

    /// The number of ids.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Hands each batch to `take`: the ids of a line, or so many in sequence.
    pub(crate) fn each_batch(
        &mut self,
        ids: Option<NonZero<usize>>,
        mut take: impl FnMut(&[u64]) -> Result<()>,
    ) -> Result<()> {
        self.rewind()?;
        let mut batch = Vec::new();
        // The reader stands behind the word, at most at the end of its line.
        let mut line = self.line;
        while let Some(id) = self.step()? {
            let ended = match ids {
                Some(ids) => batch.len() == ids.get(),
                None => self.line != line,
            };
            if ended && !batch.is_empty() {
                take(&batch)?;
                batch.clear();
            }
            line = self.line;
            batch.push(id);
        }
        if batch.is_empty() { Ok(()) } else { take(&batch) }
    }

    /// Goes on to the middle.
    pub(crate) fn skip_half(&mut self) -> Result<()> {
        for _ in 0..self.count / 2 {
            self.next()?;
        }
        Ok(())
    }

    fn rewind(&mut self) -> Result<()> {
        let rewound = std::io::Seek::rewind(&mut self.reader);
        rewound.map_err(|error| anyhow!("cannot read {}: {error}", printable_path(&self.path)))?;
        self.line = 1;
        Ok(())
    }

    /// The next id, or `None` at the end.
    fn step(&mut self) -> Result<Option<u64>> {
        self.word.clear();
        loop {
            let read = self.reader.fill_buf();
            let bytes = read
                .map_err(|error| anyhow!("cannot read {}: {error}", printable_path(&self.path)))?;
            let Some(byte) = bytes.first().copied() else { break };
            if byte.is_ascii_whitespace() {
                if !self.word.is_empty() {
                    break;
                }
                self.line += u64::from(byte == b'\n');
            } else {
                self.word.push(byte);
                if self.word.len() == LONGEST_WORD {
                    break;
                }
            }
            self.reader.consume(1);
        }
        if self.word.is_empty() {
            return Ok(None);
        }
        self.id().map(Some).map_err(|reason| {
            anyhow!("{}: line {}: {reason}", printable_path(&self.path), self.line)
        })
    }

    /// The id that the word is.
    fn id(&self) -> Result<u64, String> {
        let word = std::str::from_utf8(&self.word).ok();
        let word = word.filter(|word| word.len() < LONGEST_WORD);
        let Some(id) = word.and_then(|word| word.parse::<i128>().ok()) else {
            return Err(not_an_id(&self.word));
        };
        let row = u64::try_from(id).ok().filter(|row| *row < self.vocab);
        row.ok_or_else(|| {
            let last = self.vocab.saturating_sub(1);
            format!(
                "id {id} is out of range: the table has {} rows (valid ids are 0 to {last})",
                self.vocab
            )
        })
    }
}

/// Where the ids that were gathered are written, a batch a line.
pub(crate) struct Recorder(Option<Output>);

impl Recorder {
    pub(crate) fn create(path: Option<&Path>, replace: bool) -> Result<Self> {
        path.map(|path| Output::create(path, replace)).transpose().map(Recorder)
    }

    /// Writes the ids of batches of `batch` each.
    pub(crate) fn record(&mut self, ids: &[u64], batch: usize) -> Result<()> {
        let Some(out) = &mut self.0 else { return Ok(()) };
        for batch in ids.chunks(batch.max(1)) {
            let mut space = "";
            for id in batch {
                write!(out, "{space}{id}")?;
                space = " ";
            }
            writeln!(out)?;
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<()> {
        self.0.map_or(Ok(()), Output::finish)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(text: &[u8]) -> Result<Trace> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("trace");
        std::fs::write(&path, text).unwrap();
        // The name alone, which is the same in each run.
        Trace::open(&path, 100)
            .map_err(|error| anyhow!("{}", error.to_string().rsplit_once("trace: ").unwrap().1))
    }

    #[test]
    fn a_trace_is_read_round_and_round() {
        let mut trace = trace(b"3 1\t4\r\n\n1\n99").unwrap();
        let found: Vec<u64> = (0..12).map(|_| trace.next().unwrap()).collect();
        assert_eq!(found, [3, 1, 4, 1, 99, 3, 1, 4, 1, 99, 3, 1]);
        trace.rewind().unwrap();
        trace.skip_half().unwrap();
        assert_eq!(trace.next().unwrap(), 4);
    }

    #[test]
    fn a_batch_is_a_line_or_so_many_ids() {
        let batches = |text: &[u8], ids| {
            let mut found = Vec::new();
            let each = |batch: &[u64]| {
                found.push(batch.to_vec());
                Ok(())
            };
            trace(text).unwrap().each_batch(NonZero::new(ids), each).unwrap();
            found
        };
        let text = b"\n3 1\t4\r\n\n 1\n99 2";
        assert_eq!(batches(text, 0), [vec![3, 1, 4], vec![1], vec![99, 2]]);
        assert_eq!(batches(text, 4), [vec![3, 1, 4, 1], vec![99, 2]]);
        assert_eq!(batches(text, 9), [vec![3, 1, 4, 1, 99, 2]]);
        assert_eq!(batches(b"5", 0), [[5]]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let refused = |text: &[u8]| trace(text).err().unwrap().to_string();
        assert_eq!(refused(b"1\n\n cat 2"), "line 3: expected an id, found \"cat\"");
        assert_eq!(
            refused(b"1\n100\n"),
            "line 2: id 100 is out of range: the table has 100 rows (valid ids are 0 to 99)"
        );
        assert!(refused(b"-1").starts_with("line 1: id -1 is out of range"));
        assert!(refused(b"1.0").starts_with("line 1: expected an id"));
        assert!(
            refused(b"\xff\x1b[1m")
                .starts_with("line 1: expected an id, found \"\u{fffd}\\u{1b}[1m")
        );
        assert!(refused(&[b'0'; 80]).starts_with("line 1: expected an id, found \"0000"));
        let endless = refused(&vec![b'9'; 1 << 20]);
        assert!(endless.len() < 100 && endless.ends_with("..."), "{endless}");
        assert!(refused(b" \n ").starts_with("expected ids"));
    }

    #[test]
    fn what_is_no_file_does_not_hang() {
        for path in ["/dev/zero", "fixtures", "no such file"] {
            assert!(Trace::open(Path::new(path), 100).is_err(), "{path}");
        }
    }
}
