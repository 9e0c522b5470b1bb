//! Gathers and bags: ids in, arrays or tensors out, without the interpreter's lock meanwhile.

use bytemuck::Pod;
use embmap::{DType, Error, GatherOptions, Id, Table};
use half::{bf16, f16};
use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::dtype::{numpy_dtype, torch_dtype};
use crate::error::raised;
use crate::ids::Ids;
use crate::numpy::{Numpy, is_tensor, torch_if_imported};
use crate::outputs::Output;
use crate::view::{LentOutput, rows_to_fill};

/// Gathers rows of a dtype into bytes; the stride is in bytes.
fn gather_bytes<I: Id>(
    table: &Table,
    ids: &[I],
    out: &mut [u8],
    dtype: DType,
    stride: Option<usize>,
    threads: Option<usize>,
) -> embmap::Result<()> {
    let mut options = GatherOptions::new();
    if let Some(threads) = threads {
        options = options.threads(threads);
    }
    if let Some(stride) = stride {
        let stored = !matches!(dtype, DType::F32 | DType::F16 | DType::BF16);
        options = options.row_stride(if stored { stride } else { stride / dtype.size() });
    }
    match dtype {
        DType::F32 => table.gather_into_with(ids, typed::<f32>(out), &options),
        DType::F16 => table.gather_into_with(ids, typed::<f16>(out), &options),
        DType::BF16 => table.gather_into_with(ids, typed::<bf16>(out), &options),
        stored if is_stored_plain(table, stored) => {
            table.gather_bytes_into_with(ids, out, &options)
        }
        other => Err(Error::InvalidOption {
            option: "dtype",
            reason: format!(
                "a table of {} comes as f32, f16, bf16 or as stored, and {other} was asked for",
                table.dtype()
            ),
        }),
    }
}

/// Bytes as elements. Outputs start at multiples of the element's size: the allocator's are
/// aligned for every dtype, and those of Python's are refused where they are not.
pub(crate) fn typed<T: Pod>(bytes: &mut [u8]) -> &mut [T] {
    if bytes.is_empty() { &mut [] } else { bytemuck::cast_slice_mut(bytes) }
}

/// True where a row's bytes are `dim` elements of that dtype, and nothing else.
pub(crate) fn is_stored_plain(table: &Table, dtype: DType) -> bool {
    table.dtype() == dtype
        && table.codec() == embmap::Codec::Plain
        && table.row_bytes() == (table.dim() * dtype.size()) as u64
}

/// What rows come as where nothing was said.
pub(crate) fn usual_dtype(table: &Table) -> DType {
    if is_stored_plain(table, table.dtype()) { table.dtype() } else { DType::F32 }
}

/// Gathers rows into fresh memory: a numpy array, or a torch tensor where the ids were one.
pub(crate) fn fresh<'py>(
    py: Python<'py>,
    table: &Table,
    ids: &Ids,
    dtype: DType,
    numpy_type: Option<&Bound<'py, PyAny>>,
    threads: Option<usize>,
) -> PyResult<Bound<'py, PyAny>> {
    let found;
    let numpy_type = match numpy_type {
        _ if ids.torch => None,
        None => {
            found = numpy_dtype(py, dtype)?;
            Some(&found)
        }
        some => some,
    };
    let mut output = memory(ids.rows.len(), table.dim(), dtype)?;
    py.detach(|| gather_bytes(table, &ids.rows, output.as_mut_slice(), dtype, None, threads))
        .map_err(raised)?;
    wrap(py, output, &ids.shape, table.dim(), dtype, numpy_type)
}

/// Gathers rows into memory of Python's, and gives that back.
pub(crate) fn into<'py>(
    table: &Table,
    ids: &Ids,
    out: &Bound<'py, PyAny>,
    asked: Option<DType>,
    threads: Option<usize>,
) -> PyResult<Bound<'py, PyAny>> {
    let (mut buffer, dtype) = lent(out)?;
    if let Some(asked) = asked.filter(|asked| *asked != dtype) {
        return Err(PyValueError::new_err(format!(
            "out holds {dtype}, and dtype says {asked}: leave one out"
        )));
    }
    let (bytes, stride) = rows_to_fill(&mut buffer, &ids.shape, table.dim())?;
    let dense = stride == table.dim() * dtype.size();
    let stride = Some(stride).filter(|_| !dense);
    out.py()
        .detach(|| gather_bytes(table, &ids.rows, bytes, dtype, stride, threads))
        .map_err(raised)?;
    Ok(out.clone())
}

