//! DLPack, both ways: tensors of other libraries seen in place, and ours for them.
//!
//! The structures are those of `dlpack.h` 1.1 (https://dmlc.github.io/dlpack/latest/c_api.html),
//! the rules for capsules those of its Python specification.

use std::ffi::{CStr, c_int, c_void};
use std::ptr::NonNull;

use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use crate::dtype::Known;

const UNVERSIONED: &CStr = c"dltensor";
const VERSIONED: &CStr = c"dltensor_versioned";

/// The flag of what must not be written to.
const READ_ONLY: u64 = 1;
/// The flag of what was copied for who asked.
const IS_COPIED: u64 = 2;

/// Memory that a CPU reaches as its own: its own, and what CUDA and ROCm have pinned of it.
const ON_THE_CPU: [c_int; 3] = [1, 3, 11];

#[repr(C)]
struct Device {
    kind: c_int,
    id: c_int,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct DataType {
    code: u8,
    bits: u8,
    lanes: u16,
}

#[repr(C)]
struct Tensor {
    data: *mut c_void,
    device: Device,
    ndim: c_int,
    dtype: DataType,
    shape: *mut i64,
    /// In elements; null where they lie one after the other.
    strides: *mut i64,
    byte_offset: u64,
}

#[repr(C)]
struct Managed {
    tensor: Tensor,
    context: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut Managed)>,
}

#[repr(C)]
struct Version {
    major: u32,
    minor: u32,
}

#[repr(C)]
struct ManagedVersioned {
    version: Version,
    context: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut ManagedVersioned)>,
    flags: u64,
    tensor: Tensor,
}

/// What a tensor of another library is made of.
pub(super) struct Found {
    pub(super) start: *mut u8,
    /// The letter of its elements' kind, as `Given` has them, and their size.
    pub(super) kind: u8,
    pub(super) item: usize,
    pub(super) shape: Vec<usize>,
    /// In bytes.
    pub(super) strides: Vec<isize>,
}

/// What an unversioned capsule holds, or `None` where it is not on the CPU, or has elements of
/// several numbers.
pub(super) fn look(capsule: &Bound<'_, PyCapsule>) -> PyResult<Option<Found>> {
    let pointer = capsule.pointer_checked(Some(UNVERSIONED))?;
    // SAFETY: by DLPack's rules a capsule of this name points to a `DLManagedTensor`, which stays
    // as it is until the capsule, which is not consumed here, is gone.
    let tensor = unsafe { &pointer.cast::<Managed>().as_ref().tensor };
    let DataType { code, bits, lanes } = tensor.dtype;
    let dimensions = usize::try_from(tensor.ndim).unwrap_or(0);
    if !ON_THE_CPU.contains(&tensor.device.kind) || lanes != 1 || !bits.is_multiple_of(8) {
        return Ok(None);
    }
    let item = usize::from(bits / 8);
    let kind = match code {
        0 => b'i',
        1 => b'u',
        2 => b'f',
        4 => b'b',
        6 => b'?',
        _ => return Ok(None),
    };
    let numbers = |start: *const i64| {
        if dimensions == 0 {
            return &[][..];
        }
        // SAFETY: both arrays have an entry for each dimension, and stay as the tensor does.
        unsafe { std::slice::from_raw_parts(start, dimensions) }
    };
    let shape: Vec<usize> =
        numbers(tensor.shape).iter().map(|n| usize::try_from(*n).unwrap_or(0)).collect();
    let bytes = |elements: i64| isize::try_from(elements).unwrap_or(0) * item.cast_signed();
    let strides = if tensor.strides.is_null() {
        let mut next = 1;
        let mut strides: Vec<isize> = shape
            .iter()
            .rev()
            .map(|length| {
                let here = bytes(next);
                next *= i64::try_from(*length).unwrap_or(0);
                here
            })
            .collect();
        strides.reverse();
        strides
    } else {
        numbers(tensor.strides).iter().map(|n| bytes(*n)).collect()
    };
    let offset = usize::try_from(tensor.byte_offset).unwrap_or(0);
    let start = tensor.data.cast::<u8>().wrapping_add(offset);
    Ok(Some(Found { start, kind, item, shape, strides }))
}

/// The shape of what is handed out, and the distances in it, in elements.
pub(super) struct Shape {
    pub(super) lengths: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

impl Shape {
    /// Of elements one after the other.
    pub(super) fn dense(lengths: Vec<usize>) -> Self {
        let mut next = 1;
        let mut strides: Vec<usize> = lengths
            .iter()
            .rev()
            .map(|length| {
                let here = next;
                next *= length;
                here
            })
            .collect();
        strides.reverse();
        Shape { lengths, strides }
    }
}

/// How a tensor is handed out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// To whoever knows no versions: memory that may be written to.
    Unversioned,
    ReadOnly,
    Copied,
}

/// What a tensor that was handed out needs as long as it lives.
struct Held {
    shape: Vec<i64>,
    strides: Vec<i64>,
    owner: Py<PyAny>,
}

