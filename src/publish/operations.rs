//! The one door through which files are made.
//!
//! A hook in front of it lets tests record what is done, and make any of it fail.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::system::{self, Directory, Mode};

/// One change to the file system, about to be made.
#[derive(Debug, Clone, Copy)]
#[allow(dead_code, reason = "only hooks look at what they are handed, and not at all of it")]
pub(crate) enum Operation<'a> {
    CreateTemporary,
    Allocate,
    Write { offset: u64, bytes: &'a [u8] },
    CreateSpool,
    WriteSpool { bytes: &'a [u8] },
    SetMode,
    SyncFile,
    Rename,
    SyncDirectory,
    Unlink,
}

/// Called before each operation: fails it, or says how many bytes of a write are made.
pub(crate) type Hook = dyn Fn(Operation<'_>) -> io::Result<usize> + Send + Sync;

/// Makes the changes, and calls the hook before each.
#[derive(Clone, Default)]
pub(crate) struct Operations {
    hook: Option<Arc<Hook>>,
}

impl Operations {
    #[cfg(test)]
    pub(crate) fn hooked(hook: Arc<Hook>) -> Self {
        Operations { hook: Some(hook) }
    }

    pub(crate) fn create_temporary(
        &self,
        directory: &Directory,
        name: &OsStr,
        mode: Mode,
    ) -> io::Result<File> {
        self.before(Operation::CreateTemporary)?;
        directory.create(name, mode)
    }

    pub(crate) fn allocate(&self, file: &File, bytes: u64) -> io::Result<()> {
        self.before(Operation::Allocate)?;
        system::allocate(file, bytes)
    }

    pub(crate) fn write(&self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all(file, offset, bytes, |offset, bytes| Operation::Write { offset, bytes })
    }

    pub(crate) fn create_spool(&self, directory: &Path) -> io::Result<File> {
        self.before(Operation::CreateSpool)?;
        tempfile::tempfile_in(directory)
    }

    pub(crate) fn write_spool(&self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all(file, offset, bytes, |_, bytes| Operation::WriteSpool { bytes })
    }

    pub(crate) fn set_mode(&self, file: &File, mode: Mode) -> io::Result<()> {
        self.before(Operation::SetMode)?;
        system::set_mode(file, mode)
    }

    /// Flushes the file, once: after a failed flush the kernel may count lost pages as
    /// written, so a second one that succeeds would mean nothing.
    pub(crate) fn sync_file(&self, file: &File) -> io::Result<()> {
        self.before(Operation::SyncFile)?;
        file.sync_all()
    }

    /// Renames within the directory; unless `replace`, fails where `to` exists.
    pub(crate) fn rename(
        &self,
        directory: &Directory,
        from: &OsStr,
        to: &OsStr,
        replace: bool,
    ) -> io::Result<()> {
        self.before(Operation::Rename)?;
        if replace { directory.rename(from, to) } else { directory.rename_new(from, to) }
    }

    pub(crate) fn sync_directory(&self, directory: &Directory) -> io::Result<()> {
        self.before(Operation::SyncDirectory)?;
        directory.sync()
    }

    pub(crate) fn unlink(&self, directory: &Directory, name: &OsStr) -> io::Result<()> {
        self.before(Operation::Unlink)?;
        directory.unlink(name)
    }

    /// Survives interruptions and short writes.
    fn write_all(
        &self,
        file: &File,
        mut offset: u64,
        mut bytes: &[u8],
        describe: for<'a> fn(u64, &'a [u8]) -> Operation<'a>,
    ) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = self
                .before(describe(offset, bytes))
                .and_then(|most| system::write_at(file, &bytes[..bytes.len().min(most)], offset));
            match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    bytes = &bytes[written..];
                    offset += written as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn before(&self, operation: Operation<'_>) -> io::Result<usize> {
        self.hook.as_ref().map_or(Ok(usize::MAX), |hook| hook(operation))
    }
}

impl fmt::Debug for Operations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operations").field("hooked", &self.hook.is_some()).finish()
    }
}
