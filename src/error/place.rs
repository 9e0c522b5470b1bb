//! Where in a foreign file something is wrong.

use std::fmt;

/// A place in a file of a foreign format.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// A byte offset from the start of the file.
    Offset(u64),
    /// A line, counted from 1.
    Line(u64),
    /// A row, counted from 0 as ids are.
    Row(u64),
    /// A named entry: a tensor, a key.
    Name(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Offset(offset) => write!(f, "byte {offset}"),
            Place::Line(line) => write!(f, "line {line}"),
            Place::Row(row) => write!(f, "row {row}"),
            Place::Name(name) => write!(f, "{name:?}"),
        }
    }
}
