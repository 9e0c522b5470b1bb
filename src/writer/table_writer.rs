//! `TableWriter`: rows and tokens in, one published file out.

use std::fmt;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::body::{Body, SectionWriter};
use super::check::check;
use super::norms::NormSpool;
use super::options::{Sizes, WriteOptions, check_order};
use super::tokens::{TokenSpool, Twins};
use crate::codec::Loss;
use crate::dtype::{DType, Element};
use crate::error::{Error, Result};
use crate::format::{Header, ROWS_OFFSET, RowForm, SectionKind, VERSION_MINOR};
use crate::order::PlacedRows;
use crate::tokens::LONGEST_TOKEN;

/// What every row is like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) form: RowForm,
    pub(super) row_bytes: u64,
    pub(super) row_stride: u64,
}

impl Shape {
    /// Where the last of `vocab` rows ends, or an error where no file is as long.
    pub(super) fn rows_end(&self, vocab: u64) -> Result<u64> {
        let end = vocab.checked_mul(self.row_stride).and_then(|rows| rows.checked_add(ROWS_OFFSET));
        // Offsets in files are signed.
        end.filter(|end| i64::try_from(*end).is_ok()).ok_or(Error::TooLarge {
            vocab,
            dim: u64::from(self.form.dim),
            dtype: self.form.dtype,
        })
    }
}

/// Writes a table to an `.emb` file, streaming, atomically and durably.
///
/// Rows and tokens are pushed in the order of their ids, in pieces of any size (rows in
/// another with [`WriteOptions::order`]); memory does not grow with the table. Until [`finish`](TableWriter::finish) the destination is as it
/// was; after it, the new file is complete and flushed, name included. A writer that is
/// dropped, or whose process dies, leaves the destination as it was.
///
/// After any error a writer is spent: every later call is [`Error::WriterPoisoned`], so a
/// row that was lost cannot go unnoticed.
///
/// ```
/// use embmap::{DType, TableWriter};
///
/// let directory = tempfile::tempdir()?;
/// let path = directory.path().join("small.emb");
/// let mut writer = TableWriter::create(&path, 2, DType::F32)?;
/// for (id, token) in ["the", "cat"].into_iter().enumerate() {
///     writer.push(&[id as f32, 0.5])?;
///     writer.push_token(Some(token))?;
/// }
/// let written = writer.finish()?;
/// assert_eq!((written.vocab, written.tokens), (2, 2));
/// assert_eq!(written.file_bytes, std::fs::metadata(&path)?.len());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TableWriter {
    path: PathBuf,
    /// `None` after an error.
    state: Option<Box<State>>,
}

/// What a table is to be like.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) shape: Shape,
    /// The number of rows, where it is known.
    pub(super) announced: Option<u64>,
    /// The rows that are pushed first, where rows are not pushed by their ids.
    pub(super) placed: Option<PlacedRows>,
    pub(super) file_id: [u8; 16],
    pub(super) sizes: Sizes,
}

/// What a writer holds until it is finished, dropped, or fails.
struct State {
    plan: Plan,
    vocab: u64,
    body: Body,
    tokens: Option<TokenSpool>,
    norms: Option<NormSpool>,
    /// The tokenizer and the metadata.
    sections: [Option<Vec<u8>>; 2],
}

