//! What a table is to be like, and how it is to be written.

use std::path::Path;

use super::body::Body;
use super::table_writer::{Plan, Shape, TableWriter};
use crate::codec::Codec;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::format::{LONGEST_METADATA, LONGEST_TOKENIZER, ROWS_OFFSET, RowForm};
use crate::layout::LARGEST_DIM;
use crate::order::PlacedRows;
use crate::publish::{Operations, Temporary, fill_random};

/// How much is held in memory; tests make it little.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    /// Bytes gathered before they are written.
    pub(super) buffer: usize,
    /// Bytes of each spool before it spills.
    pub(super) spool: usize,
    /// Pairs of a token's hash and id that are sorted at once.
    pub(super) run: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Sizes { buffer: 1 << 20, spool: 1 << 20, run: 1 << 20 }
    }
}

/// What a table is to be like, and how it is to be written.
///
/// ```
/// use embmap::{DType, WriteOptions};
///
/// let directory = tempfile::tempdir()?;
/// let mut writer = WriteOptions::new(3, DType::F32)
///     .vocab(2)
///     .align(64)
///     .metadata(r#"{"licence": "MIT"}"#)
///     .create(directory.path().join("small.emb"))?;
/// writer.push(&[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0])?;
/// assert_eq!(writer.finish()?.vocab, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct WriteOptions {
    dim: usize,
    dtype: DType,
    vocab: Option<u64>,
    codec: Codec,
    table_scale: Option<Vec<u8>>,
    align: Option<u64>,
    pub(super) order: Vec<u64>,
    file_id: Option<[u8; 16]>,
    replace: bool,
    pub(super) metadata: Option<String>,
    pub(super) tokenizer: Option<Vec<u8>>,
    pub(super) norms: bool,
    operations: Operations,
    sizes: Sizes,
}

impl WriteOptions {
    /// A table of rows of `dim` elements, one after the other, that replaces nothing.
    ///
    /// ```
    /// use embmap::{DType, WriteOptions};
    ///
    /// let error = WriteOptions::new(0, DType::F16).create("none.emb").unwrap_err();
    /// assert_eq!(error.to_string(), "dim: 0 was given, expected 1 to 16777216");
    /// ```
    pub fn new(dim: usize, dtype: DType) -> Self {
        WriteOptions {
            dim,
            dtype,
            codec: Codec::of(dtype),
            table_scale: None,
            vocab: None,
            align: None,
            order: Vec::new(),
            file_id: None,
            replace: false,
            metadata: None,
            tokenizer: None,
            norms: false,
            operations: Operations::default(),
            sizes: Sizes::default(),
        }
    }

