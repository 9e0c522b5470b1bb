//! Several writers, and readers of the file that is replaced.

use std::ffi::OsStr;
use std::os::unix::fs::FileExt;
use std::sync::Barrier;

use super::*;
use crate::publish::Directory;

#[test]
fn of_two_writers_of_a_new_file_one_wins() {
    for _ in 0..40 {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("table.emb");
        let barrier = Barrier::new(2);
        let results = std::thread::scope(|scope| {
            let race = |id: u8| {
                let (path, barrier) = (&path, &barrier);
                scope.spawn(move || {
                    let options = WriteOptions::new(1, DType::F32).file_id([id; 16]);
                    let mut writer = options.create(path).unwrap();
                    writer.push(&[f32::from(id); 100]).unwrap();
                    barrier.wait();
                    writer.finish()
                })
            };
            [race(1), race(2)].map(|race| race.join().unwrap())
        });
        let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
        assert_eq!((won.len(), lost.len()), (1, 1));
        assert!(matches!(lost[0], Err(Error::Exists { .. })), "{lost:?}");
        let file_id = won[0].as_ref().unwrap().file_id;
        assert_eq!(std::fs::read(&path).unwrap()[40..56], file_id);
        assert!(others(directory.path(), "table.emb").is_empty());
    }
}

#[test]
fn without_a_flag_for_it_a_new_name_is_still_never_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let [from, to] = ["from", "to"].map(OsStr::new);
    let opened = Directory::open(directory.path()).unwrap();
    std::fs::write(directory.path().join(from), "new").unwrap();
    opened.rename_new_by_link(from, to).unwrap();
    assert_eq!(others(directory.path(), ""), ["to"]);

    std::fs::write(directory.path().join(from), "newer").unwrap();
    let error = opened.rename_new_by_link(from, to).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(std::fs::read(directory.path().join(to)).unwrap(), b"new");
    assert_eq!(std::fs::read(directory.path().join(from)).unwrap(), b"newer");
}

#[test]
fn a_file_that_comes_up_meanwhile_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("table.emb");
    let other = path.clone();
    let operations = hooked(move |operation| {
        if matches!(operation, Operation::Rename) {
            std::fs::write(&other, "another's").unwrap();
        }
        Ok(usize::MAX)
    });
    let error = write_sample(&path, false, operations).unwrap_err();
    assert!(matches!(error, Error::Exists { .. }), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"another's");
    assert!(others(directory.path(), "table.emb").is_empty());
}

#[test]
fn a_table_may_be_saved_over_its_own_source() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("table.emb");
    write_sample(&path, false, Operations::default()).unwrap();
    let old = std::fs::read(&path).unwrap();

    let source = std::fs::File::open(&path).unwrap();
    let mut writer =
        WriteOptions::new(5, DType::F32).align(64).replace(true).create(&path).unwrap();
    let mut row = [0; 20];
    for id in (0..u64::from(SAMPLE_ROWS)).rev() {
        source.read_exact_at(&mut row, 65_536 + id * 64).unwrap();
        writer.push_encoded(&row).unwrap();
    }
    writer.finish().unwrap();

    let new = std::fs::read(&path).unwrap();
    for (id, row) in (0..SAMPLE_ROWS).rev().zip(new[65_536..].chunks(64)) {
        assert_eq!(row[..20], [f32::from(id).to_le_bytes(); 5].concat());
    }
    let mut held = vec![0; old.len()];
    source.read_exact_at(&mut held, 0).unwrap();
    assert!(held == old, "whoever has the old file open keeps its rows");
}

#[test]
fn a_temporary_is_removed_from_a_directory_that_was_renamed() {
    let directory = tempfile::tempdir().unwrap();
    let [before, after] = ["before", "after"].map(|name| directory.path().join(name));
    std::fs::create_dir(&before).unwrap();
    let mut writer = TableWriter::create(before.join("t.emb"), 1, DType::F32).unwrap();
    writer.push(&[1.0f32]).unwrap();
    std::fs::rename(&before, &after).unwrap();
    // The file cannot be read back by its path, so nothing is published.
    assert!(writer.finish().is_err());
    assert!(others(&after, "").is_empty());
}
