//! From a source that is read in its order to an `.emb` file.

use std::ops::ControlFlow;
use std::path::Path;

use serde_json::{Value, json};

use super::duplicates::Kept;
use super::named::{Named, Second};
use super::range::Ranged;
use super::rows::Recoding;
use super::{ConvertOptions, convert_with, metadata_of, plan};
use crate::codec::{Codec, Encoding, Loss};
use crate::dtype::DType;
use crate::error::{Error, Place, Result};
use crate::import::{Duplicates, Rows, Source, SourceKind};
use crate::layout::{Layout, Plane};
use crate::source::{Batch, RowStream, StaticRules, StreamForm, read_tokenizer, shortened};
use crate::writer::{TableWriter, TokenTotals, Twins, WriteOptions, Written};

/// How far a conversion has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// What is done now.
    pub stage: Stage,
    /// The rows that this stage is done with, and those that there are to be, where it is known.
    pub rows: (u64, Option<u64>),
    /// The bytes of the source that were read, and those that there are, where it is known; packed,
    /// where it is packed.
    pub bytes: (u64, Option<u64>),
}

/// A part of a conversion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// The source is read, and with it the file written, unless the next stage does.
    Reading,
    /// Rows that were put aside to find duplicates are written.
    Writing,
    /// Tokens, checksums and the header are written, and all of it flushed.
    Finishing,
}

/// What a conversion would write.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Planned {
    /// The number of rows.
    pub vocab: u64,
    /// The number of elements in a row.
    pub dim: usize,
    /// The type that would be stored.
    pub dtype: DType,
    /// The distance between row starts, in bytes.
    pub row_stride: u64,
    /// The number of tokens, absent ones included.
    pub tokens: u64,
    /// The length of the file.
    pub file_bytes: u64,
    /// True where the file may come out smaller: where rows may have the same token, which
    /// [`plan_convert`] does not look for.
    pub at_most: bool,
    /// The NaNs and infinities among the numbers of text.
    pub non_finite: Option<u64>,
}

/// Writes a source to an `.emb` file, with its tokens.
///
/// A source that is read in place is converted as [`convert`](crate::convert()) does it. Any other
/// one is read once, in its order, in memory that does not grow with it: text is parsed by all
/// threads, each number rounded once, to the nearest of its type. The file appears whole or not
/// at all; where anything is wrong with the source, its place is named and nothing is left.
///
/// Two rows of a source that have the same token are an error that names both, or one of them is
/// kept ([`ImportOptions::duplicates`](crate::ImportOptions::duplicates)). To tell, rows are put
/// aside on the disk of the destination, in files without a name.
///
/// # Errors
///
/// Whatever reading the source or [`TableWriter`] can give; the destination is as before then.
///
/// ```
/// use embmap::{ConvertOptions, DType, ImportOptions, Table, convert_from};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("words.emb");
/// let text = "2 3\nthe 0.5 -1 1e-3\nnew york 1 2 3\n";
/// let source = ImportOptions::new().read(text.as_bytes(), "words.vec")?;
/// let written = convert_from(source, &path, &ConvertOptions::new().dtype(DType::F16))?;
/// assert_eq!((written.vocab, written.tokens), (2, 2));
/// assert_eq!(Table::load(&path)?.token(1)?.as_deref(), Some("new york"));
/// # Ok(())
/// # }
/// ```
pub fn convert_from(
    source: Source,
    path: impl AsRef<Path>,
    options: &ConvertOptions,
) -> Result<Written> {
    convert_from_with(source, path, options, |_| ControlFlow::Continue(()))
}

/// [`convert_from`], telling `progress` how far it has come.
///
/// # Errors
///
/// As [`convert_from`]; [`Error::Interrupted`] where `progress` breaks off.
pub fn convert_from_with(
    source: Source,
    path: impl AsRef<Path>,
    options: &ConvertOptions,
    mut progress: impl FnMut(Progress) -> ControlFlow<()>,
) -> Result<Written> {
    let Source { path: from, duplicates, kind } = source;
    match kind {
        SourceKind::Table(table) => convert_with(&table, path, options, |done, all| {
            let stage = if done == all { Stage::Finishing } else { Stage::Reading };
            progress(Progress { stage, rows: (done, Some(all)), bytes: (0, None) })
        }),
        SourceKind::Rows(rows) => {
            refuse_choices(options)?;
            let stream = Stream { rows, from: &from, options, told: &mut progress };
            stream.convert(path.as_ref(), duplicates)
        }
    }
}

