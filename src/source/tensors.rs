//! The tensors of a file: names, shapes and places, in compact form.

use std::fmt::{self, Write};
use std::hash::{BuildHasher, RandomState};

use super::json::{self, shortened};
use crate::error::Place;

/// One tensor in compact form: its name and shape lie in the header's string.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    /// Where the data starts and ends, from the end of the header.
    pub(super) start: u64,
    pub(super) end: u64,
    /// Where the name starts in the string; the shape follows it, as `30522,384`.
    pub(super) at: u32,
    pub(super) name: u32,
    pub(super) shape: u32,
    /// The number of the element type in its format.
    pub(super) dtype: u8,
}

/// The names and shapes of all tensors, and where each lies.
#[derive(Debug, Default)]
pub(super) struct Entries {
    pub(super) text: String,
    pub(super) list: Vec<Entry>,
}

impl Entries {
    pub(super) fn name(&self, entry: &Entry) -> &str {
        let at = entry.at as usize;
        self.text.get(at..at + entry.name as usize).unwrap_or_default()
    }

    fn shape(&self, entry: &Entry) -> Shape<'_> {
        let at = entry.at as usize + entry.name as usize;
        Shape(self.text.get(at..at + entry.shape as usize).unwrap_or_default())
    }
}

/// A tensor's shape, as the header writes it without white space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape<'a>(pub(super) &'a str);

impl<'a> Shape<'a> {
    /// The dimensions, outermost first.
    pub(super) fn dims(self) -> impl Iterator<Item = u64> + 'a {
        self.0.split(',').filter_map(|dim| dim.parse().ok())
    }

    /// Rows and columns, where there are two dimensions.
    pub(super) fn matrix(self) -> Option<(u64, u64)> {
        let mut dims = self.dims();
        match (dims.next(), dims.next(), dims.next()) {
            (Some(rows), Some(columns), None) => Some((rows, columns)),
            _ => None,
        }
    }
}

impl fmt::Display for Shape<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST: usize = 8;
        f.write_char('[')?;
        for (i, dim) in self.dims().take(MOST + 1).enumerate() {
            match i {
                0 => write!(f, "{dim}")?,
                MOST => f.write_str(", ...")?,
                _ => write!(f, ", {dim}")?,
            }
        }
        f.write_char(']')
    }
}

/// A tensor of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tensor<'a> {
    pub(super) name: &'a str,
    /// The element type, by embmap's name where it has one.
    pub(super) dtype: &'static str,
    pub(super) shape: Shape<'a>,
    /// Where its data starts in the file.
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

impl Tensor<'_> {
    /// As [`Placed::shown`].
    pub(super) fn shown(&self) -> String {
        Placed::of(*self, 0).shown()
    }
}

impl fmt::Display for Tensor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Escaped, because the name comes from the file.
        write!(f, "{} {} {}", shortened(self.name).escape_debug(), self.shape, self.dtype)
    }
}

/// A tensor that a table is made of, in one of the files that stay open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) name: String,
    pub(super) dtype: &'static str,
    /// As [`Shape`] has it.
    pub(super) shape: String,
    /// The file, as an index into those that stay open.
    pub(super) file: usize,
    /// Where its data starts in that file.
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

impl Placed {
    pub(super) fn of(tensor: Tensor<'_>, file: usize) -> Self {
        Placed {
            name: tensor.name.to_owned(),
            dtype: tensor.dtype,
            shape: tensor.shape.0.to_owned(),
            file,
            offset: tensor.offset,
            bytes: tensor.bytes,
        }
    }

    pub(super) fn shape(&self) -> Shape<'_> {
        Shape(&self.shape)
    }

    /// Name, shape and dtype, for errors.
    pub(super) fn shown(&self) -> String {
        format!("{:?} {} {}", shortened(&self.name), self.shape(), self.dtype)
    }
}

/// The tensors of a file, as its header lists them.
#[derive(Debug)]
pub(super) struct TensorList {
    entries: Entries,
    /// Hash of each name and the place of its entry, by hash.
    by_name: Vec<(u64, u32)>,
    hasher: RandomState,
    /// Where the data starts in the file.
    data: u64,
    /// The name of an element type.
    dtype_name: fn(u8) -> &'static str,
}

impl TensorList {
    /// Where the data starts in the file.
    pub(super) fn data(&self) -> u64 {
        self.data
    }

    /// Where each tensor's data starts and ends from there on, in order.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&Entry, &str)> {
        self.entries.list.iter().map(|entry| (entry, self.entries.name(entry)))
    }

    /// All tensors, in the order of their data.
    pub(super) fn tensors(&self) -> impl Iterator<Item = Tensor<'_>> + Clone {
        self.entries.list.iter().map(|entry| self.tensor(entry))
    }

    /// The tensor of a name.
    pub(super) fn find(&self, name: &str) -> Option<Tensor<'_>> {
        let hash = self.hasher.hash_one(name);
        let first = self.by_name.partition_point(|(other, _)| *other < hash);
        self.by_name[first..]
            .iter()
            .take_while(|(other, _)| *other == hash)
            .map(|(_, place)| &self.entries.list[*place as usize])
            .find(|entry| self.entries.name(entry) == name)
            .map(|entry| self.tensor(entry))
    }

    fn tensor(&self, entry: &Entry) -> Tensor<'_> {
        Tensor {
            name: self.entries.name(entry),
            dtype: (self.dtype_name)(entry.dtype),
            shape: self.entries.shape(entry),
            offset: self.data + entry.start,
            bytes: entry.end - entry.start,
        }
    }

    /// Sorts the tensors by place and by name, and refuses two of one name.
    ///
    /// Hashes are sorted, and not put in a map, to stay within the bound on memory; they
    /// are seeded, so no file can be made to collide.
    pub(super) fn index(
        mut entries: Entries,
        data: u64,
        dtype_name: fn(u8) -> &'static str,
    ) -> Result<Self, json::Fault> {
        entries.list.sort_unstable_by_key(|entry| (entry.start, entry.end));
        let hasher = RandomState::new();
        let mut by_name = Vec::new();
        by_name.reserve_exact(entries.list.len());
        by_name.extend(
            (0u32..).zip(&entries.list).map(|(i, entry)| (hasher.hash_one(entries.name(entry)), i)),
        );
        let name = |place: u32| entries.name(&entries.list[place as usize]);
        by_name.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| name(a.1).cmp(name(b.1))));
        if let Some(twins) =
            by_name.windows(2).find(|two| two[0].0 == two[1].0 && name(two[0].1) == name(two[1].1))
        {
            let place = Place::Name(shortened(name(twins[0].1)));
            let reason =
                "two tensors have this name, expected one: write the file again".to_owned();
            return Err(json::Fault { place, reason });
        }
        Ok(TensorList { entries, by_name, hasher, data, dtype_name })
    }
}
