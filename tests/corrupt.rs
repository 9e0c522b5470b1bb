//! Damage of every kind to an `.emb` file: each field has its own error, no length but the
//! right one opens, no flipped bit goes unseen, nothing panics.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::float_cmp,
    clippy::print_stderr
)]

mod support;

use byteorder::{ByteOrder, LittleEndian};
use embmap::format::{FIELDS, HEADER_BYTES, ROWS_OFFSET, TRAILER_BYTES};
use embmap::{DType, Error, FormatError, Table};
use proptest::prelude::*;
use rayon::prelude::*;
use support::{field, reseal, small_file};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

fn small() -> Vec<u8> {
    small_file(tempfile::tempdir().unwrap().path())
}

#[track_caller]
fn open_error(file: &[u8]) -> FormatError {
    match Table::from_bytes(file) {
        Err(Error::Format { source, .. }) => source,
        Err(other) => panic!("expected a format error, got {other}"),
        Ok(table) => panic!("a damaged file opened: {:?}", table.info()),
    }
}

/// The small file with one field overwritten and the header's sum made right again.
#[track_caller]
fn with(name: &str, value: u64) -> FormatError {
    let mut file = small();
    let field = field(name);
    LittleEndian::write_uint(&mut file[field.range()], value, field.bytes.min(8));
    reseal(&mut file);
    open_error(&file)
}

/// The small file with a word of a directory entry overwritten.
#[track_caller]
fn with_section(index: usize, at: usize, bytes: usize, value: u64) -> FormatError {
    let mut file = small();
    let start = field("sections").offset + index * 32 + at;
    LittleEndian::write_uint(&mut file[start..start + bytes], value, bytes);
    reseal(&mut file);
    open_error(&file)
}

#[test]
fn every_header_field_has_its_own_error() {
    use FormatError as E;
    let length = small().len() as u64;

    // Without its magic a file is an .emb file by its name alone.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("magic.emb");
    let mut file = small();
    file[1] = b'e';
    std::fs::write(&path, &file).unwrap();
    let Err(Error::Format { source, .. }) = Table::load(&path) else { panic!() };
    assert!(matches!(source, E::Magic { found } if found[1] == b'e'));
    assert_eq!(with("version_major", 2), E::VersionMajor { found: 2, supported: 1 });
    assert_eq!(with("reserved_0", 1), E::Reserved { offset: 12 });
    assert_eq!(with("incompatible_features", 6), E::IncompatibleFeatures { unknown: 6 });
    assert_eq!(
        with("file_bytes", length + 1),
        E::FileBytes { expected: length + 1, found: length }
    );
    assert!(matches!(with("vocab", 6), E::RowsBytes { expected: 384, found: 320 }));
    assert_eq!(with("dim", 0), E::Dim { found: 0 });
    assert_eq!(with("dim", 1 << 32), E::Dim { found: 1 << 32 });
    assert_eq!(with("dim", (1 << 24) + 1), E::Dim { found: (1 << 24) + 1 });
    assert_eq!(with("dim", 4), E::RowBytes { expected: 16, found: 12 });
    assert_eq!(with("dtype", 99), E::DType { found: 99 });
    assert_eq!(with("codec", 99), E::Codec { found: 99 });
    assert_eq!(with("codec", 1), E::ScaleType { field: "scale_dtype", found: 0 });
    assert_eq!(with("codec", 2), E::CodecDType { codec: "blocks", dtype: DType::F32 });
    assert_eq!(with("dtype", 13), E::CodecDType { codec: "plain", dtype: DType::Q8_0 });
    assert_eq!(with("dtype", 11), E::BlockLength { dim: 3, multiple: 2, found: 2 });
    assert_eq!(with("row_bytes", 16), E::RowBytes { expected: 12, found: 16 });
    assert_eq!(with("row_stride", 8), E::RowStride { row_bytes: 12, multiple: 4, found: 8 });
    assert_eq!(with("row_stride", 66), E::RowStride { row_bytes: 12, multiple: 4, found: 66 });
    let wide = 12 + 65_536;
    assert_eq!(with("row_stride", wide), E::RowStride { row_bytes: 12, multiple: 4, found: wide });
    assert_eq!(with("rows_offset", 4096), E::RowsOffset { expected: 65_536, found: 4096 });
    assert_eq!(with("rows_bytes", 0), E::RowsBytes { expected: 320, found: 0 });
    for name in [
        "bits",
        "scale_dtype",
        "bias_dtype",
        "block_length",
        "scales_offset",
        "biases_offset",
        "nibble_order",
        "table_scale_present",
        "table_scale",
    ] {
        assert!(
            matches!(with(name, 8), E::CodecField { field, expected: 0, found: 8 } if field == name),
            "{name}"
        );
    }
    assert_eq!(with("checksum_kind", 7), E::ChecksumKind { found: 7 });
    assert_eq!(
        with("checksum_block_bytes", 4096),
        E::ChecksumBlock { expected: 65_536, found: 4096 }
    );
    assert_eq!(with("section_count", 65), E::SectionCount { most: 64, found: 65 });
    let used = field("sections").offset as u64 + 7 * 32;
    assert_eq!(with("section_count", 7), E::Reserved { offset: used });
    assert_eq!(with("reserved_1", 1), E::Reserved { offset: 168 });
    assert_eq!(with("reserved_2", 1), E::Reserved { offset: 2304 });
    let sum = open_error(&{
        let mut file = small();
        file[field("header_sum").offset] ^= 1;
        file
    });
    assert!(matches!(sum, E::HeaderSum { .. }));
}

