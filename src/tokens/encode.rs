//! Token sections in memory, for vocabularies that come with a checkpoint.

use byteorder::{ByteOrder, LittleEndian};

use super::index::{INDEX_HEADER_BYTES, IndexBuilder, token_hash};
use super::lookup::TokenParts;
use crate::storage::Stretch;

/// Encodes tokens as the sections of an `.emb` file have them, one after the other.
///
/// `token` gives the token of each id below `count`, `None` where it is absent.
pub(crate) fn encode_tokens<'a>(
    count: usize,
    token: impl Fn(usize) -> Option<&'a str>,
) -> (Vec<u8>, TokenParts) {
    let mut offsets = vec![0; (count + 1) * 8];
    let mut bytes = Vec::new();
    let mut presence = vec![0u8; count.div_ceil(8)];
    let mut pairs = Vec::new();
    for id in 0..count {
        if let Some(token) = token(id) {
            bytes.extend_from_slice(token.as_bytes());
            presence[id / 8] |= 1 << (id % 8);
            pairs.push((token_hash(token.as_bytes()), id as u64, token));
        }
        LittleEndian::write_u64(&mut offsets[(id + 1) * 8..(id + 2) * 8], bytes.len() as u64);
    }
    let index = encode_index(pairs, count as u64);

    let mut encoded =
        Vec::with_capacity(offsets.len() + bytes.len() + presence.len() + index.len());
    let mut append = |part: &[u8]| {
        let offset = encoded.len() as u64;
        encoded.extend_from_slice(part);
        Stretch { offset, bytes: part.len() as u64 }
    };
    let parts = TokenParts {
        offsets: append(&offsets),
        bytes: append(&bytes),
        presence: append(&presence),
        index: append(&index),
    };
    (encoded, parts)
}

fn encode_index(mut pairs: Vec<(u64, u64, &str)>, ids: u64) -> Vec<u8> {
    pairs.sort_unstable_by(|a, b| (a.0, a.2, a.1).cmp(&(b.0, b.2, b.1)));
    pairs.dedup_by(|later, first| (later.0, later.2) == (first.0, first.2));
    pairs.sort_unstable_by_key(|(hash, id, _)| (*hash, *id));
    let mut builder = IndexBuilder::new(pairs.len() as u64, ids);
    let (mut directory, mut entries) = (Vec::new(), Vec::new());
    let written = pairs
        .iter()
        .try_for_each(|(hash, id, _)| builder.push(*hash, *id, &mut directory, &mut entries))
        .and_then(|()| builder.finish(&mut directory));
    // Writing to a vector cannot fail.
    let header = written.unwrap_or([0; INDEX_HEADER_BYTES]);
    [&header[..], &directory, &entries].concat()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::super::lookup::Tokens;
    use super::super::verify_tokens;
    use super::*;
    use crate::storage::StoredFile;

    proptest! {
        #[test]
        fn lookups_agree_with_a_plain_map(
            tokens in proptest::collection::vec(proptest::option::of("[a-cé]{0,3}"), 0..200),
            asked in proptest::collection::vec("[a-dé]{0,3}", 0..20),
        ) {
            let (encoded, parts) = encode_tokens(tokens.len(), |id| tokens[id].as_deref());
            let file = StoredFile::from_bytes(&encoded, "tokens").unwrap();
            let sections = Tokens { file: &file, parts: &parts };

            let mut lowest = HashMap::new();
            for (id, token) in (0u64..).zip(&tokens) {
                let found = sections.token(id).unwrap();
                prop_assert_eq!(found.as_deref(), token.as_deref());
                if let Some(token) = token {
                    lowest.entry(token.as_str()).or_insert(id);
                }
            }
            prop_assert_eq!(sections.token(tokens.len() as u64).unwrap(), None);
            for token in asked.iter().chain(tokens.iter().flatten()) {
                let expected = lowest.get(token.as_str()).copied();
                prop_assert_eq!(sections.id_of(token).unwrap(), expected, "{:?}", token);
            }
            prop_assert!(verify_tokens(sections).is_ok());
        }

        #[test]
        fn a_damaged_index_misses_or_says_so_but_never_lies(
            at in 0usize..10_000, bit in 0u8..8, asked in 0usize..300,
        ) {
            let tokens: Vec<String> = (0..300).map(|id| format!("token {}", id % 290)).collect();
            let (mut encoded, parts) = encode_tokens(tokens.len(), |id| Some(&tokens[id]));
            let index = parts.index;
            let at = usize::try_from(index.offset).unwrap()
                + at % usize::try_from(index.bytes).unwrap();
            encoded[at] ^= 1 << bit;
            let file = StoredFile::from_bytes(&encoded, "tokens").unwrap();
            if let Ok(Some(id)) = (Tokens { file: &file, parts: &parts }).id_of(&tokens[asked]) {
                prop_assert_eq!(&tokens[usize::try_from(id).unwrap()], &tokens[asked]);
            }
        }
    }
}
