//! What a model's `config.json` says about its packed tables.
//!
//! Shapes alone do not tell 4 bits in groups of 64 from 8 bits in groups of 32. MLX writes
//! both numbers for the model, and again for each module that differs.

use std::fmt;
use std::path::Path;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::json::{self, Fault, FaultSlot};
use super::read_whole;
use crate::error::Result;

/// The most that is read of a `config.json`.
const MOST_BYTES: u64 = 16_000_000;

/// How a tensor's values are packed, as far as it is stated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Quantization {
    pub(super) bits: Option<u64>,
    pub(super) group_size: Option<u64>,
    /// `affine` where nothing is said.
    pub(super) mode: Option<String>,
}

impl Quantization {
    /// What a `config.json` says of a module: a tensor's name without `.weight`.
    pub(super) fn read(path: &Path, module: &str) -> Result<Self> {
        let bytes = read_whole(path, "config.json", MOST_BYTES)?;
        let found = Quantization::parse(&bytes, module);
        found.map_err(|fault| fault.in_file(path, "config.json"))
    }

    fn parse(bytes: &[u8], module: &str) -> Result<Self, Fault> {
        json::check(bytes)?;
        let at = |keys: &[&str]| json::parse(bytes, 0, &FaultSlot::default(), At { keys });
        let stated = |key: &str| {
            for object in ["quantization", "quantization_config"] {
                for keys in [&[object, module, key][..], &[object, key]] {
                    if let Some(value) = at(keys)? {
                        return Ok(Some(value));
                    }
                }
            }
            Ok(None)
        };
        let number = |value: Option<Value>| match value {
            Some(Value::Number(number)) => Some(number),
            Some(Value::Text(_)) | None => None,
        };
        Ok(Quantization {
            bits: number(stated("bits")?),
            group_size: number(stated("group_size")?),
            mode: match stated("mode")? {
                Some(Value::Text(text)) => Some(text),
                Some(Value::Number(_)) | None => None,
            },
        })
    }
}

/// A value that matters here.
enum Value {
    Number(u64),
    Text(String),
}

/// The value that objects in objects hold under these keys.
struct At<'a> {
    keys: &'a [&'a str],
}

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(self.keys.is_empty().then_some(Value::Number(number)))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(self.keys.is_empty().then(|| Value::Text(json::shortened(text))))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<String>()? {
            match self.keys.split_first() {
                Some((first, keys)) if *first == key => found = map.next_value_seed(At { keys })?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Quantization {
        Quantization::parse(text.as_bytes(), "model.embed_tokens").unwrap()
    }

    #[test]
    fn a_module_is_stated_for_itself_or_with_the_model() {
        let text = r#"{"a":[1,{"bits":1}],"bits":7,"quantization":{"group_size":64,"bits":4,"mode":"affine",
            "model.embed_tokens":{"bits":8},"other":{"group_size":32}},
            "quantization_config":{"group_size":128,"bits":2}}"#;
        let expected =
            Quantization { bits: Some(8), group_size: Some(64), mode: Some("affine".to_owned()) };
        assert_eq!(parse(text), expected);
        let text = r#"{"quantization_config":{"group_size":128,"bits":2,"quant_method":"x"}}"#;
        assert_eq!(parse(text), Quantization { bits: Some(2), group_size: Some(128), mode: None });
    }

    #[test]
    fn what_is_of_another_type_counts_as_not_stated() {
        for text in [
            "{}",
            r#"{"quantization":null}"#,
            r#"{"quantization":[1]}"#,
            r#"{"quantization":{"bits":-4,"group_size":1.5,"mode":true}}"#,
            r#"{"quantization":{"bits":"4","model.embed_tokens":false}}"#,
        ] {
            assert_eq!(parse(text), Quantization::default(), "{text}");
        }
        assert!(Quantization::parse(br#"{"a":1,"a":2}"#, "m").is_err());
        assert!(Quantization::parse(b"{", "m").is_err());
    }
}
