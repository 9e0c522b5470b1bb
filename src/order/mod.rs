//! The order that rows lie in, where it is not that of their ids: the section `row_order`. The
//! bytes are specified in `docs/format.md`.
//!
//! Some rows are placed: they lie at the start, in an order of their own. The others follow by
//! their ids. So a table of which few rows are used much needs to list only those.

mod encode;
mod lookup;
mod verify;

pub(crate) use encode::PlacedRows;
pub(crate) use lookup::OrderShape;
pub(crate) use verify::verify_order;