#[test]
fn what_newer_minor_versions_add_is_skipped() {
    let mut file = small();
    LittleEndian::write_u16(&mut file[field("version_minor").range()], 9);
    LittleEndian::write_u64(&mut file[field("compatible_features").range()], u64::MAX);
    reseal(&mut file);
    let table = Table::from_bytes(&file).unwrap();
    assert_eq!(table.info().version, Some((1, 9)));
    assert!(table.verify().unwrap().is_sound());
}

#[test]
fn every_rule_of_the_directory_has_its_own_error() {
    use FormatError as E;
    // In order: token offsets, bytes, presence, index, tokenizer, metadata, norms, block sums.
    assert_eq!(with_section(2, 0, 4, 0), E::SectionKind { index: 2 });
    assert_eq!(with_section(4, 0, 4, 6), E::SectionDuplicate { index: 5, kind: 6 });
    assert_eq!(with_section(4, 4, 4, 1), E::SectionFlags { index: 4, expected: 0, found: 1 });
    assert_eq!(with_section(4, 0, 4, 7), E::SectionFlags { index: 4, expected: 1, found: 0 });
    assert!(matches!(with_section(4, 0, 8, 7 | 1 << 32), E::SectionRule { index: 4, kind: 7, .. }));
    assert_eq!(with_section(4, 0, 8, 0x3e8 | 1 << 32), E::SectionCritical { index: 4, kind: 1000 });
    assert_eq!(
        with_section(4, 0, 8, 0x3e8 | 6 << 32),
        E::SectionFlags { index: 4, expected: 0, found: 6 }
    );
    let first = ROWS_OFFSET + 4096;
    assert_eq!(
        with_section(0, 8, 8, first + 4096),
        E::SectionOffset { index: 0, expected: first, found: first + 4096 }
    );
    assert!(matches!(with_section(5, 16, 8, u64::MAX), E::SectionRule { index: 5, kind: 6, .. }));
    assert!(matches!(with_section(0, 16, 8, 57), E::SectionRule { index: 0, kind: 1, .. }));
    assert!(matches!(with_section(2, 16, 8, 2), E::SectionRule { index: 2, kind: 3, .. }));
    assert!(matches!(with_section(3, 0, 4, 0x3e8), E::SectionMissing { missing: 4, .. }));
    assert!(matches!(with_section(7, 16, 8, 16), E::SectionRule { index: 7, kind: 9, .. }));
    assert!(matches!(with_section(7, 16, 8, 5000), E::SectionRule { index: 7, kind: 9, .. }));
    assert!(matches!(with_section(1, 0, 4, 1000), E::SectionMissing { missing: 2, .. }));
    assert!(matches!(with_section(7, 0, 4, 1000), E::SectionMissing { missing: 9, .. }));
    assert!(matches!(with_section(6, 16, 8, 16), E::SectionRule { index: 6, kind: 8, .. }));
    assert!(matches!(with_section(6, 16, 8, 24), E::SectionRule { index: 6, kind: 8, .. }));
    // A section that grew over the boundary pushes the next one away.
    assert!(matches!(with_section(5, 16, 8, 4097), E::SectionOffset { index: 6, .. }));

    let mut file = small();
    for unused in ["checksum_kind", "checksum_block_bytes"] {
        LittleEndian::write_u32(&mut file[field(unused).range()], 0);
    }
    reseal(&mut file);
    assert!(matches!(open_error(&file), E::SectionRule { index: 7, kind: 9, .. }));

    let mut file = small();
    let page = file.split_off(file.len() - TRAILER_BYTES);
    file.extend(vec![0; 4096]);
    file.extend(page);
    let length = file.len() as u64;
    LittleEndian::write_u64(&mut file[field("file_bytes").range()], length);
    reseal(&mut file);
    assert!(matches!(open_error(&file), E::SectionsEnd { .. }));
}