/// What [`convert_from`] would write, and how large: reads and checks all of the source, and
/// writes nothing.
///
/// # Errors
///
/// As [`convert_from_with`], but for those of writing and of duplicate tokens.
///
/// ```
/// use embmap::{ConvertOptions, ImportOptions, plan_convert};
/// use std::ops::ControlFlow;
///
/// # fn main() -> Result<(), embmap::Error> {
/// let source = ImportOptions::new().read("the 1 2\ncat 3 4\n".as_bytes(), "words.txt")?;
/// let planned = plan_convert(source, &ConvertOptions::new(), |_| ControlFlow::Continue(()))?;
/// assert_eq!((planned.vocab, planned.dim, planned.tokens), (2, 2, 2));
/// # Ok(())
/// # }
/// ```
pub fn plan_convert(
    source: Source,
    options: &ConvertOptions,
    mut progress: impl FnMut(Progress) -> ControlFlow<()>,
) -> Result<Planned> {
    let Source { path: from, duplicates, kind } = source;
    match kind {
        SourceKind::Table(table) => plan::of_table(&table, options),
        SourceKind::Rows(rows) => {
            refuse_choices(options)?;
            let stream = Stream { rows, from: &from, options, told: &mut progress };
            stream.plan(duplicates != Duplicates::Error)
        }
    }
}

/// Refuses what asks for rows here and there.
fn refuse_choices(options: &ConvertOptions) -> Result<()> {
    let refuse = |option, what| {
        let reason = format!(
            "{what}, and this source is read once, in its order; convert it to .emb, and that again"
        );
        Err(Error::InvalidOption { option, reason })
    };
    if options.picked.is_some() {
        return refuse("pick", "rows are picked by their ids");
    }
    match &options.order {
        Some(ids) if !ids.is_empty() => refuse("order", "an order places rows by their ids"),
        _ => Ok(()),
    }
}

/// A stream on its way into a file.
struct Stream<'a> {
    rows: Rows,
    from: &'a Path,
    options: &'a ConvertOptions,
    told: &'a mut dyn FnMut(Progress) -> ControlFlow<()>,
}

