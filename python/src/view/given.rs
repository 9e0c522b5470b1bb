//! Memory that Python gives us to read from or to write to: ids and outputs.

use bytemuck::Pod;
use embmap::DType;
use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use super::dlpack;

/// An array's or a tensor's memory, kept where it is as long as this lives.
pub(crate) struct Given<'py> {
    start: *mut u8,
    /// The bytes of an element.
    item: usize,
    kind: u8,
    shape: Vec<usize>,
    /// In bytes.
    strides: Vec<isize>,
    readonly: bool,
    /// True where the order of an element's bytes is not this machine's.
    foreign: bool,
    /// True where there are pointers to the elements.
    scattered: bool,
    /// What the elements are called, for messages.
    format: String,
    _owner: Owner<'py>,
}

/// Who keeps the memory: released, or gone, it may go.
#[expect(dead_code, reason = "they are held, not looked at")]
enum Owner<'py> {
    Buffer(PyUntypedBuffer),
    Capsule(Bound<'py, PyCapsule>),
}

impl<'py> Given<'py> {
    /// What an object lends by the buffer protocol, or `None` where it lends nothing.
    pub(crate) fn by_buffer(object: &Bound<'py, PyAny>) -> Option<Self> {
        let buffer = PyUntypedBuffer::get(object).ok()?;
        let format = buffer.format().to_bytes();
        let (kind, foreign) = match format {
            [code] | [b'@' | b'=' | b'<', code] => (kind_of(*code), false),
            [b'>' | b'!', code] => (kind_of(*code), buffer.item_size() > 1),
            _ => (b'V', false),
        };
        Some(Given {
            start: buffer.buf_ptr().cast(),
            item: buffer.item_size(),
            kind,
            shape: buffer.shape().to_vec(),
            strides: buffer.strides().to_vec(),
            readonly: buffer.readonly(),
            foreign,
            scattered: buffer.suboffsets().is_some(),
            format: if kind == b'V' {
                String::from_utf8_lossy(format).into()
            } else {
                String::new()
            },
            _owner: Owner::Buffer(buffer),
        })
    }

    /// What a tensor's DLPack capsule holds, or `None` where that is not seen from here.
    pub(crate) fn by_dlpack(capsule: Bound<'py, PyCapsule>) -> PyResult<Option<Self>> {
        let Some(found) = dlpack::look(&capsule)? else { return Ok(None) };
        Ok(Some(Given {
            start: found.start,
            item: found.item,
            kind: found.kind,
            shape: found.shape,
            strides: found.strides,
            readonly: false,
            foreign: false,
            scattered: false,
            format: String::new(),
            _owner: Owner::Capsule(capsule),
        }))
    }

    pub(crate) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The bytes of an element.
    pub(crate) fn item(&self) -> usize {
        self.item
    }

    /// True for integers, of whatever size and order of bytes; bool is none.
    pub(crate) fn is_integers(&self) -> bool {
        matches!(self.kind, b'i' | b'u')
    }

    /// True for signed integers.
    pub(crate) fn is_signed(&self) -> bool {
        self.kind == b'i'
    }

    /// The dtype of the elements, or what they are called where rows cannot have it.
    pub(crate) fn dtype(&self) -> Result<DType, String> {
        match (self.kind, self.item) {
            _ if self.foreign => Err("another order of bytes".to_owned()),
            (b'f', 4) => Ok(DType::F32),
            (b'f', 2) => Ok(DType::F16),
            (b'f', 8) => Ok(DType::F64),
            (b'b', 2) => Ok(DType::BF16),
            (b'i', 1) => Ok(DType::I8),
            (b'u', 1) => Ok(DType::U8),
            (b'i', item) => Err(format!("int{}", 8 * item)),
            (b'u', item) => Err(format!("uint{}", 8 * item)),
            (b'?', _) => Err("bool".to_owned()),
            (_, item) => Err(format!("elements of {item} bytes ({})", self.format)),
        }
    }

    /// The elements, or `None` where they do not lie one after the other, aligned, in this
    /// machine's order of bytes.
    pub(crate) fn elements<T: Pod>(&self) -> Option<&[T]> {
        let start = self.start.cast::<T>();
        if self.foreign || self.scattered || self.item != size_of::<T>() || !self.is_dense() {
            return None;
        }
        let count: usize = self.shape.iter().product();
        if count == 0 {
            return Some(&[]);
        }
        if !start.is_aligned() {
            return None;
        }
        // SAFETY: `shape` and `strides` say that from `start` on `count` items of the size of `T`
        // lie one after the other, and the owner keeps them there as long as `self` lives. The
        // start is aligned, and any bytes are a `T`. That nothing writes meanwhile is promised.
        Some(unsafe { std::slice::from_raw_parts(start, count) })
    }

    /// True where elements lie one after the other, the last dimension first.
    fn is_dense(&self) -> bool {
        let mut expected = self.item;
        for (length, stride) in self.shape.iter().zip(&self.strides).rev() {
            if *length == 0 {
                return true;
            }
            if *length != 1 && usize::try_from(*stride) != Ok(expected) {
                return self.shape.contains(&0);
            }
            expected *= length;
        }
        true
    }

    /// The bytes of an output from its first row to the end of its last one, and its row stride
    /// in bytes. Its shape has to be that of the ids and `dim`; rows may be apart, but not
    /// elements.
    pub(crate) fn rows_to_fill(
        &mut self,
        ids: &[usize],
        dim: usize,
    ) -> PyResult<(&mut [u8], usize)> {
        let wrong = |what: String| Err(PyValueError::new_err(format!("out: {what}")));
        let (shape, item) = (&self.shape, self.item);
        if shape.split_last() != Some((&dim, ids)) {
            let expected = ids.iter().chain([&dim]).collect::<Vec<_>>();
            return wrong(format!("expected the shape {expected:?}, found {shape:?}"));
        }
        if self.readonly {
            return wrong(
                "expected memory that may be written to, found a read-only one".to_owned(),
            );
        }
        if self.scattered {
            return wrong("expected plain memory, found pointers to it".to_owned());
        }
        let rows: usize = ids.iter().product();
        let row = dim * item;
        if rows == 0 || row == 0 {
            return Ok((&mut [], row));
        }
        if !self.start.addr().is_multiple_of(item.max(1)) {
            return wrong(
                "expected aligned elements; give an array that numpy calls ALIGNED".to_owned(),
            );
        }
        let strides = &self.strides;
        let Some(stride) = row_stride(ids, strides, row, item) else {
            return wrong(format!(
                "expected rows at one distance with their elements together, found strides \
                 {strides:?}"
            ));
        };
        let length = (rows - 1) * stride + row;
        // SAFETY: the strides are those of `rows` rows at `stride`, upwards from `start`, so
        // these bytes are between the memory's first and its last, which the owner keeps there as
        // long as `self` lives, writable as asked above. That nobody else touches them meanwhile
        // is promised.
        Ok((unsafe { std::slice::from_raw_parts_mut(self.start, length) }, stride))
    }
}

/// `i`, `u`, `f`, `?`, or `V` for whatever else, as numpy has them, of a code of the buffer
/// protocol.
fn kind_of(code: u8) -> u8 {
    match code {
        b'b' | b'h' | b'i' | b'l' | b'q' | b'n' => b'i',
        b'B' | b'H' | b'I' | b'L' | b'Q' | b'N' => b'u',
        b'e' | b'f' | b'd' => b'f',
        b'?' => b'?',
        _ => b'V',
    }
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
