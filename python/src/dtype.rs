//! Element types by their names in embmap, numpy and torch.

use embmap::DType;
use pyo3::exceptions::{PyImportError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::numpy::Numpy;

/// embmap's name of a dtype, numpy's (and torch's), and whether numpy has it by itself.
const NAMES: [(DType, &str, bool); 4] = [
    (DType::F32, "float32", true),
    (DType::F16, "float16", true),
    (DType::BF16, "bfloat16", false),
    (DType::F64, "float64", true),
];

/// The numpy dtype of a dtype.
///
/// # Errors
///
/// An `ImportError` where it takes `ml_dtypes` and that is not installed.
pub(crate) fn numpy_dtype<'py>(py: Python<'py>, dtype: DType) -> PyResult<Bound<'py, PyAny>> {
    let constructor = Numpy::get(py)?.dtype.bind(py);
    let (_, name, numpy_has_it) = entry(dtype)?;
    if *numpy_has_it {
        return constructor.call1((*name,));
    }
    let Ok(module) = py.import("ml_dtypes") else {
        return Err(PyImportError::new_err(format!(
            "the table stores {dtype}, which numpy does not have: install ml_dtypes, ask for \
             gather(ids, dtype=\"f32\"), or give ids as a torch tensor"
        )));
    };
    constructor.call1((module.getattr(*name)?,))
}

/// The torch dtype of a dtype.
pub(crate) fn torch_dtype<'py>(
    torch: &Bound<'py, PyAny>,
    dtype: DType,
) -> PyResult<Bound<'py, PyAny>> {
    torch.getattr(entry(dtype)?.1)
}

fn entry(dtype: DType) -> PyResult<&'static (DType, &'static str, bool)> {
    NAMES.iter().find(|(known, ..)| *known == dtype).ok_or_else(|| {
        PyTypeError::new_err(format!("{dtype} has no numpy type; ask for dtype=\"f32\""))
    })
}

/// A dtype as Python says it: `"f32"`, `"float32"`, `numpy.float32`, a numpy dtype, a torch
/// dtype.
pub(crate) fn parse(asked: &Bound<'_, PyAny>) -> PyResult<DType> {
    let py = asked.py();
    let named = if asked.is_instance_of::<PyString>() || is_torch_dtype(asked)? {
        asked.str()?.to_string()
    } else {
        let numpy = Numpy::get(py)?.dtype.bind(py).call1((asked,))?;
        numpy.getattr("name")?.extract()?
    };
    let name = named.strip_prefix("torch.").unwrap_or(&named);
    let known = |entry: &&(DType, &str, bool)| entry.1 == name || entry.0.name() == name;
    NAMES.iter().find(known).map(|entry| entry.0).ok_or_else(|| {
        PyValueError::new_err(format!(
            "unknown dtype {named:?}, expected one of f32, f16, bf16, f64"
        ))
    })
}

fn is_torch_dtype(asked: &Bound<'_, PyAny>) -> PyResult<bool> {
    let kind = asked.get_type();
    Ok(kind.name()? == "dtype" && kind.module()? == "torch")
}
