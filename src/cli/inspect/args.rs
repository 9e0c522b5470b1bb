//! The arguments, and the run.

use std::path::PathBuf;

use bytesize::ByteSize;
use clap::Args;
use embmap::InspectOptions;

use super::super::Outcome;
use super::super::console::Console;
use super::super::escape::printable_path;
use super::super::failure::{Finding, Usage};
use super::super::interrupt;
use super::super::open::TableArgs;
use super::super::output::{Output, is_dash};
use super::super::progress::{Progress, Unit};
use super::report::Report;
use super::{object, page, text};

const EXAMPLES: &str = "\
Examples:
  embmap inspect all-MiniLM-L6-v2
  embmap inspect gpt2.emb --json | jq '.duplicates.rows, .directions.effective_dim'
  embmap inspect words.emb --html words.html
  embmap inspect ngrams --memory 4GiB

Every row is read once, in order. Exact are lengths, rows of zeros, NaN and infinite elements, the
range of elements and the mean cosine of all pairs of rows. Repeated rows are exact up to 14
million different ones in 256 MiB (--memory), beyond that estimated from a part of all hashes.
Directions and the cost of dtypes come of a sample where a table has more than 33 million elements.
The report says which is which.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct InspectArgs {
    #[command(flatten)]
    table: TableArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Write the report as a page that needs nothing else; - is standard output
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Replace the page where it is there
    #[arg(short, long, requires = "html")]
    force: bool,
    /// The memory for finding repeated rows
    #[arg(long, value_name = "SIZE", default_value = "256MiB")]
    memory: ByteSize,
    /// The elements of the sample of rows
    #[arg(long, value_name = "N", default_value_t = 1 << 25)]
    sample: u64,
    /// What chooses the sample
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

impl InspectArgs {
    fn options(&self) -> InspectOptions {
        InspectOptions::new().memory(self.memory.as_u64()).sample(self.sample).seed(self.seed)
    }
}

pub(crate) fn run(args: &InspectArgs, console: &Console) -> Outcome {
    let to_stdout = args.html.as_deref().is_some_and(is_dash);
    if args.json && to_stdout {
        let reason = "a page and JSON cannot both go to standard output: give --html a file";
        return Err(Usage(reason.to_owned()).into());
    }
    // What cannot be written shows before the table is read.
    let page = args.html.as_deref().map(|path| Output::create(path, args.force)).transpose()?;
    let table = args.table.open_unmapped()?;
    console.detail(&format!("inspecting {}", printable_path(&args.table.path)));
    if page.is_some() {
        interrupt::defer();
    }
    let mut progress = Progress::new(Unit::Rows, console);
    let found = table.inspect_while(&args.options(), |done, all| {
        progress.show(done, all);
        if done == all {
            progress.then("looking at directions, dtypes and tokens");
        }
        interrupt::check()
    })?;
    drop(progress);
    let report = Report::of(&table, &args.table.path, &found)?;
    if let Some(page) = page {
        page::write(page, &report)?;
        if !to_stdout {
            let path = args.html.as_deref().map(printable_path).unwrap_or_default();
            console.summary(&format!("wrote {path}"));
        }
    }
    if args.json {
        object::object(&report).print()?;
    } else if args.html.is_none() {
        text::print(&report)?;
    }
    Ok(Finding::Sound)
}
