//! Tables whose rows lie in an order of their own: whatever is asked by id is answered as of the
//! table whose rows lie by their ids, and an order that is damaged never leads beyond the rows.

#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::float_cmp,
    clippy::print_stderr
)]

mod support;

use std::ops::ControlFlow;
use std::path::PathBuf;

use byteorder::{ByteOrder, LittleEndian};
use embmap::{
    Access, BagOptions, Codec, ConvertOptions, DType, Error, ExportFormat, ExportOptions,
    FormatError, GatherOptions, Metric, OpenOptions, Pooling, ScaleType, Scaling, Table,
    WriteOptions, convert, export_to,
};
use proptest::prelude::*;
use support::{FILE_ID, Random, field, reseal};

/// A table as it lies by its ids, and in an order of its own.
struct Pair {
    directory: tempfile::TempDir,
    vocab: u64,
}

impl Pair {
    fn write(vocab: u64, ids: &[u64], dtype: DType, dim: usize, align: Option<u64>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let codec = match dtype {
            DType::I8 => {
                Codec::Scaled(Scaling { block: dim as u32, scale: ScaleType::F32, bias: None })
            }
            _ => Codec::Plain,
        };
        let row = dim * dtype.block_bytes() + if dtype == DType::I8 { 4 } else { 0 };
        let mut random = Random(vocab);
        // Numbers that are numbers, so that sums can be compared.
        let rows: Vec<Vec<u8>> = (0..vocab)
            .map(|_| match dtype {
                DType::F32 => (0..dim)
                    .flat_map(|_| {
                        ((f32::from(random.below(2000) as u16) - 1000.0) / 8.0).to_le_bytes()
                    })
                    .collect(),
                DType::F16 => random.bytes(row).iter().map(|byte| byte & 0x3f).collect(),
                _ => [random.bytes(dim), 0.25f32.to_le_bytes().to_vec()].concat(),
            })
            .collect();
        let mut order = ids.to_vec();
        order.extend((0..vocab).filter(|id| !ids.contains(id)));
        for (name, placed, order) in
            [("by-id.emb", &[][..], (0..vocab).collect()), ("placed.emb", ids, order)]
        {
            let mut options = WriteOptions::new(dim, dtype)
                .codec(codec)
                .file_id(FILE_ID)
                .vocab(vocab)
                .order(placed);
            if let Some(align) = align {
                options = options.align(align);
            }
            let mut writer = options.create(directory.path().join(name)).unwrap();
            for id in order {
                writer.push_encoded(&rows[id as usize]).unwrap();
            }
            for id in 0..vocab + 2 {
                let token = format!("token {id}");
                writer.push_token((id % 5 != 0).then_some(&token)).unwrap();
            }
            writer.finish().unwrap();
        }
        Pair { directory, vocab }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn by_id(&self) -> Table {
        Table::load(self.path("by-id.emb")).unwrap()
    }

    /// The ordered table, reached in every way.
    fn placed(&self) -> Vec<Table> {
        let path = self.path("placed.emb");
        let open = |access| OpenOptions::new().threads(2).access(access).open(&path).unwrap();
        // SAFETY: nothing writes to the test's own file.
        let mapped = unsafe { OpenOptions::new().threads(2).map(&path).unwrap() };
        vec![mapped, open(Access::Memory), open(Access::Read), open(Access::Direct)]
    }
}

fn exported(table: &Table, options: &ExportOptions) -> Vec<u8> {
    let mut bytes = Vec::new();
    export_to(table, &mut bytes, options, |_, _| ControlFlow::Continue(())).unwrap();
    bytes
}

/// Compares all that can be asked of one row.
fn compare_rows(placed: &Table, by_id: &Table) {
    let is_slice = matches!(placed.access(), Access::Map | Access::Memory);
    let rows = by_id.rows::<f32>().ok().filter(|_| is_slice).map(|_| placed.rows::<f32>().unwrap());
    for id in 0..by_id.vocab() {
        assert_eq!(placed.token(id).unwrap(), by_id.token(id).unwrap());
        match placed.encoded_row(id) {
            Ok(row) => assert_eq!(row, by_id.encoded_row(id).unwrap(), "row {id}"),
            Err(error) => assert!(!is_slice && matches!(error, Error::NotMapped { .. })),
        }
        if let Some(rows) = &rows {
            assert_eq!(&rows[id], by_id.row::<f32>(id).unwrap());
            assert_eq!(rows.get(id), placed.row::<f32>(id).ok());
        }
    }
    for id in [by_id.vocab(), u64::MAX] {
        assert!(matches!(placed.encoded_row(id), Err(Error::RowOutOfRange { .. })));
        assert!(rows.as_ref().is_none_or(|rows| rows.get(id).is_none()));
    }
    if let Some(rows) = &rows {
        assert!(rows.as_slice().is_none(), "it is no [vocab, dim] array by ids");
        assert_eq!(rows.len(), by_id.vocab());
    }
    assert!(matches!(placed.encoded_extent(0), Err(Error::RowsOrdered)));
    assert_eq!(placed.id_of("token 7").unwrap(), by_id.id_of("token 7").unwrap());
}

/// Compares batches of every kind.
fn compare_batches(placed: &Table, by_id: &Table, seed: u64) {
    let (vocab, dim, mut random) = (by_id.vocab(), by_id.dim(), Random(seed));
    for count in [0usize, 1, 5, 600] {
        let ids: Vec<i64> = (0..count).map(|_| random.below(vocab).cast_signed()).collect();
        placed.prefetch(&ids).unwrap();
        for options in [GatherOptions::new(), GatherOptions::new().threads(3)] {
            let (mut found, mut expected) = (vec![0f32; count * dim], vec![0f32; count * dim]);
            placed.gather_into_with(&ids, &mut found, &options).unwrap();
            by_id.gather_into_with(&ids, &mut expected, &options).unwrap();
            assert_eq!(found, expected);
            let bytes = count * by_id.row_bytes() as usize;
            let (mut found, mut expected) = (vec![0; bytes], vec![0; bytes]);
            placed.gather_bytes_into_with(&ids, &mut found, &options).unwrap();
            by_id.gather_bytes_into_with(&ids, &mut expected, &options).unwrap();
            assert_eq!(found, expected);
        }
        let offsets: Vec<u64> = (0..=count as u64).step_by(5).chain([count as u64]).collect();
        let bags = offsets.len() - 1;
        let weights: Vec<f32> = (0..count).map(|at| f32::from(at as u16) / 4.0).collect();
        for (pooling, weights) in [
            (Pooling::Sum, None),
            (Pooling::Sum, Some(&weights[..])),
            (Pooling::Mean, None),
            (Pooling::Max, None),
        ] {
            let padding = BagOptions::new().padding_id(ids.first().map_or(-1, |id| *id));
            for options in [BagOptions::new(), padding] {
                let (mut found, mut expected) = (vec![1f32; bags * dim], vec![2f32; bags * dim]);
                placed
                    .embedding_bag_into_with(&ids, &offsets, weights, pooling, &mut found, &options)
                    .unwrap();
                by_id
                    .embedding_bag_into_with(
                        &ids,
                        &offsets,
                        weights,
                        pooling,
                        &mut expected,
                        &options,
                    )
                    .unwrap();
                assert_eq!(found, expected, "{pooling:?}");
            }
        }
    }
    let queries: Vec<f32> = by_id.gather(&[0u64, vocab - 1]).unwrap();
    for metric in [Metric::Cosine, Metric::Dot] {
        // What has no direction has no cosine.
        if metric == Metric::Cosine && queries[..dim].iter().all(|value| *value == 0.0) {
            continue;
        }
        let k = vocab.min(5) as usize;
        let found = placed.nearest(&queries[..dim], k, metric).unwrap();
        assert_eq!(found, by_id.nearest(&queries[..dim], k, metric).unwrap());
    }
    let mut out = vec![7f32; 2 * dim];
    let error = placed.gather_into(&[0, vocab], &mut out).unwrap_err();
    assert!(matches!(error, Error::RowOutOfRange { position: Some(1), .. }));
    assert!(out.iter().all(|value| *value == 7.0));
}

/// Compares what reads many rows in order.
fn compare_scans(pair: &Pair, placed: &Table, by_id: &Table) {
    let options = ExportOptions::new().format(ExportFormat::Npy).dtype(DType::F32);
    let (vocab, third) = (pair.vocab, pair.vocab / 3);
    for rows in [0..vocab, third..vocab, third..2 * third, 0..0] {
        let options = options.clone().rows(rows.clone());
        assert!(exported(placed, &options) == exported(by_id, &options), "{rows:?}");
        placed.warm(rows.clone()).unwrap();
        placed.prefault(rows.clone()).unwrap();
        let some = placed.load_rows(rows.clone()).unwrap();
        assert_eq!(some.vocab(), rows.end - rows.start);
        for id in rows.clone() {
            let expected = by_id.encoded_row(id).unwrap();
            assert_eq!(some.encoded_row(id - rows.start).unwrap(), expected);
        }
    }
    let [own, other] = ["of-placed.emb", "of-by-id.emb"].map(|name| pair.path(name));
    let options = ConvertOptions::new().file_id(FILE_ID).replace(true).rows(third..vocab);
    convert(placed, &own, &options).unwrap();
    convert(by_id, &other, &options).unwrap();
    let (own, other) = (Table::load(own).unwrap(), Table::load(other).unwrap());
    for id in 0..vocab - third {
        assert_eq!(own.encoded_row(id).unwrap(), other.encoded_row(id).unwrap());
        assert_eq!(own.token(id).unwrap(), other.token(id).unwrap());
    }
    assert!(placed.verify().unwrap().is_sound());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn ids_mean_what_they_mean_without_an_order(
        vocab in 1u64..200, share: prop::sample::Index, dtype in 0usize..3, dim in 1usize..9,
        aligned: bool, seed: u64,
    ) {
        let dtype = [DType::F32, DType::F16, DType::I8][dtype];
        let mut ids: Vec<u64> = (0..vocab).collect();
        let mut random = Random(seed);
        for at in (1..ids.len()).rev() {
            ids.swap(at, random.below(at as u64 + 1) as usize);
        }
        ids.truncate(1 + share.index(vocab as usize));
        let pair = Pair::write(vocab, &ids, dtype, dim, aligned.then_some(64));
        let by_id = pair.by_id();
        for placed in pair.placed() {
            assert_eq!(placed.info().placed_rows, ids.len() as u64);
            compare_rows(&placed, &by_id);
            compare_batches(&placed, &by_id, seed);
            compare_scans(&pair, &placed, &by_id);
        }
    }
}

#[test]
fn large_batches_and_long_scans_keep_the_ids() {
    let vocab = 20_000;
    // Rows here and there, so that scans read runs of every length.
    let ids: Vec<u64> = (0..vocab).filter(|id| id % 7 == 3 || id % 1000 < 90).rev().collect();
    let pair = Pair::write(vocab, &ids, DType::F32, 128, None);
    let by_id = pair.by_id();
    let mut random = Random(5);
    let batch: Vec<u64> = (0..40_000).map(|_| random.below(vocab)).collect();
    let expected: Vec<f32> = by_id.gather(&batch).unwrap();
    for placed in pair.placed() {
        assert!(placed.gather::<u64, f32>(&batch).unwrap() == expected);
        compare_scans(&pair, &placed, &by_id);
    }
}

#[test]
fn rows_that_are_not_finite_are_told_by_their_ids() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("nan.emb");
    for (ids, not_finite) in [(&[7u64, 2, 90][..], 2), (&[7, 3], 93), (&[99], 0), (&[50], 50)] {
        let options = WriteOptions::new(2, DType::F32).vocab(100).order(ids).replace(true);
        let mut writer = options.create(&path).unwrap();
        let rest = (0..100).filter(|id| !ids.contains(id));
        for id in ids.iter().copied().chain(rest) {
            let value = if id == not_finite { f32::NAN } else { 1.0 };
            writer.push(&[1.0, value]).unwrap();
        }
        writer.finish().unwrap();
        let found = Table::load(&path).unwrap().verify().unwrap();
        assert_eq!((found.nan, found.first_non_finite_row), (1, Some(not_finite)), "{ids:?}");
    }
}

