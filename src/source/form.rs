//! From tensors to a table: are they one, and where do its rows lie.

use std::path::{Path, PathBuf};

use super::beside::{self, Beside, Kind};
use super::checkpoint::{Checkpoint, Fetched};
use super::json::shortened;
use super::resolve::Pick;
use super::scaled::{self, Encoded, Found};
use super::tensors::{Placed, Shape, Tensor};
use super::{FoundTable, SourceOptions};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::layout::{Extent, Layout, Part, Plane};
use crate::storage::StoredFile;

/// What to do where a tensor is no table.
pub(super) const WAY_OUT: &str =
    "choose another with --tensor (`OpenOptions::tensor`); `embmap info PATH --tensors` lists them";

/// True for a tensor that can be opened as a table.
pub(super) fn is_readable(tensor: Tensor<'_>) -> bool {
    tensor.dtype.parse::<DType>().is_ok() && tensor.shape.matrix().is_some_and(|(_, dim)| dim > 0)
}

/// The table that picked tensors of a checkpoint are.
pub(super) fn describe<C: Checkpoint>(
    checkpoint: C,
    values: &Pick,
    options: &SourceOptions,
    config: impl Fn() -> Result<Option<PathBuf>>,
) -> Result<FoundTable> {
    let format = checkpoint.format();
    let [scales, biases] = [
        beside::find(&checkpoint, values, Kind::Scales, options.scales.as_deref())?,
        beside::find(&checkpoint, values, Kind::Biases, options.biases.as_deref())?,
    ]
    .map(|beside| beside.with_forms(&checkpoint));
    let all = [&values.names[..], scales.names(), biases.names()];
    let names: Vec<&str> = all.iter().flat_map(|names| names.iter().map(String::as_str)).collect();
    let Fetched { files, tensors } = checkpoint.fetch(&names)?;
    let (pieces, tensors) = tensors.split_at(values.names.len());
    let (scale_tensors, bias_tensors) = tensors.split_at(scales.names().len());

    let rows = Rows::of(pieces, &files)?;
    let found = Found {
        scales: &scales,
        scale_tensors,
        biases: &biases,
        bias_tensors,
        asked: options.scales.is_some() || options.biases.is_some(),
    };
    let encoded = scaled::encoded(&rows, &found, config)?;
    let Encoded { dtype, codec, dim, .. } = encoded;
    let value_bytes = codec.value_bytes(dtype, dim).ok_or_else(|| rows.too_large())?;
    let plane = rows.plane(value_bytes)?;
    let dim = usize::try_from(dim).map_err(|_| rows.too_large())?;
    let mut layout = Layout::of_values(rows.vocab, dim, plane).ok_or_else(|| rows.too_large())?;
    let shown = |part: &Part, beside: &Beside| match (part, beside) {
        (Part::Absent, _) | (_, Beside::Nothing | Beside::Unclear(_)) => None,
        (_, Beside::Tensors(pick)) => Some(pick.shown.clone()),
    };
    let (scales, biases) = (shown(&encoded.scales, &scales), shown(&encoded.biases, &biases));
    layout.scales = encoded.scales;
    layout.biases = encoded.biases;
    Ok(FoundTable {
        format,
        files,
        tensor: Some(values.shown.clone()),
        pieces: values.names.len(),
        scales,
        biases,
        dtype,
        codec,
        layout,
        // The pieces of a table are no vocabulary.
        rows_are_tokens: values.names.len() == 1,
        tokens: None,
        tokenizer: None,
    })
}

/// The tensors of values, which agree with each other.
pub(super) struct Rows<'a> {
    pieces: &'a [Placed],
    files: &'a [StoredFile],
    pub(super) dtype: &'static str,
    pub(super) vocab: u64,
    /// The number of columns, which for packed values is less than that of elements.
    pub(super) dim: u64,
}

