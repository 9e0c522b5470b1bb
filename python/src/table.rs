//! The class `embmap.Table`.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use embmap::{Access, Tokenizer};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PySlice, PyTuple};

use crate::bags;
use crate::dtype::{numpy_dtype, parse};
use crate::error::{closed, raised};
use crate::gather::{self, is_stored_plain, usual_dtype};
use crate::ids::{self, Ids, Meaning};
use crate::numpy::Numpy;
use crate::open::Opening;
use crate::view::LentRows;

/// An embedding table, open for reading: rows by id, as numpy arrays or torch tensors.
///
/// Made by embmap.open. t[5] and t[2:9] are views where the table lies in memory, t[ids] and
/// t.gather(ids) are copies.
#[pyclass(frozen, weakref, module = "embmap")]
pub(crate) struct Table {
    opening: Opening,
    /// Taken by `close`.
    open: Mutex<Option<Arc<Open>>>,
}

/// What an open table is made of.
pub(crate) struct Open {
    table: Arc<embmap::Table>,
    /// The runs of rows that Python may look at in place; empty where there are none.
    runs: Vec<Run>,
    /// The numpy dtype that rows come as; `None` where numpy has none.
    numpy_type: Option<Py<PyAny>>,
    tokenizer: OnceLock<Tokenizer>,
}

/// A run of rows, and the read-only array over it.
struct Run {
    start: u64,
    end: u64,
    array: Py<PyAny>,
}

impl Open {
    fn new(py: Python<'_>, table: embmap::Table) -> PyResult<Self> {
        let table = Arc::new(table);
        let numpy_type = numpy_dtype(py, usual_dtype(&table)).ok();
        let runs = match &numpy_type {
            Some(dtype) => runs(&table, dtype)?,
            None => Vec::new(),
        };
        let numpy_type = numpy_type.map(Bound::unbind);
        Ok(Open { table, runs, numpy_type, tokenizer: OnceLock::new() })
    }

    fn run_of(&self, row: u64) -> Option<&Run> {
        let index = self.runs.partition_point(|run| run.start <= row).checked_sub(1)?;
        self.runs.get(index).filter(|run| row < run.end)
    }

    /// One row: a view where it can be.
    fn row<'py>(&self, py: Python<'py>, row: u64) -> PyResult<Bound<'py, PyAny>> {
        match self.run_of(row) {
            Some(run) => run.array.bind(py).get_item(row - run.start),
            None => self.copy(py, &Ids::one(row), None, None),
        }
    }

    /// The rows of a slice: a view where they lie in one run, else a copy.
    fn slice<'py>(&self, slice: &Bound<'py, PySlice>) -> PyResult<Bound<'py, PyAny>> {
        let py = slice.py();
        if let [only] = self.runs.as_slice() {
            return only.array.bind(py).get_item(slice);
        }
        let vocab = isize::try_from(self.table.vocab())
            .map_err(|_| PyValueError::new_err("more rows than Python can count"))?;
        let indices = slice.indices(vocab)?;
        let row = |position: isize| indices.start + position * indices.step;
        let length = isize::try_from(indices.slicelength).unwrap_or(isize::MAX);
        if let (1.., 1..) = (length, indices.step)
            && let Some(run) = self.run_of(row(0).unsigned_abs() as u64)
            && (row(length - 1).unsigned_abs() as u64) < run.end
        {
            let first = row(0) - isize::try_from(run.start).unwrap_or(isize::MAX);
            let end = first + (length - 1) * indices.step + 1;
            return run.array.bind(py).get_item(PySlice::new(py, first, end, indices.step));
        }
        let ids = Ids::run((0..length).map(|position| row(position).unsigned_abs() as u64));
        self.copy(py, &ids, None, None)
    }

    fn copy<'py>(
        &self,
        py: Python<'py>,
        ids: &Ids,
        dtype: Option<embmap::DType>,
        threads: Option<usize>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let usual = usual_dtype(&self.table);
        let dtype = dtype.unwrap_or(usual);
        let numpy_type = self.numpy_type.as_ref().map(|dtype| dtype.bind(py));
        let numpy_type = numpy_type.filter(|_| dtype == usual);
        gather::fresh(py, &self.table, ids, dtype, numpy_type, threads)
    }

    fn meaning(&self, from_end: bool) -> Meaning {
        Meaning { vocab: self.table.vocab(), from_end, padding: None }
    }
}