impl Stream<'_> {
    fn convert(self, path: &Path, duplicates: Duplicates) -> Result<Written> {
        let layout = layout_of(&self.rows.form)?;
        let mut recoding = self.recoding(&layout)?;
        let write = self.write_options(&recoding)?;
        let whole = self.is_whole();
        let Stream { rows, from, options, told } = self;
        let Rows { form, stream, bytes, part, rules, are_ids, .. } = rows;
        let second = match duplicates {
            _ if are_ids => Second::LeftOut,
            Duplicates::Error => Second::Refused,
            Duplicates::First | Duplicates::Last => Second::Kept,
        };
        let mut stream = selected(stream, &form, from, options, second)?;
        let sure = form.rows.filter(|_| whole && form.rows_are_sure);
        let announced = match duplicates {
            Duplicates::Error => sure,
            Duplicates::First | Duplicates::Last => None,
        };
        let write = match announced {
            Some(rows) => write.vocab(rows),
            None => write,
        };
        let mut writer = write.create(path)?;
        let mut tally = Tally { told, rows: 0, all: form.rows.filter(|_| whole), bytes };
        let mut non_finite = 0;
        let (mut dropped, mut stage) = (0, Stage::Reading);
        if duplicates != Duplicates::Error {
            let kept = Kept::read(stream, &form, path, duplicates, &mut |batch, consumed| {
                non_finite += batch.non_finite;
                tally.add(Stage::Reading, batch.count as u64, consumed)
            })?;
            dropped = kept.dropped();
            (tally.rows, tally.all, tally.bytes) = (0, Some(kept.rows()), None);
            stage = Stage::Writing;
            stream = Box::new(kept);
        }
        let mut batch = Batch::default();
        while stream.next(&mut batch)? {
            push(&mut writer, &mut recoding, &batch, &form, tally.rows)?;
            non_finite += batch.non_finite;
            tally.add(stage, batch.count as u64, stream.consumed())?;
        }
        options.check_kept(tally.rows)?;
        tally.all = Some(tally.rows);
        tally.add(Stage::Finishing, 0, stream.consumed())?;
        let loss = recoding.loss();
        let rules = rules.filter(|_| whole);
        let about = About { from, form: &form, part, options, rules, dropped };
        let stored = recoding.encoding.dtype;
        writer
            .set_metadata(about.metadata(tally.rows, loss.as_ref().map(|loss| (stored, loss))))?;
        let written = writer.finish_after(|twins| {
            if are_ids { Ok(()) } else { refuse_twins(twins, &*stream, from, form.format) }
        })?;
        let non_finite = is_text(&form).then_some(non_finite);
        let missing_tokens = options.missing_of(written.vocab);
        Ok(Written { duplicates: dropped, missing_tokens, non_finite, loss, ..written })
    }

    fn plan(self, drops: bool) -> Result<Planned> {
        let layout = layout_of(&self.rows.form)?;
        let mut recoding = self.recoding(&layout)?;
        let write = self.write_options(&recoding)?;
        let whole = self.is_whole();
        let Stream { rows, from, options, told } = self;
        let Rows { form, stream, bytes, part, rules, .. } = rows;
        let mut stream = selected(stream, &form, from, options, Second::Kept)?;
        let mut tally = Tally { told, rows: 0, all: form.rows.filter(|_| whole), bytes };
        let (mut tokens, mut non_finite) = (TokenTotals::default(), 0);
        let mut batch = Batch::default();
        while stream.next(&mut batch)? {
            recoding.encode(tally.rows, &batch.rows, form.row_bytes())?;
            batch.tokens.iter().for_each(|token| tokens.add(token));
            non_finite += batch.non_finite;
            tally.add(Stage::Reading, batch.count as u64, stream.consumed())?;
        }
        let loss = recoding.loss();
        options.check_kept(tally.rows)?;
        let rules = rules.filter(|_| whole);
        let about = About { from, form: &form, part, options, rules, dropped: 0 };
        let dtype = recoding.encoding.dtype;
        let metadata = about.metadata(tally.rows, loss.as_ref().map(|loss| (dtype, loss)));
        let (file_bytes, row_stride) = write.metadata(metadata).planned(tally.rows, tokens)?;
        Ok(Planned {
            vocab: tally.rows,
            dim: form.dim,
            dtype,
            row_stride,
            tokens: tokens.count,
            file_bytes,
            at_most: drops,
            non_finite: is_text(&form).then_some(non_finite),
        })
    }

    /// True where every row is taken.
    fn is_whole(&self) -> bool {
        self.options.rows.is_none() && self.options.kept.is_none()
    }

    fn recoding<'l>(&self, layout: &'l Layout) -> Result<Recoding<'l>> {
        let dtype = self.rows.form.dtype;
        let from = Encoding { dtype, codec: Codec::of(dtype) };
        Recoding::of(layout, from, self.options.dtype.unwrap_or(dtype))
    }

    fn write_options(&self, recoding: &Recoding<'_>) -> Result<WriteOptions> {
        let form = &self.rows.form;
        let write = WriteOptions::new(form.dim, recoding.encoding.dtype);
        let write = self.options.describe(recoding.describe(write));
        // The ids of a part, or of what is left without duplicates, are not the tokenizer's.
        match &self.rows.tokenizer {
            Some(tokenizer) if self.is_whole() => Ok(write.tokenizer(read_tokenizer(tokenizer)?)),
            _ => Ok(write),
        }
    }
}

fn push(
    writer: &mut TableWriter,
    recoding: &mut Recoding<'_>,
    batch: &Batch,
    form: &StreamForm,
    first: u64,
) -> Result<()> {
    writer.push_encoded(recoding.encode(first, &batch.rows, form.row_bytes())?)?;
    batch.tokens.iter().try_for_each(|token| writer.push_token(token))
}

/// Says how far a conversion has come.
struct Tally<'a> {
    told: &'a mut dyn FnMut(Progress) -> ControlFlow<()>,
    rows: u64,
    all: Option<u64>,
    bytes: Option<u64>,
}

