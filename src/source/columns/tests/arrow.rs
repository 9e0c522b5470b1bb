//! Arrow's IPC format.

use arrow_array::{
    BinaryArray, BooleanArray, DictionaryArray, NullArray, StructArray, UnionArray, types,
};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{FileWriter, IpcWriteOptions, StreamWriter};
use arrow_schema::{DataType, Field, UnionFields};

use super::*;

fn write_file(batches: &[RecordBatch]) -> Vec<u8> {
    let mut writer = FileWriter::try_new(Vec::new(), &batches[0].schema()).unwrap();
    for batch in batches {
        writer.write(batch).unwrap();
    }
    writer.into_inner().unwrap()
}

fn write_stream(batches: &[RecordBatch]) -> Vec<u8> {
    let mut writer = StreamWriter::try_new(Vec::new(), &batches[0].schema()).unwrap();
    for batch in batches {
        writer.write(batch).unwrap();
    }
    writer.into_inner().unwrap()
}

fn open(bytes: &[u8]) -> Result<Read> {
    ArrowRows::open(stored(bytes), &ColumnNames::default()).and_then(all)
}

#[test]
fn columns_of_every_kind_are_read() {
    every_kind(write_file, ArrowRows::open);
    every_kind(write_stream, ArrowRows::open);
}

#[test]
fn what_is_no_row_is_refused_with_its_row() {
    every_fault(write_file, ArrowRows::open);
    every_fault(write_stream, ArrowRows::open);
}

/// The columns before the vectors are passed over, whatever they are.
#[test]
fn columns_of_other_types_are_passed_over() {
    let rows = vec![vec![1f32, 2.0], vec![3.0, 4.0], vec![5.0, 6.0]];
    let words = || Arc::new(StringArray::from(vec!["a", "b", "c"])) as ArrayRef;
    let field =
        |name: &str, of: &ArrayRef| Arc::new(Field::new(name, of.data_type().clone(), true));
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(3)]));
    let views: ArrayRef = Arc::new(StringViewArray::from(vec![
        "a text that is too long for its view",
        "short",
        "another text that is too long",
    ]));
    let inner = StructArray::from(vec![
        (field("n", &numbers), numbers.clone()),
        (field("v", &views), views),
    ]);
    let dictionary: DictionaryArray<types::Int8Type> = vec!["x", "y", "x"].into_iter().collect();
    let fields = UnionFields::try_new(
        [0, 1],
        [Field::new("n", DataType::Int64, true), Field::new("w", DataType::Utf8, true)],
    );
    let union = UnionArray::try_new(
        fields.unwrap(),
        vec![0i8, 1, 0].into(),
        None,
        vec![numbers.clone(), words()],
    );
    let others: Vec<(&str, ArrayRef)> = vec![
        ("nothing", Arc::new(NullArray::new(3))),
        ("flag", Arc::new(BooleanArray::from(vec![true, false, true]))),
        ("bytes", Arc::new(BinaryArray::from(vec![&b"ab"[..], b"", b"c"]))),
        ("both", Arc::new(inner)),
        ("coded", Arc::new(dictionary)),
        ("either", Arc::new(union.unwrap())),
        ("ids", lists::<types::Int32Type>(Lists::Large, &whole(&[vec![1], vec![2, 3], vec![]]))),
    ];
    let mut columns = others;
    columns.push(("vector", lists::<Float32Type>(Lists::Small, &whole(&rows))));
    columns.push(("word", words()));
    for write in [write_file, write_stream] {
        let read = open(&write(&[batch(columns.clone())])).unwrap();
        assert_eq!(read.rows, cast(&rows));
        assert_eq!(read.tokens, ["a", "b", "c"].map(|word| Some(word.to_owned())));
    }
}

