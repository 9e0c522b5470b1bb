//! The class `embmap.Table`.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PySlice, PyString, PyTuple};

use crate::bags;
use crate::dtype::{numpy_dtype, parse};
use crate::embed;
use crate::error::{closed, raised};
use crate::gather::{self, usual_dtype};
use crate::ids::{self, Ids, Meaning};
use crate::nearest;
use crate::open::Opening;
use crate::rows::{EachRow, Open, check_consumer};
use crate::verify;
use crate::warming::Warming;

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

    /// Does something to all rows of a range, and looks now and then whether to stop.
    fn piecewise(
        &self,
        py: Python<'_>,
        start: u64,
        stop: Option<u64>,
        work: impl Fn(&embmap::Table, Range<u64>) -> embmap::Result<()> + Sync,
    ) -> PyResult<()> {
        /// The bytes between two looks: a fraction of a second, and more than a read.
        const PIECE: u64 = 256 << 20;
        let open = self.get()?;
        let stop = stop.unwrap_or(open.table.vocab());
        // The whole range is checked before any of it is read.
        py.detach(|| work(&open.table, stop..stop).and_then(|()| work(&open.table, start..start)))
            .map_err(raised)?;
        let rows = (PIECE / open.table.row_stride().max(1)).max(1);
        let mut next = start;
        while next < stop {
            let end = stop.min(next.saturating_add(rows));
            py.detach(|| work(&open.table, next..end)).map_err(raised)?;
            py.check_signals()?;
            next = end;
        }
        Ok(())
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
    #[classattr]
    fn ndim() -> usize {
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

    /// The bytes of one encoded row, without padding.
    #[getter]
    fn row_bytes(&self) -> PyResult<u64> {
        Ok(self.get()?.table.row_bytes())
    }

    /// The files that hold rows.
    #[getter]
    fn files(&self) -> PyResult<Vec<PathBuf>> {
        Ok(self.get()?.table.info().files.clone())
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

    /// True for the tokens of the table.
    fn __contains__(&self, token: &Bound<'_, PyAny>) -> PyResult<bool> {
        let Ok(token) = token.cast::<PyString>() else {
            return Err(PyTypeError::new_err("expected a token; which rows there are, len tells"));
        };
        Ok(self.id_of(token.py(), token.to_str()?)?.is_some())
    }

    /// All rows, in the order of their ids.
    fn __iter__(&self) -> PyResult<EachRow> {
        Ok(EachRow::new(self.get()?))
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
        if key.is_instance_of::<PyString>() {
            return Err(PyTypeError::new_err(
                "expected ids as integers, found a str; t[t.id_of(token)] is the row of a token",
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
        self.piecewise(py, start, stop, embmap::Table::warm)
    }

    /// Does what warm does in a thread of its own, while gathers go on; see Warming.
    #[pyo3(signature = (start=0, stop=None))]
    fn warm_in_background(&self, start: u64, stop: Option<u64>) -> PyResult<Warming> {
        let open = self.get()?;
        let stop = stop.unwrap_or(open.table.vocab());
        open.table.warm_in_background(start..stop).map(Warming::new).map_err(raised)
    }

    /// Brings rows into this process's page tables too, so that their first touch costs nothing.
    #[pyo3(signature = (start=0, stop=None))]
    fn prefault(&self, py: Python<'_>, start: u64, stop: Option<u64>) -> PyResult<()> {
        self.piecewise(py, start, stop, embmap::Table::prefault)
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
        told(py, &py.detach(|| open.table.residency()).map_err(raised)?)
    }

    /// Takes the rows out of the page cache, as far as the system lets them go, and tells what
    /// stayed: for measuring how cold rows come.
    fn evict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let open = self.get()?;
        told(py, &py.detach(|| open.table.evict()).map_err(raised)?)
    }

    /// Compares every checksum, rule and padding byte of the file, and counts its NaNs and
    /// infinities; reads the whole file. progress(done, total) is called now and then.
    #[pyo3(signature = (*, progress=None))]
    fn verify<'py>(
        &self,
        py: Python<'py>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        verify::verify(py, &self.get()?.table, progress.as_ref())
    }

    /// Raises where the files are no longer what was opened.
    fn check_alive(&self, py: Python<'_>) -> PyResult<()> {
        let open = self.get()?;
        py.detach(|| open.table.check_alive()).map_err(raised)
    }

    /// The token of a row, in the vocabulary's own spelling; None where it has none.
    ///
    /// Negative ids count from the last row; tokens beyond that have ids too.
    fn token(&self, id: &Bound<'_, PyAny>) -> PyResult<Option<String>> {
        let open = self.get()?;
        let count = open.table.token_count().map_err(raised)?.max(open.table.vocab());
        let row = ids::row_of(id, open.table.vocab()).or_else(|_| ids::row_below(id, count))?;
        let token = id.py().detach(|| open.table.token(row).map_err(raised))?;
        Ok(token.map(std::borrow::Cow::into_owned))
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
        let encoded = py.detach(|| open.tokenizer()?.encode(text, special_tokens));
        Ok(encoded.map_err(raised)?.into_iter().map(|token| token.id).collect())
    }

    /// The vectors of texts, in f32: a str gives one of shape (dim,), several give (n, dim).
    ///
    /// The vector of a text is the mean of the rows of its tokens, without special ones; what
    /// else is to be done is found in the files of static models (model2vec, StaticEmbedding).
    /// A text without tokens is all zeros.
    fn embed<'py>(
        &self,
        py: Python<'py>,
        texts: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        embed::embed(py, &self.get()?, texts)
    }

    /// The k rows that are nearest to a query, the nearest first, as embmap.Nearest.
    ///
    /// A query is a token, an id, or a vector; a list of tokens, an array of ids or of vectors
    /// is several, which share one reading of the table. Every row is looked at, and nothing is
    /// approximate. metric is "cosine" or "dot". A row is no answer to itself, nor are those of
    /// exclude, ids or tokens. progress(done, total) is called now and then.
    #[pyo3(signature = (query, k=10, *, metric="cosine", exclude=None, threads=None, progress=None))]
    #[expect(clippy::too_many_arguments, reason = "they are keywords in Python")]
    fn nearest<'py>(
        &self,
        py: Python<'py>,
        query: &Bound<'py, PyAny>,
        k: usize,
        metric: &str,
        exclude: Option<&Bound<'py, PyAny>>,
        threads: Option<usize>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let open = self.get()?;
        let how = nearest::How { k, metric, exclude, threads, progress: progress.as_ref() };
        nearest::nearest(py, &open.table, query, &how)
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
        self.get()?.array(py, dtype, copy)
    }

    /// The whole table for other libraries: in place and read-only, by DLPack 1.0 or later.
    ///
    /// Where it does not lie in one run of plain rows it is copied, unless copy=False. torch
    /// takes no notice of read-only memory: a tensor that torch.from_dlpack makes of a mapped
    /// table must not be written to.
    #[pyo3(signature = (*, stream=None, max_version=None, dl_device=None, copy=None))]
    fn __dlpack__<'py>(
        &self,
        py: Python<'py>,
        stream: Option<&Bound<'py, PyAny>>,
        max_version: Option<(u32, u32)>,
        dl_device: Option<(i32, i32)>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let open = self.get()?;
        check_consumer(stream, max_version, dl_device)?;
        open.dlpack(py, copy)
    }

    /// (1, 0): the CPU.
    #[staticmethod]
    fn __dlpack_device__() -> (i32, i32) {
        (1, 0)
    }
}

/// What is in memory, as `embmap.Residency`.
fn told<'py>(py: Python<'py>, found: &embmap::Residency) -> PyResult<Bound<'py, PyAny>> {
    let class = py.import("embmap")?.getattr("Residency")?;
    class.call1((found.total_bytes, found.cached_bytes, found.mapped_bytes))
}
