//! Text in parallel: cut at line ends, parsed by all threads, handed on in order.
//!
//! The calling thread reads; pieces of whole lines go to the pool, a few at a time, and come
//! back in the order of the file while the next ones are parsed. Memory is some pieces a thread,
//! whatever the length of the file.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};

use rayon::ThreadPool;

use crate::error::{Error, Place, Result};
use crate::gather::pool_of;
use crate::source::{Batch, Bytes, LineForm, RowStream};

/// The bytes of a piece, at least a line.
const PIECE: usize = 1 << 20;

/// What is said of a blank line that is not at the end.
const BLANK: &str = "a blank line, expected a token and its numbers";

/// Some text, and where its rows go. Used again and again, for their memory.
#[derive(Default)]
struct Work {
    text: Vec<u8>,
    batch: Batch,
}

/// What one piece of text came to.
struct Parsed {
    work: Work,
    /// The lines before the fault, or all of them.
    lines: u64,
    /// The first blank line, counted from the start of the piece, where none but blank ones
    /// follow it.
    blank: Option<u64>,
    /// What is wrong with a line.
    fault: Option<Fault>,
}

/// What is wrong, and with which line of the piece, counted from 0.
struct Fault {
    line: u64,
    reason: String,
}

/// A piece on its way.
enum Piece {
    Parsing(Receiver<Parsed>),
    Done(Box<Parsed>),
    /// What came of reading it; after it nothing comes.
    Failed(Error),
}

/// The rows of lines of text.
pub(super) struct LineRows {
    bytes: Bytes,
    path: PathBuf,
    format: &'static str,
    form: LineForm,
    pool: Option<&'static ThreadPool>,
    /// The pieces that are on their way at once.
    most: usize,
    pieces: VecDeque<Piece>,
    /// The start of a line whose end was not read yet.
    rest: Vec<u8>,
    ended: bool,
    /// The number of the next line in the file, counted from 1.
    line: u64,
    /// The number of the line of row 0.
    first_line: u64,
    /// A blank line, after which there may be none that is not.
    blank: Option<u64>,
    /// The rows that the header declares, and those that came.
    declared: Option<u64>,
    rows: u64,
    spare: Vec<Work>,
}

impl LineRows {
    /// The rows of what is left of some bytes, whose next line has the number `line`.
    pub(super) fn new(
        bytes: Bytes,
        format: &'static str,
        form: LineForm,
        line: u64,
        declared: Option<u64>,
        threads: usize,
    ) -> Result<Self> {
        let pool = if threads > 1 { Some(pool_of(threads)?) } else { None };
        Ok(LineRows {
            path: bytes.path().to_path_buf(),
            bytes,
            format,
            form,
            pool,
            // One more than can be parsed at once, so that no thread waits for the disk.
            most: threads + 2,
            pieces: VecDeque::new(),
            rest: Vec::new(),
            ended: false,
            line,
            first_line: line,
            blank: None,
            declared,
            rows: 0,
            spare: Vec::new(),
        })
    }

    /// Reads whole lines, or what is left of the file; `None` at its end.
    fn read(&mut self) -> Result<Option<Work>> {
        let mut work = self.spare.pop().unwrap_or_default();
        let text = &mut work.text;
        text.clear();
        text.append(&mut self.rest);
        let (mut searched, mut lines_end) = (0, None);
        loop {
            if let Some(end) = memchr::memrchr(b'\n', &text[searched..]) {
                lines_end = Some(searched + end + 1);
            }
            searched = text.len();
            match lines_end {
                Some(end) if text.len() >= PIECE => {
                    self.rest.extend_from_slice(&text[end..]);
                    text.truncate(end);
                    return Ok(Some(work));
                }
                None if text.len() > self.form.longest() => {
                    // The parser refuses such a line, in its turn; nothing after it is read.
                    self.ended = true;
                    text.truncate(self.form.longest() + 1);
                    return Ok(Some(work));
                }
                _ => {}
            }
            if self.bytes.append_to(PIECE, text)? == 0 {
                self.ended = true;
                return Ok((!text.is_empty()).then_some(work));
            }
        }
    }

