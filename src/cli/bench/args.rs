//! What is to be measured: arguments, each in a type that holds nothing wrong.

use std::fmt;
use std::num::NonZero;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use clap::Args;

use super::super::failure::Usage;
use super::super::open::OpeningArgs;
use super::super::output::is_dash;

const EXAMPLES: &str = "\
Examples:
  embmap bench table.emb
  embmap bench table.emb --state cold --batch 16,4096 --plot cold.svg
  embmap bench llama-3 --ids zipf:1.1 --threads 1,2 --json | jq .share
  embmap bench table.emb --ids trace:ids.txt --out bag:32
  embmap bench table.emb --ids zipf:0.9 --record ids.txt --seconds 1

Each configuration (state, threads, batch) is measured by itself, batch by batch in turn with its
limit, and told by medians; GB are 10^9 bytes of the rows as they are stored. Ids are fresh for
each batch. The ids of zipf:S have the probability 1/rank^S, and the ranks are spread over the
table by a bijection, so that hot rows are no neighbours. A trace is a text of ids, separated by
white space; --batch cuts it, and at its end it starts again.

warm    all rows are in the page cache; those that were there stay as they are. The limit is copies of rows of the same size from memory
        in large pages, by as many threads.
cold    the table's files are dropped from the page cache before each batch, for every process
        that uses them. The limit is the rate at which the device reads as many distinct rows,
        past the page cache and many at the same time.
capped  the page cache has at most so many bytes for the files, by a memory cgroup (version 2,
        or 1) that is made for the run. The limit is as for cold.

Where a state cannot be had (files on tmpfs, pages that others hold, no cgroup) there are no
figures for it: it is told on standard error and by \"measured\":false, and the exit code is 1.
While a table is mapped nothing may write to its files in place; --access read or direct reads
them instead.";

/// The least that a cap may be: the process itself has to fit beside the pages.
const LEAST_CAP: u64 = 32 << 20;

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BenchArgs {
    /// An .emb file, a .safetensors file or a model directory
    #[arg(value_name = "TABLE")]
    pub(super) path: PathBuf,
    #[command(flatten)]
    pub(super) opening: OpeningArgs,
    /// Rows a batch; several are measured one after the other
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "64,4096,65536")]
    pub(super) batch: Vec<NonZero<usize>>,
    /// Which rows: uniform, zipf:S or trace:FILE
    #[arg(long, value_name = "IDS", default_value = "uniform")]
    pub(super) ids: Ids,
    /// Threads for large gathers [default: one for each core]
    #[arg(short = 'j', long, value_name = "N,...", value_delimiter = ',')]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    threads: Vec<u16>,
    /// Where the rows are before a batch: warm, cold or capped:BYTES
    #[arg(long, value_name = "STATE,...", value_delimiter = ',', default_value = "warm")]
    pub(super) state: Vec<State>,
    /// What becomes of the rows: f32, native (as stored) or bag:N (sums of N rows each)
    #[arg(long, value_name = "OUT", default_value = "f32")]
    pub(super) out: Out,
    /// How long to measure each configuration
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = parse_seconds)]
    pub(super) seconds: Duration,
    /// Draw the figures as an SVG
    #[arg(long, value_name = "FILE")]
    pub(super) plot: Option<PathBuf>,
    /// Write the ids that were gathered, a batch a line: a trace, for --ids and convert --order
    #[arg(long, value_name = "FILE")]
    pub(super) record: Option<PathBuf>,
    /// Replace the files of --plot and --record if they are there
    #[arg(short, long)]
    pub(super) force: bool,
    /// Print one JSON object a configuration
    #[arg(long)]
    pub(super) json: bool,
}

impl BenchArgs {
    /// Refuses what the parser cannot see.
    pub(super) fn check(&self) -> Result<(), Usage> {
        if [&self.plot, &self.record].into_iter().flatten().any(|path| is_dash(path)) {
            let reason = "the figures go to standard output: give a file with --plot and --record";
            return Err(Usage(reason.to_owned()));
        }
        if self.plot.is_some() && self.plot == self.record {
            return Err(Usage("--plot and --record name the same file".to_owned()));
        }
        Ok(())
    }

    pub(super) fn threads(&self) -> Vec<usize> {
        if self.threads.is_empty() {
            return vec![std::thread::available_parallelism().map_or(1, NonZero::get)];
        }
        self.threads.iter().copied().map(usize::from).collect()
    }

