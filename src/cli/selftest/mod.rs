//! `embmap selftest`: what is promised, tried in miniature on this machine and file system.

mod answers;
mod compatible;
mod damage;
mod publish;
mod readers;
mod sample;
mod score;

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use embmap::Error;
use serde_json::json;

use super::Outcome;
use super::console::Console;
use super::failure::Finding;
use super::interrupt;
use super::json::Object;
use super::output::Output;
use super::progress::{Progress, Unit};
use sample::Sample;
use score::Score;

const EXAMPLES: &str = "\
Examples:
  embmap selftest
  embmap selftest --dir /mnt/models --kills 200
  embmap selftest --json | jq '.promises[] | select(.failures > 0)'

A power cut cannot be tried here: that a flush is one is the file system's promise.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SelftestArgs {
    /// The directory, and so the file system, to write small files in and remove them again
    /// [default: that of temporary files]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// How often a conversion is killed
    #[arg(long, value_name = "N", default_value_t = 20)]
    kills: u32,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Each promise, and what tries it.
type Trial = fn(&Sample, &mut Score) -> Result<()>;
const PROMISES: [(&str, Trial); 9] = [
    ("total open", answers::total),
    ("no silent wrong row", damage::found),
    ("atomic publish", publish::atomic),
    ("durable ok", publish::durable),
    ("inert failure", publish::inert),
    ("stable readers", readers::stable),
    ("one meaning", answers::one_meaning),
    ("compatibility", compatible::versions),
    ("read permission is enough", readers::read_only),
];

pub(crate) fn run(args: &SelftestArgs, console: &Console) -> Outcome {
    let parent = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    let named =
        |source| Error::Io { operation: "create a folder in", path: parent.clone(), source };
    let folder = tempfile::Builder::new().prefix("embmap-selftest-").tempdir_in(&parent);
    let folder = folder.map_err(named)?;
    let sample = Sample::write(folder.path(), args.kills)?;
    interrupt::defer();
    let mut progress = Progress::new(Unit::Rows, console);
    let mut scores = Vec::new();
    for (done, (promise, trial)) in PROMISES.into_iter().enumerate() {
        progress.show(done as u64, PROMISES.len() as u64);
        interrupt::stop()?;
        let mut score = Score::new(promise);
        if let Err(error) = trial(&sample, &mut score) {
            score.fail(format!("could not be tried: {error}"));
        }
        scores.push(score);
    }
    drop(progress);
    let sound = scores.iter().all(|score| score.failures() == 0);
    if args.json {
        let promises = scores.iter().map(Score::json).collect::<Vec<_>>();
        let object =
            Object::new().with("sound", sound).with("dir", json!(parent.to_string_lossy()));
        object.with("promises", promises).print()?;
    } else {
        let mut out = Output::stdout();
        score::print(&mut out, &scores, console)?;
        out.finish()?;
    }
    Ok(if sound { Finding::Sound } else { Finding::Damage })
}
