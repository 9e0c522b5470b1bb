//! From a table to an `.emb` file, streaming.

use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use half::{bf16, f16};

use crate::codec::{Codec, Decoder, Encoding, Kernels, RowParts};
use crate::dtype::{DType, Element};
use crate::error::{Error, Result};
use crate::storage::Scan;
use crate::table::Table;
use crate::writer::{TableWriter, WriteOptions, Written};

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
}

impl ConvertOptions {
    /// The defaults: every bit of every row is kept, rows lie dense, nothing is replaced.
    #[must_use]
    pub fn new() -> Self {
        ConvertOptions::default()
    }

    /// The type to store; each number is rounded once, to nearest.
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
    let mut write = WriteOptions::new(table.dim(), dtype)
        .vocab(rows.end - rows.start)
        .replace(options.replace)
        .metadata(metadata(table, &rows)?);
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
    copy_rows(table, &rows, dtype, &mut writer, &mut progress)?;
    copy_tokens(table, &rows, &mut writer, || {
        progress(rows.end - rows.start, rows.end - rows.start)
    })?;
    table.check_alive()?;
    writer.finish()
}

fn copy_rows(
    table: &Table,
    rows: &Range<u64>,
    dtype: DType,
    writer: &mut TableWriter,
    progress: &mut impl FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<()> {
    let plane = &table.layout.values;
    let (row_bytes, stride) = (plane.row_bytes(), plane.row_stride());
    let row = usize::try_from(row_bytes).unwrap_or(usize::MAX);
    let step = usize::try_from(stride).unwrap_or(usize::MAX);
    let mut dense = Vec::new();
    let mut converted = Vec::new();
    let mut written = 0;
    for extent in plane.extents() {
        let first = rows.start.max(extent.first);
        let end = rows.end.min(extent.first + extent.rows);
        if first >= end {
            continue;
        }
        let start = extent.offset + (first - extent.first) * stride;
        let last_byte = extent.offset + (end - 1 - extent.first) * stride + row_bytes;
        let piece = (PIECE / step).max(1) * step;
        let mut scan = Scan::new(&table.files[extent.file], start, last_byte, piece);
        while let Some((_, piece)) = scan.next()? {
            let encoded = if step == row {
                piece
            } else {
                dense.clear();
                piece.chunks(step).for_each(|padded| dense.extend_from_slice(&padded[..row]));
                &dense
            };
            if dtype == table.dtype() {
                writer.push_encoded(encoded)?;
            } else {
                convert_rows(table.dtype(), dtype, encoded, &mut converted);
                writer.push_encoded(&converted)?;
            }
            written += (encoded.len() / row) as u64;
            if progress(written, rows.end - rows.start).is_break() {
                return Err(Error::Interrupted);
            }
        }
    }
    Ok(())
}

/// Re-encodes plain rows; rows have no boundaries there, so all are one long row.
fn convert_rows(from: DType, to: DType, encoded: &[u8], converted: &mut Vec<u8>) {
    fn into<O: Element>(from: DType, values: &[u8], converted: &mut Vec<u8>) {
        let mut elements = vec![O::from_f32(0.0); values.len() / from.block_bytes()];
        let encoding = Encoding { dtype: from, codec: Codec::Plain };
        Decoder::of(encoding, Kernels::of_process()).decode(RowParts::of(values), &mut elements);
        converted.extend_from_slice(bytemuck::cast_slice(&elements));
    }
    converted.clear();
    match to {
        DType::F32 => into::<f32>(from, encoded, converted),
        DType::F16 => into::<f16>(from, encoded, converted),
        DType::BF16 => into::<bf16>(from, encoded, converted),
        _ => into::<f64>(from, encoded, converted),
    }
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
fn metadata(table: &Table, rows: &Range<u64>) -> Result<String> {
    let info = table.info();
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let mut source = serde_json::json!({
        "format": info.format,
        "file": info.files.first().and_then(|path| name(path)),
        "tensor": info.tensor,
        "dtype": table.dtype().name(),
        "vocab": table.vocab(),
    });
    if *rows != (0..table.vocab()) {
        source["rows"] = serde_json::json!([rows.start, rows.end]);
    }
    // A table converted again keeps what was known of its first source.
    if let Some(before) = table.metadata()?.filter(|before| before.len() <= KEPT_METADATA)
        && let Ok(before) = serde_json::from_str::<serde_json::Value>(&before)
    {
        source["metadata"] = before;
    }
    let metadata = serde_json::json!({
        "source": source,
        "created": unix_time(),
        "tool": concat!("embmap ", env!("CARGO_PKG_VERSION")),
    });
    Ok(metadata.to_string())
}

/// Seconds since 1970, or what `SOURCE_DATE_EPOCH` says for reproducible output.
fn unix_time() -> u64 {
    let told = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|seconds| seconds.parse().ok());
    told.unwrap_or_else(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    })
}
