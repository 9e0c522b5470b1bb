//! From the JSON of a safetensors header to compact entries, in one pass.

use std::fmt::{self, Write};

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::json::{self, Fault, FaultSlot, Keys, NewKey, shortened};
use super::safetensors::TYPES;
use super::tensors::{Entries, Entry};
use crate::error::Place;

/// The fewest bytes that a tensor takes in a header: `"":{"dtype":"U8","shape":[],"data_offsets":[0,1]},`.
pub(super) const SHORTEST: usize = 50;

/// The most dimensions of a tensor. Frameworks know fewer than ten, and numpy stops at 64;
/// without a cap one shape can be as long as the header.
const MOST_DIMS: usize = 32;

/// The most keys of `__metadata__`. Files have a handful; to tell whether one is there twice
/// takes memory and time for each.
const MOST_METADATA: usize = 100_000;

/// Parses the header that starts at byte `start` of its file.
pub(super) fn parse(text: &[u8], start: u64) -> Result<Entries, Fault> {
    let slot = FaultSlot::default();
    let mut entries = Entries::default();
    json::parse(
        text,
        start,
        &slot,
        Tensors { entries: &mut entries, slot: &slot, length: text.len() },
    )?;
    entries.text.shrink_to_fit();
    entries.list.shrink_to_fit();
    Ok(entries)
}

/// The whole header.
struct Tensors<'a> {
    entries: &'a mut Entries,
    slot: &'a FaultSlot,
    length: usize,
}

impl Tensors<'_> {
    /// Takes all the memory that a header of this length can need, once: growing by
    /// doubling would take more.
    fn reserve(&mut self) {
        let Entries { text, list } = &mut *self.entries;
        text.reserve_exact(self.length - text.len().min(self.length));
        let most = self.length / SHORTEST + 1;
        list.reserve_exact(most - list.len().min(most));
    }
}

impl<'de> DeserializeSeed<'de> for Tensors<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Tensors<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        self.reserve();
        let mut has_metadata = false;
        loop {
            let at = self.entries.text.len();
            if map.next_key_seed(Name { text: &mut self.entries.text })?.is_none() {
                return Ok(());
            }
            if &self.entries.text[at..] == "__metadata__" {
                if std::mem::replace(&mut has_metadata, true) {
                    let place = Place::Name("__metadata__".to_owned());
                    return Err(self.slot.raise(place, json::DUPLICATE.to_owned()));
                }
                self.entries.text.truncate(at);
                // What the metadata takes of the header, the tensors do not: without this
                // the keys of a huge one come on top of memory that stays unused.
                self.entries.text.shrink_to_fit();
                self.entries.list.shrink_to_fit();
                map.next_value_seed(Metadata { slot: self.slot })?;
                self.reserve();
            } else {
                let entry =
                    map.next_value_seed(Fields { entries: self.entries, slot: self.slot, at })?;
                self.entries.list.push(entry);
            }
        }
    }
}

/// A tensor's name, appended to the text.
struct Name<'a> {
    text: &'a mut String,
}

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a tensor's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<(), E> {
        self.text.push_str(name);
        Ok(())
    }
}

/// `__metadata__`: null or an object of strings, of which nothing is kept.
struct Metadata<'a> {
    slot: &'a FaultSlot,
}

impl<'de> DeserializeSeed<'de> for Metadata<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Metadata<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of strings as __metadata__")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut keys = Keys::default();
        let mut object = keys.open();
        let mut count = 0;
        loop {
            let key = NewKey { keys: &mut keys, object: &mut object, slot: self.slot };
            if map.next_key_seed(key)?.is_none() {
                return Ok(());
            }
            count += 1;
            if count > MOST_METADATA {
                let place = Place::Name("__metadata__".to_owned());
                let reason = "it has more than the 100,000 keys that are read: write the file again with fewer";
                return Err(self.slot.raise(place, reason.to_owned()));
            }
            map.next_value_seed(AnyString)?;
        }
    }
}

/// A string that is not kept.
struct AnyString;

impl<'de> DeserializeSeed<'de> for AnyString {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for AnyString {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
}

/// One tensor's object; its name is at the end of the text.
struct Fields<'a> {
    entries: &'a mut Entries,
    slot: &'a FaultSlot,
    at: usize,
}

impl Fields<'_> {
    fn refuse<E: de::Error>(&self, name: usize, reason: String) -> E {
        let name = self.entries.text.get(self.at..self.at + name).unwrap_or_default();
        self.slot.raise(Place::Name(shortened(name)), reason)
    }
}

