//! The command line: raw arguments, resolved, run.

mod bench;
mod completions;
mod console;
mod convert;
mod embed;
mod escape;
mod export;
mod failure;
mod gather;
mod get;
mod hint;
mod html;
mod ids;
mod info;
mod inspect;
mod interrupt;
mod json;
mod npy;
mod open;
mod output;
mod panics;
mod plot;
mod progress;
mod query;
mod range;
mod selftest;
mod similar;
mod tensors;
mod texts;
mod tokenize;
mod tokens;
mod trace;
mod values;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use console::{Console, ConsoleArgs};
use failure::{Ending, Finding};

/// Rows of embedding tables by id, by token and by text, from disk.
///
/// A TABLE is an .emb, .safetensors, .gguf, .npy or .npz file or a model directory. Data goes to
/// standard output, everything else to standard error.
#[derive(Parser)]
#[command(name = "embmap", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    console: ConsoleArgs,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0 done, 1 failed or damage found, 2 wrong usage, 130 interrupted";

#[derive(Subcommand)]
enum Command {
    /// Show what a table is and where it lies
    Info(info::InfoArgs),
    /// Print rows by id, by token or by text
    Get(get::GetArgs),
    /// Write a batch of rows to a .npy file, as raw bytes or as JSON lines
    Gather(gather::GatherArgs),
    /// Write a table as one .emb file
    Convert(convert::ConvertArgs),
    /// Write a table in the format of another tool: safetensors, npy, Parquet, word2vec, GloVe
    Export(export::ExportArgs),
    /// Read a whole table and check everything that its file promises
    Verify(verify::VerifyArgs),
    /// Report what a table holds: lengths, duplicates, directions, what smaller dtypes cost
    Inspect(inspect::InspectArgs),
    /// Measure how fast batches of rows are gathered, beside the limit of the machine
    Bench(bench::BenchArgs),
    /// Find the rows nearest to tokens, texts or vectors
    Similar(similar::SimilarArgs),
    /// Find what is to C as A is to B
    Analogy(similar::AnalogyArgs),
    /// Show the tokens of texts, by the model's own tokenizer
    Tokenize(tokenize::TokenizeArgs),
    /// Make vectors of texts: the mean of the rows of their tokens, as static models have it
    Embed(embed::EmbedArgs),
    /// Try what embmap promises on this machine and file system
    Selftest(selftest::SelftestArgs),
    /// Draw rows as points, near where they are alike: a page to explore, or an SVG
    Plot(plot::PlotArgs),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
}

/// Runs the program on its arguments.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing is left to be told where even this cannot be written.
            _ = error.print();
            return Ending::of_usage(error.exit_code()).into();
        }
    };
    interrupt::install();
    let console = Console::new(&cli.console);
    panics::keep_quiet();
    let result = panics::caught(|| match cli.command {
        Command::Info(args) => info::run(&args),
        Command::Get(args) => get::run(&args, &console),
        Command::Gather(args) => gather::run(&args, &console),
        Command::Convert(args) => convert::run(&args, &console),
        Command::Export(args) => export::run(&args, &console),
        Command::Verify(args) => verify::run(&args, &console),
        Command::Inspect(args) => inspect::run(&args, &console),
        Command::Bench(args) => bench::run(&args, &console),
        Command::Similar(args) => similar::similar(&args, &console),
        Command::Analogy(args) => similar::analogy(&args, &console),
        Command::Tokenize(args) => tokenize::run(&args, &console),
        Command::Embed(args) => embed::run(&args, &console),
        Command::Selftest(args) => selftest::run(&args, &console),
        Command::Plot(args) => plot::run(&args, &console),
        Command::Completions(args) => completions::run(&args),
    });
    failure::report(result, &console).into()
}

/// What a subcommand hands back.
type Outcome = anyhow::Result<Finding>;
