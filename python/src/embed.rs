//! Vectors of texts: `t.embed(texts)`.

use std::sync::Arc;

use embmap::{DType, StaticModel};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::dtype::numpy_dtype;
use crate::error::raised;
use crate::gather::{Like, memory, typed, wrap};
use crate::rows::Open;

/// The vectors of texts, of shape `(dim,)` for a str and `(n, dim)` for several.
pub(crate) fn embed<'py>(
    py: Python<'py>,
    open: &Arc<Open>,
    texts: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let one = texts.cast::<PyString>().ok();
    let texts = match one {
        Some(text) => vec![text.to_str()?.to_owned()],
        None => texts_of(texts)?,
    };
    let dim = open.table.dim();
    let mut output = memory(texts.len(), dim, DType::F32)?;
    py.detach(|| model(open)?.embed_into(&texts, typed::<f32>(output.as_mut_slice())))
        .map_err(raised)?;
    let lengths = [texts.len()];
    let shape: &[usize] = if one.is_some() { &[] } else { &lengths };
    let array = numpy_dtype(py, DType::F32)?;
    wrap(py, output, shape, dim, DType::F32, Like::Array(&array))
}

/// Every str that something has.
fn texts_of(given: &Bound<'_, PyAny>) -> PyResult<Vec<String>> {
    let found = |what: &Bound<'_, PyAny>| -> PyResult<PyErr> {
        let name = what.get_type().name()?;
        Ok(PyTypeError::new_err(format!(
            "expected a str, or several, found a value of type {name}"
        )))
    };
    let Ok(each) = given.try_iter() else { return Err(found(given)?) };
    let mut texts = Vec::new();
    for text in each {
        let text = text?;
        match text.cast::<PyString>() {
            Ok(text) => texts.push(text.to_str()?.to_owned()),
            Err(_) => return Err(found(&text)?),
        }
    }
    Ok(texts)
}

/// The model that the table is, read when it is first asked for.
fn model(open: &Open) -> embmap::Result<&StaticModel> {
    if let Some(model) = open.model.get() {
        return Ok(model);
    }
    let fresh = StaticModel::new(Arc::clone(&open.table))?;
    Ok(open.model.get_or_init(|| fresh))
}
