//! Ids as Python gives them: any integer dtype, any shape, lists, numpy, torch.

use std::cell::Cell;

use bytemuck::Pod;
use embmap::Error;
use pyo3::exceptions::{PyIndexError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyInt, PyList};

use crate::error::raised;
use crate::numpy::Numpy;
use crate::torch::{Torch, as_numpy, tensor_of};
use crate::view::Given;

/// The most ids whose memory is kept on a thread for its next call.
const MOST_KEPT: usize = 1 << 20;

thread_local! {
    /// Memory for the ids of the next call: new pages would cost more than the ids.
    static SPARE: Cell<Vec<u64>> = const { Cell::new(Vec::new()) };
}

/// The ids that are taken over at a time: few enough to be looked at while they are in a cache.
const AT_ONCE: usize = 2048;

/// What ids mean.
#[derive(Clone, Copy)]
pub(crate) struct Meaning {
    pub(crate) vocab: u64,
    /// True where negative ids count from the end.
    pub(crate) from_end: bool,
    /// An id that stands for no row, and becomes `NO_ROW`.
    pub(crate) padding: Option<i64>,
}

/// What a padding id becomes: the row number that the library takes -1 for.
const NO_ROW: u64 = u64::MAX;

/// Ids that were taken over: as row numbers, with the shape that they came in.
pub(crate) struct Ids {
    pub(crate) rows: Vec<u64>,
    pub(crate) shape: Vec<usize>,
    /// Set where they came as a torch tensor, so that rows go back as one.
    pub(crate) torch: Option<&'static Torch>,
}

impl Drop for Ids {
    fn drop(&mut self) {
        if self.rows.capacity() <= MOST_KEPT {
            let mut rows = std::mem::take(&mut self.rows);
            rows.clear();
            // A thread that ends has no next call.
            let _ = SPARE.try_with(|spare| spare.set(rows));
        }
    }
}

impl Ids {
    /// One id, of shape `()`.
    pub(crate) fn one(row: u64) -> Self {
        Ids { rows: vec![row], shape: Vec::new(), torch: None }
    }

    /// Row numbers that Python's own arithmetic gave.
    pub(crate) fn run(rows: impl Iterator<Item = u64>) -> Self {
        let rows: Vec<u64> = rows.collect();
        Ids { shape: vec![rows.len()], rows, torch: None }
    }

    fn of_torch(mut self, torch: &'static Torch) -> Self {
        self.torch = Some(torch);
        self
    }

    /// Takes over whatever Python has for ids.
    ///
    /// # Errors
    ///
    /// A `TypeError` for what are no integers, bool included; an `IndexError` that names the
    /// first id without a row.
    pub(crate) fn take(given: &Bound<'_, PyAny>, meaning: Meaning) -> PyResult<Self> {
        let numpy = Numpy::get(given.py())?;
        if numpy.is_array(given) {
            return Self::of_array(given, meaning, numpy);
        }
        if let Ok(list) = given.cast_exact::<PyList>() {
            if let Some(rows) = rows_of(list, meaning)? {
                return Ok(Ids { shape: vec![rows.len()], rows, torch: None });
            }
        } else if let Some(torch) = tensor_of(given)? {
            if let Some(memory) = torch.look(given)
                && let Some(ids) = Self::of_memory(&memory, meaning)?
            {
                return Ok(ids.of_torch(torch));
            }
            return Ok(Self::of_array(&as_numpy(given)?, meaning, numpy)?.of_torch(torch));
        }
        let array = as_array(given)?;
        Self::of_array(&array, meaning, numpy)
            .map_err(|error| out_of_all_types(given, meaning).unwrap_or(error))
    }

    /// Takes over the ids of a numpy array.
    fn of_array(array: &Bound<'_, PyAny>, meaning: Meaning, numpy: &Numpy) -> PyResult<Self> {
        let Some(memory) = Given::by_buffer(array) else {
            // An array of no dimension has no shape that could be lent.
            if array.getattr("ndim")?.eq(0)? {
                let one = array.call_method1("reshape", (1,))?;
                let mut ids = Self::of_array(&one, meaning, numpy)?;
                ids.shape.clear();
                return Ok(ids);
            }
            // What numpy cannot lend, as dates and objects, are no integers either.
            return Err(no_integers(array));
        };
        if let Some(ids) = Self::of_memory(&memory, meaning)? {
            return Ok(ids);
        }
        if !memory.is_integers() {
            return Err(no_integers(array));
        }
        // Strided, unaligned or in foreign byte order: a plain copy is none of that.
        let native = array.getattr("dtype")?.call_method1("newbyteorder", ("=",))?;
        let options = PyDict::new(array.py());
        options.set_item("dtype", native)?;
        options.set_item("order", "C")?;
        let copy = numpy.array.bind(array.py()).call((array,), Some(&options))?;
        let memory = Given::by_buffer(&copy).ok_or_else(|| no_integers(array))?;
        Self::of_memory(&memory, meaning)?.ok_or_else(|| no_integers(array))
    }

