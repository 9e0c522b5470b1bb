//! `embmap similar` and `embmap analogy`: the rows nearest to others.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use embmap::{Metric, NearestOptions, Neighbour, Table};

use super::Outcome;
use super::console::Console;
use super::escape::{printable, printable_path};
use super::failure::{Finding, Usage};
use super::ids::IdArg;
use super::interrupt;
use super::open::TableArgs;
use super::output::{Output, is_dash};
use super::progress::{Progress, Unit};
use super::query::{Queries, Query, Term};
use super::values::shown_token;

const EXAMPLES: &str = "\
Examples:
  embmap similar all-MiniLM-L6-v2 cat king paris -k 5
  embmap similar all-MiniLM-L6-v2 'king - man + woman'
  embmap similar gpt2.emb --id 3404 --json
  embmap similar potion-base-8M --text \"a cat in the sun\"
  embmap similar table.emb --vector queries.npy --metric dot

All rows are looked at, however many queries there are: once, and in order. By cosine the terms of
an expression count with length 1. A table converted with --norms is searched faster by cosine.";

const ANALOGY_EXAMPLES: &str = "\
Example:
  embmap analogy all-MiniLM-L6-v2 king man woman

finds what is to woman as king is to man: it is `embmap similar` for 'king - man + woman'.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SimilarArgs {
    #[command(flatten)]
    table: TableArgs,
    /// Tokens in the vocabulary's own spelling, or expressions of them: `king - man + woman`
    #[arg(value_name = "QUERY")]
    queries: Vec<String>,
    /// The row of an id; - reads ids from standard input; may be given several times
    #[arg(long = "id", value_name = "ID", allow_negative_numbers = true)]
    ids: Vec<IdArg>,
    /// The mean of the rows of a text, by the model's own tokenizer; may be given several times
    #[arg(long = "text", value_name = "TEXT", allow_hyphen_values = true)]
    texts: Vec<String>,
    /// The vectors of a .npy file, or of a text file with one a line; - is standard input
    #[arg(long = "vector", value_name = "FILE")]
    vectors: Vec<PathBuf>,
    #[command(flatten)]
    search: SearchArgs,
}

#[derive(Args)]
#[command(after_help = ANALOGY_EXAMPLES)]
pub(crate) struct AnalogyArgs {
    #[command(flatten)]
    table: TableArgs,
    /// What is known to stand to B
    #[arg(value_name = "A", allow_hyphen_values = true)]
    a: String,
    /// As what is sought stands to C
    #[arg(value_name = "B", allow_hyphen_values = true)]
    b: String,
    /// The token to which something is sought
    #[arg(value_name = "C", allow_hyphen_values = true)]
    c: String,
    #[command(flatten)]
    search: SearchArgs,
}

/// How to search.
#[derive(Args)]
struct SearchArgs {
    /// The answers to each query [default: 10, or all rows of a smaller table]
    #[arg(short, value_name = "N")]
    k: Option<usize>,
    /// What makes a row near
    #[arg(long, value_name = "METRIC", default_value = "cosine")]
    metric: MetricArg,
    /// Let the rows that a query is made of be answers to it
    #[arg(long)]
    include_query: bool,
    /// Print one JSON object a query: query, neighbours
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum MetricArg {
    /// The cosine of the angle between row and query
    Cosine,
    /// Their product
    Dot,
}

impl MetricArg {
    fn metric(self) -> Metric {
        match self {
            MetricArg::Cosine => Metric::Cosine,
            MetricArg::Dot => Metric::Dot,
        }
    }
}

pub(crate) fn similar(args: &SimilarArgs, console: &Console) -> Outcome {
    args.check()?;
    let table = args.table.open(console)?;
    let metric = args.search.metric.metric();
    let from = Queries { table: &table, path: &args.table.path, metric };
    let mut queries = Vec::new();
    for argument in args.arguments() {
        queries.push(from.named(&argument)?);
    }
    queries.extend(from.ids(&args.ids)?);
    for text in &args.texts {
        queries.push(from.text(text)?);
    }
    for path in &args.vectors {
        queries.extend(from.vectors(path)?);
    }
    args.search.run(&args.table, &table, &queries, console)
}

pub(crate) fn analogy(args: &AnalogyArgs, console: &Console) -> Outcome {
    let table = args.table.open(console)?;
    let metric = args.search.metric.metric();
    let from = Queries { table: &table, path: &args.table.path, metric };
    let AnalogyArgs { a, b, c, .. } = args;
    let terms = [(false, a), (true, b), (false, c)];
    let terms = terms.map(|(minus, token)| Term { minus, token: token.as_str() });
    let query = from.sum(format!("{a} - {b} + {c}"), &terms)?;
    args.search.run(&args.table, &table, &[query], console)
}

impl SimilarArgs {
    fn check(&self) -> Result<(), Usage> {
        let SimilarArgs { queries, ids, texts, vectors, .. } = self;
        if queries.is_empty() && ids.is_empty() && texts.is_empty() && vectors.is_empty() {
            return Err(Usage(
                "nothing to search for: give tokens, --id, --text or --vector".to_owned(),
            ));
        }
        let ids = ids.iter().filter(|id| **id == IdArg::Stdin).count();
        if ids + vectors.iter().filter(|path| is_dash(path)).count() > 1 {
            return Err(Usage("standard input can be read only once".to_owned()));
        }
        Ok(())
    }

