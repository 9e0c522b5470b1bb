//! From the rows that are placed to the bytes of the section.

use std::io::{self, Write};

use byteorder::{LittleEndian, WriteBytesExt};

use super::lookup::{GROUP, OrderShape};

/// The ids whose rows are placed, each once.
#[derive(Debug, Clone)]
pub(crate) struct PlacedRows {
    /// Each id and its place, by id.
    pairs: Vec<(u64, u64)>,
}

impl PlacedRows {
    /// The ids of the first rows of a table, in their order; an id that comes twice is the
    /// error.
    pub(crate) fn new(ids: &[u64]) -> Result<Self, u64> {
        let mut pairs: Vec<(u64, u64)> = ids.iter().copied().zip(0..).collect();
        pairs.sort_unstable();
        let twice = pairs.windows(2).find(|pair| pair[0].0 == pair[1].0);
        twice.map_or(Ok(()), |pair| Err(pair[0].0))?;
        Ok(PlacedRows { pairs })
    }

    /// The number of rows that are placed.
    pub(crate) fn count(&self) -> u64 {
        self.pairs.len() as u64
    }

    /// The highest id.
    pub(crate) fn highest(&self) -> Option<u64> {
        self.pairs.last().map(|pair| pair.0)
    }

    /// Writes the section of a table of so many rows, among which all of these are.
    pub(crate) fn write(&self, vocab: u64, out: &mut impl Write) -> io::Result<()> {
        let shape = OrderShape { vocab, placed: self.count() };
        let (mut before, mut rest) = (0, self.pairs.as_slice());
        for group in 0..shape.groups() {
            let own = rest.partition_point(|pair| pair.0 < (group + 1) * GROUP);
            let (here, after) = rest.split_at(own);
            let bits = here.iter().fold(0u64, |bits, pair| bits | 1 << (pair.0 % GROUP));
            out.write_u64::<LittleEndian>(before)?;
            out.write_u64::<LittleEndian>(bits)?;
            before += own as u64;
            rest = after;
        }
        let width = if shape.place_bytes() == 4 { 4 } else { 8 };
        self.pairs.iter().try_for_each(|pair| out.write_uint::<LittleEndian>(pair.1, width))
    }
}
