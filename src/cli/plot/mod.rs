//! `embmap plot`: rows as points on a plane, near where rows are alike.

mod args;
mod choose;
mod kmeans;
mod labels;
mod near;
mod page;
mod pca;
mod picture;
mod points;
mod svg;
mod tree;
mod tsne;

pub(crate) use args::{PlotArgs, run};
