//! From text to ids, with the model's own tokenizer.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::table::Table;

/// The tokenizer of a table's model. Made by [`Table::tokenizer`].
///
/// ```
/// # fn main() -> Result<(), embmap::Error> {
/// let table = embmap::Table::load("fixtures/minilm-2k")?;
/// let tokenizer = table.tokenizer()?;
/// let ids: Vec<u32> = tokenizer.encode("The cat sat", false)?.iter().map(|it| it.id).collect();
/// assert_eq!(ids, [92, 1811, 919]);
/// # Ok(())
/// # }
/// ```
pub struct Tokenizer {
    tokenizer: tokenizers::Tokenizer,
    path: PathBuf,
}

/// A token of a text, and the row that it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedToken {
    /// The row.
    pub id: u32,
    /// The token, in the vocabulary's own spelling.
    pub token: String,
}

impl Table {
    /// The model's tokenizer, from the file's own section or the model directory.
    ///
    /// The truncation and the padding that a tokenizer file may ask for are switched off:
    /// they serve a model's fixed input length, and a table has none.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] where the table has no tokenizer, [`Error::Tokenizer`] where it
    /// cannot be read.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        let json = self.tokenizer_json()?.ok_or_else(|| Error::Missing {
            path: self.info().path.clone(),
            what: "tokenizer",
            way_out: "put the model's tokenizer.json beside the checkpoint (and convert again), \
                      or give ids or --token",
        })?;
        let path = self.info().path.clone();
        let tokenizer = guarded(&path, || {
            let mut tokenizer = tokenizers::Tokenizer::from_bytes(json.as_bytes())?;
            tokenizer.with_truncation(None)?;
            tokenizer.with_padding(None);
            Ok(tokenizer)
        })?;
        Ok(Tokenizer { tokenizer, path })
    }
}

/// Runs the tokenizer library, which panics on some tokenizer files instead of refusing them.
fn guarded<T>(path: &Path, work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T> {
    let refused = |reason| Error::Tokenizer { path: path.to_path_buf(), reason };
    // What the closure touches is dropped or never used again where it panicked half-way: a
    // tokenizer that is being built, or the caches of one, which are behind locks of its own.
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(|error| refused(error.to_string())),
        Err(_) => Err(refused(
            "the tokenizer library panicked on it: the file breaks rules that the library takes \
             for granted; take it from the model's publisher again"
                .to_owned(),
        )),
    }
}

impl Tokenizer {
    /// The tokens of a text; with `special_tokens`, the ones that the model's own template
    /// adds around a text (`[CLS]`, `<s>`, ...) too.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenizer`] where the tokenizer library fails on this text, or panics.
    pub fn encode(&self, text: &str, special_tokens: bool) -> Result<Vec<EncodedToken>> {
        let encoding = guarded(&self.path, || self.tokenizer.encode(text, special_tokens))?;
        let tokens = encoding.get_ids().iter().zip(encoding.get_tokens());
        Ok(tokens.map(|(id, token)| EncodedToken { id: *id, token: token.clone() }).collect())
    }
}

#[cfg(test)]
mod tests {
    use crate::{DType, Error, Table, WriteOptions};

    /// A table of three rows with a tokenizer.
    fn with_tokenizer(json: &str) -> Table {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("text.emb");
        let mut writer = WriteOptions::new(1, DType::F32).tokenizer(json).create(&path).unwrap();
        writer.push(&[1f32, 2.0, 3.0]).unwrap();
        writer.finish().unwrap();
        Table::load(path).unwrap()
    }

    #[test]
    fn files_that_the_library_panics_on_are_errors() {
        let unknown_special = r#"{"version":"1.0","added_tokens":[],"normalizer":null,
            "pre_tokenizer":null,"decoder":null,"post_processor":{"type":"TemplateProcessing",
            "single":[{"SpecialToken":{"id":"[CLS]","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],
            "pair":[{"Sequence":{"id":"A","type_id":0}},{"Sequence":{"id":"B","type_id":1}}],
            "special_tokens":{}},
            "model":{"type":"WordLevel","vocab":{"a":0,"[UNK]":1},"unk_token":"[UNK]"}}"#;
        let no_length = r#"{"version":"1.0","added_tokens":[],"normalizer":null,
            "pre_tokenizer":{"type":"FixedLength","length":0},"decoder":null,"post_processor":null,
            "model":{"type":"WordLevel","vocab":{"a":0,"[UNK]":1},"unk_token":"[UNK]"}}"#;
        let long_prefix = r#"{"version":"1.0","added_tokens":[],"normalizer":null,
            "pre_tokenizer":null,"decoder":null,"post_processor":null,
            "model":{"type":"BPE","continuing_subword_prefix":"prefix","vocab":{"a":0,"b":1,"ab":2},
            "merges":[["a","b"]]}}"#;
        for json in [unknown_special, no_length, long_prefix] {
            let table = with_tokenizer(json);
            let encoded = table.tokenizer().and_then(|tokenizer| tokenizer.encode("a b", true));
            assert!(matches!(encoded, Err(Error::Tokenizer { .. })), "{json}");
        }
    }

    #[test]
    fn a_text_that_is_no_tokenizer_is_an_error() {
        for json in ["", "{}", "[]", "null"] {
            let found = with_tokenizer(json).tokenizer().map(|_| ());
            assert!(matches!(found, Err(Error::Tokenizer { .. })), "{json}");
        }
    }

    #[test]
    fn a_table_without_a_tokenizer_says_how_to_get_one() {
        let table = Table::load("fixtures/v1/f32.emb").unwrap();
        let Err(error) = table.tokenizer() else { panic!() };
        assert!(error.to_string().contains("tokenizer.json"), "{error}");
    }
}
