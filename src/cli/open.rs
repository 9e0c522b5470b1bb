//! The table that a subcommand works on, and how it is opened.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, ValueEnum};
use embmap::{Access, Error, OpenOptions, Table};

use super::console::Console;

/// Which table, and how to open it.
#[derive(Args)]
pub(crate) struct TableArgs {
    /// An .emb, .safetensors, .gguf, .npy or .npz file, a model directory, or org/name of a model
    /// in the local hub cache
    #[arg(value_name = "TABLE")]
    pub(crate) path: PathBuf,
    #[command(flatten)]
    opening: OpeningArgs,
    #[command(flatten)]
    threads: ThreadsArgs,
}

/// How a path is to be understood.
#[derive(Args)]
pub(crate) struct OpeningArgs {
    /// The tensor of a checkpoint that is the table, with {} for the number of a piece where
    /// it lies in many; the array of an .npz archive [default: found by its name]
    #[arg(long, value_name = "NAME", help_heading = "Opening")]
    tensor: Option<String>,
    /// The tensor of a quantized table's scales, or `none` [default: found by its name]
    #[arg(long, value_name = "NAME", help_heading = "Opening")]
    scales: Option<String>,
    /// The tensor of a quantized table's biases, or `none` [default: found by its name]
    #[arg(long, value_name = "NAME", help_heading = "Opening")]
    biases: Option<String>,
    /// Follow links that lead out of a model directory
    #[arg(long, help_heading = "Opening")]
    follow_links: bool,
    /// Read the files instead of mapping them; the same as --access read
    #[arg(long, help_heading = "Opening")]
    no_map: bool,
    /// How rows are reached [default: map, where that is possible]
    #[arg(long, value_name = "WAY", help_heading = "Opening", conflicts_with = "no_map")]
    access: Option<AccessArg>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum AccessArg {
    /// The files are mapped
    Map,
    /// Each row is read when it is asked for
    Read,
    /// As read, but past the page cache: for tables that never fit in memory
    Direct,
}

impl AccessArg {
    /// The access of an open without a map.
    fn unmapped(of: Option<Self>) -> Access {
        if of == Some(AccessArg::Direct) { Access::Direct } else { Access::Read }
    }
}

/// How many threads a subcommand may use.
#[derive(Args)]
struct ThreadsArgs {
    /// Threads for large gathers [default: one for each core]
    #[arg(short = 'j', long, value_name = "N", help_heading = "Opening")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
}

impl TableArgs {
    pub(crate) fn options(&self) -> OpenOptions {
        let options = self.opening.options();
        match self.threads.threads {
            Some(threads) => options.threads(threads.into()),
            None => options,
        }
    }

    /// The threads that were asked for.
    pub(crate) fn thread_count(&self) -> Option<usize> {
        self.threads.threads.map(usize::from)
    }

    /// Opens the table for rows here and there: mapped, where that is possible.
    pub(crate) fn open(&self, console: &Console) -> Result<Table> {
        self.opening.open(&self.path, self.options(), console)
    }

    /// Opens the table of a static model: mapped, where that is possible.
    pub(crate) fn open_static_model(&self, console: &Console) -> Result<Table> {
        self.opening.open(&self.path, self.options().static_model(true), console)
    }

    /// How to open the table without a map.
    pub(crate) fn unmapped_options(&self) -> OpenOptions {
        self.options().access(AccessArg::unmapped(self.opening.access))
    }

    /// The threads that were asked for.
    pub(crate) fn threads(&self) -> Option<usize> {
        self.threads.threads.map(usize::from)
    }

    /// Opens the table without a map. Scans do so always: a file that is cut meanwhile is an
    /// error then and not a signal.
    pub(crate) fn open_unmapped(&self) -> Result<Table> {
        unmapped(&self.path, self.unmapped_options())
    }
}

impl OpeningArgs {
    pub(crate) fn options(&self) -> OpenOptions {
        let options = OpenOptions::new().follow_links(self.follow_links);
        let options = match &self.tensor {
            Some(tensor) => options.tensor(tensor),
            None => options,
        };
        let options = match &self.scales {
            Some(scales) => options.scales(scales),
            None => options,
        };
        match &self.biases {
            Some(biases) => options.biases(biases),
            None => options,
        }
    }

    /// Opens a table: mapped, where that is possible and not refused.
    pub(crate) fn open(
        &self,
        path: &Path,
        options: OpenOptions,
        console: &Console,
    ) -> Result<Table> {
        if self.no_map || matches!(self.access, Some(AccessArg::Read | AccessArg::Direct)) {
            return unmapped(path, options.access(AccessArg::unmapped(self.access)));
        }
        match map(path, options.clone()) {
            // A map is faster and nothing more: where it may not be, reads do as well.
            Err(error @ (Error::NetworkFileSystem { .. } | Error::MapLimit { .. }))
                if self.access.is_none() =>
            {
                console.detail(&format!("reading instead of mapping: {error}"));
                unmapped(path, options.access(Access::Read))
            }
            mapped => Ok(mapped?),
        }
    }
}

/// Opens a table to be read at offsets.
fn unmapped(path: &Path, options: OpenOptions) -> Result<Table> {
    Ok(options.open(path)?)
}

/// Maps a table.
#[allow(unsafe_code)]
pub(crate) fn map(path: &Path, options: OpenOptions) -> embmap::Result<Table> {
    // SAFETY: as every program that maps its input, the command line assumes that nobody
    // writes to a table in place or cuts it while the command runs; `--help` of the commands
    // that map says so, and `--no-map` is the way out. embmap itself only ever replaces files
    // by rename. Rows are copied out of the map before they are used, so a broken assumption
    // shows as wrong numbers or a SIGBUS and reaches nothing else.
    unsafe { options.map(path) }
}