/// A capsule over memory that `owner` owns.
///
/// # Safety
///
/// From `start` on lie elements of the dtype in that shape, readable as long as `owner` lives, and
/// writable too unless `manner` says `ReadOnly`.
pub(super) unsafe fn capsule<'py>(
    owner: &Bound<'py, PyAny>,
    start: *mut u8,
    shape: &Shape,
    known: &Known,
    manner: Manner,
) -> PyResult<Bound<'py, PyCapsule>> {
    let numbers = |numbers: &[usize]| -> PyResult<Vec<i64>> {
        let wide = numbers.iter().map(|n| i64::try_from(*n));
        wide.collect::<Result<_, _>>()
            .map_err(|_| PyValueError::new_err("more elements than DLPack can count"))
    };
    let owner_held = owner.clone().unbind();
    let (lengths, strides) = (numbers(&shape.lengths)?, numbers(&shape.strides)?);
    let mut held = Box::new(Held { shape: lengths, strides, owner: owner_held });
    let tensor = Tensor {
        data: start.cast(),
        device: Device { kind: 1, id: 0 },
        ndim: c_int::try_from(held.shape.len()).unwrap_or(0),
        dtype: DataType { code: known.dlpack, bits: known.bits(), lanes: 1 },
        shape: held.shape.as_mut_ptr(),
        strides: held.strides.as_mut_ptr(),
        byte_offset: 0,
    };
    let context = Box::into_raw(held).cast();
    let (pointer, name): (NonNull<c_void>, _) = if manner == Manner::Unversioned {
        let managed = Managed { tensor, context, deleter: Some(delete) };
        (NonNull::from(Box::leak(Box::new(managed))).cast(), UNVERSIONED)
    } else {
        let version = Version { major: 1, minor: 0 };
        let flags = if manner == Manner::ReadOnly { READ_ONLY } else { IS_COPIED };
        let deleter = Some(delete_versioned as unsafe extern "C" fn(_));
        let managed = ManagedVersioned { version, context, deleter, flags, tensor };
        (NonNull::from(Box::leak(Box::new(managed))).cast(), VERSIONED)
    };
    // SAFETY: the pointer is of the structure that the name promises, and `forgotten` frees it
    // once, where no consumer did.
    unsafe {
        PyCapsule::new_with_pointer_and_destructor(owner.py(), pointer, name, Some(forgotten))
    }
}

/// Frees what a capsule that nobody consumed holds. Who consumes one renames it.
///
/// # Safety
///
/// `capsule` is one that `capsule` made, as Python destroys it.
unsafe extern "C" fn forgotten(capsule: *mut ffi::PyObject) {
    // SAFETY: it is a capsule; the name is compared, and no error is set.
    let unversioned = unsafe { ffi::PyCapsule_IsValid(capsule, UNVERSIONED.as_ptr()) } == 1;
    // SAFETY: as above.
    let versioned = unsafe { ffi::PyCapsule_IsValid(capsule, VERSIONED.as_ptr()) } == 1;
    if unversioned {
        // SAFETY: it has that name.
        let pointer = unsafe { ffi::PyCapsule_GetPointer(capsule, UNVERSIONED.as_ptr()) };
        // SAFETY: what has that name is a `Managed`, and nobody consumed it.
        unsafe { delete(pointer.cast()) };
    } else if versioned {
        // SAFETY: it has that name.
        let pointer = unsafe { ffi::PyCapsule_GetPointer(capsule, VERSIONED.as_ptr()) };
        // SAFETY: what has that name is a `ManagedVersioned`, and nobody consumed it.
        unsafe { delete_versioned(pointer.cast()) };
    }
}

/// # Safety
///
/// `managed` came out of `capsule`, and this is its only use from now on.
unsafe extern "C" fn delete(managed: *mut Managed) {
    if managed.is_null() {
        return;
    }
    // SAFETY: `capsule` made it of a box.
    let managed = unsafe { Box::from_raw(managed) };
    // SAFETY: the context is what `capsule` put there.
    unsafe { let_go(managed.context) };
}

/// # Safety
///
/// As `delete`.
unsafe extern "C" fn delete_versioned(managed: *mut ManagedVersioned) {
    if managed.is_null() {
        return;
    }
    // SAFETY: `capsule` made it of a box.
    let managed = unsafe { Box::from_raw(managed) };
    // SAFETY: the context is what `capsule` put there.
    unsafe { let_go(managed.context) };
}

/// # Safety
///
/// `context` is that of a tensor that `capsule` made, and this is its only use from now on.
unsafe fn let_go(context: *mut c_void) {
    let context = context.cast::<Held>();
    if context.is_null() {
        return;
    }
    // SAFETY: `capsule` made it of a box of this type.
    let held = unsafe { Box::from_raw(context) };
    let Held { owner, .. } = *held;
    // The consumer may be on any thread, and may come when Python has gone, memory and all.
    let mut owner = Some(owner);
    if Python::try_attach(|_| drop(owner.take())).is_none() {
        std::mem::forget(owner.take());
    }
}
