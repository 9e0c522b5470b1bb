//! `embmap info`: what a table is and where it lies.

use std::io::Write;
use std::path::Path;

use anyhow::{Result, anyhow};
use clap::Args;
use embmap::{Access, Codec, DirectIo, Error, OpenOptions, ScaleType, Table};
use serde_json::{Value, json};

use super::Outcome;
use super::console::size;
use super::escape::{printable, printable_path};
use super::failure::Finding;
use super::json::{Object, hex};
use super::open::TableArgs;
use super::output::Output;
use super::tensors::{self, columns, file_name};

const EXAMPLES: &str = "\
Examples:
  embmap info gpt2.emb
  embmap info gpt2.emb --json | jq .vocab
  embmap info llama-3 --tensors";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct InfoArgs {
    #[command(flatten)]
    table: TableArgs,
    /// List every tensor of a checkpoint; a star marks the one that would be opened
    #[arg(long)]
    tensors: bool,
    /// Print one JSON object, or with --tensors one a tensor
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &InfoArgs) -> Outcome {
    if args.tensors {
        let listed = args.table.options().list_tensors(&args.table.path);
        let found = listed.map_err(|error| why_no_tensors(error, &args.table.path))?;
        if args.json {
            tensors::print_json(&found)?;
        } else {
            tensors::print_text(&found)?;
        }
        return Ok(Finding::Sound);
    }
    // No row is read here, so there is nothing to map.
    let table = args.table.open_unmapped()?;
    let facts = Facts::of(&table)?;
    if args.json {
        return facts.object().print();
    }
    facts.print()?;
    Ok(Finding::Sound)
}

/// Why no tensors can be listed: an .emb file is sound or damaged, and has none.
fn why_no_tensors(error: Error, path: &Path) -> anyhow::Error {
    if !matches!(error, Error::NoTable { .. }) {
        return error.into();
    }
    match OpenOptions::new().access(Access::Read).open(path) {
        Ok(table) if table.info().format == "emb" => anyhow!(
            "{}: an .emb file holds one table, and --tensors lists those of a checkpoint; leave --tensors out",
            printable_path(path)
        ),
        Err(damaged @ Error::Format { .. }) => damaged.into(),
        _ => error.into(),
    }
}

/// A table with what has to be read to tell about it.
struct Facts<'a> {
    table: &'a Table,
    tokens: u64,
    metadata: Value,
    direct: Option<DirectIo>,
}

impl<'a> Facts<'a> {
    fn of(table: &'a Table) -> Result<Self> {
        let metadata = match table.metadata()? {
            // What is no JSON is still worth showing.
            Some(text) => serde_json::from_str(&text).unwrap_or_else(|_| Value::from(&*text)),
            None => Value::Null,
        };
        let (tokens, direct) = (table.token_count()?, table.direct_io()?);
        Ok(Facts { table, tokens, metadata, direct })
    }

    fn scaling(&self) -> Value {
        let Codec::Scaled(scaling) = self.table.codec() else { return Value::Null };
        json!({
            "block": scaling.block,
            "scale": scaling.scale.name(),
            "bias": scaling.bias.map(ScaleType::name),
        })
    }

    fn version(&self) -> Option<String> {
        self.table.info().version.map(|(major, minor)| format!("{major}.{minor}"))
    }

    fn source(&self) -> Value {
        let info = self.table.info();
        match &info.tensor {
            Some(tensor) => json!({ "tensor": tensor, "files": texts(&info.files) }),
            None => self.metadata.get("source").cloned().unwrap_or(Value::Null),
        }
    }

