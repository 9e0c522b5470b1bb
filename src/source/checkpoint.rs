//! What holds the tensors of a model: one file, shards with an index, the parts of a GGUF model.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::gguf::{FORMAT as GGUF, GgufFiles};
use super::json::shortened;
use super::model_dir::ModelDir;
use super::resolve::Catalogue;
use super::safetensors::{self, FORMAT as SAFETENSORS};
use super::shard_index::{FORMAT as INDEX, ShardIndex};
use super::tensors::{Placed, Tensor, TensorList};
use crate::error::{Error, Place, Result};
use crate::storage::StoredFile;

/// Tensors, and the files that hold them: each is open once.
pub(super) struct Fetched {
    pub(super) files: Vec<StoredFile>,
    /// In the order in which they were asked for.
    pub(super) tensors: Vec<Placed>,
}

/// A catalogue whose tensors can be had.
pub(super) trait Checkpoint: Catalogue {
    /// The format's name as `info` shows it.
    fn format(&self) -> &'static str;

    /// Opens the files that hold these tensors, and no others.
    fn fetch(self, names: &[&str]) -> Result<Fetched>;
}

/// The tensors of one file.
pub(super) struct Single {
    tensors: TensorList,
    file: StoredFile,
}

impl Single {
    pub(super) fn read(file: StoredFile) -> Result<Self> {
        Ok(Single { tensors: safetensors::read(&file)?, file })
    }
}

impl Catalogue for Single {
    fn path(&self) -> &Path {
        self.file.path()
    }

    fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.tensors.tensors().map(|tensor| tensor.name)
    }

    fn has(&self, name: &str) -> bool {
        self.tensors.find(name).is_some()
    }

    fn visit(&self, visit: &mut dyn FnMut(&Path, Tensor<'_>)) -> Result<()> {
        self.tensors.tensors().for_each(|tensor| visit(self.file.path(), tensor));
        Ok(())
    }
}

impl Checkpoint for Single {
    fn format(&self) -> &'static str {
        SAFETENSORS
    }

    fn fetch(self, names: &[&str]) -> Result<Fetched> {
        let placed = |name: &&str| match self.tensors.find(name) {
            Some(tensor) => Ok(Placed::of(tensor, 0)),
            None => Err(absent(self.file.path(), name)),
        };
        let tensors = names.iter().map(placed).collect::<Result<_>>()?;
        Ok(Fetched { files: vec![self.file], tensors })
    }
}

/// The tensors of a sharded model: their names from the index, the rest from the shards.
pub(super) struct Sharded {
    index: ShardIndex,
    index_path: PathBuf,
    dir: ModelDir,
}

impl Sharded {
    pub(super) fn read(dir: ModelDir, index_path: PathBuf) -> Result<Self> {
        Ok(Sharded { index: ShardIndex::read(&index_path)?, index_path, dir })
    }

    pub(super) fn dir(&self) -> &ModelDir {
        &self.dir
    }

    pub(super) fn index_path(&self) -> &Path {
        &self.index_path
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
            let tensors = safetensors::read(&StoredFile::open(&path)?)?;
            self.index
                .tensors_of(i)
                .filter_map(|name| tensors.find(name))
                .for_each(|tensor| visit(&path, tensor));
        }
        Ok(())
    }
}

impl Checkpoint for Sharded {
    fn format(&self) -> &'static str {
        SAFETENSORS
    }

    /// Opens each shard that the index names for one of the tensors.
    fn fetch(self, names: &[&str]) -> Result<Fetched> {
        let mut found: HashMap<&str, Option<Placed>> =
            names.iter().map(|name| (*name, None)).collect();
        let mut files = Vec::new();
        for (i, shard) in self.index.shards().iter().enumerate() {
            let wanted: Vec<&str> =
                self.index.tensors_of(i).filter(|name| found.contains_key(name)).collect();
            if wanted.is_empty() {
                continue;
            }
            let file = StoredFile::open(&self.dir.shard(shard)?)?;
            let tensors = safetensors::read(&file)?;
            for name in wanted {
                let Some(tensor) = tensors.find(name) else {
                    return Err(self.not_in(name, shard));
                };
                if let Some(place) = found.get_mut(name) {
                    *place = Some(Placed::of(tensor, files.len()));
                }
            }
            files.push(file);
        }
        let placed = |name: &&str| {
            let place = found.get(name).cloned().flatten();
            place.ok_or_else(|| absent(self.path(), name))
        };
        let tensors = names.iter().map(placed).collect::<Result<_>>()?;
        Ok(Fetched { files, tensors })
    }
}

impl Sharded {
    fn not_in(&self, name: &str, shard: &str) -> Error {
        Error::Foreign {
            path: self.index_path.clone(),
            format: INDEX,
            place: Place::Name(shortened(name)),
            reason: format!(
                "the index places this tensor in {shard:?}, which does not hold it: the files are not of one model"
            ),
        }
    }
}

impl Checkpoint for GgufFiles {
    fn format(&self) -> &'static str {
        GGUF
    }

    fn fetch(self, names: &[&str]) -> Result<Fetched> {
        let mut used: Vec<Option<usize>> = vec![None; self.parts.len()];
        let mut count = 0;
        let mut tensors = Vec::with_capacity(names.len());
        for name in names {
            let mut parts = self.parts.iter().enumerate();
            let found = parts.find_map(|(i, part)| Some((i, part.tensors.find(name)?)));
            let (i, tensor) = found.ok_or_else(|| absent(self.path(), name))?;
            let file = *used[i].get_or_insert_with(|| {
                count += 1;
                count - 1
            });
            tensors.push(Placed::of(tensor, file));
        }
        let kept = self.parts.into_iter().zip(used);
        let mut files: Vec<(usize, StoredFile)> =
            kept.filter_map(|(part, used)| Some((used?, part.file))).collect();
        files.sort_by_key(|(place, _)| *place);
        Ok(Fetched { files: files.into_iter().map(|(_, file)| file).collect(), tensors })
    }
}

fn absent(path: &Path, name: &str) -> Error {
    Error::Tensor {
        path: path.to_path_buf(),
        reason: format!("no tensor is named {name:?}"),
        candidates: Vec::new(),
    }
}
