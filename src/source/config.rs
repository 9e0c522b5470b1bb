//! What a model's `config.json` says about its input embedding.
//!
//! The file is read only where the tensors' names do not settle which one is the table, so a
//! damaged one, a key there twice included, goes unseen where they do.

use std::fmt;
use std::path::Path;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::json::{self, Fault, FaultSlot};
use super::read_whole;
use crate::error::Result;

/// The most that is read of a `config.json`.
const MOST_BYTES: u64 = 16_000_000;

/// The shape of the input embedding, as far as it is stated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Config {
    pub(super) vocab_size: Option<u64>,
    pub(super) hidden_size: Option<u64>,
    pub(super) tie_word_embeddings: Option<bool>,
}

impl Config {
    /// Reads a `config.json`.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let bytes = read_whole(path, "config.json", MOST_BYTES)?;
        Config::parse(&bytes).map_err(|fault| fault.in_file(path, "config.json"))
    }

    fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        json::check(bytes)?;
        let object = json::parse(bytes, 0, &FaultSlot::default(), Object)?;
        // Models that take images or sound describe their text model in an object of its own.
        let text = object.text.unwrap_or_default();
        Ok(Config {
            vocab_size: text.vocab_size.or(object.own.vocab_size),
            hidden_size: text.hidden_size.or(object.own.hidden_size),
            tie_word_embeddings: text.tie_word_embeddings.or(object.own.tie_word_embeddings),
        })
    }
}

#[derive(Default)]
struct Found {
    own: Config,
    text: Option<Config>,
}

/// The document, or an object in it.
struct Object;

impl<'de> DeserializeSeed<'de> for Object {
    type Value = Found;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Found, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found, A::Error> {
        let mut found = Found::default();
        while let Some(key) = map.next_key::<String>()? {
            match (key.as_str(), map.next_value_seed(AnyValue)?) {
                ("vocab_size", Value::Number(number)) => found.own.vocab_size = Some(number),
                ("hidden_size" | "n_embd" | "d_model", Value::Number(number)) => {
                    found.own.hidden_size = Some(number);
                }
                ("tie_word_embeddings", Value::Flag(flag)) => {
                    found.own.tie_word_embeddings = Some(flag);
                }
                ("text_config" | "language_config" | "llm_config", Value::Object(config)) => {
                    found.text = Some(config);
                }
                _ => {}
            }
        }
        Ok(found)
    }
}

enum Value {
    Number(u64),
    Flag(bool),
    Object(Config),
    Other,
}

/// A value of any type; those of another type than expected count as not stated.
struct AnyValue;

impl<'de> DeserializeSeed<'de> for AnyValue {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Flag(flag))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Number(number))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_str<E>(self, _: &str) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Value, A::Error> {
        Object.visit_map(map).map(|found| Value::Object(found.own))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Place;

    fn config(text: &str) -> Config {
        Config::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_plain_config_is_read() {
        let text = r#"{"architectures":["X"],"vocab_size":32000,"hidden_size":4096,"tie_word_embeddings":false,"rope":{"vocab_size":1}}"#;
        let expected = Config {
            vocab_size: Some(32000),
            hidden_size: Some(4096),
            tie_word_embeddings: Some(false),
        };
        assert_eq!(config(text), expected);
    }

    #[test]
    fn a_text_config_stands_before_what_is_around_it() {
        let text = r#"{"text_config":{"vocab_size":7,"hidden_size":8},"vocab_size":1,"tie_word_embeddings":true}"#;
        let expected =
            Config { vocab_size: Some(7), hidden_size: Some(8), tie_word_embeddings: Some(true) };
        assert_eq!(config(text), expected);
    }

    #[test]
    fn older_names_of_the_hidden_size_are_known() {
        assert_eq!(config(r#"{"n_embd":768}"#).hidden_size, Some(768));
        assert_eq!(config(r#"{"d_model":512}"#).hidden_size, Some(512));
    }

    #[test]
    fn values_of_another_type_count_as_not_stated() {
        let text = r#"{"vocab_size":null,"hidden_size":[1,2],"tie_word_embeddings":"yes","text_config":"none"}"#;
        assert_eq!(config(text), Config::default());
        assert_eq!(config(r#"{"vocab_size":-1,"hidden_size":1.5}"#), Config::default());
    }

    #[test]
    fn a_key_twice_is_refused() {
        let fault =
            Config::parse(br#"{"text_config":{"vocab_size":7,"vocab_size":8}}"#).unwrap_err();
        assert_eq!(fault.place, Place::Name("vocab_size".into()));
        assert!(Config::parse(b"[]").is_err());
    }
}
