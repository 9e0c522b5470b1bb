//! Tables of model2vec whose vocabulary is quantized: a token's row is
//! `embeddings[mapping[id]] * weights[id]`, where each of the two may be absent. The package's own
//! `StaticModel` (0.10) decides what that means.

use std::path::{Path, PathBuf};

use super::checkpoint::{Checkpoint, Fetched, Single};
use super::find::Model;
use super::names::MODEL2VEC_ROWS;
use super::resolve::{Catalogue, beside_model2vec};
use super::tensors::Placed;
use crate::codec::{Codec, Decoder, Encoding, Kernels, RowParts};
use crate::dtype::DType;
use crate::error::{Error, Place, Result};
use crate::storage::StoredFile;

/// The format's name.
pub(crate) const FORMAT: &str = "model2vec";

/// What the rows of tokens are made of.
pub(crate) struct Mapped {
    /// The name of the tensor of raw rows.
    pub(crate) tensor: &'static str,
    /// The file of all tensors.
    pub(crate) file: StoredFile,
    /// The raw row of each token; its own where there is none.
    pub(crate) mapping: Option<Numbers>,
    /// What each token's row is multiplied by.
    pub(crate) weights: Option<Numbers>,
    #[cfg_attr(not(feature = "import"), allow(dead_code, reason = "of conversions alone"))]
    pub(crate) tokens: Option<PathBuf>,
    pub(crate) tokenizer: Option<PathBuf>,
}

/// A tensor of one dimension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Numbers {
    pub(crate) name: String,
    pub(crate) dtype: &'static str,
    pub(crate) count: u64,
    /// Where they start in the file, and the bytes of one.
    offset: u64,
    width: u64,
}

impl Numbers {
    fn of(tensor: &Placed, expected: &[&str], path: &Path) -> Result<Self> {
        let refuse = |reason| Error::TensorForm {
            path: path.to_path_buf(),
            tensor: tensor.name.clone(),
            reason,
        };
        let mut dims = tensor.shape().dims();
        let (Some(count), None) = (dims.next(), dims.next()) else {
            return Err(refuse(format!(
                "has the shape {}, expected one number for each token",
                tensor.shape()
            )));
        };
        if !expected.contains(&tensor.dtype) {
            let expected = expected.join(", ");
            return Err(refuse(format!("is {}, expected one of {expected}", tensor.dtype)));
        }
        let width = tensor.bytes.checked_div(count).unwrap_or(0);
        let Placed { name, dtype, offset, .. } = tensor.clone();
        Ok(Numbers { name, dtype, count, offset, width })
    }

    /// The bytes of the numbers from `first` on, which there are.
    fn read(&self, file: &StoredFile, first: u64, count: u64) -> Result<Vec<u8>> {
        let bytes = file.bytes_at(self.offset + first * self.width, count * self.width)?;
        Ok(bytes.into_owned())
    }

    /// The numbers as ids; `None` for a negative one.
    fn ids(&self, file: &StoredFile, first: u64, count: u64) -> Result<Vec<Option<u64>>> {
        let bytes = self.read(file, first, count)?;
        let width = usize::try_from(self.width).unwrap_or(usize::MAX).max(1);
        let signed = self.dtype.starts_with('i');
        Ok(bytes.chunks_exact(width).map(|bytes| index_of(bytes, signed)).collect())
    }

    /// The numbers as they are.
    fn floats(&self, file: &StoredFile, first: u64, count: u64) -> Result<Vec<f64>> {
        let bytes = self.read(file, first, count)?;
        let plain = Encoding { dtype: self.float(), codec: Codec::Plain };
        let mut numbers = vec![0f64; usize::try_from(count).unwrap_or(usize::MAX)];
        let decoder = Decoder::<f64>::of(plain, Kernels::of_process());
        decoder.decode(RowParts::of(&bytes), &mut numbers);
        Ok(numbers)
    }