#[test]
fn an_unknown_section_that_is_not_critical_is_skipped() {
    let mut file = small();
    let kind = field("sections").offset + 5 * 32;
    LittleEndian::write_u32(&mut file[kind..kind + 4], 1000);
    reseal(&mut file);
    let table = Table::from_bytes(&file).unwrap();
    assert_eq!(table.metadata().unwrap(), None);
    assert_eq!(table.info().sections[5].name, "unknown");
    assert!(table.verify().unwrap().is_sound(), "its sum is compared all the same");
}

#[test]
fn every_part_of_the_trailer_has_its_own_error() {
    use FormatError as E;
    let changed = |at: usize| {
        let mut file = small();
        let start = file.len() - TRAILER_BYTES;
        file[start + at] ^= 1;
        open_error(&file)
    };
    assert!(matches!(changed(0), E::TrailerMagic { .. }));
    assert!(matches!(changed(8), E::TrailerFileBytes { .. }));
    assert!(matches!(changed(16), E::TrailerFileId { .. }));
    assert!(matches!(changed(40), E::Reserved { .. }));
    // The file id is in the header too, and the two must agree.
    let mut file = small();
    file[field("file_id").offset] ^= 1;
    reseal(&mut file);
    assert!(matches!(open_error(&file), E::TrailerFileId { .. }));
}

#[test]
fn every_field_was_damaged_above() {
    let source = std::fs::read_to_string("tests/corrupt.rs").unwrap();
    for field in FIELDS.iter().filter(|field| !matches!(field.name, "magic" | "sections")) {
        assert!(source.contains(&format!("\"{}\"", field.name)), "{} is not tested", field.name);
    }
}

#[test]
fn no_other_length_opens() {
    let file = small();
    let mut longer = file.clone();
    longer.extend([0; 8]);
    (0..=longer.len()).into_par_iter().filter(|length| *length != file.len()).for_each(|length| {
        if length < 8 {
            assert!(matches!(Table::from_bytes(&longer[..length]), Err(Error::NoTable { .. })));
            return;
        }
        let error = open_error(&longer[..length]);
        let expected = match length {
            8..65_600 => matches!(error, FormatError::TooShort { .. }),
            _ => matches!(error, FormatError::FileBytes { .. }),
        };
        assert!(expected, "{length} bytes: {error}");
    });
    assert!(Table::from_bytes(&file).is_ok());
}