    /// Rows with scales, or whatever else a [`Codec`] says; by default plain ones, and blocks
    /// for the block types of GGUF.
    ///
    /// Such rows are pushed encoded: values, then scales, then biases.
    ///
    /// ```
    /// use embmap::{Codec, DType, ScaleType, Scaling, Table, WriteOptions};
    ///
    /// let directory = tempfile::tempdir()?;
    /// let path = directory.path().join("quantized.emb");
    /// let codec = Codec::Scaled(Scaling { block: 4, scale: ScaleType::F16, bias: None });
    /// let mut writer = WriteOptions::new(4, DType::I8).codec(codec).create(&path)?;
    /// writer.push_encoded(&[1, 2, 3, 0xfc, 0x00, 0x38])?; // 1, 2, 3, -4 times 0.5
    /// writer.finish()?;
    /// let row: Vec<f32> = Table::load(&path)?.gather(&[0u32])?;
    /// assert_eq!(row, [0.5, 1.0, 1.5, -2.0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn codec(self, codec: Codec) -> Self {
        WriteOptions { codec, ..self }
    }

    /// One scale for all rows, as the bytes of the codec's type of scales; rows hold none then.
    ///
    /// The codec is one with a scale a row (a block of `dim` elements) and without biases.
    ///
    /// ```
    /// use embmap::{Codec, DType, ScaleType, Scaling, Table, WriteOptions};
    ///
    /// let directory = tempfile::tempdir()?;
    /// let path = directory.path().join("quantized.emb");
    /// let codec = Codec::Scaled(Scaling { block: 2, scale: ScaleType::F32, bias: None });
    /// let options = WriteOptions::new(2, DType::U8).codec(codec).table_scale(0.5f32.to_le_bytes());
    /// let mut writer = options.create(&path)?;
    /// writer.push(&[1u8, 2])?;
    /// writer.finish()?;
    /// let row: Vec<f32> = Table::load(&path)?.gather(&[0u32])?;
    /// assert_eq!(row, [0.5, 1.0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn table_scale(self, scale: impl Into<Vec<u8>>) -> Self {
        WriteOptions { table_scale: Some(scale.into()), ..self }
    }

    /// Announces the number of rows.
    ///
    /// Their space is set aside when the table is created, so that a full disk is found at
    /// once, and [`TableWriter::finish`] insists on this number.
    ///
    /// ```
    /// use embmap::{DType, Error, WriteOptions};
    ///
    /// let directory = tempfile::tempdir()?;
    /// let options = WriteOptions::new(1, DType::F32).vocab(3);
    /// let mut writer = options.create(directory.path().join("announced.emb"))?;
    /// writer.push(&[1.0f32, 2.0])?;
    /// let error = writer.finish().unwrap_err();
    /// assert!(matches!(error, Error::RowCount { expected: 3, got: 2 }));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn vocab(self, rows: u64) -> Self {
        WriteOptions { vocab: Some(rows), ..self }
    }

    /// Starts every row on a multiple of `bytes`: a power of two from 64 to 65,536.
    ///
    /// A row then lies in as few cache lines, sectors or pages as can be, at a cost in disk.
    ///
    /// ```
    /// use embmap::{DType, WriteOptions};
    ///
    /// let directory = tempfile::tempdir()?;
    /// let options = WriteOptions::new(3, DType::F32).align(512);
    /// let mut writer = options.create(directory.path().join("aligned.emb"))?;
    /// writer.push(&[0.0f32; 300])?;
    /// assert!(writer.finish()?.file_bytes > 100 * 512);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn align(self, bytes: u64) -> Self {
        WriteOptions { align: Some(bytes), ..self }
    }

    /// Lays the rows of some ids out first, in this order: rows that are used together, in
    /// the same pages. The others follow by their ids.
    ///
    /// Rows are pushed as they lie: these first, then the others. Tokens are pushed by their ids,
    /// as ever, and whoever reads the table finds each row under its id. The order costs 2 bits
    /// a row in the file, and 4 bytes for each id given here.
    ///
    /// ```
    /// use embmap::{DType, Table, WriteOptions};
    ///
    /// let directory = tempfile::tempdir()?;
    /// let path = directory.path().join("ordered.emb");
    /// let mut writer = WriteOptions::new(1, DType::F32).order([3, 1]).create(&path)?;
    /// writer.push(&[3.0f32, 1.0, 0.0, 2.0, 4.0])?;
    /// writer.finish()?;
    /// let table = Table::load(&path)?;
    /// assert_eq!(table.gather::<u32, f32>(&[0, 1, 2, 3, 4])?, [0.0, 1.0, 2.0, 3.0, 4.0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn order(self, ids: impl Into<Vec<u64>>) -> Self {
        WriteOptions { order: ids.into(), ..self }
    }

    /// Gives the file an id of the caller's choice; it is random otherwise.
    ///
    /// With the same id, rows and options, two files are the same byte for byte. Files that
    /// differ must not share an id: it is what ties the sums to the file.
    ///
    /// ```
    /// use embmap::{DType, WriteOptions};
    ///
    /// let directory = tempfile::tempdir()?;
    /// let options = WriteOptions::new(2, DType::F32).file_id(*b"a chosen file id");
    /// let one = options.clone().create(directory.path().join("1.emb"))?.finish()?;
    /// let two = options.create(directory.path().join("2.emb"))?.finish()?;
    /// assert_eq!(std::fs::read(one.path)?, std::fs::read(two.path)?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn file_id(self, id: [u8; 16]) -> Self {
        WriteOptions { file_id: Some(id), ..self }
    }

    /// Allows a file at the destination to be replaced; its permissions are kept.
    ///
    /// Whoever has the old file open or mapped keeps the old rows. Without it, a file that
    /// is there, or that another writer publishes first, is an error.
    ///
    /// ```
    /// use embmap::{DType, Error, WriteOptions};
    ///
    /// let directory = tempfile::tempdir()?;
    /// let path = directory.path().join("table.emb");
    /// let options = WriteOptions::new(2, DType::F32);
    /// options.clone().create(&path)?.finish()?;
    /// assert!(matches!(options.clone().create(&path), Err(Error::Exists { .. })));
    /// options.replace(true).create(&path)?.finish()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn replace(self, yes: bool) -> Self {
        WriteOptions { replace: yes, ..self }
    }

    /// Adds metadata, as JSON: where the table comes from, its licence.
    ///
    /// ```
    /// use embmap::{DType, WriteOptions};
    ///
    /// let directory = tempfile::tempdir()?;
    /// let options = WriteOptions::new(2, DType::F32).metadata(r#"{"source": "wte.weight"}"#);
    /// options.create(directory.path().join("table.emb"))?.finish()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn metadata(self, json: impl Into<String>) -> Self {
        WriteOptions { metadata: Some(json.into()), ..self }
    }

    /// Adds a model's tokenizer: the bytes of its `tokenizer.json`, which are UTF-8.
    ///
    /// ```
    /// use embmap::{DType, Error, WriteOptions};
    ///
    /// let directory = tempfile::tempdir()?;
    /// let options = WriteOptions::new(2, DType::F32).tokenizer(b"{\"caf\xe9\": 1}");
    /// let error = options.create(directory.path().join("table.emb")).unwrap_err();
    /// assert!(matches!(error, Error::InvalidOption { option: "tokenizer", .. }));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn tokenizer(self, json: impl Into<Vec<u8>>) -> Self {
        WriteOptions { tokenizer: Some(json.into()), ..self }
    }

    /// Adds the norm of each row, which [`nearest`](crate::Table::nearest) takes cosines with:
    /// 4 bytes a row. Without, a search finds them again as it reads the rows.
    ///
    /// ```
    /// use embmap::{DType, Metric, Table, WriteOptions};
    ///
    /// let directory = tempfile::tempdir()?;
    /// let path = directory.path().join("table.emb");
    /// let mut writer = WriteOptions::new(2, DType::F32).norms(true).create(&path)?;
    /// writer.push(&[3.0f32, 4.0, 0.0, 2.0])?;
    /// writer.finish()?;
    /// let table = Table::load(&path)?;
    /// assert_eq!(table.info().sections[0].name, "norms");
    /// assert_eq!(table.nearest(&[0.0, 9.0], 1, Metric::Cosine)?[0].id, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn norms(self, yes: bool) -> Self {
        WriteOptions { norms: yes, ..self }
    }

    /// Starts the table in a temporary file next to `path`.
    ///
    /// ```
    /// use embmap::{DType, WriteOptions};
    ///
    /// let directory = tempfile::tempdir()?;
    /// let path = directory.path().join("table.emb");
    /// let writer = WriteOptions::new(2, DType::F32).create(&path)?;
    /// assert!(!path.exists());
    /// writer.finish()?;
    /// assert!(path.exists());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::InvalidOption`] for a `dim` of 0, an alignment, an order or a tokenizer that
    /// cannot be, [`Error::TooLarge`] for a size beyond 63 bits, [`Error::Exists`],
    /// [`Error::Destination`] for a symbolic link or whatever else is not a regular file,
    /// and [`Error::Io`] where the directory, the file or its space cannot be had.
    pub fn create(self, path: impl AsRef<Path>) -> Result<TableWriter> {
        let shape = self.shape()?;
        for (option, text, most) in [
            ("metadata", self.metadata.as_ref().map(String::len), LONGEST_METADATA),
            ("tokenizer", self.tokenizer.as_ref().map(Vec::len), LONGEST_TOKENIZER),
        ] {
            if let Some(bytes) = text.filter(|bytes| *bytes as u64 > most) {
                let reason = format!("{bytes} bytes were given, expected at most {most}");
                return Err(Error::InvalidOption { option, reason });
            }
        }
        if let Some(error) = self.tokenizer.as_deref().and_then(|json| str::from_utf8(json).err()) {
            let at = error.valid_up_to();
            let reason = format!("expected UTF-8, found another byte at {at}; save it as UTF-8");
            return Err(Error::InvalidOption { option: "tokenizer", reason });
        }
        let placed = placed_rows(&self.order, self.vocab)?;
        let announced = match self.vocab {
            Some(vocab) => Some(shape.rows_end(vocab)?),
            None => None,
        };
        let temporary = Temporary::create(path.as_ref(), self.replace, self.operations)?;
        if let Some(bytes) = announced {
            temporary
                .operations()
                .allocate(temporary.file(), bytes)
                .map_err(|source| temporary.error("allocate space for", source))?;
        }
        let file_id = match self.file_id {
            Some(id) => id,
            None => random_id().map_err(|source| temporary.error("make an id for", source))?,
        };
        let path = temporary.destination_path().to_path_buf();
        let body = Body::start(temporary, file_id, self.sizes)
            .map_err(|source| Error::io("write", &path, source))?;
        let sections = [self.tokenizer, self.metadata.map(String::into_bytes)];
        let plan = Plan { shape, announced: self.vocab, placed, file_id, sizes: self.sizes };
        let writer = TableWriter::start(path, plan, body, sections);
        Ok(if self.norms { writer.finding_norms() } else { writer })
    }

    #[cfg(test)]
    pub(super) fn operations(self, operations: Operations) -> Self {
        WriteOptions { operations, ..self }
    }

    #[cfg(test)]
    pub(super) fn sizes(self, sizes: Sizes) -> Self {
        WriteOptions { sizes, ..self }
    }

    /// The bytes of a row, and the distance between row starts.
    pub(crate) fn row_sizes(&self) -> Result<(u64, u64)> {
        self.shape().map(|shape| (shape.row_bytes, shape.row_stride))
    }

    pub(super) fn shape(&self) -> Result<Shape> {
        let dim = Some(self.dim).filter(|dim| (1..=LARGEST_DIM).contains(dim));
        let Some(dim) = dim.and_then(|dim| u32::try_from(dim).ok()) else {
            let reason = format!("{} was given, expected 1 to {LARGEST_DIM}", self.dim);
            return Err(Error::InvalidOption { option: "dim", reason });
        };
        let align = self.align.unwrap_or(1);
        if self.align.is_some() && !(align.is_power_of_two() && (64..=ROWS_OFFSET).contains(&align))
        {
            let reason =
                format!("{align} was given, expected a power of two from 64 to {ROWS_OFFSET}");
            return Err(Error::InvalidOption { option: "align", reason });
        }
        let form = self.form(dim)?;
        let row_bytes = form.row_bytes();
        let row_stride = row_bytes.and_then(|bytes| bytes.checked_next_multiple_of(align));
        let (Some(row_bytes), Some(row_stride)) = (row_bytes, row_stride) else {
            return Err(Error::TooLarge { vocab: 1, dim: u64::from(dim), dtype: self.dtype });
        };
        Ok(Shape { form, row_bytes, row_stride })
    }

    /// How rows are encoded, checked.
    fn form(&self, dim: u32) -> Result<RowForm> {
        let (dtype, codec) = (self.dtype, self.codec);
        let mut form = RowForm { dim, dtype, codec, table_scale: None };
        if form.parts().is_none() {
            let reason = format!(
                "expected one that {dtype} has and whose blocks divide {dim} elements, found {codec}"
            );
            return Err(Error::InvalidOption { option: "codec", reason });
        }
        if let Some(scale) = &self.table_scale {
            let size = match codec {
                Codec::Scaled(scaling) => scaling.scale.size(),
                Codec::Plain | Codec::Blocks => 0,
            };
            let mut bytes = [0; 4];
            bytes.iter_mut().zip(scale).for_each(|(byte, given)| *byte = *given);
            form.table_scale = Some(bytes);
            if scale.len() != size || form.parts().is_none() {
                let reason = format!(
                    "{} bytes were given, and {codec} of {dim} elements is not one scale of as many and no bias",
                    scale.len()
                );
                return Err(Error::InvalidOption { option: "table_scale", reason });
            }
        }
        Ok(form)
    }
}

/// The rows that are placed; `None` where none are.
fn placed_rows(ids: &[u64], vocab: Option<u64>) -> Result<Option<PlacedRows>> {
    if ids.is_empty() {
        return Ok(None);
    }
    let placed = PlacedRows::new(ids).map_err(|id| Error::InvalidOption {
        option: "order",
        reason: format!("id {id} was given twice, and a row has one place"),
    })?;
    if let Some(vocab) = vocab {
        check_order(&placed, vocab)?;
    }
    Ok(Some(placed))
}

/// Refuses an order with an id that is no row's.
pub(super) fn check_order(placed: &PlacedRows, vocab: u64) -> Result<()> {
    match placed.highest() {
        Some(id) if id >= vocab => Err(Error::InvalidOption {
            option: "order",
            reason: format!("id {id} was given, and the table has {vocab} rows"),
        }),
        _ => Ok(()),
    }
}

fn random_id() -> std::io::Result<[u8; 16]> {
    let mut id = [0; 16];
    fill_random(&mut id)?;
    Ok(id)
}
