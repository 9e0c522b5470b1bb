//! What is done with an input, one function a format.

use embmap::{Error, OpenOptions, Table};

use super::place::Place;
use super::{compact, uses};

/// The bytes of an `.emb` file, compact or, where the first byte is 0xff, as they are.
pub(crate) fn emb(input: &[u8]) {
    let file = match input {
        [0xff, raw @ ..] => Some(raw.to_vec()),
        _ => compact::expand(input),
    };
    let Some(file) = file else { return };
    if let Ok(table) = Table::from_bytes(&file) {
        uses::use_everything(&table);
        if file.len().is_multiple_of(16) {
            Place::with(|place| uses::convert(&table, place.folder()));
        }
    }
}

/// The file of a safetensors header with as much data as the first two bytes say; where those
/// are 0xffff, the file as it is.
pub(crate) fn safetensors_file(input: &[u8]) -> Option<Vec<u8>> {
    match input {
        [0xff, 0xff, raw @ ..] => Some(raw.to_vec()),
        [low, high, header @ ..] => {
            let data = u16::from_le_bytes([*low, *high]);
            let mut file = (header.len() as u64).to_le_bytes().to_vec();
            file.extend_from_slice(header);
            file.extend((0..data).map(|i| u8::try_from(i % 251).unwrap()));
            Some(file)
        }
        _ => None,
    }
}

/// The index of a model in shards that are as they should be.
pub(crate) fn shard_index(input: &[u8]) {
    Place::with(|place| {
        place.shards();
        place.write("model.safetensors.index.json", input);
        _ = place.list();
        if let Ok(table) = place.open() {
            uses::use_everything(&table);
        }
    });
}

/// What says more of a model, chosen by the first byte: `tokenizer.json`, `vocab.txt` or
/// `config.json`, beside a model that is as it should be.
pub(crate) fn tokenizer_json(input: &[u8]) {
    let Some((choice, text)) = input.split_first() else { return };
    let name = ["tokenizer.json", "vocab.txt", "config.json"][usize::from(*choice) % 3];
    Place::with(|place| {
        place.model();
        place.write(name, text);
        if let Ok(table) = place.open() {
            uses::use_everything(&table);
            if text.len().is_multiple_of(16) {
                uses::convert(&table, place.folder());
            }
        }
    });
}

/// Opens bytes as a table and uses it; the same bytes as a file are the same table.
pub(crate) fn used(file: &[u8]) -> Result<Table, Error> {
    let table = Table::from_bytes(file);
    if let Ok(table) = &table {
        uses::use_everything(table);
    }
    if file.len().is_multiple_of(8) {
        Place::with(|place| {
            place.write("table", file);
            let read = OpenOptions::new().open(place.folder().join("table"));
            assert_eq!(read.is_ok(), table.is_ok(), "{:?} {:?}", read.err(), table.as_ref().err());
            if let Ok(read) = read {
                uses::use_everything(&read);
                uses::convert(&read, place.folder());
            }
            _ = OpenOptions::new().list_tensors(place.folder().join("table"));
        });
    }
    table
}
