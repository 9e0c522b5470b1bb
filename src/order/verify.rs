//! Reading all of a row order and checking every rule that it keeps.

use super::lookup::{GROUP, GROUP_BYTES, Group, OrderShape};
use crate::error::{Error, FormatError, Result};
use crate::storage::{Scan, StoredFile, Stretch};

/// The bytes read at once: whole groups and places.
const PIECE: usize = 1 << 20;

/// The places that are looked at in one reading: their bits take 16 MiB.
const WINDOW: u64 = 1 << 27;

/// Checks that a row order is one: that its groups count right, and that its places are each
/// placed row's own. Of more than 134 million placed rows the places are read several times.
///
/// # Errors
///
/// The first rule that is broken, or a failed read.
pub(crate) fn verify_order(file: &StoredFile, section: Stretch, shape: OrderShape) -> Result<()> {
    verify(file, section, shape, WINDOW)
}

fn verify(file: &StoredFile, section: Stretch, shape: OrderShape, window: u64) -> Result<()> {
    let damaged = |rule, at| {
        let source = FormatError::RowOrder { rule, at };
        Err(Error::Format { path: file.path().to_path_buf(), source })
    };
    let places_at = section.offset + shape.places_at();
    let mut groups = Scan::new(file, section.offset, places_at, PIECE);
    let (mut id, mut counted) = (0, 0u64);
    while let Some((_, piece)) = groups.next()? {
        for bytes in piece.chunks_exact(GROUP_BYTES) {
            let Group { before, bits } = Group::read(bytes);
            if before != counted {
                return damaged("a group counts the placed rows before it", id);
            }
            let left = shape.vocab - id;
            if left < GROUP && bits >> left != 0 {
                return damaged("no bit stands for an id that no row has", shape.vocab);
            }
            counted += u64::from(bits.count_ones());
            id = id.saturating_add(GROUP);
        }
    }
    if counted != shape.placed {
        return damaged("there is a place for each placed row", shape.vocab);
    }
    let mut start = 0;
    while start < shape.placed {
        let end = shape.placed.min(start.saturating_add(window));
        let words = usize::try_from((end - start).div_ceil(64)).unwrap_or(usize::MAX);
        let mut seen = vec![0u64; words];
        let mut places = Scan::new(file, places_at, section.end(), PIECE);
        let mut rank = 0;
        while let Some((_, piece)) = places.next()? {
            for bytes in piece.chunks_exact(if shape.place_bytes() == 4 { 4 } else { 8 }) {
                let place = shape.read_place(bytes);
                if place >= shape.placed {
                    return damaged("a place is below the number of placed rows", rank);
                }
                if (start..end).contains(&place) {
                    let at = usize::try_from((place - start) / 64).unwrap_or(usize::MAX);
                    let bit = 1 << ((place - start) % 64);
                    if seen[at] & bit != 0 {
                        return damaged("no two rows have the same place", rank);
                    }
                    seen[at] |= bit;
                }
                rank += 1;
            }
        }
        start = end;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use byteorder::{ByteOrder, LittleEndian};
    use proptest::prelude::*;

    use super::super::PlacedRows;
    use super::*;

    /// The section, and the place of each id as a plain list has it.
    fn encode(vocab: u64, ids: &[u64]) -> (Vec<u8>, Vec<u64>) {
        let mut section = Vec::new();
        PlacedRows::new(ids).unwrap().write(vocab, &mut section).unwrap();
        let mut rows = ids.to_vec();
        let first: HashSet<u64> = ids.iter().copied().collect();
        rows.extend((0..vocab).filter(|id| !first.contains(id)));
        let mut places = vec![0; rows.len()];
        for (place, id) in (0..).zip(rows) {
            places[id as usize] = place;
        }
        (section, places)
    }

    fn verified(vocab: u64, section: &[u8], window: u64) -> Option<FormatError> {
        let file = StoredFile::from_bytes(section, "order").unwrap();
        let bytes = section.len() as u64;
        let shape = OrderShape::of_section(vocab, bytes).unwrap();
        match verify(&file, Stretch { offset: 0, bytes }, shape, window) {
            Ok(()) => None,
            Err(Error::Format { source, .. }) => Some(source),
            Err(other) => panic!("{other}"),
        }
    }

    /// Some of the numbers below `vocab`, in any order.
    fn some_of() -> impl Strategy<Value = (u64, Vec<u64>)> {
        (1u64..300, any::<u64>()).prop_flat_map(|(vocab, _)| {
            let ids: Vec<u64> = (0..vocab).collect();
            (Just(vocab), 1..=vocab as usize, Just(ids).prop_shuffle())
                .prop_map(|(vocab, count, ids)| (vocab, ids[..count].to_vec()))
        })
    }

    proptest! {
        #[test]
        fn lookups_agree_with_a_plain_list((vocab, ids) in some_of(), window in 1u64..100) {
            let (section, places) = encode(vocab, &ids);
            let shape = OrderShape::of_section(vocab, section.len() as u64).unwrap();
            prop_assert_eq!(Some(shape), OrderShape::of(vocab, ids.len() as u64));
            let fetch = |at: u64, bytes: usize| section.get(at as usize..at as usize + bytes);
            for (id, place) in (0..).zip(&places) {
                prop_assert_eq!(shape.place(id, fetch), Some(*place));
                prop_assert_eq!(shape.id_at(*place, fetch), Some(id));
            }
            prop_assert_eq!(shape.place(vocab, fetch), None);
            prop_assert_eq!(shape.place(u64::MAX, fetch), None);
            prop_assert_eq!(shape.id_at(vocab, fetch), None);
            for end in [vocab, vocab.div_ceil(2)] {
                let mut id = 0;
                while id < end {
                    let (count, first) = shape.run(id, end, fetch).unwrap();
                    prop_assert!(count > 0 && id + count <= end);
                    for at in 0..count {
                        prop_assert_eq!(places[(id + at) as usize], first + at);
                    }
                    id += count;
                    let longer = id < end && places[id as usize] == first + count;
                    prop_assert!(!longer, "a run is as long as can be");
                }
            }
            prop_assert_eq!(verified(vocab, &section, window), None);
        }

        #[test]
        fn what_is_not_found_damaged_is_an_order_and_no_place_is_beyond_the_rows(
            (vocab, ids) in some_of(), at: prop::sample::Index, change in 1u8..=255, window in 1u64..100,
        ) {
            let (mut section, _) = encode(vocab, &ids);
            let at = at.index(section.len());
            section[at] ^= change;
            let shape = OrderShape::of_section(vocab, section.len() as u64).unwrap();
            let fetch = |at: u64, bytes: usize| section.get(at as usize..at as usize + bytes);
            let places: HashSet<_> = (0..vocab).filter_map(|id| shape.place(id, fetch)).collect();
            // Another order may be as sound. Its sum tells that it is not this one.
            let sound = verified(vocab, &section, window).is_none();
            prop_assert!(!sound || places.len() as u64 == vocab, "each row is somebody's");
            for id in 0..vocab {
                prop_assert!(shape.place(id, fetch).is_none_or(|place| place < vocab));
                prop_assert!(shape.id_at(id, fetch).is_none_or(|id| id < vocab));
                let run = shape.run(id, vocab, fetch);
                let within = |(count, first)| id + count <= vocab && first + count <= vocab;
                prop_assert!(run.is_none_or(within));
            }
        }
    }

    #[test]
    fn lengths_that_no_order_has_are_refused() {
        // 100 rows: 2 groups of 16 bytes, then 4 bytes a place.
        for (bytes, placed) in [
            (36, Some(1)),
            (432, Some(100)),
            (32, None),
            (436, None),
            (38, None),
            (31, None),
            (0, None),
        ] {
            let found = OrderShape::of_section(100, bytes).ok();
            assert_eq!(found.map(|shape| shape.placed), placed, "{bytes}");
        }
        let large = 1u64 << 33;
        let groups = large / 64 * 16;
        assert_eq!(OrderShape::of_section(large, groups + 24).unwrap().placed, 3);
        assert!(OrderShape::of_section(large, groups + 12).is_err(), "places take 8 bytes");
        assert!(OrderShape::of_section(0, 0).is_err());
    }

    #[test]
    fn places_of_eight_bytes_are_read_as_such() {
        let shape = OrderShape::of(1 << 40, 2).unwrap();
        let fetch = |at: u64, bytes: usize| {
            // Ids 5 and 6 are placed, at 1 and 0.
            let groups = [[0u64, 0b110_0000], [2, 0]];
            let mut found = [0; 16];
            if let Some(rank) = at.checked_sub(shape.places_at()) {
                LittleEndian::write_u64(&mut found[..8], 1 - rank / 8);
            } else {
                let [before, bits] = groups[usize::from(at > 0)];
                LittleEndian::write_u64(&mut found[..8], before);
                LittleEndian::write_u64(&mut found[8..], bits);
            }
            Some(&*Box::leak(Box::new(found))).map(|found| &found[..bytes])
        };
        let places = [0, 4, 5, 6, 7, 64, (1 << 40) - 1].map(|id| shape.place(id, fetch));
        let expected = [2, 6, 1, 0, 7, 64, (1 << 40) - 1].map(Some);
        assert_eq!(places, expected);
        assert_eq!(shape.run(7, 1000, fetch), Some((993, 7)));
    }

    #[test]
    fn every_rule_that_is_broken_is_named() {
        // 70 rows, of which 65, 3 and 66 are placed: 2 groups, then 3 places of 4 bytes.
        let (sound, _) = encode(70, &[65, 3, 66]);
        let broken = |at: usize, byte: u8| {
            let mut section = sound.clone();
            section[at] = byte;
            match verified(70, &section, WINDOW) {
                Some(FormatError::RowOrder { rule, at }) => (rule, at),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(broken(0, 1), ("a group counts the placed rows before it", 0));
        assert_eq!(broken(16, 2), ("a group counts the placed rows before it", 64));
        assert_eq!(broken(24, 0xc2), ("no bit stands for an id that no row has", 70));
        assert_eq!(broken(24, 2), ("there is a place for each placed row", 70));
        assert_eq!(broken(32, 3), ("a place is below the number of placed rows", 0));
        assert_eq!(broken(36, 2), ("no two rows have the same place", 2));
    }

    #[test]
    fn an_id_is_placed_once() {
        assert_eq!(PlacedRows::new(&[3, 1, 3]).unwrap_err(), 3);
        let placed = PlacedRows::new(&[3, 1]).unwrap();
        assert_eq!((placed.count(), placed.highest()), (2, Some(3)));
    }
}
