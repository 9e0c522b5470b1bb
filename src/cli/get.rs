//! `embmap get`: a few rows, by id, by token, by text.

use std::path::Path;

use anyhow::{Result, bail};
use clap::Args;
use embmap::Table;

use super::Outcome;
use super::console::Console;
use super::escape::printable_path;
use super::failure::{Finding, Usage};
use super::ids::{self, Batch, IdArg};
use super::open::TableArgs;
use super::output::Output;
use super::tokens;
use super::values::{self, Columns, Values};

const EXAMPLES: &str = "\
Examples:
  embmap get all-MiniLM-L6-v2 1811 919
  embmap get gpt2.emb --token cat --token Ġcat --json
  embmap get all-MiniLM-L6-v2 --text \"the cat sat\"
  shuf -i 0-50256 -n 3 | embmap get gpt2.emb - --full

While a table is mapped nothing may write to its files in place; --no-map reads them instead.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    table: TableArgs,
    /// Ids of rows; - reads ids from standard input, separated by white space or as .npy
    #[arg(value_name = "ID", allow_negative_numbers = true)]
    ids: Vec<IdArg>,
    /// The row of a token, in the vocabulary's own spelling; may be given several times
    #[arg(long = "token", value_name = "TOKEN", allow_hyphen_values = true)]
    tokens: Vec<String>,
    /// The rows of a text, by the model's own tokenizer; - reads it from standard input
    ///
    /// Rows come in the order ids, tokens, text. The last line end of a text from standard
    /// input is not part of it.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    text: Option<String>,
    /// Leave out the tokens that the model's template adds around a text
    #[arg(long, requires = "text")]
    no_special_tokens: bool,
    /// Print every value, in the shortest form that reads back as the same number
    #[arg(long, conflicts_with = "json")]
    full: bool,
    /// Print one JSON object a row: id, token, values
    #[arg(long)]
    json: bool,
}

/// The rows to print.
struct Wanted {
    ids: Vec<u64>,
    /// The tokens of a text, which are those of the last ids.
    text: Vec<String>,
}

pub(crate) fn run(args: &GetArgs, console: &Console) -> Outcome {
    args.check()?;
    let table = args.table.open(console)?;
    let wanted = args.resolve(&table)?;
    print(args, &table, &wanted, console)?;
    Ok(Finding::Sound)
}

impl GetArgs {
    fn check(&self) -> Result<(), Usage> {
        if self.ids.is_empty() && self.tokens.is_empty() && self.text.is_none() {
            return Err(Usage(
                "nothing to get: give ids, - for ids on standard input, --token or --text"
                    .to_owned(),
            ));
        }
        let ids = self.ids.iter().filter(|id| **id == IdArg::Stdin).count();
        if ids + usize::from(self.text.as_deref() == Some("-")) > 1 {
            return Err(Usage("standard input can be read only once".to_owned()));
        }
        Ok(())
    }

    fn resolve(&self, table: &Table) -> Result<Wanted> {
        let mut batch = Batch::new(table);
        batch.push_arguments(&self.ids)?;
        for token in &self.tokens {
            batch.push(tokens::id_of(token, table, &self.table.path)?.into())?;
        }
        let mut text = Vec::new();
        if let Some(argument) = &self.text {
            let given = text_of(argument)?;
            for encoded in table.tokenizer()?.encode(&given, !self.no_special_tokens)? {
                batch.push(encoded.id.into())?;
                text.push(encoded.token);
            }
        }
        Ok(Wanted { ids: batch.into_ids(), text })
    }
}

fn text_of(argument: &str) -> Result<String> {
    if argument != "-" {
        return Ok(argument.to_owned());
    }
    let (name, bytes) = ids::read_bytes(Path::new("-"))?;
    match String::from_utf8(bytes) {
        Ok(text) => {
            let line = text.strip_suffix('\n').map(|text| text.strip_suffix('\r').unwrap_or(text));
            Ok(line.unwrap_or(&text).to_owned())
        }
        Err(error) => bail!("{name}: expected UTF-8 text, and {}", error.utf8_error()),
    }
}

fn print(args: &GetArgs, table: &Table, wanted: &Wanted, console: &Console) -> Result<()> {
    let mut out = Output::stdout();
    let Wanted { ids, text } = wanted;
    let before_text = ids.len() - text.len();
    let token = |position: usize| -> Result<_> {
        Ok(match position.checked_sub(before_text) {
            Some(position) => Some(text[position].as_str().into()),
            None => table.token(ids[position])?,
        })
    };
    let window = values::window_rows(table);
    let mut columns = Columns { id: 1, token: 1, full: args.full };
    for (first, ids) in (0..).step_by(window).zip(ids.chunks(window)) {
        let rows = Values::gather(table, ids, None)?;
        if !args.json {
            // Columns line up within a window, and never become narrower.
            for (position, id) in (first..).zip(ids) {
                let shown = values::shown_token(token(position)?.as_deref());
                columns.token = columns.token.max(shown.chars().count());
                columns.id = columns.id.max(id.to_string().len());
            }
            // Only here, for where nothing can be shown the error stands alone.
            if first == 0 {
                summarize(args, table, console);
            }
        }
        for (index, id) in ids.iter().enumerate() {
            let token = token(first + index)?;
            let row = rows.row(index, table.dim());
            if args.json {
                values::write_json(&mut out, *id, token.as_deref(), row)?;
            } else {
                let token = values::shown_token(token.as_deref());
                values::write_text(&mut out, *id, &token, row, columns)?;
            }
        }
    }
    if ids.is_empty() && !args.json {
        summarize(args, table, console);
    }
    out.finish()
}

fn summarize(args: &GetArgs, table: &Table, console: &Console) {
    let path = printable_path(&args.table.path);
    console.summary(&format!("{path}: {} x {} {}", table.vocab(), table.dim(), table.dtype()));
}
