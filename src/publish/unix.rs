//! Files relative to an open directory, so that a rename of a directory above it cannot
//! lead the writer elsewhere.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

pub(crate) use rustix::fs::Mode;
use rustix::fs::{AtFlags, FileType, OFlags};
use rustix::io::Errno;

/// The mode of a new file, before the umask takes its part.
pub(crate) const NEW_FILE: Mode = Mode::from_raw_mode(0o666);

/// The mode to write a file with that will get the mode `last`: nobody reads it meanwhile
/// who may not read it then, and who writes it can read it back.
pub(crate) fn interim_mode(last: Mode) -> Mode {
    (last & NEW_FILE) | Mode::RUSR | Mode::WUSR
}

/// An open directory.
pub(crate) struct Directory(File);

/// What stands at a name.
pub(crate) struct Status {
    /// What it is, where it is not a regular file.
    pub(crate) other_kind: Option<&'static str>,
    /// Its permission bits.
    pub(crate) mode: Mode,
}

impl Directory {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Directory(rustix::fs::open(path, flags, Mode::empty())?.into()))
    }

    /// What stands at a name, without following a link.
    pub(crate) fn status(&self, name: &OsStr) -> io::Result<Option<Status>> {
        let status = match rustix::fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(None),
            status => status?,
        };
        let other_kind = match FileType::from_raw_mode(status.st_mode) {
            FileType::RegularFile => None,
            FileType::Directory => Some("a directory"),
            FileType::Symlink => Some("a symbolic link"),
            FileType::Fifo => Some("a FIFO"),
            FileType::Socket => Some("a socket"),
            FileType::CharacterDevice | FileType::BlockDevice => Some("a device"),
            FileType::Unknown => Some("something else"),
        };
        Ok(Some(Status { other_kind, mode: Mode::from_raw_mode(status.st_mode) }))
    }

    /// Creates a file that was not there, under the umask.
    pub(crate) fn create(&self, name: &OsStr, mode: Mode) -> io::Result<File> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.0, name, flags, mode)?.into())
    }

    pub(crate) fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.0, from, &self.0, to)?)
    }

    /// Renames, or fails where `to` exists.
    pub(crate) fn rename_new(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
        {
            use rustix::fs::{RenameFlags, renameat_with};
            match renameat_with(&self.0, from, &self.0, to, RenameFlags::NOREPLACE) {
                // The file system, or the kernel, does not know the flag.
                Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
                renamed => return Ok(renamed?),
            }
        }
        self.rename_new_by_link(from, to)
    }

    /// A second name that must be new, then the first one taken away: as atomic, on every
    /// file system that has links. Where there are none, a look before the rename is all
    /// that is left.
    pub(crate) fn rename_new_by_link(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        match rustix::fs::linkat(&self.0, from, &self.0, to, AtFlags::empty()) {
            Ok(()) => {
                // The new name is complete; a name left over does not make it less so.
                let _ = self.unlink(from);
                Ok(())
            }
            Err(Errno::EXIST) => Err(Errno::EXIST.into()),
            Err(_) if self.status(to)?.is_some() => Err(Errno::EXIST.into()),
            Err(_) => self.rename(from, to),
        }
    }

    pub(crate) fn unlink(&self, name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.0, name, AtFlags::empty())?)
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        self.0.sync_all()
    }
}

/// Has the file system set space aside, where it can.
pub(crate) fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use rustix::fs::{FallocateFlags, fallocate};
        match rustix::io::retry_on_intr(|| fallocate(file, FallocateFlags::empty(), 0, bytes)) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
            allocated => Ok(allocated?),
        }
    }
    // Elsewhere an allocation may cut the file or fill it with zeros twice.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        let _ = (file, bytes);
        Ok(())
    }
}

pub(crate) fn set_mode(file: &File, mode: Mode) -> io::Result<()> {
    Ok(rustix::fs::fchmod(file, mode)?)
}

pub(crate) fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
    file.write_at(bytes, offset)
}

pub(crate) fn read_exact_at(file: &File, out: &mut [u8], offset: u64) -> io::Result<()> {
    file.read_exact_at(out, offset)
}