#[test]
fn orders_that_cannot_be_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("table.emb");
    let options = || WriteOptions::new(1, DType::F32);
    let refused = |error: Error, part: &str| {
        assert!(matches!(error, Error::InvalidOption { option: "order", .. }), "{error}");
        assert!(error.to_string().contains(part), "{error}");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    };
    refused(options().order([3, 1, 3]).create(&path).unwrap_err(), "id 3 was given twice");
    refused(options().vocab(3).order([3]).create(&path).unwrap_err(), "3 rows");
    let mut writer = options().order([5]).create(&path).unwrap();
    writer.push(&[0f32; 5]).unwrap();
    refused(writer.finish().unwrap_err(), "id 5 was given, and the table has 5 rows");
    let mut writer = options().order([]).create(&path).unwrap();
    writer.push(&[0f32; 5]).unwrap();
    writer.finish().unwrap();
    assert_eq!(Table::load(&path).unwrap().info().placed_rows, 0);
}

/// An ordered table, and where its section lies.
fn small() -> (Vec<u8>, std::ops::Range<usize>) {
    let pair = Pair::write(100, &[65, 3, 66, 99], DType::F32, 3, None);
    let file = std::fs::read(pair.path("placed.emb")).unwrap();
    let table = Table::from_bytes(&file).unwrap();
    let section = &table.info().sections[0];
    assert_eq!((section.name, section.bytes), ("row_order", 2 * 16 + 4 * 4));
    let start = section.offset as usize;
    (file, start..start + section.bytes as usize)
}

