//! What a table holds: one pass over all rows, in constant memory.

mod costs;
mod directions;
mod duplicates;
mod found;
mod norms;
mod options;
mod pass;
mod products;
mod row;
mod run;
mod sample;
mod spectrum;
mod tokens;

pub use found::{
    Cost, Directions, Duplicates, Inspection, NormBin, NormedRow, Norms, Repeated, RowList, Tokens,
    Values,
};
pub use options::InspectOptions;
