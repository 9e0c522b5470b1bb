//! A model directory: which files in it are the weights, the config, the tokens.
//!
//! Nothing here reads a file. A link may lead to a place in the directory itself, or, in a
//! hub cache (`models--org--name/snapshots/<revision>/`), to that model's `blobs/`. Anything
//! else is refused unless links are followed on request, so that a directory from a stranger
//! cannot hand out other files of its reader.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::gguf::is_first_of_all;
use super::kind::PICKLE;
use super::shard_index::FORMAT as INDEX;
use crate::error::{Error, Result};

/// A directory and the places that links in it may lead to.
#[derive(Debug, Clone)]
pub(super) struct ModelDir {
    path: PathBuf,
    /// The directory itself and its blobs, without links. Empty where all links are followed.
    allowed: Vec<PathBuf>,
}

/// The files that hold a model's tensors.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Weights {
    /// One file.
    Single(PathBuf),
    /// The index of several.
    Sharded(PathBuf),
    /// A GGUF file, or the first of a model's parts.
    Gguf(PathBuf),
    /// An array of numpy.
    Npy(PathBuf),
}

/// The single files that are looked for, in order, after the index.
const SINGLE: &str = "model.safetensors";
const STATIC: &str = "0_StaticEmbedding/model.safetensors";
const ARRAY: &str = "embeddings.npy";

/// The most names that an error lists.
const MOST_LISTED: usize = 20;

impl ModelDir {
    /// A directory; nothing in it is looked at yet.
    pub(super) fn new(path: &Path, follow_links: bool) -> Result<Self> {
        // The parent of `model.safetensors` is the empty path.
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let mut allowed = Vec::new();
        if !follow_links {
            let real = fs::canonicalize(path).map_err(|source| Error::io("open", path, source))?;
            allowed.extend(blobs_of(&real));
            allowed.push(real);
        }
        Ok(ModelDir { path: path.to_path_buf(), allowed })
    }

