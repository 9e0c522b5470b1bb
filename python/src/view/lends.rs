//! Memory that we lend to Python: rows in place, and outputs.

use std::ffi::c_int;
use std::path::Path;
use std::sync::Arc;

use embmap::{OpenOptions, Table};
use memmap2::MmapMut;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use super::dlpack::{self, Manner, Shape};
use crate::dtype::Known;
use crate::error::raised;
use crate::outputs::Output;

/// Maps a table, under the promise that `embmap.open` asks for.
pub(crate) fn map(options: OpenOptions, path: &Path) -> embmap::Result<Table> {
    // SAFETY: the documentation of `embmap.open` asks its caller for the promise of
    // `OpenOptions::map`, that nothing writes to the files or cuts them while they are mapped,
    // and offers `access="read"` to who cannot give it. A Python function cannot be marked
    // unsafe, and no program can check this.
    unsafe { options.map(path) }
}

/// A run of rows of a table in memory, lent out as bytes that cannot be written to.
///
/// It keeps the table, and with it the map, alive as long as any array over it lives.
#[pyclass(frozen, module = "embmap._embmap")]
pub(crate) struct LentRows {
    table: Arc<Table>,
    /// A row of the run.
    id: u64,
}

impl LentRows {
    pub(crate) fn new(table: Arc<Table>, id: u64) -> Self {
        LentRows { table, id }
    }

    /// The run for other libraries: rows of elements of a dtype at a stride, read-only.
    pub(crate) fn capsule<'py>(
        slf: &Bound<'py, Self>,
        known: &Known,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        let LentRows { table, id } = slf.get();
        let (ids, bytes) = table.encoded_extent(*id).map_err(raised)?;
        let wide = |number: u64| {
            usize::try_from(number).map_err(|_| PyBufferError::new_err("more rows than fit"))
        };
        let stride = wide(table.row_stride())?;
        let lengths = vec![wide(ids.end - ids.start)?, table.dim()];
        if !stride.is_multiple_of(known.size) || !bytes.as_ptr().addr().is_multiple_of(known.size) {
            return Err(PyBufferError::new_err(
                "rows do not lie at multiples of an element's size; copy them",
            ));
        }
        let shape = Shape { lengths, strides: vec![stride / known.size, 1] };
        let start = bytes.as_ptr().cast_mut();
        // SAFETY: the run holds its rows at that stride, each of `dim` elements of the table's
        // dtype, which is `known`'s: `Run`s are made of plain rows alone. The bytes lie in a map
        // or in heap memory of the table, which `slf` holds. They are handed out as read-only.
        unsafe { dlpack::capsule(slf.as_any(), start, &shape, known, Manner::ReadOnly) }
    }
}

#[pymethods]
impl LentRows {
    /// # Safety
    ///
    /// `view` points to a `Py_buffer` to be filled, as Python's buffer protocol has it.
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let rows = slf.get();
        let (_, bytes) = rows.table.encoded_extent(rows.id).map_err(raised)?;
        let (start, length) = (bytes.as_ptr(), bytes.len());
        // SAFETY: the bytes lie in a map or in heap memory of the table, neither of which moves
        // or goes before the table is dropped. The filled view holds a reference to `slf`, which
        // is frozen and holds the table. It is read-only, so nothing is written through it.
        unsafe { fill(view, slf.as_any(), start, length, true, flags) }
    }
}

/// The memory of a fresh output, lent out as bytes; given back when the last array over it
/// is gone.
#[pyclass(frozen, module = "embmap._embmap")]
pub(crate) struct LentOutput {
    output: Output,
    /// Its start, exposed when it was last Rust's to write to.
    start: usize,
}

impl LentOutput {
    pub(crate) fn new(mut output: Output) -> Self {
        let start = output.as_mut_slice().as_mut_ptr().expose_provenance();
        LentOutput { output, start }
    }

    /// The output for other libraries, which may write to it: as who knows no versions expects
    /// it, or, versioned, as a copy.
    pub(crate) fn capsule<'py>(
        slf: &Bound<'py, Self>,
        lengths: Vec<usize>,
        known: &Known,
        versioned: bool,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        let LentOutput { output, start } = slf.get();
        let needed = lengths.iter().try_fold(known.size, |bytes, n| bytes.checked_mul(*n));
        if needed.is_none_or(|needed| needed > output.bytes()) {
            return Err(PyBufferError::new_err("the output is shorter than its shape"));
        }
        let start = std::ptr::with_exposed_provenance_mut(*start);
        let manner = if versioned { Manner::Copied } else { Manner::Unversioned };
        // SAFETY: `start` is the block's own pointer to its bytes, taken from a mutable slice,
        // and there are as many as the shape needs; they neither move nor go before `slf` is
        // dropped. Once it is wrapped, Rust neither reads nor writes an output.
        unsafe { dlpack::capsule(slf.as_any(), start, &Shape::dense(lengths), known, manner) }
    }
}

#[pymethods]
impl LentOutput {
    /// # Safety
    ///
    /// `view` points to a `Py_buffer` to be filled, as Python's buffer protocol has it.
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let LentOutput { output, start } = slf.get();
        let (start, length) = (std::ptr::with_exposed_provenance(*start), output.bytes());
        // SAFETY: `start` is the block's own pointer to that many bytes, taken from a mutable
        // slice; they neither move nor go before `slf` is dropped, and the filled view holds a
        // reference to `slf`. Once it is wrapped, Rust neither reads nor writes an output, so
        // that Python may do both.
        unsafe { fill(view, slf.as_any(), start, length, false, flags) }
    }
}

/// Tells the system that it may take the pages of a block that nobody uses, if it runs short.
/// Until it does they stay, and cost nothing to use again.
pub(crate) fn offer_back(block: &MmapMut) -> std::io::Result<()> {
    #[cfg(target_os = "linux")]
    // SAFETY: what a page holds is lost where the system takes it, and it reads as zeros then,
    // until it is written to. No array is over the block any more, and an `Output` made of it
    // again is written before it is read.
    unsafe {
        block.unchecked_advise(memmap2::UncheckedAdvice::Free)?;
    }
    Ok(())
}

/// Fills a view with bytes that `owner` owns.
///
/// # Safety
///
/// `view` may be written to; `length` bytes from `start` on stay readable, and writable unless
/// `readonly`, as long as `owner` lives.
unsafe fn fill(
    view: *mut ffi::Py_buffer,
    owner: &Bound<'_, PyAny>,
    start: *const u8,
    length: usize,
    readonly: bool,
    flags: c_int,
) -> PyResult<()> {
    let length = isize::try_from(length)
        .map_err(|_| PyBufferError::new_err("more bytes than Python can count"))?;
    let start = start.cast_mut().cast();
    // SAFETY: as the caller says; the function keeps a reference to `owner` in the view, and
    // refuses a view to write to where `readonly` is set.
    let filled = unsafe {
        ffi::PyBuffer_FillInfo(view, owner.as_ptr(), start, length, readonly.into(), flags)
    };
    if filled == 0 { Ok(()) } else { Err(PyErr::fetch(owner.py())) }
}
