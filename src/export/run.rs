//! An export from its options to its files.

use std::io::Write;
use std::ops::{ControlFlow, Range};
use std::path::Path;

use super::beside::Beside;
use super::format::ExportFormat;
use super::options::{ExportOptions, Exported, TENSOR, UnfitTokens};
use super::output::Out;
#[cfg(feature = "parquet")]
use super::parquet;
use super::pieces::Progress;
use super::tokens::{Fitter, RowTokens};
use super::{npy, safetensors, text, word2vec};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::publish::check_destination;
use crate::table::Table;

/// What is to be done, with nothing left open.
pub(super) struct Job<'a> {
    pub(super) table: &'a Table,
    pub(super) format: ExportFormat,
    pub(super) rows: Range<u64>,
    /// The type of the numbers that are written.
    pub(super) dtype: DType,
    pub(super) tensor: &'a str,
    #[cfg(feature = "parquet")]
    pub(super) columns: parquet::ColumnNames<'a>,
    no_tokens: bool,
    unfit_tokens: UnfitTokens,
}

impl<'a> Job<'a> {
    fn of(table: &'a Table, format: ExportFormat, options: &'a ExportOptions) -> Result<Self> {
        if format == ExportFormat::Parquet && !cfg!(feature = "parquet") {
            let reason = "this embmap was built without Parquet; build it with the feature parquet";
            return Err(Error::InvalidOption { option: "format", reason: reason.to_owned() });
        }
        Ok(Job {
            table,
            format,
            rows: options.rows_of(table)?,
            dtype: format.numbers_of(table, options.dtype)?,
            tensor: options.tensor.as_deref().unwrap_or(TENSOR),
            #[cfg(feature = "parquet")]
            columns: parquet::ColumnNames::of(options),
            no_tokens: options.no_tokens,
            unfit_tokens: options.unfit_tokens,
        })
    }

    pub(super) fn fitter(&self) -> Fitter {
        Fitter::new(self.format, self.unfit_tokens)
    }

    /// The bytes of all numbers.
    pub(super) fn number_bytes(&self) -> Result<u64> {
        let (vocab, dim) = (self.rows.end - self.rows.start, self.table.dim() as u64);
        let elements = vocab.checked_mul(dim);
        let bytes = elements.and_then(|elements| self.dtype.bytes_of(elements));
        bytes.filter(|bytes| i64::try_from(*bytes).is_ok()).ok_or(Error::TooLarge {
            vocab,
            dim,
            dtype: self.dtype,
        })
    }

    /// What will be written. Every token is looked at here, so that one that does not fit shows
    /// before anything is written.
    fn plan(&self) -> Result<Exported> {
        let mut plan = Exported {
            format: self.format,
            vocab: self.rows.end - self.rows.start,
            dim: self.table.dim(),
            dtype: self.dtype,
            file_bytes: None,
            tokens: 0,
            tokens_path: None,
            skipped: 0,
            replaced: 0,
        };
        match self.format {
            ExportFormat::Safetensors => plan.file_bytes = Some(safetensors::file_bytes(self)?),
            ExportFormat::Npy => plan.file_bytes = Some(npy::file_bytes(self)?),
            ExportFormat::Parquet => plan.tokens = self.count_tokens()?,
            ExportFormat::Word2Vec | ExportFormat::Word2VecBinary | ExportFormat::Glove => {
                let bytes = self.plan_names(&mut plan)?;
                if self.format == ExportFormat::Word2VecBinary {
                    plan.file_bytes = Some(word2vec::binary_bytes(self, plan.vocab, bytes));
                }
            }
        }
        Ok(plan)
    }

    /// The tokens that rows have.
    fn count_tokens(&self) -> Result<u64> {
        let mut count = 0;
        if !self.no_tokens {
            let mut tokens = RowTokens::of(self.table, &self.rows)?;
            while let Some((_, token)) = tokens.next()? {
                count += u64::from(token.is_some());
            }
        }
        Ok(count)
    }

    /// Looks at the token of each row, and gives the bytes of those that will be written.
    fn plan_names(&self, plan: &mut Exported) -> Result<u64> {
        let (table, mut fitter, mut bytes) = (self.table, self.fitter(), 0);
        if self.unfit_tokens != UnfitTokens::Replace && table.token_count()? == 0 && plan.vocab > 0
        {
            return Err(Error::Missing {
                path: table.info().path.clone(),
                what: "tokens, and this format names each row by its token",
                way_out: "export to safetensors or npy, or have the rows named by their numbers \
                          with --unfit-tokens replace (`ExportOptions::unfit_tokens`)",
            });
        }
        let mut tokens = RowTokens::of(table, &self.rows)?;
        while let Some((id, token)) = tokens.next()? {
            bytes += fitter.fit(id, token)?.map_or(0, |token| token.len() as u64);
        }
        (plan.vocab, plan.tokens) = (fitter.kept, fitter.kept);
        (plan.skipped, plan.replaced) = (fitter.skipped, fitter.replaced);
        Ok(bytes)
    }

    fn write(&self, plan: &Exported, out: &mut Out<'_>, progress: Progress<'_>) -> Result<()> {
        // The length of text is not known, and that of the others is right.
        if let Some(bytes) = plan.file_bytes {
            out.allocate(bytes)?;
        }
        match self.format {
            ExportFormat::Safetensors => safetensors::write(self, out, progress),
            ExportFormat::Npy => npy::write(self, out, progress),
            ExportFormat::Word2Vec => word2vec::write_text(self, plan.vocab, out, progress),
            ExportFormat::Word2VecBinary => word2vec::write_binary(self, plan.vocab, out, progress),
            ExportFormat::Glove => text::write(self, out, progress),
            #[cfg(feature = "parquet")]
            ExportFormat::Parquet => parquet::write(self, plan.tokens > 0, out, progress),
            // Refused before.
            #[cfg(not(feature = "parquet"))]
            ExportFormat::Parquet => Ok(()),
        }
    }
}

