//! Errors of the system.

use std::io;
use std::path::Path;

use super::Error;

impl Error {
    /// An I/O error with the verb and the path it belongs to.
    pub(crate) fn io(operation: &'static str, path: &Path, source: io::Error) -> Self {
        Error::Io { operation, path: path.to_path_buf(), source }
    }
}
