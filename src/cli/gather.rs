//! `embmap gather`: a batch of rows, to a file.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use embmap::{Codec, DType, NpyHeader, Output as Element, Table};
use half::{bf16, f16};

use super::Outcome;
use super::console::{Console, size};
use super::escape::printable_path;
use super::failure::{Finding, Usage};
use super::ids::Batch;
use super::interrupt;
use super::open::TableArgs;
use super::output::{Output, is_dash};
use super::progress::{Progress, Unit};
use super::values::{self, Values};

const EXAMPLES: &str = "\
Examples:
  embmap gather gpt2.emb --ids ids.txt -o rows.npy
  embmap gather all-MiniLM-L6-v2 --ids ids.npy --dtype native -o rows.npy
  seq 0 9 | embmap gather gpt2.emb --ids - --json | jq .token
  embmap gather gpt2.emb --ids ids.txt --raw --dtype f16 -o - | consumer

numpy has no bf16: load such a file with np.load(path).view(ml_dtypes.bfloat16).
While a table is mapped nothing may write to its files in place; --no-map reads them instead.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct GatherArgs {
    #[command(flatten)]
    table: TableArgs,
    /// Ids: text, separated by white space, or a .npy array of integers; - is standard input
    #[arg(long, value_name = "FILE")]
    ids: PathBuf,
    /// Where the rows go; - is standard output
    #[arg(short, long, value_name = "OUT", required_unless_present = "json")]
    output: Option<PathBuf>,
    /// Write the rows alone, little-endian, without a header
    #[arg(long, conflicts_with = "json")]
    raw: bool,
    /// Write one JSON object a row: id, token, values
    #[arg(long)]
    json: bool,
    /// The type of the values [default: f32, or the table's own for --json]
    #[arg(long, value_name = "DTYPE")]
    dtype: Option<GatherDType>,
    /// Replace the output if it is there
    #[arg(short, long)]
    force: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum GatherDType {
    F32,
    F16,
    Bf16,
    /// As the table stores them, bit for bit
    Native,
}

impl GatherDType {
    /// The dtype to round to; none for the table's own.
    fn rounded(self) -> Option<DType> {
        match self {
            GatherDType::F32 => Some(DType::F32),
            GatherDType::F16 => Some(DType::F16),
            GatherDType::Bf16 => Some(DType::BF16),
            GatherDType::Native => None,
        }
    }
}

impl GatherArgs {
    /// Encoded rows with scales, or of elements that share bytes, are no array of numbers.
    fn check(&self, table: &Table) -> Result<()> {
        let (dtype, codec) = (table.dtype(), table.codec());
        let array = codec == Codec::Plain && dtype.block_elements() == 1;
        if self.dtype == Some(GatherDType::Native) && !self.raw && !self.json && !array {
            bail!(
                "{}: rows of {dtype} ({codec}) are no array of numbers as they are stored; leave \
                 --dtype native out for f32, or give --raw for their bytes",
                printable_path(&self.table.path)
            );
        }
        Ok(())
    }
}

pub(crate) fn run(args: &GatherArgs, console: &Console) -> Outcome {
    let path = args.output.clone().unwrap_or_else(|| PathBuf::from("-"));
    if !args.json && is_dash(&path) && io::stdout().is_terminal() {
        let reason = "binary rows would go to the terminal: redirect them, or give --json";
        return Err(Usage(reason.to_owned()).into());
    }
    let table = args.table.open(console)?;
    args.check(&table)?;
    let mut batch = Batch::new(&table);
    batch.push_file(&args.ids)?;
    let ids = batch.into_ids();
    let out = Output::create(&path, args.force)?;
    if !out.is_stream() {
        interrupt::defer();
    }
    let mut progress = Progress::new(Unit::Rows, console);
    if args.json {
        let dtype = args.dtype.and_then(GatherDType::rounded);
        write_lines(&table, &ids, dtype, out, &mut progress)?;
    } else {
        let dtype = args.dtype.unwrap_or(GatherDType::F32).rounded();
        write_rows(&table, &ids, dtype, args.raw, out, &mut progress)?;
        drop(progress);
        tell(args, &table, dtype, ids.len(), console);
    }
    Ok(Finding::Sound)
}

fn write_lines(
    table: &Table,
    ids: &[u64],
    dtype: Option<DType>,
    mut out: Output,
    progress: &mut Progress,
) -> Result<()> {
    let mut done = 0;
    for window in ids.chunks(values::window_rows(table)) {
        interrupt::stop()?;
        let rows = Values::gather(table, window, dtype)?;
        for (position, id) in window.iter().enumerate() {
            let token = table.token(*id)?;
            values::write_json(&mut out, *id, token.as_deref(), rows.row(position, table.dim()))?;
        }
        done += window.len() as u64;
        progress.show(done, ids.len() as u64);
    }
    interrupt::stop()?;
    out.finish()
}

fn write_rows(
    table: &Table,
    ids: &[u64],
    dtype: Option<DType>,
    raw: bool,
    mut out: Output,
    progress: &mut Progress,
) -> Result<()> {
    if !raw {
        let (rows, dim) = (ids.len() as u64, table.dim() as u64);
        NpyHeader::of_rows(dtype.unwrap_or(table.dtype()), rows, dim).write_to(&mut out)?;
    }
    let mut rows = Vec::new();
    let mut done = 0;
    for window in ids.chunks(values::window_rows(table)) {
        interrupt::stop()?;
        match dtype {
            Some(DType::F16) => encode::<f16>(table, window, &mut rows)?,
            Some(DType::BF16) => encode::<bf16>(table, window, &mut rows)?,
            Some(_) => encode::<f32>(table, window, &mut rows)?,
            None => {
                let row_bytes = usize::try_from(table.row_bytes())?;
                rows.resize(window.len() * row_bytes, 0);
                table.gather_bytes_into(window, &mut rows)?;
            }
        }
        out.write_all(&rows)?;
        done += window.len() as u64;
        progress.show(done, ids.len() as u64);
    }
    interrupt::stop()?;
    out.finish()
}

/// Gathers a window of rows as bytes of a dtype.
fn encode<O: Element>(table: &Table, ids: &[u64], rows: &mut Vec<u8>) -> Result<()> {
    let mut values = vec![O::zeroed(); ids.len() * table.dim()];
    table.gather_into(ids, &mut values)?;
    rows.clear();
    rows.extend_from_slice(bytemuck::cast_slice(&values));
    Ok(())
}

fn tell(args: &GatherArgs, table: &Table, dtype: Option<DType>, rows: usize, console: &Console) {
    let stored = dtype.unwrap_or(table.dtype());
    if dtype == Some(DType::F32) && table.dtype() == DType::F64 && args.dtype.is_none() {
        console.note("the table's f64 was rounded to f32; --dtype native keeps it");
    }
    if let Some(name) = ml_dtypes_name(stored).filter(|_| !args.raw) {
        console.note(&format!(
            "numpy has no {stored}: load the file with np.load(path).view(ml_dtypes.{name})"
        ));
    }
    let row_bytes = match dtype {
        Some(dtype) => table.dim() as u64 * dtype.block_bytes() as u64,
        None => table.row_bytes(),
    };
    let bytes = rows as u64 * row_bytes;
    if let Some(path) = args.output.as_deref().filter(|path| !is_dash(path)) {
        console.summary(&format!(
            "wrote {}: {rows} x {} {stored}, {}",
            printable_path(path),
            table.dim(),
            size(bytes)
        ));
    }
}

/// What `ml_dtypes` calls a type that numpy lacks.
fn ml_dtypes_name(dtype: DType) -> Option<&'static str> {
    match dtype {
        DType::BF16 => Some("bfloat16"),
        DType::F8E4M3 => Some("float8_e4m3fn"),
        DType::F8E5M2 => Some("float8_e5m2"),
        DType::F8E4M3Fnuz => Some("float8_e4m3fnuz"),
        DType::F8E5M2Fnuz => Some("float8_e5m2fnuz"),
        _ => None,
    }
}