/// The format that was asked for, or that of the file's name.
fn format_of(path: &Path, options: &ExportOptions) -> Result<ExportFormat> {
    options.format.or_else(|| ExportFormat::of_path(path)).ok_or_else(|| Error::InvalidOption {
        option: "format",
        reason: format!(
            "the name {:?} does not tell the format; choose one with --to (`ExportOptions::format`)",
            path.file_name().unwrap_or(path.as_os_str()).to_string_lossy()
        ),
    })
}

/// Writes a table in the format of another tool, with its tokens.
///
/// Numbers are written exactly, whatever the format: bit for bit in binary ones, in text in the
/// fewest digits that read back as the same number (a NaN loses its payload there). What a
/// format cannot hold is an error that says what to do, not a change.
///
/// Memory does not grow with the table. The file appears whole or not at all. The tokens of a
/// safetensors file go beside it: the model's own `tokenizer.json` where a whole table has one,
/// else `vocab.txt` with one token a line, or a `tokenizer.json` of the tokens alone where there
/// are line breaks in tokens or rows without any. They appear first, and replace others only with
/// [`ExportOptions::replace`].
///
/// # Errors
///
/// [`Error::InvalidOption`] where the format cannot be told from the name or has no numbers of the
/// table's type, [`Error::UnfitToken`] for a token that the format cannot hold,
/// [`Error::Missing`] for a table without tokens where rows are named by them; whatever reading
/// the table and writing the file can give. The destination is as before then.
///
/// ```
/// use embmap::{ExportOptions, Table, export};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("model.safetensors");
/// let table = Table::load("fixtures/minilm-2k")?;
/// let exported = export(&table, &path, &ExportOptions::new().rows(0..1000))?;
/// assert_eq!((exported.vocab, exported.tokens), (1000, 1000));
///
/// let again = Table::load(directory.path())?;
/// assert_eq!(again.row::<half::f16>(7)?, table.row::<half::f16>(7)?);
/// assert_eq!(again.token(7)?, table.token(7)?);
/// # Ok(())
/// # }
/// ```
pub fn export(table: &Table, path: impl AsRef<Path>, options: &ExportOptions) -> Result<Exported> {
    export_with(table, path, options, |_, _| ControlFlow::Continue(()))
}

/// [`export()`], telling `progress` the rows written and the rows to write.
///
/// # Errors
///
/// As [`export()`]; [`Error::Interrupted`] where `progress` breaks off.
pub fn export_with(
    table: &Table,
    path: impl AsRef<Path>,
    options: &ExportOptions,
    mut progress: impl FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<Exported> {
    let path = path.as_ref();
    let job = Job::of(table, format_of(path, options)?, options)?;
    let mut exported = job.plan()?;
    let mut out = Out::file(path, options.replace, &options.operations)?;
    let beside = match Beside::of(&job, path, options)? {
        Some(beside) => Some(beside.write(&mut exported, options)?),
        None => None,
    };
    job.write(&exported, &mut out, &mut progress)?;
    exported.file_bytes = Some(out.written());
    if let Some(beside) = beside {
        beside.finish()?;
    }
    out.finish()?;
    Ok(exported)
}

/// [`export()`] to a stream: standard output, a socket, memory. Tokens that would go beside the
/// file are left out.
///
/// # Errors
///
/// As [`export_with`]; [`Error::InvalidOption`] where the options name no format. What was written
/// to the stream before an error stays there.
///
/// ```
/// use std::ops::ControlFlow;
/// use embmap::{ExportFormat, ExportOptions, Table, export_to};
///
/// # fn main() -> Result<(), embmap::Error> {
/// let table = Table::load("fixtures/minilm-2k")?;
/// let options = ExportOptions::new().format(ExportFormat::Glove).rows(1811..1812);
/// let mut text = Vec::new();
/// export_to(&table, &mut text, &options, |_, _| ControlFlow::Continue(()))?;
/// assert!(text.starts_with(b"cat 0.03253174 "));
/// # Ok(())
/// # }
/// ```
pub fn export_to(
    table: &Table,
    stream: &mut (dyn Write + Send),
    options: &ExportOptions,
    mut progress: impl FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<Exported> {
    let name = Path::new("the output");
    let job = Job::of(table, format_of(name, options)?, options)?;
    let mut exported = job.plan()?;
    let mut out = Out::stream(stream, name);
    job.write(&exported, &mut out, &mut progress)?;
    exported.file_bytes = Some(out.written());
    out.finish()?;
    Ok(exported)
}

/// What [`export()`] would write, without writing it: every check is made, of the destination
/// too.
///
/// # Errors
///
/// As [`export()`].
///
/// ```
/// use embmap::{ExportOptions, Table, plan_export};
///
/// # fn main() -> Result<(), embmap::Error> {
/// let table = Table::load("fixtures/minilm-2k")?;
/// let plan = plan_export(&table, "not-written.npy", &ExportOptions::new())?;
/// assert_eq!(plan.file_bytes, Some(128 + 2003 * 768));
/// # Ok(())
/// # }
/// ```
pub fn plan_export(
    table: &Table,
    path: impl AsRef<Path>,
    options: &ExportOptions,
) -> Result<Exported> {
    let path = path.as_ref();
    let job = Job::of(table, format_of(path, options)?, options)?;
    let mut plan = job.plan()?;
    check_destination(path, options.replace)?;
    if let Some(beside) = Beside::of(&job, path, options)? {
        check_destination(&beside.path, options.replace)?;
        beside.tell(&mut plan);
    }
    Ok(plan)
}
