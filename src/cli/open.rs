//! The table that a subcommand works on, and how it is opened.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, ValueEnum};
use embmap::{Access, Error, OpenOptions, Table};

use super::console::Console;

/// Which table, and how to open it.
#[derive(Args)]
pub(crate) struct TableArgs {
    /// An .emb file, a .safetensors file or a model directory
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
    /// The tensor of a checkpoint that is the table [default: found by its name]
    #[arg(long, value_name = "NAME", help_heading = "Opening")]
    tensor: Option<String>,
    /// Follow links that lead out of a model directory
    #[arg(long, help_heading = "Opening")]
    follow_links: bool,
    /// How rows are reached [default: map, or read where that cannot be]
    #[arg(long, value_name = "HOW", help_heading = "Opening")]
    access: Option<Reach>,
    /// Read the files instead of mapping them: --access read
    #[arg(long, conflicts_with = "access", help_heading = "Opening")]
    no_map: bool,
}

/// How many threads a subcommand may use.
#[derive(Args)]
struct ThreadsArgs {
    /// Threads for large gathers [default: one for each core]
    #[arg(short = 'j', long, value_name = "N", help_heading = "Opening")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
}

/// How rows are reached.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Reach {
    /// Mapped: the fastest where rows are in memory
    Map,
    /// Read at each use
    Read,
    /// Read past the page cache: for tables that never fit in memory
    Direct,
}

impl TableArgs {
    pub(crate) fn options(&self) -> OpenOptions {
        let options = self.opening.options();
        match self.threads.threads {
            Some(threads) => options.threads(threads.into()),
            None => options,
        }
    }

    /// Opens the table for rows here and there: mapped, where that is possible.
    pub(crate) fn open(&self, console: &Console) -> Result<Table> {
        self.opening.open(&self.path, self.options(), console)
    }

    /// Opens the table without a map. Scans do so always: a file that is cut meanwhile is an
    /// error then and not a signal.
    pub(crate) fn open_unmapped(&self) -> Result<Table> {
        self.opening.open_unmapped(&self.path, self.options())
    }
}

impl OpeningArgs {
    pub(crate) fn options(&self) -> OpenOptions {
        let options = OpenOptions::new().follow_links(self.follow_links);
        match &self.tensor {
            Some(tensor) => options.tensor(tensor),
            None => options,
        }
    }

    /// Opens a table: mapped, where that is possible and nothing else was asked for.
    pub(crate) fn open(
        &self,
        path: &Path,
        options: OpenOptions,
        console: &Console,
    ) -> Result<Table> {
        if self.no_map || self.access.is_some_and(|reach| reach != Reach::Map) {
            return self.open_unmapped(path, options);
        }
        match map(path, options.clone()) {
            // A map is faster and nothing more: where it may not be, reads do as well.
            Err(error @ (Error::NetworkFileSystem { .. } | Error::MapLimit { .. })) => {
                console.detail(&format!("reading instead of mapping: {error}"));
                self.open_unmapped(path, options)
            }
            mapped => Ok(mapped?),
        }
    }

    fn open_unmapped(&self, path: &Path, options: OpenOptions) -> Result<Table> {
        let direct = self.access == Some(Reach::Direct);
        let access = if direct { Access::Direct } else { Access::Read };
        Ok(options.access(access).open(path)?)
    }
}

#[allow(unsafe_code)]
fn map(path: &Path, options: OpenOptions) -> embmap::Result<Table> {
    // SAFETY: as every program that maps its input, the command line assumes that nobody
    // writes to a table in place or cuts it while the command runs; `--help` of the commands
    // that map says so, and `--no-map` is the way out. embmap itself only ever replaces files
    // by rename. Rows are copied out of the map before they are used, so a broken assumption
    // shows as wrong numbers or a SIGBUS and reaches nothing else.
    unsafe { options.map(path) }
}
