//! safetensors: the length of a JSON header, the header, the numbers.

use super::output::Out;
use super::pieces::{Progress, each_piece};
use super::run::Job;
use crate::dtype::DType;
use crate::error::{Error, Result};

/// The start of the numbers is a multiple of this: more than the format asks for, so that
/// whoever maps the file finds them aligned.
const ALIGNMENT: usize = 64;

/// The longest header that readers take.
const LONGEST_HEADER: usize = 100_000_000;

/// What the format calls a type; `None` where it has no such one.
pub(super) const fn name_of(dtype: DType) -> Option<&'static str> {
    Some(match dtype {
        DType::F32 => "F32",
        DType::F16 => "F16",
        DType::BF16 => "BF16",
        DType::F64 => "F64",
        DType::F8E4M3 => "F8_E4M3",
        DType::F8E5M2 => "F8_E5M2",
        DType::F8E4M3Fnuz => "F8_E4M3FNUZ",
        DType::F8E5M2Fnuz => "F8_E5M2FNUZ",
        DType::I8 => "I8",
        DType::U8 => "U8",
        _ => return None,
    })
}

/// The length of the header, and the header.
fn head(job: &Job<'_>) -> Result<Vec<u8>> {
    let invalid = |reason| Error::InvalidOption { option: "tensor", reason };
    if job.tensor == "__metadata__" {
        let reason = "a safetensors file has metadata under this name; choose another";
        return Err(invalid(reason.to_owned()));
    }
    let dtype = name_of(job.dtype).unwrap_or_default();
    let [vocab, dim] = [job.rows.end - job.rows.start, job.table.dim() as u64];
    let tensor = serde_json::json!({
        "dtype": dtype,
        "shape": [vocab, dim],
        "data_offsets": [0, job.number_bytes()?],
    });
    let mut header = format!(
        "{{\"__metadata__\":{{\"format\":\"pt\"}},{}:{tensor}}}",
        serde_json::Value::from(job.tensor)
    )
    .into_bytes();
    let length = (header.len() + 8).next_multiple_of(ALIGNMENT) - 8;
    if length > LONGEST_HEADER {
        return Err(invalid(format!("the name has {} bytes: too many", job.tensor.len())));
    }
    header.resize(length, b' ');
    Ok([&(length as u64).to_le_bytes()[..], &header].concat())
}

/// The bytes of the whole file.
pub(super) fn file_bytes(job: &Job<'_>) -> Result<u64> {
    Ok(head(job)?.len() as u64 + job.number_bytes()?)
}

pub(super) fn write(job: &Job<'_>, out: &mut Out<'_>, progress: Progress<'_>) -> Result<()> {
    out.put(&head(job)?)?;
    each_piece(job.table, &job.rows, job.dtype, progress, |piece| out.put(piece.bytes))
}
