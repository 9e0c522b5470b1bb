//! The files of one model: one, or parts named `model-00001-of-00003.gguf`.

use std::path::{Path, PathBuf};

use super::super::json::shortened;
use super::super::model_dir::ModelDir;
use super::super::resolve::Catalogue;
use super::super::tensors::{Tensor, TensorList};
use super::header::{self, FORMAT, Head, Split};
use crate::error::{Error, Place, Result};
use crate::storage::StoredFile;

/// The most parts; real models have dozens.
const MOST_PARTS: u64 = 10_000;

/// A file of a model, with what it holds.
pub(in super::super) struct Part {
    pub(in super::super) file: StoredFile,
    pub(in super::super) tensors: TensorList,
}

/// The files of a model in order.
pub(in super::super) struct GgufFiles {
    pub(in super::super) parts: Vec<Part>,
    /// The file that holds the tokens.
    pub(in super::super) tokens: Option<PathBuf>,
    path: PathBuf,
}

impl GgufFiles {
    /// The model that a file is, or is a part of: the other parts are found beside it.
    pub(in super::super) fn open(file: StoredFile, dir: &ModelDir) -> Result<Self> {
        let path = file.path().to_path_buf();
        let head = header::read(&file)?;
        if head.split.parts <= 1 {
            return Ok(GgufFiles::of(vec![(file, head)], path));
        }
        let split = head.split;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let expected = (split.number.saturating_add(1), split.parts);
        let prefix = match split_name(&name) {
            Some((prefix, number, parts)) if (number, parts) == expected => prefix,
            _ => {
                let reason = format!(
                    "it is part {} of {} by its metadata (split.no, split.count), expected a name that says so, as in {:?}",
                    expected.0,
                    expected.1,
                    part_name("model", expected.0, expected.1)
                );
                return Err(fault(&path, "split.no", reason));
            }
        };
        if split.parts > MOST_PARTS {
            let reason =
                format!("the model has {} parts, at most {MOST_PARTS} are read", split.parts);
            return Err(fault(&path, "split.count", reason));
        }
        let mut read = Vec::new();
        let mut own = Some((file, head));
        for number in 1..=split.parts {
            let part = match own.take_if(|_| number == expected.0) {
                Some(own) => own,
                None => beside(dir, &part_name(prefix, number, split.parts), number, split)?,
            };
            read.push(part);
        }
        check_all(&read, split)?;
        Ok(GgufFiles::of(read, path))
    }

    /// A file in memory, with nothing beside it.
    pub(in super::super) fn alone(file: StoredFile) -> Result<Self> {
        let path = file.path().to_path_buf();
        let head = header::read(&file)?;
        Ok(GgufFiles::of(vec![(file, head)], path))
    }

    fn of(read: Vec<(StoredFile, Head)>, path: PathBuf) -> Self {
        let with_tokens = read.iter().find(|(_, head)| head.has_tokens);
        let tokens = with_tokens.map(|(file, _)| file.path().to_path_buf());
        let parts =
            read.into_iter().map(|(file, head)| Part { file, tensors: head.tensors }).collect();
        GgufFiles { parts, tokens, path }
    }
}

impl Catalogue for GgufFiles {
    fn path(&self) -> &Path {
        &self.path
    }

    fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.parts.iter().flat_map(|part| part.tensors.tensors().map(|tensor| tensor.name))
    }

    fn has(&self, name: &str) -> bool {
        self.parts.iter().any(|part| part.tensors.find(name).is_some())
    }

    fn visit(&self, visit: &mut dyn FnMut(&Path, Tensor<'_>)) -> Result<()> {
        for part in &self.parts {
            part.tensors.tensors().for_each(|tensor| visit(part.file.path(), tensor));
        }
        Ok(())
    }
}

/// Opens another part of a model.
fn beside(dir: &ModelDir, name: &str, number: u64, split: Split) -> Result<(StoredFile, Head)> {
    let file = StoredFile::open(&dir.shard(name)?)?;
    let head = header::read(&file)?;
    let found = (head.split.number.saturating_add(1), head.split.parts);
    if found == (number, split.parts) {
        return Ok((file, head));
    }
    let reason = format!(
        "it is part {} of {} by its metadata, expected part {number} of {}: the files are not of one model",
        found.0, found.1, split.parts
    );
    Err(fault(file.path(), "split.no", reason))
}

/// Refuses parts that together are not what the first one says.
fn check_all(parts: &[(StoredFile, Head)], split: Split) -> Result<()> {
    let tensors: u64 = parts.iter().map(|(_, head)| head.tensors.tensors().count() as u64).sum();
    if let (Some(expected), Some((file, _))) = (split.tensors, parts.first())
        && expected != tensors
    {
        let reason = format!(
            "the parts hold {tensors} tensors, expected {expected}: the files are not of one model"
        );
        return Err(fault(file.path(), "split.tensors.count", reason));
    }
    for (i, (file, head)) in parts.iter().enumerate() {
        let in_others =
            |name: &str| parts[..i].iter().any(|(_, other)| other.tensors.find(name).is_some());
        if let Some(twin) = head.tensors.tensors().find(|tensor| in_others(tensor.name)) {
            let reason = "two parts of the model have a tensor of this name, expected one";
            return Err(fault(file.path(), twin.name, reason.to_owned()));
        }
    }
    Ok(())
}

fn fault(path: &Path, name: &str, reason: String) -> Error {
    let place = Place::Name(shortened(name));
    Error::Foreign { path: path.to_path_buf(), format: FORMAT, place, reason }
}

fn part_name(prefix: &str, number: u64, parts: u64) -> String {
    format!("{prefix}-{number:05}-of-{parts:05}.gguf")
}

/// The name of a part, as its prefix, its number from 1 on, and the number of parts.
pub(in super::super) fn split_name(name: &str) -> Option<(&str, u64, u64)> {
    let stem = name.strip_suffix(".gguf")?;
    let (rest, parts) = stem.rsplit_once("-of-")?;
    let (prefix, number) = rest.rsplit_once('-')?;
    let number_of = |digits: &str| {
        let is_number = digits.len() == 5 && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|_| is_number)
    };
    Some((prefix, number_of(number)?, number_of(parts)?))
}

/// True where sorted names are the parts of one model, every one.
pub(in super::super) fn is_first_of_all(names: &[String]) -> bool {
    let of_one = |(i, name): (usize, &String)| {
        split_name(name).is_some_and(|(prefix, number, parts)| {
            number == i as u64 + 1
                && parts == names.len() as u64
                && names[0].starts_with(prefix)
                && split_name(&names[0]).is_some_and(|first| first.0 == prefix)
        })
    };
    names.iter().enumerate().all(of_one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_parts_are_taken_apart() {
        assert_eq!(split_name("a-b-00002-of-00003.gguf"), Some(("a-b", 2, 3)));
        for name in ["a.gguf", "a-2-of-3.gguf", "a-00002-of-00003.bin", "a-0000x-of-00003.gguf"] {
            assert_eq!(split_name(name), None, "{name}");
        }
        let names = |all: &[&str]| all.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert!(is_first_of_all(&names(&["a-00001-of-00002.gguf", "a-00002-of-00002.gguf"])));
        assert!(!is_first_of_all(&names(&["a-00001-of-00002.gguf"])));
        assert!(!is_first_of_all(&names(&["a-00001-of-00002.gguf", "b-00002-of-00002.gguf"])));
        assert!(!is_first_of_all(&names(&["a-00002-of-00002.gguf", "a-00003-of-00002.gguf"])));
    }
}
