//! From a tensor to a table: is it one, and where do its rows lie.

use std::path::Path;

use super::FoundTable;
use super::json::shortened;
use super::safetensors::{FORMAT, Tensor};
use crate::codec::Codec;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::layout::{Extent, Layout, Plane};
use crate::storage::StoredFile;

/// What to do where a tensor is no table.
const WAY_OUT: &str =
    "choose another with --tensor (`OpenOptions::tensor`); `embmap info PATH --tensors` lists them";

/// The dtype of a tensor whose rows can be read.
pub(super) fn dtype_of(tensor: Tensor<'_>) -> Option<DType> {
    tensor.dtype.name.parse().ok()
}

/// True for a tensor that can be opened as a table.
pub(super) fn is_readable(tensor: Tensor<'_>) -> bool {
    dtype_of(tensor).is_some() && tensor.shape.matrix().is_some_and(|(_, dim)| dim > 0)
}

/// The table that a tensor of `file` is. `has` tells of other tensors of the model.
pub(super) fn describe(
    file: StoredFile,
    tensor: Tensor<'_>,
    has: impl Fn(&str) -> bool,
) -> Result<FoundTable> {
    let path = file.path().to_path_buf();
    let refuse = |reason| Err(form_error(&path, tensor.name, reason));
    let Some((vocab, dim)) = tensor.shape.matrix() else {
        return refuse(format!(
            "has the shape {}, expected two dimensions: rows and columns; {WAY_OUT}",
            tensor.shape
        ));
    };
    let Some(dtype) = dtype_of(tensor) else {
        let readable = DType::ALL.map(DType::name).join(", ");
        let packed = packed_beside(tensor.name, has);
        return refuse(format!(
            "is {}{packed}, expected one of {readable}; save it as one of these",
            tensor.dtype.name
        ));
    };
    if dim == 0 {
        return refuse(format!(
            "has the shape {}, expected rows of at least one element; {WAY_OUT}",
            tensor.shape
        ));
    }
    let codec = Codec::Plain;
    let too_large = || {
        let reason = format!(
            "has the shape {} of {dtype}, too large to describe: its size overflows 64 bits; {WAY_OUT}",
            tensor.shape
        );
        form_error(&path, tensor.name, reason)
    };
    let row_bytes = codec.row_bytes(dtype, dim).ok_or_else(too_large)?;
    let extent = Extent { first: 0, rows: vocab, file: 0, offset: tensor.offset };
    let values =
        Plane::new(row_bytes, row_bytes, vec![extent], &[file.bytes()]).ok_or_else(too_large)?;
    let dim = usize::try_from(dim).map_err(|_| too_large())?;
    let layout = Layout::of_values(vocab, dim, values).ok_or_else(too_large)?;
    Ok(FoundTable {
        format: FORMAT,
        files: vec![file],
        tensor: tensor.name.to_owned(),
        dtype,
        codec,
        layout,
        tokens: None,
        tokenizer: None,
    })
}

/// The scales and biases that make a tensor of integers a quantized table.
fn packed_beside(name: &str, has: impl Fn(&str) -> bool) -> String {
    let stem = name.strip_suffix(".weight").unwrap_or(name);
    let beside: Vec<String> = [".scales", ".biases", ".weight_scale", ".weight_scale_inv"]
        .into_iter()
        .map(|end| format!("{stem}{end}"))
        .filter(|other| has(other))
        .collect();
    if beside.is_empty() {
        String::new()
    } else {
        format!(", quantized with {}", beside.join(" and "))
    }
}

fn form_error(path: &Path, tensor: &str, reason: String) -> Error {
    Error::TensorForm { path: path.to_path_buf(), tensor: shortened(tensor), reason }
}
