//! The tokens of a model, by id: from `tokenizer.json` or `vocab.txt`.
//!
//! Ids follow the crate `tokenizers` (0.23) in what a token is called and where it lies: the
//! model's vocabulary first, then `added_tokens`; an added token that the vocabulary has
//! keeps the vocabulary's id, and one without content does not count. In two places the
//! crate loads a file that is refused or read otherwise here: where one id is given to two
//! tokens (the crate keeps the last, or numbers one of them anew), and where ids have holes
//! (the crate then numbers added tokens from the *count* of tokens, over existing ones; here
//! they keep the id that the file states).

use std::path::Path;

use super::gguf;
use super::json::{Fault, shortened};
use super::read_whole;
use super::tokenizer_json::{self, Listed};
use crate::error::{Place, Result};
use crate::storage::StoredFile;

/// The most that is read of a file of tokens.
const MOST_BYTES: u64 = 1 << 30;

/// The longest line of a `vocab.txt`.
const MOST_LINE: usize = 1 << 20;

/// Tokens by id. Memory is a few bytes a token, whatever the ids.
#[derive(Debug)]
pub(crate) struct Vocabulary {
    text: String,
    tokens: Tokens,
}

/// Where in the text each token lies.
#[derive(Debug)]
enum Tokens {
    /// One a line: where each line starts.
    Lines(Vec<u32>),
    /// Sorted by id.
    ById(Vec<Listed>),
}

impl Vocabulary {
    /// Reads the tokens of a `tokenizer.json`, or of any other file as one token a line.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let has_extension =
            |end: &str| path.extension().is_some_and(|own| own.eq_ignore_ascii_case(end));
        if has_extension("json") {
            let bytes = read_whole(path, "tokenizer.json", MOST_BYTES)?;
            Self::from_tokenizer_json(&bytes).map_err(|fault| fault.in_file(path, "tokenizer.json"))
        } else if !has_extension("txt") && starts_as_gguf(path)? {
            gguf::read_tokens(path)
        } else {
            let bytes = read_whole(path, "vocab.txt", MOST_BYTES)?;
            Self::from_lines(bytes).map_err(|fault| fault.in_file(path, "vocab.txt"))
        }
    }

    /// The tokens of the text of a `tokenizer.json`, or `None` where they cannot be read.
    pub(crate) fn of_tokenizer_json(text: &str) -> Option<Self> {
        Self::from_tokenizer_json(text.as_bytes()).ok()
    }

    /// Tokens that are sorted by id.
    pub(super) fn of(text: String, list: Vec<Listed>) -> Self {
        Vocabulary { text, tokens: Tokens::ById(list) }
    }

    /// One more than the highest id. Ids below it may have no token.
    pub(crate) fn len(&self) -> u64 {
        match &self.tokens {
            Tokens::Lines(starts) => starts.len() as u64,
            Tokens::ById(list) => list.last().map_or(0, |last| u64::from(last.id) + 1),
        }
    }

    /// The token of an id.
    pub(crate) fn get(&self, id: u64) -> Option<&str> {
        match &self.tokens {
            Tokens::Lines(starts) => {
                let at = *starts.get(usize::try_from(id).ok()?)? as usize;
                let rest = self.text.get(at..)?;
                let line = rest.split('\n').next().unwrap_or_default();
                Some(line.strip_suffix('\r').unwrap_or(line))
            }
            Tokens::ById(list) => {
                let id = u32::try_from(id).ok()?;
                let place = list.binary_search_by_key(&id, |listed| listed.id).ok()?;
                Some(list[place].of(&self.text))
            }
        }
    }

    /// The token of every id from 0 on, `None` where an id has none.
    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = Option<&str>> {
        (0..self.len()).map(|id| self.get(id))
    }

    fn from_lines(bytes: Vec<u8>) -> Result<Self, Fault> {
        let mut text = String::from_utf8(bytes).map_err(|error| {
            let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let reason =
                "this line is not UTF-8, expected one token a line as UTF-8: convert the file"
                    .to_owned();
            Fault { place: Place::Line(line_number(before)), reason }
        })?;
        if text.starts_with('\u{feff}') {
            text.drain(..'\u{feff}'.len_utf8());
        }
        let count = text.bytes().filter(|byte| *byte == b'\n').count();
        // Blank lines are tokens to the libraries that read this file, and there may be a
        // few. A file that is mostly blank is no vocabulary, and would cost more than its size.
        if count > 1_000_000 && count > text.len() / 2 {
            let reason = format!("most of its {count} lines are blank, expected one token a line");
            return Err(Fault { place: Place::Line(1), reason });
        }
        let mut starts = Vec::new();
        starts.reserve_exact(count + 1);
        let mut at = 0u32;
        for (number, line) in (1u64..).zip(text.split_inclusive('\n')) {
            let too_long = |length| Fault {
                place: Place::Line(number),
                reason: format!("this line has {length} bytes, expected at most {MOST_LINE}"),
            };
            if line.len() > MOST_LINE {
                return Err(too_long(line.len()));
            }
            starts.push(at);
            let length = u32::try_from(line.len()).map_err(|_| too_long(line.len()))?;
            at = at.checked_add(length).ok_or_else(|| too_long(line.len()))?;
        }
        Ok(Vocabulary { text, tokens: Tokens::Lines(starts) })
    }

    fn from_tokenizer_json(bytes: &[u8]) -> Result<Self, Fault> {
        let mut file = tokenizer_json::parse(bytes)?;
        let text = std::mem::take(&mut file.text);
        let mut list = file.vocab;
        list.sort_unstable_by_key(|listed| (listed.id, listed.at));
        check_ids(&list, &text)?;
        file.added.retain(|added| added.length > 0);
        let known = tokenizer_json::known_of(&list, &file.added, &text);
        let mut fresh: Vec<Listed> = file
            .added
            .into_iter()
            .zip(known)
            .filter(|(_, known)| !known)
            .map(|(added, _)| added)
            .collect();
        for added in &fresh {
            if let Ok(place) = list.binary_search_by_key(&added.id, |listed| listed.id) {
                return Err(twice(&list[place], added, &text));
            }
        }
        fresh.sort_unstable_by_key(|added| (added.id, added.at));
        check_ids(&fresh, &text)?;
        list.append(&mut fresh);
        list.sort_unstable_by_key(|listed| listed.id);
        list.shrink_to_fit();
        check_highest(&list, &text)?;
        Ok(Vocabulary { text, tokens: Tokens::ById(list) })
    }
}

