//! From text to ids, with the model's own tokenizer.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tokenizers::models::ModelWrapper;
use tokenizers::{Encoding, TruncationDirection};

use super::encoded::Encoded;
use crate::error::{Error, Result};
use crate::gather::Crew;
use crate::table::Table;

/// The bytes of text that a thread takes at a time.
const PIECE: usize = 16 << 10;

/// How much longer it takes to find the tokens of a byte than to copy one.
const WORK: usize = 64;

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
    library: tokenizers::Tokenizer,
    path: PathBuf,
    /// The threads for many texts.
    crew: Crew,
    /// The token of what is in no vocabulary.
    unknown: Option<u32>,
    /// What the tokenizer file says of the length of texts, which is switched off.
    limit: Option<Limit>,
}

/// The most tokens of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limit {
    pub(super) tokens: usize,
    /// True where the last tokens stay and not the first.
    pub(super) last: bool,
}

impl Limit {
    /// What stays of a number of tokens.
    pub(super) fn of(self, count: usize) -> Range<usize> {
        let kept = self.tokens.min(count);
        if self.last { count - kept..count } else { 0..kept }
    }
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
        Tokenizer::read(self, &json)
    }
}

/// The id of the token for what is in no vocabulary, if there is one.
fn unknown(tokenizer: &tokenizers::Tokenizer, json: &str) -> tokenizers::Result<Option<u32>> {
    #[derive(Deserialize)]
    struct File {
        model: Model,
    }
    #[derive(Deserialize)]
    struct Model {
        unk_id: Option<u32>,
    }
    let token = match tokenizer.get_model() {
        ModelWrapper::WordPiece(model) => Some(&model.unk_token),
        ModelWrapper::WordLevel(model) => Some(&model.unk_token),
        ModelWrapper::BPE(model) => model.unk_token.as_ref(),
        // The library keeps this one's to itself.
        ModelWrapper::Unigram(_) => return Ok(serde_json::from_str::<File>(json)?.model.unk_id),
    };
    Ok(token.and_then(|token| tokenizer.token_to_id(token)))
}

/// Texts in pieces, one after the other, for several threads; in one where they would not pay.
pub(super) fn pieces<T: AsRef<str>>(texts: &[T], crew: Crew) -> Result<Vec<Range<usize>>> {
    let bytes = |text: &T| text.as_ref().len() + 1;
    let all: usize = texts.iter().map(bytes).sum();
    if !crew.pays_for(all.saturating_mul(WORK))? {
        return Ok(std::iter::once(0..texts.len()).collect());
    }
    let mut pieces = Vec::new();
    let (mut start, mut filled) = (0, 0);
    for (index, text) in texts.iter().enumerate() {
        filled += bytes(text);
        if filled >= PIECE {
            pieces.push(start..index + 1);
            (start, filled) = (index + 1, 0);
        }
    }
    if start < texts.len() {
        pieces.push(start..texts.len());
    }
    Ok(pieces)
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
    /// Reads a `tokenizer.json` for a table.
    pub(super) fn read(table: &Table, json: &str) -> Result<Self> {
        let path = table.info().path.clone();
        let crew = table.crew(None)?;
        guarded(&path, || {
            let mut library = tokenizers::Tokenizer::from_bytes(json.as_bytes())?;
            let limit = library.get_truncation().map(|truncation| Limit {
                tokens: truncation.max_length,
                last: truncation.direction == TruncationDirection::Left,
            });
            library.with_truncation(None)?;
            library.with_padding(None);
            let unknown = unknown(&library, json)?;
            Ok(Tokenizer { library, path: path.clone(), crew, unknown, limit })
        })
    }

    /// The tokens of a text; with `special_tokens`, the ones that the model's own template
    /// adds around a text (`[CLS]`, `<s>`, ...) too.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenizer`] where the tokenizer library fails on this text, or panics.
    pub fn encode(&self, text: &str, special_tokens: bool) -> Result<Vec<EncodedToken>> {
        // The quicker `encode_fast` gives ids without their tokens.
        let encoding = guarded(&self.path, || self.library.encode(text, special_tokens))?;
        let tokens = encoding.get_ids().iter().zip(encoding.get_tokens());
        Ok(tokens.map(|(id, token)| EncodedToken { id: *id, token: token.clone() }).collect())
    }

    /// The ids of many texts, found by several threads where that pays: those of
    /// [`OpenOptions::threads`](crate::OpenOptions::threads).
    ///
    /// # Errors
    ///
    /// As [`encode`](Tokenizer::encode); [`Error::Threads`] where the threads cannot be started.
    ///
    /// ```
    /// # fn main() -> Result<(), embmap::Error> {
    /// let table = embmap::Table::load("fixtures/minilm-2k")?;
    /// let tokenizer = table.tokenizer()?;
    /// let encoded = tokenizer.encode_batch(&["The cat sat", "on the mat"], true)?;
    /// assert_eq!(encoded.get(1), Some(&[2, 102, 92, 1990, 3][..]));
    /// # Ok(())
    /// # }
    /// ```
    pub fn encode_batch<T: AsRef<str> + Sync>(
        &self,
        texts: &[T],
        special_tokens: bool,
    ) -> Result<Encoded> {
        let pieces = pieces(texts, self.crew)?;
        let mut found: Vec<Encoded> =
            pieces.iter().map(|piece| Encoded::with_capacity(piece.len())).collect();
        let parts = pieces.into_iter().zip(&mut found).collect();
        self.crew.work(parts, |(piece, found): (Range<usize>, &mut Encoded)| {
            for text in &texts[piece] {
                found.push(self.encoding(text.as_ref(), special_tokens)?.get_ids().iter().copied());
            }
            Ok(())
        })?;
        let mut found = found.into_iter();
        let mut all = found.next().unwrap_or_else(|| Encoded::with_capacity(0));
        found.for_each(|part| all.append(&part));
        Ok(all)
    }

    /// The token that stands for what is in no vocabulary (`[UNK]`, `<unk>`), where there is one.
    #[must_use]
    pub fn unknown_id(&self) -> Option<u32> {
        self.unknown
    }

    /// The token of an id, in the vocabulary's own spelling.
    #[must_use]
    pub fn token(&self, id: u32) -> Option<String> {
        self.library.id_to_token(id)
    }

    pub(super) fn limit(&self) -> Option<Limit> {
        self.limit
    }

    /// The median length of the vocabulary's tokens in characters, rounded down; 1 at least.
    pub(super) fn median_length(&self) -> usize {
        let vocabulary = self.library.get_vocab(true);
        let mut lengths: Vec<usize> = vocabulary.keys().map(|it| it.chars().count()).collect();
        lengths.sort_unstable();
        let middle = lengths.len() / 2;
        let (low, high) = match lengths[..] {
            [] => return 1,
            _ if lengths.len().is_multiple_of(2) => (lengths[middle - 1], lengths[middle]),
            _ => (lengths[middle], lengths[middle]),
        };
        usize::midpoint(low, high).max(1)
    }

    /// The ids of a text, without the limit and without the spelling of the tokens.
    pub(super) fn encoding(&self, text: &str, special_tokens: bool) -> Result<Encoding> {
        guarded(&self.path, || self.library.encode_fast(text, special_tokens))
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
