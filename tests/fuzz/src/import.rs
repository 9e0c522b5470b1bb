//! What is done with an input that is converted and not read in place.

use embmap::{ConvertOptions, ImportOptions, Table, convert_from};

use super::place::Place;

/// The names that a source may have; what it is shows from its content, where it shows.
pub(crate) const NAMES: [&str; 6] =
    ["words.vec", "words.bin", "glove.txt", "columns.parquet", "words.txt.gz", "model.npz"];

/// Vectors of word2vec, text and binary, of `GloVe` and fastText, columns of Parquet and Arrow: the
/// first byte chooses the name. What is converted is sound, and what is not leaves nothing. Whether it was converted.
pub(crate) fn import(input: &[u8]) -> bool {
    let Some((choice, file)) = input.split_first() else { return false };
    Place::with(|place| {
        let name = NAMES[usize::from(*choice) % NAMES.len()];
        place.write(name, file);
        let target = place.folder().join("converted.emb");
        let source = ImportOptions::new().threads(1).open(place.folder().join(name));
        let options = ConvertOptions::new().file_id([7; 16]);
        let converted = source.and_then(|source| convert_from(source, &target, &options));
        let sound = converted.is_ok();
        match converted {
            Ok(written) => {
                let table = Table::load(&target).unwrap();
                assert_eq!(
                    (table.vocab(), table.token_count().unwrap()),
                    (written.vocab, written.tokens)
                );
                assert!(table.verify().unwrap().is_sound());
                std::fs::remove_file(&target).unwrap();
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
        let left = std::fs::read_dir(place.folder()).unwrap().count();
        assert_eq!(left, 1, "the source alone is left");
        sound
    })
}
