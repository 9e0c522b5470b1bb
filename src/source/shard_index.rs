//! `model.safetensors.index.json`: which shard holds which tensor.

use std::collections::HashMap;
use std::fmt;
use std::path::{Component, Path};

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::json::{self, Fault, FaultSlot, shortened};
use super::read_whole;
use crate::error::{Place, Result};

/// The format's name in errors.
pub(super) const FORMAT: &str = "model.safetensors.index.json";

/// The most that is read of an index: the cap on a safetensors header, which says more.
const MOST_BYTES: u64 = 100_000_000;

/// The longest name that a file can have.
const MOST_NAME: usize = 255;

/// The most shards that an index may name; real ones have hundreds.
const MOST_SHARDS: usize = 100_000;

/// The fewest bytes that a tensor takes in an index: `"a":"b",`.
const SHORTEST: usize = 8;

/// The index of a sharded model, in compact form.
#[derive(Debug, Default)]
pub(super) struct ShardIndex {
    names: String,
    /// By shard, then in the order of the index.
    list: Vec<Entry>,
    shards: Vec<String>,
}

#[derive(Debug)]
struct Entry {
    at: u32,
    length: u32,
    shard: u32,
}

impl ShardIndex {
    /// Reads an index. Every shard's name in it is one normal path component.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let bytes = read_whole(path, FORMAT, MOST_BYTES)?;
        ShardIndex::parse(&bytes).map_err(|fault| fault.in_file(path, FORMAT))
    }

    fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        json::check(bytes)?;
        let slot = FaultSlot::default();
        let index = json::parse(bytes, 0, &slot, Document { slot: &slot, bytes: bytes.len() })?;
        index.ok_or_else(|| Fault {
            place: Place::Name("weight_map".to_owned()),
            reason: "this key is missing, expected an object from tensor to file".to_owned(),
        })
    }

    /// The names of all tensors.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.list.iter().map(|entry| self.name(entry))
    }

    /// The names of all shards, in the order in which the index names them.
    pub(super) fn shards(&self) -> &[String] {
        &self.shards
    }

    /// The tensors of one shard, by its place in [`shards`](Self::shards).
    pub(super) fn tensors_of(&self, shard: usize) -> impl Iterator<Item = &str> {
        let start = self.list.partition_point(|entry| (entry.shard as usize) < shard);
        let end = self.list.partition_point(|entry| entry.shard as usize <= shard);
        self.list[start..end].iter().map(|entry| self.name(entry))
    }

    fn name(&self, entry: &Entry) -> &str {
        let at = entry.at as usize;
        self.names.get(at..at + entry.length as usize).unwrap_or_default()
    }
}

/// True for a name that stays in the directory it is joined to, on every system.
pub(super) fn is_plain_name(name: &str) -> bool {
    let mut components = Path::new(name).components();
    let normal = matches!(components.next(), Some(Component::Normal(only)) if only == name);
    normal
        && components.next().is_none()
        && name.len() <= MOST_NAME
        && !name.contains(['/', '\\', ':', '\0'])
}

struct Document<'a> {
    slot: &'a FaultSlot,
    bytes: usize,
}

impl<'de> DeserializeSeed<'de> for Document<'_> {
    type Value = Option<ShardIndex>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Document<'_> {
    type Value = Option<ShardIndex>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a weight_map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut index = None;
        while let Some(key) = map.next_key::<String>()? {
            if key == "weight_map" {
                index =
                    Some(map.next_value_seed(WeightMap { slot: self.slot, bytes: self.bytes })?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(index)
    }
}

struct WeightMap<'a> {
    slot: &'a FaultSlot,
    bytes: usize,
}

impl<'de> DeserializeSeed<'de> for WeightMap<'_> {
    type Value = ShardIndex;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<ShardIndex, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for WeightMap<'_> {
    type Value = ShardIndex;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a weight_map: an object from tensor to file")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ShardIndex, A::Error> {
        let mut index = ShardIndex::default();
        // Once, and not by doubling, to stay within the bound on memory.
        index.names.reserve_exact(self.bytes);
        index.list.reserve_exact(self.bytes / SHORTEST + 1);
        let mut numbers = HashMap::new();
        loop {
            let at = index.names.len();
            if map.next_key_seed(Append(&mut index.names))?.is_none() {
                break;
            }
            let length = index.names.len() - at;
            let shard = Shard { numbers: &mut numbers, shards: &mut index.shards, slot: self.slot };
            let shard = map.next_value_seed(shard)?;
            let (Ok(at), Ok(length)) = (u32::try_from(at), u32::try_from(length)) else {
                return Err(de::Error::custom("the index is too long"));
            };
            index.list.push(Entry { at, length, shard });
        }
        index.names.shrink_to_fit();
        index.list.shrink_to_fit();
        index.list.sort_unstable_by_key(|entry| (entry.shard, entry.at));
        Ok(index)
    }
}

