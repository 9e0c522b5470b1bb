//! One file of a table: opened once, then in memory or read at offsets.

use std::borrow::Cow;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use memmap2::Mmap;

use super::direct::DirectFile;
use super::heap::AlignedBytes;
use super::map::{self, MapPolicy};
use crate::error::{Error, Result};

/// A stretch of bytes in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

impl Stretch {
    /// Where the stretch ends.
    pub(crate) fn end(self) -> u64 {
        self.offset + self.bytes
    }
}

/// A file, or bytes that stand for one.
pub(crate) struct StoredFile {
    path: PathBuf,
    bytes: u64,
    handle: Option<Handle>,
    resident: Resident,
}

/// An open file and how it looked when it was opened.
struct Handle {
    file: File,
    modified: Option<SystemTime>,
    /// The same file once more, for direct reads.
    direct: Option<DirectFile>,
}

/// The part of a file that is in memory.
enum Resident {
    Nothing,
    Mapped(Mmap),
    /// A copy of the bytes from `start` on.
    Heap {
        start: u64,
        copy: AlignedBytes,
    },
}

impl StoredFile {
    /// Opens a regular file for reading; nothing is read.
    ///
    /// A FIFO does not block and a device is not read: both are refused, as are directories.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;
            let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
            options.custom_flags(flags.bits().cast_signed());
        }
        let file = options.open(path).map_err(|source| refused(path, source))?;
        let status = file.metadata().map_err(|source| Error::io("inspect", path, source))?;
        if !status.is_file() {
            return Err(Error::NotRegularFile { path: path.to_path_buf(), kind: kind_of(&status) });
        }
        let modified = status.modified().ok();
        Ok(StoredFile {
            path: path.to_path_buf(),
            bytes: status.len(),
            handle: Some(Handle { file, modified, direct: None }),
            resident: Resident::Nothing,
        })
    }

    /// A copy of bytes that stand for a file; `name` is shown in errors.
    pub(crate) fn from_bytes(bytes: &[u8], name: &str) -> Result<Self> {
        let path = PathBuf::from(name);
        let copy = AlignedBytes::copy_of(bytes)
            .ok_or_else(|| Error::OutOfMemory { path: path.clone(), bytes: bytes.len() as u64 })?;
        Ok(StoredFile {
            path,
            bytes: bytes.len() as u64,
            handle: None,
            resident: Resident::Heap { start: 0, copy },
        })
    }

    /// Owned bytes that stand for a file, written by `fill`; `name` is shown in errors.
    pub(crate) fn filled(
        bytes: u64,
        name: &Path,
        fill: impl FnOnce(&mut [u8]) -> Result<()>,
    ) -> Result<Self> {
        let path = name.to_path_buf();
        let copy = usize::try_from(bytes).ok().and_then(AlignedBytes::zeroed);
        let Some(mut copy) = copy else { return Err(Error::OutOfMemory { path, bytes }) };
        fill(copy.as_mut_slice())?;
        Ok(StoredFile { path, bytes, handle: None, resident: Resident::Heap { start: 0, copy } })
    }

    /// The path that the file was opened by.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The length of the file when it was opened.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Maps the file.
    ///
    /// # Safety
    ///
    /// Under [`MapPolicy::Promised`] the caller promises that the file is not written to or
    /// cut while this value lives. Under [`MapPolicy::Immutable`] nothing is asked.
    pub(crate) unsafe fn map(&mut self, policy: MapPolicy) -> Result<()> {
        if let Some(handle) = &self.handle {
            // SAFETY: the map is dropped with `self`, and the caller gives the promise.
            self.resident = Resident::Mapped(unsafe {
                map::map(&handle.file, &self.path, self.bytes, policy)?
            });
        }
        Ok(())
    }

    /// Opens the file for direct reads.
    pub(crate) fn open_direct(&mut self) -> Result<()> {
        if let Some(handle) = &mut self.handle {
            let opened = DirectFile::open(&handle.file);
            handle.direct = Some(opened.map_err(|source| refused(&self.path, source))?);
        }
        Ok(())
    }

    /// As [`open_direct`](StoredFile::open_direct), where the file system refuses each read.
    #[cfg(test)]
    pub(super) fn open_misaligned(&mut self) {
        if let Some(handle) = &mut self.handle {
            handle.direct = Some(DirectFile::misaligned(&handle.file));
        }
    }

    /// Makes direct reads those of another file.
    #[cfg(test)]
    pub(super) fn open_another(&mut self, file: &File) {
        if let Some(handle) = &mut self.handle {
            handle.direct = Some(DirectFile::plain(file));
        }
    }

    /// The file as it was opened for direct reads.
    pub(crate) fn direct(&self) -> Option<&DirectFile> {
        self.handle.as_ref()?.direct.as_ref()
    }

    /// What direct reads are multiples of.
    pub(super) fn alignment(&self) -> u64 {
        self.direct().map_or(1, DirectFile::alignment)
    }

    /// Copies `length` bytes from `start` on into owned memory and closes the file.
    pub(crate) fn load(&mut self, start: u64, length: u64) -> Result<()> {
        if self.handle.is_none() {
            return Ok(());
        }
        let out_of_memory = || Error::OutOfMemory { path: self.path.clone(), bytes: length };
        let mut copy = usize::try_from(length)
            .ok()
            .and_then(AlignedBytes::zeroed)
            .ok_or_else(out_of_memory)?;
        self.read_at(start, copy.as_mut_slice())?;
        self.resident = Resident::Heap { start, copy };
        self.handle = None;
        Ok(())
    }

    /// The open descriptor, where there is one.
    #[cfg(target_os = "linux")]
    pub(super) fn descriptor(&self) -> Option<&File> {
        self.handle.as_ref().map(|handle| &handle.file)
    }

    /// The map, where there is one.
    #[cfg(unix)]
    pub(super) fn mapped(&self) -> Option<&Mmap> {
        match &self.resident {
            Resident::Mapped(map) => Some(map),
            Resident::Nothing | Resident::Heap { .. } => None,
        }
    }

    /// True where the whole file, or the part that was loaded, is in memory.
    pub(crate) fn is_resident(&self) -> bool {
        !matches!(self.resident, Resident::Nothing)
    }

    /// True where the bytes are a copy of our own.
    pub(super) fn is_owned(&self) -> bool {
        matches!(self.resident, Resident::Heap { .. })
    }

    /// Bytes in memory, or `None` where they are not.
    #[inline]
    pub(crate) fn slice(&self, offset: u64, length: usize) -> Option<&[u8]> {
        let (memory, start) = match &self.resident {
            Resident::Nothing => return None,
            Resident::Mapped(map) => (&map[..], offset),
            Resident::Heap { start, copy } => (copy.as_slice(), offset.checked_sub(*start)?),
        };
        let start = usize::try_from(start).ok()?;
        memory.get(start..start.checked_add(length)?)
    }

    /// Bytes borrowed where they are in memory, read where not.
    ///
    /// The memory allocated is never more than the file is long.
    pub(crate) fn bytes_at(&self, offset: u64, length: u64) -> Result<Cow<'_, [u8]>> {
        let in_file = offset.checked_add(length).is_some_and(|end| end <= self.bytes);
        let length = usize::try_from(length).ok().filter(|_| in_file);
        let length = length.ok_or_else(|| self.ends_before(offset))?;
        if let Some(slice) = self.slice(offset, length) {
            return Ok(Cow::Borrowed(slice));
        }
        let mut copy = Vec::new();
        copy.try_reserve_exact(length)
            .map_err(|_| Error::OutOfMemory { path: self.path.clone(), bytes: length as u64 })?;
        copy.resize(length, 0);
        self.read_at(offset, &mut copy)?;
        Ok(Cow::Owned(copy))
    }

    /// Fills `out` with the bytes from `offset` on, through the descriptor where there is
    /// one, never through a map.
    pub(crate) fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let end = offset.saturating_add(out.len() as u64);
        if let Some(handle) = &self.handle {
            return read_exact_at(&handle.file, out, offset).map_err(|source| {
                if source.kind() == io::ErrorKind::UnexpectedEof {
                    self.ends_before(end)
                } else {
                    Error::io("read", &self.path, source)
                }
            });
        }
        let bytes = self.slice(offset, out.len()).ok_or_else(|| self.ends_before(end))?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    /// Looks once whether the file still has the length and time it was opened with.
    pub(crate) fn check_alive(&self) -> Result<()> {
        let Some(handle) = &self.handle else { return Ok(()) };
        let status =
            handle.file.metadata().map_err(|source| Error::io("inspect", &self.path, source))?;
        let changed = |reason| Err(Error::FileChanged { path: self.path.clone(), reason });
        if status.len() != self.bytes {
            return changed(format!("it had {} bytes, and has {}", self.bytes, status.len()));
        }
        if status.modified().ok() != handle.modified {
            return changed("it was written to".to_owned());
        }
        Ok(())
    }

    fn ends_before(&self, end: u64) -> Error {
        Error::FileChanged {
            path: self.path.clone(),
            reason: format!("it had {} bytes, and ends before byte {end}", self.bytes),
        }
    }
}

/// Turns a failed open into an error, with the limit that is the usual cause.
fn refused(path: &Path, source: io::Error) -> Error {
    #[cfg(unix)]
    if [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE]
        .iter()
        .any(|errno| source.raw_os_error() == Some(errno.raw_os_error()))
    {
        return Error::TooManyFiles { path: path.to_path_buf(), source };
    }
    Error::io("open", path, source)
}

/// What a path is that is not a regular file.
pub(crate) fn kind_of(status: &Metadata) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let kind = status.file_type();
        if kind.is_fifo() {
            return "a FIFO";
        }
        if kind.is_socket() {
            return "a socket";
        }
        if kind.is_block_device() || kind.is_char_device() {
            return "a device";
        }
    }
    if status.is_dir() {
        "a directory"
    } else if status.is_symlink() {
        "a symbolic link"
    } else {
        "something else"
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, out: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut out: &mut [u8], mut offset: u64) -> io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !out.is_empty() {
        match file.seek_read(out, offset) {
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
