//! From a path to a table: a file, a model directory, a sharded model.

use std::fs;
use std::path::{Path, PathBuf};

use super::config::Config;
use super::form::{describe, is_readable};
use super::json::shortened;
use super::model_dir::{LATER, ModelDir, PICKLE, Weights};
use super::resolve::{Catalogue, resolve};
use super::safetensors::{self, looks_like};
use super::shard_index::{FORMAT as INDEX, ShardIndex};
use super::tensors::{Tensor, TensorList};
use super::{FoundTable, SourceOptions, TensorInfo};
use crate::error::{Error, Place, Result};
use crate::storage::StoredFile;

/// Finds the table of a file or a model directory.
pub(crate) fn open(path: &Path, options: &SourceOptions) -> Result<FoundTable> {
    let asked = options.tensor.as_deref();
    match Model::at(path, options.follow_links)? {
        Model::Single { file, dir } => {
            let catalogue =
                Single { header: safetensors::read(&file)?, path: file.path().to_path_buf() };
            let name = resolve(&catalogue, asked, || config(&dir, file.path()))?;
            let found = catalogue.describe(file, &name)?;
            with_tokens(found, &dir)
        }
        Model::Sharded(sharded) => {
            let name = resolve(&sharded, asked, || config(&sharded.dir, &sharded.index_path))?;
            let found = sharded.describe(&name)?;
            with_tokens(found, &sharded.dir)
        }
    }
}

/// Finds the table of a single file, with nothing around it.
pub(crate) fn from_stored(file: StoredFile, options: &SourceOptions) -> Result<FoundTable> {
    let catalogue = Single { header: safetensors::read(&file)?, path: file.path().to_path_buf() };
    let name = resolve(&catalogue, options.tensor.as_deref(), || Ok(Config::default()))?;
    catalogue.describe(file, &name)
}

/// Lists the tensors of a file or a model directory. Opens every shard.
pub(crate) fn list_tensors(path: &Path, follow_links: bool) -> Result<Vec<TensorInfo>> {
    match Model::at(path, follow_links)? {
        Model::Single { file, dir } => {
            let catalogue =
                Single { header: safetensors::read(&file)?, path: file.path().to_path_buf() };
            list(&catalogue, || config(&dir, file.path()))
        }
        Model::Sharded(sharded) => list(&sharded, || config(&sharded.dir, &sharded.index_path)),
    }
}

fn list<C: Catalogue>(
    catalogue: &C,
    config: impl FnOnce() -> Result<Config>,
) -> Result<Vec<TensorInfo>> {
    // A list is asked for most of all where no tensor could be picked.
    let picked = resolve(catalogue, None, config).ok();
    let mut list = Vec::new();
    catalogue.visit(&mut |file, tensor| {
        list.push(TensorInfo {
            name: tensor.name.to_owned(),
            dtype: tensor.dtype.to_owned(),
            shape: tensor.shape.dims().collect(),
            bytes: tensor.bytes,
            file: file.to_path_buf(),
            picked: picked.as_deref() == Some(tensor.name),
            candidate: is_readable(tensor),
        });
    })?;
    Ok(list)
}

/// What a path is.
enum Model {
    Single { file: StoredFile, dir: ModelDir },
    Sharded(Sharded),
}

impl Model {
    fn at(path: &Path, follow_links: bool) -> Result<Self> {
        let status = fs::metadata(path).map_err(|source| Error::io("open", path, source))?;
        if status.is_dir() {
            let dir = ModelDir::new(path, follow_links)?;
            return match dir.weights()? {
                Weights::Single(file) => Ok(Model::Single { file: StoredFile::open(&file)?, dir }),
                Weights::Sharded(index) => Sharded::read(dir, index).map(Model::Sharded),
            };
        }
        let file = StoredFile::open(path)?;
        let dir = ModelDir::new(path.parent().unwrap_or(Path::new("")), follow_links)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        if name.ends_with(".safetensors.index.json") {
            return Sharded::read(dir, path.to_path_buf()).map(Model::Sharded);
        }
        check_kind(&file, &name)?;
        Ok(Model::Single { file, dir })
    }
}

