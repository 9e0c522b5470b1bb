//! From an id to the place of its row, and back.

use byteorder::{ByteOrder, LittleEndian};

/// The ids of a group. Which of them are placed is one bit each.
pub(super) const GROUP: u64 = 64;

/// The bytes of a group: the number of placed ids before it, and the bits of its own.
pub(super) const GROUP_BYTES: usize = 16;

/// The sizes of a row order, which follow from the length of its section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OrderShape {
    /// The rows of the table.
    pub(super) vocab: u64,
    /// The rows that are placed: at least one, and at most all.
    pub(super) placed: u64,
}

/// What a group says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Group {
    /// The number of placed ids before the group.
    pub(super) before: u64,
    /// A bit for each id, the lowest for the first.
    pub(super) bits: u64,
}

impl Group {
    pub(super) fn read(bytes: &[u8]) -> Self {
        let (before, bits) = bytes.split_at(8);
        Group { before: LittleEndian::read_u64(before), bits: LittleEndian::read_u64(&bits[..8]) }
    }
}

impl OrderShape {
    /// The shape of an order that places so many rows of a table, or `None` where that are none
    /// or too many.
    pub(crate) fn of(vocab: u64, placed: u64) -> Option<Self> {
        (1..=vocab).contains(&placed).then_some(OrderShape { vocab, placed })
    }

