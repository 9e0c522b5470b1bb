//! Every operation of an export fails once, and nothing but the error is seen.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustix::io::Errno;

use super::{ExportFormat, ExportOptions, export};
use crate::error::Error;
use crate::publish::{Operation, Operations};
use crate::table::Table;

fn hooked(hook: impl Fn(Operation<'_>) -> io::Result<usize> + Send + Sync + 'static) -> Operations {
    Operations::hooked(Arc::new(hook))
}

fn options(operations: Operations) -> ExportOptions {
    ExportOptions { operations, ..ExportOptions::new().rows(0..50).replace(true) }
}

fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let read = |entry: std::fs::DirEntry| {
        (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())
    };
    let mut files: Vec<_> = entries.map(read).collect();
    files.sort();
    files
}

/// Exports with the n-th operation failing; the names of what failed, empty where there were not
/// as many.
fn run_with_fault(table: &Table, name: &str, n: usize, old: bool) -> Vec<&'static str> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    if old {
        std::fs::write(&path, "the old file").unwrap();
        std::fs::write(directory.path().join("vocab.txt"), "the old tokens").unwrap();
    }
    let before = files(directory.path());
    let failed = Arc::new(Mutex::new(Vec::new()));
    let (seen, count) = (Arc::clone(&failed), AtomicUsize::new(0));
    let operations = hooked(move |operation| {
        if count.fetch_add(1, Ordering::Relaxed) == n {
            seen.lock().unwrap().push(match operation {
                Operation::SyncDirectory => "sync directory",
                Operation::Unlink => "unlink",
                Operation::Write { .. } => "write",
                Operation::Rename => "rename",
                _ => "other",
            });
            return Err(Errno::IO.into());
        }
        Ok(usize::MAX)
    });
    let exported = export(table, &path, &options(operations));
    let failed = failed.lock().unwrap().clone();
    let after = files(directory.path());
    let published =
        |name: &str| after.iter().any(|(own, bytes)| own == name && !bytes.starts_with(b"the old"));
    match (failed.first(), exported) {
        (None, exported) => {
            exported.unwrap();
        }
        (Some(&"sync directory"), Err(Error::PublishedNotDurable { path, .. })) => {
            assert!(published(path.file_name().unwrap().to_str().unwrap()));
        }
        (Some(what), Err(Error::Io { source, .. })) => {
            assert_eq!(source.raw_os_error(), Some(Errno::IO.raw_os_error()), "{what}");
            assert!(!published(name), "{what} ({n}) of {name}");
            // Tokens appear before the rows do, so they alone may be there.
            if !published("vocab.txt") {
                assert!(after == before, "{what} ({n}) of {name}");
            }
        }
        (Some(what), other) => panic!("{what} ({n}) of {name}: {other:?}"),
    }
    failed
}

#[test]
fn a_failed_operation_leaves_the_destination_as_it_was() {
    let table = Table::load("fixtures/minilm-2k").unwrap();
    for name in ["a.npy", "a.safetensors", "a.vec", "a.bin", "a.glove"] {
        for old in [false, true] {
            let failed: Vec<_> = (0..)
                .map(|n| run_with_fault(&table, name, n, old))
                .take_while(|failed| !failed.is_empty())
                .flatten()
                .collect();
            for expected in ["write", "rename", "sync directory"] {
                assert!(failed.contains(&expected), "{name}: {failed:?}");
            }
        }
    }
}

#[test]
fn interruptions_and_short_writes_are_survived() {
    let table = Table::load("fixtures/minilm-2k").unwrap();
    let directory = tempfile::tempdir().unwrap();
    for name in ["a.npy", "a.safetensors", "a.vec", "a.bin"] {
        let path = directory.path().join(name);
        export(&table, &path, &options(Operations::default())).unwrap();
        let expected = files(directory.path());
        let count = AtomicUsize::new(0);
        let operations = hooked(move |operation| {
            let at = count.fetch_add(1, Ordering::Relaxed);
            match operation {
                Operation::Write { .. } if at % 3 == 1 => Err(Errno::INTR.into()),
                _ => Ok(1 + at % 5 * 7000),
            }
        });
        export(&table, &path, &options(operations)).unwrap();
        assert!(files(directory.path()) == expected, "{name}");
    }
}

/// Lines are made by several threads, and are the same as by one.
#[test]
fn text_does_not_depend_on_the_threads() {
    let text = |threads| {
        let options = crate::OpenOptions::new().threads(threads);
        let table = options.open("fixtures/minilm-2k").unwrap();
        let mut text = Vec::new();
        let go_on = |_, _| std::ops::ControlFlow::Continue(());
        let options = ExportOptions::new().format(ExportFormat::Glove);
        super::export_to(&table, &mut text, &options, go_on).unwrap();
        text
    };
    let expected = text(1);
    assert!(text(2) == expected && text(5) == expected);
}
