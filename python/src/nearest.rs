//! `Table.nearest`: queries by id, token or vector, answers as arrays.

use embmap::{Metric, NearestOptions, Neighbour, Table};
use pyo3::exceptions::{PyKeyError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyDict, PyString};

use crate::error::raised;
use crate::ids::{Ids, Meaning, is_single, row_of};
use crate::numpy::Numpy;
use crate::progress::Progress;
use crate::torch::{as_numpy, tensor_of};
use crate::view::Given;

/// What is asked for.
struct Queries {
    /// One after the other.
    vectors: Vec<f32>,
    /// How many, or none for a single one that is answered by itself.
    shape: Vec<usize>,
    /// The rows that the queries are, where they are rows.
    rows: Vec<u64>,
}

/// What the keywords say.
pub(crate) struct How<'a, 'py> {
    pub(crate) k: usize,
    pub(crate) metric: &'a str,
    pub(crate) exclude: Option<&'a Bound<'py, PyAny>>,
    pub(crate) threads: Option<usize>,
    pub(crate) progress: Option<&'a Py<PyAny>>,
}

/// Searches, and tells what was found as `embmap.Nearest`.
pub(crate) fn nearest<'py>(
    py: Python<'py>,
    table: &Table,
    asked: &Bound<'py, PyAny>,
    how: &How<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let metric = match how.metric {
        "cosine" => Metric::Cosine,
        "dot" => Metric::Dot,
        other => {
            return Err(PyValueError::new_err(format!(
                "metric: expected \"cosine\" or \"dot\", found {other:?}"
            )));
        }
    };
    let Queries { vectors, shape, rows } = queries(py, table, asked)?;
    let mut options = NearestOptions::new();
    if let Some(threads) = how.threads {
        options = options.threads(threads);
    }
    if let Some(exclude) = how.exclude {
        let Asked::Rows(_, rows) = rows_of(table, exclude)? else {
            return Err(PyTypeError::new_err("exclude: expected ids or tokens"));
        };
        options = options.exclude(rows);
    }
    if !rows.is_empty() {
        // A row is nearest to itself, which nobody asks for.
        options = options.exclude_each(rows.iter().map(|row| vec![*row]).collect());
    }
    let (k, mut progress) = (how.k, Progress::new(how.progress));
    let found = py.detach(|| {
        let step = |done, total| progress.step(done, total);
        table.nearest_while(&vectors, k, metric, &options, step)
    });
    match (found, progress.stopped()) {
        (_, Some(error)) => Err(error),
        (found, None) => told(py, &found.map_err(raised)?, shape, k),
    }
}

fn queries(py: Python<'_>, table: &Table, asked: &Bound<'_, PyAny>) -> PyResult<Queries> {
    let array = match rows_of(table, asked)? {
        Asked::Rows(shape, rows) => return of_rows(py, table, shape, rows),
        Asked::Array(array) => array,
    };
    let options = PyDict::new(py);
    options.set_item("dtype", "float32")?;
    options.set_item("order", "C")?;
    let array = Numpy::get(py)?.array.bind(py).call((array,), Some(&options))?;
    let memory = Given::by_buffer(&array);
    let vectors = memory.as_ref().and_then(Given::elements::<f32>);
    let shape = memory.as_ref().map_or(&[][..], Given::shape);
    let shape = match shape {
        [dim] if *dim == table.dim() => Some(Vec::new()),
        [count, dim] if *dim == table.dim() => Some(vec![*count]),
        _ => None,
    };
    match (vectors, shape) {
        (Some(vectors), Some(shape)) => {
            Ok(Queries { vectors: vectors.to_vec(), shape, rows: Vec::new() })
        }
        _ => Err(PyValueError::new_err(format!(
            "expected ids, tokens, or vectors of shape ({0},) or (n, {0}), found the shape {1}",
            table.dim(),
            array.getattr("shape")?
        ))),
    }
}