    /// The directory's path, as it was given.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file in the directory, or `None` where it has none of that name.
    ///
    /// A link that leads nowhere is an error and not an absent file: the model is incomplete.
    pub(super) fn file(&self, name: &str) -> Result<Option<PathBuf>> {
        let path = self.path.join(name);
        match fs::symlink_metadata(&path) {
            Ok(_) => self.check_link(&path).map(|()| Some(path)),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(None)
            }
            Err(source) => Err(Error::io("inspect", &path, source)),
        }
    }

    /// The path of a shard that the index names.
    pub(super) fn shard(&self, name: &str) -> Result<PathBuf> {
        let absent = || Error::io("open", &self.path.join(name), io::ErrorKind::NotFound.into());
        self.file(name)?.ok_or_else(absent)
    }

    fn check_link(&self, path: &Path) -> Result<()> {
        if self.allowed.is_empty() {
            return Ok(());
        }
        let target = fs::canonicalize(path).map_err(|source| Error::io("open", path, source))?;
        if self.allowed.iter().any(|allowed| target.starts_with(allowed)) {
            return Ok(());
        }
        Err(Error::Outside { path: path.to_path_buf(), target })
    }

    /// The file or index that holds the tensors.
    pub(super) fn weights(&self) -> Result<Weights> {
        if let Some(index) = self.file(INDEX)? {
            return Ok(Weights::Sharded(index));
        }
        if let Some(single) = self.file(SINGLE)? {
            return Ok(Weights::Single(single));
        }
        let found = self.list()?;
        match found.safetensors.as_slice() {
            [] => {}
            [only] => {
                let path = self.path.join(only);
                self.check_link(&path)?;
                return Ok(Weights::Single(path));
            }
            several => {
                let reason = format!(
                    "{} safetensors files and no {INDEX} that says which tensor is where ({}); give the path of one of them",
                    several.len(),
                    listed(several)
                );
                return Err(self.no_table(reason));
            }
        }
        if let Some(single) = self.file(STATIC)? {
            return Ok(Weights::Single(single));
        }
        if let Some(first) = found.gguf.first()
            && (found.gguf.len() == 1 || is_first_of_all(&found.gguf))
        {
            return Ok(Weights::Gguf(self.shard(first).map(|_| self.path.join(first))?));
        }
        if let Some(array) = self.file(ARRAY)? {
            return Ok(Weights::Npy(array));
        }
        Err(self.no_table(found.reason()))
    }

    /// A file beside the weights or, failing that, in the directory itself.
    pub(super) fn beside(&self, weights: &Path, name: &str) -> Result<Option<PathBuf>> {
        if let Some(inner) =
            weights.parent().and_then(|parent| parent.strip_prefix(&self.path).ok())
            && !inner.as_os_str().is_empty()
            && let Some(inner) = inner.to_str()
            && let Some(found) = self.file(&format!("{inner}/{name}"))?
        {
            return Ok(Some(found));
        }
        self.file(name)
    }

    fn list(&self) -> Result<Listing> {
        let mut listing = Listing::default();
        let refused = |source| Error::io("list", &self.path, source);
        for entry in fs::read_dir(&self.path).map_err(refused)? {
            let name = entry.map_err(refused)?.file_name();
            // Other systems leave `._model.safetensors` and the like.
            if name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let extension = Path::new(&name).extension().unwrap_or_default().to_ascii_lowercase();
            match extension.to_str() {
                Some("safetensors") => listing.safetensors.push(name),
                Some("bin" | "pt" | "pth" | "ckpt") => listing.pickles.push(name),
                Some("gguf") => listing.gguf.extend(name.into_string()),
                Some("npy" | "npz") => listing.arrays.push(name),
                _ => {}
            }
        }
        listing.safetensors.sort();
        listing.pickles.sort();
        listing.arrays.sort();
        listing.gguf.sort();
        Ok(listing)
    }

    fn no_table(&self, reason: String) -> Error {
        Error::NoTable { path: self.path.clone(), reason }
    }
}

/// What a directory holds of formats that are known by name.
#[derive(Default)]
struct Listing {
    safetensors: Vec<OsString>,
    pickles: Vec<OsString>,
    arrays: Vec<OsString>,
    gguf: Vec<String>,
}

impl Listing {
    /// Why this directory holds no table.
    fn reason(&self) -> String {
        if !self.gguf.is_empty() {
            let names: Vec<OsString> = self.gguf.iter().map(OsString::from).collect();
            return format!(
                "{} GGUF files that are not the parts of one model ({}); give the path of one of them",
                names.len(),
                listed(&names)
            );
        }
        if !self.arrays.is_empty() {
            return format!(
                "no {ARRAY}, only {}; give the path of one of them",
                listed(&self.arrays)
            );
        }
        if !self.pickles.is_empty() {
            return format!("only {}; {PICKLE}", listed(&self.pickles));
        }
        format!(
            "looked for {INDEX}, {SINGLE}, one *.safetensors, {STATIC}, one *.gguf, {ARRAY}; give the path of a table or a model directory"
        )
    }
}

/// Names for a message, escaped.
fn listed(names: &[OsString]) -> String {
    let shown = names
        .iter()
        .take(MOST_LISTED)
        .map(|name| name.to_string_lossy().escape_debug().to_string());
    let mut text = shown.collect::<Vec<_>>().join(", ");
    if names.len() > MOST_LISTED {
        text.push_str(", ...");
    }
    text
}

/// The `blobs` directory of the hub cache that a directory without links lies in.
fn blobs_of(real: &Path) -> Option<PathBuf> {
    real.ancestors().find_map(|ancestor| {
        let snapshots = ancestor.parent()?;
        let model = snapshots.parent()?;
        let is_cache = snapshots.file_name()? == "snapshots"
            && model.file_name()?.as_encoded_bytes().starts_with(b"models--");
        is_cache.then(|| model.join("blobs"))
    })
}
