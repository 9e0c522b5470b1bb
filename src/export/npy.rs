//! npy: numpy's own array file.

use super::output::Out;
use super::pieces::{Progress, each_piece};
use super::run::Job;
use crate::error::Result;
use crate::source::NpyHeader;

fn head(job: &Job<'_>) -> Vec<u8> {
    let rows = job.rows.end - job.rows.start;
    let mut head = Vec::new();
    // Writing to a vector cannot fail.
    let _ = NpyHeader::of_rows(job.dtype, rows, job.table.dim() as u64).write_to(&mut head);
    head
}

/// The bytes of the whole file.
pub(super) fn file_bytes(job: &Job<'_>) -> Result<u64> {
    Ok(head(job).len() as u64 + job.number_bytes()?)
}

pub(super) fn write(job: &Job<'_>, out: &mut Out<'_>, progress: Progress<'_>) -> Result<()> {
    out.put(&head(job))?;
    each_piece(job.table, &job.rows, job.dtype, progress, |piece| out.put(piece.bytes))
}
