//! embmap, its Rust peers and the limit of the memory, behind functions that Python calls: one
//! call a batch for each of them, as numpy and torch have.
//!
//! Every function takes `count` ids as `i64` and room for their rows. A handle comes from an
//! `open` function, null where that failed, and lives as long as the process; what a gather
//! returns is 0, or 1 where it failed. The reason goes to standard error.

mod finalfusion;
mod limit;
mod lmdb;
mod ours;

use std::ffi::{CStr, OsStr, c_char};
use std::fmt::Display;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A path that Python passed.
///
/// # Safety
///
/// `path` is a string that ends with a zero, and lives on.
unsafe fn path<'a>(path: *const c_char) -> &'a Path {
    // SAFETY: the caller's promise.
    let bytes = unsafe { CStr::from_ptr(path) }.to_bytes();
    Path::new(OsStr::from_bytes(bytes))
}

/// Memory that Python passed, to be read.
///
/// # Safety
///
/// There are `length` elements, and nobody writes to them while the slice lives.
unsafe fn slice<'a, T>(start: *const T, length: usize) -> &'a [T] {
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(start, length) }
}

/// Memory that Python passed, to be written.
///
/// # Safety
///
/// There are `length` elements, and nobody else uses them while the slice lives.
unsafe fn slice_mut<'a, T>(start: *mut T, length: usize) -> &'a mut [T] {
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts_mut(start, length) }
}

/// A handle, or null with the reason told.
fn opened<T, E: Display>(opened: Result<T, E>) -> *mut T {
    match opened {
        Ok(opened) => Box::into_raw(Box::new(opened)),
        Err(error) => {
            eprintln!("{error}");
            std::ptr::null_mut()
        }
    }
}

/// 0, or 1 with the reason told.
fn status<E: Display>(done: Result<(), E>) -> i32 {
    match done {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{error}");
            1
        }
    }
}
