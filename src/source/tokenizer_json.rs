//! From the JSON of a tokenizer to the tokens in it, in compact form.

use std::collections::HashMap;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::json::{self, Fault, FaultSlot};
use super::shard_index::Append;
use crate::error::Place;

/// The fewest bytes that a token takes in a vocabulary: `["",0],`.
const SHORTEST: usize = 7;

/// The most added tokens: they cost more memory than others, and real files have thousands.
const MOST_ADDED: usize = 500_000;

/// A token and its id.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listed {
    pub(super) id: u32,
    /// Where it starts in the text, and how long it is.
    pub(super) at: u32,
    pub(super) length: u32,
}

impl Listed {
    /// The token itself.
    pub(super) fn of<'a>(&self, text: &'a str) -> &'a str {
        let at = self.at as usize;
        text.get(at..at + self.length as usize).unwrap_or_default()
    }

    fn new<E: de::Error>(id: u32, text: &str, at: usize) -> Result<Self, E> {
        match (u32::try_from(at), u32::try_from(text.len() - at)) {
            (Ok(at), Ok(length)) => Ok(Listed { id, at, length }),
            _ => Err(E::custom("the tokens are too long")),
        }
    }
}

/// The tokens of a `tokenizer.json`, as it lists them.
#[derive(Debug, Default)]
pub(super) struct TokenizerFile {
    pub(super) text: String,
    /// `model.vocab`.
    pub(super) vocab: Vec<Listed>,
    /// `added_tokens`.
    pub(super) added: Vec<Listed>,
    has_vocab: bool,
}

/// Parses a whole `tokenizer.json`; everything but the tokens is checked and skipped.
pub(super) fn parse(bytes: &[u8]) -> Result<TokenizerFile, Fault> {
    json::check(bytes)?;
    let mut file = TokenizerFile::default();
    // Once, and not by doubling: a token takes no more room than in the file.
    file.text.reserve_exact(bytes.len());
    let document = Object { file: &mut file, bytes: bytes.len(), level: Level::Document };
    json::parse(bytes, 0, &FaultSlot::default(), document)?;
    if !file.has_vocab {
        let reason =
            "this is missing, expected an object from token to id, or a list of tokens".to_owned();
        return Err(Fault { place: Place::Name("model.vocab".to_owned()), reason });
    }
    file.text.shrink_to_fit();
    Ok(file)
}

/// For each added token, whether the vocabulary or an added token before it has its content.
pub(super) fn known_of(vocab: &[Listed], added: &[Listed], text: &str) -> Vec<bool> {
    let mut known = vec![false; added.len()];
    // The added tokens are the few: a map of the vocabulary would be many times as large.
    let mut first: HashMap<&str, usize> = HashMap::with_capacity(added.len());
    for (i, token) in added.iter().enumerate() {
        known[i] = *first.entry(token.of(text)).or_insert(i) != i;
    }
    for token in vocab {
        if let Some(i) = first.get(token.of(text)) {
            known[*i] = true;
        }
    }
    known
}

#[derive(Clone, Copy)]
enum Level {
    Document,
    Model,
}

/// The document, or the model in it.
struct Object<'a> {
    file: &'a mut TokenizerFile,
    bytes: usize,
    level: Level,
}

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with the tokenizer's model")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Object { file, bytes, level } = self;
        while let Some(key) = map.next_key::<String>()? {
            match (level, key.as_str()) {
                (Level::Document, "model") => {
                    map.next_value_seed(Object { file, bytes, level: Level::Model })?;
                }
                (Level::Document, "added_tokens") => map.next_value_seed(Added { file })?,
                (Level::Model, "vocab") => {
                    file.has_vocab = true;
                    file.vocab.reserve_exact(bytes / SHORTEST + 1);
                    map.next_value_seed(Vocab { file })?;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// `model.vocab`: token to id, or a list of tokens with their scores.
struct Vocab<'a> {
    file: &'a mut TokenizerFile,
}

impl<'de> DeserializeSeed<'de> for Vocab<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Vocab<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a vocab: an object from token to id, or a list of tokens with scores")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let TokenizerFile { text, vocab, .. } = self.file;
        loop {
            let at = text.len();
            if map.next_key_seed(Append(text))?.is_none() {
                return Ok(());
            }
            vocab.push(Listed::new(map.next_value()?, text, at)?);
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let TokenizerFile { text, vocab, .. } = self.file;
        for id in 0u32.. {
            let at = text.len();
            if seq.next_element_seed(Scored(text))?.is_none() {
                return Ok(());
            }
            vocab.push(Listed::new(id, text, at)?);
        }
        Err(de::Error::custom("more tokens than there are ids"))
    }
}

/// `[token, score]`, of which the token is kept.
struct Scored<'a>(&'a mut String);

impl<'de> DeserializeSeed<'de> for Scored<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Scored<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a token and its score")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let short = |length| de::Error::invalid_length(length, &"a token and its score");
        seq.next_element_seed(Append(self.0))?.ok_or_else(|| short(0))?;
        seq.next_element::<f64>()?.ok_or_else(|| short(1))?;
        match seq.next_element::<IgnoredAny>()? {
            None => Ok(()),
            Some(_) => Err(short(3)),
        }
    }
}

/// `added_tokens`: a list of objects.
struct Added<'a> {
    file: &'a mut TokenizerFile,
}

impl<'de> DeserializeSeed<'de> for Added<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Added<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("added_tokens: a list of objects with id and content")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let TokenizerFile { text, added, .. } = self.file;
        while let Some(token) = seq.next_element_seed(AddedToken(text))? {
            if added.len() >= MOST_ADDED {
                return Err(de::Error::custom("more than the 500,000 added tokens that are read"));
            }
            added.push(token);
        }
        Ok(())
    }
}

/// One added token.
struct AddedToken<'a>(&'a mut String);

impl<'de> DeserializeSeed<'de> for AddedToken<'_> {
    type Value = Listed;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Listed, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for AddedToken<'_> {
    type Value = Listed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an added token with id and content")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Listed, A::Error> {
        let at = self.0.len();
        let (mut id, mut content) = (None, false);
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "id" => id = Some(map.next_value()?),
                "content" => {
                    map.next_value_seed(Append(self.0))?;
                    content = true;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        match (id, content) {
            (Some(id), true) => Listed::new(id, self.0, at),
            (None, _) => Err(de::Error::missing_field("id")),
            (_, false) => Err(de::Error::missing_field("content")),
        }
    }
}
