//! What a user may have meant by a token that no row has.

use anyhow::Result;
use embmap::Table;

/// The marks that vocabularies put before a token that starts a word: byte-level BPE,
/// `SentencePiece`, and `WordPiece` for one that does not.
const MARKS: [&str; 3] = ["Ġ", "▁", "##"];

/// The tokens that are compared at most: a moment's work.
const COMPARED: u64 = 1 << 20;

/// The tokens that are named at most.
const NAMED: usize = 5;

/// A sentence that names the token and, where the vocabulary has it in another spelling, or
/// tokens that are spelled much like it, those.
pub(crate) fn unknown_token(token: &str, table: &Table) -> Result<String> {
    let mut near: Vec<String> = Vec::new();
    for spelling in spellings(token) {
        if table.id_of(&spelling)?.is_some() && !near.contains(&spelling) {
            near.push(spelling);
        }
    }
    let list = |tokens: &[String]| {
        let shown: Vec<String> = tokens.iter().map(|token| format!("{token:?}")).collect();
        shown.join(" and ")
    };
    let hint = if !near.is_empty() {
        format!("the vocabulary has {}", list(&near))
    } else if let Some(alike) = alike(token, table)? {
        format!("did you mean {}?", list(&alike).replace(" and ", " or "))
    } else {
        "tokens are found in the vocabulary's own spelling (GPT-2 writes \" cat\" as \"Ġcat\"); \
         --text takes any text"
            .to_owned()
    };
    Ok(format!("no row has the token {token:?}: {hint}"))
}

fn spellings(token: &str) -> impl Iterator<Item = String> {
    let bare = bare(token).to_owned();
    let lower = bare.to_lowercase();
    [bare, lower].into_iter().flat_map(|word| {
        let marked = MARKS.map(|mark| format!("{mark}{word}"));
        std::iter::once(word).chain(marked)
    })
}

/// A token without its mark.
fn bare(token: &str) -> &str {
    let bare = token.trim();
    MARKS.iter().find_map(|mark| bare.strip_prefix(mark)).unwrap_or(bare)
}

/// The tokens that differ from a token in the fewest characters, and in no more than a third of
/// them, those of its length first; `None` where there are none.
fn alike(token: &str, table: &Table) -> Result<Option<Vec<String>>> {
    let sought = bare(token).to_lowercase();
    let length = sought.chars().count();
    let mut most = length / 3;
    let mut alike = Vec::new();
    for id in 0..table.token_count()?.min(table.vocab()).min(COMPARED) {
        let Some(token) = table.token(id)? else { continue };
        let word = bare(&token).to_lowercase();
        let longer = word.chars().count().abs_diff(length);
        if longer > most {
            continue;
        }
        let distance = strsim::osa_distance(&sought, &word);
        if (1..=most).contains(&distance) {
            most = distance;
            alike.push((distance, longer, id, token.into_owned()));
        }
    }
    alike.sort_unstable();
    let closest = alike.iter().take_while(|found| found.0 == most).take(NAMED);
    let tokens: Vec<String> = closest.map(|found| found.3.clone()).collect();
    Ok((!tokens.is_empty()).then_some(tokens))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_usual_spelling_is_tried() {
        let tried: Vec<_> = spellings(" Cat").collect();
        assert_eq!(tried, ["Cat", "ĠCat", "▁Cat", "##Cat", "cat", "Ġcat", "▁cat", "##cat"]);
        assert!(spellings("Ġcat").any(|spelling| spelling == "▁cat"));
    }

    #[test]
    fn tokens_that_are_spelled_much_alike_are_named() {
        let table = Table::load("fixtures/minilm-2k").unwrap();
        let hint = |token: &str| unknown_token(token, &table).unwrap();
        assert!(hint("Kat").contains("\"cat\""), "{}", hint("Kat"));
        assert!(hint("frnace").ends_with("did you mean \"france\"?"));
        assert!(hint("xqzwvkj").contains("--text"));
        assert!(hint("Paris").ends_with("the vocabulary has \"paris\""));
    }
}