    /// Sends pieces on their way.
    fn send(&mut self) {
        while self.pieces.len() < self.most && !self.ended {
            let piece = match self.read() {
                Ok(None) => return,
                Ok(Some(work)) => self.parsing(work),
                Err(error) => {
                    self.ended = true;
                    Piece::Failed(error)
                }
            };
            self.pieces.push_back(piece);
        }
    }

    fn parsing(&self, work: Work) -> Piece {
        let form = self.form;
        let Some(pool) = self.pool else { return Piece::Done(Box::new(parse(form, work))) };
        let (sender, receiver) = sync_channel(1);
        pool.spawn(move || {
            // Nobody waits for it where the conversion was given up.
            _ = sender.send(parse(form, work));
        });
        Piece::Parsing(receiver)
    }

    fn refuse<T>(&self, line: u64, reason: String) -> Result<T> {
        let place = Place::Line(line);
        Err(Error::Foreign { path: self.path.clone(), format: self.format, place, reason })
    }

    /// Looks at the blank lines and the numbers of rows, piece after piece.
    fn check(&mut self, parsed: &Parsed) -> Result<()> {
        if let Some(blank) =
            self.blank.filter(|_| parsed.work.batch.count > 0 || parsed.fault.is_some())
        {
            return self.refuse(blank, BLANK.to_owned());
        }
        if let Some(Fault { line, reason }) = &parsed.fault {
            return self.refuse(self.line + line, reason.clone());
        }
        self.blank = self.blank.or(parsed.blank.map(|blank| self.line + blank));
        self.rows += parsed.work.batch.count as u64;
        if let Some(declared) = self.declared.filter(|declared| self.rows > *declared) {
            let line = self.first_line + declared;
            return self
                .refuse(line, format!("{declared} rows are declared, and one more follows"));
        }
        self.line += parsed.lines;
        Ok(())
    }
}

impl RowStream for LineRows {
    fn next(&mut self, batch: &mut Batch) -> Result<bool> {
        batch.clear();
        loop {
            self.send();
            let parsed = match self.pieces.pop_front() {
                None => break,
                Some(Piece::Done(parsed)) => *parsed,
                Some(Piece::Failed(error)) => return Err(error),
                Some(Piece::Parsing(receiver)) => match receiver.recv() {
                    Ok(parsed) => parsed,
                    Err(_) => return self.refuse(self.line, "the parser failed here".to_owned()),
                },
            };
            self.check(&parsed)?;
            let mut work = parsed.work;
            std::mem::swap(batch, &mut work.batch);
            self.spare.push(work);
            if batch.count > 0 {
                return Ok(true);
            }
        }
        match self.declared.filter(|declared| self.rows < *declared) {
            Some(declared) => {
                let rows = self.rows;
                let reason =
                    format!("{declared} rows are declared, and the file ends after {rows}");
                self.refuse(self.line, reason)
            }
            None => Ok(false),
        }
    }

    fn place(&self, row: u64) -> Place {
        Place::Line(self.first_line + row)
    }

    fn consumed(&self) -> u64 {
        self.bytes.consumed()
    }
}

/// Parses whole lines.
fn parse(form: LineForm, work: Work) -> Parsed {
    let mut parsed = Parsed { work, lines: 0, blank: None, fault: None };
    parsed.work.batch.clear();
    parsed.fault = parse_lines(form, &mut parsed).err();
    parsed
}

fn parse_lines(form: LineForm, parsed: &mut Parsed) -> Result<(), Fault> {
    let Work { text, batch } = &mut parsed.work;
    let mut rest = text.as_slice();
    while !rest.is_empty() {
        let (line, after) = match memchr::memchr(b'\n', rest) {
            Some(end) => (&rest[..end], &rest[end + 1..]),
            None => (rest, &[][..]),
        };
        rest = after;
        let fault = |line, reason: String| Fault { line, reason };
        if line.len() > form.longest() {
            let reason = format!("the line has more than {} bytes", form.longest());
            return Err(fault(parsed.lines, reason));
        }
        if line.trim_ascii().is_empty() {
            parsed.blank = parsed.blank.or(Some(parsed.lines));
        } else if let Some(blank) = parsed.blank {
            return Err(fault(blank, BLANK.to_owned()));
        } else {
            form.push(line, batch).map_err(|reason| fault(parsed.lines, reason))?;
        }
        parsed.lines += 1;
    }
    Ok(())
}
