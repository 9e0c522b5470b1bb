//! Static embedding models: how texts become vectors, as the files beside the rows say.
//!
//! model2vec's `StaticModel` (0.10) and sentence-transformers' `StaticEmbedding` (6.2) decide what
//! that means: both take the mean of the rows of a text's tokens, without those of a template.
//! model2vec leaves out the token of what is unknown and cuts long texts, sentence-transformers
//! does what the tokenizer file says.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{json, read_whole};
use crate::error::Result;

/// The most that is read of a `config.json` or `modules.json`.
const MOST_BYTES: u64 = 16_000_000;

/// The tokens of a text that model2vec takes where nothing is said.
const MODEL2VEC_TOKENS: usize = 512;

/// The key of an `.emb` file's metadata that these rules are kept under.
const KEY: &str = "static_model";

/// How a text becomes a vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StaticRules {
    /// The token of what is unknown counts for nothing.
    pub(crate) drop_unknown: bool,
    pub(crate) length: TextLength,
    /// Vectors are divided by their lengths.
    pub(crate) normalize: bool,
}

/// How much of a text counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextLength {
    /// All of it.
    Whole,
    /// As much as the tokenizer file says.
    OfTokenizer,
    /// So many tokens, of the first characters: as many times the median length of the
    /// vocabulary's tokens.
    Most(usize),
}

impl StaticRules {
    /// Those of a table that is no known model: the mean over a whole text.
    #[cfg(feature = "text")]
    pub(crate) const PLAIN: StaticRules =
        StaticRules { drop_unknown: false, length: TextLength::Whole, normalize: false };

    /// Those of a table: of a tensor in a file of a model directory, or of an `.emb` file's
    /// metadata.
    pub(crate) fn of(
        file: Option<&PathBuf>,
        tensor: Option<&String>,
        metadata: Option<&str>,
    ) -> Result<Option<StaticRules>> {
        match (file, tensor) {
            // Of bytes from elsewhere the path is only a name, with nothing beside it.
            (Some(file), Some(tensor)) if file.is_file() => StaticRules::beside(file, tensor),
            _ => Ok(metadata.and_then(StaticRules::of_metadata)),
        }
    }

    /// Those of a tensor in a file of a model directory; `None` where it is no static model's.
    ///
    /// # Errors
    ///
    /// [`Error::Foreign`](crate::Error::Foreign) where a file beside it is damaged.
    fn beside(weights: &Path, tensor: &str) -> Result<Option<StaticRules>> {
        let directory = weights.parent().unwrap_or(Path::new(""));
        match tensor {
            "embeddings" => {
                let config = read_if_there(&directory.join("config.json"), "config.json")?;
                Ok(config.map(|config| model2vec(&config)))
            }
            "embedding.weight" => {
                let above = directory.file_name().is_some_and(|name| name == "0_StaticEmbedding");
                let of_model = if above { directory.parent() } else { Some(directory) };
                let path = of_model.unwrap_or(directory).join("modules.json");
                let modules = read_if_there(&path, "modules.json")?;
                Ok(modules.and_then(|modules| sentence_transformers(&modules)))
            }
            _ => Ok(None),
        }
    }

    /// Those that an `.emb` file's metadata holds.
    fn of_metadata(metadata: &str) -> Option<StaticRules> {
        let metadata: Value = serde_json::from_str(metadata).ok()?;
        let rules = metadata.get(KEY)?;
        let flag = |key: &str| rules.get(key).and_then(Value::as_bool).unwrap_or(false);
        let most = rules.get("max_tokens").and_then(Value::as_u64).map(tokens);
        Some(StaticRules {
            drop_unknown: flag("drop_unknown"),
            length: match most {
                Some(most) => TextLength::Most(most),
                None if flag("truncate") => TextLength::OfTokenizer,
                None => TextLength::Whole,
            },
            normalize: flag("normalize"),
        })
    }

    /// Adds the rules to what an `.emb` file's metadata will be.
    pub(crate) fn tell(&self, metadata: &mut Value) {
        let mut rules = json!({ "drop_unknown": self.drop_unknown, "normalize": self.normalize });
        match self.length {
            TextLength::Whole => {}
            TextLength::OfTokenizer => rules["truncate"] = true.into(),
            TextLength::Most(most) => rules["max_tokens"] = most.into(),
        }
        metadata[KEY] = rules;
    }
}

