//! embmap's errors as Python's: a built-in where one fits, `FormatError` for files that are not
//! what they should be.

use std::io;
use std::path::Path;

use embmap::Error;
use pyo3::exceptions::{
    PyFileExistsError, PyIndexError, PyKeyboardInterrupt, PyMemoryError, PyOSError, PyRuntimeError,
    PyValueError,
};
use pyo3::prelude::*;

pyo3::create_exception!(
    embmap,
    FormatError,
    PyValueError,
    "A file is damaged, cut, of an unknown version, or no embedding table at all."
);

/// What the library tells its Rust users to do, and the same for Python's.
const WAYS_OUT: [(&str, &str); 14] = [
    ("--tensor (`OpenOptions::tensor`)", "`tensor=`"),
    ("--follow-links (`OpenOptions::follow_links`)", "`follow_links=True`"),
    ("`OpenOptions::allow_network_map`", "`allow_network_map=True`"),
    ("--force (`WriteOptions::replace`)", "`replace=True`"),
    ("`Table::load`, `Access::Read`, or the unsafe `Table::map`", "`access=\"read\"`"),
    ("map it instead (`Table::map`)", "map it instead (`access=\"map\"`)"),
    ("open it with `Table::map` or `Table::load`", "open it with `access=\"map\"`"),
    ("`Access::Read`", "`access=\"read\"`"),
    ("Access::Read", "access=\"read\""),
    ("`threads`", "`threads=`"),
    ("ask for fewer with `threads`", "ask for fewer with `threads=`"),
    ("Pooling::Max", "\"max\""),
    ("(and convert again), or give ids or --token", "(and convert again)"),
    ("use gather_into or encoded_row", "use gather"),
];

/// The exception that an error of the library becomes.
pub(crate) fn raised(error: Error) -> PyErr {
    match error {
        Error::RowOutOfRange { .. } => PyIndexError::new_err(message(&error)),
        Error::Format { .. } | Error::Foreign { .. } | Error::NoTable { .. } => {
            FormatError::new_err(message(&error))
        }
        Error::OutOfMemory { .. } | Error::OutputMemory { .. } => {
            PyMemoryError::new_err(message(&error))
        }
        Error::Threads { .. } | Error::WriterPoisoned { .. } => {
            PyRuntimeError::new_err(message(&error))
        }
        Error::Interrupted => PyKeyboardInterrupt::new_err(()),
        Error::Exists { .. } => PyFileExistsError::new_err(message(&error)),
        Error::Io { operation, ref path, ref source } => {
            os_error(source, path, &format!("cannot {operation}: "))
                .unwrap_or_else(|| PyOSError::new_err(message(&error)))
        }
        Error::MapLimit { .. }
        | Error::TooManyFiles { .. }
        | Error::NetworkFileSystem { .. }
        | Error::NotRegularFile { .. }
        | Error::FileChanged { .. }
        | Error::PublishedNotDurable { .. } => PyOSError::new_err(message(&error)),
        _ => PyValueError::new_err(message(&error)),
    }
}

/// An `OSError` with its number and file name; Python picks the subclass by the number.
fn os_error(source: &io::Error, path: &Path, before: &str) -> Option<PyErr> {
    let errno = source.raw_os_error()?;
    let text = source.to_string();
    let text = text.strip_suffix(&format!(" (os error {errno})")).unwrap_or(&text);
    Some(PyOSError::new_err((errno, format!("{before}{text}"), path.as_os_str().to_owned())))
}

fn message(error: &Error) -> String {
    let mut message = error.to_string();
    for (rust, python) in WAYS_OUT {
        if message.contains(rust) {
            message = message.replace(rust, python);
        }
    }
    message
}

/// The error of a call on a table that was closed.
pub(crate) fn closed(what: &str) -> PyErr {
    PyValueError::new_err(format!("the {what} is closed"))
}