    /// The queries by name: one an argument, unless the arguments are one expression, which a
    /// shell took apart.
    fn arguments(&self) -> Vec<String> {
        let operator = |argument: &String| argument == "+" || argument == "-";
        let apart = self.queries.len() > 2
            && self.queries.len() % 2 == 1
            && self.queries.iter().skip(1).step_by(2).all(operator);
        if apart { vec![self.queries.join(" ")] } else { self.queries.clone() }
    }
}

impl SearchArgs {
    fn run(
        &self,
        args: &TableArgs,
        table: &Table,
        queries: &[Query],
        console: &Console,
    ) -> Outcome {
        let few = usize::try_from(table.vocab()).unwrap_or(usize::MAX).clamp(1, 10);
        let k = self.k.unwrap_or(few);
        let vectors: Vec<f32> = queries.iter().flat_map(|query| &query.vector).copied().collect();
        let mut options = NearestOptions::new();
        if !self.include_query {
            let rows = queries.iter().map(|query| query.rows.clone());
            options = options.exclude_each(rows.collect());
        }
        let mut progress = Progress::new(Unit::Rows, console);
        let metric = self.metric.metric();
        let found = table.nearest_while(&vectors, k, metric, &options, |done, all| {
            progress.show(done, all);
            interrupt::check()
        });
        drop(progress);
        self.print(args, table, queries, &found?, console)?;
        Ok(Finding::Sound)
    }

    fn print(
        &self,
        args: &TableArgs,
        table: &Table,
        queries: &[Query],
        found: &[Vec<Neighbour>],
        console: &Console,
    ) -> Result<()> {
        let mut out = Output::stdout();
        if !self.json {
            let path = printable_path(&args.path);
            let by = if self.metric.metric() == Metric::Cosine { "cosine" } else { "dot product" };
            let (vocab, dim, dtype) = (table.vocab(), table.dim(), table.dtype());
            console.summary(&format!("{path}: {vocab} x {dim} {dtype}, nearest by {by}"));
        }
        let width = |neighbour: &Neighbour| neighbour.id.to_string().len();
        let width = found.iter().flatten().map(width).max().unwrap_or(1);
        for (query, found) in queries.iter().zip(found) {
            if self.json {
                write_json(&mut out, table, query, found)?;
                continue;
            }
            writeln!(out, "{}", printable(&query.name))?;
            for Neighbour { id, score } in found {
                let token = shown_token(table.token(*id)?.as_deref());
                writeln!(out, "{score:>9.4}  {id:>width$}  {token}")?;
            }
        }
        out.finish()
    }
}

/// Writes the answers to a query as one line of JSON, scores in the shortest form that reads back
/// as the same number.
fn write_json(
    out: &mut impl Write,
    table: &Table,
    query: &Query,
    found: &[Neighbour],
) -> Result<()> {
    write!(out, "{{\"query\":")?;
    serde_json::to_writer(&mut *out, &query.name)?;
    write!(out, ",\"neighbours\":[")?;
    for (index, Neighbour { id, score }) in found.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        write!(out, "{comma}{{\"id\":{id},\"token\":")?;
        serde_json::to_writer(&mut *out, &table.token(*id)?)?;
        write!(out, ",\"score\":")?;
        serde_json::to_writer(&mut *out, score)?;
        write!(out, "}}")?;
    }
    writeln!(out, "]}}")?;
    Ok(())
}
