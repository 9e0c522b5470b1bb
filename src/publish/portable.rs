//! The same as on Unix with what every system has: paths, and no modes.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// Files have no mode that the writer keeps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mode;

/// The mode of a new file.
pub(crate) const NEW_FILE: Mode = Mode;

pub(crate) fn interim_mode(last: Mode) -> Mode {
    last
}

/// The path of a directory.
pub(crate) struct Directory(PathBuf);

/// What stands at a name.
pub(crate) struct Status {
    /// What it is, where it is not a regular file.
    pub(crate) other_kind: Option<&'static str>,
    /// Its permission bits.
    pub(crate) mode: Mode,
}

impl Directory {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        if fs::metadata(path)?.is_dir() {
            Ok(Directory(path.to_path_buf()))
        } else {
            Err(io::ErrorKind::NotADirectory.into())
        }
    }

    /// What stands at a name, without following a link.
    pub(crate) fn status(&self, name: &OsStr) -> io::Result<Option<Status>> {
        match fs::symlink_metadata(self.0.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            status => {
                let status = status?;
                let other_kind = (!status.is_file()).then(|| crate::storage::kind_of(&status));
                Ok(Some(Status { other_kind, mode: Mode }))
            }
        }
    }

    /// Creates a file that was not there.
    pub(crate) fn create(&self, name: &OsStr, _: Mode) -> io::Result<File> {
        OpenOptions::new().write(true).create_new(true).open(self.0.join(name))
    }

    pub(crate) fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))
    }

    /// Renames, or fails where `to` exists.
    pub(crate) fn rename_new(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        match fs::hard_link(self.0.join(from), self.0.join(to)) {
            Ok(()) => {
                // The new name is complete; a name left over does not make it less so.
                let _ = self.unlink(from);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
            Err(_) if self.status(to)?.is_some() => Err(io::ErrorKind::AlreadyExists.into()),
            Err(_) => self.rename(from, to),
        }
    }

    pub(crate) fn unlink(&self, name: &OsStr) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
    }

    /// A directory cannot be flushed by its path; the file system's journal does it.
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "as on Unix")]
    pub(crate) fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Has the file system set space aside.
pub(crate) fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    file.set_len(bytes)
}

#[expect(clippy::unnecessary_wraps, reason = "as on Unix")]
pub(crate) fn set_mode(_: &File, _: Mode) -> io::Result<()> {
    Ok(())
}

#[cfg(windows)]
pub(crate) fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_write(file, bytes, offset)
}

#[cfg(windows)]
pub(crate) fn read_exact_at(file: &File, mut out: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !out.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, out, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                out = &mut out[read..];
                offset += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
