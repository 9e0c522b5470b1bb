//! Where an export goes: a file that is there whole or not at all, or a stream.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::publish::{Operations, Temporary};

/// An output, and how much of it is written.
pub(super) struct Out<'a> {
    sink: Sink<'a>,
    path: PathBuf,
    written: u64,
}

enum Sink<'a> {
    File(Box<Temporary>),
    Stream(&'a mut (dyn Write + Send)),
}

impl<'a> Out<'a> {
    /// A file beside its destination, published by [`finish`](Self::finish).
    pub(super) fn file(path: &Path, replace: bool, operations: &Operations) -> Result<Self> {
        let temporary = Temporary::create(path, replace, operations.clone())?;
        let sink = Sink::File(Box::new(temporary));
        Ok(Out { sink, path: path.to_path_buf(), written: 0 })
    }

    /// A stream of the caller's; `name` is what errors call it.
    pub(super) fn stream(stream: &'a mut (dyn Write + Send), name: &Path) -> Self {
        Out { sink: Sink::Stream(stream), path: name.to_path_buf(), written: 0 }
    }

    /// Sets space aside for so many bytes, so that a full disk is found at once.
    pub(super) fn allocate(&self, bytes: u64) -> Result<()> {
        let Sink::File(temporary) = &self.sink else { return Ok(()) };
        temporary
            .operations()
            .allocate(temporary.file(), bytes)
            .map_err(|source| temporary.error("allocate space for", source))
    }

    /// Adds bytes at the end.
    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.write_all(bytes).map_err(|source| Error::io("write", &self.path, source))
    }

    /// Where it goes, as errors call it.
    #[cfg(feature = "parquet")]
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The bytes that were written.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Flushes the output, and publishes it where it is a file.
    pub(super) fn finish(self) -> Result<()> {
        match self.sink {
            Sink::File(temporary) => temporary.publish(),
            Sink::Stream(stream) => {
                stream.flush().map_err(|source| Error::io("write", &self.path, source))
            }
        }
    }
}

impl Write for Out<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = match &mut self.sink {
            Sink::File(temporary) => {
                temporary.operations().write(temporary.file(), self.written, bytes)?;
                bytes.len()
            }
            Sink::Stream(stream) => stream.write(bytes)?,
        };
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
