//! The texts that a column's numbers stand for, all of them in memory: numbers come in any order.

use arrow_schema::DataType;

use super::batch::Columns;
use super::buffers::RowFault;
use super::tokens::Tokens;

/// The most memory for the texts, whatever the bytes that they come from.
const MOST: u64 = 1 << 30;

/// The memory that they may take in any case, and beyond it for each byte that they come from.
const ALWAYS: u64 = 64 << 20;
const FOR_EACH_BYTE: u64 = 16;

/// The texts of a dictionary.
#[derive(Debug, Default)]
pub(super) struct Dictionary {
    text: String,
    /// Where each of them ends.
    ends: Vec<usize>,
    /// Those that stand for no text, in ascending order.
    absent: Vec<u64>,
    /// The bytes that they come from.
    packed: u64,
}

impl Dictionary {
    /// Adds the texts of a batch that has so many bytes, or takes them instead of those before.
    pub(super) fn read(
        &mut self,
        mut columns: Columns,
        texts: &DataType,
        bytes: u64,
        is_more: bool,
    ) -> Result<(), RowFault> {
        if !is_more {
            *self = Dictionary::default();
        }
        self.packed = self.packed.saturating_add(bytes);
        let most = ALWAYS.saturating_add(self.packed.saturating_mul(FOR_EACH_BYTE)).min(MOST);
        let rows = columns.rows;
        let reason = |reason: &str| RowFault::Row(reason.to_owned());
        let mut tokens = Tokens::open(&mut columns, texts).map_err(reason)?;
        let none = Dictionary::default();
        for _ in 0..rows {
            match tokens.next(&none)? {
                Some(text) => self.text.push_str(text),
                None => self.absent.push(self.count()),
            }
            self.ends.push(self.text.len());
            if self.text.len() as u64 + 8 * self.count() > most {
                return Err(reason(&format!(
                    "its texts take more than {most} bytes of memory; write the column as plain \
                     text, in Python: column.cast(pyarrow.large_string())"
                )));
            }
        }
        Ok(())
    }

    fn count(&self) -> u64 {
        self.ends.len() as u64
    }

    /// The text of a number, which may be an absent one.
    pub(super) fn text(&self, code: i128) -> Result<Option<&str>, RowFault> {
        let at = usize::try_from(code).ok();
        let Some((at, end)) = at.and_then(|at| Some((at, *self.ends.get(at)?))) else {
            let count = self.count();
            let reason =
                format!("the token is text {code} of its dictionary, which has {count} so far");
            return Err(RowFault::Row(reason));
        };
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        let is_there = self.absent.binary_search(&(at as u64)).is_err();
        Ok(is_there.then(|| &self.text[start..end]))
    }
}
