//! Gathers and bags: ids in, arrays or tensors out, without the interpreter's lock meanwhile.

use bytemuck::Pod;
use embmap::{Codec, DType, Error, GatherOptions, Id, Table};
use half::{bf16, f16};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::dtype::{Known, carrier, is_carried, known_as, named, numpy_dtype};
use crate::error::raised;
use crate::ids::Ids;
use crate::numpy::Numpy;
use crate::outputs::Output;
use crate::torch::{Torch, as_numpy, tensor_of};
use crate::view::{Given, LentOutput};

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
        options = options.row_stride(match dtype {
            DType::F32 => stride / size_of::<f32>(),
            DType::F16 | DType::BF16 => stride / size_of::<f16>(),
            _ => stride,
        });
    }
    match dtype {
        DType::F32 => table.gather_into_with(ids, typed::<f32>(out), &options),
        DType::F16 => table.gather_into_with(ids, typed::<f16>(out), &options),
        DType::BF16 => table.gather_into_with(ids, typed::<bf16>(out), &options),
        stored => {
            check_given(table, stored)?;
            table.gather_bytes_into_with(ids, out, &options)
        }
    }
}

/// Refuses a dtype that rows are not given in.
fn check_given(table: &Table, dtype: DType) -> embmap::Result<()> {
    let decoded = matches!(dtype, DType::F32 | DType::F16 | DType::BF16);
    if decoded || is_stored_plain(table, dtype) {
        return Ok(());
    }
    let stored = match table.codec() {
        Codec::Plain => table.dtype().to_string(),
        other => format!("{} ({other})", table.dtype()),
    };
    let plain = if is_stored_plain(table, table.dtype()) { ", or as stored" } else { "" };
    let reason =
        format!("a table of {stored} comes as f32, f16 or bf16{plain}, and {dtype} was asked for");
    Err(Error::InvalidOption { option: "dtype", reason })
}

/// Bytes as elements. Outputs start at multiples of the element's size: the allocator's are
/// aligned for every dtype, and those of Python's are refused where they are not.
pub(crate) fn typed<T: Pod>(bytes: &mut [u8]) -> &mut [T] {
    if bytes.is_empty() { &mut [] } else { bytemuck::cast_slice_mut(bytes) }
}

/// True where a row's bytes are `dim` elements of that dtype, one that others know too, and
/// nothing else.
pub(crate) fn is_stored_plain(table: &Table, dtype: DType) -> bool {
    table.dtype() == dtype
        && table.codec() == Codec::Plain
        && known_as(dtype)
            .is_some_and(|known| table.row_bytes() == (table.dim() * known.size) as u64)
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
    check_given(table, dtype).map_err(raised)?;
    let found;
    let like = match (ids.torch, numpy_type) {
        (Some(torch), _) => Like::Tensor(torch),
        (None, Some(dtype)) => Like::Array(dtype),
        (None, None) => {
            found = numpy_dtype(py, dtype)?;
            Like::Array(&found)
        }
    };
    let output = filled(py, table, ids, dtype, threads)?;
    wrap(py, output, &ids.shape, table.dim(), dtype, like)
}

/// Gathers rows into fresh memory.
pub(crate) fn filled(
    py: Python<'_>,
    table: &Table,
    ids: &Ids,
    dtype: DType,
    threads: Option<usize>,
) -> PyResult<Output> {
    let mut output = memory(ids.rows.len(), table.dim(), dtype)?;
    py.detach(|| gather_bytes(table, &ids.rows, output.as_mut_slice(), dtype, None, threads))
        .map_err(raised)?;
    Ok(output)
}

/// Gathers rows into memory of Python's, and gives that back.
pub(crate) fn into<'py>(
    table: &Table,
    ids: &Ids,
    out: &Bound<'py, PyAny>,
    asked: Option<DType>,
    threads: Option<usize>,
) -> PyResult<Bound<'py, PyAny>> {
    let (mut given, dtype) = lent(out)?;
    if let Some(asked) = asked.filter(|asked| *asked != dtype) {
        return Err(PyValueError::new_err(format!(
            "out holds {dtype}, and dtype says {asked}: leave one out"
        )));
    }
    let row = table.dim() * given.item();
    let (bytes, stride) = given.rows_to_fill(&ids.shape, table.dim())?;
    let stride = Some(stride).filter(|stride| *stride != row);
    out.py()
        .detach(|| gather_bytes(table, &ids.rows, bytes, dtype, stride, threads))
        .map_err(raised)?;
    Ok(out.clone())
}