impl<'a> Rows<'a> {
    fn of(pieces: &'a [Placed], files: &'a [StoredFile]) -> Result<Self> {
        let mut rows = Rows { pieces, files, dtype: "", vocab: 0, dim: 0 };
        for piece in pieces {
            let Some((vocab, dim)) = piece.shape().matrix() else {
                return Err(rows.refuse(
                    piece,
                    format!(
                        "has the shape {} of {}, expected two dimensions: rows and columns; {WAY_OUT}",
                        piece.shape(),
                        piece.dtype
                    ),
                ));
            };
            if dim == 0 {
                return Err(rows.refuse(
                    piece,
                    format!(
                        "has the shape {}, expected rows of at least one element; {WAY_OUT}",
                        piece.shape()
                    ),
                ));
            }
            if rows.dtype.is_empty() {
                (rows.dtype, rows.dim) = (piece.dtype, dim);
            }
            if (rows.dtype, rows.dim) != (piece.dtype, dim) {
                return Err(rows.refuse(
                    piece,
                    format!(
                        "has the shape {} and the type {}, expected rows of {} {} as in the pieces before it",
                        piece.shape(),
                        piece.dtype,
                        rows.dim,
                        rows.dtype
                    ),
                ));
            }
            rows.vocab = rows.vocab.checked_add(vocab).ok_or_else(|| rows.too_large())?;
        }
        Ok(rows)
    }

    /// The plane of the values, whose rows take `row_bytes` each.
    fn plane(&self, row_bytes: u64) -> Result<Plane> {
        let mut first = 0;
        let mut extents = Vec::with_capacity(self.pieces.len());
        for piece in self.pieces {
            let rows = piece.shape().matrix().map_or(0, |(rows, _)| rows);
            extents.push(Extent { first, rows, file: piece.file, offset: piece.offset });
            first += rows;
        }
        Plane::new(row_bytes, row_bytes, extents, &self.file_bytes())
            .ok_or_else(|| self.too_large())
    }

    /// The rows that the tensor at a place of `count` belongs to: those of a piece, or all.
    pub(super) fn rows_of(&self, place: usize, count: usize) -> u64 {
        match self.pieces.get(place) {
            Some(piece) if count == self.pieces.len() => {
                piece.shape().matrix().map_or(0, |(rows, _)| rows)
            }
            _ => self.vocab,
        }
    }

    /// The shape of the values, for errors; of the first where there are several.
    pub(super) fn shape(&self) -> Shape<'_> {
        self.pieces.first().map_or(Shape(""), Placed::shape)
    }

    /// Name, shape and dtype of the values, for errors; of the first where there are several.
    pub(super) fn shown(&self) -> String {
        self.pieces.first().map(Placed::shown).unwrap_or_default()
    }

    /// The name of the first of the values without `.weight`.
    pub(super) fn module(&self) -> &str {
        let name = self.pieces.first().map_or("", |piece| piece.name.as_str());
        name.strip_suffix(".weight").unwrap_or(name)
    }

    /// The file that holds a tensor.
    pub(super) fn file(&self, tensor: &Placed) -> &StoredFile {
        &self.files[tensor.file]
    }

    /// The lengths of all files.
    pub(super) fn file_bytes(&self) -> Vec<u64> {
        self.files.iter().map(StoredFile::bytes).collect()
    }

    pub(super) fn refuse(&self, piece: &Placed, reason: String) -> Error {
        let path = self.files.get(piece.file).map_or(Path::new(""), StoredFile::path);
        form_error(path, &piece.name, reason)
    }

    /// An error about the first of the values.
    pub(super) fn refuse_all(&self, reason: String) -> Error {
        match self.pieces.first() {
            Some(piece) => self.refuse(piece, reason),
            None => form_error(Path::new(""), "", reason),
        }
    }

    pub(super) fn too_large(&self) -> Error {
        let shape = self.pieces.first().map(|piece| piece.shape().to_string()).unwrap_or_default();
        self.refuse_all(format!(
            "has the shape {shape} of {}, too large to describe: its size overflows 64 bits; {WAY_OUT}",
            self.dtype
        ))
    }

    /// Why values of a type that is not read are no table.
    pub(super) fn unreadable(&self, beside: &[Placed]) -> Error {
        let readable = DType::ALL.map(DType::name).join(", ");
        let shown: Vec<String> = beside.iter().take(4).map(Placed::shown).collect();
        let packed = match (shown.is_empty(), beside.len() > shown.len()) {
            (true, _) => String::new(),
            (false, more) => {
                let more = if more { ", ..." } else { "" };
                format!(", quantized with {}{more}", shown.join(", "))
            }
        };
        self.refuse_all(format!(
            "has the shape {} of {}{packed}, expected one of {readable}; save it as one of these",
            self.shape(),
            self.dtype
        ))
    }
}

fn form_error(path: &Path, tensor: &str, reason: String) -> Error {
    Error::TensorForm { path: path.to_path_buf(), tensor: shortened(tensor), reason }
}
