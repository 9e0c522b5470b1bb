//! `embmap.open` and `embmap.tensors`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use embmap::{Access, OpenOptions, Temperature};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::error::raised;
use crate::table::Table;
use crate::view;

/// How a table was opened: enough to open it again, in another process.
#[derive(Clone)]
pub(crate) struct Opening {
    pub(crate) path: PathBuf,
    /// The same, wherever the process goes.
    pub(crate) absolute: PathBuf,
    tensor: Option<String>,
    scales: Option<String>,
    biases: Option<String>,
    access: String,
    threads: Option<usize>,
    temperature: Option<String>,
    rss_budget: Option<u64>,
    spin: Option<f64>,
    allow_network_map: bool,
    follow_links: bool,
    io_uring: bool,
}

impl Opening {
    /// The keyword arguments of `embmap.open`.
    pub(crate) fn keywords<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let keywords = PyDict::new(py);
        keywords.set_item("tensor", &self.tensor)?;
        keywords.set_item("scales", &self.scales)?;
        keywords.set_item("biases", &self.biases)?;
        keywords.set_item("access", &self.access)?;
        keywords.set_item("threads", self.threads)?;
        keywords.set_item("temperature", &self.temperature)?;
        keywords.set_item("rss_budget", self.rss_budget)?;
        keywords.set_item("spin", self.spin)?;
        keywords.set_item("allow_network_map", self.allow_network_map)?;
        keywords.set_item("follow_links", self.follow_links)?;
        keywords.set_item("io_uring", self.io_uring)?;
        Ok(keywords)
    }

    fn options(&self) -> PyResult<OpenOptions> {
        let mut options = OpenOptions::new()
            .follow_links(self.follow_links)
            .allow_network_map(self.allow_network_map)
            .io_uring(self.io_uring);
        if let Some(tensor) = &self.tensor {
            options = options.tensor(tensor);
        }
        if let Some(tensor) = &self.scales {
            options = options.scales(tensor);
        }
        if let Some(tensor) = &self.biases {
            options = options.biases(tensor);
        }
        if let Some(threads) = threads(self.threads)? {
            options = options.threads(threads);
        }
        if let Some(bytes) = self.rss_budget {
            options = options.rss_budget(bytes);
        }
        if let Some(seconds) = self.spin {
            let time = Duration::try_from_secs_f64(seconds)
                .map_err(|error| PyValueError::new_err(format!("spin: {error}")))?;
            options = options.spin(time);
        }
        let temperature = match self.temperature.as_deref() {
            None => Temperature::Measured,
            Some("warm") => Temperature::Warm,
            Some("cold") => Temperature::Cold,
            Some(other) => return Err(unknown("temperature", other, "\"warm\", \"cold\" or None")),
        };
        Ok(options.temperature(temperature))
    }

    pub(crate) fn open(&self, py: Python<'_>) -> PyResult<embmap::Table> {
        let (options, path) = (self.options()?, self.path.as_path());
        let opened = match self.access.as_str() {
            "map" => py.detach(|| view::map(options, path)),
            "memory" => py.detach(|| options.access(Access::Memory).open(path)),
            "read" => py.detach(|| options.access(Access::Read).open(path)),
            "direct" => py.detach(|| options.access(Access::Direct).open(path)),
            other => {
                return Err(unknown(
                    "access",
                    other,
                    "\"map\", \"read\", \"direct\" or \"memory\"",
                ));
            }
        };
        opened.map_err(raised)
    }
}

/// A path that holds wherever the process goes. What is no path of the file system, as the name of
/// a model in a cache, stays as it is.
fn absolute(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).ok().filter(|_| path.exists());
    absolute.unwrap_or_else(|| path.to_path_buf())
}

fn unknown(option: &str, found: &str, expected: &str) -> PyErr {
    PyValueError::new_err(format!("{option}: expected {expected}, found {found:?}"))
}

/// The threads that were asked for, or those that `EMBMAP_NUM_THREADS` says.
fn threads(asked: Option<usize>) -> PyResult<Option<usize>> {
    if asked.is_some() {
        return Ok(asked);
    }
    let Some(told) = std::env::var_os("EMBMAP_NUM_THREADS").filter(|told| !told.is_empty()) else {
        return Ok(None);
    };
    let number = told.to_str().and_then(|told| told.trim().parse().ok());
    number.filter(|threads| *threads > 0).map(Some).ok_or_else(|| {
        PyValueError::new_err(format!(
            "EMBMAP_NUM_THREADS: expected a number of threads from 1, found {:?}",
            told.to_string_lossy()
        ))
    })
}

/// Opens a table: an .emb file, a checkpoint's file or a model directory, where it lies.
///
/// tensor names the tensor that is the table, where it is not found by itself, and scales and
/// biases those that belong to a quantized one; a name with {} stands for a table in pieces.
///
/// With access="map", the default, nothing may write to the files or cut them while the table
/// or an array over it is in use: rows would change, or the process would be ended by a signal.
/// Replacing a file by rename is fine, and is what embmap does. Where that cannot be promised,
/// access="read" reads each row when it is asked for, access="direct" does so past the page
/// cache, for tables that never fit in memory, and access="memory" takes a copy.
///
/// threads is how many large gathers use (EMBMAP_NUM_THREADS, or one for each core, unless said),
/// spin how many seconds they wait for the next gather before they sleep. temperature="warm" or
/// "cold" states what is found out else. rss_budget keeps the process's resident bytes of the
/// table near a number. io_uring=False is for sandboxes where direct reads must not try it.
#[pyfunction]
#[pyo3(signature = (
    path, *, tensor=None, scales=None, biases=None, access="map", threads=None, temperature=None,
    rss_budget=None, spin=None, allow_network_map=false, follow_links=false, io_uring=true
))]
#[expect(clippy::too_many_arguments, reason = "they are keywords in Python")]
pub(crate) fn open(
    py: Python<'_>,
    path: PathBuf,
    tensor: Option<String>,
    scales: Option<String>,
    biases: Option<String>,
    access: &str,
    threads: Option<usize>,
    temperature: Option<String>,
    rss_budget: Option<u64>,
    spin: Option<f64>,
    allow_network_map: bool,
    follow_links: bool,
    io_uring: bool,
) -> PyResult<Table> {
    let opening = Opening {
        absolute: absolute(&path),
        path,
        tensor,
        scales,
        biases,
        access: access.to_owned(),
        threads,
        temperature,
        rss_budget,
        spin,
        allow_network_map,
        follow_links,
        io_uring,
    };
    Table::open(py, opening)
}

/// Lists the tensors of a checkpoint: (name, shape, dtype) of each, for choosing one with
/// tensor=.
#[pyfunction]
#[pyo3(signature = (path, *, follow_links=false))]
pub(crate) fn tensors(
    py: Python<'_>,
    path: PathBuf,
    follow_links: bool,
) -> PyResult<Vec<(String, Vec<u64>, String)>> {
    let list = |path: &Path| OpenOptions::new().follow_links(follow_links).list_tensors(path);
    let tensors = py.detach(|| list(&path)).map_err(raised)?;
    Ok(tensors.into_iter().map(|tensor| (tensor.name, tensor.shape, tensor.dtype)).collect())
}
