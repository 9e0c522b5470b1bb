//! Element types by their names in embmap, numpy and torch.

use embmap::DType;
use pyo3::exceptions::{PyImportError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::numpy::Numpy;
use crate::torch::Torch;

/// An element type that numpy or torch has too.
pub(crate) struct Known {
    pub(crate) dtype: DType,
    /// The name that numpy, `ml_dtypes` and torch have for it.
    pub(crate) name: &'static str,
    /// The bytes of an element.
    pub(crate) size: usize,
    /// Who has it for numpy.
    home: Home,
    /// What DLPack calls it: the code of its kind.
    pub(crate) dlpack: u8,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Home {
    Numpy,
    MlDtypes,
}

const fn known(dtype: DType, name: &'static str, size: usize, home: Home, dlpack: u8) -> Known {
    Known { dtype, name, size, home, dlpack }
}

/// The codes are those of `DLDataTypeCode` in DLPack 1.1.
pub(crate) const KNOWN: [Known; 10] = [
    known(DType::F32, "float32", 4, Home::Numpy, 2),
    known(DType::F16, "float16", 2, Home::Numpy, 2),
    known(DType::BF16, "bfloat16", 2, Home::MlDtypes, 4),
    known(DType::F64, "float64", 8, Home::Numpy, 2),
    known(DType::F8E4M3, "float8_e4m3fn", 1, Home::MlDtypes, 10),
    known(DType::F8E5M2, "float8_e5m2", 1, Home::MlDtypes, 12),
    known(DType::F8E4M3Fnuz, "float8_e4m3fnuz", 1, Home::MlDtypes, 11),
    known(DType::F8E5M2Fnuz, "float8_e5m2fnuz", 1, Home::MlDtypes, 13),
    known(DType::I8, "int8", 1, Home::Numpy, 0),
    known(DType::U8, "uint8", 1, Home::Numpy, 1),
];

impl Known {
    /// The bits of an element.
    pub(crate) fn bits(&self) -> u8 {
        u8::try_from(8 * self.size).unwrap_or(0)
    }
}

/// What is known of a dtype, or `None` for those whose elements nobody else has: packed ones
/// and blocks.
pub(crate) fn known_as(dtype: DType) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.dtype == dtype)
}

/// A dtype that numpy or torch has under a name.
pub(crate) fn named(name: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.name == name)
}

fn entry(dtype: DType) -> PyResult<&'static Known> {
    known_as(dtype).ok_or_else(|| {
        PyTypeError::new_err(format!("{dtype} has no numpy type; ask for dtype=\"f32\""))
    })
}

/// The numpy dtype of a dtype.
///
/// # Errors
///
/// An `ImportError` where it takes `ml_dtypes` and that is not installed.
pub(crate) fn numpy_dtype(py: Python<'_>, dtype: DType) -> PyResult<Bound<'_, PyAny>> {
    let constructor = Numpy::get(py)?.dtype.bind(py);
    let Known { name, home, .. } = entry(dtype)?;
    if *home == Home::Numpy {
        return constructor.call1((*name,));
    }
    let kind = py.import("ml_dtypes").and_then(|module| module.getattr(*name));
    let kind = kind.map_err(|_| {
        PyImportError::new_err(format!(
            "the table stores {dtype}, which numpy does not have: install ml_dtypes, ask for \
             gather(ids, dtype=\"f32\"), or give ids as a torch tensor"
        ))
    })?;
    constructor.call1((kind,))
}

/// The numpy dtype of integers that lie as a dtype's elements do: for what numpy has not itself.
pub(crate) fn carrier(py: Python<'_>, dtype: DType) -> PyResult<Bound<'_, PyAny>> {
    let numpy = Numpy::get(py)?;
    let Known { home, size, .. } = entry(dtype)?;
    match (home, size) {
        (Home::Numpy, _) => numpy_dtype(py, dtype),
        (Home::MlDtypes, 1) => Ok(numpy.int8.bind(py).clone()),
        (Home::MlDtypes, _) => Ok(numpy.int16.bind(py).clone()),
    }
}

/// True where numpy has a dtype only through `ml_dtypes`, and torch takes it from numpy only as
/// integers.
pub(crate) fn is_carried(dtype: DType) -> bool {
    known_as(dtype).is_some_and(|known| known.home == Home::MlDtypes)
}

/// A dtype as Python says it: `"f32"`, `"float32"`, `numpy.float32`, a numpy dtype, a torch
/// dtype.
pub(crate) fn parse(asked: &Bound<'_, PyAny>) -> PyResult<DType> {
    let py = asked.py();
    if let Some(dtype) = Torch::get(py)?.and_then(|torch| torch.dtype_of(asked)) {
        return Ok(dtype);
    }
    let kind = asked.get_type();
    let is_torch = kind.name()? == "dtype" && kind.module()? == "torch";
    let text: String = if asked.is_instance_of::<PyString>() || is_torch {
        asked.str()?.extract()?
    } else {
        let numpy = Numpy::get(py)?.dtype.bind(py).call1((asked,))?;
        numpy.getattr("name")?.extract()?
    };
    let name = text.strip_prefix("torch.").unwrap_or(&text);
    if let Some(known) = named(name) {
        return Ok(known.dtype);
    }
    name.parse().map_err(|unknown| PyValueError::new_err(format!("dtype: {text:?}: {unknown}")))
}