fn starts_as_gguf(path: &Path) -> Result<bool> {
    let file = StoredFile::open(path)?;
    Ok(gguf::looks_like(&file.bytes_at(0, file.bytes().min(4))?))
}

/// Refuses an id far beyond the number of tokens: whoever lists all ids takes time for each
/// hole, so the holes are bounded by what the file itself holds. Real ones have few: rows
/// that a model keeps for later.
fn check_highest(list: &[Listed], text: &str) -> Result<(), Fault> {
    const SPARE: u64 = 1_000_000;
    let most = (list.len() as u64).saturating_mul(2).saturating_add(SPARE);
    match list.last() {
        Some(token) if u64::from(token.id) >= most => Err(Fault {
            place: Place::Name(shortened(token.of(text))),
            reason: format!(
                "its id is {}, expected less than {most} with {} tokens",
                token.id,
                list.len()
            ),
        }),
        _ => Ok(()),
    }
}

/// Refuses two tokens of one id among tokens that are sorted by id.
fn check_ids(list: &[Listed], text: &str) -> Result<(), Fault> {
    let pairs = list.iter().zip(list.iter().skip(1));
    match pairs.into_iter().find(|(one, other)| one.id == other.id) {
        Some((one, other)) => Err(twice(one, other, text)),
        None => Ok(()),
    }
}

fn twice(one: &Listed, other: &Listed, text: &str) -> Fault {
    let reason = format!(
        "id {} is given to this token and to {:?}, expected one",
        other.id,
        shortened(one.of(text))
    );
    Fault { place: Place::Name(shortened(other.of(text))), reason }
}

