//! embmap.

use std::ffi::c_char;
use std::sync::Mutex;

use embmap::{
    Access, BagOptions, ConvertOptions, GatherOptions, OpenOptions, Outputs, Pooling, Recycled,
    Table, convert,
};

use crate::{opened, path, slice, slice_mut, status};

/// A table, and the fresh output that a loop over batches would still hold.
pub struct Ours {
    table: Table,
    kept: Mutex<Option<Vec<f32>>>,
    outputs: Outputs,
    recycled: Mutex<Option<Recycled<f32>>>,
}

/// Opens a table: mapped (0), read (1) or read past the page cache (2).
///
/// # Safety
///
/// `file` is a string that ends with a zero. Nothing writes to the file as long as the process lives.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ours_open(file: *const c_char, access: i32) -> *mut Ours {
    // SAFETY: the caller's promise.
    let file = unsafe { path(file) };
    let options = OpenOptions::new();
    let table = match access {
        // SAFETY: the caller's promise.
        0 => unsafe { options.map(file) },
        1 => options.access(Access::Read).open(file),
        _ => options.access(Access::Direct).open(file),
    };
    opened(table.map(|table| Ours {
        table,
        kept: Mutex::default(),
        outputs: Outputs::new(),
        recycled: Mutex::default(),
    }))
}

/// Writes any table as an `.emb` file.
///
/// # Safety
///
/// Both are strings that end with a zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ours_convert(from: *const c_char, to: *const c_char) -> i32 {
    // SAFETY: the caller's promise.
    let (from, to) = unsafe { (path(from), path(to)) };
    let options = ConvertOptions::new().replace(true);
    let from = OpenOptions::new().open(from);
    status(from.and_then(|from| convert(&from, to, &options)).map(|_| ()))
}

/// Brings all rows into the page cache and the page tables.
///
/// # Safety
///
/// `ours` is a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ours_warm(ours: *const Ours) -> i32 {
    // SAFETY: the caller's promise.
    let table = unsafe { &(*ours).table };
    status(table.warm(..).and_then(|()| table.prefault(..)))
}

/// Takes the table's files out of the page cache; gives the bytes that stayed, -1 where that is
/// not known.
///
/// # Safety
///
/// `ours` is a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ours_evict(ours: *const Ours) -> i64 {
    // SAFETY: the caller's promise.
    let left = unsafe { &(*ours).table }.evict();
    left.ok().and_then(|left| left.cached_bytes?.try_into().ok()).unwrap_or(-1)
}

/// Gathers rows as `f32`.
///
/// # Safety
///
/// `ours` is a handle, there are `count` ids, and room for `length` elements that nobody uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ours_gather(
    ours: *const Ours,
    ids: *const i64,
    count: usize,
    out: *mut f32,
    length: usize,
    threads: usize,
) -> i32 {
    // SAFETY: the caller's promise.
    let (table, ids, out) = unsafe { (&(*ours).table, slice(ids, count), slice_mut(out, length)) };
    status(table.gather_into_with(ids, out, &GatherOptions::new().threads(threads)))
}

/// Gathers rows into a fresh `Vec` and tells where they are; null where that failed. It is
/// dropped when the next one is there.
///
/// # Safety
///
/// `ours` is a handle, and there are `count` ids.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ours_fresh(
    ours: *const Ours,
    ids: *const i64,
    count: usize,
) -> *const f32 {
    // SAFETY: the caller's promise.
    let (ours, ids) = unsafe { (&*ours, slice(ids, count)) };
    match (ours.table.gather(ids), ours.kept.lock()) {
        (Ok(rows), Ok(mut kept)) => kept.insert(rows).as_ptr(),
        _ => std::ptr::null(),
    }
}

/// As [`ours_fresh`], in memory that an earlier output has left.
///
/// # Safety
///
/// `ours` is a handle, and there are `count` ids.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ours_recycled(
    ours: *const Ours,
    ids: *const i64,
    count: usize,
) -> *const f32 {
    // SAFETY: the caller's promise.
    let (ours, ids) = unsafe { (&*ours, slice(ids, count)) };
    match (ours.table.gather_recycled(ids, &ours.outputs), ours.recycled.lock()) {
        (Ok(rows), Ok(mut kept)) => kept.insert(rows).as_ptr(),
        _ => std::ptr::null(),
    }
}

/// Drops the fresh output.
///
/// # Safety
///
/// `ours` is a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ours_drop_fresh(ours: *const Ours) {
    // SAFETY: the caller's promise.
    if let Ok(mut kept) = unsafe { &(*ours).kept }.lock() {
        *kept = None;
    }
}

/// Sums bags of rows. There is one offset more than there are bags.
///
/// # Safety
///
/// `ours` is a handle, there are `count` ids and `offset_count` offsets, and room for `length`
/// elements that nobody uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ours_bag(
    ours: *const Ours,
    ids: *const i64,
    count: usize,
    offsets: *const i64,
    offset_count: usize,
    out: *mut f32,
    length: usize,
    threads: usize,
) -> i32 {
    // SAFETY: the caller's promise.
    let (table, ids, offsets, out) = unsafe {
        (&(*ours).table, slice(ids, count), slice(offsets, offset_count), slice_mut(out, length))
    };
    let options = BagOptions::new().threads(threads);
    status(table.embedding_bag_into_with(ids, offsets, None, Pooling::Sum, out, &options))
}
