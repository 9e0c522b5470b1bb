//! From a path to a table: a file, a model directory, a sharded model.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::checkpoint::{Checkpoint, Sharded, Single};
use super::config::Config;
use super::form::{describe, is_readable};
use super::gguf::{self, GgufFiles};
use super::model_dir::{LATER, ModelDir, PICKLE, Weights};
use super::resolve::{Catalogue, resolve};
use super::safetensors::looks_like;
use super::{FoundTable, SourceOptions, TensorInfo};
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
    }
}

/// Finds the table of a single file, with nothing around it.
pub(crate) fn from_stored(file: StoredFile, options: &SourceOptions) -> Result<FoundTable> {
    if gguf::looks_like(&head_of(&file)?) {
        return gguf_table(GgufFiles::alone(file)?, options);
    }
    table(Single::read(file)?, options, || Ok(None))
}

/// The table that a checkpoint's tensors are. `config` gives the path of its `config.json`,
/// and is asked where names do not settle something.
fn table<C: Checkpoint>(
    checkpoint: C,
    options: &SourceOptions,
    config: impl Fn() -> Result<Option<PathBuf>>,
) -> Result<FoundTable> {
    let read_config = || config()?.map_or(Ok(Config::default()), |path| Config::read(&path));
    let values = resolve(&checkpoint, options.tensor.as_deref(), read_config)?;
    describe(checkpoint, &values, options, config)
}

fn gguf_table(mut files: GgufFiles, options: &SourceOptions) -> Result<FoundTable> {
    let tokens = files.tokens.take();
    let mut found = table(files, options, || Ok(None))?;
    if found.pieces == 1 {
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
enum Model {
    Single { file: StoredFile, dir: ModelDir },
    Sharded(Sharded),
    Gguf(GgufFiles),
}

impl Model {
    fn at(path: &Path, follow_links: bool) -> Result<Self> {
        let status = fs::metadata(path).map_err(|source| Error::io("open", path, source))?;
        if status.is_dir() {
            let dir = ModelDir::new(path, follow_links)?;
            return match dir.weights()? {
                Weights::Single(file) => Ok(Model::Single { file: StoredFile::open(&file)?, dir }),
                Weights::Sharded(index) => Sharded::read(dir, index).map(Model::Sharded),
                Weights::Gguf(file) => {
                    GgufFiles::open(StoredFile::open(&file)?, &dir).map(Model::Gguf)
                }
            };
        }
        let file = StoredFile::open(path)?;
        let dir = ModelDir::new(path.parent().unwrap_or(Path::new("")), follow_links)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        if name.ends_with(".safetensors.index.json") {
            return Sharded::read(dir, path.to_path_buf()).map(Model::Sharded);
        }
        if gguf::looks_like(&head_of(&file)?) {
            return GgufFiles::open(file, &dir).map(Model::Gguf);
        }
        check_kind(&file, &name)?;
        Ok(Model::Single { file, dir })
    }
}

/// The first bytes of a file, which show what it is.
fn head_of(file: &StoredFile) -> Result<Cow<'_, [u8]>> {
    const HEAD: u64 = 9;
    file.bytes_at(0, file.bytes().min(HEAD))
}

/// Refuses a file of another kind with the way out; a broken safetensors file passes, and
/// its header says more.
fn check_kind(file: &StoredFile, name: &str) -> Result<()> {
    let head = head_of(file)?;
    let has_extension = |wanted: &[&str]| wanted.iter().any(|end| name.ends_with(end));
    if looks_like(&head) || has_extension(&[".safetensors"]) {
        return Ok(());
    }
    let is_pickle = matches!(*head, [0x80, 2..=5, ..])
        || has_extension(&[".bin", ".pt", ".pth", ".ckpt", ".pkl"]);
    let is_later = head.starts_with(b"\x93NUMPY") || has_extension(&[".npy", ".npz"]);
    let reason = if is_later {
        format!("a format {LATER}")
    } else if is_pickle {
        format!("a pickle by its name or first bytes; {PICKLE}")
    } else {
        "expected a safetensors or GGUF file or a model directory; its first bytes are those of neither"
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
    // The rows of a table in pieces are not those of tokens.
    if let Some(file) = found.files.first().filter(|_| found.pieces == 1) {
        found.tokenizer = dir.beside(file.path(), "tokenizer.json")?;
        found.tokens = match &found.tokenizer {
            Some(tokenizer) => Some(tokenizer.clone()),
            None => dir.beside(file.path(), "vocab.txt")?,
        };
    }
    Ok(found)
}
