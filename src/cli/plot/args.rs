//! The arguments, and the run.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use clap::{Args, ValueEnum};
use embmap::Table;
use rayon::ThreadPoolBuilder;

use super::super::Outcome;
use super::super::console::{Console, size};
use super::super::escape::printable_path;
use super::super::failure::{Finding, Usage};
use super::super::interrupt;
use super::super::json::Object;
use super::super::open::TableArgs;
use super::super::output::{Output, is_dash};
use super::super::progress::{Progress, Unit};
use super::super::range::RowRange;
use super::super::tensors::file_name;
use super::choose::{Choice, MOST, choose};
use super::kmeans::Clusters;
use super::near::Near;
use super::page::{COLORS, page};
use super::pca::principal;
use super::picture::{Picture, Point, TOLD, fitted, name_of, shown, turned};
use super::points::Points;
use super::svg::svg;
use super::tsne::{layout, neighbours};

const EXAMPLES: &str = "\
Examples:
  embmap plot all-MiniLM-L6-v2 -o words.html
  embmap plot all-MiniLM-L6-v2 --tokens king,queen,man,woman,cat,dog -o few.svg
  embmap plot gpt2.emb --tokens words.txt --skip-unknown -o words.html
  embmap plot table.emb --rows 0:5000 --layout pca -o rows.html

The page needs no network: it holds the points, their names, and each one's nearest neighbours
among them, found exactly in the space of the table. Rows are scaled to length 1 first. The same
arguments give the same picture.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PlotArgs {
    #[command(flatten)]
    table: TableArgs,
    /// The page or picture to write, by its name .html or .svg; - is a page to standard output
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// Draw these tokens: with commas between them, or a file with one a line (- is standard input)
    #[arg(long, value_name = "A,B|FILE", conflicts_with_all = ["top", "rows"])]
    tokens: Option<String>,
    /// Leave out tokens that no row has
    #[arg(long, requires = "tokens")]
    skip_unknown: bool,
    /// Draw the first rows whose token is a word [default: 2000]
    #[arg(long, value_name = "N", conflicts_with = "rows")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    top: Option<u64>,
    /// Draw rows a to b - 1; either side may be left out
    #[arg(long, value_name = "A:B")]
    rows: Option<RowRange>,
    /// How points are laid out
    #[arg(long, value_name = "LAYOUT", default_value = "tsne")]
    layout: LayoutArg,
    /// About how many neighbours keep a point in its place (t-SNE)
    #[arg(long, value_name = "N", default_value_t = 30.0, value_parser = perplexity)]
    perplexity: f64,
    /// The clusters that points are coloured by, 1 to 12
    #[arg(long, value_name = "N", default_value_t = 12)]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=COLORS.len() as i64))]
    clusters: u8,
    /// What the layout and the clusters start from
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Replace the output where it is there
    #[arg(short, long)]
    force: bool,
    /// Print what was written as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LayoutArg {
    /// Neighbours lie together: t-SNE
    Tsne,
    /// The two axes along which rows vary most
    Pca,
}

fn perplexity(text: &str) -> Result<f64, &'static str> {
    let value: f64 = text.parse().map_err(|_| "expected a number")?;
    if (2.0..=200.0).contains(&value) { Ok(value) } else { Err("expected 2 to 200") }
}

impl PlotArgs {
    /// Whether the output is a page; an error where it is neither page nor picture.
    fn is_page(&self) -> Result<bool, Usage> {
        let extension = self.output.extension().and_then(|it| it.to_str()).unwrap_or_default();
        match extension.to_ascii_lowercase().as_str() {
            "html" | "htm" => Ok(true),
            "svg" => Ok(false),
            _ if is_dash(&self.output) => Ok(true),
            _ => {
                let path = printable_path(&self.output);
                Err(Usage(format!("{path} is neither a page nor a picture: name it .html or .svg")))
            }
        }
    }

    fn choice(&self) -> Choice<'_> {
        match (&self.tokens, self.rows) {
            (Some(argument), _) => Choice::Tokens { argument, skip_unknown: self.skip_unknown },
            (None, Some(rows)) => Choice::Rows(rows),
            (None, None) => {
                let top = self.top.map_or(2000, |top| usize::try_from(top).unwrap_or(usize::MAX));
                Choice::Top(top)
            }
        }
    }
}