    /// Takes over ids as they lie, or gives `None` where they are not plain integers.
    fn of_memory(memory: &Given<'_>, meaning: Meaning) -> PyResult<Option<Self>> {
        if !memory.is_integers() {
            return Ok(None);
        }
        let mut rows = SPARE.take();
        rows.clear();
        let taken = match (memory.is_signed(), memory.item()) {
            (true, 8) => memory.elements::<i64>().map(|ids| copy(ids, meaning, &mut rows)),
            (true, 4) => memory.elements::<i32>().map(|ids| copy(ids, meaning, &mut rows)),
            (true, 2) => memory.elements::<i16>().map(|ids| copy(ids, meaning, &mut rows)),
            (true, 1) => memory.elements::<i8>().map(|ids| copy(ids, meaning, &mut rows)),
            (false, 8) => memory.elements::<u64>().map(|ids| copy(ids, meaning, &mut rows)),
            (false, 4) => memory.elements::<u32>().map(|ids| copy(ids, meaning, &mut rows)),
            (false, 2) => memory.elements::<u16>().map(|ids| copy(ids, meaning, &mut rows)),
            (false, 1) => memory.elements::<u8>().map(|ids| copy(ids, meaning, &mut rows)),
            _ => None,
        };
        let Some(taken) = taken else { return Ok(None) };
        taken.map_err(raised)?;
        Ok(Some(Ids { rows, shape: memory.shape().to_vec(), torch: None }))
    }
}

/// The rows of a list of nothing but Python's own integers, or `None` where there is more in it.
fn rows_of(list: &Bound<'_, PyList>, meaning: Meaning) -> PyResult<Option<Vec<u64>>> {
    let mut ids = Vec::with_capacity(list.len());
    for (position, id) in list.iter().enumerate() {
        if !id.is_exact_instance_of::<PyInt>() {
            return Ok(None);
        }
        match id.extract::<i64>() {
            Ok(id) => ids.push(id),
            Err(_) => return Err(out_of_range(&id, Some(position), meaning.vocab)),
        }
    }
    let mut rows = SPARE.take();
    rows.clear();
    copy(&ids, meaning, &mut rows).map_err(raised)?;
    Ok(Some(rows))
}

/// Python's object as a numpy array, shared where it can be.
fn as_array<'py>(given: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = given.py();
    if given.is_instance_of::<PyBool>() || given.is_none() {
        return Err(no_integers(given));
    }
    let only_dlpack = given.hasattr("__dlpack__")? && !given.hasattr("__array__")?;
    if only_dlpack && Given::by_buffer(given).is_none() {
        return py.import("numpy")?.call_method1("from_dlpack", (given,));
    }
    let array = py.import("numpy")?.call_method1("asarray", (given,))?;
    if array.getattr("size")?.extract::<usize>()? == 0 && !given.hasattr("dtype")? {
        // An empty list has no integers that would tell its type.
        return array.call_method1("astype", ("int64",));
    }
    Ok(array)
}

/// The error for integers that numpy has no type for, as in `[[-1], [2**63]]`: the first of them
/// without a row. `None` where they are not all integers.
fn out_of_all_types(given: &Bound<'_, PyAny>, meaning: Meaning) -> Option<PyErr> {
    if given.hasattr("dtype").ok()? {
        return None;
    }
    let numpy = given.py().import("numpy").ok()?;
    let flat = numpy.call_method1("asarray", (given, "object")).ok()?.call_method0("ravel").ok()?;
    let mut first = None;
    for (position, id) in flat.try_iter().ok()?.enumerate() {
        let id = id.ok().filter(PyAnyMethods::is_exact_instance_of::<PyInt>)?;
        if first.is_none() && row_of(&id, meaning.vocab).is_err() {
            first = Some(out_of_range(&id, Some(position), meaning.vocab));
        }
    }
    first
}

/// An integer that an id may come as.
trait Integer: Pod {
    /// The row number: a negative id counts from the end where `end` is not 0, and is beyond
    /// every table where it is, or where it reaches before the start.
    fn row(self, end: u64) -> u64;
    fn wide(self) -> i128;
}

