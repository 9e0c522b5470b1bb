//! The file that is being written, under a name of its own until it is published.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::destination::Destination;
use super::operations::Operations;
use super::system::{Mode, NEW_FILE, interim_mode};
use crate::error::{Error, Result};

/// How temporaries are recognised: `.NAME.XXXXXXXX.embmap-tmp`.
const SUFFIX: &str = ".embmap-tmp";

/// The random characters of a temporary's name.
const RANDOM_CHARACTERS: usize = 8;

/// The longest file name, in bytes, on the file systems that matter.
const LONGEST_NAME: usize = 255;

/// Names tried before a directory full of temporaries is an error.
const ATTEMPTS: usize = 64;

/// A sibling of the destination; removed when dropped, unless it was published.
pub(crate) struct Temporary {
    destination: Destination,
    name: OsString,
    file: File,
    old_mode: Option<Mode>,
    operations: Operations,
    /// The process that removes it: a forked child drops a copy of this value.
    process: u32,
    published: bool,
}

impl Temporary {
    /// Checks the destination and creates a temporary next to it.
    pub(crate) fn create(path: &Path, replace: bool, operations: Operations) -> Result<Self> {
        let destination = Destination::open(path, replace)?;
        let old_mode = destination.check()?;
        let mode = old_mode.map_or(NEW_FILE, interim_mode);
        let (name, file) = create_beside(&destination, mode, &operations)
            .map_err(|source| destination.error("create a temporary file for", source))?;
        let process = std::process::id();
        Ok(Temporary { destination, name, file, old_mode, operations, process, published: false })
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn operations(&self) -> &Operations {
        &self.operations
    }

    /// The path as the caller gave it.
    pub(crate) fn destination_path(&self) -> &Path {
        self.destination.path()
    }

    /// The directory that the file and its spools lie in.
    pub(crate) fn directory_path(&self) -> &Path {
        self.destination.parent()
    }

    /// The path of the file as long as it is not published.
    pub(crate) fn path(&self) -> PathBuf {
        self.destination.parent().join(&self.name)
    }

    pub(crate) fn error(&self, operation: &'static str, source: io::Error) -> Error {
        self.destination.error(operation, source)
    }

    /// Flushes the file, gives it its name, and flushes the directory.
    pub(crate) fn publish(mut self) -> Result<()> {
        let (destination, operations) = (&self.destination, &self.operations);
        // Something may have come to stand there since the first look.
        if let Some(mode) = destination.check()?.or(self.old_mode) {
            operations
                .set_mode(&self.file, mode)
                .map_err(|source| destination.error("set the mode of", source))?;
        }
        operations.sync_file(&self.file).map_err(|source| destination.error("flush", source))?;
        operations
            .rename(destination.directory(), &self.name, destination.name(), destination.replace())
            .map_err(|source| match source.kind() {
                io::ErrorKind::AlreadyExists => {
                    Error::Exists { path: destination.path().to_path_buf() }
                }
                _ => destination.error("publish", source),
            })?;
        self.published = true;
        operations.sync_directory(destination.directory()).map_err(|source| {
            Error::PublishedNotDurable { path: destination.path().to_path_buf(), source }
        })
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.published && self.process == std::process::id() {
            // What led here is already reported, and a leftover is recognised by its name.
            let _ = self.operations.unlink(self.destination.directory(), &self.name);
        }
    }
}

fn create_beside(
    destination: &Destination,
    mode: Mode,
    operations: &Operations,
) -> io::Result<(OsString, File)> {
    for _ in 0..ATTEMPTS {
        let name = temporary_name(destination.name())?;
        match operations.create_temporary(destination.directory(), &name, mode) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            created => return Ok((name, created?)),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// A hidden, random name that tells what it belongs to.
fn temporary_name(name: &OsStr) -> io::Result<OsString> {
    const ALPHABET: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
    let mut random = [0; RANDOM_CHARACTERS];
    fill_random(&mut random)?;
    let mut temporary = OsString::from(".");
    temporary.push(shortened(name, LONGEST_NAME - 2 - RANDOM_CHARACTERS - SUFFIX.len()));
    temporary.push(".");
    for byte in random {
        temporary.push(char::from(ALPHABET[usize::from(byte % 32)]).encode_utf8(&mut [0; 4]));
    }
    temporary.push(SUFFIX);
    Ok(temporary)
}

/// A name, or the longest start of it that fits and is text.
fn shortened(name: &OsStr, most: usize) -> OsString {
    if name.len() <= most {
        return name.to_owned();
    }
    let text = name.to_string_lossy();
    let end = (0..=most).rev().find(|end| text.is_char_boundary(*end));
    OsString::from(&text[..end.unwrap_or(0)])
}

/// Fills bytes from the system's random source.
pub(crate) fn fill_random(bytes: &mut [u8]) -> io::Result<()> {
    getrandom::fill(bytes).map_err(|error| {
        let code = error.raw_os_error().map(io::Error::from_raw_os_error);
        code.unwrap_or_else(|| io::Error::other(error.to_string()))
    })
}
