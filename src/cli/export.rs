//! `embmap export`: a table, in the format of another tool.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::{Args, ValueEnum};
use embmap::{
    DType, ExportFormat, ExportOptions, Exported, Table, UnfitTokens, export_to, export_with,
    plan_export,
};

use super::Outcome;
use super::console::{Console, size};
use super::escape::printable_path;
use super::failure::{Finding, Usage};
use super::interrupt;
use super::json::Object;
use super::open::TableArgs;
use super::output::is_dash;
use super::progress::{Progress, Unit};
use super::range::RowRange;

const EXAMPLES: &str = "\
Examples:
  embmap export words.emb -o words.npy
  embmap export words.emb -o model.safetensors
  embmap export words.emb -o words.parquet
  embmap export words.emb --to glove -o words.txt
  embmap export head.emb --dtype f32 -o head.bin
  embmap export words.emb --rows 0:1000 --to word2vec -o - | head

The format is that of the output's name, unless --to says another: .safetensors, .npy, .parquet,
.w2v and .vec (word2vec), .bin (word2vec-binary), .glove. Numbers are exact: bit for bit, in text
in the fewest digits that read back as the same. The tokens of a safetensors file go beside it, as
tokenizer.json where the table has one, else as vocab.txt; those of Parquet are a column. The
output is there whole or not at all.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
#[expect(clippy::struct_excessive_bools, reason = "flags")]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    table: TableArgs,
    /// The file to write; - is standard output
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// The format [default: that of the output's name]
    #[arg(long, value_name = "FORMAT", value_parser = |text: &str| text.parse::<ExportFormat>())]
    #[arg(
        help = "The format: safetensors, npy, parquet, word2vec, word2vec-binary or glove [default: by the output's name]"
    )]
    to: Option<ExportFormat>,
    /// Take rows a to b - 1 alone; either side may be left out
    #[arg(long, value_name = "A:B")]
    rows: Option<RowRange>,
    /// The type of the numbers [default: as they are stored]
    #[arg(long, value_name = "DTYPE")]
    dtype: Option<ExportDType>,
    /// The tensor's name in a safetensors file [default: embedding.weight]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The column of vectors in a Parquet file [default: vector]
    #[arg(long, value_name = "NAME")]
    column: Option<String>,
    /// The column of tokens in a Parquet file [default: token]
    #[arg(long, value_name = "NAME")]
    token_column: Option<String>,
    /// Write no file of tokens beside a safetensors file, and no column of them in Parquet
    #[arg(long)]
    no_tokens: bool,
    /// What becomes of rows whose token the format cannot hold
    #[arg(long, value_name = "WHAT", default_value = "error")]
    unfit_tokens: UnfitArg,
    /// Replace files that are there
    #[arg(short, long)]
    force: bool,
    /// Say what would be written, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Print what was written as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum ExportDType {
    F32,
    F16,
    Bf16,
    F64,
}

