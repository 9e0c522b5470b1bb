//! From a path or a reader to a source.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::lines::LineRows;
use super::mapped::MappedRows;
use super::{Duplicates, ImportFormat, ImportOptions, Rows, SourceKind, detect};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::gather::threads;
use crate::layout::LARGEST_DIM;
use crate::source::{
    self, BinaryWords, Bytes, Kind, LineForm, Packing, RawRows, RowStream, StaticRules, StreamForm,
    TextEncoding, Transposed, npy, npz, word2vec, zip,
};
use crate::storage::{StoredFile, Stretch};

/// What a path is.
pub(super) fn path(options: &ImportOptions, path: &Path) -> Result<SourceKind> {
    let located = source::locate(path)?;
    let status = std::fs::metadata(&located).map_err(|error| Error::io("open", path, error))?;
    if status.is_dir() {
        return model(options, path, &located);
    }
    let file = StoredFile::open(&located)?;
    let name = located.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let kind = Kind::of(&file.bytes_at(0, file.bytes().min(source::HEAD))?, &name);
    let packed = matches!(kind, Kind::Gzip | Kind::Zstd);
    match options.format {
        None => {}
        Some(ImportFormat::Emb | ImportFormat::Gguf) => return table(options, path),
        Some(ImportFormat::Safetensors) => return model(options, path, &located),
        Some(ImportFormat::Npy) if !packed => return array(options, path, file),
        Some(ImportFormat::Npz) => return archive(options, file),
        Some(ImportFormat::Parquet | ImportFormat::Arrow) => return columns(options, file, kind),
        Some(_) if kind == Kind::Zip => return archive(options, file),
        Some(_) => return stream(options, Bytes::of_file(file), &name),
    }
    match kind {
        Kind::Safetensors => model(options, path, &located),
        Kind::Emb | Kind::Gguf => table(options, path),
        Kind::Npy => array(options, path, file),
        Kind::Zip => archive(options, file),
        Kind::Parquet | Kind::ArrowFile | Kind::ArrowStream => columns(options, file, kind),
        _ => stream(options, Bytes::of_file(file), &name),
    }
}

/// What a reader gives.
pub(super) fn reader(
    options: &ImportOptions,
    reader: Box<dyn Read + Send>,
    path: PathBuf,
) -> Result<SourceKind> {
    stream(options, Bytes::of_reader(reader, path), "")
}

/// A model directory or a safetensors file: a table, or the rows of one that is mapped.
fn model(options: &ImportOptions, path: &Path, located: &Path) -> Result<SourceKind> {
    let opening = options.opening.source();
    if opening.tensor.is_some() {
        return table(options, path);
    }
    let Some(parts) = source::find_mapped(located, opening.follow_links)? else {
        return table(options, path);
    };
    Unused::of(options).check("model2vec")?;
    let raw = options.opening.clone().tensor(parts.tensor).open(located)?;
    let (tensor, tokenizer) = (parts.tensor.to_owned(), parts.tokenizer.clone());
    let weights = parts.file.path().to_path_buf();
    let rules = StaticRules::of(Some(&weights), Some(&tensor), None)?;
    let stream = MappedRows::new(raw, parts)?;
    let form = stream.form().clone();
    let stream = Box::new(stream);
    let part = Some(tensor);
    Ok(SourceKind::Rows(Rows { form, stream, bytes: None, part, tokenizer, rules, are_ids: true }))
}

fn table(options: &ImportOptions, path: &Path) -> Result<SourceKind> {
    let table = options.opening.clone().open(path)?;
    let format = table.info().format;
    if let Some(asked) = options.format.filter(|asked| asked.name() != format) {
        let reason = format!("{asked} was asked for, and the file is {format}");
        return Err(Error::NoTable { path: path.to_path_buf(), reason });
    }
    // Rows of a table are ids, of which none may be left out.
    Unused::of(options).check(format)?;
    Ok(SourceKind::Table(Box::new(table)))
}

/// An array of numpy: a table where it can be read in place.
fn array(options: &ImportOptions, path: &Path, file: StoredFile) -> Result<SourceKind> {
    let at = Stretch { offset: 0, bytes: file.bytes() };
    let array = npy::read(&file, at)?;
    if array.obstacle().is_none() {
        return table(options, path);
    }
    Unused::of(options).check(npy::FORMAT)?;
    stretch(file, at, array.fortran_order, npy::FORMAT, None)
}

/// An array whose file takes a stretch of another.
fn stretch(
    file: StoredFile,
    at: Stretch,
    fortran_order: bool,
    format: &'static str,
    part: Option<String>,
) -> Result<SourceKind> {
    let total = Some(at.bytes);
    if fortran_order {
        let stream = Transposed::open(file, at, format)?;
        return Ok(rows(stream.form().clone(), stream, total, part));
    }
    let stream = npy::rows(Bytes::of_stretch(file, at), format)?;
    Ok(rows(stream.form().clone(), stream, total, part))
}

