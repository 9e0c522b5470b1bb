//! Where a table is to be published: an open directory and a name in it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf, is_separator};

use super::system::{Directory, Mode};
use crate::error::{Error, Result};

/// Looks whether a file may be published at a path, without making one.
///
/// # Errors
///
/// As for making one: what stands there, or that the directory cannot be opened.
pub(crate) fn check_destination(path: &Path, replace: bool) -> Result<()> {
    Destination::open(path, replace)?.check().map(|_| ())
}

/// A destination, its directory opened once.
pub(super) struct Destination {
    /// The path as the caller gave it, for messages.
    path: PathBuf,
    /// The directory's path, which a change of the working directory does not move.
    parent: PathBuf,
    directory: Directory,
    name: OsString,
    replace: bool,
}

impl Destination {
    /// Opens the directory that the destination lies in.
    pub(super) fn open(path: &Path, replace: bool) -> Result<Self> {
        let ends_open = path
            .as_os_str()
            .as_encoded_bytes()
            .last()
            .is_some_and(|c| is_separator(char::from(*c)));
        let Some(name) = path.file_name().filter(|_| !ends_open) else {
            let reason = "the path ends without a file name; give the name of the file to write";
            return Err(Error::Destination { path: path.to_path_buf(), reason: reason.to_owned() });
        };
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let opened = |source| Error::io("open", parent, source);
        Ok(Destination {
            path: path.to_path_buf(),
            parent: std::path::absolute(parent).map_err(opened)?,
            directory: Directory::open(parent).map_err(opened)?,
            name: name.to_owned(),
            replace,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn parent(&self) -> &Path {
        &self.parent
    }

    pub(super) fn directory(&self) -> &Directory {
        &self.directory
    }

    pub(super) fn name(&self) -> &OsStr {
        &self.name
    }

    pub(super) fn replace(&self) -> bool {
        self.replace
    }

    /// Looks whether the table may be published here, and gives the mode of the file that
    /// it would replace.
    pub(super) fn check(&self) -> Result<Option<Mode>> {
        let status = self.directory.status(&self.name);
        let Some(status) = status.map_err(|source| self.error("inspect", source))? else {
            return Ok(None);
        };
        if let Some(kind) = status.other_kind {
            let reason = format!(
                "{kind} stands there, expected nothing or a regular file; give the path of the file itself, or remove what is there"
            );
            return Err(Error::Destination { path: self.path.clone(), reason });
        }
        if !self.replace {
            return Err(Error::Exists { path: self.path.clone() });
        }
        Ok(Some(status.mode))
    }

    pub(super) fn error(&self, operation: &'static str, source: io::Error) -> Error {
        Error::io(operation, &self.path, source)
    }
}
