//! Tables in many pieces: tensors whose names differ in a number, in the order of that number.

use super::json::shortened;

/// A name with a place for a number: `ngram_embedding.shard_{}.weight`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pattern<'a> {
    pub(super) before: &'a str,
    pub(super) after: &'a str,
    /// The number of the first piece: `{}` counts from 0, `{1}` from 1.
    pub(super) first: u64,
}

/// The spellings of a piece's number before `.weight`, for tables that are found by themselves.
const SPELLINGS: [&str; 2] = ["shard_", "shards."];

/// The most digits of a piece's number.
const MOST_DIGITS: usize = 9;

impl<'a> Pattern<'a> {
    /// The pattern that a name is: one with exactly one place for a number.
    pub(super) fn of(name: &'a str) -> Option<Self> {
        let (mark, first) = if name.contains("{}") { ("{}", 0) } else { ("{1}", 1) };
        let (before, after) = name.split_once(mark)?;
        let once = ["{}", "{1}"].iter().all(|mark| !after.contains(mark));
        once.then_some(Pattern { before, after, first })
    }

    /// The pattern of a name that counts pieces as the published tables do.
    pub(super) fn found_in(name: &'a str) -> Option<Self> {
        const AFTER: &str = ".weight";
        let stem = name.strip_suffix(AFTER)?;
        let before = stem.trim_end_matches(|c: char| c.is_ascii_digit());
        let spelled = SPELLINGS.iter().any(|spelling| {
            before
                .strip_suffix(spelling)
                .is_some_and(|parent| parent.is_empty() || parent.ends_with('.'))
        });
        let counted = (1..=MOST_DIGITS).contains(&(stem.len() - before.len()));
        (spelled && counted).then_some(Pattern { before, after: AFTER, first: 0 })
    }

    /// The number that a name has in the place of this pattern's.
    pub(super) fn number_of(&self, name: &str) -> Option<u64> {
        let digits = name.strip_prefix(self.before)?.strip_suffix(self.after)?;
        let is_number = (1..=MOST_DIGITS).contains(&digits.len())
            && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|_| is_number)
    }

    /// The name of one piece.
    fn name_of(&self, number: u64) -> String {
        format!("{}{number}{}", self.before, self.after)
    }

    /// The pattern as it is written.
    pub(super) fn text(&self) -> String {
        let mark = if self.first == 0 { "{}" } else { "{1}" };
        format!("{}{mark}{}", self.before, self.after)
    }

    /// The names of all pieces in the order of their numbers, or why they are not one table.
    ///
    /// `None` where there is no piece at all.
    pub(super) fn collect<'n>(
        &self,
        names: impl Iterator<Item = &'n str>,
    ) -> Option<Result<Vec<String>, String>> {
        let mut found: Vec<(u64, &str)> =
            names.filter_map(|name| Some((self.number_of(name)?, name))).collect();
        found.sort_unstable();
        let last = found.last()?.0;
        for (expected, (number, name)) in (self.first..).zip(&found) {
            if number < &self.first {
                return Some(Err(format!("has a piece {number}; write {{}} in place of {{1}}")));
            }
            if number < &expected {
                let reason = format!(
                    "has piece {number} twice, the second time as {:?}; expected each piece once",
                    shortened(name)
                );
                return Some(Err(reason));
            }
            if number > &expected {
                return Some(Err(self.hole(expected, last)));
            }
        }
        Some(Ok(found.into_iter().map(|(_, name)| name.to_owned()).collect()))
    }

    /// Why pieces with a hole are no table.
    fn hole(&self, missing: u64, last: u64) -> String {
        let from_one = if (self.first, missing) == (0, 0) {
            "; where pieces count from 1, write {1} in place of {}"
        } else {
            ""
        };
        format!(
            "lacks piece {missing}, {:?}, of the pieces {} to {last}: expected every one, or the rows behind it would have other ids{from_one}",
            shortened(&self.name_of(missing)),
            self.first
        )
    }
}