    fn object(&self) -> Object {
        let (table, info) = (self.table, self.table.info());
        let section = |section: &embmap::SectionInfo| {
            json!({
                "name": section.name,
                "kind": section.kind,
                "offset": section.offset,
                "bytes": section.bytes,
            })
        };
        let direct = self.direct.map(|direct| {
            json!({
                "files": direct.files,
                "past_cache": direct.past_cache,
                "alignment": direct.alignment,
                "io_uring": direct.io_uring,
            })
        });
        Object::new()
            .with("path", info.path.to_string_lossy())
            .with("format", info.format)
            .with("version", self.version())
            .with("vocab", table.vocab())
            .with("dim", table.dim())
            .with("dtype", table.dtype().name())
            .with("codec", table.codec().name())
            .with("scaling", self.scaling())
            .with("row_bytes", table.row_bytes())
            .with("row_stride", table.row_stride())
            .with("pages_per_row", table.pages_per_row())
            .with("aligned", self.aligned().map(|aligned| aligned.value()).collect::<Vec<_>>())
            .with("pieces", info.pieces)
            .with("scales", info.scales.as_deref())
            .with("biases", info.biases.as_deref())
            .with("file_bytes", info.file_bytes)
            .with("files", texts(&info.files))
            .with("file_id", info.file_id.map(|id| hex(&id)))
            .with("tokens", self.tokens)
            .with("tokens_from", info.tokens_from.as_ref().map(|path| path.to_string_lossy()))
            .with("tokenizer", info.tokenizer)
            .with("checksums", info.checksums)
            .with("placed_rows", info.placed_rows)
            .with("sections", info.sections.iter().map(section).collect::<Vec<_>>())
            .with("direct", direct)
            .with("source", self.source())
            .with("metadata", self.metadata.clone())
    }

    fn print(&self) -> Result<()> {
        let mut out = Output::stdout();
        for (name, text) in self.lines() {
            writeln!(out, "{name:<10} {text}")?;
        }
        let sections = &self.table.info().sections;
        if !sections.is_empty() {
            writeln!(out, "sections")?;
            let rows = sections.iter().map(|section| {
                let name = printable(section.name);
                [format!("  {name}"), size(section.bytes), format!("at {}", section.offset)]
            });
            writeln!(out, "{}", columns(rows, &[1]))?;
        }
        if !self.metadata.is_null() {
            writeln!(out, "metadata")?;
            for line in serde_json::to_string_pretty(&self.metadata)?.lines() {
                writeln!(out, "  {}", printable(line))?;
            }
        }
        out.finish()
    }

    fn lines(&self) -> Vec<(&'static str, String)> {
        let (table, info) = (self.table, self.table.info());
        let version = self.version().map(|version| format!(" {version}")).unwrap_or_default();
        let mut lines = vec![
            ("path", printable_path(&info.path)),
            ("format", format!("{}{version}", info.format)),
            ("shape", format!("{} x {}", table.vocab(), table.dim())),
            ("dtype", format!("{}, codec {}", table.dtype(), table.codec())),
            ("row", self.row()),
            ("pages", self.pages()),
            ("size", format!("{} ({} bytes)", size(info.file_bytes), info.file_bytes)),
        ];
        if let Some(tensor) = &info.tensor {
            let pieces = match info.pieces {
                1 => String::new(),
                pieces => format!(" in {pieces} pieces"),
            };
            lines.push(("tensor", format!("{}{pieces}", printable(tensor))));
            let beside = [("scales", &info.scales), ("biases", &info.biases)];
            lines.extend(
                beside
                    .into_iter()
                    .filter_map(|(what, name)| Some((what, printable(name.as_ref()?)))),
            );
            lines.push(("files", names(&info.files)));
        }
        if let Some(id) = &info.file_id {
            lines.push(("file id", hex(id)));
        }
        lines.push(("tokens", self.tokens()));
        lines.push(("tokenizer", yes_or_no(info.tokenizer)));
        if info.placed_rows > 0 {
            let placed = format!("{} rows lie first, in an order of their own", info.placed_rows);
            lines.push(("order", placed));
        }
        lines.push(("checksums", yes_or_no(info.checksums)));
        lines.extend(self.direct.map(|direct| ("direct", told(direct))));
        lines
    }

