//! Strict JSON: no key twice in an object, at any level, and a cap on depth.
//!
//! `serde_json` lets the last of two equal keys win, so two readers of one file can see
//! different things in it. Here every document is checked before it is believed.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::path::Path;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::error::{Error, Place};

/// The deepest nesting that is accepted: real files have fewer than ten levels.
pub(super) const MOST_DEPTH: usize = 32;

/// What is wrong with a document, and where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) place: Place,
    pub(super) reason: String,
}

impl Fault {
    /// The fault as an error about a file.
    pub(super) fn in_file(self, path: &Path, format: &'static str) -> Error {
        Error::Foreign { path: path.to_path_buf(), format, place: self.place, reason: self.reason }
    }
}

/// Carries a fault with its place past `serde`, whose errors are text only.
#[derive(Default)]
pub(super) struct FaultSlot(RefCell<Option<Fault>>);

impl FaultSlot {
    /// Keeps the fault and returns what `serde` needs to stop.
    pub(super) fn raise<E: de::Error>(&self, place: Place, reason: String) -> E {
        self.0.replace(Some(Fault { place, reason }));
        E::custom("")
    }
}

/// Parses one whole document that starts at byte `start` of its file.
pub(super) fn parse<'de, S: DeserializeSeed<'de>>(
    bytes: &'de [u8],
    start: u64,
    slot: &FaultSlot,
    seed: S,
) -> Result<S::Value, Fault> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    seed.deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| slot.0.take().unwrap_or_else(|| syntax_fault(bytes, start, &error)))
}

/// Refuses a document that is not JSON, has a key twice in one object, or nests too deep.
pub(super) fn check(bytes: &[u8]) -> Result<(), Fault> {
    // Keys are compared by their hashes. A second look with another random seed tells a
    // collision, however unlikely, from a real duplicate.
    check_once(bytes).or_else(|_| check_once(bytes))
}

fn check_once(bytes: &[u8]) -> Result<(), Fault> {
    let slot = FaultSlot::default();
    let mut keys = Keys::default();
    parse(bytes, 0, &slot, Checked { keys: &mut keys, slot: &slot, depth: 0 })
}

/// A name as it is shown in a message: a hostile one may be megabytes long.
pub(crate) fn shortened(name: &str) -> String {
    const MOST: usize = 200;
    match name.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", &name[..end]),
        None => name.to_owned(),
    }
}

fn syntax_fault(bytes: &[u8], start: u64, error: &serde_json::Error) -> Fault {
    let (line, column) = (error.line(), error.column());
    let before: usize = bytes
        .split_inclusive(|byte| *byte == b'\n')
        .take(line.saturating_sub(1))
        .map(<[u8]>::len)
        .sum();
    let offset = before.saturating_add(column.saturating_sub(1)).min(bytes.len());
    let text = error.to_string();
    let reason = text.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&text);
    Fault { place: Place::Offset(start.saturating_add(offset as u64)), reason: shortened(reason) }
}

/// The keys of the objects that are being read, innermost last.
#[derive(Default)]
pub(super) struct Keys {
    hasher: RandomState,
    /// The hashes of the keys of small objects. One vector for all of them, because a file
    /// may hold millions.
    small: Vec<u64>,
}

/// The keys of one object.
pub(super) struct ObjectKeys {
    base: usize,
    large: HashSet<u64, BuildHasherDefault<AlreadyHashed>>,
}

impl Keys {
    /// Starts an object.
    pub(super) fn open(&self) -> ObjectKeys {
        ObjectKeys { base: self.small.len(), large: HashSet::default() }
    }

    /// Adds a key of the innermost object; false where it has that key already.
    pub(super) fn insert(&mut self, object: &mut ObjectKeys, key: &str) -> bool {
        const SMALL: usize = 32;
        let hash = self.hasher.hash_one(key);
        let small = &self.small[object.base..];
        if small.contains(&hash) || object.large.contains(&hash) {
            return false;
        }
        if small.len() < SMALL {
            self.small.push(hash);
            true
        } else {
            object.large.insert(hash)
        }
    }

    /// Ends the innermost object.
    pub(super) fn close(&mut self, object: &ObjectKeys) {
        self.small.truncate(object.base);
    }
}

/// Passes through a number that is a hash already.
#[derive(Default)]
pub(super) struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 << 8) | u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// Any value, walked for duplicate keys and depth.
struct Checked<'a> {
    keys: &'a mut Keys,
    slot: &'a FaultSlot,
    depth: usize,
}

