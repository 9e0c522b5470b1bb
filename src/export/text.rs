//! Rows as lines of text: a token, then each number in the fewest digits that read back as the
//! same.
//!
//! Lines are made by all threads, and written while the next ones are made.

use std::ops::Range;

use half::{bf16, f16};

use super::output::Out;
use super::pieces::{Piece, Progress, each_piece};
use super::run::Job;
use super::tokens::{Fitter, RowTokens};
use crate::dtype::DType;
use crate::error::Result;
use crate::gather::Crew;

/// The parts of a piece for each thread: one that starts late does fewer.
const PARTS: usize = 4;

pub(super) fn write(job: &Job<'_>, out: &mut Out<'_>, progress: Progress<'_>) -> Result<()> {
    let mut lines = Lines { crew: job.table.crew(None)?, made: Vec::new(), next: Vec::new() };
    let mut names = Names::of(job)?;
    each_piece(job.table, &job.rows, job.dtype, progress, |piece| {
        names.read(piece.count)?;
        lines.turn(out, &piece, &names, job.dtype)
    })?;
    lines.end(out)
}

/// What each row of a piece starts with: its token.
pub(super) struct Names<'a> {
    tokens: RowTokens<'a>,
    fitter: Fitter,
    text: String,
    /// Where each row's token lies in the text; `None` of a row that is left out.
    places: Vec<Option<Range<usize>>>,
}

impl<'a> Names<'a> {
    pub(super) fn of(job: &'a Job<'_>) -> Result<Self> {
        let tokens = RowTokens::of(job.table, &job.rows)?;
        Ok(Names { tokens, fitter: job.fitter(), text: String::new(), places: Vec::new() })
    }

    /// Reads the tokens of the next rows.
    pub(super) fn read(&mut self, count: usize) -> Result<()> {
        self.text.clear();
        self.places.clear();
        for _ in 0..count {
            let Some((id, token)) = self.tokens.next()? else { break };
            let fitted = self.fitter.fit(id, token)?;
            self.places.push(fitted.map(|token| {
                let start = self.text.len();
                self.text.push_str(&token);
                start..self.text.len()
            }));
        }
        Ok(())
    }

    /// The token of a row of the piece; `None` of a row that is left out.
    pub(super) fn get(&self, index: usize) -> Option<&str> {
        self.text.get(self.places.get(index)?.clone()?)
    }
}

/// Lines that are made, and those that are being made.
struct Lines {
    crew: Crew,
    made: Vec<Vec<u8>>,
    next: Vec<Vec<u8>>,
}

/// What one thread does.
enum Part<'a, 'o> {
    Write { lines: &'a [Vec<u8>], out: &'a mut Out<'o> },
    Make { first: usize, rows: &'a [u8], lines: &'a mut Vec<u8> },
}

impl Lines {
    /// Makes the lines of a piece, and writes those of the one before.
    fn turn(
        &mut self,
        out: &mut Out<'_>,
        piece: &Piece<'_>,
        names: &Names<'_>,
        dtype: DType,
    ) -> Result<()> {
        let row = piece.row_bytes();
        let rows = piece.count.div_ceil(self.crew.threads.saturating_mul(PARTS)).max(1);
        let chunks = piece.bytes.chunks(rows.saturating_mul(row));
        self.next.resize_with(chunks.len(), Vec::new);
        let mut parts = vec![Part::Write { lines: &self.made, out }];
        parts.extend(chunks.zip(&mut self.next).enumerate().map(|(index, (chunk, lines))| {
            lines.clear();
            Part::Make { first: index * rows, rows: chunk, lines }
        }));
        let names: &Names<'_> = names;
        self.crew.work(parts, |part| match part {
            Part::Write { lines, out } => lines.iter().try_for_each(|lines| out.put(lines)),
            Part::Make { first, rows, lines } => {
                for (index, row) in (first..).zip(rows.chunks_exact(row)) {
                    if let Some(token) = names.get(index) {
                        push_line(token, row, dtype, lines);
                    }
                }
                Ok(())
            }
        })?;
        std::mem::swap(&mut self.made, &mut self.next);
        Ok(())
    }

    fn end(self, out: &mut Out<'_>) -> Result<()> {
        self.made.iter().try_for_each(|lines| out.put(lines))
    }
}

fn push_line(token: &str, row: &[u8], dtype: DType, out: &mut Vec<u8>) {
    out.extend_from_slice(token.as_bytes());
    match dtype {
        DType::F64 => push_numbers(row, f64::from_le_bytes, out),
        DType::F16 => push_numbers(row, |bytes| f16::from_le_bytes(bytes).to_f32(), out),
        DType::BF16 => push_numbers(row, |bytes| bf16::from_le_bytes(bytes).to_f32(), out),
        _ => push_numbers(row, f32::from_le_bytes, out),
    }
    out.push(b'\n');
}

/// Adds each number of a row, behind a space.
fn push_numbers<const N: usize, F: zmij::Float>(
    row: &[u8],
    number: impl Fn([u8; N]) -> F,
    out: &mut Vec<u8>,
) {
    let mut digits = zmij::Buffer::new();
    let (numbers, _) = row.as_chunks();
    for bytes in numbers {
        out.push(b' ');
        out.extend_from_slice(digits.format(number(*bytes)).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(row: &[u8], dtype: DType) -> String {
        let mut out = Vec::new();
        push_line("cat", row, dtype, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_is_a_token_and_numbers() {
        let row = [0.1f32, -0.0, 1.0, 1e-45, f32::MAX, f32::NAN, f32::NEG_INFINITY];
        let row: Vec<u8> = row.iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(line(&row, DType::F32), "cat 0.1 -0.0 1.0 1e-45 3.4028235e+38 NaN -inf\n");
        let row = [f16::from_f32(0.1), f16::MAX].map(f16::to_le_bytes).concat();
        assert_eq!(line(&row, DType::F16), "cat 0.099975586 65504.0\n");
        let row = [bf16::from_f32(0.1)].map(bf16::to_le_bytes).concat();
        assert_eq!(line(&row, DType::BF16), "cat 0.100097656\n");
        assert_eq!(line(&0.1f64.to_le_bytes(), DType::F64), "cat 0.1\n");
    }

    proptest! {
        #[test]
        fn numbers_read_back_as_the_same(single: u32, double: u64) {
            let text = line(&single.to_le_bytes(), DType::F32);
            let found: f32 = text[4..].trim_end().parse().unwrap();
            let value = f32::from_bits(single);
            prop_assert!(found.to_bits() == single || value.is_nan() && found.is_nan());
            let text = line(&double.to_le_bytes(), DType::F64);
            let found: f64 = text[4..].trim_end().parse().unwrap();
            let value = f64::from_bits(double);
            prop_assert!(found.to_bits() == double || value.is_nan() && found.is_nan());
        }
    }
}
