//! `embmap embed`: the vectors of texts.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Seek, Write};
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use embmap::{DType, NpyHeader, StaticModel};

use super::Outcome;
use super::console::{Console, size};
use super::escape::printable_path;
use super::failure::{Finding, Usage};
use super::interrupt;
use super::open::TableArgs;
use super::output::{Output, is_dash};
use super::texts::{Text, TextArgs};
use super::values::{self, RowValues};

const EXAMPLES: &str = "\
Examples:
  embmap embed potion-base-8M \"a cat sat on the mat\" --json
  embmap embed potion-base-8M - -o vectors.npy < lines.txt
  embmap embed all-MiniLM-L6-v2 \"a cat\" \"a dog\" --normalize

The vector of a text is the mean of the rows of its tokens, without those of the model's template.
A model of model2vec or of sentence-transformers' StaticEmbedding says in its files what else is
to be done, and an .emb file that was converted from one does the same.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct EmbedArgs {
    #[command(flatten)]
    table: TableArgs,
    #[command(flatten)]
    texts: TextArgs,
    /// Where the vectors go, as a .npy array of f32; - is standard output
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    /// Write one JSON object a text: text, tokens (how many), values
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    rules: RuleArgs,
    /// Let a text without tokens have a vector of zeros
    #[arg(long)]
    allow_empty: bool,
    /// Replace the output if it is there
    #[arg(short, long)]
    force: bool,
}

