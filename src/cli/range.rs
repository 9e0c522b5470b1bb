//! A range of rows, as an argument.

use std::ops::Range;

/// A range whose ends may be the table's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RowRange {
    start: Option<u64>,
    end: Option<u64>,
}

impl RowRange {
    /// The range of a table of so many rows.
    pub(crate) fn of(self, vocab: u64) -> Range<u64> {
        self.start.unwrap_or(0)..self.end.unwrap_or(vocab)
    }
}

impl From<RowRange> for Range<u64> {
    /// The range of a table of any number of rows: the largest number stands for the last row.
    fn from(rows: RowRange) -> Self {
        rows.of(u64::MAX)
    }
}

impl std::str::FromStr for RowRange {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let side = |text: &str| match text {
            "" => Some(None),
            number => number.parse().ok().map(Some),
        };
        text.split_once(':')
            .and_then(|(start, end)| Some(RowRange { start: side(start)?, end: side(end)? }))
            .ok_or("expected a:b, such as 0:1000, :1000 or 1000:")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_a_range_with_open_ends() {
        let parse = |text: &str| text.parse::<RowRange>().map(|rows| rows.of(20));
        assert_eq!(parse("2:10"), Ok(2..10));
        assert_eq!(parse(":10"), Ok(0..10));
        assert_eq!(parse("2:"), Ok(2..20));
        assert_eq!(parse(":"), Ok(0..20));
        for wrong in ["2", "a:b", "1:2:3", "-1:2", ""] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