#[test]
fn every_flipped_bit_is_found() {
    let file = small();
    assert!(Table::from_bytes(&file).unwrap().verify().unwrap().is_sound());
    let found = |at: usize, bit: usize| {
        let mut file = file.clone();
        file[at] ^= 1 << bit;
        match Table::from_bytes(&file) {
            Err(_) => true,
            Ok(table) => !table.verify().unwrap().is_sound(),
        }
    };
    (0..file.len()).into_par_iter().for_each(|at| {
        // Of the gap before the rows one bit a byte: any byte there that is not zero is damage.
        let gap = HEADER_BYTES..ROWS_OFFSET as usize;
        let bits = if gap.contains(&at) { at % 8..at % 8 + 1 } else { 0..8 };
        for bit in bits {
            assert!(found(at, bit), "bit {bit} of byte {at}");
        }
    });
}

#[test]
fn swapped_blocks_and_blocks_of_another_file_are_found() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("blocks.emb");
    support::write_random(&path, 4096, 16, embmap::DType::F32, None);
    let file = std::fs::read(&path).unwrap();
    let block = |index: usize| {
        let start = 65_536 * (1 + index);
        start..start + 65_536
    };
    assert!(file.len() > block(3).end);

    let mut swapped = file.clone();
    swapped[block(1)].copy_from_slice(&file[block(2)]);
    swapped[block(2)].copy_from_slice(&file[block(1)]);
    let found = Table::from_bytes(&swapped).unwrap().verify().unwrap();
    assert_eq!(found.damage_count, 2);
    assert!(matches!(
        &found.damage[0],
        embmap::Damage::Block { block: 1, rows, offset: 131_072, .. } if *rows == (1024..2048)
    ));

    let mut zeroed = file.clone();
    zeroed[block(3)].fill(0);
    assert_eq!(Table::from_bytes(&zeroed).unwrap().verify().unwrap().damage_count, 1);

    let mut options = embmap::WriteOptions::new(16, embmap::DType::F32).file_id([9; 16]);
    options = options.replace(true);
    let mut writer = options.create(&path).unwrap();
    writer.push_encoded(&file[65_536..65_536 + 4096 * 64]).unwrap();
    writer.finish().unwrap();
    let other = std::fs::read(&path).unwrap();
    assert_eq!(other[block(0)], file[block(0)], "the same rows");
    let sums = file.len() - TRAILER_BYTES - 4096;
    let mut stale = file.clone();
    stale[sums..sums + 8].copy_from_slice(&other[sums..sums + 8]);
    assert!(!Table::from_bytes(&stale).unwrap().verify().unwrap().is_sound());
}

/// A file without block sums: what else `verify` looks at has nothing to hide behind.
fn without_block_sums(metadata: &str) -> (Vec<u8>, usize) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sums.emb");
    let options = embmap::WriteOptions::new(3, embmap::DType::F32).metadata(metadata);
    let mut writer = options.create(&path).unwrap();
    writer.push(&[1f32, 2.0, 3.0]).unwrap();
    writer.finish().unwrap();
    let mut file = std::fs::read(&path).unwrap();
    let sums = Table::from_bytes(&file).unwrap().info().sections[1].clone();
    assert_eq!(sums.name, "block_sums");
    let trailer = file.split_off(file.len() - TRAILER_BYTES);
    file.truncate(sums.offset as usize);
    file.extend(trailer);
    let bytes = file.len() as u64;
    for (name, value) in [
        ("checksum_kind", 0),
        ("checksum_block_bytes", 0),
        ("section_count", 1),
        ("file_bytes", bytes),
    ] {
        let field = field(name);
        LittleEndian::write_uint(&mut file[field.range()], value, field.bytes);
    }
    let second = field("sections").offset + 32;
    file[second..second + 32].fill(0);
    let end = file.len();
    LittleEndian::write_u64(&mut file[end - 56..end - 48], bytes);
    reseal(&mut file);
    (file, 65_536 + 4096)
}