/// A member of a zip archive: an array of numpy, or text.
fn archive(options: &ImportOptions, file: StoredFile) -> Result<SourceKind> {
    let asked = options.member.as_deref().or(options.opening.source().tensor.as_deref());
    let text = matches!(
        options.format,
        Some(
            ImportFormat::Word2Vec
                | ImportFormat::Word2VecBinary
                | ImportFormat::Glove
                | ImportFormat::Raw
        )
    );
    let member = if text || (asked.is_none() && !npz::has_arrays(&file)?) {
        zip::choose(&file, asked, "files", |member| !member.name.ends_with('/'))?
    } else {
        npz::choose(&file, asked)?
    };
    let name = npz::array_name(&member).to_owned();
    if text || name == member.name {
        let bytes = source::member(file, &member)?;
        return match stream(options, bytes, &name)? {
            SourceKind::Rows(rows) => Ok(SourceKind::Rows(Rows { part: Some(name), ..rows })),
            table @ SourceKind::Table(_) => Ok(table),
        };
    }
    Unused::of(options).allowing(&["member", "tensor"]).check(npz::FORMAT)?;
    if member.packing == Packing::Stored {
        let at = Stretch { offset: zip::place(&file, &member)?, bytes: member.bytes };
        if npy::read(&file, at)?.fortran_order {
            return stretch(file, at, true, npz::FORMAT, Some(name));
        }
    }
    let bytes = source::member(file, &member)?;
    let total = bytes.total();
    let stream = npy::rows(bytes, npz::FORMAT)?;
    Ok(rows(stream.form().clone(), stream, total, Some(name)))
}

/// What is read in its order: text, word2vec binary, arrays, raw rows; packed or not.
fn stream(options: &ImportOptions, mut bytes: Bytes, name: &str) -> Result<SourceKind> {
    match Kind::of(bytes.peek(8)?, "") {
        Kind::Gzip => bytes = source::gunzip(bytes),
        Kind::Zstd => bytes = source::unzstd(bytes),
        _ => {}
    }
    let (total, unused) = (bytes.total(), Unused::of(options).allowing(&["member", "tensor"]));
    let format = match options.format {
        Some(format) => format,
        None => detect::format(&mut bytes, name)?,
    };
    match format {
        ImportFormat::Raw => {
            unused.allowing(&["dim", "dtype"]).check(format.name())?;
            let stream = raw(options, bytes)?;
            Ok(rows(stream.form().clone(), stream, total, None))
        }
        ImportFormat::Npy => {
            unused.check(format.name())?;
            let stream = npy::rows(bytes, npy::FORMAT)?;
            Ok(rows(stream.form().clone(), stream, total, None))
        }
        ImportFormat::Word2VecBinary => {
            unused.allowing(&["encoding", "duplicates"]).check(format.name())?;
            let stream = BinaryWords::open(bytes, options.encoding)?;
            Ok(rows(stream.form().clone(), stream, total, None))
        }
        ImportFormat::Word2Vec | ImportFormat::Glove => {
            let allowed = ["dim", "encoding", "duplicates"];
            unused.allowing(&allowed).check(format.name())?;
            let (form, stream) = lines(options, format, bytes)?;
            Ok(rows(form, stream, total, None))
        }
        other => {
            let reason =
                format!("{other} is not read from a stream or an archive; give the path of a file");
            Err(Error::NoTable { path: bytes.path().to_path_buf(), reason })
        }
    }
}

fn raw(options: &ImportOptions, bytes: Bytes) -> Result<RawRows> {
    let Some(dim) = options.dim else {
        let reason = "raw binary does not tell the number of columns: give it";
        return Err(Error::InvalidOption { option: "dim", reason: reason.to_owned() });
    };
    let Some(dtype) = options.dtype else {
        let reason = "raw binary does not tell the type of its elements: give it";
        return Err(Error::InvalidOption { option: "dtype", reason: reason.to_owned() });
    };
    if dtype.block_elements() > 1 {
        let reason = format!("raw binary holds plain elements, and {dtype} shares bytes");
        return Err(Error::InvalidOption { option: "dtype", reason });
    }
    check_dim(dim)?;
    RawRows::new(bytes, dtype, dim)
}

fn check_dim(dim: usize) -> Result<()> {
    if (1..=LARGEST_DIM).contains(&dim) {
        return Ok(());
    }
    let reason = format!("{dim} was given, expected 1 to {LARGEST_DIM}");
    Err(Error::InvalidOption { option: "dim", reason })
}

