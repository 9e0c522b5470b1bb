//! The integer types that ids come as, and their check.

use crate::error::{Error, Result};

mod sealed {
    pub trait Sealed {}
    impl Sealed for u32 {}
    impl Sealed for u64 {}
    impl Sealed for i32 {}
    impl Sealed for i64 {}
}

/// An integer type that ids may have: `u32`, `u64`, `i32`, `i64`. Sealed.
///
/// Negative ids are out of range, never counted from the end.
pub trait Id: sealed::Sealed + Copy + Send + Sync + Into<i128> {
    /// The id as a row number; a negative one becomes a number that no table reaches.
    fn row(self) -> u64;
}

impl Id for u32 {
    fn row(self) -> u64 {
        u64::from(self)
    }
}

impl Id for u64 {
    fn row(self) -> u64 {
        self
    }
}

// Read as unsigned, a negative id is at least 2^63, and no table has that many rows: even
// rows of one byte would need a file longer than any file system's offsets.
impl Id for i32 {
    fn row(self) -> u64 {
        i64::from(self).cast_unsigned()
    }
}

impl Id for i64 {
    fn row(self) -> u64 {
        self.cast_unsigned()
    }
}

/// Checks every id against the number of rows.
pub(super) fn check_ids<I: Id>(ids: &[I], vocab: u64) -> Result<()> {
    // The largest id decides, without a branch an id; which one it was matters only then.
    let largest = ids.iter().map(|id| id.row()).max();
    if largest.is_none_or(|largest| largest < vocab) {
        return Ok(());
    }
    check_ids_but(ids, vocab, None)
}

/// Checks every id against the number of rows, but for those that are `padding`.
pub(super) fn check_ids_but<I: Id>(ids: &[I], vocab: u64, padding: Option<u64>) -> Result<()> {
    let wrong = |id: &I| id.row() >= vocab && Some(id.row()) != padding;
    match ids.iter().enumerate().find(|(_, id)| wrong(id)) {
        None => Ok(()),
        Some((position, id)) => {
            Err(Error::RowOutOfRange { id: (*id).into(), position: Some(position), vocab })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused<I: Id>(ids: &[I], vocab: u64) -> Option<(i128, usize)> {
        match check_ids(ids, vocab) {
            Ok(()) => None,
            Err(Error::RowOutOfRange { id, position: Some(position), vocab: told }) => {
                assert_eq!(told, vocab);
                Some((id, position))
            }
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn the_first_bad_id_is_named() {
        assert_eq!(refused(&[0u32, 4, 5, 9], 5), Some((5, 2)));
        assert_eq!(refused(&[0i32, -1, 9], 5), Some((-1, 1)));
        assert_eq!(refused(&[i64::MIN], u64::MAX >> 1), Some((i64::MIN.into(), 0)));
        assert_eq!(refused(&[u64::MAX], 5), Some((u64::MAX.into(), 0)));
    }

    #[test]
    fn ids_below_vocab_pass() {
        assert_eq!(refused(&[0u32, 4, 4, 1], 5), None);
        assert_eq!(refused::<i64>(&[], 0), None);
        assert_eq!(refused(&[0u64], 0), Some((0, 0)));
    }
}