/// The patterns of all tables in pieces among tensors, as far as the spelling is known.
pub(super) fn families<'n>(names: impl Iterator<Item = &'n str>) -> Vec<Pattern<'n>> {
    /// More are not kept: a hostile file has millions.
    const MOST: usize = 20;
    let mut found: Vec<Pattern<'n>> = Vec::new();
    for name in names {
        if found.len() < MOST
            && let Some(pattern) = Pattern::found_in(name)
            && !found.contains(&pattern)
        {
            found.push(pattern);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "model.ngram_embedding.shard_{}.weight";

    fn collect(pattern: &str, names: &[&str]) -> Option<Result<Vec<String>, String>> {
        Pattern::of(pattern).unwrap().collect(names.iter().copied())
    }

    #[test]
    fn pieces_are_in_the_order_of_their_numbers() {
        let mut names: Vec<String> = (0..12).map(|i| format!("a.shard_{i}.weight")).collect();
        let ordered = names.clone();
        names.sort();
        assert_eq!(names[2], "a.shard_10.weight");
        names.push("a.shard_0.weight_scale".to_owned());
        names.push("a.shard_x.weight".to_owned());
        names.push("a.shard_.weight".to_owned());
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(collect("a.shard_{}.weight", &names), Some(Ok(ordered)));
    }

    #[test]
    fn leading_zeros_are_numbers_too_and_one_number_twice_is_refused() {
        let names = ["t.00", "t.02", "t.01"];
        assert_eq!(
            collect("t.{}", &names),
            Some(Ok(vec!["t.00".into(), "t.01".into(), "t.02".into()]))
        );
        let reason = collect("t.{}", &["t.0", "t.1", "t.01"]).unwrap().unwrap_err();
        assert!(reason.contains("has piece 1 twice"), "{reason}");
    }

    #[test]
    fn a_hole_names_the_missing_piece() {
        let reason = collect("t.{}.w", &["t.0.w", "t.1.w", "t.3.w"]).unwrap().unwrap_err();
        assert!(reason.contains("lacks piece 2, \"t.2.w\", of the pieces 0 to 3"), "{reason}");
        assert!(!reason.contains("{1}"), "{reason}");
        let reason = collect("t.{}.w", &["t.1.w", "t.2.w"]).unwrap().unwrap_err();
        assert!(reason.contains("lacks piece 0") && reason.contains("write {1}"), "{reason}");
        assert_eq!(
            collect("t.{1}.w", &["t.2.w", "t.1.w"]),
            Some(Ok(vec!["t.1.w".into(), "t.2.w".into()]))
        );
        let reason = collect("t.{1}.w", &["t.0.w", "t.1.w"]).unwrap().unwrap_err();
        assert!(reason.contains("has a piece 0; write {} in place of {1}"), "{reason}");
        assert_eq!(collect("t.{}.w", &["u.0.w"]), None);
    }

    #[test]
    fn a_pattern_has_one_place_for_a_number() {
        assert_eq!(Pattern::of(TABLE).unwrap().text(), TABLE);
        assert_eq!(Pattern::of("a{1}b").unwrap().text(), "a{1}b");
        for name in ["a.weight", "a.{}.{}", "a.{}.{1}", "a.{2}", "a.{ }"] {
            assert_eq!(Pattern::of(name), None, "{name}");
        }
    }

    #[test]
    fn published_spellings_are_found_and_others_are_not() {
        for (name, text) in [
            ("m.ngram_embedding.shard_127.weight", "m.ngram_embedding.shard_{}.weight"),
            ("m.ngram_embedding.shards.3.weight", "m.ngram_embedding.shards.{}.weight"),
            ("shard_0.weight", "shard_{}.weight"),
        ] {
            assert_eq!(Pattern::found_in(name).unwrap().text(), text);
        }
        for name in [
            "model.layers.3.weight",
            "m.my_shard_3.weight",
            "m.shard_3.weight_scale",
            "m.shard_.weight",
            "m.shard_3",
            "m.shard_1234567890.weight",
        ] {
            assert_eq!(Pattern::found_in(name), None, "{name}");
        }
        let names = ["a.shard_0.weight", "b.shards.1.weight", "a.shard_1.weight", "c.weight"];
        let found: Vec<String> = families(names.into_iter()).iter().map(Pattern::text).collect();
        assert_eq!(found, ["a.shard_{}.weight", "b.shards.{}.weight"]);
    }
}