    /// The shape of an order whose section has so many bytes; else the rule that it breaks.
    pub(crate) fn of_section(vocab: u64, bytes: u64) -> Result<Self, &'static str> {
        let none = OrderShape { vocab, placed: 0 };
        let behind = bytes.checked_sub(none.places_at()).ok_or("it has a group for 64 ids each")?;
        let width = none.place_bytes();
        behind
            .is_multiple_of(width)
            .then_some(behind / width)
            .and_then(|count| Self::of(vocab, count))
            .ok_or("behind its groups are the places of at least one row and at most all")
    }

    /// The number of rows that are placed.
    pub(crate) fn placed(self) -> u64 {
        self.placed
    }

    /// The number of groups.
    pub(super) fn groups(self) -> u64 {
        self.vocab.div_ceil(GROUP)
    }

    /// Where the places start in the section.
    pub(super) fn places_at(self) -> u64 {
        group_at(self.groups())
    }

    /// The bytes of a place.
    pub(super) fn place_bytes(self) -> u64 {
        if self.vocab <= 1 << 32 { 4 } else { 8 }
    }

    /// The length of the section.
    #[cfg(feature = "import")]
    pub(crate) fn bytes(self) -> u64 {
        self.places_at() + self.placed * self.place_bytes()
    }

    /// The place at the start of some bytes.
    pub(super) fn read_place(self, bytes: &[u8]) -> u64 {
        if self.place_bytes() == 4 {
            LittleEndian::read_u32(bytes).into()
        } else {
            LittleEndian::read_u64(bytes)
        }
    }

    /// The place of a row, always below the number of rows; `None` where no row has the id, or
    /// where the section is damaged. `fetch` gives bytes of the section.
    #[inline]
    pub(crate) fn place<'a>(
        self,
        id: u64,
        fetch: impl Fn(u64, usize) -> Option<&'a [u8]>,
    ) -> Option<u64> {
        if id >= self.vocab {
            return None;
        }
        let group = Group::read(fetch(group_at(id / GROUP), GROUP_BYTES)?);
        let bit = id % GROUP;
        let rank = u64::from((group.bits & ((1 << bit) - 1)).count_ones());
        let rank = group.before.checked_add(rank)?;
        if group.bits >> bit & 1 == 0 {
            // Behind the placed rows, in the order of the ids that are not placed.
            let place = self.placed.checked_add(id.checked_sub(rank)?)?;
            return (place < self.vocab).then_some(place);
        }
        if rank >= self.placed {
            return None;
        }
        let place = if self.place_bytes() == 4 {
            LittleEndian::read_u32(fetch(self.places_at() + rank * 4, 4)?).into()
        } else {
            LittleEndian::read_u64(fetch(self.places_at() + rank * 8, 8)?)
        };
        (place < self.placed).then_some(place)
    }

    /// The ids from `id` on, at most up to `end`, whose rows follow each other: their number, and
    /// the place of the first. `None` as [`place`](Self::place).
    pub(crate) fn run<'a>(
        self,
        id: u64,
        end: u64,
        fetch: impl Fn(u64, usize) -> Option<&'a [u8]> + Copy,
    ) -> Option<(u64, u64)> {
        let first = self.place(id, fetch)?;
        // Groups that are damaged may say more rows are not placed than there are.
        let end = end.min(id + (self.vocab - first));
        let mut next = id + 1;
        while next < end {
            // A whole group of ids that are not placed follows such ids.
            if next.is_multiple_of(GROUP)
                && first >= self.placed
                && fetch(group_at(next / GROUP), GROUP_BYTES)
                    .is_some_and(|group| Group::read(group).bits == 0)
            {
                next = end.min(next + GROUP);
            } else if self.place(next, fetch) == Some(first + (next - id)) {
                next += 1;
            } else {
                break;
            }
        }
        Some((next - id, first))
    }

    /// The ids of the placed rows, in the order of their places; `None` where the section is
    /// damaged, or where there is not that much memory.
    pub(crate) fn placed_ids<'a>(
        self,
        fetch: impl Fn(u64, usize) -> Option<&'a [u8]> + Copy,
    ) -> Option<Vec<u64>> {
        let placed = usize::try_from(self.placed).ok()?;
        let mut ids = Vec::new();
        ids.try_reserve_exact(placed).ok()?;
        ids.resize(placed, self.vocab);
        let mut rank = 0;
        for index in 0..self.groups() {
            let mut bits = Group::read(fetch(group_at(index), GROUP_BYTES)?).bits;
            while bits != 0 {
                let width = self.place_bytes();
                let at = self.places_at() + rank * width;
                let place = self.read_place(fetch(at, usize::try_from(width).ok()?)?);
                let id = ids.get_mut(usize::try_from(place).ok()?)?;
                *id = index * GROUP + u64::from(bits.trailing_zeros());
                bits &= bits - 1;
                rank += 1;
            }
        }
        // A place that no row has was left as it was; an id beyond the rows is none.
        ids.iter().all(|id| *id < self.vocab).then_some(ids)
    }

    /// The id of the row at a place; `None` where there is none, or where the section is damaged.
    /// It looks at all placed rows in turn, or at some of the groups.
    pub(crate) fn id_at<'a>(
        self,
        place: u64,
        fetch: impl Fn(u64, usize) -> Option<&'a [u8]> + Copy,
    ) -> Option<u64> {
        let group = |index: u64| Some(Group::read(fetch(group_at(index), GROUP_BYTES)?));
        if place < self.placed {
            let width = self.place_bytes();
            let at = |rank: u64| {
                let bytes = fetch(self.places_at() + rank * width, usize::try_from(width).ok()?);
                bytes.map(|bytes| self.read_place(bytes))
            };
            let rank = (0..self.placed).find(|rank| at(*rank) == Some(place))?;
            let index = last(self.groups(), |index| Some(group(index)?.before <= rank))?;
            let Group { before, bits } = group(index)?;
            let id = index * GROUP + nth_one(bits, rank - before)?;
            return (id < self.vocab).then_some(id);
        }
        let rank = place - self.placed;
        let starts = |index: u64| (index * GROUP).checked_sub(group(index)?.before);
        let index = last(self.groups(), |index| Some(starts(index)? <= rank))?;
        let id = index * GROUP + nth_one(!group(index)?.bits, rank - starts(index)?)?;
        (id < self.vocab).then_some(id)
    }
}

/// Where a group starts in the section.
fn group_at(index: u64) -> u64 {
    index * GROUP_BYTES as u64
}

/// The last number below `count` for which `holds`, as it does for those before it.
fn last(count: u64, holds: impl Fn(u64) -> Option<bool>) -> Option<u64> {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle)? { low = middle + 1 } else { high = middle }
    }
    low.checked_sub(1)
}

/// The place of the bit that `n` ones lie below.
fn nth_one(bits: u64, n: u64) -> Option<u64> {
    (0..GROUP).filter(|bit| bits >> bit & 1 == 1).nth(usize::try_from(n).ok()?)
}