/// Memory for a fresh output.
pub(crate) fn memory(rows: usize, dim: usize, dtype: DType) -> PyResult<Output> {
    let size = known_as(dtype).map_or(size_of::<f32>(), |known| known.size);
    let bytes = rows.checked_mul(dim).and_then(|elements| elements.checked_mul(size));
    bytes.and_then(Output::take).ok_or_else(|| {
        let bytes = rows as u128 * dim as u128 * size as u128;
        raised(Error::OutputMemory { bytes })
    })
}

/// What an output becomes.
pub(crate) enum Like<'a, 'py> {
    /// An array of a numpy dtype.
    Array(&'a Bound<'py, PyAny>),
    Tensor(&'static Torch),
}

/// An output as an array or a tensor.
pub(crate) fn wrap<'py>(
    py: Python<'py>,
    output: Output,
    ids: &[usize],
    dim: usize,
    dtype: DType,
    like: Like<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let memory = Bound::new(py, LentOutput::new(output))?;
    let torch = match like {
        Like::Tensor(torch) => torch,
        Like::Array(dtype) => {
            let shape = match ids {
                [] => PyTuple::new(py, [dim]),
                [rows] => PyTuple::new(py, [*rows, dim]),
                more => PyTuple::new(py, [more, &[dim]].concat()),
            }?;
            return Numpy::get(py)?.over(shape, dtype, memory.into_any(), None);
        }
    };
    let unknown = || PyTypeError::new_err(format!("torch has no {dtype}; ask for dtype=\"f32\""));
    let known = known_as(dtype).ok_or_else(unknown)?;
    // Not every torch knows the float types of 8 bits by DLPack.
    let shown = if known.size == 1 { known_as(DType::I8).unwrap_or(known) } else { known };
    let capsule = LentOutput::capsule(&memory, [ids, &[dim]].concat(), shown, false)?;
    let tensor = torch.from_dlpack.bind(py).call1((capsule,))?;
    if shown.dtype == dtype {
        return Ok(tensor);
    }
    tensor.call_method1("view", (torch.dtype(py, dtype).ok_or_else(unknown)?,))
}

/// The memory of an `out=`, and its dtype.
pub(crate) fn lent<'py>(out: &Bound<'py, PyAny>) -> PyResult<(Given<'py>, DType)> {
    if let Some(torch) = tensor_of(out)? {
        return match torch.look(out) {
            Some(given) => {
                let dtype = given.dtype().map_err(|found| no_output(&found))?;
                Ok((given, dtype))
            }
            None => lent_by_torch(torch, out),
        };
    }
    if let Some(given) = Given::by_buffer(out) {
        let dtype = given.dtype().map_err(|found| no_output(&found))?;
        return Ok((given, dtype));
    }
    // What numpy does not have itself it lends under another name alone.
    let name = out.getattr("dtype").and_then(|dtype| dtype.getattr("name")?.extract::<String>());
    let Ok(name) = name else { return Err(no_output(&out.get_type().name()?.to_string())) };
    let Some(Known { dtype, .. }) = named(&name).filter(|known| is_carried(known.dtype)) else {
        return Err(no_output(&name));
    };
    let shared = out.call_method1("view", (carrier(out.py(), *dtype)?,))?;
    let given = Given::by_buffer(&shared).ok_or_else(|| no_output(&name))?;
    Ok((given, *dtype))
}

/// The same of a tensor that takes torch's own conversion.
fn lent_by_torch<'py>(torch: &Torch, out: &Bound<'py, PyAny>) -> PyResult<(Given<'py>, DType)> {
    let py = out.py();
    let named = out.getattr("dtype")?;
    let found = || no_output(&named.to_string());
    let dtype = torch.dtype_of(&named).ok_or_else(found)?;
    let plain = out.call_method0("detach")?;
    let shared = if is_carried(dtype) {
        let size = known_as(dtype).map_or(1, |known| known.size);
        let integers = torch.dtype(py, DType::I8).filter(|_| size == 1);
        let integers = integers.map_or_else(|| py.import("torch")?.getattr("int16"), Ok)?;
        plain.call_method1("view", (integers,))?
    } else {
        plain
    };
    let given = Given::by_buffer(&as_numpy(&shared)?).ok_or_else(found)?;
    Ok((given, dtype))
}

fn no_output(found: &str) -> PyErr {
    PyTypeError::new_err(format!(
        "out: expected an array or a tensor of f32, f16, bf16, or of the table's own type, found \
         {found}"
    ))
}