fn damage_of(file: &[u8]) -> Vec<embmap::Damage> {
    Table::from_bytes(file).unwrap().verify().unwrap().damage
}

#[test]
fn section_sums_count_where_there_are_no_block_sums() {
    let (mut file, metadata) = without_block_sums("{\"a\": 1}");
    assert_eq!(damage_of(&file), []);
    file[metadata + 6] = b'2';
    let damage = damage_of(&file);
    assert!(
        matches!(damage[..], [embmap::Damage::Format(FormatError::SectionSum { index: 0, .. })]),
        "{damage:?}"
    );
}

#[test]
fn metadata_that_is_no_json_object_is_found() {
    for (metadata, is_sound) in [("{}", true), ("", false), ("[]", false), ("{\"a\":1", false)] {
        let (file, _) = without_block_sums(metadata);
        let damage = damage_of(&file);
        let found = matches!(damage[..], [embmap::Damage::Format(FormatError::Metadata { .. })]);
        assert_eq!((found, damage.is_empty()), (!is_sound, is_sound), "{metadata}: {damage:?}");
    }
}

#[test]
fn metadata_that_is_not_utf8_is_found() {
    let (mut file, metadata) = without_block_sums("{\"a\": 1}");
    file[metadata + 2] = 0xff;
    let damage = damage_of(&file);
    let utf8 = embmap::Damage::Format(FormatError::SectionUtf8 { index: 0 });
    assert!(damage.contains(&utf8), "{damage:?}");
    assert!(matches!(
        Table::from_bytes(&file).unwrap().metadata(),
        Err(Error::Format { source: FormatError::SectionUtf8 { index: 0 }, .. })
    ));
}

/// What follows a section is sealed again: a norm that is not its row's has nothing to betray it
/// but the row.
#[test]
fn a_norm_that_is_not_its_row_s_is_found() {
    let seal = |file: &mut Vec<u8>| {
        let table = Table::from_bytes(file).unwrap();
        let sections = table.info().sections.clone();
        let seed = xxh3_64(&support::FILE_ID);
        let place = |offset: u64| usize::try_from(offset).unwrap();
        let [norms, sums] = ["norms", "block_sums"]
            .map(|name| sections.iter().position(|section| section.name == name).unwrap());
        let mut blocks = Vec::new();
        let covered = &file[place(ROWS_OFFSET)..place(sections[sums].offset)];
        for (block, bytes) in (0u64..).zip(covered.chunks(65_536)) {
            blocks.extend(xxh3_64_with_seed(bytes, seed.wrapping_add(block)).to_le_bytes());
        }
        let start = place(sections[sums].offset);
        file[start..start + blocks.len()].copy_from_slice(&blocks);
        for index in [norms, sums] {
            let section = &sections[index];
            let bytes = &file[place(section.offset)..place(section.offset + section.bytes)];
            let sum = xxh3_64_with_seed(bytes, seed);
            let entry = field("sections").offset + index * 32 + 24;
            LittleEndian::write_u64(&mut file[entry..entry + 8], sum);
        }
        reseal(file);
    };
    let mut file = small();
    let norms = Table::from_bytes(&file).unwrap().info().sections[6].clone();
    assert_eq!((norms.name, norms.kind, norms.bytes), ("norms", 8, 20));
    let third = usize::try_from(norms.offset).unwrap() + 8;
    let expected = LittleEndian::read_f32(&file[third..]);
    assert_eq!(expected, (2f32 * 2.0 + 2.25 * 2.25 + 2.0 * 2.0).sqrt());
    seal(&mut file);
    assert_eq!(damage_of(&file), [], "sealing changes nothing");
    for wrong in [f32::from_bits(expected.to_bits() + 1), -expected, f32::NAN, 0.0] {
        LittleEndian::write_f32(&mut file[third..third + 4], wrong);
        seal(&mut file);
        let (expected, found) = (expected.to_bits(), wrong.to_bits());
        let norm = FormatError::Norm { id: 2, expected, found };
        assert_eq!(damage_of(&file), [embmap::Damage::Format(norm)], "{wrong}");
        // A search takes them as they are, and no number makes it panic.
        let table = Table::from_bytes(&file).unwrap();
        table.nearest(&[1.0, 1.0, 1.0], 5, embmap::Metric::Cosine).unwrap();
    }
    // Without block sums rows are checked all the same.
    let mut row = small();
    row[65_536 + 64] ^= 1;
    seal(&mut row);
    let damage = damage_of(&row);
    let of_the_row = |damage: &embmap::Damage| {
        matches!(damage, embmap::Damage::Format(FormatError::Norm { id: 1, .. }))
    };
    assert!(damage.iter().all(of_the_row) && damage.len() == 1, "{damage:?}");
}

