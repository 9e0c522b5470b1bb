//! What of a table is in memory, and the ways to bring it there and to let it go.

mod background;
mod budget;
mod evict;
mod fill;
mod load;
mod report;

pub use background::Warming;
pub use report::Residency;