    /// The rows of the largest batch.
    pub(super) fn largest_batch(&self) -> usize {
        self.batch.iter().map(|batch| batch.get()).max().unwrap_or(1)
    }
}

/// Which rows are gathered.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Ids {
    Uniform,
    /// With this exponent.
    Zipf(f64),
    Trace(PathBuf),
}

impl FromStr for Ids {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            None if text == "uniform" => Ok(Ids::Uniform),
            Some(("zipf", exponent)) => match exponent.parse() {
                Ok(exponent) if (0.0..=100.0).contains(&exponent) => Ok(Ids::Zipf(exponent)),
                _ => Err("expected zipf:S with an exponent from 0 to 100, such as zipf:1.1"),
            },
            Some(("trace", path)) if !path.is_empty() => Ok(Ids::Trace(path.into())),
            _ => Err("expected uniform, zipf:S or trace:FILE"),
        }
    }
}

impl fmt::Display for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ids::Uniform => f.write_str("uniform"),
            Ids::Zipf(exponent) => write!(f, "zipf:{exponent}"),
            Ids::Trace(path) => write!(f, "trace:{}", path.display()),
        }
    }
}

/// Where the rows are before a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Warm,
    Cold,
    /// In a page cache of at most so many bytes.
    Capped(u64),
}

impl FromStr for State {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            None if text == "warm" => Ok(State::Warm),
            None if text == "cold" => Ok(State::Cold),
            Some(("capped", bytes)) => match bytes.parse::<ByteSize>() {
                Ok(bytes) if bytes.as_u64() >= LEAST_CAP => Ok(State::Capped(bytes.as_u64())),
                Ok(_) => Err(format!("expected a cap of at least {}", ByteSize::b(LEAST_CAP))),
                Err(_) => {
                    Err("expected capped:BYTES, such as capped:500000000 or capped:1GiB".to_owned())
                }
            },
            _ => Err("expected warm, cold or capped:BYTES".to_owned()),
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            State::Warm => f.write_str("warm"),
            State::Cold => f.write_str("cold"),
            State::Capped(bytes) => write!(f, "capped:{bytes}"),
        }
    }
}

/// What becomes of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Out {
    F32,
    Native,
    /// Sums of so many rows.
    Bag(NonZero<usize>),
}

impl FromStr for Out {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            None if text == "f32" => Ok(Out::F32),
            None if text == "native" => Ok(Out::Native),
            Some(("bag", rows)) => {
                let rows =
                    rows.parse().map_err(|_| "expected bag:N with at least one row a bag")?;
                Ok(Out::Bag(rows))
            }
            _ => Err("expected f32, native or bag:N"),
        }
    }
}

impl fmt::Display for Out {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Out::F32 => f.write_str("f32"),
            Out::Native => f.write_str("native"),
            Out::Bag(rows) => write!(f, "bag:{rows}"),
        }
    }
}

fn parse_seconds(text: &str) -> Result<Duration, &'static str> {
    const MOST: f64 = 86_400.0;
    let seconds = text.parse().ok().filter(|seconds| *seconds > 0.0 && *seconds <= MOST);
    seconds.map(Duration::from_secs_f64).ok_or("expected seconds, more than 0 and at most 86400")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_reads_back_as_the_same() {
        for text in ["uniform", "zipf:1.1", "zipf:0", "trace:a:b"] {
            assert_eq!(text.parse::<Ids>().unwrap().to_string(), text);
        }
        for text in ["warm", "cold", "capped:1000000000"] {
            assert_eq!(text.parse::<State>().unwrap().to_string(), text);
        }
        for text in ["f32", "native", "bag:32"] {
            assert_eq!(text.parse::<Out>().unwrap().to_string(), text);
        }
        assert_eq!("capped:1GiB".parse(), Ok(State::Capped(1 << 30)));
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for wrong in ["", "zipf", "zipf:", "zipf:-1", "zipf:NaN", "zipf:inf", "trace:", "uniform:1"]
        {
            assert!(wrong.parse::<Ids>().is_err(), "{wrong}");
        }
        for wrong in ["", "hot", "capped", "capped:", "capped:x", "capped:1", "warm:1"] {
            assert!(wrong.parse::<State>().is_err(), "{wrong}");
        }
        for wrong in ["", "f16", "bag", "bag:0", "bag:-1", "bag:x"] {
            assert!(wrong.parse::<Out>().is_err(), "{wrong}");
        }
        for wrong in ["0", "-1", "NaN", "inf", "1e9", "x", ""] {
            assert!(parse_seconds(wrong).is_err(), "{wrong}");
        }
    }
}