/// The number of the line that follows these bytes.
fn line_number(before: &[u8]) -> u64 {
    before.split(|byte| *byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[u8]) -> Result<Vocabulary, Fault> {
        Vocabulary::from_lines(text.to_vec())
    }

    fn json(text: &str) -> Result<Vocabulary, Fault> {
        Vocabulary::from_tokenizer_json(text.as_bytes())
    }

    fn tokens(vocabulary: &Vocabulary) -> Vec<Option<&str>> {
        vocabulary.iter().collect()
    }

    #[test]
    fn a_line_is_a_token() {
        for text in
            ["a\nb c\n\u{2028}é\n", "a\r\nb c\r\n\u{2028}é", "\u{feff}a\nb c\n\u{2028}é\r\n"]
        {
            let vocabulary = lines(text.as_bytes()).unwrap();
            assert_eq!(
                tokens(&vocabulary),
                [Some("a"), Some("b c"), Some("\u{2028}é")],
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_blank_line_is_an_empty_token_and_an_empty_file_has_none() {
        assert_eq!(tokens(&lines(b"a\n\nb").unwrap()), [Some("a"), Some(""), Some("b")]);
        assert_eq!(lines(b"").unwrap().len(), 0);
        assert_eq!(lines(b"\n").unwrap().len(), 1);
        assert_eq!(lines(b"a\n").unwrap().get(1), None);
        assert_eq!(lines(b"a\n").unwrap().get(u64::MAX), None);
    }

    #[test]
    fn a_line_that_is_not_utf8_is_named() {
        assert_eq!(lines(b"a\nb\n\xff\nc").unwrap_err().place, Place::Line(3));
        assert_eq!(lines(b"\xff").unwrap_err().place, Place::Line(1));
    }

    #[test]
    fn endless_lines_and_blank_files_are_refused() {
        let mut long = b"a\n".to_vec();
        long.resize(2 + MOST_LINE, b'x');
        assert!(lines(&long).is_ok());
        long.push(b'x');
        assert_eq!(lines(&long).unwrap_err().place, Place::Line(2));
        assert!(lines(&vec![b'\n'; 1_000_000]).is_ok());
        assert!(lines(&vec![b'\n'; 1_000_001]).unwrap_err().reason.contains("blank"));
    }

    #[test]
    fn a_map_of_tokens_keeps_its_holes() {
        let vocabulary =
            json(r#"{"model":{"type":"BPE","vocab":{"c":4,"a":0,"\u0120b":1},"merges":[]}}"#)
                .unwrap();
        assert_eq!(tokens(&vocabulary), [Some("a"), Some("Ġb"), None, None, Some("c")]);
        assert_eq!(vocabulary.get(5), None);
        assert_eq!(vocabulary.get(1 << 40), None);
    }

    #[test]
    fn a_list_of_tokens_counts_up() {
        let vocabulary =
            json(r#"{"model":{"unk_id":0,"vocab":[["<unk>",0.0],["▁a",-1.5],["▁a",-2]]}}"#)
                .unwrap();
        assert_eq!(tokens(&vocabulary), [Some("<unk>"), Some("▁a"), Some("▁a")]);
        assert!(json(r#"{"model":{"vocab":[["a"]]}}"#).is_err());
        assert!(json(r#"{"model":{"vocab":[["a",0,1]]}}"#).is_err());
        assert!(json(r#"{"model":{"vocab":["a"]}}"#).is_err());
    }

    #[test]
    fn added_tokens_extend_the_vocabulary_before_or_after_it() {
        let added =
            r#""added_tokens":[{"id":2,"content":"<s>","special":true},{"id":0,"content":"a"}]"#;
        let model = r#""model":{"vocab":{"a":0,"b":1}}"#;
        for text in [format!("{{{added},{model}}}"), format!("{{{model},{added}}}")] {
            assert_eq!(tokens(&json(&text).unwrap()), [Some("a"), Some("b"), Some("<s>")]);
        }
    }

    #[test]
    fn an_added_token_that_the_vocabulary_has_keeps_its_id() {
        let text = r#"{"added_tokens":[{"id":7,"content":"a"},{"id":9,"content":""}],"model":{"vocab":{"a":0,"b":1}}}"#;
        assert_eq!(tokens(&json(text).unwrap()), [Some("a"), Some("b")]);
        let again = r#"{"added_tokens":[{"id":1,"content":"x"},{"id":2,"content":"x"}],"model":{"vocab":{"a":0}}}"#;
        assert_eq!(tokens(&json(again).unwrap()), [Some("a"), Some("x")]);
    }

    #[test]
    fn an_id_for_two_tokens_is_refused() {
        for text in [
            r#"{"model":{"vocab":{"a":1,"b":1}}}"#,
            r#"{"added_tokens":[{"id":1,"content":"b"}],"model":{"vocab":{"a":1}}}"#,
            r#"{"added_tokens":[{"id":1,"content":"a"},{"id":1,"content":"b"}],"model":{"vocab":{}}}"#,
        ] {
            let fault = json(text).unwrap_err();
            assert_eq!(fault.place, Place::Name("b".into()), "{text}");
            assert!(fault.reason.contains("id 1"), "{}", fault.reason);
        }
    }

    #[test]
    fn an_id_far_beyond_the_tokens_is_refused_by_name() {
        let fault = json(r#"{"model":{"vocab":{"a":0,"far":4000000000}}}"#).unwrap_err();
        assert_eq!(fault.place, Place::Name("far".into()));
        assert!(json(r#"{"model":{"vocab":{"a":1000001}}}"#).is_ok());
        assert!(json(r#"{"model":{"vocab":{"a":1000002}}}"#).is_err());
    }

    #[test]
    fn too_many_added_tokens_are_refused() {
        let added = |count: usize| {
            let list: Vec<String> =
                (0..count).map(|i| format!(r#"{{"id":{i},"content":"{i:x}"}}"#)).collect();
            json(&format!(r#"{{"added_tokens":[{}],"model":{{"vocab":{{}}}}}}"#, list.join(",")))
        };
        assert_eq!(added(500).unwrap().len(), 500);
        assert!(added(500_001).unwrap_err().reason.contains("500,000"));
    }

    #[test]
    fn ids_that_are_no_ids_are_refused_with_their_place() {
        for id in ["-1", "1.5", "4294967296", "\"1\"", "null"] {
            let fault = json(&format!(r#"{{"model":{{"vocab":{{"a":{id}}}}}}}"#)).unwrap_err();
            assert!(matches!(fault.place, Place::Offset(_)), "{id}");
        }
    }

    #[test]
    fn a_file_without_a_vocabulary_is_refused() {
        for text in
            ["{}", r#"{"model":{}}"#, r#"{"model":null}"#, r#"{"model":{"vocab":null}}"#, "[]", ""]
        {
            assert!(json(text).is_err(), "{text}");
        }
        assert_eq!(json(r#"{"model":{}}"#).unwrap_err().place, Place::Name("model.vocab".into()));
    }

    #[test]
    fn a_key_twice_is_refused_anywhere() {
        for text in [
            r#"{"model":{"vocab":{"twin":0,"twin":1}}}"#,
            r#"{"model":{"vocab":{}},"normalizer":{"twin":1,"twin":1}}"#,
            r#"{"added_tokens":[{"twin":1,"twin":1}],"model":{"vocab":{}}}"#,
        ] {
            assert_eq!(json(text).unwrap_err().place, Place::Name("twin".into()), "{text}");
        }
    }

    #[test]
    fn the_file_decides_how_it_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let vocabulary =
            Vocabulary::read(&file("tokenizer.json", r#"{"model":{"vocab":{"a":0}}}"#));
        assert_eq!(vocabulary.unwrap().get(0), Some("a"));
        assert_eq!(Vocabulary::read(&file("vocab.txt", "x\ny")).unwrap().get(1), Some("y"));
        let error = Vocabulary::read(&file("bad.json", "{")).unwrap_err();
        assert!(matches!(error, crate::Error::Foreign { format: "tokenizer.json", .. }));
    }
}
