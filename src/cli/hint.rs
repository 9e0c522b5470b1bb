//! What a user may have meant by a token that no row has.

use anyhow::Result;
use embmap::Table;

/// The marks that vocabularies put before a token that starts a word: byte-level BPE,
/// `SentencePiece`, and `WordPiece` for one that does not.
const MARKS: [&str; 3] = ["Ġ", "▁", "##"];

/// A sentence that names the token and, where the vocabulary has it in another spelling,
/// that spelling.
pub(crate) fn unknown_token(token: &str, table: &Table) -> Result<String> {
    let mut near: Vec<String> = Vec::new();
    for spelling in spellings(token) {
        if table.id_of(&spelling)?.is_some() && !near.contains(&spelling) {
            near.push(spelling);
        }
    }
    let hint = if near.is_empty() {
        "tokens are found in the vocabulary's own spelling (GPT-2 writes \" cat\" as \"Ġcat\"); \
         --text takes any text"
            .to_owned()
    } else {
        let near: Vec<String> = near.iter().map(|spelling| format!("{spelling:?}")).collect();
        format!("the vocabulary has {}", near.join(" and "))
    };
    Ok(format!("no row has the token {token:?}: {hint}"))
}

fn spellings(token: &str) -> impl Iterator<Item = String> {
    let bare = token.trim();
    let bare = MARKS.iter().find_map(|mark| bare.strip_prefix(mark)).unwrap_or(bare).to_owned();
    let lower = bare.to_lowercase();
    [bare, lower].into_iter().flat_map(|word| {
        let marked = MARKS.map(|mark| format!("{mark}{word}"));
        std::iter::once(word).chain(marked)
    })
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
}