impl Checked<'_> {
    fn inner(&mut self) -> Checked<'_> {
        Checked { keys: &mut *self.keys, slot: self.slot, depth: self.depth + 1 }
    }

    fn check_depth<E: de::Error>(&self) -> Result<(), E> {
        if self.depth < MOST_DEPTH {
            return Ok(());
        }
        Err(E::custom(format_args!("nested deeper than the {MOST_DEPTH} levels that are read")))
    }
}

impl<'de> DeserializeSeed<'de> for Checked<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Checked<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        self.check_depth()?;
        while seq.next_element_seed(self.inner())?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        self.check_depth()?;
        let mut object = self.keys.open();
        loop {
            let key = NewKey { keys: &mut *self.keys, object: &mut object, slot: self.slot };
            if map.next_key_seed(key)?.is_none() {
                break;
            }
            map.next_value_seed(self.inner())?;
        }
        self.keys.close(&object);
        Ok(())
    }
}

/// A key that its object must not have yet.
pub(super) struct NewKey<'a> {
    pub(super) keys: &'a mut Keys,
    pub(super) object: &'a mut ObjectKeys,
    pub(super) slot: &'a FaultSlot,
}

impl<'de> DeserializeSeed<'de> for NewKey<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for NewKey<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<(), E> {
        if self.keys.insert(self.object, key) {
            return Ok(());
        }
        Err(self.slot.raise(Place::Name(shortened(key)), DUPLICATE.to_owned()))
    }
}

/// The reason given for a key that is there twice.
pub(super) const DUPLICATE: &str =
    "this key is there twice in one object, expected once: the file is ambiguous, write it again";

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> Fault {
        check(text.as_bytes()).unwrap_err()
    }

    #[test]
    fn every_kind_of_value_passes() {
        let text = r#" {"a":[1,-2,3.5,1e300,true,null,"\u00e9"],"b":{"a":{"a":{}}},"":[]} "#;
        assert_eq!(check(text.as_bytes()), Ok(()));
    }

    #[test]
    fn a_key_twice_is_refused_at_every_level() {
        for text in [
            r#"{"twin":1,"twin":2}"#,
            r#"{"a":{"twin":1,"b":2,"twin":3}}"#,
            r#"[[{"twin":[{"x":1}],"twin":0}]]"#,
            r#"{"twin":{"inner":{}},"twin":1}"#,
            r#"{"twin":1,"tw\u0069n":2}"#,
        ] {
            assert_eq!(
                fault(text),
                Fault { place: Place::Name("twin".into()), reason: DUPLICATE.into() },
                "{text}"
            );
        }
    }

    #[test]
    fn the_same_key_in_different_objects_is_no_duplicate() {
        assert_eq!(check(br#"[{"a":{"a":1}},{"a":2},{"b":{"a":1},"a":{"b":1}}]"#), Ok(()));
    }

    #[test]
    fn a_duplicate_among_many_keys_is_found_wherever_it_is() {
        let keys: Vec<String> = (0..200).map(|i| format!("\"k{i}\":{{\"a\":1}}")).collect();
        assert_eq!(check(format!("{{{}}}", keys.join(",")).as_bytes()), Ok(()));
        for twin in [0, 31, 32, 33, 199] {
            let text = format!("{{{},\"k{twin}\":0}}", keys.join(","));
            assert_eq!(fault(&text).place, Place::Name(format!("k{twin}")));
        }
    }

    #[test]
    fn depth_is_capped() {
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(check(nested(MOST_DEPTH).as_bytes()), Ok(()));
        assert!(fault(&nested(MOST_DEPTH + 1)).reason.contains("deeper"));
        assert!(fault(&"[".repeat(1_000_000)).reason.contains("deeper"));
    }

    #[test]
    fn a_syntax_error_has_its_offset() {
        assert_eq!(fault("{\n \"a\": x}").place, Place::Offset(8));
        assert_eq!(fault("{} {").place, Place::Offset(3));
        assert_eq!(fault("").place, Place::Offset(0));
        assert!(matches!(check(b"\"\xff\"").unwrap_err().place, Place::Offset(_)));
        assert!(!fault("{]").reason.contains("line"));
    }

    #[test]
    fn a_long_name_is_shortened_at_a_character() {
        assert_eq!(shortened("short"), "short");
        assert_eq!(shortened(&"é".repeat(300)), format!("{}...", "é".repeat(200)));
    }
}
