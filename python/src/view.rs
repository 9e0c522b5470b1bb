//! The memory that Python and Rust share. All `unsafe` of the package is here.
//!
//! Three promises are asked of Python's side, as of any native library that lets other threads
//! run while it works: that nothing writes to a mapped file (`embmap.open`), that nothing writes
//! to ids while they are taken over, and that nothing touches an `out=` while it is filled.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::path::Path;
use std::sync::Arc;

use bytemuck::Pod;
use embmap::{OpenOptions, Table};
use memmap2::MmapMut;
use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;

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

/// The elements of a buffer, or `None` where they do not lie one after the other, aligned.
pub(crate) fn elements<T: Pod>(buffer: &PyUntypedBuffer) -> Option<&[T]> {
    let start = buffer.buf_ptr().cast::<T>();
    if !buffer.is_c_contiguous() || buffer.item_size() != size_of::<T>() || !start.is_aligned() {
        return None;
    }
    if buffer.item_count() == 0 {
        return Some(&[]);
    }
    // SAFETY: the buffer holds `item_count` items of the size of `T` one after the other,
    // which the exporter keeps there until it is released, and it outlives the slice. The start
    // is aligned, and any bytes are a `T`. That nothing writes meanwhile is promised.
    Some(unsafe { std::slice::from_raw_parts(start, buffer.item_count()) })
}

/// The bytes of an output from its first row to the end of its last one, and its row stride in
/// bytes. Its shape has to be that of the ids and `dim`; rows may be apart, but not elements.
pub(crate) fn rows_to_fill<'a>(
    buffer: &'a mut PyUntypedBuffer,
    ids: &[usize],
    dim: usize,
) -> PyResult<(&'a mut [u8], usize)> {
    let wrong = |what: String| Err(PyValueError::new_err(format!("out: {what}")));
    let (shape, item) = (buffer.shape(), buffer.item_size());
    if shape.split_last() != Some((&dim, ids)) {
        let expected = ids.iter().chain([&dim]).collect::<Vec<_>>();
        return wrong(format!("expected the shape {expected:?}, found {shape:?}"));
    }
    if buffer.readonly() {
        return wrong("expected memory that may be written to, found a read-only one".to_owned());
    }
    if buffer.suboffsets().is_some() {
        return wrong("expected plain memory, found pointers to it".to_owned());
    }
    let start = buffer.buf_ptr().cast::<u8>();
    if !start.addr().is_multiple_of(item.max(1)) {
        return wrong("expected aligned elements; give an array that numpy calls ALIGNED".to_owned());
    }
    let rows: usize = ids.iter().product();
    let row = dim * item;
    if rows == 0 || row == 0 {
        return Ok((&mut [], row));
    }
    let strides = buffer.strides();
    let Some(stride) = row_stride(ids, strides, row, item) else {
        return wrong(format!(
            "expected rows at one distance with their elements together, found strides {strides:?}"
        ));
    };
    let length = (rows - 1) * stride + row;
    // SAFETY: the strides are those of `rows` rows at `stride`, upwards from `start`, so these
    // bytes are between the buffer's first and its last, which the exporter keeps there, writable
    // as asked above, until the buffer is released, and it outlives the slice. That nobody else
    // touches them meanwhile is promised.
    Ok((unsafe { std::slice::from_raw_parts_mut(start, length) }, stride))
}

/// The distance between rows in bytes, where one distance leads from each to the next.
fn row_stride(ids: &[usize], strides: &[isize], row: usize, item: usize) -> Option<usize> {
    let (&elements, before) = strides.split_last()?;
    if row != item && elements != isize::try_from(item).ok()? {
        return None;
    }
    let mut stride = None;
    let mut rows = 1;
    for (&length, &bytes) in ids.iter().zip(before).rev().filter(|(length, _)| **length != 1) {
        let bytes = usize::try_from(bytes).ok()?;
        let first = *stride.get_or_insert(bytes);
        if bytes != first.checked_mul(rows)? {
            return None;
        }
        rows *= length;
    }
    Some(stride.unwrap_or(row)).filter(|stride| *stride >= row && stride.is_multiple_of(item))
}