/// What was published.
///
/// ```
/// use embmap::{DType, TableWriter};
///
/// let directory = tempfile::tempdir()?;
/// let path = directory.path().join("empty.emb");
/// let written = TableWriter::create(&path, 768, DType::BF16)?.finish()?;
/// assert_eq!((written.vocab, written.tokens, written.path), (0, 0, path));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Written {
    /// The destination, as it was given.
    pub path: PathBuf,
    /// The length of the file.
    pub file_bytes: u64,
    /// The number of rows.
    pub vocab: u64,
    /// The distance between row starts, in bytes.
    pub row_stride: u64,
    /// The number of tokens, absent ones included.
    pub tokens: u64,
    /// The rows that were left out because of their tokens, where
    /// `ImportOptions` said so.
    pub duplicates: u64,
    /// The tokens that were to be kept and that the source does not have, where
    /// [`ConvertOptions::keep_tokens`](crate::ConvertOptions::keep_tokens) named some.
    pub missing_tokens: u64,
    /// The NaNs and infinities among the numbers of text, which were kept; `None` where the source
    /// was no text. [`Table::verify`](crate::Table::verify) counts those of any file.
    pub non_finite: Option<u64>,
    /// The id of the file.
    pub file_id: [u8; 16],
    /// What quantizing cost, where [`convert()`](crate::convert()) quantized the rows.
    pub loss: Option<Loss>,
}

impl TableWriter {
    /// Starts a table that replaces nothing; [`WriteOptions`] has the choices.
    ///
    /// ```
    /// use embmap::{DType, TableWriter};
    ///
    /// let directory = tempfile::tempdir()?;
    /// let mut writer = TableWriter::create(directory.path().join("a.emb"), 2, DType::F64)?;
    /// writer.push(&[1.0f64, 2.0])?;
    /// writer.finish()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`WriteOptions::create`].
    pub fn create(path: impl AsRef<Path>, dim: usize, dtype: DType) -> Result<Self> {
        WriteOptions::new(dim, dtype).create(path)
    }

    pub(super) fn start(
        path: PathBuf,
        plan: Plan,
        body: Body,
        sections: [Option<Vec<u8>>; 2],
    ) -> Self {
        let state = State { plan, vocab: 0, body, tokens: None, norms: None, sections };
        TableWriter { path, state: Some(Box::new(state)) }
    }

    /// The same, finding the norms of rows as they pass.
    pub(super) fn finding_norms(mut self) -> Self {
        if let Some(state) = &mut self.state {
            state.norms =
                Some(NormSpool::new(&state.plan.shape.form, &state.body, state.plan.sizes));
        }
        self
    }

    /// Adds rows: any whole number of them, one after the other, of the table's own dtype.
    ///
    /// Large pieces (a megabyte or more) are written without being copied.
    ///
    /// ```
    /// use embmap::{DType, Error, TableWriter};
    ///
    /// let directory = tempfile::tempdir()?;
    /// let mut writer = TableWriter::create(directory.path().join("a.emb"), 2, DType::F32)?;
    /// writer.push(&[1.0f32, 2.0, 3.0, 4.0])?;
    /// let error = writer.push(&[5.0f32]).unwrap_err();
    /// assert!(matches!(error, Error::RowLength { expected: 2, got: 1, .. }));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::RowDType`] for another dtype, [`Error::RowLength`] for half rows,
    /// [`Error::RowCount`] for more rows than were announced, [`Error::TooLarge`],
    /// [`Error::Io`] where they cannot be written, and [`Error::WriterPoisoned`].
    pub fn push<T: Element>(&mut self, rows: &[T]) -> Result<()> {
        self.attempt(|state, path| {
            let RowForm { dim, dtype, codec, .. } = state.plan.shape.form;
            if T::DTYPE != dtype {
                return Err(Error::RowDType { expected: dtype, got: T::DTYPE });
            }
            if state.plan.shape.row_bytes != u64::from(dim) * size_of::<T>() as u64 {
                let reason = format!("rows are {codec}: push them encoded, with push_encoded");
                return Err(Error::InvalidOption { option: "codec", reason });
            }
            if !(rows.len() as u64).is_multiple_of(u64::from(dim)) {
                let expected = u64::from(dim);
                return Err(Error::RowLength { expected, got: rows.len(), unit: "elements" });
            }
            state.push_encoded(bytemuck::cast_slice(rows), path)
        })
    }

