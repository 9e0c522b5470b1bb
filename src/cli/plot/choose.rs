//! The rows that are drawn: by token, by range, or the first ones that are words.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Result, anyhow, bail};
use embmap::{Error, Table};

use super::super::escape::printable_path;
use super::super::ids::read_bytes;
use super::super::output::is_dash;
use super::super::range::RowRange;
use super::super::tokens;

/// The most points of a picture: what a browser draws at once, and a page holds.
pub(super) const MOST: usize = 20_000;

/// What chooses the rows.
pub(super) enum Choice<'a> {
    /// Tokens, or a file with one a line.
    Tokens {
        argument: &'a str,
        skip_unknown: bool,
    },
    Rows(RowRange),
    /// The first rows that are words.
    Top(usize),
}

/// The ids of the rows, each once, and how many tokens were unknown.
pub(super) fn choose(choice: &Choice<'_>, table: &Table, path: &Path) -> Result<(Vec<u64>, usize)> {
    let mut unknown = 0;
    let ids = match choice {
        Choice::Tokens { argument, skip_unknown } => {
            tokens::check(table, path)?;
            let mut ids = Vec::new();
            for token in &named(argument)? {
                if *skip_unknown && table.id_of(token)?.is_none_or(|id| id >= table.vocab()) {
                    unknown += 1;
                } else {
                    ids.push(tokens::id_of(token, table, path)?);
                }
            }
            ids
        }
        Choice::Rows(rows) => {
            let rows = rows.of(table.vocab());
            if rows.start >= rows.end || rows.end > table.vocab() {
                let reason = format!(
                    "expected a range of the {} rows there are, found {} to {}",
                    table.vocab(),
                    rows.start,
                    rows.end
                );
                return Err(Error::InvalidOption { option: "rows", reason }.into());
            }
            check_count(rows.end - rows.start)?;
            rows.collect()
        }
        Choice::Top(top) => {
            check_count(*top as u64)?;
            first_words(table, *top)?
        }
    };
    let mut seen = BTreeSet::new();
    let ids: Vec<u64> = ids.into_iter().filter(|id| seen.insert(*id)).collect();
    check_count(ids.len() as u64)?;
    if ids.is_empty() {
        bail!("{}: no rows to draw", printable_path(path));
    }
    Ok((ids, unknown))
}

fn check_count(count: u64) -> Result<()> {
    if count <= MOST as u64 {
        return Ok(());
    }
    Err(anyhow!("{count} rows are too many for a picture: choose at most {MOST}"))
}

/// The tokens of an argument: a file's lines where there is such a file, else what stands between
/// commas.
fn named(argument: &str) -> Result<Vec<String>> {
    let path = Path::new(argument);
    if !is_dash(path) && !path.is_file() {
        return Ok(argument.split(',').map(str::to_owned).filter(|it| !it.is_empty()).collect());
    }
    let (name, bytes) = read_bytes(path)?;
    let text = String::from_utf8(bytes)
        .map_err(|error| anyhow!("{name}: expected a token a line, as UTF-8, and {error}"))?;
    Ok(text.lines().map(str::to_owned).filter(|it| !it.is_empty()).collect())
}

/// The first rows whose token is a word, or as many of them as there are: vocabularies begin with
/// what is frequent. Of a table without tokens, or whose tokens are no words, the first rows.
fn first_words(table: &Table, top: usize) -> Result<Vec<u64>> {
    let mut ids = Vec::new();
    for id in 0..table.token_count()?.min(table.vocab()) {
        if ids.len() == top {
            break;
        }
        if table.token(id)?.is_some_and(|token| is_word(&token)) {
            ids.push(id);
        }
    }
    if ids.is_empty() {
        ids = (0..table.vocab()).take(top).collect();
    }
    Ok(ids)
}

/// True for tokens of letters, at least two, which may carry the mark of a word's start. The
/// parts that a word goes on with are none.
fn is_word(token: &str) -> bool {
    let bare = token.strip_prefix(['Ġ', '▁']).unwrap_or(token);
    bare.chars().nth(1).is_some() && bare.chars().all(char::is_alphabetic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_letters() {
        for word in ["cat", "Ġcat", "▁Katze", "猫犬", "été"] {
            assert!(is_word(word), "{word}");
        }
        for other in ["", "a", "Ġa", "##s", "[PAD]", "<s>", "2003", "it's", "Ġ", "!?"] {
            assert!(!is_word(other), "{other}");
        }
    }

    #[test]
    fn each_row_is_chosen_once_and_there() {
        let table = Table::load("fixtures/minilm-2k").unwrap();
        let path = Path::new("t");
        let ids = |choice| choose(&choice, &table, path).map(|(ids, _)| ids);
        let tokens = |argument, skip_unknown| Choice::Tokens { argument, skip_unknown };
        let cat = table.id_of("cat").unwrap().unwrap();
        let king = table.id_of("king").unwrap().unwrap();
        assert_eq!(ids(tokens("cat,king,cat", false)).unwrap(), [cat, king]);
        assert!(ids(tokens("cat,frnace", false)).unwrap_err().to_string().contains("france"));
        assert_eq!(choose(&tokens("cat,qqq", true), &table, path).unwrap(), (vec![cat], 1));
        assert!(ids(tokens("qqq", true)).is_err());
        let top = ids(Choice::Top(3)).unwrap();
        assert_eq!(table.token(top[0]).unwrap().unwrap(), "the");
        assert!(ids(Choice::Top(1_000_000)).unwrap_err().to_string().contains("20000"));
        assert_eq!(ids(Choice::Rows("3:5".parse().unwrap())).unwrap(), [3, 4]);
        for wrong in ["5:5", "9:3", "0:2004"] {
            let error = ids(Choice::Rows(wrong.parse().unwrap())).unwrap_err();
            assert!(error.to_string().contains("2003 rows"), "{error}");
        }
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("words.txt");
        std::fs::write(&file, "king\r\n\ncat\n").unwrap();
        assert_eq!(ids(tokens(file.to_str().unwrap(), false)).unwrap(), [king, cat]);
        std::fs::write(&file, b"\xff").unwrap();
        assert!(ids(tokens(file.to_str().unwrap(), false)).is_err());
        // Without tokens: rows as they come.
        let plain = Table::load("fixtures/v1/f32.emb").unwrap();
        assert_eq!(choose(&Choice::Top(2), &plain, path).unwrap().0, [0, 1]);
        let none = Table::load("fixtures/v1/no-rows.emb").unwrap();
        assert!(choose(&Choice::Top(2), &none, path).is_err());
    }
}
