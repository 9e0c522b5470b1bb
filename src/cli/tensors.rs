//! `embmap info --tensors`: what a checkpoint holds.

use std::io::Write;
use std::path::Path;

use anyhow::Result;
use comfy_table::{CellAlignment, Table as Grid, presets};
use embmap::TensorInfo;

use super::console::size;
use super::escape::printable;
use super::json::Object;
use super::output::Output;

/// The tensors whose columns are aligned together: a grid takes a kilobyte for each.
const GRID: usize = 2000;

/// Prints each tensor as one line of JSON.
pub(crate) fn print_json(tensors: &[TensorInfo]) -> Result<()> {
    let mut out = Output::stdout();
    for tensor in tensors {
        Object::new()
            .with("name", tensor.name.as_str())
            .with("dtype", tensor.dtype.as_str())
            .with("shape", tensor.shape.clone())
            .with("bytes", tensor.bytes)
            .with("file", tensor.file.to_string_lossy())
            .with("picked", tensor.picked)
            .write(&mut out)?;
    }
    out.finish()
}

/// Prints the tensors as lines of columns; a star marks the one that would be opened.
pub(crate) fn print_text(tensors: &[TensorInfo]) -> Result<()> {
    let mut out = Output::stdout();
    for some in tensors.chunks(GRID) {
        writeln!(out, "{}", columns(some.iter().map(row), &[4]))?;
    }
    out.finish()
}

fn row(tensor: &TensorInfo) -> [String; 6] {
    [
        if tensor.picked { "*" } else { "" }.to_owned(),
        printable(&tensor.name),
        shape(&tensor.shape),
        printable(&tensor.dtype),
        size(tensor.bytes),
        file_name(&tensor.file),
    ]
}

/// Lines of columns, with those of `right` aligned to the right.
pub(crate) fn columns<const N: usize>(
    rows: impl Iterator<Item = [String; N]>,
    right: &[usize],
) -> String {
    let mut grid = Grid::new();
    grid.load_style(presets::NOTHING).add_rows(rows);
    for index in right {
        if let Some(column) = grid.column_mut(*index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for column in grid.column_iter_mut() {
        column.set_padding((0, 2));
    }
    grid.trim_fmt()
}

fn shape(lengths: &[u64]) -> String {
    let lengths: Vec<String> = lengths.iter().map(u64::to_string).collect();
    format!("[{}]", lengths.join(", "))
}

/// The last part of a path, for people.
pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| printable(&name.to_string_lossy()))
}
