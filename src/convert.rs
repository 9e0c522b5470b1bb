//! From a table to an `.emb` file, streaming.

use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::codec::{Codec, Loss};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::source::StaticRules;
use crate::table::Table;
use crate::writer::{WriteOptions, Written};

#[cfg(feature = "import")]
mod duplicates;
#[cfg(feature = "import")]
mod named;
#[cfg(feature = "import")]
mod plan;
#[cfg(feature = "import")]
mod range;
mod rows;
mod selection;
#[cfg(feature = "import")]
mod stream;

pub(crate) use rows::Recoding;
use selection::Selection;
#[cfg(feature = "import")]
pub use stream::{Planned, Progress, Stage, convert_from, convert_from_with, plan_convert};

/// The longest metadata of a source that its conversion keeps.
const KEPT_METADATA: usize = 64 << 10;

/// What a conversion changes; by default nothing but the file format.
///
/// ```
/// use embmap::{ConvertOptions, DType, Table, convert};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("minilm.emb");
/// let model = Table::load("fixtures/minilm-2k")?;
/// convert(&model, &path, &ConvertOptions::new().dtype(DType::F32).align(4096))?;
///
/// let table = Table::load(&path)?;
/// assert_eq!((table.vocab(), table.dim(), table.row_stride()), (2003, 384, 4096));
/// assert_eq!(table.row::<f32>(7)?[0], model.row::<half::f16>(7)?[0].to_f32());
/// assert_eq!(table.id_of("cat")?, Some(1811));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct ConvertOptions {
    dtype: Option<DType>,
    align: Option<u64>,
    rows: Option<Range<u64>>,
    picked: Option<Vec<u64>>,
    /// In ascending order, each once.
    kept: Option<Vec<String>>,
    order: Option<Vec<u64>>,
    replace: bool,
    file_id: Option<[u8; 16]>,
    norms: bool,
}

impl ConvertOptions {
    /// The defaults: every bit of every row is kept, rows lie dense, nothing is replaced.
    #[must_use]
    pub fn new() -> Self {
        ConvertOptions::default()
    }

