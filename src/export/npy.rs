//! npy: numpy's own array file.

use super::output::Out;
use super::pieces::{Progress, each_piece};
use super::run::Job;
use crate::dtype::DType;
use crate::error::Result;

fn head(job: &Job<'_>) -> Vec<u8> {
    let rows = job.rows.end - job.rows.start;
    let descr = match job.dtype {
        DType::I8 => "|i1".to_owned(),
        DType::U8 => "|u1".to_owned(),
        float => format!("<f{}", float.block_bytes()),
    };
    let dim = job.table.dim();
    let mut header =
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({rows}, {dim}), }}");
    let length = (10 + header.len() + 1).next_multiple_of(64) - 10;
    header.extend(std::iter::repeat_n(' ', length - 1 - header.len()));
    header.push('\n');
    let length = u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes();
    [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes()].concat()
}

/// The bytes of the whole file.
pub(super) fn file_bytes(job: &Job<'_>) -> Result<u64> {
    Ok(head(job).len() as u64 + job.number_bytes()?)
}

pub(super) fn write(job: &Job<'_>, out: &mut Out<'_>, progress: Progress<'_>) -> Result<()> {
    out.put(&head(job))?;
    each_piece(job.table, &job.rows, job.dtype, progress, |piece| out.put(piece.bytes))
}