    /// Adds rows as bytes: any whole number of them, one after the other, as the file has
    /// them, without padding.
    ///
    /// ```
    /// use embmap::{DType, TableWriter};
    ///
    /// let directory = tempfile::tempdir()?;
    /// let mut writer = TableWriter::create(directory.path().join("a.emb"), 2, DType::BF16)?;
    /// writer.push_encoded(&[0x80, 0x3f, 0x00, 0x40])?; // 1.0, 2.0
    /// assert_eq!(writer.finish()?.vocab, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`push`](TableWriter::push), but for the dtype.
    pub fn push_encoded(&mut self, rows: &[u8]) -> Result<()> {
        self.attempt(|state, path| {
            let expected = state.plan.shape.row_bytes;
            if !(rows.len() as u64).is_multiple_of(expected) {
                return Err(Error::RowLength { expected, got: rows.len(), unit: "bytes" });
            }
            state.push_encoded(rows, path)
        })
    }

    /// Adds the token of the next row: of row 0, 1, 2, and so on; `None` where a row has none.
    ///
    /// Tokens and rows keep their own counts: either may come first, and there may be more
    /// of one than of the other. A file to which no token was pushed has no tokens at all.
    ///
    /// ```
    /// use embmap::{DType, TableWriter};
    ///
    /// let directory = tempfile::tempdir()?;
    /// let mut writer = TableWriter::create(directory.path().join("a.emb"), 1, DType::F32)?;
    /// for token in [Some("the"), None, Some("")] {
    ///     writer.push_token(token)?;
    /// }
    /// writer.push(&[0.0f32; 3])?;
    /// assert_eq!(writer.finish()?.tokens, 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::TokenLength`] for a token of more than 1 MiB, [`Error::Io`] where it cannot
    /// be put aside, and [`Error::WriterPoisoned`].
    pub fn push_token(&mut self, token: Option<&str>) -> Result<()> {
        self.attempt(|state, path| state.push_token(token, path))
    }

    /// Replaces the metadata that the options gave, for what is known only after the rows.
    pub(crate) fn set_metadata(&mut self, json: String) -> Result<()> {
        self.attempt(|state, _| {
            state.sections[1] = Some(json.into_bytes());
            Ok(())
        })
    }

    /// Completes the file, reads it back, flushes it and publishes it.
    ///
    /// ```
    /// use embmap::{DType, TableWriter};
    ///
    /// let directory = tempfile::tempdir()?;
    /// let path = directory.path().join("a.emb");
    /// let written = TableWriter::create(&path, 4, DType::F16)?.finish()?;
    /// assert_eq!(written.file_bytes, std::fs::metadata(&path)?.len());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::RowCount`] for fewer rows than were announced, [`Error::Io`] and
    /// [`Error::Format`] where the file cannot be written or read back, [`Error::Exists`]
    /// where another writer was first, and [`Error::WriterPoisoned`]: in all of these the
    /// destination is as it was. [`Error::PublishedNotDurable`] where only the flush of the
    /// directory failed, and the new file is in place.
    pub fn finish(self) -> Result<Written> {
        self.finish_after(|_| Ok(()))
    }

    /// [`finish`](TableWriter::finish), after a look at the tokens that several rows have: an
    /// error of `look` is its error, and nothing is published then.
    pub(crate) fn finish_after(
        mut self,
        look: impl FnOnce(&Twins) -> Result<()>,
    ) -> Result<Written> {
        let state = self.state.take().ok_or_else(|| self.poisoned())?;
        state.finish(std::mem::take(&mut self.path), look)
    }

    fn attempt(&mut self, work: impl FnOnce(&mut State, &Path) -> Result<()>) -> Result<()> {
        let Some(state) = &mut self.state else { return Err(self.poisoned()) };
        let done = work(state, &self.path);
        if done.is_err() {
            self.state = None;
        }
        done
    }

    fn poisoned(&self) -> Error {
        Error::WriterPoisoned { path: self.path.clone() }
    }
}

