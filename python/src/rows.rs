//! Rows in place: the runs of a table that Python may look at, and what `t[5]`, `t[2:9]` and the
//! array protocols make of them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use embmap::{Access, DType, StaticModel, Tokenizer};
use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PySlice;

use crate::dtype::{known_as, numpy_dtype};
use crate::gather::{self, is_stored_plain, usual_dtype};
use crate::ids::{Ids, Meaning};
use crate::numpy::Numpy;
use crate::view::{LentOutput, LentRows};

/// What an open table is made of.
pub(crate) struct Open {
    pub(crate) table: Arc<embmap::Table>,
    /// The runs of rows that lie in memory as plain elements; empty where there are none.
    runs: Vec<Run>,
    /// The numpy dtype that rows come as; `None` where numpy has none.
    numpy_type: Option<Py<PyAny>>,
    pub(crate) tokenizer: OnceLock<Tokenizer>,
    pub(crate) model: OnceLock<StaticModel>,
}

/// A run of rows.
struct Run {
    start: u64,
    end: u64,
    rows: Py<LentRows>,
    /// The read-only array over it; `None` where numpy has no dtype for it.
    array: Option<Py<PyAny>>,
}

impl Open {
    pub(crate) fn new(py: Python<'_>, table: embmap::Table) -> PyResult<Self> {
        let table = Arc::new(table);
        let numpy_type = numpy_dtype(py, usual_dtype(&table)).ok();
        let runs = runs(py, &table, numpy_type.as_ref())?;
        let numpy_type = numpy_type.map(Bound::unbind);
        let (tokenizer, model) = (OnceLock::new(), OnceLock::new());
        Ok(Open { table, runs, numpy_type, tokenizer, model })
    }

    pub(crate) fn meaning(&self, from_end: bool) -> Meaning {
        Meaning { vocab: self.table.vocab(), from_end, padding: None }
    }

    /// The array over the run of a row, and its first row.
    fn array_of<'py>(&self, py: Python<'py>, row: u64) -> Option<(&Run, &Bound<'py, PyAny>)> {
        let index = self.runs.partition_point(|run| run.start <= row).checked_sub(1)?;
        let run = self.runs.get(index).filter(|run| row < run.end)?;
        Some((run, run.array.as_ref()?.bind(py)))
    }

    /// The array over all rows, where they lie in one run.
    fn whole<'py>(&self, py: Python<'py>) -> Option<&Bound<'py, PyAny>> {
        match self.runs.as_slice() {
            [only] => Some(only.array.as_ref()?.bind(py)),
            _ => None,
        }
    }

    /// One row: a view where it can be.
    pub(crate) fn row<'py>(&self, py: Python<'py>, row: u64) -> PyResult<Bound<'py, PyAny>> {
        match self.array_of(py, row) {
            Some((run, array)) => array.get_item(row - run.start),
            None => self.copy(py, &Ids::one(row), None, None),
        }
    }

    /// The rows of a slice: a view where they lie in one run, else a copy.
    pub(crate) fn slice<'py>(&self, slice: &Bound<'py, PySlice>) -> PyResult<Bound<'py, PyAny>> {
        let py = slice.py();
        if let Some(array) = self.whole(py) {
            return array.get_item(slice);
        }
        let vocab = isize::try_from(self.table.vocab())
            .map_err(|_| PyValueError::new_err("more rows than Python can count"))?;
        let indices = slice.indices(vocab)?;
        let row = |position: isize| (indices.start + position * indices.step).unsigned_abs() as u64;
        let length = isize::try_from(indices.slicelength).unwrap_or(isize::MAX);
        if let (1.., 1..) = (length, indices.step)
            && let Some((run, array)) = self.array_of(py, row(0))
            && row(length - 1) < run.end
        {
            let first = indices.start - isize::try_from(run.start).unwrap_or(isize::MAX);
            let end = first + (length - 1) * indices.step + 1;
            return array.get_item(PySlice::new(py, first, end, indices.step));
        }
        self.copy(py, &Ids::run((0..length).map(row)), None, None)
    }

    /// The rows of ids, copied: of a dtype, or of the one that they come as.
    pub(crate) fn copy<'py>(
        &self,
        py: Python<'py>,
        ids: &Ids,
        dtype: Option<DType>,
        threads: Option<usize>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let usual = usual_dtype(&self.table);
        let dtype = dtype.unwrap_or(usual);
        let numpy_type = self.numpy_type.as_ref().map(|dtype| dtype.bind(py));
        let numpy_type = numpy_type.filter(|_| dtype == usual);
        gather::fresh(py, &self.table, ids, dtype, numpy_type, threads)
    }

    /// The whole table as an array: a view where it lies in one run, else a copy.
    pub(crate) fn array<'py>(
        &self,
        py: Python<'py>,
        dtype: Option<&Bound<'py, PyAny>>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let as_asked = |array: &Bound<'py, PyAny>| match dtype {
            None => Ok(true),
            Some(dtype) => array.getattr("dtype")?.eq(dtype),
        };
        if copy != Some(true)
            && let Some(array) = self.whole(py)
            && as_asked(array)?
        {
            return Ok(array.clone());
        }
        if copy == Some(false) {
            return Err(PyValueError::new_err(
                "the table cannot be seen as one array of that type without a copy",
            ));
        }
        let array = self.copy(py, &Ids::run(0..self.table.vocab()), None, None)?;
        if as_asked(&array)? { Ok(array) } else { array.call_method1("astype", (dtype,)) }
    }

    /// The whole table as a versioned DLPack capsule: in place and read-only, or a copy.
    pub(crate) fn dlpack<'py>(
        &self,
        py: Python<'py>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let in_place = match self.runs.as_slice() {
            [only] if copy != Some(true) => known_as(self.table.dtype()).zip(Some(only)),
            _ => None,
        };
        if let Some((known, run)) = in_place {
            match LentRows::capsule(run.rows.bind(py), known) {
                Ok(capsule) => return Ok(capsule.into_any()),
                // Rows that lie at odd places are copied where that is allowed.
                Err(error) if copy == Some(false) => return Err(error),
                Err(_) => {}
            }
        } else if copy == Some(false) {
            return Err(PyBufferError::new_err(
                "the table cannot be seen as one tensor without a copy",
            ));
        }
        let dtype = usual_dtype(&self.table);
        let known = known_as(dtype).ok_or_else(|| PyBufferError::new_err("no such dtype"))?;
        let ids = Ids::run(0..self.table.vocab());
        let lengths = vec![ids.rows.len(), self.table.dim()];
        let output = gather::filled(py, &self.table, &ids, dtype, None)?;
        let output = Bound::new(py, LentOutput::new(output))?;
        Ok(LentOutput::capsule(&output, lengths, known, true)?.into_any())
    }

    /// The model's tokenizer, read when it is first asked for.
    pub(crate) fn tokenizer(&self) -> embmap::Result<&Tokenizer> {
        if let Some(tokenizer) = self.tokenizer.get() {
            return Ok(tokenizer);
        }
        let fresh = self.table.tokenizer()?;
        Ok(self.tokenizer.get_or_init(|| fresh))
    }
}

