//! How long the rows of a page are, from its repetition levels: known before their numbers are
//! read, of which a dictionary can make any count from a few bytes.
//!
//! Levels are runs, either of one level or of eight packed ones: see "Run Length Encoding /
//! Bit-Packing Hybrid" of the format's document on encodings.

use parquet::basic::Encoding;
use parquet::column::page::Page;

/// The rows of a column chunk, page after page.
pub(super) struct RowLengths {
    /// The most numbers of a row.
    most: u64,
    /// The row that is open, and the numbers of it so far.
    row: Option<u64>,
    length: u64,
}

/// A row that is longer, counted from the first of its chunk, and its length so far.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong {
    pub(super) row: u64,
    pub(super) length: u64,
}

impl RowLengths {
    pub(super) fn new(most: u64) -> Self {
        RowLengths { most, row: None, length: 0 }
    }

    /// Looks at the next page.
    pub(super) fn check(&mut self, page: &Page) -> Result<(), TooLong> {
        let levels = match page {
            Page::DataPage { buf, rep_level_encoding: Encoding::RLE, .. } => {
                let Some((length, rest)) = buf.split_first_chunk() else { return Ok(()) };
                let length = u32::from_le_bytes(*length) as usize;
                rest.get(..length)
            }
            // Of levels in the older encoding each has a bit of its own: few bytes make few of them.
            Page::DataPage { .. } | Page::DictionaryPage { .. } => return Ok(()),
            Page::DataPageV2 { buf, rep_levels_byte_len, .. } => {
                buf.get(..*rep_levels_byte_len as usize)
            }
        };
        // What is wrong with the levels themselves the library finds.
        self.add(levels.unwrap_or_default(), page.num_values().into())
    }

    /// Adds so many levels, as they are encoded.
    fn add(&mut self, mut bytes: &[u8], mut left: u64) -> Result<(), TooLong> {
        while left > 0 {
            let Some(head) = take_number(&mut bytes) else { break };
            let count = head >> 1;
            if head & 1 == 0 {
                let Some(level) = bytes.split_off_first() else { break };
                let count = count.min(left);
                left -= count;
                self.run(*level == 0, count)?;
                continue;
            }
            let packed = usize::try_from(count).unwrap_or(usize::MAX).min(bytes.len());
            let Some(packed) = bytes.split_off(..packed) else { break };
            for byte in packed {
                if *byte == u8::MAX && left >= 8 {
                    self.run(false, 8)?;
                    left -= 8;
                    continue;
                }
                for bit in 0..left.min(8) {
                    self.run(byte >> bit & 1 == 0, 1)?;
                }
                left = left.saturating_sub(8);
            }
            if (packed.len() as u64) < count {
                break;
            }
        }
        // The row may go on in the next page.
        self.end()
    }

    /// Adds levels that are the same: each starts a row, or none does.
    fn run(&mut self, starts: bool, count: u64) -> Result<(), TooLong> {
        if count == 0 {
            return Ok(());
        }
        if starts {
            self.end()?;
            self.row = Some(self.row.map_or(0, |row| row + 1) + count - 1);
            self.length = 1;
        } else {
            self.length += count;
        }
        Ok(())
    }

    fn end(&self) -> Result<(), TooLong> {
        if self.length <= self.most {
            return Ok(());
        }
        Err(TooLong { row: self.row.unwrap_or(0), length: self.length })
    }
}

/// A number in groups of seven bits, the lowest first.
fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..35).step_by(7) {
        let byte = *bytes.split_off_first()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_row_of_many_numbers_in_few_bytes_is_found() {
        // A row starts, then a run of 2^30 that do not.
        let bytes = [2, 0, 0x80, 0x80, 0x80, 0x80, 0x08, 1];
        let mut lengths = RowLengths::new(300);
        let found = lengths.add(&bytes, u64::from(u32::MAX));
        assert_eq!(found, Err(TooLong { row: 0, length: (1 << 30) + 1 }));
        // And where the page has fewer than the run says.
        assert_eq!(RowLengths::new(300).add(&bytes, 300), Ok(()));
    }

    /// Levels, encoded in runs as it comes.
    fn encoded(levels: &[bool], packed: &[bool]) -> Vec<u8> {
        let (mut out, mut rest, mut packed) = (Vec::new(), levels, packed.iter().cycle());
        while let [first, ..] = rest {
            if *packed.next().unwrap_or(&true) {
                let group = &rest[..rest.len().min(8)];
                let byte = group.iter().rev().fold(0, |byte, level| byte << 1 | u8::from(*level));
                out.extend([3, byte]);
                rest = &rest[group.len()..];
            } else {
                let run = rest.iter().take(63).take_while(|level| *level == first).count();
                out.extend([u8::try_from(run).unwrap() << 1, (*first).into()]);
                rest = &rest[run..];
            }
        }
        out
    }

    proptest! {
        #[test]
        fn lengths_are_those_of_the_levels(
            rows in proptest::collection::vec(1u64..40, 1..20),
            packed in proptest::collection::vec(any::<bool>(), 1..5),
            most in 1u64..40,
            cut in any::<prop::sample::Index>(),
        ) {
            let levels: Vec<bool> = rows
                .iter()
                .flat_map(|length| (0..*length).map(|place| place > 0))
                .collect();
            let wrong = rows.iter().position(|length| *length > most);
            let expected = wrong.map(|row| (row as u64, rows[row]));
            // In two pages, of which the first may end within a row.
            let cut = cut.index(levels.len());
            let mut lengths = RowLengths::new(most);
            let mut found = Ok(());
            for part in [&levels[..cut], &levels[cut..]] {
                found = found.and_then(|()| lengths.add(&encoded(part, &packed), part.len() as u64));
            }
            match (found, expected) {
                (Ok(()), None) => {}
                (Err(found), Some((row, length))) => {
                    prop_assert_eq!(found.row, row);
                    prop_assert!(found.length > most && found.length <= length);
                }
                (found, expected) => prop_assert!(false, "{:?} {:?}", found, expected),
            }
        }
    }
}