/// Opens bytes and uses everything, as a careless program would.
fn use_everything(file: &[u8]) {
    let Ok(table) = Table::from_bytes(file) else { return };
    let ids = [0, 1, table.vocab().saturating_sub(1), table.vocab(), u64::MAX];
    for id in ids {
        let _ = table.encoded_row(id).map(<[u8]>::len);
        let _ = table.row::<f32>(id).map(<[f32]>::len);
        let _ = table.token(id).map(|token| token.map(|token| token.len()));
        if table.dim() < 1 << 16 {
            let _ = table.gather_into(&[id], &mut vec![0f32; table.dim()]);
        }
    }
    for token in ["cat", "", "Ġçà", "beyond", "dog"] {
        if let Ok(Some(id)) = table.id_of(token) {
            assert_eq!(table.token(id).unwrap().as_deref(), Some(token));
        }
    }
    let _ = table.metadata().map(|text| text.map(|text| text.len()));
    let _ = table.tokenizer_json().map(|text| text.map(|text| text.len()));
    let _ = table.verify().map(|found| found.is_sound());
    if table.dim() < 1 << 16 {
        let query = vec![0.5; table.dim()];
        let _ = table.nearest(&query, 1, embmap::Metric::Cosine).map(|found| found.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..5000), emb: bool) {
        let mut bytes = bytes;
        if emb && bytes.len() >= 8 {
            bytes[..8].copy_from_slice(&embmap::format::MAGIC);
        }
        use_everything(&bytes);
    }

    #[test]
    fn mutated_files_never_panic(
        seed in 0usize..6,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u64>(), 1usize..9), 1..6),
        cut in proptest::option::of(any::<prop::sample::Index>()),
        sealed in proptest::bool::weighted(0.9),
    ) {
        let mut file = small();
        // Where damage is interesting: the header's fields, the directory, the sections.
        let regions = [8..256, 256..2304, 65_536..70_000, 69_632..file.len(), 0..file.len(), 8..480];
        let region = regions[seed].clone();
        for (at, value, bytes) in changes {
            let at = (region.start + at.index(region.len())).min(file.len() - 8);
            // Small and huge values alike: sizes just off, and sizes that overflow.
            let value = if value % 3 == 0 { value } else { value % 64 };
            let at = if value % 2 == 0 { at / 8 * 8 } else { at };
            LittleEndian::write_uint(
                &mut file[at..at + bytes.min(8)],
                value & (u64::MAX >> (64 - 8 * bytes.min(8))),
                bytes.min(8),
            );
        }
        if let Some(cut) = cut {
            let length = cut.index(file.len()).max(HEADER_BYTES);
            file.truncate(length);
        }
        if sealed {
            reseal(&mut file);
        }
        use_everything(&file);
    }
}