    /// The type to store.
    ///
    /// To f32, f16, bf16 and f64 each number is rounded once, to nearest. To `i8`, `f8_e4m3` and
    /// `q8_0` rows are quantized: the first two with one f32 scale a row, so that its largest
    /// number is 127 or 448, the last in blocks of 32 as ggml does it. [`Written::loss`] and the
    /// metadata tell what that cost. The type that the table has keeps every bit.
    #[must_use]
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.dtype = Some(dtype);
        self
    }

    /// Rounds the row stride up to a multiple of 64, 512, 4,096, or another power of two.
    #[must_use]
    pub fn align(mut self, bytes: u64) -> Self {
        self.align = Some(bytes);
        self
    }

    /// Takes the rows of this range alone, with their tokens; ids start at 0 again. One that ends
    /// at `u64::MAX` goes to the last row.
    ///
    /// The tokenizer is left out then: its ids would not be the rows'.
    #[must_use]
    pub fn rows(mut self, rows: Range<u64>) -> Self {
        self.rows = Some(rows);
        self
    }

    /// Takes the rows of these ids alone, in this order, with their tokens; the ids of the new
    /// table are their places in the list. The tokenizer is left out.
    ///
    /// ```
    /// use embmap::{ConvertOptions, Table, convert};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("animals.emb");
    /// let model = Table::load("fixtures/minilm-2k")?;
    /// let ids: Vec<u64> = ["dog", "cat"].iter().map(|token| model.id_of(token)).collect::<Result<
    ///     Option<_>,
    ///     _,
    /// >>()?.unwrap();
    /// convert(&model, &path, &ConvertOptions::new().pick(ids))?;
    /// let table = Table::load(&path)?;
    /// assert_eq!((table.vocab(), table.id_of("cat")?), (2, Some(1)));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn pick(mut self, ids: impl Into<Vec<u64>>) -> Self {
        self.picked = Some(ids.into());
        self
    }

    /// Takes the rows of these tokens alone, in the order that they have in the source; ids start
    /// at 0 again. The tokenizer is left out.
    ///
    /// [`Written::missing_tokens`] counts those that the source does not have; where it has none
    /// of them, the conversion fails. Of a table's rows with the same token the first is taken,
    /// which is that of [`id_of`](Table::id_of).
    ///
    /// ```
    /// use embmap::{ConvertOptions, Table, convert};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("animals.emb");
    /// let model = Table::load("fixtures/minilm-2k")?;
    /// let options = ConvertOptions::new().keep_tokens(["dog", "axolotl", "cat"]);
    /// let written = convert(&model, &path, &options)?;
    /// assert_eq!((written.vocab, written.missing_tokens), (2, 1));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn keep_tokens(mut self, tokens: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let mut tokens: Vec<String> = tokens.into_iter().map(Into::into).collect();
        tokens.sort_unstable();
        tokens.dedup();
        self.kept = Some(tokens);
        self
    }

    /// Lays the rows of these ids out first, in this order: see
    /// [`AccessTrace::arrange`](crate::AccessTrace::arrange). Ids stay what they are.
    ///
    /// Unless said, a whole table keeps the order that it has; none at all lays rows out by their
    /// ids.
    #[must_use]
    pub fn order(mut self, ids: impl Into<Vec<u64>>) -> Self {
        self.order = Some(ids.into());
        self
    }

    /// Replaces a file that is there.
    #[must_use]
    pub fn replace(mut self, yes: bool) -> Self {
        self.replace = yes;
        self
    }

    /// The file id, for output that is the same every time; random unless said.
    #[must_use]
    pub fn file_id(mut self, id: [u8; 16]) -> Self {
        self.file_id = Some(id);
        self
    }

    /// Adds the norm of each row, which [`nearest`](Table::nearest) takes cosines with. A table
    /// that has norms keeps them: those of the rows as they are written.
    #[must_use]
    pub fn norms(mut self, yes: bool) -> Self {
        self.norms = yes;
        self
    }

    /// The bytes of a row as a conversion of this table writes it, and the distance between row
    /// starts: what [`AccessTrace::arrange`](crate::AccessTrace::arrange) wants.
    ///
    /// # Errors
    ///
    /// As [`convert`], of options that do not go with the table.
    pub fn row_sizes(&self, table: &Table) -> Result<(u64, u64)> {
        let recoding = Recoding::new(table, self.dtype.unwrap_or(table.dtype()))?;
        let write = WriteOptions::new(table.dim(), recoding.encoding.dtype);
        self.describe(recoding.describe(write)).row_sizes()
    }

    /// The tokens to keep that no row of so many has; each row has one of its own.
    fn missing_of(&self, rows: u64) -> u64 {
        self.kept.as_ref().map_or(0, |tokens| (tokens.len() as u64).saturating_sub(rows))
    }

    /// An error where tokens were to be kept and there are no rows of them.
    fn check_kept(&self, rows: u64) -> Result<()> {
        match &self.kept {
            Some(tokens) if rows == 0 => Err(Error::InvalidOption {
                option: "keep_tokens",
                reason: format!("the source has no row of any of the {} tokens", tokens.len()),
            }),
            _ => Ok(()),
        }
    }

    /// Tells a writer what it needs to know of these options.
    fn describe(&self, write: WriteOptions) -> WriteOptions {
        let write = write.replace(self.replace).norms(self.norms);
        let write = match self.align {
            Some(bytes) => write.align(bytes),
            None => write,
        };
        match self.file_id {
            Some(id) => write.file_id(id),
            None => write,
        }
    }

    /// The rows to take from a table.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidOption`] where the range ends before it starts or after the table.
    pub fn rows_of(&self, table: &Table) -> Result<Range<u64>> {
        let all = 0..table.vocab();
        match &self.rows {
            None => Ok(all),
            Some(rows) if rows.start <= all.end && rows.end == u64::MAX => Ok(rows.start..all.end),
            Some(rows) if rows.start <= rows.end && rows.end <= all.end => Ok(rows.clone()),
            Some(rows) => Err(Error::InvalidOption {
                option: "rows",
                reason: format!(
                    "expected a range within 0:{}, found {}:{}",
                    all.end, rows.start, rows.end
                ),
            }),
        }
    }
}

