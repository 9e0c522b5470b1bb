//! Parquet.

use ::parquet::arrow::ArrowWriter;
use ::parquet::basic::{Compression, GzipLevel};
use ::parquet::file::properties::WriterProperties;

use super::*;

fn write_with(batches: &[RecordBatch], properties: WriterProperties) -> Vec<u8> {
    let schema = batches[0].schema();
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties)).unwrap();
    for batch in batches {
        writer.write(batch).unwrap();
    }
    writer.into_inner().unwrap()
}

fn write(batches: &[RecordBatch]) -> Vec<u8> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_max_row_group_row_count(Some(3000));
    write_with(batches, properties.build())
}

#[test]
fn columns_of_every_kind_are_read() {
    every_kind(write, ParquetRows::open);
}

#[test]
fn what_is_no_row_is_refused_with_its_row() {
    every_fault(write, ParquetRows::open);
}

#[test]
fn packed_pages_are_read() {
    let rows = many();
    let columns = batch(vec![("v", lists::<Float32Type>(Lists::Small, &whole(&rows)))]);
    for compression in
        [Compression::UNCOMPRESSED, Compression::GZIP(GzipLevel::default()), Compression::LZ4_RAW]
    {
        let properties = WriterProperties::builder().set_compression(compression).build();
        let file = write_with(std::slice::from_ref(&columns), properties);
        let read = all(ParquetRows::open(stored(&file), &ColumnNames::default()).unwrap());
        assert_eq!(read.unwrap().rows, cast(&rows));
    }
}

#[test]
fn a_page_that_says_it_unpacks_to_more_than_it_can_is_refused() {
    let rows = vec![vec![0f32; 8]; 2000];
    let columns = batch(vec![("v", lists::<Float32Type>(Lists::Small, &whole(&rows)))]);
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_dictionary_enabled(false)
        .build();
    let file = write_with(&[columns], properties);
    let open = |file: &[u8]| ParquetRows::open(stored(file), &ColumnNames::default()).map(drop);
    open(&file).unwrap();
    // The first page's header: its kind, then its bytes unpacked, a number of three bytes.
    assert_eq!((&file[..7], file[9] & 0x80), (&b"PAR1\x15\x00\x15"[..], 0));
    for lie in [[0xfe, 0xff, 0x7f], [0xff, 0xff, 0x7f]] {
        let mut file = file.clone();
        file[7..10].copy_from_slice(&lie);
        let error = open(&file).unwrap_err();
        let Error::Foreign { place, reason, .. } = error else { panic!("{error}") };
        assert_eq!(place, Place::Offset(4));
        assert!(reason.starts_with("column \"v\", row group 0: the page "), "{reason}");
    }
}

#[test]
fn a_gzip_page_that_unpacks_to_more_than_it_says_is_refused() {
    let rows = vec![vec![0f32; 8]; 4000];
    let columns = batch(vec![("v", lists::<Float32Type>(Lists::Small, &whole(&rows)))]);
    let properties = WriterProperties::builder()
        .set_compression(Compression::GZIP(GzipLevel::default()))
        .set_dictionary_enabled(false)
        .build();
    let mut file = write_with(&[columns], properties);
    let open = |file: &[u8]| ParquetRows::open(stored(file), &ColumnNames::default()).and_then(all);
    assert_eq!(open(&file).unwrap().rows, cast(&rows));
    // Of the page's header the bytes unpacked, a number of three bytes.
    assert_eq!((&file[..7], file[9] & 0x80), (&b"PAR1\x15\x00\x15"[..], 0));
    file[7..10].copy_from_slice(&[0x80, 0x80, 0x02]);
    let error = open(&file).err().unwrap();
    let Error::Foreign { place, reason, .. } = error else { panic!("{error}") };
    assert_eq!(place, Place::Offset(4));
    let expected =
        "column \"v\", row group 0: the page unpacks to more bytes than the 16384 it declares";
    assert_eq!(reason, expected);
}

/// A dictionary makes rows and tokens of any length from a few bytes.
#[test]
fn what_is_long_in_a_few_bytes_is_read_in_a_little_memory() {
    let rows = vec![vec![0.5f32], vec![0.0; 3_000_000]];
    let file = write(&[batch(vec![("v", lists::<Float32Type>(Lists::Small, &whole(&rows)))])]);
    assert!(file.len() < 3000);
    let error = ParquetRows::open(stored(&file), &ColumnNames::default()).and_then(all);
    let Error::Foreign { place, reason, .. } = error.err().unwrap() else { panic!() };
    assert_eq!(place, Place::Row(1));
    let expected = "column \"v\", row group 0: the vector has 3000000 numbers, expected 1 as in \
                    the first row";
    assert_eq!(reason, expected);

    let (rows, token) = (vec![vec![1f32]; 3000], "x".repeat(100_000));
    let columns = batch(
        vec![
            ("v", lists::<Float32Type>(Lists::Small, &whole(&rows))),
            ("t", Arc::new(StringArray::from(vec![token.as_str(); 300]).slice(0, 300))),
        ]
        .into_iter()
        .map(|(name, array): (&str, ArrayRef)| (name, array.slice(0, 300)))
        .collect(),
    );
    let mut stream =
        ParquetRows::open(stored(&write(&[columns])), &ColumnNames::default()).unwrap();
    let (mut given, mut count) = (Batch::default(), 0);
    while stream.next(&mut given).unwrap() {
        let text: usize = given.tokens.iter().flatten().map(str::len).sum();
        assert!(text <= (1 << 20) + token.len(), "{text} bytes at once");
        assert!(given.tokens.iter().all(|one| one == Some(token.as_str())));
        count += given.count;
    }
    assert_eq!(count, 300);
}

