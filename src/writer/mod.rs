//! Writing tables: streaming, atomic, durable.
//!
//! Rows go straight to a temporary next to the destination, and everything that is known
//! only at the end (sections, trailer, header page) follows them, so the memory used does
//! not grow with the table. The destination changes in one rename, after the file was read
//! back and flushed: at every instant it is the whole old file, the whole new one, or absent.
//!
//! Every change to the file system goes through `operations`, which tests can make fail.

mod body;
mod check;
mod destination;
mod operations;
mod options;
#[cfg(not(unix))]
mod portable;
mod sort;
mod spool;
mod table_writer;
mod temporary;
#[cfg(test)]
#[cfg(unix)]
mod tests;
mod tokens;
#[cfg(unix)]
mod unix;

#[cfg(not(unix))]
use portable as system;
#[cfg(unix)]
use unix as system;

pub use options::WriteOptions;
pub use table_writer::{TableWriter, Written};
