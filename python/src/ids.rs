//! Ids as Python gives them: any integer dtype, any shape, lists, numpy, torch.

use std::cell::Cell;

use bytemuck::Pod;
use embmap::Error;
use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyInt};

use crate::error::raised;
use crate::numpy::{Numpy, is_tensor};
use crate::view::elements;

/// The most ids whose memory is kept on a thread for its next call.
const MOST_KEPT: usize = 1 << 20;

thread_local! {
    /// Memory for the ids of the next call: new pages would cost more than the ids.
    static SPARE: Cell<Vec<u64>> = const { Cell::new(Vec::new()) };
}

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
    /// True where they came as a torch tensor, so that rows go back as one.
    pub(crate) torch: bool,
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
        Ids { rows: vec![row], shape: Vec::new(), torch: false }
    }

    /// Row numbers that Python's own arithmetic gave.
    pub(crate) fn run(rows: impl Iterator<Item = u64>) -> Self {
        let rows: Vec<u64> = rows.collect();
        Ids { shape: vec![rows.len()], rows, torch: false }
    }

    fn of_shape(mut self, shape: Vec<usize>) -> Self {
        self.shape = shape;
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
            return Self::of_array(given, meaning, numpy, false);
        }
        let torch = is_tensor(given)?;
        let array = as_array(given, torch)?;
        Self::of_array(&array, meaning, numpy, torch)
    }

    /// Takes over the ids of a numpy array.
    fn of_array(
        array: &Bound<'_, PyAny>,
        meaning: Meaning,
        numpy: &Numpy,
        torch: bool,
    ) -> PyResult<Self> {
        let Ok(buffer) = PyUntypedBuffer::get(array) else {
            // An array of no dimension has no shape that could be lent.
            if array.getattr("ndim")?.eq(0)? {
                let one = array.call_method1("reshape", (1,))?;
                let ids = Self::of_array(&one, meaning, numpy, torch)?;
                return Ok(ids.of_shape(Vec::new()));
            }
            // What numpy cannot lend, as dates and objects, are no integers either.
            return Err(no_integers(array));
        };
        let mut rows = SPARE.take();
        rows.clear();
        if fill(&buffer, meaning, &mut rows)? {
            return Ok(Ids { rows, shape: buffer.shape().to_vec(), torch });
        }
        if !matches!(kind(&buffer), Some(b'i' | b'u')) {
            return Err(no_integers(array));
        }
        // Strided, unaligned or in foreign byte order: a plain copy is none of that.
        let native = array.getattr("dtype")?.call_method1("newbyteorder", ("=",))?;
        let options = PyDict::new(array.py());
        options.set_item("dtype", native)?;
        options.set_item("order", "C")?;
        let copy = numpy.array.bind(array.py()).call((array,), Some(&options))?;
        let buffer = PyUntypedBuffer::get(&copy)?;
        if fill(&buffer, meaning, &mut rows)? {
            return Ok(Ids { rows, shape: buffer.shape().to_vec(), torch });
        }
        Err(no_integers(array))
    }
}

/// Python's object as a numpy array, shared where it can be.
fn as_array<'py>(
    given: &Bound<'py, PyAny>,
    torch: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let py = given.py();
    if torch {
        // Torch says what to do with a tensor of another device.
        return given.call_method0("detach")?.call_method0("numpy");
    }
    if given.is_instance_of::<PyBool>() || given.is_none() {
        return Err(no_integers(given));
    }
    let only_dlpack = given.hasattr("__dlpack__")? && !given.hasattr("__array__")?;
    if only_dlpack && PyUntypedBuffer::get(given).is_err() {
        return py.import("numpy")?.call_method1("from_dlpack", (given,));
    }
    let array = py.import("numpy")?.call_method1("asarray", (given,))?;
    if array.getattr("size")?.extract::<usize>()? == 0 && !given.hasattr("dtype")? {
        // An empty list has no integers that would tell its type.
        return array.call_method1("astype", ("int64",));
    }
    Ok(array)
}

/// `i`, `u` or another letter for the kind of a buffer's items, as numpy has them.
fn kind(buffer: &PyUntypedBuffer) -> Option<u8> {
    let code = match buffer.format().to_bytes() {
        [code] | [b'@' | b'=' | b'<' | b'>' | b'!', code] => *code,
        _ => return None,
    };
    match code {
        b'b' | b'h' | b'i' | b'l' | b'q' | b'n' => Some(b'i'),
        b'B' | b'H' | b'I' | b'L' | b'Q' | b'N' => Some(b'u'),
        _ => None,
    }
}

/// Takes over the ids of a buffer; false where they are not plain integers.
fn fill(buffer: &PyUntypedBuffer, meaning: Meaning, rows: &mut Vec<u64>) -> PyResult<bool> {
    let foreign = matches!(buffer.format().to_bytes(), [b'>' | b'!', _]);
    let filled = match (kind(buffer).filter(|_| !foreign), buffer.item_size()) {
        (Some(b'i'), 8) => elements::<i64>(buffer).map(|ids| copy(ids, meaning, rows)),
        (Some(b'i'), 4) => elements::<i32>(buffer).map(|ids| copy(ids, meaning, rows)),
        (Some(b'i'), 2) => elements::<i16>(buffer).map(|ids| copy(ids, meaning, rows)),
        (Some(b'i'), 1) => elements::<i8>(buffer).map(|ids| copy(ids, meaning, rows)),
        (Some(b'u'), 8) => elements::<u64>(buffer).map(|ids| copy(ids, meaning, rows)),
        (Some(b'u'), 4) => elements::<u32>(buffer).map(|ids| copy(ids, meaning, rows)),
        (Some(b'u'), 2) => elements::<u16>(buffer).map(|ids| copy(ids, meaning, rows)),
        (Some(b'u'), 1) => elements::<u8>(buffer).map(|ids| copy(ids, meaning, rows)),
        _ => None,
    };
    filled.transpose().map(|filled| filled.is_some()).map_err(raised)
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
    if let Some(padding) = padding {
        let padding = i128::from(padding);
        rows.extend(ids.iter().map(|id| if id.wide() == padding { NO_ROW } else { id.row(end) }));
    } else {
        rows.extend(ids.iter().map(|id| id.row(end)));
    }
    // The largest decides; which one it was matters only then.
    if rows.iter().max().is_none_or(|largest| *largest < vocab) {
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
    let id: i128 = given.call_method0("__index__")?.extract()?;
    let row = if id < 0 { id + i128::from(vocab) } else { id };
    let found = u64::try_from(row).ok().filter(|row| *row < vocab);
    found.ok_or_else(|| raised(Error::RowOutOfRange { id, position: None, vocab }))
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
    Ok(given.is_instance(numpy.generic.bind(given.py()))? && given.hasattr("__index__")?)
}

fn no_integers(given: &Bound<'_, PyAny>) -> PyErr {
    let dtype = given.getattr("dtype").and_then(|dtype| dtype.str()?.extract::<String>());
    let found = match dtype {
        Ok(dtype) => format!("an array of {dtype}"),
        Err(_) => given.get_type().name().map_or_else(
            |_| "something else".to_owned(),
            |name| format!("a value of type {name}"),
        ),
    };
    PyTypeError::new_err(format!("expected ids as integers, found {found}"))
}
