//! The native half of the Python package `embmap`: tables, gathers and writing, over the
//! library's public API. What Python can say as well is said in `python/embmap/`.

use pyo3::prelude::*;

mod bags;
mod convert;
mod dtype;
mod embed;
mod error;
mod gather;
mod ids;
mod nearest;
mod numpy;
mod open;
mod outputs;
mod progress;
mod rows;
mod table;
mod torch;
mod verify;
mod view;
mod warming;
mod writer;

#[pymodule]
mod _embmap {
    use super::{Bound, PyModule, PyModuleMethods, PyResult};

    #[pymodule_export]
    use super::convert::convert;
    #[pymodule_export]
    use super::error::FormatError;
    #[pymodule_export]
    use super::open::{open, tensors};
    #[pymodule_export]
    use super::outputs::output_cache;
    #[pymodule_export]
    use super::table::Table;
    #[pymodule_export]
    use super::warming::Warming;
    #[pymodule_export]
    use super::writer::Writer;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
