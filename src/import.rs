//! Tables from formats that are not read in place: what a path is -> a table, or a stream of
//! rows for [`convert_from`](crate::convert_from).

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::dtype::DType;
use crate::error::Result;
use crate::open::OpenOptions;
use crate::source::{RowStream, StaticRules, StreamForm};
use crate::table::Table;

mod detect;
mod format;
mod lines;
mod mapped;
mod open;

pub use crate::source::TextEncoding;
pub use format::ImportFormat;

/// What becomes of rows whose token another row has.
///
/// ```
/// use embmap::{ConvertOptions, Duplicates, ImportOptions, Table, convert_from};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("words.emb");
/// let text = "the 1 2\ncat 3 4\nthe 5 6\n";
/// let source = ImportOptions::new().read(text.as_bytes(), "words.txt")?;
/// let error = convert_from(source, &path, &ConvertOptions::new()).unwrap_err();
/// assert!(error.to_string().contains("the token \"the\" is that of line 1 too"));
///
/// let options = ImportOptions::new().duplicates(Duplicates::Last);
/// let source = options.read(text.as_bytes(), "words.txt")?;
/// convert_from(source, &path, &ConvertOptions::new())?;
/// let table = Table::load(&path)?;
/// assert_eq!((table.vocab(), table.id_of("the")?), (2, Some(1)));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Duplicates {
    /// They are an error that says where both are.
    #[default]
    Error,
    /// The first row of each token is kept.
    First,
    /// The last row of each token is kept.
    Last,
}

/// How a source is to be understood; by default all of it is found out.
///
/// ```
/// use embmap::{ConvertOptions, ImportOptions, Table, convert_from};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let glove = directory.path().join("glove.txt");
/// # let path = directory.path().join("glove.emb");
/// std::fs::write(&glove, "the 0.418 0.24968\nof 0.70853 0.57088\n")?;
/// let source = ImportOptions::new().open(&glove)?;
/// assert_eq!((source.format(), source.dim()), ("glove", 2));
/// convert_from(source, &path, &ConvertOptions::new())?;
///
/// let table = Table::load(&path)?;
/// assert_eq!(table.row::<f32>(table.id_of("of")?.unwrap())?, [0.70853, 0.57088]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct ImportOptions {
    format: Option<ImportFormat>,
    member: Option<String>,
    column: Option<String>,
    token_column: Option<String>,
    dim: Option<usize>,
    dtype: Option<DType>,
    text_dtype: Option<DType>,
    duplicates: Duplicates,
    encoding: TextEncoding,
    opening: OpenOptions,
    threads: Option<usize>,
}

impl ImportOptions {
    /// The defaults: the format shows from the content and the name, what is not clear is an
    /// error, a thread for each core.
    pub fn new() -> Self {
        ImportOptions::default()
    }

    /// The format, where the content does not tell.
    pub fn format(self, format: ImportFormat) -> Self {
        ImportOptions { format: Some(format), ..self }
    }

    /// The member of a zip archive: an array of an `.npz`, with or without `.npy`, or a file of
    /// text.
    pub fn member(self, name: impl Into<String>) -> Self {
        ImportOptions { member: Some(name.into()), ..self }
    }

    /// The column of vectors of a Parquet or Arrow file, where there are several.
    pub fn column(self, name: impl Into<String>) -> Self {
        ImportOptions { column: Some(name.into()), ..self }
    }

    /// The column of tokens of a Parquet or Arrow file, where there are several columns of text;
    /// `none` for no tokens.
    pub fn token_column(self, name: impl Into<String>) -> Self {
        ImportOptions { token_column: Some(name.into()), ..self }
    }

    /// The number of columns, of raw binary, and of text where tokens hold spaces and numbers.
    pub fn dim(self, dim: usize) -> Self {
        ImportOptions { dim: Some(dim), ..self }
    }

    /// The type of the elements of raw binary, which does not tell it.
    pub fn dtype(self, dtype: DType) -> Self {
        ImportOptions { dtype: Some(dtype), ..self }
    }

    /// The type that numbers of text are read as: f32 unless said, or f64. Other sources have
    /// types of their own.
    pub fn text_dtype(self, dtype: DType) -> Self {
        ImportOptions { text_dtype: Some(dtype), ..self }
    }

    /// What becomes of rows whose token another row has; an error unless said.
    ///
    /// Of a source that is read in place the rows are the model's own ids, and stay as they are.
    pub fn duplicates(self, duplicates: Duplicates) -> Self {
        ImportOptions { duplicates, ..self }
    }

    /// How the bytes of text become characters; UTF-8 unless said.
    pub fn encoding(self, encoding: TextEncoding) -> Self {
        ImportOptions { encoding, ..self }
    }

