//! Paths that are no tables, and files that change under an open table: a typed error at
//! once, each.

#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::float_cmp,
    clippy::print_stderr
)]

mod support;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use embmap::{Access, DType, Error, OpenOptions, Table, TableWriter};

/// Opens a path in every way and gives the error, which must come quickly.
fn refused(path: &Path) -> Error {
    let started = Instant::now();
    // SAFETY: nothing writes to the test's own files.
    let error = unsafe { Table::map(path).unwrap_err() };
    assert!(Table::load(path).is_err());
    assert!(OpenOptions::new().access(Access::Read).open(path).is_err());
    assert!(started.elapsed() < Duration::from_secs(1));
    assert!(!error.to_string().contains('\n'), "one line: {error}");
    error
}

#[test]
fn what_is_not_a_table_is_refused_by_what_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);

    assert!(matches!(refused(&path("missing.emb")), Error::Io { operation: "open", .. }));
    fs::write(path("empty"), b"").unwrap();
    assert!(matches!(refused(&path("empty")), Error::NoTable { .. }));
    fs::write(path("empty.emb"), b"").unwrap();
    assert!(matches!(refused(&path("empty.emb")), Error::Format { .. }));
    fs::write(path("text.txt"), b"the cat sat on the mat\n").unwrap();
    assert!(matches!(refused(&path("text.txt")), Error::NoTable { .. }));
    fs::write(path("model.pt"), b"PK\x03\x04 a pickle in a zip").unwrap();
    let pickle = refused(&path("model.pt")).to_string();
    assert!(pickle.contains("safetensors"), "says the way out: {pickle}");
    fs::create_dir(path("bare")).unwrap();
    assert!(matches!(refused(&path("bare")), Error::NoTable { .. }));
}

#[cfg(unix)]
#[test]
fn fifos_devices_and_link_loops_do_not_hang() {
    use std::os::unix::fs::symlink;
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo.emb");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    assert!(matches!(refused(&fifo), Error::NotRegularFile { kind: "a FIFO", .. }));
    assert!(matches!(
        refused(Path::new("/dev/zero")),
        Error::NotRegularFile { kind: "a device", .. }
    ));
    let looped = directory.path().join("loop.emb");
    symlink(&looped, &looped).unwrap();
    assert!(matches!(refused(&looped), Error::Io { .. }));
    if cfg!(target_os = "linux") {
        // Regular by its type, and of no length until it is read.
        assert!(matches!(refused(Path::new("/proc/self/status")), Error::NoTable { .. }));
    }

    support::write_random(&directory.path().join("real.emb"), 3, 4, DType::F32, None);
    symlink("real.emb", directory.path().join("link.emb")).unwrap();
    assert_eq!(Table::load(directory.path().join("link.emb")).unwrap().vocab(), 3);
}

#[cfg(unix)]
#[test]
fn names_with_control_characters_are_escaped_in_messages() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("\x1b[31mred\n.emb");
    fs::write(&path, b"no").unwrap();
    let message = refused(&path).to_string();
    assert!(message.contains("\\u{1b}[31mred\\n.emb"), "{message}");
    assert!(!message.chars().any(char::is_control));
}

#[test]
fn a_file_cut_while_open_is_an_error_where_reads_can_fail() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cut.emb");
    let rows = support::write_random(&path, 20_000, 16, DType::F32, None);
    let table = OpenOptions::new().access(Access::Read).open(&path).unwrap();
    let loaded = Table::load(&path).unwrap();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(70_000).unwrap();

    let mut out = vec![0; 64];
    assert!(matches!(
        table.gather_bytes_into(&[19_999u32], &mut out),
        Err(Error::FileChanged { .. })
    ));
    assert!(matches!(table.check_alive(), Err(Error::FileChanged { .. })));
    assert!(matches!(table.verify(), Err(Error::FileChanged { .. })));
    let target = directory.path().join("new.emb");
    assert!(embmap::convert(&table, &target, &embmap::ConvertOptions::new()).is_err());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left behind");

    loaded.gather_bytes_into(&[19_999u32], &mut out).unwrap();
    assert_eq!(out, rows[19_999 * 64..], "owned memory does not care");
    loaded.check_alive().unwrap();
}