fn lines(
    options: &ImportOptions,
    format: ImportFormat,
    mut bytes: Bytes,
) -> Result<(StreamForm, LineRows)> {
    let dtype = options.text_dtype.unwrap_or(DType::F32);
    if !matches!(dtype, DType::F32 | DType::F64) {
        let reason = format!("the numbers of text are read as f32 or f64, and {dtype} was given");
        return Err(Error::InvalidOption { option: "text_dtype", reason });
    }
    options.dim.map_or(Ok(()), check_dim)?;
    detect::skip_mark(&mut bytes)?;
    let (mut declared, mut line) = (None, 1);
    let dim = if format == ImportFormat::Word2Vec {
        let (vocab, dim) = word2vec::take_header(&mut bytes, word2vec::TEXT)?;
        (declared, line) = (Some(vocab), 2);
        if let Some(asked) = options.dim.filter(|asked| *asked != dim) {
            let reason = format!("{asked} was given, and the file declares {dim} columns");
            return Err(Error::InvalidOption { option: "dim", reason });
        }
        // A space and a digit for each number, and the end of the line.
        word2vec::check_count(&bytes, word2vec::TEXT, vocab, 2 * dim as u64)?;
        dim
    } else {
        match options.dim {
            Some(dim) => dim,
            None => detect::columns_of(&mut bytes)?,
        }
    };
    let form = StreamForm {
        format: format.name(),
        dtype,
        dim,
        rows: declared,
        rows_are_sure: bytes.left().is_some(),
        has_tokens: true,
    };
    let line_form =
        LineForm { dim, dtype, encoding: options.encoding, dim_is_sure: options.dim.is_some() };
    let threads = threads(options.threads, None)?;
    let stream = LineRows::new(bytes, form.format, line_form, line, declared, threads)?;
    Ok((form, stream))
}

#[cfg(feature = "parquet")]
fn columns(options: &ImportOptions, file: StoredFile, kind: Kind) -> Result<SourceKind> {
    use crate::source::{ArrowRows, ColumnNames, ParquetRows};

    let names =
        ColumnNames { vectors: options.column.clone(), tokens: options.token_column.clone() };
    let allowed = ["column", "token_column", "duplicates"];
    let unused = Unused::of(options).allowing(&allowed);
    let is_arrow = match options.format {
        Some(format) => format == ImportFormat::Arrow,
        None => kind != Kind::Parquet,
    };
    if is_arrow {
        unused.check("arrow")?;
        let bytes = Some(file.bytes());
        let stream = ArrowRows::open(file, &names)?;
        let part = Some(stream.column().to_owned());
        return Ok(rows(stream.form().clone(), stream, bytes, part));
    }
    unused.check("parquet")?;
    let stream = ParquetRows::open(file, &names)?;
    let part = Some(stream.column().to_owned());
    Ok(rows(stream.form().clone(), stream, None, part))
}

#[cfg(not(feature = "parquet"))]
#[expect(clippy::needless_pass_by_value, reason = "as where columns are read")]
fn columns(_: &ImportOptions, file: StoredFile, _: Kind) -> Result<SourceKind> {
    let reason = "a Parquet or Arrow file, and this build of embmap reads none; build it with the \
                  feature parquet";
    Err(Error::NoTable { path: file.path().to_path_buf(), reason: reason.to_owned() })
}

fn rows(
    form: StreamForm,
    stream: impl RowStream + 'static,
    bytes: Option<u64>,
    part: Option<String>,
) -> SourceKind {
    let stream = Box::new(stream);
    SourceKind::Rows(Rows {
        form,
        stream,
        bytes,
        part,
        tokenizer: None,
        rules: None,
        are_ids: false,
    })
}

/// Options that were given and that a format may have no use for: what is asked for and not done
/// is an error.
struct Unused(Vec<&'static str>);

impl Unused {
    fn of(options: &ImportOptions) -> Self {
        let given = [
            ("member", options.member.is_some()),
            ("tensor", options.opening.source().tensor.is_some()),
            ("column", options.column.is_some()),
            ("token_column", options.token_column.is_some()),
            ("dim", options.dim.is_some()),
            ("dtype", options.dtype.is_some()),
            ("duplicates", options.duplicates != Duplicates::Error),
            ("encoding", options.encoding != TextEncoding::Utf8),
        ];
        Unused(given.into_iter().filter(|(_, given)| *given).map(|(name, _)| name).collect())
    }

    /// Without those that the format has a use for.
    fn allowing(mut self, names: &[&str]) -> Self {
        self.0.retain(|name| !names.contains(name));
        self
    }

    fn check(self, format: &str) -> Result<()> {
        let Some(option) = self.0.first() else { return Ok(()) };
        // What a table's own opening takes, it has checked itself.
        if *option == "tensor" {
            return Ok(());
        }
        let reason = match *option {
            "duplicates" => format!("the rows of {format} are ids, and none is left out"),
            _ => format!("{format} has no use for it, and it was given"),
        };
        Err(Error::InvalidOption { option, reason })
    }
}
