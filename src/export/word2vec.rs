//! The formats of word2vec: a line with the numbers of rows and columns, then the rows behind
//! their tokens.

use super::output::Out;
use super::pieces::{Progress, each_piece};
use super::run::Job;
use super::text::{self, Names};
use crate::error::Result;

fn head(job: &Job<'_>, vocab: u64) -> String {
    format!("{vocab} {}\n", job.table.dim())
}

/// The bytes of the whole binary file, with so many bytes of tokens.
pub(super) fn binary_bytes(job: &Job<'_>, vocab: u64, token_bytes: u64) -> u64 {
    let row = job.table.dim() as u64 * size_of::<f32>() as u64;
    head(job, vocab).len() as u64 + token_bytes + vocab * (1 + row)
}

/// Rows as lines.
pub(super) fn write_text(
    job: &Job<'_>,
    vocab: u64,
    out: &mut Out<'_>,
    progress: Progress<'_>,
) -> Result<()> {
    out.put(head(job, vocab).as_bytes())?;
    text::write(job, out, progress)
}

/// Rows as f32 behind a token and a space, without a line break after them: gensim writes none,
/// and readers of files that have one skip it.
pub(super) fn write_binary(
    job: &Job<'_>,
    vocab: u64,
    out: &mut Out<'_>,
    progress: Progress<'_>,
) -> Result<()> {
    out.put(head(job, vocab).as_bytes())?;
    let mut names = Names::of(job)?;
    let mut rows = Vec::new();
    each_piece(job.table, &job.rows, job.dtype, progress, |piece| {
        names.read(piece.count)?;
        rows.clear();
        for (index, row) in piece.rows().enumerate() {
            if let Some(token) = names.get(index) {
                rows.extend_from_slice(token.as_bytes());
                rows.push(b' ');
                rows.extend_from_slice(row);
            }
        }
        out.put(&rows)
    })
}
