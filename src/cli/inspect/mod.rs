//! `embmap inspect`: what a table holds, for whoever has to trust it.

mod args;
mod findings;
mod lines;
mod object;
mod page;
mod report;
mod text;

pub(crate) use args::{InspectArgs, run};