/// What is done otherwise than the model's files say.
#[derive(Clone, Copy, Args)]
struct RuleArgs {
    /// Divide vectors by their lengths, or do not [default: as the model says]
    #[arg(long, value_name = "YES|NO", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "yes")]
    normalize: Option<Choice>,
    /// What the token of unknown words is to the mean [default: as the model says]
    #[arg(long, value_name = "WHAT")]
    unknown: Option<Unknown>,
    /// The tokens of a text that count at most, or `all` [default: as the model says]
    #[arg(long, value_name = "N", value_parser = parse_most)]
    max_tokens: Option<Most>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Choice {
    Yes,
    No,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Unknown {
    /// It counts as any other
    Keep,
    /// It counts for nothing
    Drop,
}

/// The most tokens of a text; `None` for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Most(Option<usize>);

fn parse_most(text: &str) -> Result<Most, String> {
    match text.parse() {
        _ if text == "all" => Ok(Most(None)),
        Ok(most) if most > 0 => Ok(Most(Some(most))),
        _ => Err("expected a number from 1 on, or `all`".to_owned()),
    }
}

pub(crate) fn run(args: &EmbedArgs, console: &Console) -> Outcome {
    args.texts.check()?;
    let path = args.output.clone().unwrap_or_else(|| PathBuf::from("-"));
    let binary = args.output.is_some() && !args.json;
    if binary && is_dash(&path) && io::stdout().is_terminal() {
        let reason = "binary vectors would go to the terminal: redirect them, or give --json";
        return Err(Usage(reason.to_owned()).into());
    }
    let model = args.model(console)?;
    let out = Output::create(&path, args.force)?;
    if !out.is_stream() {
        interrupt::defer();
    }
    let mut sink = if binary {
        Sink::Npy(Npy::new(out, args.texts.count(), model.table().dim())?)
    } else {
        Sink::Lines(out)
    };
    let mut texts = args.texts.read();
    let (mut vectors, mut written) = (Vec::new(), 0);
    loop {
        let batch = texts.next_batch()?;
        if batch.is_empty() {
            break;
        }
        interrupt::stop()?;
        vectors.resize(batch.len() * model.table().dim(), 0.0);
        let counts = model.embed_into(&batch, &mut vectors)?;
        args.check(&batch, &counts)?;
        if written == 0 && !args.json {
            // Only here, for where nothing can be shown the error stands alone.
            args.summarize(&model, console);
        }
        sink.write(args, &batch, &counts, &vectors)?;
        written += batch.len() as u64;
    }
    interrupt::stop()?;
    sink.finish()?;
    if binary && !is_dash(&path) {
        let dim = model.table().dim();
        let bytes = written * dim as u64 * size_of::<f32>() as u64;
        let path = printable_path(&path);
        console.summary(&format!("wrote {path}: {written} x {dim} f32, {}", size(bytes)));
    }
    Ok(Finding::Sound)
}

impl EmbedArgs {
    fn model(&self, console: &Console) -> Result<StaticModel> {
        let mut model = StaticModel::new(self.table.open_static_model(console)?)?;
        let RuleArgs { normalize, unknown, max_tokens } = self.rules;
        if let Some(choice) = normalize {
            model = model.normalize(choice == Choice::Yes);
        }
        if let Some(unknown) = unknown {
            model = model.drop_unknown(unknown == Unknown::Drop);
        }
        if let Some(Most(most)) = max_tokens {
            model = model.max_tokens(most);
        }
        Ok(model)
    }

    /// Refuses texts that have no vector.
    fn check(&self, texts: &[Text], counts: &[usize]) -> Result<()> {
        let empty = counts.iter().position(|count| *count == 0).filter(|_| !self.allow_empty);
        let Some(Text { text, place }) = empty.and_then(|at| texts.get(at)) else { return Ok(()) };
        if text.trim().is_empty() {
            bail!(
                "{place}: the text is empty, so it has no vector; leave it out, or give \
                 --allow-empty for zeros"
            );
        }
        let shown: String = text.chars().take(60).collect();
        bail!(
            "{place}: no token of {shown:?} is known to the model, so the text has no vector; \
             leave it out, give --unknown keep to let unknown words count, or --allow-empty for \
             zeros"
        );
    }

    fn summarize(&self, model: &StaticModel, console: &Console) {
        let table = model.table();
        let length = if model.normalizes() { ", of length 1" } else { "" };
        console.summary(&format!(
            "{}: {} x {} {}, means of the rows of tokens{length}",
            printable_path(&self.table.path),
            table.vocab(),
            table.dim(),
            table.dtype()
        ));
    }
}

/// Where vectors go.
enum Sink {
    /// A line each, for people or as JSON.
    Lines(Output),
    Npy(Npy),
}

impl Sink {
    fn write(
        &mut self,
        args: &EmbedArgs,
        texts: &[Text],
        counts: &[usize],
        vectors: &[f32],
    ) -> Result<()> {
        let out = match self {
            Sink::Npy(npy) => return npy.write(texts.len() as u64, vectors),
            Sink::Lines(out) => out,
        };
        let rows = vectors.chunks_exact(vectors.len() / texts.len());
        let shown = |text: &Text| format!("{:?}", text.text);
        let width = texts.iter().map(|text| shown(text).chars().count()).max().unwrap_or(0);
        let width = width.min(40);
        for ((text, count), values) in texts.iter().zip(counts).zip(rows) {
            if args.json {
                write!(out, "{{\"text\":")?;
                serde_json::to_writer(&mut *out, &text.text)?;
                write!(out, ",\"tokens\":{count},\"values\":")?;
                serde_json::to_writer(&mut *out, values)?;
                writeln!(out, "}}")?;
            } else {
                write!(out, "{:<width$} ", shown(text))?;
                values::write_values(out, RowValues::Single(values), false)?;
            }
        }
        Ok(out.flush()?)
    }

    fn finish(self) -> Result<()> {
        match self {
            Sink::Lines(out) => out.finish(),
            Sink::Npy(npy) => npy.finish(),
        }
    }
}

/// A .npy array whose number of rows may show only at the end.
struct Npy {
    out: Output,
    rows: u64,
    dim: u64,
    /// The rows that were announced.
    announced: Option<u64>,
    /// The rows, where they cannot be written before their number is known.
    spool: Option<BufWriter<File>>,
}

impl Npy {
    fn new(mut out: Output, rows: Option<usize>, dim: usize) -> Result<Self> {
        let announced = rows.map(|rows| rows as u64);
        let dim = dim as u64;
        let waits = announced.is_none() && out.is_stream();
        let spool = if waits {
            Some(BufWriter::with_capacity(1 << 16, tempfile::tempfile()?))
        } else {
            None
        };
        if spool.is_none() {
            NpyHeader::of_rows(DType::F32, announced.unwrap_or(0), dim).write_to(&mut out)?;
        }
        Ok(Npy { out, rows: 0, dim, announced, spool })
    }

    fn write(&mut self, rows: u64, vectors: &[f32]) -> Result<()> {
        self.rows += rows;
        let bytes = bytemuck::cast_slice(vectors);
        match &mut self.spool {
            Some(spool) => spool.write_all(bytes)?,
            None => self.out.write_all(bytes)?,
        }
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        // A header takes 128 bytes whatever the number of rows.
        let header = NpyHeader::of_rows(DType::F32, self.rows, self.dim);
        if let Some(spool) = self.spool {
            header.write_to(&mut self.out)?;
            let mut spool = spool.into_inner().map_err(io::IntoInnerError::into_error)?;
            spool.rewind()?;
            io::copy(&mut spool, &mut self.out)?;
        } else if self.announced.is_none() {
            let mut bytes = Vec::new();
            header.write_to(&mut bytes)?;
            self.out.rewrite_start(&bytes)?;
        }
        self.out.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_takes_as_many_bytes_whatever_the_rows() {
        for rows in [0, 1, u64::MAX] {
            let mut bytes = Vec::new();
            NpyHeader::of_rows(DType::F32, rows, 1 << 24).write_to(&mut bytes).unwrap();
            assert_eq!(bytes.len(), 128);
        }
    }

    #[test]
    fn the_most_tokens_are_a_number_or_all() {
        assert_eq!(parse_most("7"), Ok(Most(Some(7))));
        assert_eq!(parse_most("all"), Ok(Most(None)));
        for other in ["0", "-1", "", "none"] {
            assert!(parse_most(other).is_err(), "{other}");
        }
    }
}
