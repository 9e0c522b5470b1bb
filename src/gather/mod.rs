//! Copying rows for ids, in batches.
//!
//! Ids are checked, all of them, before the first byte is written. A small batch is copied
//! by the calling thread, a large one in one contiguous chunk a thread. Rows that are not in
//! memory are found out and asked for many at once.

mod bag;
mod direct;
mod ids;
mod into;
mod offsets;
mod options;
mod outputs;
mod places;
mod placing;
mod plan;
mod pool;
mod prefetch;
mod rows;
mod warm;
mod window;

pub use bag::Pooling;
pub use ids::Id;
pub(crate) use options::kernels;
pub use options::{BagOptions, GatherOptions};
pub use outputs::{Outputs, Recycled};
pub(crate) use pool::{Crew, lock};
#[cfg(feature = "import")]
pub(crate) use pool::{pool_of, threads};
