//! finalfusion: a matrix of `f32` in a file, mapped.

use std::ffi::c_char;
use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::Path;
use std::sync::Mutex;

use finalfusion::embeddings::Embeddings;
use finalfusion::error::{Error, Result};
use finalfusion::io::{MmapEmbeddings, WriteEmbeddings};
use finalfusion::norms::NdNorms;
use finalfusion::storage::{MmapArray, NdArray, Storage, StorageView};
use finalfusion::vocab::SimpleVocab;
use ndarray::{Array1, Array2};

use crate::{opened, path, slice, slice_mut, status};

/// Mapped embeddings, and the fresh output that a loop over batches would still hold.
pub struct Mapped {
    embeddings: Embeddings<SimpleVocab, MmapArray>,
    kept: Mutex<Option<Array2<f32>>>,
}

/// Writes rows of a table, with their ids as words.
///
/// # Safety
///
/// `file` is a string that ends with a zero, and there are `vocab * dim` elements.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn finalfusion_write(
    file: *const c_char,
    rows: *const f32,
    vocab: usize,
    dim: usize,
) -> i32 {
    // SAFETY: the caller's promise.
    let (file, rows) = unsafe { (path(file), slice(rows, vocab * dim)) };
    status(write(file, rows, vocab, dim))
}

fn write(file: &Path, rows: &[f32], vocab: usize, dim: usize) -> Result<()> {
    let words: Vec<String> = (0..vocab).map(|id| id.to_string()).collect();
    let matrix = Array2::from_shape_vec((vocab, dim), rows.to_vec()).map_err(Error::MatrixShape)?;
    let norms = NdNorms::new(Array1::ones(vocab));
    let embeddings = Embeddings::new(None, SimpleVocab::new(words), NdArray::new(matrix), norms);
    let file = File::create(file).map_err(|error| Error::write_error("cannot create", error))?;
    embeddings.write_embeddings(&mut BufWriter::new(file))
}

/// Maps what was written.
///
/// # Safety
///
/// `file` is a string that ends with a zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn finalfusion_open(file: *const c_char) -> *mut Mapped {
    // SAFETY: the caller's promise.
    let file = unsafe { path(file) };
    opened(map(file).map(|embeddings| Mapped { embeddings, kept: Mutex::new(None) }))
}

fn map(file: &Path) -> Result<Embeddings<SimpleVocab, MmapArray>> {
    let file = File::open(file).map_err(|error| Error::read_error("cannot open", error))?;
    Embeddings::mmap_embeddings(&mut BufReader::new(file))
}

/// Copies rows, each from a view of the map.
///
/// # Safety
///
/// `mapped` is a handle, there are `count` ids below the number of rows, and room for `length`
/// elements that nobody uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn finalfusion_gather(
    mapped: *const Mapped,
    ids: *const i64,
    count: usize,
    out: *mut f32,
    length: usize,
) -> i32 {
    // SAFETY: the caller's promise.
    let (mapped, ids, out) = unsafe { (&*mapped, slice(ids, count), slice_mut(out, length)) };
    let view = mapped.embeddings.storage().view();
    let dim = view.ncols();
    for (id, out) in ids.iter().zip(out.chunks_exact_mut(dim)) {
        let row = view.row(*id as usize);
        match row.as_slice() {
            Some(row) => out.copy_from_slice(row),
            None => return 1,
        }
    }
    0
}

/// Selects rows into a fresh matrix and tells where they are; null where that failed. It is
/// dropped when the next one is there.
///
/// # Safety
///
/// `mapped` is a handle, and there are `count` ids below the number of rows.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn finalfusion_fresh(
    mapped: *const Mapped,
    ids: *const i64,
    count: usize,
) -> *const f32 {
    // SAFETY: the caller's promise.
    let (mapped, ids) = unsafe { (&*mapped, slice(ids, count)) };
    let ids: Vec<usize> = ids.iter().map(|id| *id as usize).collect();
    let rows = mapped.embeddings.storage().embeddings(&ids);
    match mapped.kept.lock() {
        Ok(mut kept) => kept.insert(rows).as_ptr(),
        Err(_) => std::ptr::null(),
    }
}
