//! A file that appears whole or not at all: written beside its destination, flushed, renamed.
//!
//! Every change to the file system goes through `operations`, which tests can make fail.

mod destination;
mod operations;
#[cfg(not(unix))]
mod portable;
mod temporary;
#[cfg(unix)]
mod unix;

#[cfg(not(unix))]
use portable as system;
#[cfg(unix)]
use unix as system;

pub(crate) use destination::check_destination;
#[cfg(test)]
pub(crate) use operations::Operation;
pub(crate) use operations::Operations;
#[cfg(test)]
#[cfg(unix)]
pub(crate) use system::Directory;
pub(crate) use system::read_exact_at;
pub(crate) use temporary::{Temporary, fill_random};