/// What model2vec's `config.json` says.
fn model2vec(config: &Value) -> StaticRules {
    let length = match config.get("max_length") {
        None => TextLength::Most(MODEL2VEC_TOKENS),
        Some(most) => {
            most.as_u64().map_or(TextLength::Whole, |most| TextLength::Most(tokens(most)))
        }
    };
    let normalize = config.get("normalize").and_then(Value::as_bool).unwrap_or(false);
    StaticRules { drop_unknown: true, length, normalize }
}

/// What the list of a model's modules says; `None` where the first is another one.
fn sentence_transformers(modules: &Value) -> Option<StaticRules> {
    let is = |module: &Value, name: &str| {
        let kind = module.get("type").and_then(Value::as_str);
        kind.and_then(|kind| kind.rsplit('.').next()) == Some(name)
    };
    let modules = modules.as_array()?;
    modules.first().filter(|module| is(module, "StaticEmbedding"))?;
    let normalize = modules.iter().any(|module| is(module, "Normalize"));
    Some(StaticRules { drop_unknown: false, length: TextLength::OfTokenizer, normalize })
}

fn tokens(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// A small JSON file; `None` where it is not there.
fn read_if_there(path: &Path, format: &'static str) -> Result<Option<Value>> {
    if path.symlink_metadata().is_err() {
        return Ok(None);
    }
    let bytes = read_whole(path, format, MOST_BYTES)?;
    json::check(&bytes).map_err(|fault| fault.in_file(path, format))?;
    Ok(serde_json::from_slice(&bytes).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(drop_unknown: bool, length: TextLength, normalize: bool) -> StaticRules {
        StaticRules { drop_unknown, length, normalize }
    }

    /// The rules of a tensor beside a file of some content.
    fn found(file: &str, content: &str, weights: &str, tensor: &str) -> Option<StaticRules> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("0_StaticEmbedding")).unwrap();
        std::fs::write(directory.path().join(file), content).unwrap();
        StaticRules::beside(&directory.path().join(weights), tensor).unwrap()
    }

    #[test]
    fn model2vec_is_told_by_its_tensor_and_config() {
        let of = |config: &str| found("config.json", config, "model.safetensors", "embeddings");
        let most = TextLength::Most;
        assert_eq!(of("{}"), Some(rules(true, most(512), false)));
        assert_eq!(of("{\"normalize\": true}"), Some(rules(true, most(512), true)));
        assert_eq!(of("{\"max_length\": 7}"), Some(rules(true, most(7), false)));
        assert_eq!(of("{\"max_length\": null}"), Some(rules(true, TextLength::Whole, false)));
        assert_eq!(found("config.json", "{}", "model.safetensors", "wte.weight"), None);
        assert_eq!(found("other.json", "{}", "model.safetensors", "embeddings"), None);
    }

    #[test]
    fn sentence_transformers_is_told_by_its_modules() {
        let of = |modules: &str, weights: &str| {
            found("modules.json", modules, weights, "embedding.weight")
        };
        let only = r#"[{"type": "sentence_transformers.models.StaticEmbedding"}]"#;
        let both = r#"[{"type": "sentence_transformers.models.StaticEmbedding"},
                       {"type": "sentence_transformers.models.Normalize"}]"#;
        for weights in ["model.safetensors", "0_StaticEmbedding/model.safetensors"] {
            assert_eq!(of(only, weights), Some(rules(false, TextLength::OfTokenizer, false)));
            assert_eq!(of(both, weights), Some(rules(false, TextLength::OfTokenizer, true)));
        }
        assert_eq!(of(r#"[{"type": "x.Transformer"}]"#, "model.safetensors"), None);
        assert_eq!(of("{}", "model.safetensors"), None);
    }

    #[test]
    fn a_damaged_file_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("config.json");
        for damaged in ["{", "{\"normalize\": true, \"normalize\": false}"] {
            std::fs::write(&config, damaged).unwrap();
            let weights = directory.path().join("model.safetensors");
            let error = StaticRules::beside(&weights, "embeddings").unwrap_err().to_string();
            assert!(error.contains("config.json"), "{error}");
        }
    }

    #[test]
    fn what_metadata_holds_is_found_again() {
        for length in [TextLength::Whole, TextLength::OfTokenizer, TextLength::Most(9)] {
            for drop_unknown in [false, true] {
                let rules = StaticRules { drop_unknown, length, normalize: !drop_unknown };
                let mut metadata = json!({ "tool": "embmap" });
                rules.tell(&mut metadata);
                assert_eq!(StaticRules::of_metadata(&metadata.to_string()), Some(rules));
            }
        }
        assert_eq!(StaticRules::of_metadata("{}"), None);
        assert_eq!(StaticRules::of_metadata("no JSON"), None);
    }
}
