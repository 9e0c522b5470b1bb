//! The rows nearest to a vector: exact, over all rows, streamed.

mod nearest;
mod options;
mod scan;
mod top;

pub use nearest::{Metric, Neighbour};
pub use options::NearestOptions;
