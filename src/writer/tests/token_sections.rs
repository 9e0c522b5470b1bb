//! Tokens that go through spools and runs come out as those that are encoded in memory.

use super::*;
use crate::format::{HEADER_BYTES, Header, SectionKind};
use crate::tokens::encode_tokens;

/// The four token sections of a table with these tokens, one after the other.
fn written<'a>(
    tokens: impl Iterator<Item = Option<&'a str>>,
    sizes: Sizes,
    longest_spill: &'static std::sync::atomic::AtomicUsize,
) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tokens.emb");
    let operations = hooked(|operation| {
        if let Operation::WriteSpool { bytes, .. } = operation {
            longest_spill.fetch_max(bytes.len(), std::sync::atomic::Ordering::Relaxed);
        }
        Ok(usize::MAX)
    });
    let options = WriteOptions::new(1, DType::F32).sizes(sizes).operations(operations);
    let mut writer = options.create(&path).unwrap();
    for token in tokens {
        writer.push_token(token).unwrap();
    }
    writer.finish().unwrap();
    let file = std::fs::read(path).unwrap();
    let header = Header::parse(&file[..HEADER_BYTES], file.len() as u64).unwrap();
    let kinds = [
        SectionKind::TokenOffsets,
        SectionKind::TokenBytes,
        SectionKind::TokenPresence,
        SectionKind::TokenIndex,
    ];
    let sections = kinds.map(|kind| {
        let (_, section) = header.section(kind).unwrap();
        let start = usize::try_from(section.offset).unwrap();
        &file[start..start + usize::try_from(section.bytes).unwrap()]
    });
    sections.concat()
}

#[test]
fn many_runs_merge_into_the_index_of_memory() {
    static LONGEST: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let tokens: Vec<Option<String>> = (0..20_000u64)
        .map(|id| match id % 10 {
            0 => None,
            1 | 2 => Some(format!("often {}", id % 70)),
            _ => Some(format!("token {}", id * 7919 % 15_000)),
        })
        .collect();
    let (expected, _) = encode_tokens(tokens.len(), |id| tokens[id].as_deref());
    let tokens = tokens.iter().map(Option::as_deref);
    let sizes = Sizes { buffer: 1, spool: 4096, run: 37 };
    assert!(written(tokens.clone(), sizes, &LONGEST) == expected);
    let longest = LONGEST.load(std::sync::atomic::Ordering::Relaxed);
    assert!((4096..8192).contains(&longest), "a spool held {longest} bytes");
    assert!(written(tokens, Sizes::default(), &LONGEST) == expected);
}

#[test]
fn one_token_in_every_row_is_one_entry() {
    static LONGEST: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let tokens = std::iter::repeat_n(Some("<unused>"), 200_000);
    let (expected, _) = encode_tokens(200_000, |_| Some("<unused>"));
    let sizes = Sizes { buffer: 1, spool: 4096, run: 1000 };
    assert!(written(tokens, sizes, &LONGEST) == expected);
}