impl<'de> DeserializeSeed<'de> for Fields<'_> {
    type Value = Entry;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Entry, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = Entry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with dtype, shape and data_offsets")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Entry, A::Error> {
        let name = self.entries.text.len() - self.at;
        let (mut dtype, mut shape, mut offsets) = (None, None, None);
        while let Some(key) = map.next_key_seed(Text(Key::of))? {
            let again = match &key {
                Key::DType => dtype.is_some(),
                Key::Shape => shape.is_some(),
                Key::Offsets => offsets.is_some(),
                Key::Unknown(_) => false,
            };
            if again {
                return Err(self.refuse(
                    name,
                    "one of dtype, shape and data_offsets is there twice".to_owned(),
                ));
            }
            match key {
                Key::DType => match map.next_value_seed(Text(type_of))? {
                    Ok(found) => dtype = Some(found),
                    Err(unknown) => {
                        let reason = format!(
                            "dtype {unknown:?} is unknown: damaged, or written by a newer safetensors"
                        );
                        return Err(self.refuse(name, reason));
                    }
                },
                Key::Shape => {
                    let Fields { entries, slot, at } = &mut self;
                    let fields = Fields { entries, slot, at: *at };
                    shape = Some(map.next_value_seed(Dims { fields, name })?);
                }
                Key::Offsets => offsets = Some(map.next_value_seed(Offsets)?),
                Key::Unknown(key) => {
                    map.next_value::<IgnoredAny>()?;
                    return Err(self.refuse(
                        name,
                        format!("key {key:?} is unknown, expected dtype, shape and data_offsets"),
                    ));
                }
            }
        }
        let (Some(dtype), Some(elements), Some((start, end))) = (dtype, shape, offsets) else {
            return Err(
                self.refuse(name, "expected all of dtype, shape and data_offsets".to_owned())
            );
        };
        let Some(bits) =
            elements.and_then(|elements| elements.checked_mul(TYPES[usize::from(dtype)].bits))
        else {
            return Err(self.refuse(name, "its size overflows 64 bits".to_owned()));
        };
        if bits % 8 != 0 {
            return Err(self
                .refuse(name, format!("it takes {bits} bits, expected a whole number of bytes")));
        }
        if end.checked_sub(start) != Some(bits / 8) {
            let reason = format!(
                "its shape and dtype take {} bytes, its data_offsets are {start} to {end}",
                bits / 8
            );
            return Err(self.refuse(name, reason));
        }
        let shape = self.entries.text.len() - self.at - name;
        let fits = (u32::try_from(self.at), u32::try_from(name), u32::try_from(shape));
        let (Ok(at), Ok(name), Ok(shape)) = fits else {
            return Err(de::Error::custom("the header is too long"));
        };
        Ok(Entry { start, end, at, name, shape, dtype })
    }
}

enum Key {
    DType,
    Shape,
    Offsets,
    Unknown(String),
}

impl Key {
    fn of(key: &str) -> Self {
        match key {
            "dtype" => Key::DType,
            "shape" => Key::Shape,
            "data_offsets" => Key::Offsets,
            unknown => Key::Unknown(shortened(unknown)),
        }
    }
}

fn type_of(dtype: &str) -> Result<u8, String> {
    (0u8..)
        .zip(&TYPES)
        .find(|(_, known)| known.written == dtype)
        .map(|(i, _)| i)
        .ok_or_else(|| shortened(dtype))
}

/// A string, turned into something smaller while it is borrowed.
struct Text<F>(F);

impl<'de, T, F: FnOnce(&str) -> T> DeserializeSeed<'de> for Text<F> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<T, F: FnOnce(&str) -> T> Visitor<'_> for Text<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E>(self, text: &str) -> Result<T, E> {
        Ok((self.0)(text))
    }
}

/// A shape, appended to the text; the number of elements, or `None` where it overflows.
struct Dims<'a> {
    fields: Fields<'a>,
    /// The length of the tensor's name.
    name: usize,
}

impl<'de> DeserializeSeed<'de> for Dims<'_> {
    type Value = Option<u64>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<u64>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Dims<'_> {
    type Value = Option<u64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a shape: a list of whole numbers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Option<u64>, A::Error> {
        let mut elements = Some(1u64);
        let mut count = 0;
        while let Some(dim) = seq.next_element::<u64>()? {
            if count == MOST_DIMS {
                let reason = format!(
                    "its shape has more than the {MOST_DIMS} dimensions that are read: damaged, or not the shape of a tensor"
                );
                return Err(self.fields.refuse(self.name, reason));
            }
            let comma = if count == 0 { "" } else { "," };
            count += 1;
            // As text it takes no more room than in the header, whatever the number.
            write!(self.fields.entries.text, "{comma}{dim}").map_err(de::Error::custom)?;
            elements = elements.and_then(|elements| elements.checked_mul(dim));
        }
        Ok(elements)
    }
}

/// `data_offsets`: exactly two numbers.
struct Offsets;

impl<'de> DeserializeSeed<'de> for Offsets {
    type Value = (u64, u64);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(u64, u64), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Offsets {
    type Value = (u64, u64);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("data_offsets: a list of two whole numbers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(u64, u64), A::Error> {
        let start = seq.next_element()?.ok_or_else(|| de::Error::invalid_length(0, &self))?;
        let end = seq.next_element()?.ok_or_else(|| de::Error::invalid_length(1, &self))?;
        match seq.next_element::<u64>()? {
            None => Ok((start, end)),
            Some(_) => Err(de::Error::invalid_length(3, &self)),
        }
    }
}