/// Read-only arrays over the runs of a table, or none where its rows are no plain elements in
/// memory.
fn runs(table: &Arc<embmap::Table>, dtype: &Bound<'_, PyAny>) -> PyResult<Vec<Run>> {
    let mut runs = Vec::new();
    let in_memory = matches!(table.access(), Access::Map | Access::Memory);
    if !in_memory || !is_stored_plain(table, table.dtype()) {
        return Ok(runs);
    }
    let (py, element) = (dtype.py(), table.dtype().size());
    let mut next = 0;
    while next < table.vocab() {
        let Ok((ids, _)) = table.encoded_extent(next) else { return Ok(Vec::new()) };
        let shape = (ids.end - ids.start, table.dim()).into_pyobject(py)?;
        let rows = Bound::new(py, LentRows::new(Arc::clone(table), next))?.into_any();
        let strides = Some((table.row_stride(), element));
        let array = Numpy::get(py)?.over(shape, dtype, rows, strides)?.unbind();
        runs.push(Run { start: ids.start, end: ids.end, array });
        next = ids.end;
    }
    Ok(runs)
}

impl Table {
    pub(crate) fn open(py: Python<'_>, opening: Opening) -> PyResult<Self> {
        let open = Open::new(py, opening.open(py)?)?;
        Ok(Table { opening, open: Mutex::new(Some(Arc::new(open))) })
    }

    /// The open table. The lock is held for no longer than a pointer takes to copy.
    fn get(&self) -> PyResult<Arc<Open>> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.as_ref().map(Arc::clone).ok_or_else(|| closed("table"))
    }

    /// The library's table, for `embmap.convert`.
    pub(crate) fn shared(&self) -> PyResult<Arc<embmap::Table>> {
        Ok(Arc::clone(&self.get()?.table))
    }
}

#[pymethods]
impl Table {
    fn __len__(&self) -> PyResult<usize> {
        let vocab = self.get()?.table.vocab();
        usize::try_from(vocab).map_err(|_| PyValueError::new_err("more rows than Python can count"))
    }

    /// (vocab, dim)
    #[getter]
    fn shape(&self) -> PyResult<(u64, usize)> {
        let open = self.get()?;
        Ok((open.table.vocab(), open.table.dim()))
    }

    /// 2, as for any matrix.
    #[getter]
    fn ndim(&self) -> usize {
        2
    }

    /// The number of rows.
    #[getter]
    fn vocab(&self) -> PyResult<u64> {
        Ok(self.get()?.table.vocab())
    }

    /// The number of elements in a row.
    #[getter]
    fn dim(&self) -> PyResult<usize> {
        Ok(self.get()?.table.dim())
    }