    /// How a table is opened that needs no import: its tensor, its scales, its links.
    pub fn opening(self, options: OpenOptions) -> Self {
        ImportOptions { opening: options, ..self }
    }

    /// The threads that parse text; one for each core unless said.
    pub fn threads(self, threads: usize) -> Self {
        ImportOptions { threads: Some(threads), ..self }
    }

    /// Finds out what a path is: whatever [`OpenOptions`] opens, word2vec and `GloVe` text,
    /// word2vec binary, Parquet and Arrow, any array of numpy, and text in `.gz`, `.zst` and
    /// `.zip`.
    ///
    /// # Errors
    ///
    /// [`Error::NoTable`](crate::Error::NoTable) with the way out for a path that is none of
    /// these, [`Error::Foreign`](crate::Error::Foreign) for one that breaks the rules of its
    /// format, [`Error::InvalidOption`](crate::Error::InvalidOption) for options that do not go
    /// with it.
    pub fn open(self, path: impl AsRef<Path>) -> Result<Source> {
        let (duplicates, path) = (self.duplicates, path.as_ref());
        let kind = open::path(&self, path)?;
        Ok(Source { path: path.to_path_buf(), duplicates, kind })
    }

    /// Finds out what a reader gives, such as standard input; `name` is shown in errors.
    ///
    /// All that is read in order can come from one: text, word2vec binary, raw binary, an `.npy`
    /// array in C order, and each of them as gzip or zstd.
    ///
    /// # Errors
    ///
    /// As [`open`](ImportOptions::open).
    pub fn read(
        self,
        reader: impl Read + Send + 'static,
        name: impl AsRef<Path>,
    ) -> Result<Source> {
        let (duplicates, path) = (self.duplicates, name.as_ref().to_path_buf());
        let kind = open::reader(&self, Box::new(reader), path.clone())?;
        Ok(Source { path, duplicates, kind })
    }
}

/// A source of rows, opened by [`ImportOptions`]: a table, or rows that come in their order.
pub struct Source {
    pub(crate) path: PathBuf,
    pub(crate) duplicates: Duplicates,
    pub(crate) kind: SourceKind,
}

pub(crate) enum SourceKind {
    Table(Box<Table>),
    Rows(Rows),
}

/// A stream of rows and what is known of it.
pub(crate) struct Rows {
    pub(crate) form: StreamForm,
    pub(crate) stream: Box<dyn RowStream>,
    /// The bytes of the source, where that is known.
    pub(crate) bytes: Option<u64>,
    /// The column, the member, or the tensor that the rows are.
    pub(crate) part: Option<String>,
    /// The `tokenizer.json` beside it.
    pub(crate) tokenizer: Option<PathBuf>,
    /// How a static model makes vectors of texts with them.
    pub(crate) rules: Option<StaticRules>,
    /// True where rows are a model's ids: none is left out, whatever its token.
    pub(crate) are_ids: bool,
}

impl Source {
    /// The format: one of [`ImportFormat`] by its name, or `model2vec`.
    #[must_use]
    pub fn format(&self) -> &'static str {
        match &self.kind {
            SourceKind::Table(table) => table.info().format,
            SourceKind::Rows(rows) => rows.form.format,
        }
    }

    /// The number of rows, where the source tells. It is believed only after they were read.
    #[must_use]
    pub fn vocab(&self) -> Option<u64> {
        match &self.kind {
            SourceKind::Table(table) => Some(table.vocab()),
            SourceKind::Rows(rows) => rows.form.rows,
        }
    }

    /// The number of elements in a row.
    #[must_use]
    pub fn dim(&self) -> usize {
        match &self.kind {
            SourceKind::Table(table) => table.dim(),
            SourceKind::Rows(rows) => rows.form.dim,
        }
    }

    /// The type of the elements.
    #[must_use]
    pub fn dtype(&self) -> DType {
        match &self.kind {
            SourceKind::Table(table) => table.dtype(),
            SourceKind::Rows(rows) => rows.form.dtype,
        }
    }

    /// The table, where the source is one that is read in place.
    #[must_use]
    pub fn table(&self) -> Option<&Table> {
        match &self.kind {
            SourceKind::Table(table) => Some(table),
            SourceKind::Rows(_) => None,
        }
    }
}

impl From<Table> for Source {
    fn from(table: Table) -> Self {
        let (path, duplicates) = (table.info().path.clone(), Duplicates::default());
        Source { path, duplicates, kind: SourceKind::Table(Box::new(table)) }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("path", &self.path)
            .field("format", &self.format())
            .field("vocab", &self.vocab())
            .field("dim", &self.dim())
            .field("dtype", &self.dtype())
            .finish_non_exhaustive()
    }
}
