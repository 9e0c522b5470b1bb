//! The class behind `embmap.Writer`: rows and tokens in, one published file out.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use bytemuck::Pod;
use embmap::{DType, Element, Loss, TableWriter, WriteOptions, Written};
use half::{bf16, f16};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::dtype::{known_as, parse};
use crate::error::{closed, raised};
use crate::view::Given;

/// The elements that are converted at once.
const PIECE: usize = 1 << 18;

/// Rows and tokens go in, and `finish` publishes the file; dropped before, it leaves nothing.
#[pyclass(frozen, module = "embmap._embmap")]
pub(crate) struct Writer {
    dim: usize,
    dtype: DType,
    open: Mutex<Option<TableWriter>>,
}

#[pymethods]
impl Writer {
    #[new]
    #[pyo3(signature = (
        path, dim, dtype, *, vocab=None, align=None, metadata=None, tokenizer=None, replace=false,
        file_id=None
    ))]
    #[expect(clippy::too_many_arguments, reason = "they are keywords in Python")]
    fn new(
        py: Python<'_>,
        path: PathBuf,
        dim: usize,
        dtype: &Bound<'_, PyAny>,
        vocab: Option<u64>,
        align: Option<u64>,
        metadata: Option<String>,
        tokenizer: Option<String>,
        replace: bool,
        file_id: Option<[u8; 16]>,
    ) -> PyResult<Self> {
        let dtype = parse(dtype)?;
        let mut options = WriteOptions::new(dim, dtype).replace(replace);
        if let Some(rows) = vocab {
            options = options.vocab(rows);
        }
        if let Some(bytes) = align {
            options = options.align(bytes);
        }
        if let Some(json) = metadata {
            options = options.metadata(json);
        }
        if let Some(json) = tokenizer {
            options = options.tokenizer(json);
        }
        if let Some(id) = file_id {
            options = options.file_id(id);
        }
        let writer = py.detach(|| options.create(path)).map_err(raised)?;
        Ok(Writer { dim, dtype, open: Mutex::new(Some(writer)) })
    }

    /// The name of the element type that is stored.
    #[getter]
    fn dtype(&self) -> &'static str {
        self.dtype.name()
    }

    /// Adds rows: C-contiguous elements of a dtype, each rounded once where the table's is
    /// another.
    fn push(
        &self,
        py: Python<'_>,
        rows: &Bound<'_, PyAny>,
        dtype: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let from = parse(dtype)?;
        let memory = Given::by_buffer(rows).ok_or_else(not_in_memory)?;
        if from == self.dtype && known_as(from).is_some() {
            let encoded = bytes_of(&memory).ok_or_else(not_in_memory)?;
            return self.write(py, |writer| writer.push_encoded(encoded));
        }
        match from {
            DType::F32 => self.push_converted(py, memory.elements::<f32>()),
            DType::F16 => self.push_converted(py, memory.elements::<f16>()),
            DType::BF16 => self.push_converted(py, memory.elements::<bf16>()),
            DType::F64 => self.push_converted(py, memory.elements::<f64>()),
            other => Err(PyValueError::new_err(format!(
                "rows of {other} go into a table of {other}, and this one is of {}: convert them \
                 first",
                self.dtype
            ))),
        }
    }

    /// Adds the tokens of the next rows.
    fn push_tokens(&self, py: Python<'_>, tokens: Vec<Option<String>>) -> PyResult<()> {
        self.write(py, |writer| {
            tokens.iter().try_for_each(|token| writer.push_token(token.as_deref()))
        })
    }

    /// Completes, flushes and publishes the file.
    fn finish<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let writer = self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
        let writer = writer.ok_or_else(|| closed("writer"))?;
        told(py, py.detach(|| writer.finish()).map_err(raised)?)
    }

    /// Leaves the destination as it was.
    fn abort(&self, py: Python<'_>) {
        let writer = self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
        py.detach(|| drop(writer));
    }
}

impl Writer {
    fn write(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut TableWriter) -> embmap::Result<()> + Send,
    ) -> PyResult<()> {
        // Taken out meanwhile: a lock would be waited for with Python's own lock in hand.
        let writer = self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut writer = writer.ok_or_else(|| closed("writer (or another thread writes to it)"))?;
        let done = py.detach(|| work(&mut writer));
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = Some(writer);
        done.map_err(raised)
    }

    fn push_converted<From: Element>(&self, py: Python<'_>, rows: Option<&[From]>) -> PyResult<()> {
        let rows = rows.ok_or_else(not_in_memory)?;
        let dim = self.dim;
        match self.dtype {
            DType::F32 => self.write(py, |writer| push_converted::<From, f32>(writer, rows, dim)),
            DType::F16 => self.write(py, |writer| push_converted::<From, f16>(writer, rows, dim)),
            DType::BF16 => self.write(py, |writer| push_converted::<From, bf16>(writer, rows, dim)),
            DType::F64 => self.write(py, |writer| push_converted::<From, f64>(writer, rows, dim)),
            other => Err(PyValueError::new_err(format!(
                "rows of {} are not rounded to {other}: write them as they are, and let \
                 embmap.convert(..., dtype=\"{other}\") quantize them",
                From::DTYPE
            ))),
        }
    }
}

/// The bytes of elements of any size, where they lie one after the other.
fn bytes_of<'a>(memory: &'a Given<'_>) -> Option<&'a [u8]> {
    match memory.item() {
        1 => memory.elements::<u8>(),
        2 => memory.elements::<u16>().map(bytemuck::cast_slice),
        4 => memory.elements::<u32>().map(bytemuck::cast_slice),
        8 => memory.elements::<u64>().map(bytemuck::cast_slice),
        _ => None,
    }
}

fn not_in_memory() -> PyErr {
    PyValueError::new_err("expected rows one after the other, of the dtype that was said")
}

fn push_converted<From: Element, To: Element + Pod>(
    writer: &mut TableWriter,
    rows: &[From],
    dim: usize,
) -> embmap::Result<()> {
    // Whole rows at a time: `push` takes nothing else.
    let piece = (PIECE / dim).max(1) * dim;
    let mut converted = Vec::new();
    rows.chunks(piece).try_for_each(|rows| {
        converted.clear();
        converted.extend(rows.iter().map(|element| element.convert::<To>()));
        writer.push(&converted)
    })
}

/// What was written, as `embmap.Written`.
pub(crate) fn told(py: Python<'_>, written: Written) -> PyResult<Bound<'_, PyAny>> {
    let Written { path, file_bytes, vocab, row_stride, tokens, file_id, loss, .. } = written;
    let package = py.import("embmap")?;
    let loss = match loss {
        None => None,
        Some(Loss { max_error, rms_error, mean_cosine, min_cosine, .. }) => {
            let numbers = (max_error, rms_error, mean_cosine, min_cosine);
            Some(package.getattr("Loss")?.call1(numbers)?)
        }
    };
    let class = package.getattr("Written")?;
    class.call1((path, file_bytes, vocab, row_stride, tokens, PyBytes::new(py, &file_id), loss))
}