    /// The numpy dtype that rows come as. For bf16 that takes ml_dtypes.
    #[getter]
    fn dtype<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        numpy_dtype(py, usual_dtype(&self.get()?.table))
    }

    /// The name of the element type as stored: "f32", "f16", "bf16", ...
    #[getter]
    fn stored(&self) -> PyResult<&'static str> {
        Ok(self.get()?.table.dtype().name())
    }

    /// How the rows are encoded: "plain", ...
    #[getter]
    fn codec(&self) -> PyResult<&'static str> {
        Ok(self.get()?.table.codec().name())
    }

    /// How the bytes are reached: "map", "read", "direct" or "memory".
    #[getter]
    fn access(&self) -> PyResult<&'static str> {
        Ok(self.get()?.table.access().name())
    }

    /// The path that was opened.
    #[getter]
    fn path(&self) -> PathBuf {
        self.opening.path.clone()
    }

    /// The format of the files: "emb", "safetensors", ...
    #[getter]
    fn format(&self) -> PyResult<&'static str> {
        Ok(self.get()?.table.info().format)
    }

    /// The tensor of a checkpoint that the table is; None for other formats.
    #[getter]
    fn tensor(&self) -> PyResult<Option<String>> {
        Ok(self.get()?.table.info().tensor.clone())
    }

    /// The metadata of an .emb file, or None.
    #[getter]
    fn metadata<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let open = self.get()?;
        let Some(text) = open.table.metadata().map_err(raised)? else { return Ok(None) };
        py.import("json")?.call_method1("loads", (text.as_ref(),)).map(Some)
    }

    /// True after close().
    #[getter]
    fn closed(&self) -> bool {
        self.get().is_err()
    }

    /// t[5], t[2:9], t[ids].
    fn __getitem__<'py>(&self, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let (py, open) = (key.py(), self.get()?);
        if ids::is_single(key)? {
            return open.row(py, ids::row_of(key, open.table.vocab())?);
        }
        if let Ok(slice) = key.cast::<PySlice>() {
            return open.slice(slice);
        }
        if key.is_instance_of::<PyTuple>() {
            return Err(PyTypeError::new_err(
                "expected ids, found a tuple; a table has rows alone: t[row][column], or \
                 t[[1, 2]] for several",
            ));
        }
        open.copy(py, &Ids::take(key, open.meaning(true))?, None, None)
    }

    /// The rows of ids, of shape ids.shape + (dim,), copied.
    ///
    /// With out, they are written there: an array or a tensor of f32, f16 or bf16, or of the
    /// stored type, whose rows may be apart. Else they are fresh, of dtype, or as stored.
    /// Where the ids are a torch tensor, the rows are one too. Negative ids count from the
    /// end, or are refused with from_end=False.
    #[pyo3(signature = (ids, out=None, dtype=None, threads=None, *, from_end=true))]
    fn gather<'py>(
        &self,
        py: Python<'py>,
        ids: &Bound<'py, PyAny>,
        out: Option<&Bound<'py, PyAny>>,
        dtype: Option<&Bound<'py, PyAny>>,
        threads: Option<usize>,
        from_end: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let open = self.get()?;
        let ids = Ids::take(ids, open.meaning(from_end))?;
        let dtype = dtype.map(parse).transpose()?;
        match out {
            Some(out) => gather::into(&open.table, &ids, out, dtype, threads),
            None => open.copy(py, &ids, dtype, threads),
        }
    }

    /// Pools the rows of each bag of ids into one, in f32: mode is "sum", "mean" or "max".
    ///
    /// Bag i is ids[offsets[i]:offsets[i + 1]]: there is one offset more than there are bags,
    /// and the last is the number of ids. Without offsets each row of ids is a bag. weights
    /// go with "sum" and "mean", one for each id. Ids that are padding_id are left out.
    #[pyo3(signature = (
        ids, offsets=None, mode="mean", weights=None, *, out=None, padding_id=None, threads=None,
        from_end=true
    ))]
    #[expect(clippy::too_many_arguments, reason = "they are keywords in Python")]
    fn bag<'py>(
        &self,
        py: Python<'py>,
        ids: &Bound<'py, PyAny>,
        offsets: Option<&Bound<'py, PyAny>>,
        mode: &str,
        weights: Option<&Bound<'py, PyAny>>,
        out: Option<&Bound<'py, PyAny>>,
        padding_id: Option<i64>,
        threads: Option<usize>,
        from_end: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let open = self.get()?;
        let pooling = bags::pooling(mode)?;
        let ids = Ids::take(ids, Meaning { padding: padding_id, ..open.meaning(from_end) })?;
        let weights = weights.map(|weights| bags::weights(weights, &ids)).transpose()?;
        let bags = bags::Bags::of(&ids, offsets)?;
        let how = bags::How { pooling, padding: padding_id.is_some(), threads };
        bags::pool(py, &open.table, &ids, &bags, weights.as_deref(), out, &how)
    }

    /// Starts reading the rows of ids, and does not wait for them.
    #[pyo3(signature = (ids, *, from_end=true))]
    fn prefetch(&self, py: Python<'_>, ids: &Bound<'_, PyAny>, from_end: bool) -> PyResult<()> {
        let open = self.get()?;
        let ids = Ids::take(ids, open.meaning(from_end))?;
        py.detach(|| open.table.prefetch(&ids.rows)).map_err(raised)
    }

    /// Reads rows into the page cache, in the order of the file; all, unless said.
    #[pyo3(signature = (start=0, stop=None))]
    fn warm(&self, py: Python<'_>, start: u64, stop: Option<u64>) -> PyResult<()> {
        let open = self.get()?;
        let stop = stop.unwrap_or(open.table.vocab());
        py.detach(|| open.table.warm(start..stop)).map_err(raised)
    }

    /// Brings rows into this process's page tables too, so that their first touch costs nothing.
    #[pyo3(signature = (start=0, stop=None))]
    fn prefault(&self, py: Python<'_>, start: u64, stop: Option<u64>) -> PyResult<()> {
        let open = self.get()?;
        let stop = stop.unwrap_or(open.table.vocab());
        py.detach(|| open.table.prefault(start..stop)).map_err(raised)
    }

    /// Takes the rows out of this process's resident set; the page cache keeps them, and
    /// arrays over them stay valid.
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        let open = self.get()?;
        py.detach(|| open.table.release()).map_err(raised)
    }

    /// How much of the rows is in memory, in bytes: total, cached and mapped.
    fn residency<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let open = self.get()?;
        let found = py.detach(|| open.table.residency()).map_err(raised)?;
        let class = py.import("embmap")?.getattr("Residency")?;
        class.call1((found.total_bytes, found.cached_bytes, found.mapped_bytes))
    }

    /// Raises where the files are no longer what was opened.
    fn check_alive(&self, py: Python<'_>) -> PyResult<()> {
        let open = self.get()?;
        py.detach(|| open.table.check_alive()).map_err(raised)
    }

    /// The token of a row, in the vocabulary's own spelling; None where it has none.
    fn token<'py>(&self, id: &Bound<'py, PyAny>) -> PyResult<Option<String>> {
        let open = self.get()?;
        let count = open.table.token_count().map_err(raised)?.max(open.table.vocab());
        let row = ids::row_of(id, count)?;
        let token = id.py().detach(|| open.table.token(row).map_err(raised))?;
        Ok(token.map(|token| token.into_owned()))
    }

    /// The lowest id of a token; None where no row has it.
    fn id_of(&self, py: Python<'_>, token: &str) -> PyResult<Option<u64>> {
        let open = self.get()?;
        py.detach(|| open.table.id_of(token)).map_err(raised)
    }

    /// The ids of a text's tokens, by the model's own tokenizer; special_tokens are those that
    /// the model puts around a text.
    #[pyo3(signature = (text, *, special_tokens=true))]
    fn encode(&self, py: Python<'_>, text: &str, special_tokens: bool) -> PyResult<Vec<u32>> {
        let open = self.get()?;
        let encoded = py.detach(|| {
            let tokenizer = match open.tokenizer.get() {
                Some(tokenizer) => tokenizer,
                None => {
                    let fresh = open.table.tokenizer()?;
                    open.tokenizer.get_or_init(|| fresh)
                }
            };
            tokenizer.encode(text, special_tokens)
        });
        Ok(encoded.map_err(raised)?.into_iter().map(|token| token.id).collect())
    }

    /// Closes the table. Arrays over it stay valid, and what they lie in is unmapped when the
    /// last of them is gone.
    fn close(&self) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(open);
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, _exception: &Bound<'_, PyTuple>) {
        self.close();
    }

    fn __repr__(&self) -> String {
        let path = self.opening.path.display();
        let Ok(open) = self.get() else { return format!("<embmap.Table {path}: closed>") };
        let table = &open.table;
        let tensor = table.info().tensor.as_ref().map_or(String::new(), |name| format!(" {name}"));
        format!(
            "<embmap.Table {path}: {} x {} {}, {}{tensor}, {}>",
            table.vocab(),
            table.dim(),
            table.dtype(),
            table.info().format,
            table.access().name()
        )
    }

    /// Pickles as the path and the options: whoever unpickles it opens the same files.
    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        self.get()?;
        let reopen = py.import("embmap")?.getattr("_reopen")?;
        let path = self.opening.absolute.as_path();
        (reopen, (path, self.opening.keywords(py)?)).into_pyobject(py)
    }

    /// The whole table as an array: a view where it lies in one run, else a copy.
    #[pyo3(signature = (dtype=None, copy=None))]
    fn __array__<'py>(
        &self,
        py: Python<'py>,
        dtype: Option<&Bound<'py, PyAny>>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let open = self.get()?;
        let in_place = match open.runs.as_slice() {
            [only] => Some(only.array.bind(py).clone()),
            _ => None,
        };
        let as_asked = |array: &Bound<'py, PyAny>| match dtype {
            None => Ok(true),
            Some(dtype) => array.getattr("dtype")?.eq(dtype),
        };
        if copy != Some(true)
            && let Some(array) = &in_place
            && as_asked(array)?
        {
            return Ok(array.clone());
        }
        if copy == Some(false) {
            return Err(PyValueError::new_err(
                "the table cannot be seen as one array of that type without a copy",
            ));
        }
        let array = match in_place {
            Some(array) => array.call_method0("copy")?,
            None => open.copy(py, &Ids::run(0..open.table.vocab()), None, None)?,
        };
        if as_asked(&array)? { Ok(array) } else { array.call_method1("astype", (dtype,)) }
    }

    /// The whole table for other libraries, read-only: as numpy does it for a view.
    #[pyo3(signature = (**options))]
    fn __dlpack__<'py>(
        &self,
        py: Python<'py>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.__array__(py, None, Some(false))?.call_method("__dlpack__", (), options)
    }

    /// (1, 0): the CPU.
    fn __dlpack_device__(&self) -> (i32, i32) {
        (1, 0)
    }
}
