//! The real binary, killed and failed at every step: the destination is the old file or the new
//! one, whole, and what is left beside it is recognised by its name.
//!
//! `EMBMAP_KILLS=200 cargo test --test crash` kills more often.

#![cfg(all(feature = "cli", target_os = "linux"))]
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::float_cmp,
    clippy::print_stderr
)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use embmap::{DType, Table};
use support::Random;

const DIM: usize = 64;

/// Two sources, and the file that one of them has been converted to.
struct Case {
    folder: tempfile::TempDir,
    rows: [Vec<u8>; 2],
}

impl Case {
    fn new(vocab: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let old = support::write_random(&path("old.emb"), vocab, DIM, DType::F32, None);
        let new = support::write_random(&path("new.emb"), vocab + 1, DIM, DType::F32, None);
        fs::create_dir(path("out")).unwrap();
        let case = Case { rows: [old, new], folder };
        case.reset();
        case
    }

    fn reset(&self) {
        fs::copy(self.folder.path().join("old.emb"), self.destination()).unwrap();
    }

    fn destination(&self) -> PathBuf {
        self.folder.path().join("out/table.emb")
    }

    fn arguments(&self, source: &str) -> Vec<PathBuf> {
        let source = self.folder.path().join(source);
        vec![
            "convert".into(),
            source,
            "-o".into(),
            self.destination(),
            "--force".into(),
            "-q".into(),
        ]
    }