/// Categories, as pandas and polars write them.
#[test]
fn tokens_behind_a_dictionary_are_read() {
    use arrow_ipc::writer::DictionaryHandling;

    fn coded<K: types::ArrowDictionaryKeyType>(codes: &[Option<u8>], texts: &ArrayRef) -> ArrayRef
    where
        K::Native: TryFrom<u8>,
    {
        let mut keys = PrimitiveBuilder::<K>::new();
        for code in codes {
            keys.append_option(code.map(|code| K::Native::try_from(code).ok().unwrap()));
        }
        Arc::new(DictionaryArray::try_new(keys.finish(), Arc::clone(texts)).unwrap())
    }
    let codes = [Some(2), Some(0), None, Some(1), Some(3), Some(2)];
    let texts = [Some("un mot plutôt long"), Some(""), Some("çà"), None];
    let tokens: Vec<Option<String>> =
        codes.map(|code: Option<u8>| texts[usize::from(code?)].map(str::to_owned)).into();
    let rows: Vec<Vec<f32>> = (0..6u8).map(|row| vec![f32::from(row); 3]).collect();
    let vectors = || lists::<Float32Type>(Lists::Fixed, &whole(&rows));
    let kinds: [ArrayRef; 3] = [
        Arc::new(StringArray::from(texts.to_vec())),
        Arc::new(LargeStringArray::from(texts.to_vec())),
        Arc::new(StringViewArray::from(texts.to_vec())),
    ];
    for kind in kinds {
        for words in [
            coded::<types::Int8Type>(&codes, &kind),
            coded::<types::UInt16Type>(&codes, &kind),
            coded::<types::Int32Type>(&codes, &kind),
            coded::<types::UInt32Type>(&codes, &kind),
            coded::<types::Int64Type>(&codes, &kind),
            coded::<types::UInt64Type>(&codes, &kind),
        ] {
            let columns = batch(vec![("w", words), ("v", vectors())]);
            for file in
                [write_file(&[columns.slice(0, 2), columns.slice(2, 4)]), write_stream(&[columns])]
            {
                let read = open(&file).unwrap();
                assert_eq!((read.rows, read.tokens), (cast(&rows), tokens.clone()));
            }
        }
    }
    // A dictionary that grows, and one that is replaced, from batch to batch.
    let of = |texts: &[&str], codes: &[u8]| {
        let texts: ArrayRef = Arc::new(StringArray::from(texts.to_vec()));
        let codes: Vec<_> = codes.iter().copied().map(Some).collect();
        batch(vec![
            ("w", coded::<types::Int32Type>(&codes, &texts)),
            ("v", vectors().slice(0, codes.len())),
        ])
    };
    for (second, handling) in [
        (of(&["a", "b", "c"], &[2, 0]), DictionaryHandling::Delta),
        (of(&["x", "y"], &[1, 0]), DictionaryHandling::Resend),
    ] {
        let options = IpcWriteOptions::default().with_dictionary_handling(handling);
        let first = of(&["a", "b"], &[1, 0]);
        let mut writer =
            StreamWriter::try_new_with_options(Vec::new(), &first.schema(), options).unwrap();
        writer.write(&first).unwrap();
        writer.write(&second).unwrap();
        let read = open(&writer.into_inner().unwrap()).unwrap();
        let expected = match handling {
            DictionaryHandling::Delta => ["b", "a", "c", "a"],
            DictionaryHandling::Resend => ["b", "a", "y", "x"],
        };
        assert_eq!(read.tokens, expected.map(|token| Some(token.to_owned())));
    }
}

#[test]
fn a_number_that_no_text_of_the_dictionary_has_is_refused() {
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
    let keys: arrow_array::Int32Array = vec![1, 0, 1].into();
    let words: ArrayRef = Arc::new(DictionaryArray::try_new(keys, texts).unwrap());
    let rows = vec![vec![1f32]; 3];
    let mut file = write_file(&[batch(vec![
        ("w", words),
        ("v", lists::<Float32Type>(Lists::Fixed, &whole(&rows))),
    ])]);
    let keys = [1i32, 0, 1].map(i32::to_le_bytes).concat();
    let at = file.windows(12).position(|bytes| bytes == keys).unwrap();
    for (code, shown) in [(2i32, "2"), (-1, "-1")] {
        file[at + 8..at + 12].copy_from_slice(&code.to_le_bytes());
        let error = open(&file).err().unwrap();
        let Error::Foreign { place, reason, .. } = error else { panic!("{error}") };
        assert_eq!(place, Place::Row(2));
        assert_eq!(
            reason,
            format!("the token is text {shown} of its dictionary, which has 2 so far")
        );
    }
}

#[test]
fn a_dictionary_that_unpacks_to_far_more_than_it_is_is_refused() {
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(1 << 20); 70]));
    let keys: arrow_array::Int32Array = vec![1, 0, 1].into();
    let words: ArrayRef = Arc::new(DictionaryArray::try_new(keys, texts).unwrap());
    let rows = vec![vec![1f32]; 3];
    let columns =
        batch(vec![("w", words), ("v", lists::<Float32Type>(Lists::Fixed, &whole(&rows)))]);
    let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME));
    let mut writer =
        FileWriter::try_new_with_options(Vec::new(), &columns.schema(), options.unwrap()).unwrap();
    writer.write(&columns).unwrap();
    let file = writer.into_inner().unwrap();
    assert!(file.len() < 1 << 20);
    let error = open(&file).err().unwrap().to_string();
    assert!(error.contains("its texts take more than") && error.contains("at byte"), "{error}");
}

#[test]
fn packed_buffers_are_read() {
    let rows = many();
    let tokens: Vec<String> = (0..rows.len()).map(|row| format!("token {}", row % 9)).collect();
    let columns = batch(vec![
        ("t", Arc::new(StringArray::from(tokens.clone()))),
        ("v", lists::<Float32Type>(Lists::Small, &whole(&rows))),
    ]);
    let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME));
    let mut writer =
        FileWriter::try_new_with_options(Vec::new(), &columns.schema(), options.unwrap()).unwrap();
    writer.write(&columns).unwrap();
    let file = writer.into_inner().unwrap();
    assert!(file.len() < rows.len() * 160 / 2);
    let read = open(&file).unwrap();
    assert!(read.rows == cast(&rows));
    assert!(read.tokens.iter().flatten().eq(&tokens));
}

