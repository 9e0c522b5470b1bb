//! What cannot be written says so, and leaves nothing behind.

use std::os::unix::fs::symlink;

use super::*;
use crate::tokens::LONGEST_TOKEN;

fn options() -> WriteOptions {
    WriteOptions::new(4, DType::F32)
}

#[test]
fn what_stands_at_the_destination_is_looked_at_first() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    std::fs::write(at("file"), "kept").unwrap();
    symlink(at("file"), at("link")).unwrap();
    symlink(at("nowhere"), at("dangling")).unwrap();
    std::fs::create_dir(at("directory")).unwrap();
    for name in ["link", "dangling", "directory", "directory/", "file/", "..", "directory/.."] {
        for replace in [false, true] {
            let error = options().replace(replace).create(at(name)).unwrap_err();
            assert!(matches!(error, Error::Destination { .. }), "{name}: {error}");
        }
    }
    let error = options().create(at("file")).unwrap_err();
    assert!(matches!(error, Error::Exists { .. }), "{error}");
    let error = options().create(at("missing/table.emb")).unwrap_err();
    let Error::Io { operation: "open", path, .. } = &error else { panic!("{error}") };
    assert_eq!(path, &at("missing"));
    assert!(options().create(at("file/table.emb")).is_err());
    let mut names = others(directory.path(), "");
    names.sort_unstable();
    assert_eq!(names, ["dangling", "directory", "file", "link"]);
    assert_eq!(std::fs::read(at("file")).unwrap(), b"kept");
}

#[test]
fn a_link_that_comes_up_meanwhile_is_not_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("table.emb");
    let writer = options().replace(true).create(&path).unwrap();
    symlink("elsewhere", &path).unwrap();
    assert!(matches!(writer.finish(), Err(Error::Destination { .. })));
    assert!(std::fs::symlink_metadata(&path).unwrap().is_symlink());
    assert!(others(directory.path(), "table.emb").is_empty());
}

#[test]
fn long_names_have_shorter_temporaries() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["x".repeat(255), format!("{}é", "é".repeat(126)), "é".repeat(127) + "x"] {
        assert!(name.len() >= 254);
        let writer = options().create(directory.path().join(&name)).unwrap();
        let temporary = others(directory.path(), "").remove(0);
        assert!(temporary.starts_with('.') && temporary.ends_with(".embmap-tmp"), "{temporary}");
        let kept = temporary[1..].split('.').next().unwrap();
        assert!(name.starts_with(kept) && kept.len() > 230, "{temporary}");
        writer.finish().unwrap();
        std::fs::remove_file(directory.path().join(&name)).unwrap();
    }
    assert!(options().create(directory.path().join("x".repeat(256))).is_err());
    assert!(others(directory.path(), "").is_empty());
}

#[test]
fn shapes_that_cannot_be_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("table.emb");
    let dims = [0, usize::MAX];
    for dim in dims {
        let error = TableWriter::create(&path, dim, DType::F32).unwrap_err();
        assert!(matches!(error, Error::InvalidOption { option: "dim", .. }), "{error}");
    }
    for align in [0, 1, 32, 96, 65_537, 131_072, u64::MAX] {
        let error = options().align(align).create(&path).unwrap_err();
        assert!(matches!(error, Error::InvalidOption { option: "align", .. }), "{error}");
    }
    for vocab in [u64::MAX, u64::MAX / 16, i64::MAX as u64 / 16] {
        let error = options().vocab(vocab).create(&path).unwrap_err();
        assert!(matches!(error, Error::TooLarge { .. }), "{vocab}: {error}");
    }
    // More than any disk has, and yet a number: refused by the file system.
    let error = options().vocab(1 << 56).create(&path).unwrap_err();
    assert!(matches!(error, Error::Io { operation: "allocate space for", .. }), "{error}");
    assert!(others(directory.path(), "").is_empty());
}

#[test]
fn a_wrong_push_spends_the_writer() {
    type Push = fn(&mut TableWriter) -> Result<()>;
    type Expected = fn(&Error) -> bool;
    let wrong: [(Push, Expected); 6] = [
        (
            |writer| writer.push(&[0.0f64; 4]),
            |error| matches!(error, Error::RowDType { expected: DType::F32, got: DType::F64 }),
        ),
        (
            |writer| writer.push(&[0.0f32; 6]),
            |error| matches!(error, Error::RowLength { expected: 4, got: 6, unit: "elements" }),
        ),
        (
            |writer| writer.push_encoded(&[0; 17]),
            |error| matches!(error, Error::RowLength { expected: 16, got: 17, unit: "bytes" }),
        ),
        (
            |writer| writer.push(&[0.0f32; 12]),
            |error| matches!(error, Error::RowCount { expected: 2, got: 3 }),
        ),
        (
            |writer| {
                writer.push_token(Some("fits"))?;
                writer.push_token(Some(&"x".repeat(1 << 20)))?;
                writer.push_token(Some(&"x".repeat((1 << 20) + 1)))
            },
            |error| matches!(error, Error::TokenLength { id: 2, longest: LONGEST_TOKEN, .. }),
        ),
        (
            |writer| {
                writer.push(&[0.0f32; 8])?;
                writer.push(&[0.0f32; 4])
            },
            |error| matches!(error, Error::RowCount { expected: 2, got: 3 }),
        ),
    ];
    for (push, expected) in wrong {
        let directory = tempfile::tempdir().unwrap();
        let mut writer = options().vocab(2).create(directory.path().join("t.emb")).unwrap();
        let error = push(&mut writer).unwrap_err();
        assert!(expected(&error), "{error}");
        assert!(others(directory.path(), "").is_empty(), "removed at once");
        assert!(matches!(writer.push(&[0.0f32; 4]), Err(Error::WriterPoisoned { .. })));
        assert!(matches!(writer.finish(), Err(Error::WriterPoisoned { .. })));
    }
}

#[test]
fn fewer_rows_than_announced_are_not_published() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = options().vocab(2).create(directory.path().join("t.emb")).unwrap();
    writer.push(&[0.0f32; 4]).unwrap();
    assert!(matches!(writer.finish(), Err(Error::RowCount { expected: 2, got: 1 })));
    assert!(others(directory.path(), "").is_empty());
}

#[test]
fn files_have_ids_of_their_own() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name| options().create(directory.path().join(name)).unwrap().finish().unwrap();
    assert_ne!(write("one").file_id, write("two").file_id);
}

#[test]
fn a_path_without_a_directory_is_in_the_working_directory() {
    // Only looked at: tests share the working directory.
    let error = options().create("Cargo.toml").unwrap_err();
    assert!(matches!(error, Error::Exists { .. }), "{error}");
}