/// Writes a table to an `.emb` file, with its tokens, tokenizer and metadata.
///
/// Memory does not grow with the table. The file appears whole or not at all, and may even
/// replace the one that `table` is read from. `SOURCE_DATE_EPOCH` is honoured.
///
/// # Errors
///
/// Whatever reading the table or [`TableWriter`](crate::TableWriter) can give; the destination is
/// as before then.
pub fn convert(table: &Table, path: impl AsRef<Path>, options: &ConvertOptions) -> Result<Written> {
    convert_with(table, path, options, |_, _| ControlFlow::Continue(()))
}

/// [`convert`], telling `progress` the rows written and the rows to write.
///
/// # Errors
///
/// As [`convert`]; [`Error::Interrupted`] where `progress` breaks off.
pub fn convert_with(
    table: &Table,
    path: impl AsRef<Path>,
    options: &ConvertOptions,
    mut progress: impl FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<Written> {
    let selection = Selection::of(table, options)?;
    let dtype = options.dtype.unwrap_or(table.dtype());
    let mut recoding = Recoding::new(table, dtype)?;
    let write = write_options(table, options, &selection, &recoding)?;
    let mut writer = write.create(path)?;
    selection.copy_rows(&mut recoding, &mut writer, &mut progress)?;
    let all = selection.count();
    selection.each_token(|token| writer.push_token(token), || progress(all, all))?;
    table.check_alive()?;
    let loss = recoding.loss();
    if let Some(loss) = &loss {
        writer.set_metadata(metadata(table, &selection, Some((dtype, loss)))?)?;
    }
    let written = writer.finish()?;
    let missing_tokens = options.missing_of(written.vocab);
    Ok(Written { missing_tokens, loss, ..written })
}

/// What a writer needs to know of a table that is converted.
fn write_options(
    table: &Table,
    options: &ConvertOptions,
    selection: &Selection<'_>,
    recoding: &Recoding<'_>,
) -> Result<WriteOptions> {
    let write = WriteOptions::new(table.dim(), recoding.encoding.dtype);
    let write = selection.describe(options.describe(recoding.describe(write)))?;
    let norms = options.norms || table.norms.is_some();
    Ok(write.norms(norms).metadata(metadata(table, selection, None)?))
}

/// What the file says of where it came from.
fn metadata(
    table: &Table,
    selection: &Selection<'_>,
    cost: Option<(DType, &Loss)>,
) -> Result<String> {
    let info = table.info();
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let mut source = serde_json::json!({
        "format": info.format,
        "file": info.files.first().and_then(|path| name(path)),
        "tensor": info.tensor,
        "dtype": table.dtype().name(),
        "vocab": table.vocab(),
    });
    if table.codec() != Codec::Plain {
        source["codec"] = table.codec().to_string().into();
    }
    selection.tell(&mut source);
    let before = table.metadata()?;
    // They go with the tokenizer, which a part leaves out.
    let rules = if selection.is_whole() {
        StaticRules::of(info.files.first(), info.tensor.as_ref(), before.as_deref())?
    } else {
        None
    };
    // A table converted again keeps what was known of its first source.
    if let Some(before) = before.filter(|before| before.len() <= KEPT_METADATA)
        && let Ok(before) = serde_json::from_str::<Value>(&before)
    {
        source["metadata"] = before;
    }
    Ok(metadata_of(&source, table.dtype(), rules, cost))
}

/// What the file says of where it came from and of what became of it.
fn metadata_of(
    source: &Value,
    from: DType,
    rules: Option<StaticRules>,
    cost: Option<(DType, &Loss)>,
) -> String {
    let mut metadata = serde_json::json!({
        "source": source,
        "created": unix_time(),
        "tool": concat!("embmap ", env!("CARGO_PKG_VERSION")),
    });
    if let Some(rules) = rules {
        rules.tell(&mut metadata);
    }
    if let Some((dtype, loss)) = cost {
        metadata["quantization"] = serde_json::json!({
            "from": from.name(),
            "to": dtype.name(),
            "max_error": loss.max_error,
            "rms_error": loss.rms_error,
            "mean_cosine": loss.mean_cosine,
            "min_cosine": loss.min_cosine,
        });
    }
    metadata.to_string()
}

/// Seconds since 1970, or what `SOURCE_DATE_EPOCH` says for reproducible output.
fn unix_time() -> u64 {
    let told = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|seconds| seconds.parse().ok());
    told.unwrap_or_else(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    })
}
