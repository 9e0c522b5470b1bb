//! What was found, with the tokens of the rows that are named, and how it is put in words.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use embmap::inspect::{Duplicates, RowList};
use embmap::{Inspection, Table};

use super::super::values::shown_token;
use super::findings::findings;

/// The characters of a token that are shown.
const LONGEST: usize = 40;

/// What is to be told.
pub(super) struct Report<'a> {
    pub(super) table: &'a Table,
    pub(super) path: &'a Path,
    pub(super) found: &'a Inspection,
    /// What is out of the ordinary.
    pub(super) findings: Vec<String>,
    tokens: BTreeMap<u64, String>,
}

impl<'a> Report<'a> {
    pub(super) fn of(table: &'a Table, path: &'a Path, found: &'a Inspection) -> Result<Self> {
        let mut tokens = BTreeMap::new();
        if let Some(sections) = &found.tokens {
            let lists =
                [&found.zero_rows, &found.non_finite_rows, &sections.without_rows, &sections.empty];
            let repeated = [&found.duplicates, &sections.duplicates];
            let groups = repeated.into_iter().flat_map(|found| &found.largest);
            let ends = found.norms.shortest.iter().chain(&found.norms.longest).map(|row| row.id);
            let ids = lists.into_iter().flat_map(|list| list.first.iter().copied());
            let ids = ids.chain(groups.flat_map(|group| group.ids.iter().copied())).chain(ends);
            for id in ids {
                tokens.insert(id, short(&shown_token(table.token(id)?.as_deref())));
            }
        }
        Ok(Report { table, path, found, findings: findings(found, table), tokens })
    }

    /// A row by its id and, where it has one, its token.
    pub(super) fn row(&self, id: u64) -> String {
        match self.tokens.get(&id) {
            Some(token) if token != "-" => format!("{id} {token}"),
            _ => id.to_string(),
        }
    }

    /// Some rows of a list that may be longer.
    pub(super) fn rows(&self, ids: &[u64], count: u64) -> String {
        let shown: Vec<String> = ids.iter().map(|id| self.row(*id)).collect();
        let more = if count > ids.len() as u64 { ", …" } else { "" };
        format!("{}{more}", shown.join(", "))
    }

    /// A list in words.
    pub(super) fn list(&self, list: &RowList) -> String {
        if list.count == 0 {
            return "none".to_owned();
        }
        format!("{}: {}", list.count, self.rows(&list.first, list.count))
    }

    /// What is there several times, in words; `what` is rows or tokens.
    pub(super) fn repeated(found: &Duplicates, what: &str) -> String {
        let how = if found.exact {
            String::new()
        } else {
            format!("; estimated from {} of all hashes", part(found.share))
        };
        if found.rows == 0 {
            return format!("none{how}");
        }
        let about = if found.exact { "" } else { "about " };
        let Duplicates { rows, groups, .. } = found;
        let noun = if *groups == 1 { "group" } else { "groups" };
        format!("{about}{rows} {what} repeat an earlier one, in {groups} {noun}{how}")
    }

    /// The rows that directions and costs were found of.
    pub(super) fn sampled(&self, rows: u64) -> String {
        let all = self.found.norms.count;
        if rows >= all { "all rows".to_owned() } else { format!("a sample of {rows} rows") }
    }
}

/// A share that is a power of one half.
fn part(share: f64) -> String {
    format!("1/{:.0}", share.recip())
}

/// The start of a token.
pub(super) fn short(token: &str) -> String {
    if token.chars().count() <= LONGEST {
        return token.to_owned();
    }
    let start: String = token.chars().take(LONGEST).collect();
    format!("{start}…")
}

/// A number of a few digits that matter.
pub(super) fn figure(value: f64) -> String {
    let size = value.abs();
    match size {
        0.0 => "0".to_owned(),
        _ if !size.is_finite() => value.to_string(),
        _ if !(1e-4..1e6).contains(&size) => format!("{value:.2e}"),
        _ if size >= 100.0 => format!("{value:.1}"),
        _ if size >= 10.0 => format!("{value:.2}"),
        _ if size >= 1.0 => format!("{value:.3}"),
        _ => format!("{value:.4}"),
    }
}

/// A share as a percentage.
pub(super) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent == 0.0 || percent >= 0.1 { format!("{percent:.1} %") } else { "< 0.1 %".to_owned() }
}

#[expect(clippy::cast_precision_loss, reason = "a share, for people")]
pub(super) fn ratio(part: u64, all: u64) -> f64 {
    part as f64 / all.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_the_digits_that_matter() {
        let shown = [0.0, 1.23456, 12.3456, 1234.56, 0.000_123_4, 1e-7, -2.5e9, f64::INFINITY];
        let expected = ["0", "1.235", "12.35", "1234.6", "0.0001", "1.00e-7", "-2.50e9", "inf"];
        assert_eq!(shown.map(figure), expected);
        assert_eq!([0.0, 0.5, 0.0001].map(percent), ["0.0 %", "50.0 %", "< 0.1 %"]);
        assert_eq!(short(&"é".repeat(41)), format!("{}…", "é".repeat(40)));
        assert_eq!(part(0.0625), "1/16");
    }
}
