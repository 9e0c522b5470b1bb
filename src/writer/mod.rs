//! Writing tables: streaming, atomic, durable.
//!
//! Rows go straight to a temporary next to the destination, and everything that is known
//! only at the end (sections, trailer, header page) follows them, so the memory used does
//! not grow with the table. The destination changes in one rename, after the file was read
//! back and flushed: at every instant it is the whole old file, the whole new one, or absent.
//!
//! What makes it so is in the room `publish`.

mod body;
mod check;
mod norms;
mod options;
#[cfg(feature = "import")]
mod size;
mod sort;
mod spool;
mod table_writer;
#[cfg(test)]
#[cfg(unix)]
mod tests;
mod tokens;

pub use options::WriteOptions;
#[cfg(feature = "import")]
pub(crate) use size::TokenTotals;
#[cfg(feature = "import")]
pub(crate) use sort::PairSorter;
#[cfg(feature = "import")]
pub(crate) use spool::Spool;
pub use table_writer::{TableWriter, Written};
#[cfg(feature = "import")]
pub(crate) use tokens::{TwinFinder, Twins};
