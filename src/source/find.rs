//! From a path to a table: a file, a model directory, a sharded model.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::checkpoint::{Checkpoint, Sharded, Single};
use super::config::Config;
use super::form::{describe, is_readable};
use super::gguf::GgufFiles;
use super::kind::{HEAD, Kind};
use super::model_dir::{ModelDir, Weights};
use super::names::MODEL2VEC_ROWS;
use super::resolve::{Catalogue, beside_model2vec, resolve};
use super::{FoundTable, SourceOptions, TensorInfo, npy, npz};
use crate::error::{Error, Result};
use crate::storage::StoredFile;

/// Finds the table of a file or a model directory.
pub(crate) fn open(path: &Path, options: &SourceOptions) -> Result<FoundTable> {
    match Model::at(path, options.follow_links)? {
        Model::Single { file, dir } => {
            let path = file.path().to_path_buf();
            let config = || dir.beside(&path, "config.json");
            let found = table(Single::read(file)?, options, config)?;
            with_tokens(found, &dir)
        }
        Model::Sharded(sharded) => {
            let dir = sharded.dir().clone();
            let path = sharded.index_path().to_path_buf();
            let found = table(sharded, options, || dir.beside(&path, "config.json"))?;
            with_tokens(found, &dir)
        }
        Model::Gguf(files) => gguf_table(files, options),
        Model::Npy(file) => {
            refuse_tensor(options, "an .npy file holds one array")?;
            npy::find(file)
        }
        Model::NpyWithTokens { file, dir } => {
            refuse_tensor(options, "an .npy file holds one array")?;
            with_tokens(npy::find(file)?, &dir)
        }
        Model::Npz(file) => npz::find(file, options.tensor.as_deref()),
    }
}

/// Refuses a name where there is but one thing to name.
fn refuse_tensor(options: &SourceOptions, why: &str) -> Result<()> {
    match &options.tensor {
        None => Ok(()),
        Some(name) => Err(Error::InvalidOption {
            option: "tensor",
            reason: format!("{why}, and {name:?} was asked for"),
        }),
    }
}

/// Finds the table of a single file, with nothing around it.
pub(crate) fn from_stored(file: StoredFile, options: &SourceOptions) -> Result<FoundTable> {
    match Kind::of(&head_of(&file)?, "") {
        // Tokens are read from a path, and bytes have none.
        Kind::Gguf => {
            Ok(FoundTable { tokens: None, ..gguf_table(GgufFiles::alone(file)?, options)? })
        }
        Kind::Npy => npy::find(file),
        Kind::Zip => npz::find(file, options.tensor.as_deref()),
        _ => table(Single::read(file)?, options, || Ok(None)),
    }
}

/// The table that a checkpoint's tensors are. `config` gives the path of its `config.json`,
/// and is asked where names do not settle something.
fn table<C: Checkpoint>(
    checkpoint: C,
    options: &SourceOptions,
    config: impl Fn() -> Result<Option<PathBuf>>,
) -> Result<FoundTable> {
    let read_config = || config()?.map_or(Ok(Config::default()), |path| Config::read(&path));
    let mapped_rows = || {
        let is_mapped = |name: &&str| !beside_model2vec(&checkpoint, name).is_empty();
        MODEL2VEC_ROWS.into_iter().find(is_mapped).filter(|_| options.static_model)
    };
    let asked = options.tensor.as_deref().or_else(mapped_rows);
    let values = resolve(&checkpoint, asked, read_config)?;
    // The raw rows of a mapped table are found through the mapping alone.
    let mapped = beside_model2vec(&checkpoint, &values.shown).contains(&"mapping");
    let found = describe(checkpoint, &values, options, config)?;
    Ok(FoundTable { rows_are_tokens: found.rows_are_tokens && !mapped, ..found })
}

fn gguf_table(mut files: GgufFiles, options: &SourceOptions) -> Result<FoundTable> {
    let tokens = files.tokens.take();
    let mut found = table(files, options, || Ok(None))?;
    if found.rows_are_tokens {
        found.tokens = tokens;
    }
    Ok(found)
}