    /// The type of the weights as the codecs know it.
    pub(crate) fn float(&self) -> DType {
        self.dtype.parse().unwrap_or(DType::F32)
    }
}

/// A number of a mapping; `None` where it is negative.
fn index_of(bytes: &[u8], signed: bool) -> Option<u64> {
    let negative = signed && bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let value = bytes.iter().rev().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
    (!negative).then_some(value)
}

impl Mapped {
    /// The number of tokens, where the table of raw rows has `rows` of them.
    pub(crate) fn tokens(&self, rows: u64) -> Result<u64> {
        let numbers = self.mapping.as_ref().or(self.weights.as_ref());
        let tokens = numbers.map_or(rows, |numbers| numbers.count);
        if self.mapping.is_some() || tokens == rows {
            return Ok(tokens);
        }
        Err(Error::TensorForm {
            path: self.file.path().to_path_buf(),
            tensor: "weights".to_owned(),
            reason: format!("holds {tokens} numbers, expected {rows}, one for each row"),
        })
    }

    /// The raw rows, below `rows`, of the tokens from `first` on.
    pub(crate) fn rows_of(&self, first: u64, count: u64, rows: u64) -> Result<Vec<u64>> {
        let Some(mapping) = &self.mapping else { return Ok((first..first + count).collect()) };
        let ids = mapping.ids(&self.file, first, count)?;
        let checked = (first..).zip(ids).map(|(token, id)| {
            id.filter(|id| *id < rows).ok_or_else(|| Error::Foreign {
                path: self.file.path().to_path_buf(),
                format: FORMAT,
                place: Place::Row(token),
                reason: format!(
                    "the mapping leads to no row, expected one of {} below {rows}",
                    self.tensor
                ),
            })
        });
        checked.collect()
    }

    /// What the rows of the tokens from `first` on are multiplied by; `None` where by nothing.
    pub(crate) fn factors(&self, first: u64, count: u64) -> Result<Option<Vec<f64>>> {
        self.weights.as_ref().map(|weights| weights.floats(&self.file, first, count)).transpose()
    }
}

/// The parts of a table of model2vec; `None` where the path is another one, or its rows are
/// those of tokens as they are.
pub(crate) fn find_mapped(path: &Path, follow_links: bool) -> Result<Option<Mapped>> {
    let Model::Single { file, dir } = Model::at(path, follow_links)? else { return Ok(None) };
    let checkpoint = Single::read(file)?;
    let found = MODEL2VEC_ROWS.into_iter().find(|name| checkpoint.has(name));
    let Some(tensor) = found else { return Ok(None) };
    let beside = beside_model2vec(&checkpoint, tensor);
    if beside.is_empty() {
        return Ok(None);
    }
    let Fetched { files, tensors } = checkpoint.fetch(&beside)?;
    let Some(file) = files.into_iter().next() else { return Ok(None) };
    let numbers = |name, expected: &[&str]| {
        let tensor = tensors.iter().find(|tensor| tensor.name == name);
        tensor.map(|tensor| Numbers::of(tensor, expected, file.path())).transpose()
    };
    let mapping = numbers("mapping", &["i32", "i64", "u32", "u64", "i16", "u16"])?;
    let weights = numbers("weights", &["f32", "f64", "f16", "bf16"])?;
    if let (Some(mapping), Some(weights)) = (&mapping, &weights)
        && mapping.count != weights.count
    {
        return Err(Error::TensorForm {
            path: file.path().to_path_buf(),
            tensor: weights.name.clone(),
            reason: format!(
                "holds {} numbers, expected {}, one for each token of the mapping",
                weights.count, mapping.count
            ),
        });
    }
    let tokenizer = dir.beside(file.path(), "tokenizer.json")?;
    let tokens = match &tokenizer {
        Some(tokenizer) => Some(tokenizer.clone()),
        None => dir.beside(file.path(), "vocab.txt")?,
    };
    Ok(Some(Mapped { tensor, file, mapping, weights, tokens, tokenizer }))
}