/// Of a slice the writer may leave the numbers before it where they are.
#[test]
fn parts_of_longer_columns_are_read() {
    let rows = many();
    let columns = batch(vec![("v", lists::<Float32Type>(Lists::Small, &whole(&rows)))]);
    for (start, length) in [(0, 3), (17, 200), (9_000, 1_000)] {
        let read = open(&write_stream(&[columns.slice(start, length)])).unwrap();
        assert!(read.rows == cast(&rows[start..start + length]));
    }
}

#[test]
fn a_file_that_ends_early_is_refused_and_a_stream_may_lack_its_end() {
    let rows: Vec<Vec<f32>> = (0..100u8).map(|row| vec![f32::from(row); 8]).collect();
    let columns = batch(vec![("v", lists::<Float32Type>(Lists::Fixed, &whole(&rows)))]);
    let (file, stream) =
        (write_file(std::slice::from_ref(&columns)), write_stream(std::slice::from_ref(&columns)));
    for cut in 0..file.len() {
        assert!(open(&file[..cut]).is_err(), "cut at {cut}");
    }
    for cut in 0..stream.len() - 8 {
        let error = open(&stream[..cut]).err().map(|error| error.to_string());
        assert!(error.is_some(), "cut at {cut}");
    }
    assert_eq!(open(&stream[..stream.len() - 8]).unwrap().rows, cast(&rows));
}

/// polars writes no message of the schema, which the index has: what lies between messages is
/// nobody's, and the same rows are not there twice.
#[test]
fn a_file_is_what_its_index_says() {
    let rows: Vec<Vec<f32>> = (0..100u8).map(|row| vec![f32::from(row); 8]).collect();
    let columns = batch(vec![("v", lists::<Float32Type>(Lists::Fixed, &whole(&rows)))]);
    let mut file = write_file(&[columns.slice(0, 60), columns.slice(60, 40)]);
    let starts: Vec<usize> = file
        .windows(8)
        .enumerate()
        .filter(|(_, word)| word[..4] == [0xff; 4] && word[4..] != [0; 4])
        .map(|(at, _)| at)
        .collect();
    let [schema, first, second] = starts[..] else { panic!("{starts:?}") };
    file[schema..first].fill(0x55);
    assert_eq!(open(&file).unwrap().rows, cast(&rows));
    let place = |start: usize| u64::try_from(start).unwrap().to_le_bytes();
    let index = file.len() - 200;
    let at =
        |start| file[index..].windows(8).rposition(|word| word == place(start)).unwrap() + index;
    let (one, two) = (at(first), at(second));
    for (block, start, says) in [
        (two, first, format!("the index leads back to byte {first}")),
        (two, file.len() - 8, "cut short".to_owned()),
        (one, schema, "a message declares".to_owned()),
        (one, usize::MAX, "before the file".to_owned()),
    ] {
        let mut wrong = file.clone();
        wrong[block..block + 8].copy_from_slice(&place(start));
        let error = open(&wrong).err().unwrap().to_string();
        assert!(error.contains(&says) && error.contains("at byte"), "{error}");
    }
}

#[test]
fn damaged_files_give_an_error_and_no_panic() {
    let rows: Vec<Vec<f32>> = (0..200u8).map(|row| vec![f32::from(row); 8]).collect();
    let tokens: Vec<String> = (0..200).map(|row| format!("a token that is long {row}")).collect();
    let views: ArrayRef = Arc::new(StringViewArray::from_iter_values(&tokens));
    let file = write_file(&[batch(vec![
        ("t", views),
        ("v", lists::<Float32Type>(Lists::Small, &whole(&rows))),
    ])]);
    assert!(open(&file).is_ok());
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let mut random = 7u64;
    for _ in 0..3000 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let mut wrong = file.clone();
        let at = usize::try_from(random >> 33).unwrap() % wrong.len();
        wrong[at] ^= 1 << (random >> 29 & 7);
        // Whatever comes of it, it comes back.
        _ = open(&wrong);
    }
    std::panic::set_hook(quiet);
    // Lengths that no file has are refused before anything is allocated.
    // The first message is the schema, which the index has too.
    let mut starts = file.windows(4).enumerate().filter(|(_, word)| *word == [0xff; 4]);
    let (start, _) = starts.nth(1).unwrap();
    for length in [0x7fff_ffffu32, 1 << 30, u32::MAX] {
        let mut wrong = file.clone();
        wrong[start + 4..start + 8].copy_from_slice(&length.to_le_bytes());
        let error = open(&wrong).err().unwrap().to_string();
        let declared = format!("a message declares {length} bytes of metadata");
        assert!(
            error.contains(&declared) && error.contains(&format!("at byte {start}")),
            "{error}"
        );
    }
}
