//! What is used of torch, looked up once, where somebody has imported it.

use embmap::DType;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCapsule, PyType};

use crate::dtype::KNOWN;
use crate::view::Given;

/// torch's names.
pub(crate) struct Torch {
    tensor: Py<PyType>,
    to_dlpack: Py<PyAny>,
    pub(crate) from_dlpack: Py<PyAny>,
    /// Its dtypes; those that an older torch has not are left out.
    dtypes: Vec<(DType, Py<PyAny>)>,
}

static TORCH: PyOnceLock<Torch> = PyOnceLock::new();

impl Torch {
    /// torch, or `None` where nobody has imported it: then nothing is a tensor.
    pub(crate) fn get(py: Python<'_>) -> PyResult<Option<&'static Torch>> {
        if let Some(torch) = TORCH.get(py) {
            return Ok(Some(torch));
        }
        let modules = py.import("sys")?.getattr("modules")?;
        let torch = modules.call_method1("get", ("torch",))?;
        // While torch is being imported it has not all of its names yet.
        let Ok(found) = Self::of(&torch) else { return Ok(None) };
        Ok(Some(TORCH.get_or_init(py, || found)))
    }

    fn of(torch: &Bound<'_, PyAny>) -> PyResult<Torch> {
        let dlpack = torch.getattr("utils")?.getattr("dlpack")?;
        let dtype = |dtype: DType, name: &str| Some((dtype, torch.getattr(name).ok()?.unbind()));
        Ok(Torch {
            tensor: torch.getattr("Tensor")?.cast_into()?.unbind(),
            to_dlpack: dlpack.getattr("to_dlpack")?.unbind(),
            from_dlpack: dlpack.getattr("from_dlpack")?.unbind(),
            dtypes: KNOWN.iter().filter_map(|known| dtype(known.dtype, known.name)).collect(),
        })
    }

    /// The dtype that one of torch's is.
    pub(crate) fn dtype_of(&self, asked: &Bound<'_, PyAny>) -> Option<DType> {
        self.dtypes.iter().find(|(_, theirs)| asked.is(theirs)).map(|(dtype, _)| *dtype)
    }

    /// torch's name for a dtype, or `None` where this torch has none.
    pub(crate) fn dtype<'py>(&self, py: Python<'py>, dtype: DType) -> Option<Bound<'py, PyAny>> {
        let found = self.dtypes.iter().find(|(ours, _)| *ours == dtype)?;
        Some(found.1.bind(py).clone())
    }

    /// The memory of a tensor on the CPU, seen in place; `None` where that takes more than a
    /// look: torch's own conversion knows, or says why not.
    pub(crate) fn look<'py>(&self, tensor: &Bound<'py, PyAny>) -> Option<Given<'py>> {
        let py = tensor.py();
        // Of a subclass only its own methods know what it holds.
        if !tensor.get_type().is(&self.tensor) {
            return None;
        }
        let capsule = self.to_dlpack.bind(py).call1((tensor,)).ok()?;
        Given::by_dlpack(capsule.cast_into::<PyCapsule>().ok()?).ok().flatten()
    }
}

/// torch, where an object is a tensor of it.
pub(crate) fn tensor_of(object: &Bound<'_, PyAny>) -> PyResult<Option<&'static Torch>> {
    let Some(torch) = Torch::get(object.py())? else { return Ok(None) };
    Ok(object.is_instance(torch.tensor.bind(object.py()))?.then_some(torch))
}

/// A tensor as a numpy array that shares its memory.
///
/// # Errors
///
/// Torch's own, which say what to do with a tensor of another device.
pub(crate) fn as_numpy<'py>(tensor: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    tensor.call_method0("detach")?.call_method0("numpy")
}
