//! Permissions, and a disk that is full, in a process of its own.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use super::*;

/// Where the child process writes.
const PATH: &str = "EMBMAP_TEST_WRITER_PATH";

/// Runs one ignored test of this program in a shell that was prepared.
fn child(shell: &[&str], prepare: &str, test: &str, path: &Path) -> io::Result<Output> {
    let program = std::env::current_exe()?;
    let command = format!("{prepare} exec \"$0\" --ignored --exact writer::tests::modes::{test}");
    let mut launcher = Command::new(shell[0]);
    launcher.args(&shell[1..]).arg("-c").arg(command).arg(program).env(PATH, path).output()
}

fn mode_of(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_new_file_has_the_mode_that_the_umask_leaves() {
    for (umask, expected) in [("022", 0o644), ("077", 0o600), ("002", 0o664)] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("table.emb");
        let output = child(&["sh"], &format!("umask {umask};"), "child_writes", &path);
        assert_passed(&output.unwrap());
        assert_eq!(mode_of(&path), expected, "umask {umask}");
    }
}

#[test]
fn a_replaced_file_gives_its_mode_to_the_new_one() {
    for mode in [0o600, 0o640, 0o604, 0o755, 0o400] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("table.emb");
        std::fs::write(&path, "old").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        let parent = directory.path().to_path_buf();
        let operations = hooked(move |operation| {
            if matches!(operation, Operation::Write { .. }) {
                let interim = mode_of(&parent.join(others(&parent, "table.emb").remove(0)));
                assert_eq!(
                    interim & !(mode | 0o600),
                    0,
                    "{interim:o} opens what {mode:o} does not"
                );
            }
            Ok(usize::MAX)
        });
        write_sample(&path, true, operations).unwrap();
        assert_eq!(mode_of(&path), mode, "{mode:o}");
    }
}

#[test]
fn a_full_disk_is_an_error_when_space_is_set_aside_or_written() {
    let shell = ["unshare", "--user", "--map-root-user", "--mount", "sh"];
    let prepare = format!("mount -t tmpfs -o size=1m none \"${{{PATH}%/*}}\" || exit 77;");
    for test in ["child_fills_the_disk_at_once", "child_fills_the_disk_row_by_row"] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("table.emb");
        match child(&shell, &prepare, test, &path) {
            // Where no file system can be mounted, the faults that are made up must do.
            Err(_) => {}
            Ok(output) if matches!(output.status.code(), Some(1 | 77)) => {}
            Ok(output) => assert_passed(&output),
        }
    }
}

fn assert_passed(output: &Output) {
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && report.contains("1 passed"), "{output:?}");
}

#[test]
#[ignore = "run by others, with an environment of their own"]
fn child_writes() {
    if let Some(path) = std::env::var_os(PATH) {
        write_sample(path.as_ref(), false, Operations::default()).unwrap();
    }
}

#[test]
#[ignore = "run by others, with an environment of their own"]
fn child_fills_the_disk_at_once() {
    if let Some(path) = std::env::var_os(PATH) {
        let error = WriteOptions::new(1, DType::F32).vocab(1 << 20).create(&path).unwrap_err();
        assert_full(&error, "allocate space for", path.as_ref());
    }
}

#[test]
#[ignore = "run by others, with an environment of their own"]
fn child_fills_the_disk_row_by_row() {
    if let Some(path) = std::env::var_os(PATH) {
        let mut writer = WriteOptions::new(1024, DType::F32).sizes(TINY).create(&path).unwrap();
        let error = (0..1 << 20).find_map(|_| writer.push(&[0.5f32; 1024]).err()).unwrap();
        assert_full(&error, "write", path.as_ref());
    }
}

fn assert_full(error: &Error, expected: &str, path: &Path) {
    let Error::Io { operation, source, .. } = error else { panic!("{error}") };
    assert_eq!((*operation, source.kind()), (expected, io::ErrorKind::StorageFull));
    assert!(others(path.parent().unwrap(), "").is_empty());
}