#[test]
fn a_column_is_named_where_there_are_several() {
    let one = lists::<Float32Type>(Lists::Small, &whole(&[vec![1.0, 2.0]]));
    let two = lists::<Float64Type>(Lists::Large, &whole(&[vec![3.0, 4.0, 5.0]]));
    let file = write(&[batch(vec![
        ("b", two),
        ("words", Arc::new(StringArray::from(vec!["the"]))),
        ("a", one),
        ("more", Arc::new(StringArray::from(vec!["x"]))),
    ])]);
    let open = |vectors: Option<&str>, tokens: Option<&str>| {
        let names =
            ColumnNames { vectors: vectors.map(str::to_owned), tokens: tokens.map(str::to_owned) };
        ParquetRows::open(stored(&file), &names)
    };
    assert!(open(None, Some("words")).is_err() && open(Some("a"), None).is_err());
    let stream = open(Some("b"), Some("words")).unwrap();
    assert_eq!((stream.form().dim, stream.form().dtype, stream.column()), (3, DType::F64, "b"));
    assert_eq!(all(stream).unwrap().tokens, [Some("the".to_owned())]);
    let stream = open(Some("a"), Some("more")).unwrap();
    assert_eq!((stream.form().dim, stream.form().rows), (2, Some(1)));
    let read = all(stream).unwrap();
    assert_eq!(read.rows, cast(&[vec![1f32, 2.0]]));
    assert_eq!(read.tokens, [Some("x".to_owned())]);
}

#[test]
fn damaged_files_give_an_error_and_no_panic() {
    let rows: Vec<Vec<f32>> = (0..200u8).map(|row| vec![f32::from(row); 8]).collect();
    let tokens: Vec<String> = (0..200).map(|row| format!("t{row}")).collect();
    let file = write(&[batch(vec![
        ("t", Arc::new(StringArray::from(tokens))),
        ("v", lists::<Float32Type>(Lists::Small, &whole(&rows))),
    ])]);
    // Every error has a place, but for those that are about which column is meant.
    let read = |bytes: &[u8]| {
        let read = ParquetRows::open(stored(bytes), &ColumnNames::default()).and_then(all);
        read.map(drop).inspect_err(|error| match error {
            Error::Foreign { format: "parquet", reason, place, .. } => {
                let of_column = reason.starts_with("column \"") && reason.contains(", row group ");
                assert!(of_column || reason.starts_with("its footer: "), "{place}: {reason}");
            }
            Error::NoTable { .. } => {}
            other => panic!("{other}"),
        })
    };
    assert!(read(&file).is_ok());
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    for cut in (0..file.len()).step_by(37) {
        assert!(read(&file[..cut]).is_err(), "cut at {cut}");
    }
    let mut random = 7u64;
    for _ in 0..2000 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let mut wrong = file.clone();
        let at = usize::try_from(random >> 33).unwrap() % wrong.len();
        wrong[at] ^= 1 << (random >> 29 & 7);
        // Whatever comes of it, it comes back.
        _ = read(&wrong);
    }
    std::panic::set_hook(quiet);
}

#[test]
fn a_column_that_is_damaged_is_told_with_its_row_group_and_its_page() {
    let rows = many();
    let tokens: Vec<String> = (0..rows.len()).map(|row| format!("t{row}")).collect();
    let columns = batch(vec![
        ("t", Arc::new(StringArray::from(tokens))),
        ("v", lists::<Float32Type>(Lists::Small, &whole(&rows))),
    ]);
    let file = write(&[columns]);
    let metadata = ::parquet::file::metadata::ParquetMetaDataReader::new()
        .parse_and_finish(&bytes::Bytes::from(file.clone()))
        .unwrap();
    for (group, column, name, at) in [(0, 0, "t", 30), (1, 0, "t", 30), (2, 1, "v", 0)] {
        let chunk = metadata.row_group(group).column(column);
        let start = chunk.dictionary_page_offset().unwrap_or(chunk.data_page_offset());
        let start = usize::try_from(start).unwrap();
        let mut wrong = file.clone();
        // In the text of its first page, or in the header of that.
        wrong[start + at..start + at + 30].fill(0xff);
        let error = ParquetRows::open(stored(&wrong), &ColumnNames::default()).and_then(all);
        let Error::Foreign { place, reason, .. } = error.err().unwrap() else { panic!() };
        assert_eq!(place, Place::Offset(start as u64), "{reason}");
        let about = format!("column {name:?}, row group {group}: ");
        assert!(reason.starts_with(&about), "{reason}");
    }
}