    fn convert(&self, source: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_embmap"));
        command.args(self.arguments(source)).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    /// Which of the two stands at the destination; it must be one of them, whole and sound.
    fn found(&self) -> usize {
        let table = Table::load(self.destination()).unwrap();
        assert!(table.verify().unwrap().is_sound());
        let file = fs::read(self.destination()).unwrap();
        let holds = |rows: &Vec<u8>| {
            table.vocab() == (rows.len() / DIM / 4) as u64 && file[65_536..].starts_with(rows)
        };
        self.rows
            .iter()
            .position(holds)
            .unwrap_or_else(|| panic!("neither the old file nor the new one"))
    }

    /// The names beside the destination.
    fn others(&self) -> Vec<String> {
        let entries = fs::read_dir(self.destination().parent().unwrap()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name != "table.emb").collect()
    }
}

#[test]
fn killed_at_any_moment_the_old_file_or_the_new_one_is_there() {
    let kills = std::env::var("EMBMAP_KILLS").map_or(24, |kills| kills.parse().unwrap());
    let case = Case::new(20_000);
    let started = Instant::now();
    assert!(case.convert("new.emb").status().unwrap().success());
    let whole_run = started.elapsed();
    assert_eq!(case.found(), 1);

    let mut random = Random(whole_run.as_nanos() as u64);
    let (mut killed, mut temporaries, mut outcomes, mut expected) = (0, 0, [0, 0], 1);
    for round in 0..kills {
        let source = ["old.emb", "new.emb"][round % 2];
        let mut child = case.convert(source).spawn().unwrap();
        std::thread::sleep(Duration::from_nanos(random.below(whole_run.as_nanos() as u64 * 5 / 4)));
        child.kill().unwrap();
        let finished = child.wait().unwrap().success();
        killed += u32::from(!finished);
        let found = case.found();
        assert!(found == round % 2 || (found == expected && !finished), "round {round}");
        outcomes[usize::from(found == round % 2)] += 1;
        expected = found;
        for name in case.others() {
            assert!(name.starts_with(".table.emb.") && name.ends_with(".embmap-tmp"), "{name}");
            let left = case.destination().with_file_name(&name);
            if let Ok(table) = Table::load(&left) {
                assert!(table.verify().unwrap().is_sound(), "complete, and not yet renamed");
            }
            fs::remove_file(left).unwrap();
            temporaries += 1;
        }
    }
    eprintln!(
        "{kills} runs, {killed} killed: the old file {} times, the new one {}; {temporaries} temporaries left",
        outcomes[0], outcomes[1]
    );
    assert!(killed > 0);
}

/// Runs a conversion in which strace has a system call fail, and gives what strace saw.
fn with_fault(case: &Case, inject: &str) -> (Output, String) {
    let log = case.folder.path().join("strace.log");
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-e", "trace=fsync,fdatasync,rename,renameat,renameat2,linkat,pwrite64,write,fallocate,fchmod,unlinkat", "-e"]);
    command.arg(format!("inject={inject}")).arg("-o").arg(&log);
    command.arg(env!("CARGO_BIN_EXE_embmap")).args(case.arguments("new.emb"));
    let output = command.stdin(Stdio::null()).output().unwrap();
    (output, fs::read_to_string(log).unwrap())
}

/// Says why where strace cannot be used.
fn strace_works() -> bool {
    let run = Command::new("strace").args(["-qq", "-e", "trace=none", "true"]).output();
    let works = run.is_ok_and(|run| run.status.success());
    if !works {
        eprintln!("skipped: strace is not there, or may not trace here");
    }
    works
}

#[test]
fn every_system_call_that_fails_leaves_the_old_file() {
    if !strace_works() {
        return;
    }
    let case = Case::new(2000);
    let mut faults = 0;
    for (call, error) in [
        ("fsync", "EIO"),
        ("fsync", "ENOSPC"),
        ("pwrite64", "EIO"),
        ("pwrite64", "ENOSPC"),
        ("fallocate", "ENOSPC"),
        ("fallocate", "EIO"),
        ("renameat", "EIO"),
        ("fchmod", "EPERM"),
    ] {
        let mut hits = 0;
        for n in 1.. {
            let (output, log) = with_fault(&case, &format!("{call}:error={error}:when={n}"));
            let context =
                format!("{call} {n} {error}: {}", String::from_utf8_lossy(&output.stderr));
            if !log.contains("INJECTED") {
                assert!(output.status.success(), "{context}");
                assert_eq!(case.found(), 1, "{context}");
                case.reset();
                break;
            }
            hits += 1;
            assert_eq!(output.status.code(), Some(1), "{context}");
            assert_eq!(context.matches('\n').count(), 1, "one line: {context}");
            let published = context.contains("its directory could not be flushed");
            assert_eq!(case.found(), usize::from(published), "{context}");
            assert_eq!(published, call == "fsync" && n == 2, "{context}");
            assert!(case.others().is_empty(), "{context} {:?}", case.others());
            // A flush that failed is not tried again.
            let flushes = log.lines().filter(|line| line.contains("fsync(")).count();
            assert!(flushes <= n, "{context} {log}");
            case.reset();
        }
        assert!(hits > 0, "{call} was never made");
        faults += hits;
    }
    eprintln!("{faults} faults of the real binary, by strace");
}

#[test]
fn interrupted_system_calls_are_made_again() {
    if !strace_works() {
        return;
    }
    let case = Case::new(2000);
    for inject in ["pwrite64:error=EINTR:when=1+2", "fallocate:error=EINTR:when=1"] {
        let (output, log) = with_fault(&case, inject);
        assert!(log.contains("INJECTED"), "{log}");
        assert!(output.status.success(), "{inject}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(case.found(), 1);
        assert!(case.others().is_empty());
        case.reset();
    }
}

#[test]
fn two_processes_that_write_one_file_leave_one_whole_file() {
    let case = Case::new(5000);
    for _ in 0..6 {
        let mut racers = ["old.emb", "new.emb"].map(|source| case.convert(source).spawn().unwrap());
        let ended = racers.each_mut().map(|racer| racer.wait().unwrap().success());
        assert_eq!(ended, [true, true]);
        case.found();
        assert!(case.others().is_empty());
    }
    // Of a new file there is one winner.
    let fresh: &Path = &case.destination().with_file_name("fresh.emb");
    let mut racers = ["old.emb", "new.emb"].map(|source| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_embmap"));
        command.arg("convert").arg(case.folder.path().join(source)).arg("-o").arg(fresh);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    });
    let won = racers.each_mut().map(|racer| racer.wait().unwrap().success());
    assert_eq!(won.iter().filter(|won| **won).count(), 1, "{won:?}");
    assert!(Table::load(fresh).unwrap().verify().unwrap().is_sound());
}
