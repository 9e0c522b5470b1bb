//! Names of the Hugging Face hub, `org/name` or `org/name@revision`, found in the local cache.
//! Nothing is ever downloaded.
//!
//! The layout is that of `huggingface_hub`: `models--org--name/refs/<revision>` holds the name of
//! a directory in `models--org--name/snapshots/`.

use std::borrow::Cow;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use super::read_whole;
use crate::error::{Error, Result};

/// The revision where none is named.
const DEFAULT: &str = "main";

/// The longest name of a snapshot; a commit has 40 characters.
const LONGEST_COMMIT: u64 = 128;

/// The longest part of a name; the hub's own limit is 96 for all of it.
const LONGEST_NAME: usize = 96;

/// Endings that are those of files and not of models.
const FILES: [&str; 13] = [
    "emb",
    "safetensors",
    "gguf",
    "npy",
    "npz",
    "txt",
    "vec",
    "bin",
    "gz",
    "zst",
    "parquet",
    "arrow",
    "json",
];

/// A path that is there, or the snapshot that it names in the hub's cache.
pub(crate) fn locate(path: &Path) -> Result<Cow<'_, Path>> {
    // A link that leads nowhere is there: opening it says what is wrong.
    if fs::symlink_metadata(path).is_ok() {
        return Ok(Cow::Borrowed(path));
    }
    let (Some(id), Some(cache)) = (path.to_str().and_then(HubId::parse), cache()) else {
        return Ok(Cow::Borrowed(path));
    };
    match id.find(&cache)? {
        Some(snapshot) => Ok(Cow::Owned(snapshot)),
        // In a directory that is there, or with a file's ending, it was meant as a path.
        None if id.looks_like_a_path() => Ok(Cow::Borrowed(path)),
        None => Err(id.absent(path, &cache)),
    }
}

/// Where the hub's library keeps what it downloads.
fn cache() -> Option<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = || set("HOME").or_else(|| set("USERPROFILE"));
    set("HF_HUB_CACHE")
        .or_else(|| set("HUGGINGFACE_HUB_CACHE"))
        .or_else(|| set("HF_HOME").map(|home| home.join("hub")))
        .or_else(|| set("XDG_CACHE_HOME").map(|cache| cache.join("huggingface/hub")))
        .or_else(|| home().map(|home| home.join(".cache/huggingface/hub")))
}

/// A model's name on the hub.
#[derive(Debug, PartialEq, Eq)]
struct HubId<'a> {
    org: &'a str,
    name: &'a str,
    revision: Option<&'a str>,
}

impl<'a> HubId<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (model, revision) = match text.split_once('@') {
            Some((model, revision)) => (model, Some(revision)),
            None => (text, None),
        };
        let (org, name) = model.split_once('/')?;
        let is_part = |part: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            (1..=LONGEST_NAME).contains(&part.len())
                && part.chars().all(plain)
                && !part.starts_with(['.', '-'])
                && !part.contains("..")
                && !part.contains("--")
        };
        // A revision may hold slashes, as refs/pr/1 does.
        let is_revision = |revision: &str| revision.split('/').all(is_part);
        let is_id = is_part(org) && is_part(name) && revision.is_none_or(is_revision);
        is_id.then_some(HubId { org, name, revision })
    }

    /// The directory of the revision; `None` where the cache has none.
    fn find(&self, cache: &Path) -> Result<Option<PathBuf>> {
        let model = cache.join(format!("models--{}--{}", self.org, self.name));
        let snapshots = model.join("snapshots");
        let revision = self.revision.unwrap_or(DEFAULT);
        let of_commit = snapshots.join(revision);
        if !revision.contains('/') && of_commit.is_dir() {
            return Ok(Some(of_commit));
        }
        let reference = model.join("refs").join(revision);
        if !reference.is_file() {
            return Ok(None);
        }
        let commit = read_whole(&reference, "hub reference", LONGEST_COMMIT)?;
        let commit = String::from_utf8_lossy(&commit);
        let commit = commit.trim();
        // It names a directory, and nothing else.
        let is_name = !commit.is_empty() && commit.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let snapshot = snapshots.join(commit);
        Ok((is_name && snapshot.is_dir()).then_some(snapshot))
    }

    fn looks_like_a_path(&self) -> bool {
        let extension = Path::new(self.name).extension().and_then(|extension| extension.to_str());
        self.revision.is_none()
            && (Path::new(self.org).is_dir()
                || extension.is_some_and(|extension| FILES.contains(&extension)))
    }

    fn absent(&self, path: &Path, cache: &Path) -> Error {
        let HubId { org, name, revision } = self;
        let option = revision.map(|revision| format!(" --revision {revision}")).unwrap_or_default();
        let reason = format!(
            "no file or directory of this name, and the hub cache {} has no such model; get it \
             with: hf download {org}/{name}{option}",
            cache.display()
        );
        Error::NoTable { path: path.to_path_buf(), reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_two_parts_and_maybe_a_revision() {
        let id = |org, name, revision| Some(HubId { org, name, revision });
        for (text, expected) in [
            ("org/name", id("org", "name", None)),
            ("BAAI/bge-small-en-v1.5", id("BAAI", "bge-small-en-v1.5", None)),
            ("org/name@v1.0", id("org", "name", Some("v1.0"))),
            ("org/name@refs/pr/1", id("org", "name", Some("refs/pr/1"))),
            ("name", None),
            ("a/b/c", None),
            ("/org/name", None),
            ("./name", None),
            ("../name", None),
            ("org/..", None),
            ("org/na me", None),
            ("org/", None),
            ("org/name@", None),
            ("org/name@../x", None),
            ("org/a--b", None),
            ("-o/name", None),
        ] {
            assert_eq!(HubId::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn a_reference_leads_to_a_snapshot() {
        let cache = tempfile::tempdir().unwrap();
        let model = cache.path().join("models--org--name");
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let snapshot = model.join("snapshots").join(commit);
        let find = |text: &str| HubId::parse(text).unwrap().find(cache.path()).unwrap();
        assert_eq!(find("org/name"), None);
        fs::create_dir_all(&snapshot).unwrap();
        assert_eq!(find("org/name"), None, "no reference says which");
        assert_eq!(find(&format!("org/name@{commit}")), Some(snapshot.clone()));
        for reference in ["main", "pr/1"] {
            let path = model.join("refs").join(reference);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, commit).unwrap();
        }
        assert_eq!(find("org/name"), Some(snapshot.clone()));
        assert_eq!(find("org/name@main"), Some(snapshot.clone()));
        assert_eq!(find("org/name@pr/1"), Some(snapshot));
        assert_eq!(find("org/name@other"), None);
        for hostile in ["../..", "/etc", "", "absent"] {
            fs::write(model.join("refs/main"), hostile).unwrap();
            assert_eq!(find("org/name"), None, "{hostile}");
        }
        fs::write(model.join("refs/main"), "x".repeat(1000)).unwrap();
        assert!(HubId::parse("org/name").unwrap().find(cache.path()).is_err());
    }

    #[test]
    fn what_is_absent_is_said_with_the_command_that_gets_it() {
        let id = HubId::parse("org/name@v2").unwrap();
        let error = id.absent(Path::new("org/name@v2"), Path::new("/cache")).to_string();
        assert!(error.ends_with("get it with: hf download org/name --revision v2"), "{error}");
        let is_path = |text| HubId::parse(text).unwrap().looks_like_a_path();
        assert!(is_path("src/table") && is_path("data/table.emb"));
        assert!(!is_path("org/name-v1.5") && !is_path("src/table@main"));
    }
}
