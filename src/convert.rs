//! From a table to an `.emb` file, streaming.

use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::codec::{Codec, Loss};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::source::StaticRules;
use crate::table::Table;
use crate::writer::{TableWriter, WriteOptions, Written};

mod rows;

pub(crate) use rows::Recoding;

/// The bytes read at once; rounded down to whole rows, and at least one row.
const PIECE: usize = 4 << 20;

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

    /// Takes the rows of this range alone, with their tokens; ids start at 0 again.
    ///
    /// The tokenizer is left out then: its ids would not be the rows'.
    #[must_use]
    pub fn rows(mut self, rows: Range<u64>) -> Self {
        self.rows = Some(rows);
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

    /// The rows to take from a table.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidOption`] where the range ends before it starts or after the table.
    pub fn rows_of(&self, table: &Table) -> Result<Range<u64>> {
        let all = 0..table.vocab();
        match &self.rows {
            None => Ok(all),
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
/// Whatever reading the table or [`TableWriter`] can give; the destination is as before
/// then.
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
    let rows = options.rows_of(table)?;
    let whole = rows == (0..table.vocab());
    let dtype = options.dtype.unwrap_or(table.dtype());
    let mut recoding = Recoding::new(table, dtype)?;
    let mut write = recoding
        .describe(WriteOptions::new(table.dim(), dtype))
        .vocab(rows.end - rows.start)
        .replace(options.replace)
        .norms(options.norms || table.norms.is_some())
        .metadata(metadata(table, &rows, None)?);
    if let Some(bytes) = options.align {
        write = write.align(bytes);
    }
    if let Some(id) = options.file_id {
        write = write.file_id(id);
    }
    if let Some(json) = table.tokenizer_json()?.filter(|_| whole) {
        write = write.tokenizer(json.into_owned());
    }
    let mut writer = write.create(path)?;
    copy_rows(table, &rows, &mut recoding, &mut writer, &mut progress)?;
    copy_tokens(table, &rows, &mut writer, || {
        progress(rows.end - rows.start, rows.end - rows.start)
    })?;
    table.check_alive()?;
    let loss = recoding.loss();
    if let Some(loss) = &loss {
        writer.set_metadata(metadata(table, &rows, Some((dtype, loss)))?)?;
    }
    let written = writer.finish()?;
    Ok(Written { loss, ..written })
}

fn copy_rows(
    table: &Table,
    rows: &Range<u64>,
    recoding: &mut Recoding<'_>,
    writer: &mut TableWriter,
    progress: &mut impl FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<()> {
    let row_bytes = usize::try_from(table.row_bytes()).unwrap_or(usize::MAX);
    let mut scan = table.scan_rows(rows.clone(), PIECE);
    while let Some(piece) = scan.next()? {
        writer.push_encoded(recoding.encode(piece.first, piece.bytes, row_bytes)?)?;
        let end = piece.first + (piece.bytes.len() / row_bytes.max(1)) as u64;
        if progress(end - rows.start, rows.end - rows.start).is_break() {
            return Err(Error::Interrupted);
        }
    }
    Ok(())
}

/// Tokens beyond the last row stay with a whole table; a range takes its own.
fn copy_tokens(
    table: &Table,
    rows: &Range<u64>,
    writer: &mut TableWriter,
    mut progress: impl FnMut() -> ControlFlow<()>,
) -> Result<()> {
    /// The tokens between two looks at whether to stop.
    const UNSEEN: u64 = 4096;
    let Some(tokens) = table.token_sections()? else { return Ok(()) };
    let end = if rows.end == table.vocab() { u64::MAX } else { rows.end };
    let mut walk = tokens.walk(rows.start, end);
    while let Some((id, token)) = walk.next()? {
        writer.push_token(token)?;
        if id.is_multiple_of(UNSEEN) && progress().is_break() {
            return Err(Error::Interrupted);
        }
    }
    if progress().is_break() { Err(Error::Interrupted) } else { Ok(()) }
}

/// What the file says of where it came from.
fn metadata(table: &Table, rows: &Range<u64>, cost: Option<(DType, &Loss)>) -> Result<String> {
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
    if *rows != (0..table.vocab()) {
        source["rows"] = serde_json::json!([rows.start, rows.end]);
    }
    let before = table.metadata()?;
    let rules = StaticRules::of(info.files.first(), info.tensor.as_ref(), before.as_deref())?;
    // A table converted again keeps what was known of its first source.
    if let Some(before) = before.filter(|before| before.len() <= KEPT_METADATA)
        && let Ok(before) = serde_json::from_str::<serde_json::Value>(&before)
    {
        source["metadata"] = before;
    }
    let mut metadata = serde_json::json!({
        "source": source,
        "created": unix_time(),
        "tool": concat!("embmap ", env!("CARGO_PKG_VERSION")),
    });
    // They go with the tokenizer, which a range leaves out.
    if let Some(rules) = rules.filter(|_| *rows == (0..table.vocab())) {
        rules.tell(&mut metadata);
    }
    if let Some((dtype, loss)) = cost {
        metadata["quantization"] = serde_json::json!({
            "from": table.dtype().name(),
            "to": dtype.name(),
            "max_error": loss.max_error,
            "rms_error": loss.rms_error,
            "mean_cosine": loss.mean_cosine,
            "min_cosine": loss.min_cosine,
        });
    }
    Ok(metadata.to_string())
}

/// Seconds since 1970, or what `SOURCE_DATE_EPOCH` says for reproducible output.
fn unix_time() -> u64 {
    let told = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|seconds| seconds.parse().ok());
    told.unwrap_or_else(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    })
}
