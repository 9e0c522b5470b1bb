//! `embmap convert`: any table, to one .emb file.

use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::{Args, ValueEnum};
use embmap::{ConvertOptions, DType, Loss, Table, Written, convert_with};
use serde_json::{Value, json};

use super::Outcome;
use super::console::{Console, size};
use super::escape::printable_path;
use super::failure::{Finding, Usage};
use super::interrupt;
use super::json::{Object, hex};
use super::open::TableArgs;
use super::output::is_dash;
use super::progress::{Progress, Unit};
use super::range::RowRange;

const EXAMPLES: &str = "\
Examples:
  embmap convert all-MiniLM-L6-v2 -o minilm.emb
  embmap convert llama-3 --tensor lm_head.weight --dtype f16 -o head.emb
  embmap convert gpt2.emb --dtype i8 -o small.emb
  embmap convert gpt2.emb --rows 0:1000 --align 4096 -o first.emb --force

The output is there whole or not at all. SOURCE_DATE_EPOCH and --file-id make it the same
every time. Ctrl-C stops and cleans up; a second one stops at once and may leave a file named
.NAME.XXXXXXXX.embmap-tmp beside the output, which can be removed.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ConvertArgs {
    #[command(flatten)]
    table: TableArgs,
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
    /// The file id, 32 hexadecimal digits [default: random]
    #[arg(long, value_name = "HEX", value_parser = parse_file_id)]
    file_id: Option<[u8; 16]>,
    /// Replace the output if it is there
    #[arg(short, long)]
    force: bool,
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

#[derive(Clone, Copy, ValueEnum)]
enum Align {
    #[value(name = "64")]
    CacheLine,
    #[value(name = "512")]
    Sector,
    #[value(name = "4096")]
    Page,
}

pub(crate) fn run(args: &ConvertArgs, console: &Console) -> Outcome {
    if is_dash(&args.output) {
        let reason = "an .emb file cannot go to standard output: give a file with -o";
        return Err(Usage(reason.to_owned()).into());
    }
    let table = args.table.open_unmapped()?;
    let plan = Plan::resolve(args, &table);
    console.detail(&format!(
        "converting {} ({} x {} {}) to {}",
        printable_path(&args.table.path),
        table.vocab(),
        table.dim(),
        table.dtype(),
        printable_path(&args.output)
    ));
    let start = Instant::now();
    let written = plan.run(args, &table, console)?;
    let report = Report { plan, table, written, taken: start.elapsed() };
    report.summarize(console);
    if args.json { report.object().print() } else { Ok(Finding::Sound) }
}

/// What is to be done, with nothing left open.
struct Plan {
    dtype: DType,
    align: Option<u64>,
    rows: Range<u64>,
}

impl Plan {
    fn resolve(args: &ConvertArgs, table: &Table) -> Self {
        let dtype = match args.dtype {
            ConvertDType::F32 => DType::F32,
            ConvertDType::F16 => DType::F16,
            ConvertDType::Bf16 => DType::BF16,
            ConvertDType::F64 => DType::F64,
            ConvertDType::I8 => DType::I8,
            ConvertDType::F8E4M3 => DType::F8E4M3,
            ConvertDType::Q8_0 => DType::Q8_0,
            ConvertDType::Keep => table.dtype(),
        };
        let align = args.align.map(|align| match align {
            Align::CacheLine => 64,
            Align::Sector => 512,
            Align::Page => 4096,
        });
        let rows = args.rows.map_or(0..table.vocab(), |rows| rows.of(table.vocab()));
        Plan { dtype, align, rows }
    }

    fn run(&self, args: &ConvertArgs, table: &Table, console: &Console) -> Result<Written> {
        let mut options =
            ConvertOptions::new().dtype(self.dtype).rows(self.rows.clone()).replace(args.force);
        if let Some(align) = self.align {
            options = options.align(align);
        }
        if let Some(id) = args.file_id {
            options = options.file_id(id);
        }
        interrupt::defer();
        let mut progress = Progress::new(Unit::Rows, console);
        let converted = convert_with(table, &args.output, &options, |done, all| {
            progress.show(done, all);
            if done == all {
                progress.then("writing tokens and checksums, and flushing");
            }
            interrupt::check()
        });
        drop(progress);
        Ok(converted?)
    }
}

/// What was done.
struct Report {
    plan: Plan,
    table: Table,
    written: Written,
    taken: Duration,
}

impl Report {
    fn per_second(&self, count: u64) -> u64 {
        let per_second = u128::from(count) * 1_000_000 / self.taken.as_micros().max(1);
        u64::try_from(per_second).unwrap_or(u64::MAX)
    }

    fn summarize(&self, console: &Console) {
        let Written { path, file_bytes, vocab, tokens, .. } = &self.written;
        console.summary(&format!(
            "wrote {}: {vocab} x {} {}, {tokens} tokens, {} in {:.2} s ({} rows/s, {}/s)",
            printable_path(path),
            self.table.dim(),
            self.plan.dtype,
            size(*file_bytes),
            self.taken.as_secs_f64(),
            self.per_second(*vocab),
            size(self.per_second(*file_bytes)),
        ));
        if let Some(loss) = &self.written.loss {
            console.summary(&format!(
                "quantized from {}: error {:.3e} at most, {:.3e} RMS; cosine {:.6} in the mean, {:.6} at least",
                self.table.dtype(),
                loss.max_error,
                loss.rms_error,
                loss.mean_cosine,
                loss.min_cosine,
            ));
        }
    }

    fn object(&self) -> Object {
        let written = &self.written;
        Object::new()
            .with("output", written.path.to_string_lossy())
            .with("vocab", written.vocab)
            .with("dim", self.table.dim())
            .with("dtype", self.plan.dtype.name())
            .with("row_stride", written.row_stride)
            .with("file_bytes", written.file_bytes)
            .with("quantization", written.loss.as_ref().map(quantization))
            .with("tokens", written.tokens)
            .with("file_id", hex(&written.file_id))
            .with("seconds", self.taken.as_secs_f64())
            .with("rows_per_second", self.per_second(written.vocab))
            .with("bytes_per_second", self.per_second(written.file_bytes))
    }
}

fn quantization(loss: &Loss) -> Value {
    json!({
        "max_error": loss.max_error,
        "rms_error": loss.rms_error,
        "mean_cosine": loss.mean_cosine,
        "min_cosine": loss.min_cosine,
    })
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
