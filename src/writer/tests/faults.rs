//! Every operation fails once, and nothing but the error is seen.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::io::Errno;

use super::*;

/// What came of a run in which operation `n` failed: its name, or `None` where there were
/// not as many.
fn run_with_fault(n: usize, forever: bool, fault: Errno, replace: bool) -> Option<String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("table.emb");
    if replace {
        std::fs::write(&path, "the old file").unwrap();
    }
    let before = std::fs::read(&path).ok();

    let failed = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&failed);
    let count = AtomicUsize::new(0);
    let operations = hooked(move |operation| {
        let at = count.fetch_add(1, Ordering::Relaxed);
        if at == n || (forever && at > n) {
            seen.lock().unwrap().push(name_of(operation).to_owned());
            return Err(fault.into());
        }
        Ok(usize::MAX)
    });
    let written = write_sample(&path, replace, operations);
    let failed = failed.lock().unwrap();
    let Some(first) = failed.first() else {
        written.unwrap();
        assert!(std::fs::read(&path).unwrap() == sample());
        return None;
    };

    let context = format!("{first} ({n}), forever: {forever}, {fault}, replace: {replace}");
    let error = written.expect_err(&context);
    if first == "sync directory" {
        assert!(matches!(error, Error::PublishedNotDurable { .. }), "{context}: {error}");
        assert!(std::fs::read(&path).unwrap() == sample(), "{context}");
    } else {
        let Error::Io { path: named, source, .. } = &error else { panic!("{context}: {error}") };
        assert_eq!(named, &path, "{context}");
        assert_eq!(source.raw_os_error(), Some(fault.raw_os_error()), "{context}");
        assert_eq!(std::fs::read(&path).ok(), before, "{context}");
    }
    let unlink_failed = failed.iter().any(|name| name == "unlink");
    assert!(unlink_failed || others(directory.path(), "table.emb").is_empty(), "{context}");
    assert_eq!(failed.iter().filter(|name| *name == "sync file").count().max(1), 1, "{context}");
    Some(first.clone())
}

fn name_of(operation: Operation<'_>) -> &'static str {
    match operation {
        Operation::CreateTemporary => "create temporary",
        Operation::Allocate => "allocate",
        Operation::Write { .. } => "write",
        Operation::CreateSpool => "create spool",
        Operation::WriteSpool { .. } => "write spool",
        Operation::SetMode => "set mode",
        Operation::SyncFile => "sync file",
        Operation::Rename => "rename",
        Operation::SyncDirectory => "sync directory",
        Operation::Unlink => "unlink",
    }
}

fn fail_every_operation(forever: bool, fault: Errno, replace: bool) {
    let failed: Vec<String> =
        (0..).map_while(|n| run_with_fault(n, forever, fault, replace)).collect();
    for expected in [
        "create temporary",
        "allocate",
        "write",
        "create spool",
        "write spool",
        "sync file",
        "rename",
        "sync directory",
    ] {
        assert!(failed.iter().any(|name| name == expected), "{expected} is not in {failed:?}");
    }
    assert_eq!(failed.iter().any(|name| name == "set mode"), replace);
}

#[test]
fn a_failed_operation_leaves_a_new_destination_absent() {
    fail_every_operation(false, Errno::IO, false);
    fail_every_operation(false, Errno::NOSPC, false);
}

#[test]
fn a_failed_operation_leaves_an_old_destination_as_it_was() {
    fail_every_operation(false, Errno::IO, true);
    fail_every_operation(false, Errno::NOSPC, true);
}

#[test]
fn a_file_system_that_fails_for_good_leaves_the_destination_as_it_was() {
    fail_every_operation(true, Errno::IO, false);
    fail_every_operation(true, Errno::IO, true);
}

#[test]
fn interruptions_and_short_writes_are_survived() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("table.emb");
    let count = AtomicUsize::new(0);
    let operations = hooked(move |operation| {
        let at = count.fetch_add(1, Ordering::Relaxed);
        match operation {
            Operation::Write { .. } | Operation::WriteSpool { .. } if at % 3 == 1 => {
                Err(Errno::INTR.into())
            }
            _ => Ok(1 + at % 5 * 7000),
        }
    });
    write_sample(&path, false, operations).unwrap();
    assert!(std::fs::read(path).unwrap() == sample());
}

#[test]
fn a_write_that_makes_no_progress_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("table.emb");
    let operations = hooked(|operation| {
        Ok(if matches!(operation, Operation::Write { .. }) { 0 } else { usize::MAX })
    });
    let error = write_sample(&path, false, operations).unwrap_err();
    assert!(matches!(&error, Error::Io { operation: "write", .. }), "{error}");
    assert!(others(directory.path(), "").is_empty());
}

/// What the disk gives back is not what it was given: found before anybody else reads it.
#[test]
fn a_file_that_reads_back_otherwise_is_not_published() {
    let good = sample();
    let sections = (65_536 + usize::from(SAMPLE_ROWS) * 64).next_multiple_of(4096);
    let trailer = good.len() - 64;
    for at in [sections, sections + 9, trailer - 4096, trailer, good.len() - 1] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("table.emb");
        let parent = directory.path().to_path_buf();
        let operations = hooked(move |operation| {
            // The header page is the last thing written before the file is read back.
            if let Operation::Write { offset: 0, bytes } = operation
                && bytes[0] != 0
            {
                flip(&parent.join(others(&parent, "").remove(0)), at);
            }
            Ok(usize::MAX)
        });
        let error = write_sample(&path, false, operations).unwrap_err();
        assert!(matches!(error, Error::Format { .. }), "{at}: {error}");
        assert!(others(directory.path(), "").is_empty(), "{at}");
    }
}

fn flip(path: &Path, at: usize) {
    use std::os::unix::fs::FileExt;
    let byte = std::fs::read(path).unwrap()[at];
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&[!byte], at as u64).unwrap();
}
