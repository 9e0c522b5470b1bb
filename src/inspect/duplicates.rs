//! What is there several times, by its hash, in bounded memory.
//!
//! Hashes are kept in an open table. Where it is full, one bit more of each hash has to be zero:
//! half of the hashes go, and with each all copies of what it stands for, or none (the distinct
//! sampling of Gibbons, "Distinct Sampling for Highly-Accurate Answers to Distinct Values
//! Queries", 2001). So what is left is counted whole, whatever the order that it came in, and
//! the rest is estimated by the share of hashes that are left. What makes up a good part of all
//! would be an unlucky guess there: hashes that are watched are kept in any case.

use std::collections::{HashMap, HashSet};

use super::found::{Duplicates, Repeated};
use crate::error::{Error, Result};

/// The ids of a group that are kept.
const SHOWN: usize = 4;

/// The groups that are told.
const TOLD: usize = 10;

/// The bytes that a group takes in a map, about.
const GROUP_BYTES: u64 = 96;

/// The slots that a table starts with.
const FIRST_SLOTS: usize = 256;

#[derive(Clone, Copy)]
struct Slot {
    hash: u64,
    /// [`u64::MAX`] where the slot is empty.
    place: u64,
}

const EMPTY: Slot = Slot { hash: 0, place: u64::MAX };

#[derive(Debug)]
struct Group {
    count: u64,
    /// The lowest, in order.
    places: Vec<u64>,
}

/// The hashes seen so far.
pub(super) struct Seen {
    /// A power of two of them.
    slots: Vec<Slot>,
    used: usize,
    /// The most that there may be.
    most_slots: usize,
    most_groups: usize,
    /// How many low bits of a hash have to be zero.
    level: u32,
    groups: HashMap<u64, Group>,
    watched: HashSet<u64>,
}