fn use_everything(table: &Table) {
    let ids: Vec<u64> = (0..100).collect();
    let mut out = vec![0f32; 300];
    for id in 0..=100 {
        let _ = table.row::<f32>(id).map(<[f32]>::len);
        let _ = table.gather_into(&[id], &mut out[..3]);
    }
    let _ = table.gather_into(&ids, &mut out);
    let _ = table.embedding_bag_into(&ids, &[0u32, 100], None, Pooling::Sum, &mut out[..3]);
    let _ = table.prefetch(&ids);
    if let Ok(rows) = table.rows::<f32>() {
        assert!(rows.iter().count() <= 100);
    }
    let _ = table.warm(3..70);
    let _ = table.load_rows(3..70).map(|rows| rows.vocab());
}

#[test]
fn every_bit_of_a_damaged_order_is_found_and_leads_nowhere_else() {
    let (file, section) = small();
    for at in section {
        for bit in 0..8 {
            let mut damaged = file.clone();
            damaged[at] ^= 1 << bit;
            let table = Table::from_bytes(&damaged).unwrap();
            assert!(!table.verify().unwrap().is_sound(), "bit {bit} of byte {at}");
            use_everything(&table);
            if bit != at % 8 {
                continue;
            }
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("damaged.emb");
            std::fs::write(&path, &damaged).unwrap();
            // Read on first use, and its sum compared: no lookup can lie.
            let table = OpenOptions::new().open(&path).unwrap();
            let error = table.gather_into(&[0u32], &mut [0f32; 3]).unwrap_err();
            assert!(
                matches!(
                    &error,
                    Error::Format { source: FormatError::SectionSum { index: 0, .. }, .. }
                ),
                "{error}"
            );
            use_everything(&table);
            assert!(!table.verify().unwrap().is_sound());
        }
    }
}

