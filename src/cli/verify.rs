//! `embmap verify`: all of a table, read and checked.

use std::io::{self, IsTerminal, Write};

use anyhow::Result;
use clap::Args;
use clap::builder::styling::AnsiColor;
use embmap::{Damage, Table, Verification};
use serde_json::{Value, json};

use super::Outcome;
use super::console::{Console, size};
use super::escape::printable_path;
use super::failure::Finding;
use super::interrupt;
use super::json::Object;
use super::open::TableArgs;
use super::output::Output;
use super::progress::{Progress, Unit};

const EXAMPLES: &str = "\
Examples:
  embmap verify gpt2.emb
  embmap verify gpt2.emb --json | jq .damage
  embmap verify gpt2.emb -q > /dev/null || echo damaged

NaN and infinite values are counted and are no damage. Checkpoints carry no checksums: of them
only the structure can be checked.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    table: TableArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &VerifyArgs, console: &Console) -> Outcome {
    let table = args.table.open_unmapped()?;
    console.detail(&format!("verifying {}", printable_path(&args.table.path)));
    let mut progress = Progress::new(Unit::Bytes, console);
    let found = table.verify_with(|done, all| {
        progress.show(done, all);
        interrupt::check()
    })?;
    drop(progress);
    if args.json {
        object(&table, &found).print()?;
    } else {
        print(args, &table, &found, console)?;
    }
    Ok(if found.is_sound() { Finding::Sound } else { Finding::Damage })
}

fn object(table: &Table, found: &Verification) -> Object {
    Object::new()
        .with("sound", found.is_sound())
        .with("format", table.info().format)
        .with("checksums", table.info().checksums)
        .with("bytes", found.bytes)
        .with("blocks", found.blocks)
        .with("nan", found.nan)
        .with("infinite", found.infinite)
        .with("first_non_finite_row", found.first_non_finite_row)
        .with("damage", found.damage.iter().map(damage_object).collect::<Vec<_>>())
        .with("damage_count", found.damage_count)
}

/// Sums are texts: as numbers they would lose bits in most readers of JSON.
fn damage_object(damage: &Damage) -> Value {
    match damage {
        Damage::Block { block, offset, bytes, rows, expected, found } => json!({
            "kind": "block",
            "block": block,
            "offset": offset,
            "bytes": bytes,
            "rows": [rows.start, rows.end],
            "expected": format!("{expected:#018x}"),
            "found": format!("{found:#018x}"),
        }),
        Damage::Format(error) => json!({ "kind": "format", "message": error.to_string() }),
        other => json!({ "kind": "other", "message": format!("{other:?}") }),
    }
}

fn damage_line(damage: &Damage) -> String {
    match damage {
        Damage::Block { block, offset, bytes, rows, expected, found } => {
            let end = offset + bytes;
            let rows = match rows.end.checked_sub(rows.start) {
                None | Some(0) => "beyond the rows".to_owned(),
                Some(1) => format!("row {}", rows.start),
                Some(_) => format!("rows {} to {}", rows.start, rows.end - 1),
            };
            format!(
                "block {block}: {rows}; bytes {offset} to {}, sum {found:#018x}, recorded {expected:#018x}",
                end.saturating_sub(1)
            )
        }
        Damage::Format(error) => error.to_string(),
        other => format!("{other:?}"),
    }
}

fn print(args: &VerifyArgs, table: &Table, found: &Verification, console: &Console) -> Result<()> {
    let mut out = Output::stdout();
    for damage in &found.damage {
        writeln!(out, "{}", damage_line(damage))?;
    }
    let kept = found.damage.len() as u64;
    if found.damage_count > kept {
        writeln!(out, "and {} more", found.damage_count - kept)?;
    }
    let (verdict, color) = match found.damage_count {
        0 if table.info().checksums => ("sound".to_owned(), AnsiColor::Green),
        0 => ("readable".to_owned(), AnsiColor::Green),
        1 => ("damaged, 1 finding".to_owned(), AnsiColor::Red),
        count => (format!("damaged, {count} findings"), AnsiColor::Red),
    };
    let style = console.style(color, io::stdout().is_terminal());
    let checked = if table.info().checksums {
        format!("{} blocks", found.blocks)
    } else {
        format!("no checksums in {}", table.info().format)
    };
    let first = found.first_non_finite_row.map(|row| format!(", first in row {row}"));
    writeln!(
        out,
        "{}: {style}{verdict}{style:#} ({} read, {checked}, {} NaN, {} infinite{})",
        printable_path(&args.table.path),
        size(found.bytes),
        found.nan,
        found.infinite,
        first.unwrap_or_default(),
    )?;
    out.finish()
}
