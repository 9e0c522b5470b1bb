//! `embmap.convert`.

use std::path::PathBuf;
use std::sync::Arc;

use embmap::{Access, ConvertOptions, OpenOptions, convert_with};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use crate::dtype::parse;
use crate::error::raised;
use crate::progress::Progress;
use crate::table::Table;
use crate::writer::told;

/// Writes a table to an .emb file, streaming, with its tokens, tokenizer and metadata.
///
/// src is a path, with the tensor, scales, biases and follow_links of open, or a Table; rows is
/// a (start, stop) of what to take; align rounds the row stride up. dtype is what to store:
/// "i8", "f8_e4m3" and "q8_0" quantize, at a cost that the answer tells. progress(done, total)
/// is called now and then, and an exception of it, as KeyboardInterrupt, stops the conversion.
/// The file appears whole or not at all.
#[pyfunction]
#[pyo3(signature = (
    src, dst, *, tensor=None, scales=None, biases=None, dtype=None, align=None, rows=None,
    replace=false, file_id=None, follow_links=false, progress=None
))]
#[expect(clippy::too_many_arguments, reason = "they are keywords in Python")]
pub(crate) fn convert<'py>(
    py: Python<'py>,
    src: &Bound<'py, PyAny>,
    dst: PathBuf,
    tensor: Option<String>,
    scales: Option<String>,
    biases: Option<String>,
    dtype: Option<&Bound<'py, PyAny>>,
    align: Option<u64>,
    rows: Option<(u64, u64)>,
    replace: bool,
    file_id: Option<[u8; 16]>,
    follow_links: bool,
    progress: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let mut options = ConvertOptions::new().replace(replace);
    if let Some(dtype) = dtype {
        options = options.dtype(parse(dtype)?);
    }
    if let Some(bytes) = align {
        options = options.align(bytes);
    }
    if let Some((start, stop)) = rows {
        options = options.rows(start..stop);
    }
    if let Some(id) = file_id {
        options = options.file_id(id);
    }
    let table = if let Ok(table) = src.cast::<Table>() {
        if tensor.is_some() || scales.is_some() || biases.is_some() || follow_links {
            return Err(PyTypeError::new_err(
                "tensor, scales, biases and follow_links go with a path, not with an open table",
            ));
        }
        table.get().shared()?
    } else {
        let path: PathBuf = src.extract()?;
        let mut open = OpenOptions::new().access(Access::Read).follow_links(follow_links);
        if let Some(tensor) = tensor {
            open = open.tensor(tensor);
        }
        if let Some(tensor) = scales {
            open = open.scales(tensor);
        }
        if let Some(tensor) = biases {
            open = open.biases(tensor);
        }
        Arc::new(py.detach(|| open.open(path)).map_err(raised)?)
    };
    let mut progress = Progress::new(progress.as_ref());
    let written =
        py.detach(|| convert_with(&table, dst, &options, |done, total| progress.step(done, total)));
    match (written, progress.stopped()) {
        (_, Some(error)) => Err(error),
        (Err(error), None) => Err(raised(error)),
        (Ok(written), None) => told(py, written),
    }
}