/// Memory for a fresh output.
pub(crate) fn memory(rows: usize, dim: usize, dtype: DType) -> PyResult<Output> {
    let bytes = rows.checked_mul(dim).and_then(|elements| elements.checked_mul(dtype.size()));
    bytes.and_then(Output::take).ok_or_else(|| {
        let bytes = rows as u128 * dim as u128 * dtype.size() as u128;
        raised(Error::OutputMemory { bytes })
    })
}

/// An output as an array of a numpy dtype, or as a tensor where there is none.
pub(crate) fn wrap<'py>(
    py: Python<'py>,
    output: Output,
    ids: &[usize],
    dim: usize,
    dtype: DType,
    numpy_type: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let numpy = Numpy::get(py)?;
    let shape = match ids {
        [] => PyTuple::new(py, [dim]),
        [rows] => PyTuple::new(py, [*rows, dim]),
        more => PyTuple::new(py, [more, &[dim]].concat()),
    }?;
    let memory = Bound::new(py, LentOutput::new(output))?.into_any();
    if let Some(numpy_type) = numpy_type {
        return numpy.over(shape, numpy_type, memory, None);
    }
    let Some(torch) = torch_if_imported(py)? else {
        return Err(PyTypeError::new_err("the ids are a tensor, and torch is not there"));
    };
    // Torch takes bf16 from numpy under another name alone.
    if dtype == DType::BF16 {
        let array = numpy.over(shape, numpy.int16.bind(py), memory, None)?;
        let tensor = torch.call_method1("from_numpy", (array,))?;
        return tensor.call_method1("view", (torch_dtype(&torch, dtype)?,));
    }
    let array = numpy.over(shape, &numpy_dtype(py, dtype)?, memory, None)?;
    torch.call_method1("from_numpy", (array,))
}

/// The memory of an `out=`, and its dtype.
pub(crate) fn lent(out: &Bound<'_, PyAny>) -> PyResult<(PyUntypedBuffer, DType)> {
    if let Ok(buffer) = PyUntypedBuffer::get(out) {
        let dtype = match (buffer.format().to_bytes(), buffer.item_size()) {
            (b"f" | b"<f" | b"=f", 4) => DType::F32,
            (b"e" | b"<e" | b"=e", 2) => DType::F16,
            (b"d" | b"<d" | b"=d", 8) => DType::F64,
            (format, _) => return Err(no_output(&String::from_utf8_lossy(format))),
        };
        return Ok((buffer, dtype));
    }
    if is_tensor(out)? {
        let tensor = out.call_method0("detach")?;
        let dtype = tensor.getattr("dtype")?;
        if dtype.str()?.to_str()? == "torch.bfloat16" {
            let int16 = out.py().import("torch")?.getattr("int16")?;
            let shared = tensor.call_method1("view", (int16,))?.call_method0("numpy")?;
            return Ok((PyUntypedBuffer::get(&shared)?, DType::BF16));
        }
        // Torch says what to do with a tensor of another device.
        return lent(&tensor.call_method0("numpy")?);
    }
    // numpy lends no buffer of a dtype that it does not have itself.
    let name = out.getattr("dtype").and_then(|dtype| dtype.getattr("name"));
    match name.and_then(|name| name.extract::<String>()) {
        Ok(name) if name == "bfloat16" => {
            let shared = out.call_method1("view", (Numpy::get(out.py())?.int16.bind(out.py()),))?;
            Ok((PyUntypedBuffer::get(&shared)?, DType::BF16))
        }
        Ok(name) => Err(no_output(&name)),
        Err(_) => Err(no_output(&out.get_type().name()?.to_string())),
    }
}

fn no_output(found: &str) -> PyErr {
    PyTypeError::new_err(format!(
        "out: expected an array or a tensor of f32, f16, bf16 or f64, found {found}"
    ))
}