/// The rows of a table one after the other, each as `t[5]` gives it.
#[pyclass(frozen, module = "embmap._embmap")]
pub(crate) struct EachRow {
    open: Arc<Open>,
    next: AtomicU64,
}

impl EachRow {
    pub(crate) fn new(open: Arc<Open>) -> Self {
        EachRow { open, next: AtomicU64::new(0) }
    }
}

#[pymethods]
impl EachRow {
    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let row = self.next.fetch_add(1, Ordering::Relaxed);
        if row < self.open.table.vocab() {
            return self.open.row(py, row).map(Some);
        }
        // It stays at its end, however often it is asked.
        self.next.store(self.open.table.vocab(), Ordering::Relaxed);
        Ok(None)
    }
}

/// The runs of a table, or none where its rows are no plain elements in memory.
fn runs(
    py: Python<'_>,
    table: &Arc<embmap::Table>,
    dtype: Option<&Bound<'_, PyAny>>,
) -> PyResult<Vec<Run>> {
    let mut runs = Vec::new();
    let in_memory = matches!(table.access(), Access::Map | Access::Memory);
    let known = known_as(table.dtype()).filter(|known| is_stored_plain(table, known.dtype));
    let Some(known) = known.filter(|_| in_memory) else { return Ok(runs) };
    let mut next = 0;
    while next < table.vocab() {
        let Ok((ids, _)) = table.encoded_extent(next) else { return Ok(Vec::new()) };
        let rows = Bound::new(py, LentRows::new(Arc::clone(table), next))?;
        let array = match dtype {
            None => None,
            Some(dtype) => {
                let shape = (ids.end - ids.start, table.dim()).into_pyobject(py)?;
                let strides = Some((table.row_stride(), known.size));
                let memory = rows.clone().into_any();
                Some(Numpy::get(py)?.over(shape, dtype, memory, strides)?.unbind())
            }
        };
        runs.push(Run { start: ids.start, end: ids.end, rows: rows.unbind(), array });
        next = ids.end;
    }
    Ok(runs)
}

/// What a DLPack consumer asked for, as far as a table on the CPU has a choice.
///
/// # Errors
///
/// A `BufferError` for another device, for a stream, and for who cannot be told that memory is
/// read-only.
pub(crate) fn check_consumer(
    stream: Option<&Bound<'_, PyAny>>,
    max_version: Option<(u32, u32)>,
    device: Option<(i32, i32)>,
) -> PyResult<()> {
    if stream.is_some() {
        return Err(PyBufferError::new_err("stream: a table on the CPU has none"));
    }
    if device.is_some_and(|(kind, _)| kind != 1) {
        return Err(PyBufferError::new_err("dl_device: the table is on the CPU, (1, 0)"));
    }
    if max_version.is_none_or(|(major, _)| major < 1) {
        return Err(PyBufferError::new_err(
            "max_version: rows are read-only, which only DLPack 1.0 and later can say; use \
             numpy.from_dlpack or torch.from_dlpack of versions that ask for it",
        ));
    }
    Ok(())
}