pub(crate) fn run(args: &PlotArgs, console: &Console) -> Outcome {
    let is_page = args.is_page()?;
    if args.json && is_dash(&args.output) {
        let reason = "a page and JSON cannot both go to standard output: give a file with -o";
        return Err(Usage(reason.to_owned()).into());
    }
    let start = Instant::now();
    let table = args.table.open(console)?;
    let path = &args.table.path;
    let (mut ids, unknown) = choose(&args.choice(), &table, path)?;
    if unknown > 0 {
        console.note(&format!("{unknown} tokens that no row has were left out"));
    }
    let chosen = ids.len();
    // What cannot be written shows before the work is done.
    let mut out = Output::create(&args.output, args.force)?;
    interrupt::defer();
    let points = Points::gather(&table, &mut ids)?;
    if ids.len() < chosen {
        let count = chosen - ids.len();
        console
            .note(&format!("{count} rows without a direction were left out: zeros, or no numbers"));
    }
    let threads = args.table.thread_count().unwrap_or(0);
    let pool = ThreadPoolBuilder::new().num_threads(threads).build()?;
    let drawn = pool.install(|| draw(args, &table, &ids, &points, console))?;
    let text = if is_page { page(&drawn) } else { svg(&drawn) };
    std::io::Write::write_all(&mut out, text.as_bytes())?;
    out.finish()?;
    let seconds = start.elapsed().as_secs_f64();
    if !is_dash(&args.output) {
        let (output, bytes) = (printable_path(&args.output), size(text.len() as u64));
        console
            .summary(&format!("wrote {output}: {} points, {bytes} in {seconds:.1} s", ids.len()));
    }
    if !args.json {
        return Ok(Finding::Sound);
    }
    Object::new()
        .with("output", args.output.to_string_lossy())
        .with("points", ids.len())
        .with("left_out", chosen - ids.len())
        .with("unknown_tokens", unknown)
        .with("layout", if args.layout == LayoutArg::Tsne { "tsne" } else { "pca" })
        .with("clusters", drawn.clusters.clone())
        .with("bytes", text.len())
        .with("seconds", seconds)
        .print()
}

/// Finds where everything goes.
fn draw(
    args: &PlotArgs,
    table: &Table,
    ids: &[u64],
    points: &Points,
    console: &Console,
) -> Result<Picture> {
    let is_tsne = args.layout == LayoutArg::Tsne;
    let wanted = if is_tsne { neighbours(args.perplexity).max(TOLD) } else { TOLD };
    let mut progress = Progress::new(Unit::Rows, console);
    let near = Near::find(points, wanted, |done, all| {
        progress.show(done, all);
        interrupt::check()
    })?;
    drop(progress);
    let axes = principal(points, 2, args.seed);
    let places = if is_tsne {
        let mut progress = Progress::new(Unit::Work, console);
        layout(&near, &axes, args.perplexity, |done, all| {
            progress.show(done, all);
            interrupt::check()
        })?
    } else {
        axes.chunks_exact(2).map(|pair| [pair[0], pair[1]]).collect()
    };
    // A cluster of a few points says nothing.
    let clusters = usize::from(args.clusters).min(ids.len().div_ceil(4));
    let clusters = Clusters::find(points, clusters, args.seed);
    let names: Vec<String> = ids.iter().map(|id| name_of(table, *id)).collect::<Result<_>>()?;
    let titled = |typical: &Vec<usize>| {
        let typical: Vec<&str> = typical.iter().map(|point| names[*point].as_str()).collect();
        typical.join(", ")
    };
    let cluster_names = clusters.typical.iter().map(titled).collect();
    let count = ids.len();
    let noun = if count == 1 { "row" } else { "rows" };
    let how = if is_tsne { "t-SNE" } else { "PCA" };
    let subtitle =
        format!("{count} of {} {noun}, {how}, {} dimensions", table.vocab(), table.dim());
    let title = table_name(args);
    let places = fitted(&if is_tsne { turned(&places) } else { places });
    let point = |(at, name): (usize, String)| Point {
        id: ids[at],
        name,
        place: places[at],
        cluster: clusters.of[at],
        near: near.of(at, TOLD).collect(),
    };
    let points = names.into_iter().enumerate().map(point).collect();
    Ok(Picture { title, subtitle, points, clusters: cluster_names })
}

/// The last part of the table's path, or the whole of what has none, as `.`.
fn table_name(args: &PlotArgs) -> String {
    let path = &args.table.path;
    let name = path.canonicalize().map(|path| file_name(&path)).unwrap_or_default();
    shown(if name.is_empty() { file_name(path) } else { name }.trim())
}

const _: () = assert!(MOST <= u16::MAX as usize, "pages number points by two bytes");