impl State {
    fn push_encoded(&mut self, rows: &[u8], path: &Path) -> Result<()> {
        let Shape { row_bytes, row_stride, .. } = self.plan.shape;
        let vocab = self.vocab + rows.len() as u64 / row_bytes;
        if let Some(expected) = self.plan.announced.filter(|announced| vocab > *announced) {
            return Err(Error::RowCount { expected, got: vocab });
        }
        self.plan.shape.rows_end(vocab)?;
        let padding = row_stride - row_bytes;
        let row_bytes = usize::try_from(row_bytes).unwrap_or(usize::MAX);
        if let Some(norms) = &mut self.norms {
            norms
                .push(rows, row_bytes)
                .map_err(|source| Error::io("put aside the norms of", path, source))?;
        }
        let appended = if padding == 0 {
            self.body.append(rows)
        } else {
            rows.chunks_exact(row_bytes).try_for_each(|row| {
                self.body.append(row)?;
                self.body.append_zeros(padding)
            })
        };
        self.vocab = vocab;
        appended.map_err(|source| Error::io("write", path, source))
    }

    fn push_token(&mut self, token: Option<&str>, path: &Path) -> Result<()> {
        let failed = |source| Error::io("put aside the tokens of", path, source);
        let bytes = token.map_or(0, str::len) as u64;
        let tokens = match &mut self.tokens {
            Some(tokens) => tokens,
            none => {
                let temporary = self.body.temporary();
                let directory = temporary.directory_path();
                let tokens = TokenSpool::new(temporary.operations(), directory, self.plan.sizes);
                none.insert(tokens.map_err(failed)?)
            }
        };
        if bytes > LONGEST_TOKEN {
            return Err(Error::TokenLength { id: tokens.count(), bytes, longest: LONGEST_TOKEN });
        }
        tokens.push(token).map_err(failed)
    }

    fn finish(mut self, path: PathBuf, look: impl FnOnce(&Twins) -> Result<()>) -> Result<Written> {
        let Plan { shape, announced, placed, file_id, .. } = self.plan;
        let vocab = self.vocab;
        if let Some(expected) = announced.filter(|announced| vocab != *announced) {
            return Err(Error::RowCount { expected, got: vocab });
        }
        let failed = |source| Error::io("write", &path, source);
        if let Some(placed) = placed {
            check_order(&placed, vocab)?;
            self.body
                .section(SectionKind::RowOrder, |section| {
                    let mut buffered = BufWriter::with_capacity(1 << 16, section);
                    placed.write(vocab, &mut buffered)?;
                    buffered.flush()
                })
                .map_err(failed)?;
        }
        let tokens = self.tokens.as_ref().map_or(0, TokenSpool::count);
        if let Some(tokens) = self.tokens.take() {
            look(&tokens.write_to(&mut self.body).map_err(failed)?)?;
        }
        for (kind, bytes) in
            [SectionKind::Tokenizer, SectionKind::Metadata].iter().zip(self.sections)
        {
            if let Some(bytes) = bytes {
                let section = |section: &mut SectionWriter<'_>| section.write_all(&bytes);
                self.body.section(*kind, section).map_err(failed)?;
            }
        }
        if let Some(norms) = self.norms.take() {
            norms.write_to(&mut self.body).map_err(failed)?;
        }
        let header = Header {
            version_minor: VERSION_MINOR,
            file_bytes: 0,
            file_id,
            vocab,
            form: shape.form,
            row_bytes: shape.row_bytes,
            row_stride: shape.row_stride,
            checksums: true,
            sections: Vec::new(),
        };
        let (temporary, header) = self.body.finish(header).map_err(failed)?;
        check(&temporary.path(), &header)?;
        temporary.publish()?;
        Ok(Written {
            path,
            file_bytes: header.file_bytes,
            vocab,
            row_stride: header.row_stride,
            tokens,
            duplicates: 0,
            missing_tokens: 0,
            non_finite: None,
            file_id,
            loss: None,
        })
    }
}

impl fmt::Debug for TableWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TableWriter")
            .field("path", &self.path)
            .field("vocab", &self.state.as_ref().map(|state| state.vocab))
            .finish_non_exhaustive()
    }
}
