//! `embmap tokenize`: the tokens of texts.

use std::io::Write;

use anyhow::Result;
use clap::Args;
use embmap::Tokenizer;

use super::Outcome;
use super::console::Console;
use super::escape::{printable, printable_path};
use super::failure::Finding;
use super::interrupt;
use super::open::TableArgs;
use super::output::Output;
use super::texts::{Text, TextArgs};
use super::values::shown_token;

const EXAMPLES: &str = "\
Examples:
  embmap tokenize all-MiniLM-L6-v2 \"the cat sat on the mat\"
  embmap tokenize gpt2.emb \"the cat\" --ids | embmap gather gpt2.emb --ids - -o rows.npy
  embmap tokenize potion-base-8M - --json < lines.txt";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TokenizeArgs {
    #[command(flatten)]
    table: TableArgs,
    #[command(flatten)]
    texts: TextArgs,
    /// Leave out the tokens that the model's template adds around a text
    #[arg(long)]
    no_special_tokens: bool,
    /// Print the ids alone, those of a text on one line
    #[arg(long, conflicts_with = "json")]
    ids: bool,
    /// Print one JSON object a text: text, ids, tokens
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &TokenizeArgs, console: &Console) -> Outcome {
    args.texts.check()?;
    let table = args.table.open(console)?;
    let tokenizer = table.tokenizer()?;
    let mut out = Output::stdout();
    let mut texts = args.texts.read();
    let mut counts = Counts::default();
    loop {
        let batch = texts.next_batch()?;
        if batch.is_empty() {
            break;
        }
        interrupt::stop()?;
        let encoded = tokenizer.encode_batch(&batch, !args.no_special_tokens)?;
        for (text, ids) in batch.iter().zip(encoded.iter()) {
            counts.add(ids, &tokenizer);
            args.write(&mut out, &tokenizer, text, ids)?;
        }
        out.flush()?;
    }
    if !args.ids && !args.json {
        let Counts { tokens, unknown } = counts;
        let path = printable_path(&args.table.path);
        console.summary(&format!("{path}: {tokens} tokens, {unknown} of them unknown"));
    }
    out.finish()?;
    Ok(Finding::Sound)
}

#[derive(Default)]
struct Counts {
    tokens: usize,
    unknown: usize,
}

impl Counts {
    fn add(&mut self, ids: &[u32], tokenizer: &Tokenizer) {
        let unknown = tokenizer.unknown_id();
        self.tokens += ids.len();
        self.unknown += ids.iter().filter(|id| Some(**id) == unknown).count();
    }
}

impl TokenizeArgs {
    fn write(
        &self,
        out: &mut impl Write,
        tokenizer: &Tokenizer,
        text: &Text,
        ids: &[u32],
    ) -> Result<()> {
        if self.ids {
            let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
            writeln!(out, "{}", ids.join(" "))?;
            return Ok(());
        }
        let tokens: Vec<Option<String>> = ids.iter().map(|id| tokenizer.token(*id)).collect();
        if self.json {
            write!(out, "{{\"text\":")?;
            serde_json::to_writer(&mut *out, &text.text)?;
            write!(out, ",\"ids\":")?;
            serde_json::to_writer(&mut *out, ids)?;
            write!(out, ",\"tokens\":")?;
            serde_json::to_writer(&mut *out, &tokens)?;
            writeln!(out, "}}")?;
            return Ok(());
        }
        if !self.texts.is_single() {
            writeln!(out, "{}", printable(&text.text))?;
        }
        let width = ids.iter().map(|id| id.to_string().len()).max().unwrap_or(1);
        for (id, token) in ids.iter().zip(&tokens) {
            writeln!(out, "{id:>width$}  {}", shown_token(token.as_deref()))?;
        }
        Ok(())
    }
}