/// Refuses a file of another kind with the way out; a broken safetensors file passes, and
/// its header says more.
fn check_kind(file: &StoredFile, name: &str) -> Result<()> {
    const HEAD: u64 = 9;
    let head = file.bytes_at(0, file.bytes().min(HEAD))?;
    let has_extension = |wanted: &[&str]| wanted.iter().any(|end| name.ends_with(end));
    if looks_like(&head) || has_extension(&[".safetensors"]) {
        return Ok(());
    }
    let is_pickle = matches!(*head, [0x80, 2..=5, ..])
        || has_extension(&[".bin", ".pt", ".pth", ".ckpt", ".pkl"]);
    let is_later = head.starts_with(b"GGUF")
        || head.starts_with(b"\x93NUMPY")
        || has_extension(&[".gguf", ".npy", ".npz"]);
    let reason = if is_later {
        format!("a format {LATER}")
    } else if is_pickle {
        format!("a pickle by its name or first bytes; {PICKLE}")
    } else {
        "expected a safetensors file or a model directory; its first bytes are those of neither"
            .to_owned()
    };
    Err(Error::NoTable { path: file.path().to_path_buf(), reason })
}

/// What the config.json beside the weights says, if there is one.
fn config(dir: &ModelDir, weights: &Path) -> Result<Config> {
    match dir.beside(weights, "config.json")? {
        Some(path) => Config::read(&path),
        None => Ok(Config::default()),
    }
}

/// Adds where the tokens and the tokenizer are.
fn with_tokens(mut found: FoundTable, dir: &ModelDir) -> Result<FoundTable> {
    if let Some(file) = found.files.first() {
        found.tokenizer = dir.beside(file.path(), "tokenizer.json")?;
        found.tokens = match &found.tokenizer {
            Some(tokenizer) => Some(tokenizer.clone()),
            None => dir.beside(file.path(), "vocab.txt")?,
        };
    }
    Ok(found)
}

/// The tensors of one file.
struct Single {
    header: TensorList,
    path: PathBuf,
}

impl Single {
    fn describe(&self, file: StoredFile, name: &str) -> Result<FoundTable> {
        let tensor = self.header.find(name).ok_or_else(|| absent(&self.path, name))?;
        describe(file, tensor, |other| self.has(other))
    }
}

impl Catalogue for Single {
    fn path(&self) -> &Path {
        &self.path
    }

    fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.header.tensors().map(|tensor| tensor.name)
    }

    fn has(&self, name: &str) -> bool {
        self.header.find(name).is_some()
    }

    fn visit(&self, visit: &mut dyn FnMut(&Path, Tensor<'_>)) -> Result<()> {
        self.header.tensors().for_each(|tensor| visit(&self.path, tensor));
        Ok(())
    }
}

/// The tensors of a sharded model: their names from the index, the rest from the shards.
struct Sharded {
    index: ShardIndex,
    index_path: PathBuf,
    dir: ModelDir,
}

impl Sharded {
    fn read(dir: ModelDir, index_path: PathBuf) -> Result<Self> {
        Ok(Sharded { index: ShardIndex::read(&index_path)?, index_path, dir })
    }

    /// Opens the one shard that the index names for a tensor.
    fn describe(&self, name: &str) -> Result<FoundTable> {
        let shard = self.index.shard_of(name).ok_or_else(|| absent(self.path(), name))?;
        let file = StoredFile::open(&self.dir.shard(shard)?)?;
        let header = safetensors::read(&file)?;
        let Some(tensor) = header.find(name) else {
            return Err(Error::Foreign {
                path: self.index_path.clone(),
                format: INDEX,
                place: Place::Name(shortened(name)),
                reason: format!(
                    "the index places this tensor in {shard:?}, which does not hold it: the files are not of one model"
                ),
            });
        };
        describe(file, tensor, |other| self.has(other))
    }
}

impl Catalogue for Sharded {
    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.index.names()
    }

    /// Visits each tensor in the shard that the index places it in, and nowhere else.
    fn visit(&self, visit: &mut dyn FnMut(&Path, Tensor<'_>)) -> Result<()> {
        for (i, shard) in self.index.shards().iter().enumerate() {
            let path = self.dir.shard(shard)?;
            let header = safetensors::read(&StoredFile::open(&path)?)?;
            self.index
                .tensors_of(i)
                .filter_map(|name| header.find(name))
                .for_each(|tensor| visit(&path, tensor));
        }
        Ok(())
    }
}

fn absent(path: &Path, name: &str) -> Error {
    Error::Tensor {
        path: path.to_path_buf(),
        reason: format!("no tensor is named {name:?}"),
        candidates: Vec::new(),
    }
}
