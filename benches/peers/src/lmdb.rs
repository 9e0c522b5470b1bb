//! LMDB through heed: a row is the value of its id.

use std::ffi::c_char;
use std::path::Path;

use heed::types::{Bytes, U32};
use heed::{Database, Env, EnvFlags, EnvOpenOptions, PutFlags, byteorder::BigEndian};

use crate::{opened, path, slice, slice_mut, status};

type Rows = Database<U32<BigEndian>, Bytes>;

/// The rows that one transaction writes.
const BATCH: usize = 1 << 14;

/// An environment and its only database.
pub struct Lmdb {
    env: Env,
    rows: Rows,
}

/// Writes rows of a table into a folder that is there and empty.
///
/// # Safety
///
/// `folder` is a string that ends with a zero, and there are `vocab * row_bytes` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lmdb_write(
    folder: *const c_char,
    rows: *const u8,
    vocab: usize,
    row_bytes: usize,
) -> i32 {
    // SAFETY: the caller's promise.
    let (folder, rows) = unsafe { (path(folder), slice(rows, vocab * row_bytes)) };
    status(write(folder, rows, row_bytes))
}

fn environment(folder: &Path, flags: EnvFlags) -> heed::Result<Env> {
    let mut options = EnvOpenOptions::new();
    options.map_size(64 << 30);
    // SAFETY: the flags take away what keeps a crash, or a writer, from doing harm: this process
    // writes the files once and nobody does later.
    unsafe { options.flags(flags).open(folder) }
}

fn write(folder: &Path, rows: &[u8], row_bytes: usize) -> heed::Result<()> {
    let env = environment(folder, EnvFlags::NO_SYNC)?;
    let mut first = 0u32;
    for rows in rows.chunks(BATCH * row_bytes) {
        let mut transaction = env.write_txn()?;
        let database: Rows = env.create_database(&mut transaction, None)?;
        for row in rows.chunks_exact(row_bytes) {
            database.put_with_flags(&mut transaction, PutFlags::APPEND, &first, row)?;
            first += 1;
        }
        transaction.commit()?;
    }
    env.force_sync()?;
    env.prepare_for_closing().wait();
    Ok(())
}

/// Opens what was written.
///
/// # Safety
///
/// `folder` is a string that ends with a zero. Nothing writes there any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lmdb_open(folder: *const c_char) -> *mut Lmdb {
    // SAFETY: the caller's promise.
    opened(open(unsafe { path(folder) }))
}

fn open(folder: &Path) -> heed::Result<Lmdb> {
    // Without locks and without reading ahead: what suits random reads of a file at rest.
    let flags = EnvFlags::READ_ONLY | EnvFlags::NO_LOCK | EnvFlags::NO_READ_AHEAD;
    let env = environment(folder, flags)?;
    let transaction = env.read_txn()?;
    let rows = env.open_database(&transaction, None)?;
    drop(transaction);
    match rows {
        Some(rows) => Ok(Lmdb { env, rows }),
        None => Err(heed::Error::Io(std::io::ErrorKind::NotFound.into())),
    }
}

/// Copies rows, all in one transaction.
///
/// # Safety
///
/// `lmdb` is a handle, there are `count` ids, and room for `length` bytes that nobody uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lmdb_gather(
    lmdb: *const Lmdb,
    ids: *const i64,
    count: usize,
    out: *mut u8,
    length: usize,
) -> i32 {
    // SAFETY: the caller's promise.
    let (lmdb, ids, out) = unsafe { (&*lmdb, slice(ids, count), slice_mut(out, length)) };
    status(gather(lmdb, ids, out))
}

fn gather(lmdb: &Lmdb, ids: &[i64], out: &mut [u8]) -> heed::Result<()> {
    let transaction = lmdb.env.read_txn()?;
    let row_bytes = out.len() / ids.len().max(1);
    for (id, out) in ids.iter().zip(out.chunks_exact_mut(row_bytes.max(1))) {
        match lmdb.rows.get(&transaction, &(*id as u32))? {
            Some(row) => out.copy_from_slice(row),
            None => return Err(heed::Error::Io(std::io::ErrorKind::NotFound.into())),
        }
    }
    Ok(())
}