macro_rules! signed {
    ($($type:ty)*) => {$(
        impl Integer for $type {
            fn row(self, end: u64) -> u64 {
                let id = i64::from(self);
                // All ones for a negative id: no branch in the loop.
                id.cast_unsigned().wrapping_add(end & (id >> 63).cast_unsigned())
            }
            fn wide(self) -> i128 {
                self.into()
            }
        }
    )*};
}

macro_rules! unsigned {
    ($($type:ty)*) => {$(
        impl Integer for $type {
            fn row(self, _: u64) -> u64 {
                self.into()
            }
            fn wide(self) -> i128 {
                self.into()
            }
        }
    )*};
}

signed!(i8 i16 i32 i64);
unsigned!(u8 u16 u32 u64);

fn copy<I: Integer>(ids: &[I], meaning: Meaning, rows: &mut Vec<u64>) -> embmap::Result<()> {
    let Meaning { vocab, from_end, padding } = meaning;
    let end = if from_end { vocab } else { 0 };
    let mut largest = 0;
    rows.reserve_exact(ids.len());
    for ids in ids.chunks(AT_ONCE) {
        let start = rows.len();
        match padding.map(i128::from) {
            None => rows.extend(ids.iter().map(|id| id.row(end))),
            Some(padding) => {
                let row = |id: &I| if id.wide() == padding { NO_ROW } else { id.row(end) };
                rows.extend(ids.iter().map(row));
            }
        }
        largest = rows[start..].iter().copied().fold(largest, u64::max);
    }
    // The largest decides; which one it was matters only then.
    if ids.is_empty() || largest < vocab {
        return Ok(());
    }
    let is_padding = |id: &I| padding.is_some_and(|padding| id.wide() == i128::from(padding));
    let wrong = |(row, id): (&u64, &I)| *row >= vocab && !is_padding(id);
    match rows.iter().zip(ids).position(wrong) {
        None => Ok(()),
        Some(position) => {
            let id = ids[position].wide();
            Err(Error::RowOutOfRange { id, position: Some(position), vocab })
        }
    }
}

/// A single id that came as a Python integer, or as numpy's.
///
/// # Errors
///
/// An `IndexError` that names it.
pub(crate) fn row_of(given: &Bound<'_, PyAny>, vocab: u64) -> PyResult<u64> {
    let id = match given.extract::<i64>() {
        Ok(id) => i128::from(id),
        Err(_) => match given.call_method0("__index__")?.extract::<i128>() {
            Ok(id) => id,
            Err(_) => return Err(out_of_range(given, None, vocab)),
        },
    };
    let row = if id < 0 { id + i128::from(vocab) } else { id };
    let found = u64::try_from(row).ok().filter(|row| *row < vocab);
    found.ok_or_else(|| raised(Error::RowOutOfRange { id, position: None, vocab }))
}

/// As `row_of` of a longer list, of which only the first part counts from its end.
pub(crate) fn row_below(given: &Bound<'_, PyAny>, count: u64) -> PyResult<u64> {
    match given.call_method0("__index__")?.extract::<u64>() {
        Ok(row) if row < count => Ok(row),
        _ => Err(out_of_range(given, None, count)),
    }
}

/// The error for an integer of any size that no row has.
fn out_of_range(id: &Bound<'_, PyAny>, position: Option<usize>, vocab: u64) -> PyErr {
    if let Ok(id) = id.extract::<i128>() {
        return raised(Error::RowOutOfRange { id, position, vocab });
    }
    let at = position.map_or(String::new(), |position| format!(" at position {position}"));
    PyIndexError::new_err(format!("id {id}{at} is out of range: the table has {vocab} rows"))
}

/// True for what stands for one row: an integer of Python's or numpy's, no bool.
pub(crate) fn is_single(given: &Bound<'_, PyAny>) -> PyResult<bool> {
    if given.is_instance_of::<PyInt>() {
        return Ok(!given.is_instance_of::<PyBool>());
    }
    let numpy = Numpy::get(given.py())?;
    if numpy.is_array(given) {
        return Ok(false);
    }
    given.is_instance(numpy.integer.bind(given.py()))
}

fn no_integers(given: &Bound<'_, PyAny>) -> PyErr {
    let dtype = given.getattr("dtype").and_then(|dtype| dtype.str()?.extract::<String>());
    let found = match dtype {
        Ok(dtype) => format!("an array of {dtype}"),
        Err(_) => given
            .get_type()
            .name()
            .map_or_else(|_| "something else".to_owned(), |name| format!("a value of type {name}")),
    };
    PyTypeError::new_err(format!("expected ids as integers, found {found}"))
}