#[test]
fn a_place_beyond_the_rows_is_an_error_and_not_a_row() {
    let (file, section) = small();
    // The place of the first placed id, 3.
    let mut damaged = file.clone();
    damaged[section.start + 32] = 200;
    let table = Table::from_bytes(&damaged).unwrap();
    let damaged =
        |error| matches!(error, Error::Format { source: FormatError::RowOrder { at: 3, .. }, .. });
    assert!(damaged(table.row::<f32>(3).unwrap_err()));
    assert!(damaged(table.encoded_row(3).unwrap_err()));
    let mut out = [5f32; 6];
    assert!(damaged(table.gather_into(&[2u32, 3], &mut out).unwrap_err()));
    assert_eq!(out, [5.0; 6], "nothing is written");
    assert!(table.row::<f32>(4).is_ok());
    assert!(table.rows::<f32>().unwrap().get(3).is_none());
    let options = ExportOptions::new().format(ExportFormat::Npy);
    let exported = export_to(&table, &mut Vec::new(), &options, |_, _| ControlFlow::Continue(()));
    assert!(damaged(exported.unwrap_err()));
}

#[test]
fn sections_of_another_length_do_not_open() {
    let (file, _) = small();
    let length = field("sections").offset + 16;
    for (bytes, sound) in [(48u64, true), (44, true), (47, false), (32, false), (436, false)] {
        let mut file = file.clone();
        LittleEndian::write_u64(&mut file[length..length + 8], bytes);
        reseal(&mut file);
        match Table::from_bytes(&file) {
            Ok(table) => {
                assert!(sound);
                assert_eq!(table.verify().unwrap().is_sound(), bytes == 48);
                use_everything(&table);
            }
            Err(Error::Format { source, .. }) => {
                assert!(!sound, "{bytes}: {source}");
                assert!(matches!(source, FormatError::SectionRule { index: 0, kind: 7, .. }));
            }
            Err(other) => panic!("{other}"),
        }
    }
}

