//! The memory that Python and Rust share. All `unsafe` of the package is here.
//!
//! Three promises are asked of Python's side, as of any native library that lets other threads
//! run while it works: that nothing writes to a mapped file (`embmap.open`), that nothing writes
//! to ids while they are taken over, and that nothing touches an `out=` while it is filled.
#![allow(unsafe_code)]

mod dlpack;
mod given;
mod lends;

pub(crate) use given::Given;
pub(crate) use lends::{LentOutput, LentRows, map, offer_back};