impl Tally<'_> {
    fn add(&mut self, stage: Stage, rows: u64, consumed: u64) -> Result<()> {
        self.rows += rows;
        let (rows, bytes) = ((self.rows, self.all), (consumed, self.bytes));
        match (self.told)(Progress { stage, rows, bytes }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Interrupted),
        }
    }
}

/// The layout that decoders of a stream's rows want: that of one row.
fn layout_of(form: &StreamForm) -> Result<Layout> {
    let row_bytes = form.row_bytes() as u64;
    let plane = Plane::new(row_bytes, row_bytes, Vec::new(), &[]);
    let layout = plane.and_then(|plane| Layout::of_values(0, form.dim, plane));
    layout.ok_or(Error::TooLarge { vocab: 1, dim: form.dim as u64, dtype: form.dtype })
}

fn is_text(form: &StreamForm) -> bool {
    matches!(form.format, "word2vec" | "glove")
}

/// Refuses rows that have the same token, told by their places in the source.
fn refuse_twins(
    twins: &Twins,
    stream: &dyn RowStream,
    from: &Path,
    format: &'static str,
) -> Result<()> {
    let Some((first, second)) = twins.earliest else { return Ok(()) };
    let places = (stream.place(first), stream.place(second));
    Err(self::twins(from, format, places, &String::from_utf8_lossy(&twins.token), twins.count))
}

/// The error of two rows that have the same token, of so many in all.
pub(super) fn twins(
    path: &Path,
    format: &'static str,
    (first, second): (Place, Place),
    token: &str,
    count: u64,
) -> Error {
    let others = match count {
        1 => String::new(),
        count => format!(", and {count} rows in all have the token of another"),
    };
    let reason = format!(
        "the token {:?} is that of {first} too{others}; keep one of each with --duplicates \
         first or last (`ImportOptions::duplicates`)",
        shortened(token)
    );
    Error::Foreign { path: path.to_path_buf(), format, place: second, reason }
}

/// The rows of a stream that are asked for.
fn selected(
    stream: Box<dyn RowStream>,
    form: &StreamForm,
    from: &Path,
    options: &ConvertOptions,
    second: Second,
) -> Result<Box<dyn RowStream>> {
    Ok(match (&options.rows, &options.kept) {
        (None, None) => stream,
        (Some(range), None) => Box::new(Ranged::new(stream, form, range.clone())),
        (None, Some(_)) if !form.has_tokens => {
            return Err(Error::Missing {
                path: from.to_path_buf(),
                what: "tokens",
                way_out: "take a range of rows, or convert it to .emb and pick rows of that",
            });
        }
        (None, Some(tokens)) => {
            Box::new(Named::new(stream, form, from.to_path_buf(), tokens, second))
        }
        (Some(_), Some(_)) => {
            let reason = "rows are taken by a range or by tokens, and not by both".to_owned();
            return Err(Error::InvalidOption { option: "rows", reason });
        }
    })
}

/// What the file says of where it came from.
struct About<'a> {
    from: &'a Path,
    form: &'a StreamForm,
    part: Option<String>,
    options: &'a ConvertOptions,
    /// They go with the tokenizer, which a part leaves out.
    rules: Option<StaticRules>,
    dropped: u64,
}

impl About<'_> {
    fn metadata(&self, rows: u64, cost: Option<(DType, &Loss)>) -> String {
        let mut source = json!({
            "format": self.form.format,
            "file": self.from.file_name().map(|name| name.to_string_lossy()),
            "tensor": self.part,
            "dtype": self.form.dtype.name(),
            "vocab": rows + self.dropped,
        });
        if let Some(range) = &self.options.rows {
            let end = range.start + rows + self.dropped;
            source["rows"] = json!([range.start, end]);
            source["vocab"] = Value::Null;
        }
        if self.options.kept.is_some() {
            source["vocab"] = Value::Null;
            source["kept_rows"] = rows.into();
        }
        if self.dropped > 0 {
            source["duplicates"] = self.dropped.into();
        }
        metadata_of(&source, self.form.dtype, self.rules, cost)
    }
}