/// A string, appended to others.
pub(super) struct Append<'a>(pub(super) &'a mut String);

impl<'de> DeserializeSeed<'de> for Append<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Append<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.0.push_str(text);
        Ok(())
    }
}

/// A shard's name, as a number.
struct Shard<'a> {
    numbers: &'a mut HashMap<String, u32>,
    shards: &'a mut Vec<String>,
    slot: &'a FaultSlot,
}

impl<'de> DeserializeSeed<'de> for Shard<'_> {
    type Value = u32;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<u32, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Shard<'_> {
    type Value = u32;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a shard")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<u32, E> {
        if let Some(number) = self.numbers.get(name) {
            return Ok(*number);
        }
        let refuse =
            |reason: &str| Err(self.slot.raise(Place::Name(shortened(name)), reason.to_owned()));
        if !is_plain_name(name) {
            return refuse(
                "this shard's name is a path or too long, expected the name of a file in the index's own directory",
            );
        }
        if self.shards.len() >= MOST_SHARDS {
            return refuse("one shard more than the 100,000 that are read");
        }
        let number = u32::try_from(self.shards.len()).map_err(E::custom)?;
        self.numbers.insert(name.to_owned(), number);
        self.shards.push(name.to_owned());
        Ok(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(text: &str) -> Result<ShardIndex, Fault> {
        ShardIndex::parse(text.as_bytes())
    }

    #[test]
    fn tensors_are_found_in_their_shards() {
        let text = r#"{"metadata":{"total_size":12},"weight_map":{"a":"x.safetensors","b":"y.safetensors","c":"x.safetensors"}}"#;
        let index = index(text).unwrap();
        assert_eq!(index.names().collect::<Vec<_>>(), ["a", "c", "b"]);
        assert_eq!(index.shards(), ["x.safetensors", "y.safetensors"]);
        assert_eq!(index.tensors_of(0).collect::<Vec<_>>(), ["a", "c"]);
        assert_eq!(index.tensors_of(1).collect::<Vec<_>>(), ["b"]);
        assert_eq!(index.tensors_of(2).count(), 0);
    }

    #[test]
    fn a_shard_that_is_a_path_is_refused_by_name() {
        for name in ["..", ".", "", "a/b", "/etc/passwd", "a\\b", "C:x", "../x", "x/", "a\0b"] {
            let text = format!(r#"{{"weight_map":{{"t":{}}}}}"#, serde_json::Value::from(name));
            let fault = index(&text).unwrap_err();
            assert_eq!(fault.place, Place::Name(name.to_owned()));
            assert!(fault.reason.contains("is a path"), "{name:?}: {}", fault.reason);
        }
        assert!(is_plain_name("model-00001-of-00002.safetensors"));
        assert!(is_plain_name("..hidden"));
        assert!(is_plain_name(&"x".repeat(255)));
        assert!(!is_plain_name(&"x".repeat(256)));
    }

    #[test]
    fn a_tensor_named_twice_is_refused() {
        let fault = index(r#"{"weight_map":{"a":"x","a":"y"}}"#).unwrap_err();
        assert_eq!(fault, Fault { place: Place::Name("a".into()), reason: json::DUPLICATE.into() });
    }

    #[test]
    fn a_weight_map_is_required() {
        assert_eq!(index("{}").unwrap_err().place, Place::Name("weight_map".into()));
        assert!(matches!(index(r#"{"weight_map":[]}"#).unwrap_err().place, Place::Offset(_)));
        assert!(matches!(index(r#"{"weight_map":{"a":1}}"#).unwrap_err().place, Place::Offset(_)));
        assert_eq!(index(r#"{"weight_map":{}}"#).unwrap().names().count(), 0);
    }

    #[test]
    fn too_many_shards_are_refused() {
        let shards: Vec<String> = (0..=MOST_SHARDS).map(|i| format!("\"t{i}\":\"s{i}\"")).collect();
        let fault = index(&format!("{{\"weight_map\":{{{}}}}}", shards.join(","))).unwrap_err();
        assert_eq!(fault.place, Place::Name(format!("s{MOST_SHARDS}")));
    }
}