impl From<ExportDType> for DType {
    fn from(dtype: ExportDType) -> Self {
        match dtype {
            ExportDType::F32 => DType::F32,
            ExportDType::F16 => DType::F16,
            ExportDType::Bf16 => DType::BF16,
            ExportDType::F64 => DType::F64,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum UnfitArg {
    /// The export fails before anything is written
    Error,
    /// Such rows are left out
    Skip,
    /// White space becomes _, an absent token the row's number
    Replace,
}

impl From<UnfitArg> for UnfitTokens {
    fn from(what: UnfitArg) -> Self {
        match what {
            UnfitArg::Error => UnfitTokens::Error,
            UnfitArg::Skip => UnfitTokens::Skip,
            UnfitArg::Replace => UnfitTokens::Replace,
        }
    }
}

impl ExportArgs {
    fn options(&self, table: &Table) -> ExportOptions {
        let mut options = ExportOptions::new()
            .tokens(
                !self.no_tokens && (!self.is_stream() || self.to == Some(ExportFormat::Parquet)),
            )
            .unfit_tokens(self.unfit_tokens.into())
            .replace(self.force);
        if let Some(format) = self.to {
            options = options.format(format);
        }
        if let Some(rows) = self.rows {
            options = options.rows(rows.of(table.vocab()));
        }
        if let Some(dtype) = self.dtype {
            options = options.dtype(dtype.into());
        }
        if let Some(name) = &self.name {
            options = options.tensor(name);
        }
        if let Some(name) = &self.column {
            options = options.column(name);
        }
        if let Some(name) = &self.token_column {
            options = options.token_column(name);
        }
        options
    }

    fn is_stream(&self) -> bool {
        is_dash(&self.output)
    }

    /// Refuses what the parser cannot see.
    fn check(&self) -> Result<(), Usage> {
        if !self.is_stream() {
            return Ok(());
        }
        let Some(format) = self.to else {
            return Err(Usage("standard output has no name: choose a format with --to".to_owned()));
        };
        if self.json && !self.dry_run {
            let reason = "rows and JSON cannot both go to standard output: give a file with -o";
            return Err(Usage(reason.to_owned()));
        }
        let text = matches!(format, ExportFormat::Word2Vec | ExportFormat::Glove);
        if !text && !self.dry_run && io::stdout().is_terminal() {
            let reason = "binary rows would go to the terminal: redirect them, or give a file";
            return Err(Usage(reason.to_owned()));
        }
        Ok(())
    }
}

pub(crate) fn run(args: &ExportArgs, console: &Console) -> Outcome {
    args.check()?;
    let table = args.table.open_unmapped()?;
    let options = args.options(&table);
    let start = Instant::now();
    let exported = if args.dry_run {
        plan_export(&table, &args.output, &options)?
    } else {
        write(args, &table, &options, console)?
    };
    let report = Report { args, exported, taken: start.elapsed() };
    report.summarize(&table, console);
    if args.json { report.object().print() } else { Ok(Finding::Sound) }
}

fn write(
    args: &ExportArgs,
    table: &Table,
    options: &ExportOptions,
    console: &Console,
) -> Result<Exported> {
    let mut progress = Progress::new(Unit::Rows, console);
    let told = |done, all| {
        progress.show(done, all);
        interrupt::check()
    };
    // What a stream was given cannot be taken back, so a signal ends it at once.
    if args.is_stream() {
        return Ok(export_to(table, &mut io::stdout(), options, told)?);
    }
    interrupt::defer();
    Ok(export_with(table, &args.output, options, told)?)
}

/// What was done, or would be.
struct Report<'a> {
    args: &'a ExportArgs,
    exported: Exported,
    taken: Duration,
}

impl Report<'_> {
    fn summarize(&self, table: &Table, console: &Console) {
        let Exported { format, vocab, dim, dtype, file_bytes, tokens, .. } = &self.exported;
        let verb = if self.args.dry_run { "would write" } else { "wrote" };
        let bytes = file_bytes.map_or_else(String::new, |bytes| format!(", {}", size(bytes)));
        let time = if self.args.dry_run {
            String::new()
        } else {
            format!(" in {:.2} s", self.taken.as_secs_f64())
        };
        let output = if self.args.is_stream() {
            "standard output".to_owned()
        } else {
            printable_path(&self.args.output)
        };
        console
            .summary(&format!("{verb} {output}: {format}, {vocab} x {dim} {dtype}{bytes}{time}"));
        if let Some(path) = &self.exported.tokens_path {
            console.summary(&format!("{verb} {}: {tokens} tokens", printable_path(path)));
        } else if *tokens == 0
            && let Ok(count @ 1..) = table.token_count()
        {
            console.note(&format!("{format} holds no tokens: {count} were left out"));
        }
        let Exported { skipped, replaced, .. } = &self.exported;
        if *skipped > 0 {
            console
                .note(&format!("{skipped} rows were left out: {format} cannot hold their tokens"));
        }
        if *replaced > 0 {
            console.note(&format!("{replaced} tokens were changed: {format} cannot hold them"));
        }
    }

    fn object(&self) -> Object {
        let exported = &self.exported;
        let per_second = u128::from(exported.vocab) * 1_000_000 / self.taken.as_micros().max(1);
        let rate = (!self.args.dry_run).then(|| u64::try_from(per_second).unwrap_or(u64::MAX));
        Object::new()
            .with("output", self.args.output.to_string_lossy())
            .with("format", exported.format.name())
            .with("written", !self.args.dry_run)
            .with("vocab", exported.vocab)
            .with("dim", exported.dim)
            .with("dtype", exported.dtype.name())
            .with("file_bytes", exported.file_bytes)
            .with("tokens", exported.tokens)
            .with("tokens_output", exported.tokens_path.as_ref().map(|it| it.to_string_lossy()))
            .with("skipped", exported.skipped)
            .with("replaced", exported.replaced)
            .with("seconds", self.taken.as_secs_f64())
            .with("rows_per_second", rate)
    }
}