/// The rows themselves are the queries, and no answers to them.
fn of_rows(py: Python<'_>, table: &Table, shape: Vec<usize>, rows: Vec<u64>) -> PyResult<Queries> {
    if shape.len() > 1 {
        return Err(PyValueError::new_err(format!(
            "expected ids of one dimension, found the shape {shape:?}"
        )));
    }
    let vectors = py.detach(|| table.gather::<_, f32>(&rows)).map_err(raised)?;
    Ok(Queries { vectors, shape, rows })
}

/// What stands for rows or vectors.
enum Asked<'py> {
    /// Rows by ids or tokens, and their shape: none for a single one.
    Rows(Vec<usize>, Vec<u64>),
    /// Something else, as an array.
    Array(Bound<'py, PyAny>),
}

fn rows_of<'py>(table: &Table, asked: &Bound<'py, PyAny>) -> PyResult<Asked<'py>> {
    let py = asked.py();
    if let Ok(token) = asked.cast::<PyString>() {
        return Ok(Asked::Rows(Vec::new(), vec![row_of_token(table, token)?]));
    }
    if is_single(asked)? {
        return Ok(Asked::Rows(Vec::new(), vec![row_of(asked, table.vocab())?]));
    }
    let shared = if tensor_of(asked)?.is_some() { as_numpy(asked)? } else { asked.clone() };
    let array = py.import("numpy")?.call_method1("asarray", (shared,))?;
    let kind: String = array.getattr("dtype")?.getattr("kind")?.extract()?;
    match kind.as_str() {
        "U" => {
            let tokens = asked.try_iter()?.map(|token| row_of_token(table, token?.cast()?));
            let rows = tokens.collect::<PyResult<Vec<_>>>()?;
            Ok(Asked::Rows(vec![rows.len()], rows))
        }
        "i" | "u" => {
            let meaning = Meaning { vocab: table.vocab(), from_end: true, padding: None };
            let ids = Ids::take(&array, meaning)?;
            Ok(Asked::Rows(ids.shape.clone(), ids.rows.clone()))
        }
        "b" | "O" | "S" => Err(PyTypeError::new_err(format!(
            "expected ids, tokens or vectors, found an array of {}",
            array.getattr("dtype")?
        ))),
        _ => Ok(Asked::Array(array)),
    }
}

fn row_of_token(table: &Table, token: &Bound<'_, PyString>) -> PyResult<u64> {
    let text = token.to_str()?;
    let row = token.py().detach(|| table.id_of(text)).map_err(raised)?;
    let row = row.filter(|row| *row < table.vocab());
    row.ok_or_else(|| PyKeyError::new_err(format!("no row has the token {text:?}")))
}

/// The answers as arrays; where there are fewer than `k`, the last ids are -1, as faiss has it.
fn told<'py>(
    py: Python<'py>,
    found: &[Vec<Neighbour>],
    mut shape: Vec<usize>,
    k: usize,
) -> PyResult<Bound<'py, PyAny>> {
    let each = || {
        found.iter().flat_map(|found| {
            let missing = std::iter::repeat_n((-1, f32::NAN), k - found.len().min(k));
            found.iter().map(|it| (it.id.cast_signed(), it.score)).chain(missing)
        })
    };
    let ids: Vec<i64> = each().map(|(id, _)| id).collect();
    let scores: Vec<f32> = each().map(|(_, score)| score).collect();
    shape.push(k);
    let numpy = py.import("numpy")?;
    let array = |bytes: &[u8], dtype: &str| {
        let memory = PyByteArray::new(py, bytes);
        numpy.call_method1("frombuffer", (memory, dtype))?.call_method1("reshape", (&shape,))
    };
    let ids = array(bytemuck::cast_slice(&ids), "int64")?;
    let scores = array(bytemuck::cast_slice(&scores), "float32")?;
    py.import("embmap")?.getattr("Nearest")?.call1((ids, scores))
}
