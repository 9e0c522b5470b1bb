//! `Table.bag`: rows of bags summed, averaged, or their largest elements.

use embmap::{BagOptions, DType, Pooling, Table};
use pyo3::exceptions::{PyIndexError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::dtype::numpy_dtype;
use crate::error::raised;
use crate::gather::{Like, lent, memory, typed, wrap};
use crate::ids::{Ids, Meaning};
use crate::numpy::Numpy;
use crate::torch::{as_numpy, tensor_of};
use crate::view::Given;

/// Where bags end, and the shape that they make.
pub(crate) struct Bags {
    offsets: Vec<u64>,
    shape: Vec<usize>,
}

/// How bags are pooled.
pub(crate) struct How {
    pub(crate) pooling: Pooling,
    pub(crate) padding: bool,
    pub(crate) threads: Option<usize>,
}

impl Bags {
    /// The bags that offsets make of ids; without them, each row of ids is one.
    pub(crate) fn of(ids: &Ids, offsets: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let wrong = |what: String| Err(PyValueError::new_err(format!("offsets: {what}")));
        let Some(offsets) = offsets else {
            let Some((&length, shape)) = ids.shape.split_last() else {
                return wrong(
                    "a single id is no bag; give ids of one dimension or more".to_owned(),
                );
            };
            let bags: usize = shape.iter().product();
            let offsets = (0..=bags).map(|bag| (bag * length) as u64).collect();
            return Ok(Bags { offsets, shape: shape.to_vec() });
        };
        if ids.shape.len() != 1 {
            let found = &ids.shape;
            return wrong(format!("they go with ids of one dimension, found the shape {found:?}"));
        }
        let any = Meaning { vocab: 1 << 63, from_end: false, padding: None };
        let taken = Ids::take(offsets, any).map_err(|error| {
            if error.is_instance_of::<PyIndexError>(offsets.py()) {
                return PyValueError::new_err("offsets: expected none below 0");
            }
            error
        })?;
        let [length] = taken.shape.as_slice() else {
            return wrong(format!("expected one dimension, found the shape {:?}", taken.shape));
        };
        Ok(Bags { offsets: taken.rows.clone(), shape: vec![length.saturating_sub(1)] })
    }
}

pub(crate) fn pooling(mode: &str) -> PyResult<Pooling> {
    match mode {
        "sum" => Ok(Pooling::Sum),
        "mean" => Ok(Pooling::Mean),
        "max" => Ok(Pooling::Max),
        other => Err(PyValueError::new_err(format!(
            "mode: expected \"sum\", \"mean\" or \"max\", found {other:?}"
        ))),
    }
}

/// One weight for each id, as `f32`.
pub(crate) fn weights(given: &Bound<'_, PyAny>, ids: &Ids) -> PyResult<Vec<f32>> {
    let py = given.py();
    let given = if tensor_of(given)?.is_some() { &as_numpy(given)? } else { given };
    let options = PyDict::new(py);
    options.set_item("dtype", "float32")?;
    options.set_item("order", "C")?;
    let array = Numpy::get(py)?.array.bind(py).call((given,), Some(&options))?;
    let memory = Given::by_buffer(&array);
    match memory.as_ref().and_then(Given::elements::<f32>) {
        Some(weights) if memory.as_ref().map(Given::shape) == Some(&ids.shape) => {
            Ok(weights.to_vec())
        }
        _ => Err(PyValueError::new_err(format!(
            "weights: expected one for each id, in the shape {:?}, found the shape {}",
            ids.shape,
            array.getattr("shape")?
        ))),
    }
}

/// Pools the rows of bags, into fresh memory or into Python's.
pub(crate) fn pool<'py>(
    py: Python<'py>,
    table: &Table,
    ids: &Ids,
    bags: &Bags,
    weights: Option<&[f32]>,
    out: Option<&Bound<'py, PyAny>>,
    how: &How,
) -> PyResult<Bound<'py, PyAny>> {
    let Bags { offsets, shape } = bags;
    let mut options = BagOptions::new();
    if let Some(threads) = how.threads {
        options = options.threads(threads);
    }
    if how.padding {
        options = options.padding_id(-1);
    }
    let pool = |out: &mut [u8], options: &BagOptions| {
        let out = typed::<f32>(out);
        table.embedding_bag_into_with(&ids.rows, offsets, weights, how.pooling, out, options)
    };
    if let Some(out) = out {
        let (mut given, dtype) = lent(out)?;
        if dtype != DType::F32 {
            return Err(PyValueError::new_err(format!("out: bags are f32, found {dtype}")));
        }
        let (bytes, stride) = given.rows_to_fill(shape, table.dim())?;
        if stride != table.dim() * size_of::<f32>() {
            options = options.row_stride(stride / size_of::<f32>());
        }
        py.detach(|| pool(bytes, &options)).map_err(raised)?;
        return Ok(out.clone());
    }
    let mut output = memory(shape.iter().product(), table.dim(), DType::F32)?;
    py.detach(|| pool(output.as_mut_slice(), &options)).map_err(raised)?;
    let array = numpy_dtype(py, DType::F32)?;
    let like = ids.torch.map_or(Like::Array(&array), Like::Tensor);
    wrap(py, output, shape, table.dim(), DType::F32, like)
}