impl Seen {
    /// Nothing seen yet; takes about `memory` bytes at most.
    pub(super) fn new(memory: u64) -> Self {
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX >> 8);
        let slots = size(memory / size_of::<Slot>() as u64).max(2);
        Seen {
            slots: Vec::new(),
            used: 0,
            most_slots: 1 << slots.ilog2(),
            most_groups: size(memory / 2 / GROUP_BYTES).max(1),
            level: 0,
            groups: HashMap::new(),
            watched: HashSet::new(),
        }
    }

    /// The different things that surely fit.
    pub(super) fn capacity(&self) -> u64 {
        filled(self.most_slots) as u64
    }

    /// How many hashes may be watched: they take no more than half of the groups.
    pub(super) fn watchable(&self) -> u64 {
        self.most_groups as u64 / 2
    }

    /// Keeps these hashes in any case.
    pub(super) fn watch(&mut self, hashes: impl Iterator<Item = u64>) {
        self.watched.extend(hashes);
    }

    /// True for a hash that is kept at present; false for ever after it was.
    pub(super) fn keeps(&self, hash: u64) -> bool {
        hash.trailing_zeros() >= self.level || self.watched.contains(&hash)
    }

    /// Adds what has a hash and lies at a place, whose number is no other's.
    pub(super) fn add(&mut self, hash: u64, place: u64) -> Result<()> {
        if !self.keeps(hash) {
            return Ok(());
        }
        if self.slots.is_empty() {
            self.rebuild(FIRST_SLOTS.min(self.most_slots))?;
        }
        let mut at = self.find(hash);
        if self.slots[at].place == EMPTY.place {
            if self.used >= filled(self.slots.len()) {
                self.make_room()?;
                if !self.keeps(hash) {
                    return Ok(());
                }
                at = self.find(hash);
            }
            self.slots[at] = Slot { hash, place };
            self.used += 1;
            return Ok(());
        }
        let first = self.slots[at].place;
        let group =
            self.groups.entry(hash).or_insert_with(|| Group { count: 1, places: vec![first] });
        group.count += 1;
        let after = group.places.partition_point(|it| *it < place);
        if after < SHOWN {
            group.places.insert(after, place);
            group.places.truncate(SHOWN);
        }
        while self.groups.len() > self.most_groups && self.level < u64::BITS {
            self.raise();
        }
        Ok(())
    }

    /// Where a hash is, or would be.
    fn find(&self, hash: u64) -> usize {
        let bits = self.slots.len().trailing_zeros();
        let at = hash.checked_shr(u64::BITS - bits).unwrap_or(0);
        let mut at = usize::try_from(at).unwrap_or(0);
        loop {
            let slot = self.slots[at];
            if slot.place == EMPTY.place || slot.hash == hash {
                return at;
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }

    fn make_room(&mut self) -> Result<()> {
        self.rebuild((self.slots.len() * 2).min(self.most_slots))?;
        // Watched hashes alone may fill it: then nothing else is kept.
        while self.used >= filled(self.slots.len()) && self.level < u64::BITS {
            self.raise();
            self.rebuild(self.slots.len())?;
        }
        Ok(())
    }

    /// Lets go of half of what is there, groups first.
    fn raise(&mut self) {
        self.level += 1;
        let (level, watched) = (self.level, &self.watched);
        let keeps = |hash: u64| hash.trailing_zeros() >= level || watched.contains(&hash);
        self.groups.retain(|hash, _| keeps(*hash));
    }

    /// Lays out anew what is kept.
    fn rebuild(&mut self, slots: usize) -> Result<()> {
        let mut fresh = Vec::new();
        let bytes = (slots as u128) * size_of::<Slot>() as u128;
        fresh.try_reserve_exact(slots).map_err(|_| Error::OutputMemory { bytes })?;
        fresh.resize(slots, EMPTY);
        let old = std::mem::replace(&mut self.slots, fresh);
        self.used = 0;
        for slot in old.into_iter().filter(|slot| slot.place != EMPTY.place) {
            if self.keeps(slot.hash) {
                let at = self.find(slot.hash);
                self.slots[at] = slot;
                self.used += 1;
            }
        }
        Ok(())
    }

    /// What was found; `id` makes ids of places.
    pub(super) fn finish(self, id: impl Fn(u64) -> u64) -> Duplicates {
        let (mut rows, mut groups) = (Estimate::default(), Estimate::default());
        for (hash, group) in &self.groups {
            let sure = self.watched.contains(hash);
            rows.add(group.count - 1, sure);
            groups.add(1, sure);
        }
        let mut largest: Vec<Group> = self.groups.into_values().collect();
        largest.sort_unstable_by(|a, b| b.count.cmp(&a.count).then(a.places.cmp(&b.places)));
        largest.truncate(TOLD);
        let repeated = |group: Group| {
            let mut ids: Vec<u64> = group.places.into_iter().map(&id).collect();
            ids.sort_unstable();
            Repeated { count: group.count, ids }
        };
        Duplicates {
            exact: self.level == 0,
            share: 0.5f64.powi(self.level.cast_signed()),
            rows: rows.all(self.level),
            groups: groups.all(self.level),
            largest: largest.into_iter().map(repeated).collect(),
        }
    }
}

/// The slots of a table that may be taken.
fn filled(slots: usize) -> usize {
    slots / 8 * 7 + slots % 8 / 2
}

/// A count of which a part is sure and the rest stands for more.
#[derive(Default)]
struct Estimate {
    sure: u64,
    sampled: u64,
}

impl Estimate {
    fn add(&mut self, count: u64, sure: bool) {
        *if sure { &mut self.sure } else { &mut self.sampled } += count;
    }

    fn all(&self, level: u32) -> u64 {
        let scaled = u128::from(self.sampled) << level.min(u64::BITS);
        u64::try_from(scaled).unwrap_or(u64::MAX).saturating_add(self.sure)
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        clippy::needless_for_each
    )]

    use super::*;
    use xxhash_rust::xxh3::xxh3_64;

    fn hash(content: u64) -> u64 {
        xxh3_64(&content.to_le_bytes())
    }

    /// Counts contents by sorting them.
    fn naive(contents: &[u64]) -> (u64, u64) {
        let mut counts: HashMap<u64, u64> = HashMap::new();
        contents.iter().for_each(|content| *counts.entry(*content).or_default() += 1);
        let repeated: Vec<u64> = counts.into_values().filter(|count| *count > 1).collect();
        (repeated.iter().map(|count| count - 1).sum(), repeated.len() as u64)
    }

    fn seen(contents: &[u64], memory: u64, backwards: bool, watched: &[u64]) -> Duplicates {
        let mut seen = Seen::new(memory);
        seen.watch(watched.iter().map(|content| hash(*content)));
        let mut rows: Vec<(u64, u64)> = (0..).zip(contents.iter().copied()).collect();
        if backwards {
            rows.reverse();
        }
        for (place, content) in rows {
            seen.add(hash(content), place).unwrap();
        }
        assert!(seen.slots.len() * size_of::<Slot>() <= memory as usize);
        seen.finish(|place| place)
    }

    #[test]
    fn what_fits_is_counted_exactly() {
        let contents: Vec<u64> = (0..20_000u64).map(|at| at * at % 14_983).collect();
        let (rows, groups) = naive(&contents);
        let found = seen(&contents, 4 << 20, false, &[]);
        assert!(found.exact && rows > 1000);
        assert_eq!((found.rows, found.groups), (rows, groups));
        for repeated in &found.largest {
            let content = contents[repeated.ids[0] as usize];
            let copies: Vec<u64> =
                (0..).zip(&contents).filter(|it| *it.1 == content).map(|it| it.0).collect();
            assert_eq!(repeated.count, copies.len() as u64);
            assert_eq!(repeated.ids, copies[..copies.len().min(SHOWN)]);
        }
        let forwards = |backwards| {
            let found = seen(&contents, 4 << 20, backwards, &[]);
            (found.rows, found.groups, found.largest[0].count)
        };
        assert_eq!(forwards(true), forwards(false));
    }

    #[test]
    fn what_does_not_fit_is_estimated_the_same_in_any_order() {
        // 100,000 contents, of which every tenth is there three times.
        let mut contents: Vec<u64> = (0..100_000).collect();
        contents.extend((0..100_000).filter(|at| at % 10 == 0).flat_map(|at| [at, at]));
        let found = seen(&contents, 64 << 10, false, &[]);
        assert!(!found.exact && found.share < 0.1);
        assert!((16_000..24_000).contains(&found.rows), "{}", found.rows);
        assert!((8_000..12_000).contains(&found.groups), "{}", found.groups);
        // What is kept is counted whole.
        assert!(found.largest.iter().all(|it| it.count == 3 && it.ids.len() == 3));
        assert_eq!(seen(&contents, 64 << 10, true, &[]), found);
    }

    #[test]
    fn what_is_watched_is_not_lost() {
        let mut contents: Vec<u64> = (0..50_000).collect();
        contents.extend(std::iter::repeat_n(77_777, 3_000));
        for watched in [77_777, 5] {
            let found = seen(&contents, 16 << 10, false, &[watched, 99]);
            let all = if watched == 5 && hash(77_777).trailing_zeros() < 4 { 0 } else { 2_999 };
            assert_eq!(found.rows, all);
        }
    }

    #[test]
    fn groups_take_bounded_memory() {
        let contents: Vec<u64> = (0..20_000).flat_map(|at| [at, at]).collect();
        let mut all = Seen::new(256 << 10);
        for (place, content) in (0..).zip(&contents) {
            all.add(hash(*content), place).unwrap();
        }
        assert!(all.groups.len() <= all.most_groups);
        let found = all.finish(|place| place);
        assert!((15_000..25_000).contains(&found.rows), "{}", found.rows);
    }
}
