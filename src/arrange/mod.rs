//! Which rows are to lie together: an order of rows, from a trace of the batches that used them.
//!
//! What a cold batch costs is the pages that its rows lie on. Rows that are used much share pages
//! with each other (by use), or rows that are used in the same batches do (together); which of the
//! two serves better is tried on batches that neither was made from.

mod bisect;
mod choose;
mod orders;
mod score;
mod trace;

pub use choose::{Arrangement, Placement};
pub use trace::AccessTrace;
