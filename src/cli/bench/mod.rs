//! `embmap bench`: how fast batches are gathered, beside the limit measured in the same run.

mod args;
mod cap;
mod check;
mod counters;
mod figures;
mod ids;
mod limit;
mod measure;
mod plot;
mod report;
mod run;
mod samples;
mod state;
mod work;

pub(crate) use args::BenchArgs;
pub(crate) use run::run;