/// Lists the tensors of a file or a model directory. Opens every shard.
pub(crate) fn list_tensors(path: &Path, follow_links: bool) -> Result<Vec<TensorInfo>> {
    match Model::at(path, follow_links)? {
        Model::Single { file, dir } => {
            let path = file.path().to_path_buf();
            list(&Single::read(file)?, || config(&dir, &path))
        }
        Model::Sharded(sharded) => list(&sharded, || config(sharded.dir(), sharded.index_path())),
        Model::Gguf(files) => list(&files, || Ok(Config::default())),
        Model::Npz(file) => npz::list(&file),
        Model::Npy(file) | Model::NpyWithTokens { file, .. } => Err(Error::NoTable {
            path: file.path().to_path_buf(),
            reason: "an .npy file holds one array, and no tensors with names".to_owned(),
        }),
    }
}

fn list<C: Catalogue>(
    catalogue: &C,
    config: impl FnOnce() -> Result<Config>,
) -> Result<Vec<TensorInfo>> {
    // A list is asked for most of all where no tensor could be picked.
    let picked = resolve(catalogue, None, config).map(|pick| pick.names).unwrap_or_default();
    let picked: HashSet<&str> = picked.iter().map(String::as_str).collect();
    let mut list = Vec::new();
    catalogue.visit(&mut |file, tensor| {
        list.push(TensorInfo {
            name: tensor.name.to_owned(),
            dtype: tensor.dtype.to_owned(),
            shape: tensor.shape.dims().collect(),
            bytes: tensor.bytes,
            file: file.to_path_buf(),
            picked: picked.contains(tensor.name),
            candidate: is_readable(tensor),
        });
    })?;
    Ok(list)
}

/// What a path is.
pub(super) enum Model {
    Single {
        file: StoredFile,
        dir: ModelDir,
    },
    Sharded(Sharded),
    Gguf(GgufFiles),
    Npy(StoredFile),
    /// An array in a model directory, which has the tokens beside it.
    NpyWithTokens {
        file: StoredFile,
        dir: ModelDir,
    },
    Npz(StoredFile),
}

impl Model {
    pub(super) fn at(path: &Path, follow_links: bool) -> Result<Self> {
        let status = fs::metadata(path).map_err(|source| Error::io("open", path, source))?;
        if status.is_dir() {
            let dir = ModelDir::new(path, follow_links)?;
            return match dir.weights()? {
                Weights::Single(file) => Ok(Model::Single { file: StoredFile::open(&file)?, dir }),
                Weights::Sharded(index) => Sharded::read(dir, index).map(Model::Sharded),
                Weights::Gguf(file) => {
                    GgufFiles::open(StoredFile::open(&file)?, &dir).map(Model::Gguf)
                }
                Weights::Npy(file) => {
                    Ok(Model::NpyWithTokens { file: StoredFile::open(&file)?, dir })
                }
            };
        }
        let file = StoredFile::open(path)?;
        let dir = ModelDir::new(path.parent().unwrap_or(Path::new("")), follow_links)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        if name.ends_with(".safetensors.index.json") {
            return Sharded::read(dir, path.to_path_buf()).map(Model::Sharded);
        }
        match Kind::of(&head_of(&file)?, &name) {
            Kind::Gguf => GgufFiles::open(file, &dir).map(Model::Gguf),
            Kind::Npy => Ok(Model::Npy(file)),
            Kind::Zip => Ok(Model::Npz(file)),
            Kind::Safetensors => Ok(Model::Single { file, dir }),
            Kind::Emb => Err(Error::NoTable {
                path: file.path().to_path_buf(),
                reason: "an .emb file, which has no tensors".to_owned(),
            }),
            other => Err(Error::NoTable {
                path: file.path().to_path_buf(),
                reason: other.refusal().unwrap_or_else(|| UNKNOWN.to_owned()),
            }),
        }
    }
}

/// What is said of a file of no known kind.
const UNKNOWN: &str = "expected a safetensors, GGUF, npy or npz file or a model directory; its first bytes are those of none";

/// The first bytes of a file, which show what it is.
fn head_of(file: &StoredFile) -> Result<Cow<'_, [u8]>> {
    file.bytes_at(0, file.bytes().min(HEAD))
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
    if let Some(file) = found.files.first().filter(|_| found.rows_are_tokens) {
        found.tokenizer = dir.beside(file.path(), "tokenizer.json")?;
        found.tokens = match &found.tokenizer {
            Some(tokenizer) => Some(tokenizer.clone()),
            None => dir.beside(file.path(), "vocab.txt")?,
        };
    }
    Ok(found)
}
