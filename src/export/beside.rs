//! The tokens of a format that has no room for them, in a file of their own beside it.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::format::ExportFormat;
use super::options::{ExportOptions, Exported};
use super::output::Out;
use super::run::Job;
use crate::error::{Error, Result};
use crate::source::Vocabulary;
use crate::table::Table;
use crate::tokens::{LONGEST_TOKEN, TokenWalk, token_hash};

/// The bytes gathered before they are written.
const BUFFER: usize = 1 << 16;

/// What a tokenizer of nothing but tokens is, up to them: as Hugging Face's `tokenizers` has it.
const WORD_LEVEL: &str = concat!(
    r#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,"#,
    r#""pre_tokenizer":null,"post_processor":null,"decoder":null,"#,
    r#""model":{"type":"WordLevel","vocab":{"#
);
const WORD_LEVEL_END: &str = "},\"unk_token\":\"[UNK]\"}}\n";

/// A file of tokens that is to be written.
pub(super) struct Beside<'a> {
    pub(super) path: PathBuf,
    table: &'a Table,
    /// The tokens that are written; those behind the last row stay with a whole table.
    ids: Range<u64>,
    form: Form<'a>,
    /// The tokens there are.
    count: u64,
}

enum Form<'a> {
    /// The model's own tokenizer.
    Tokenizer(Cow<'a, str>),
    /// A token a line.
    Lines,
    /// A tokenizer of nothing but tokens, which have their ids with them.
    WordLevel,
}

impl<'a> Beside<'a> {
    /// The file of tokens that an export needs; `None` where it needs none.
    pub(super) fn of(job: &Job<'a>, path: &Path, options: &ExportOptions) -> Result<Option<Self>> {
        if job.format != ExportFormat::Safetensors || options.no_tokens {
            return Ok(None);
        }
        let (table, rows) = (job.table, &job.rows);
        let whole = *rows == (0..table.vocab());
        let ids = if whole { 0..table.token_count()? } else { rows.clone() };
        let survey = Survey::of(table, &ids)?;
        let count = survey.count;
        let tokenizer = if whole { table.tokenizer_json()? } else { None };
        let tokenizer = match tokenizer {
            Some(json) if count == 0 || is_vocabulary_of(&json, table)? => Some(json),
            _ => None,
        };
        let form = match tokenizer {
            Some(json) => Form::Tokenizer(json),
            None if count == 0 => return Ok(None),
            None if survey.flaw.is_none() => Form::Lines,
            None => {
                survey.refuse_duplicates(table, &ids)?;
                Form::WordLevel
            }
        };
        let name = if matches!(form, Form::Lines) { "vocab.txt" } else { "tokenizer.json" };
        let path = path.with_file_name(name);
        Ok(Some(Beside { path, table, ids, form, count }))
    }

    /// Says what this adds to an export.
    pub(super) fn tell(&self, exported: &mut Exported) {
        exported.tokens = self.count;
        exported.tokens_path = Some(self.path.clone());
    }

    /// Writes the tokens; the file is there when the output is finished.
    pub(super) fn write(
        self,
        exported: &mut Exported,
        options: &ExportOptions,
    ) -> Result<Out<'static>> {
        self.tell(exported);
        let mut out = Out::file(&self.path, options.replace, &options.operations)?;
        let mut buffer = Vec::new();
        match &self.form {
            Form::Tokenizer(json) => out.put(json.as_bytes())?,
            Form::Lines => {
                let mut lines = self.walk()?;
                while let Some((_, token)) = next(&mut lines)? {
                    // Those that are absent are behind the last that is there.
                    let Some(token) = token else { continue };
                    buffer.extend_from_slice(token.as_bytes());
                    buffer.push(b'\n');
                    put_much(&mut out, &mut buffer)?;
                }
            }
            Form::WordLevel => {
                buffer.extend_from_slice(WORD_LEVEL.as_bytes());
                let mut comma = "";
                let mut tokens = self.walk()?;
                while let Some((id, token)) = next(&mut tokens)? {
                    let Some(token) = token else { continue };
                    let token = serde_json::Value::from(token);
                    let entry = format!("{comma}{token}:{}", id - self.ids.start);
                    buffer.extend_from_slice(entry.as_bytes());
                    comma = ",";
                    put_much(&mut out, &mut buffer)?;
                }
                buffer.extend_from_slice(WORD_LEVEL_END.as_bytes());
            }
        }
        out.put(&buffer)?;
        Ok(out)
    }

    fn walk(&self) -> Result<Option<TokenWalk<'a>>> {
        let tokens = self.table.token_sections()?;
        Ok(tokens.map(|tokens| tokens.walk(self.ids.start, self.ids.end)))
    }
}