/// Written to while it is converted: the last look finds it.
#[test]
fn a_source_that_changes_during_a_conversion_is_not_published() {
    use std::io::Write;
    use std::ops::ControlFlow;

    let directory = tempfile::tempdir().unwrap();
    let (path, target) = (directory.path().join("in.emb"), directory.path().join("out.emb"));
    support::write_random(&path, 100, 8, DType::F32, None);
    let table = OpenOptions::new().open(&path).unwrap();
    let options = embmap::ConvertOptions::new();
    let error = embmap::convert_with(&table, &target, &options, |_, _| {
        fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"more").unwrap();
        ControlFlow::Continue(())
    });
    assert!(matches!(error, Err(Error::FileChanged { .. })), "{error:?}");
    assert!(!target.exists());
    let stopped = embmap::convert_with(
        &Table::load("fixtures/v1/f32.emb").unwrap(),
        &target,
        &options,
        |_, _| ControlFlow::Break(()),
    );
    assert!(matches!(stopped, Err(Error::Interrupted)));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left behind");
}

#[test]
fn a_file_that_is_replaced_keeps_its_old_rows_for_who_has_it_open() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("replaced.emb");
    let old = support::write_random(&path, 100, 8, DType::F32, None);
    // SAFETY: replaced by rename, never written to.
    let mapped = unsafe { Table::map(&path).unwrap() };
    let read = OpenOptions::new().access(Access::Read).open(&path).unwrap();
    support::write_random(&path, 7, 3, DType::F64, Some(64));
    assert_eq!(mapped.encoded_row(99).unwrap(), &old[99 * 32..]);
    let mut out = vec![0; 32];
    read.gather_bytes_into(&[99u32], &mut out).unwrap();
    assert_eq!(out, old[99 * 32..]);
    mapped.check_alive().unwrap();
    read.check_alive().unwrap();
    fs::remove_file(&path).unwrap();
    assert_eq!(mapped.encoded_row(99).unwrap(), &old[99 * 32..]);
}

#[test]
fn what_needs_memory_says_so_without_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("read.emb");
    support::write_random(&path, 10, 4, DType::F32, None);
    let table = OpenOptions::new().open(&path).unwrap();
    assert_eq!(table.access(), Access::Read);
    assert!(matches!(table.row::<f32>(0), Err(Error::NotMapped { .. })));
    assert!(matches!(table.rows::<f32>(), Err(Error::NotMapped { .. })));
    assert!(matches!(table.encoded_row(0), Err(Error::NotMapped { .. })));
    assert!(matches!(
        OpenOptions::new().access(Access::Map).open(&path),
        Err(Error::InvalidOption { option: "access", .. })
    ));
    assert!(matches!(
        OpenOptions::new().tensor("wte.weight").open(&path),
        Err(Error::InvalidOption { option: "tensor", .. })
    ));
}

#[test]
fn only_proven_files_are_mapped_without_a_promise() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("writable.emb");
    support::write_random(&path, 10, 4, DType::F32, None);
    let error = Table::map_if_safe(&path).unwrap_err();
    assert!(matches!(error, Error::NotSealed { .. }), "{error}");
}

/// A sealed memfd cannot change, so it is mapped without a promise.
#[cfg(target_os = "linux")]
#[test]
fn a_sealed_memfd_is_mapped_without_a_promise() {
    use std::io::Write;
    use std::os::fd::AsRawFd;

    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sealed.emb");
    let rows = support::write_random(&path, 10, 4, DType::F32, None);
    let memory = memfd_create("table", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    fs::File::from(memory.try_clone().unwrap()).write_all(&fs::read(&path).unwrap()).unwrap();
    fcntl_add_seals(&memory, SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE).unwrap();

    let table = Table::map_if_safe(format!("/proc/self/fd/{}", memory.as_raw_fd())).unwrap();
    assert_eq!(table.access(), Access::Map);
    assert_eq!(table.encoded_row(9).unwrap(), &rows[9 * 16..]);
}

#[test]
fn tables_are_shared_between_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    fn sent<T: Send + 'static>() {}
    shared::<Table>();
    shared::<Error>();
    sent::<TableWriter>();
}
