//! `embmap convert`: any table, to one .emb file.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use clap::{Args, ValueEnum};
use embmap::{ConvertOptions, DType, Source, Written, convert_from_with, plan_convert};

use super::Outcome;
use super::console::Console;
use super::escape::printable_path;
use super::failure::{Finding, Usage};
use super::interrupt;
use super::open::TableArgs;
use super::output::is_dash;
use super::range::RowRange;
use super::tokens;

mod order;
mod report;
mod source;
mod stages;

use order::OrderArgs;
use report::Report;
use source::SourceArgs;
use stages::Stages;

const EXAMPLES: &str = "\
Examples:
  embmap convert all-MiniLM-L6-v2 -o minilm.emb
  embmap convert llama-3 --tensor lm_head.weight --dtype f16 -o head.emb
  embmap convert glove.840B.300d.txt --duplicates first -o glove.emb
  embmap convert GoogleNews-vectors-negative300.bin.gz -o news.emb
  embmap convert vectors.parquet --column vector --token-column word -o vectors.emb
  embmap convert wiki.en.vec --keep-tokens words.txt --dtype f16 -o small.emb
  embmap convert words.emb --order trace.txt -o placed.emb
  embmap convert rows.f32 --from raw --dim 300 --dtype f32 -o rows.emb
  zstdcat words.vec.zst | embmap convert - -o words.emb

The source is found out from its content: whatever embmap opens in place, word2vec, fastText and
GloVe text, word2vec binary, numpy's arrays in any order, Parquet and Arrow; text and binary also
from standard input, .gz, .zst and .zip. The output is there whole or not at all.
SOURCE_DATE_EPOCH and --file-id make it the same every time. Ctrl-C stops and cleans up; a second
one stops at once and may leave a file named .NAME.XXXXXXXX.embmap-tmp beside the output, which
can be removed.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
#[expect(clippy::struct_excessive_bools, reason = "flags")]
pub(crate) struct ConvertArgs {
    #[command(flatten)]
    table: TableArgs,
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    order: OrderArgs,
    /// The .emb file to write
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// The type to store; keep keeps every bit, i8, `f8_e4m3` and `q8_0` quantize
    #[arg(long, value_name = "DTYPE", default_value = "keep")]
    dtype: ConvertDType,
    /// Round the distance between rows up to a multiple of this many bytes
    #[arg(long, value_name = "BYTES")]
    align: Option<Align>,
    /// Take rows a to b - 1 alone; either side may be left out
    #[arg(long, value_name = "A:B")]
    rows: Option<RowRange>,
    /// Take the rows of the tokens of this file alone, one a line, in the order that the source has
    /// them in; - is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "rows")]
    keep_tokens: Option<PathBuf>,
    /// Add the norm of each row, for searches by cosine: 4 bytes a row
    #[arg(long)]
    norms: bool,
    /// The file id, 32 hexadecimal digits [default: random]
    #[arg(long, value_name = "HEX", value_parser = parse_file_id)]
    file_id: Option<[u8; 16]>,
    /// Replace the output if it is there
    #[arg(short, long)]
    force: bool,
    /// Say what would be written and how large, and write nothing; text is read to its end
    #[arg(long)]
    dry_run: bool,
    /// Print what was written as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum ConvertDType {
    F32,
    F16,
    Bf16,
    F64,
    /// Bytes with an f32 scale a row
    I8,
    /// 8-bit floating point with an f32 scale a row
    #[value(name = "f8_e4m3")]
    F8E4M3,
    /// Blocks of 32 bytes with an f16 scale, as ggml makes them
    #[value(name = "q8_0")]
    Q8_0,
    Keep,
}

impl ConvertDType {
    fn stored(self) -> Option<DType> {
        Some(match self {
            ConvertDType::F32 => DType::F32,
            ConvertDType::F16 => DType::F16,
            ConvertDType::Bf16 => DType::BF16,
            ConvertDType::F64 => DType::F64,
            ConvertDType::I8 => DType::I8,
            ConvertDType::F8E4M3 => DType::F8E4M3,
            ConvertDType::Q8_0 => DType::Q8_0,
            ConvertDType::Keep => return None,
        })
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Align {
    #[value(name = "64")]
    CacheLine,
    #[value(name = "512")]
    Sector,
    #[value(name = "4096")]
    Page,
}

impl ConvertArgs {
    fn options(&self) -> Result<ConvertOptions> {
        let mut options = ConvertOptions::new().replace(self.force).norms(self.norms);
        if let Some(dtype) = self.dtype.stored() {
            options = options.dtype(dtype);
        }
        if let Some(align) = self.align {
            options = options.align(match align {
                Align::CacheLine => 64,
                Align::Sector => 512,
                Align::Page => 4096,
            });
        }
        if let Some(rows) = self.rows {
            options = options.rows(rows.into());
        }
        if let Some(id) = self.file_id {
            options = options.file_id(id);
        }
        if let Some(path) = &self.keep_tokens {
            options = options.keep_tokens(tokens::read_list(path)?);
        }
        Ok(options)
    }

    fn check(&self) -> Result<(), Usage> {
        if is_dash(&self.output) {
            let reason = "an .emb file cannot go to standard output: give a file with -o";
            return Err(Usage(reason.to_owned()));
        }
        if is_dash(&self.table.path) && self.keep_tokens.as_deref().is_some_and(is_dash) {
            let reason = "the source and its tokens cannot both come from standard input";
            return Err(Usage(reason.to_owned()));
        }
        Ok(())
    }
}

pub(crate) fn run(args: &ConvertArgs, console: &Console) -> Outcome {
    args.check()?;
    let start = Instant::now();
    let source = args.source.open(&args.table, args.dtype.stored())?;
    console.detail(&format!(
        "converting {} ({}, {} x {} {}) to {}",
        printable_path(&args.table.path),
        source.format(),
        source.vocab().map_or_else(|| "?".to_owned(), |rows| rows.to_string()),
        source.dim(),
        source.dtype(),
        printable_path(&args.output)
    ));
    let mut report = Report::of(&source, args.dtype.stored(), &args.output);
    let mut options = args.options()?;
    if let Some(ordered) = args.order.arrange(&source, &options, console)? {
        options = ordered.apply(options);
        report.ordered = Some(ordered);
    }
    if args.dry_run {
        let mut stages = Stages::new(console);
        report.planned(plan_convert(source, &options, |progress| stages.show(progress))?);
    } else {
        report.written(write(args, source, &options, console)?);
    }
    report.taken = start.elapsed();
    report.summarize(console);
    if args.json { report.object().print() } else { Ok(Finding::Sound) }
}

fn write(
    args: &ConvertArgs,
    source: Source,
    options: &ConvertOptions,
    console: &Console,
) -> Result<Written> {
    interrupt::defer();
    let mut stages = Stages::new(console);
    Ok(convert_from_with(source, &args.output, options, |progress| stages.show(progress))?)
}

fn parse_file_id(text: &str) -> Result<[u8; 16], String> {
    let id = u128::from_str_radix(text, 16).ok();
    let id = id.filter(|_| text.len() == 32 && !text.starts_with('+'));
    id.map(u128::to_be_bytes).ok_or_else(|| "expected 32 hexadecimal digits".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_id_is_32_digits() {
        let id = parse_file_id("000102030405060708090a0b0c0D0E0F");
        assert_eq!(id, Ok([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]));
        for wrong in ["", "00", "+0102030405060708090a0b0c0d0e0f0", &"g".repeat(32)] {
            assert!(parse_file_id(wrong).is_err(), "{wrong}");
        }
    }
}
