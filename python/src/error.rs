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
    ("`embmap info PATH --tensors` lists", "`embmap.tensors(path)` lists"),
    ("`Table::load`, `Access::Read`, or the unsafe `Table::map`", "`access=\"read\"`"),
    ("map it instead (`Table::map`)", "map it instead (`access=\"map\"`)"),
    ("open it with `Table::map` or `Table::load`", "open it with `access=\"map\"`"),
    (
        "or allow it with `OpenOptions::allow_network_map`",
        "or allow it with `allow_network_map=True`",
    ),
    ("`Access::Read`", "`access=\"read\"`"),
    ("Access::Read", "access=\"read\""),
    ("ask for fewer with `threads`", "ask for fewer with `threads=`"),
    ("Pooling::Max", "\"max\""),
    ("Metric::Dot", "`metric=\"dot\"`"),
    ("(and convert again), or give ids or --token", "(and convert again)"),
    ("use gather_into or encoded_row", "use gather"),
    ("use row, rows or gather_into", "use gather"),
    ("use gather_into", "use gather"),
];

/// Options of the command line that have another name in Python, or are switched on.
const RENAMED: [(&str, &str); 2] =
    [("force", "replace=True"), ("follow-links", "follow_links=True")];

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
    if message.contains("--") { keywords(&message) } else { message }
}

/// A message with the options of the command line as keywords, and without what Rust calls them:
/// "--follow-links (`OpenOptions::follow_links`)" is "`follow_links=True`".
fn keywords(message: &str) -> String {
    let mut told = String::with_capacity(message.len());
    let mut rest = message;
    while let Some(start) = rest.find(" --").map(|at| at + 1) {
        let (before, option) = rest.split_at(start);
        told.push_str(before);
        let option = &option[2..];
        let end =
            option.find(|c: char| !c.is_ascii_lowercase() && c != '-').unwrap_or(option.len());
        let (name, after) = option.split_at(end);
        if name.is_empty() {
            told.push_str("--");
        } else {
            let renamed = RENAMED.iter().find(|(theirs, _)| *theirs == name);
            let usual = || name.replace('-', "_") + "=";
            told.push('`');
            told.push_str(&renamed.map_or_else(usual, |(_, ours)| (*ours).to_owned()));
            told.push('`');
        }
        rest = after;
        if let Some(rust) = rest.strip_prefix(" (`")
            && let Some((path, after)) = rust.split_once("`)")
            && path.contains("::")
        {
            rest = after;
        }
    }
    told + rest
}

/// The error of a call on a table that was closed.
pub(crate) fn closed(what: &str) -> PyErr {
    PyValueError::new_err(format!("the {what} is closed"))
}
