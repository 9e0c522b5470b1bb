//! Tables of model2vec whose vocabulary is quantized: a token's row is
//! `embeddings[mapping[id]] * weights[id]`, where each of the two may be absent. The package's own
//! `StaticModel` (0.10) decides what that means.

use std::path::{Path, PathBuf};

use super::checkpoint::{Checkpoint, Fetched, Single};
use super::find::Model;
use super::names::MODEL2VEC_ROWS;
use super::resolve::{Catalogue, beside_model2vec};
use super::tensors::Placed;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::storage::StoredFile;

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
    pub(crate) fn read(&self, file: &StoredFile, first: u64, count: u64) -> Result<Vec<u8>> {
        let bytes = file.bytes_at(self.offset + first * self.width, count * self.width)?;
        Ok(bytes.into_owned())
    }

    /// The type of the weights as the codecs know it.
    pub(crate) fn float(&self) -> DType {
        self.dtype.parse().unwrap_or(DType::F32)
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