    /// The bytes of a row, and what its padding costs on disk.
    fn row(&self) -> String {
        let (row_bytes, stride) = (self.table.row_bytes(), self.table.row_stride());
        let padding = stride.saturating_sub(row_bytes);
        if padding == 0 {
            return format!("{row_bytes} bytes, dense");
        }
        let cost = padding.saturating_mul(self.table.vocab());
        format!("{row_bytes} bytes, every {stride} bytes: alignment costs {}", size(cost))
    }

    /// What a row costs that is not in memory, and what `convert --align` would make of it.
    fn pages(&self) -> String {
        let here = format!("{:.3} of 4 KiB a cold row", self.table.pages_per_row());
        let others = self.aligned().map(|aligned| {
            let cost = if aligned.cost == 0 {
                "at no cost".to_owned()
            } else {
                format!("for {} more", size(aligned.cost))
            };
            let name = match aligned.align {
                1 => ".emb".to_owned(),
                align => format!("--align {align}"),
            };
            format!("{name} {:.3} {cost}", aligned.pages)
        });
        let others: Vec<String> = others.collect();
        if others.is_empty() { here } else { format!("{here}; as {}", others.join(", ")) }
    }

    /// What an `.emb` file of this table would be with each alignment that changes something.
    fn aligned(&self) -> impl Iterator<Item = Aligned> {
        let (table, mut before) = (self.table, 0);
        // An .emb file is one already.
        let dense = if table.info().format == "emb" { None } else { Some(1) };
        dense.into_iter().chain([64, 512, 4096]).filter_map(move |align| {
            let stride = table.row_bytes().checked_next_multiple_of(align)?;
            let cost = (stride - table.row_bytes()).saturating_mul(table.vocab());
            let pages = table.pages_per_row_at(stride);
            let is_new = stride != std::mem::replace(&mut before, stride);
            (is_new && (align == 1 || cost > 0)).then_some(Aligned { align, stride, pages, cost })
        })
    }

    fn tokens(&self) -> String {
        match (self.tokens, &self.table.info().tokens_from) {
            (0, _) => "none".to_owned(),
            (count, Some(path)) => format!("{count}, from {}", file_name(path)),
            (count, None) => count.to_string(),
        }
    }
}

/// A way of laying out rows.
struct Aligned {
    align: u64,
    stride: u64,
    pages: f64,
    /// The bytes of all padding.
    cost: u64,
}

impl Aligned {
    fn value(&self) -> Value {
        json!({
            "align": self.align,
            "row_stride": self.stride,
            "pages_per_row": self.pages,
            "cost_bytes": self.cost,
        })
    }
}

fn texts(paths: &[impl AsRef<Path>]) -> Vec<String> {
    paths.iter().map(|path| path.as_ref().to_string_lossy().into_owned()).collect()
}

/// The first names of a list that may be long.
fn names(paths: &[impl AsRef<Path>]) -> String {
    const MOST: usize = 4;
    let names: Vec<String> = paths.iter().take(MOST).map(|path| file_name(path.as_ref())).collect();
    let more = paths.len().saturating_sub(MOST);
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    format!("{}{more}", names.join(", "))
}

/// How direct reads are carried out, in words.
fn told(direct: DirectIo) -> String {
    let DirectIo { files, past_cache, alignment, io_uring, .. } = direct;
    let how = if io_uring { "io_uring" } else { "threads" };
    let cache = match (past_cache, files) {
        (0, _) => "the file system refuses direct reads, so through the page cache".to_owned(),
        (some, all) if some < all => format!("{some} of {all} files past the page cache"),
        _ => "past the page cache".to_owned(),
    };
    format!("by {how}, in multiples of {alignment} bytes, {cache}")
}

fn yes_or_no(yes: bool) -> String {
    if yes { "yes" } else { "no" }.to_owned()
}
