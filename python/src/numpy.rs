//! What is used of numpy, looked up once.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyTuple, PyType};

/// numpy's names.
pub(crate) struct Numpy {
    pub(crate) ndarray: Py<PyType>,
    pub(crate) integer: Py<PyType>,
    pub(crate) array: Py<PyAny>,
    pub(crate) dtype: Py<PyAny>,
    pub(crate) int8: Py<PyAny>,
    pub(crate) int16: Py<PyAny>,
}

static NUMPY: PyOnceLock<Numpy> = PyOnceLock::new();

impl Numpy {
    pub(crate) fn get(py: Python<'_>) -> PyResult<&'static Numpy> {
        NUMPY.get_or_try_init(py, || {
            let numpy = py.import("numpy")?;
            let dtype = numpy.getattr("dtype")?;
            Ok(Numpy {
                ndarray: numpy.getattr("ndarray")?.cast_into()?.unbind(),
                integer: numpy.getattr("integer")?.cast_into()?.unbind(),
                array: numpy.getattr("array")?.unbind(),
                int8: dtype.call1(("int8",))?.unbind(),
                int16: dtype.call1(("int16",))?.unbind(),
                dtype: dtype.unbind(),
            })
        })
    }

    /// An array over the memory of an object that has the buffer protocol, which it keeps
    /// alive; rows are `strides` apart, or dense.
    pub(crate) fn over<'py>(
        &self,
        shape: Bound<'py, PyTuple>,
        dtype: &Bound<'py, PyAny>,
        memory: Bound<'py, PyAny>,
        strides: Option<(u64, usize)>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let ndarray = self.ndarray.bind(shape.py());
        match strides {
            None => ndarray.call1((shape, dtype, memory)),
            Some(strides) => ndarray.call1((shape, dtype, memory, 0, strides)),
        }
    }

    /// True for an array that is exactly numpy's, no subclass.
    pub(crate) fn is_array(&self, object: &Bound<'_, PyAny>) -> bool {
        object.get_type().is(&self.ndarray)
    }
}