/// Converts the placed table, and gives the one that comes out.
fn converted(pair: &Pair, options: &ConvertOptions) -> Table {
    let path = pair.path("again.emb");
    let placed = OpenOptions::new().open(pair.path("placed.emb")).unwrap();
    convert(&placed, &path, &options.clone().file_id(FILE_ID).replace(true)).unwrap();
    let again = Table::load(&path).unwrap();
    assert!(again.verify().unwrap().is_sound());
    again
}

#[test]
fn a_conversion_keeps_an_order_or_takes_another() {
    let pair = Pair::write(100, &[65, 3, 66, 99], DType::F32, 3, None);
    let by_id = pair.by_id();
    let other: Vec<u64> = (0..100).rev().collect();
    for (options, placed) in [
        (ConvertOptions::new(), 4),
        (ConvertOptions::new().order([7u64, 99, 0]), 3),
        (ConvertOptions::new().order(other), 100),
        (ConvertOptions::new().order([]), 0),
    ] {
        let again = converted(&pair, &options);
        assert_eq!(again.info().placed_rows, placed);
        compare_tables(&again, &by_id);
        let in_place = again.rows::<f32>().unwrap().as_slice().is_some();
        assert_eq!(in_place, placed == 0);
    }
    converted(&pair, &ConvertOptions::new());
    let bytes = |name| std::fs::read(pair.path(name)).unwrap();
    // Rows start behind the first 64 KiB.
    let rows = 0x10000..0x10000 + 1200;
    assert_eq!(bytes("again.emb")[rows.clone()], bytes("placed.emb")[rows]);
}

fn compare_tables(found: &Table, expected: &Table) {
    assert_eq!(found.vocab(), expected.vocab());
    for id in 0..expected.vocab() {
        assert_eq!(found.row::<f32>(id).unwrap(), expected.row::<f32>(id).unwrap(), "row {id}");
        assert_eq!(found.token(id).unwrap(), expected.token(id).unwrap());
    }
}

#[test]
fn rows_are_picked_with_their_tokens_whatever_the_order() {
    let pair = Pair::write(100, &[65, 3, 66, 99], DType::F32, 3, None);
    let by_id = pair.by_id();
    let ids = [99u64, 0, 4, 65, 64, 4, 3];
    let picked = converted(&pair, &ConvertOptions::new().pick(ids));
    assert_eq!((picked.vocab(), picked.info().placed_rows), (7, 0));
    for (place, id) in (0..).zip(ids) {
        assert_eq!(picked.row::<f32>(place).unwrap(), by_id.row::<f32>(id).unwrap());
        assert_eq!(picked.token(place).unwrap(), by_id.token(id).unwrap());
    }
    assert_eq!(picked.id_of("token 4").unwrap(), Some(2), "the lowest id of a token");
    assert_eq!(picked.token_count().unwrap(), 7);

    let range = converted(&pair, &ConvertOptions::new().rows(60..70));
    assert_eq!((range.vocab(), range.info().placed_rows), (10, 0));
    assert_eq!(range.row::<f32>(5).unwrap(), by_id.row::<f32>(65).unwrap());
}

#[test]
fn rows_that_cannot_be_picked_or_placed_are_refused() {
    let pair = Pair::write(100, &[65], DType::F32, 3, None);
    let (table, path) = (pair.by_id(), pair.path("refused.emb"));
    let refused = |options: ConvertOptions| convert(&table, &path, &options).unwrap_err();
    let new = ConvertOptions::new;
    let error = refused(new().pick([3u64, 100]));
    assert!(matches!(error, Error::RowOutOfRange { id: 100, position: Some(1), vocab: 100 }));
    for (options, option) in [
        (new().pick([3u64]).rows(0..5), "rows"),
        (new().pick([3u64]).order([3u64]), "order"),
        (new().rows(0..5).order([3u64]), "order"),
        (new().order([3u64, 100]), "order"),
        (new().order([3u64, 4, 3]), "order"),
    ] {
        match refused(options) {
            Error::InvalidOption { option: found, .. } => assert_eq!(found, option),
            other => panic!("{option}: {other}"),
        }
    }
    assert!(!path.exists());
}