fn next<'w>(walk: &'w mut Option<TokenWalk<'_>>) -> Result<Option<(u64, Option<&'w str>)>> {
    match walk {
        Some(walk) => walk.next(),
        None => Ok(None),
    }
}

fn put_much(out: &mut Out<'_>, buffer: &mut Vec<u8>) -> Result<()> {
    if buffer.len() >= BUFFER {
        out.put(buffer)?;
        buffer.clear();
    }
    Ok(())
}

/// What there is among some tokens.
struct Survey {
    count: u64,
    /// The first that is no line, and why.
    flaw: Option<(u64, Option<String>, &'static str)>,
}

impl Survey {
    fn of(table: &Table, ids: &Range<u64>) -> Result<Self> {
        let mut survey = Survey { count: 0, flaw: None };
        let Some(tokens) = table.token_sections()? else { return Ok(survey) };
        let mut walk = tokens.walk(ids.start, ids.end);
        // Rows without tokens behind the last one need no line.
        let mut absent = None;
        while let Some((id, token)) = walk.next()? {
            let Some(token) = token else {
                absent.get_or_insert(id);
                continue;
            };
            survey.count += 1;
            if survey.flaw.is_some() {
                continue;
            }
            let flaw = if let Some(absent) = absent {
                Some((absent, None, "a row without a token has no line"))
            } else if token.contains(['\n', '\r']) {
                Some((id, Some(token.to_owned()), "it has a line break"))
            } else if id == ids.start && token.starts_with('\u{feff}') {
                Some((id, Some(token.to_owned()), "it starts with a byte order mark"))
            } else if token.len() as u64 == LONGEST_TOKEN {
                Some((id, Some("(a megabyte)".to_owned()), "its line is too long"))
            } else {
                None
            };
            survey.flaw = flaw;
        }
        Ok(survey)
    }

    /// Fails where a token comes twice, which a `tokenizer.json` cannot hold.
    fn refuse_duplicates(self, table: &Table, ids: &Range<u64>) -> Result<()> {
        let Some((id, token, reason)) = self.flaw else { return Ok(()) };
        let Some(tokens) = table.token_sections()? else { return Ok(()) };
        let mut seen = HashSet::new();
        let mut walk = tokens.walk(ids.start, ids.end);
        while let Some((_, found)) = walk.next()? {
            if found.is_some_and(|token| !seen.insert(token_hash(token.as_bytes()))) {
                let format = "vocab.txt, and others come twice, which tokenizer.json does not hold";
                let way_out = "leave the tokens out with --no-tokens (`ExportOptions::tokens`)";
                return Err(Error::UnfitToken { id, token, format, reason, way_out });
            }
        }
        Ok(())
    }
}

/// True where the vocabulary of a `tokenizer.json` is the table's tokens.
fn is_vocabulary_of(json: &str, table: &Table) -> Result<bool> {
    let Some(vocabulary) = Vocabulary::of_tokenizer_json(json) else { return Ok(false) };
    let Some(tokens) = table.token_sections()? else { return Ok(false) };
    let mut walk = tokens.walk(0, u64::MAX);
    while let Some((id, token)) = walk.next()? {
        if vocabulary.get(id) != token {
            return Ok(false);
        }
    }
    let count = tokens.parts.count();
    Ok((count..vocabulary.len()).all(|id| vocabulary.get(id).is_none()))
}
