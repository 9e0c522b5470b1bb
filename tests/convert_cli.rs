//! `embmap convert` on rows picked and ordered, as a script sees it.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, clippy::float_cmp)]

mod support;

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use embmap::{DType, Table, WriteOptions};
use serde_json::Value;
use support::Random;
use tempfile::TempDir;

fn run(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_embmap"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(args).stdin(Stdio::null());
    command.output().unwrap()
}

/// The JSON object that a run prints, and what it says beside it.
fn report(args: &[&str]) -> (Value, String) {
    let output = run(&[args, &["--json"]].concat());
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{args:?}: {errors}");
    (serde_json::from_slice(&output.stdout).unwrap(), errors)
}

/// The message of a run that must fail.
fn failure(args: &[&str], code: i32) -> String {
    let output = run(args);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {message}");
    assert_eq!(output.stdout, b"", "{args:?}");
    message
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Rows of 512 bytes that hold their ids.
fn table(directory: &TempDir, vocab: u64) -> PathBuf {
    let path = directory.path().join("table.emb");
    let mut writer = WriteOptions::new(128, DType::F32).create(&path).unwrap();
    for id in 0..vocab {
        writer.push(&[f32::from(id as u16); 128]).unwrap();
    }
    writer.finish().unwrap();
    path
}

#[test]
fn a_trace_lays_out_rows_that_are_used_together() {
    let directory = TempDir::new().unwrap();
    let table = table(&directory, 4000);
    let (out, trace) = (directory.path().join("placed.emb"), directory.path().join("trace"));
    // Ten groups of eight rows, far from each other.
    let (mut lines, mut random) = (String::new(), Random(1));
    for _ in 0..300 {
        let group = random.below(10);
        (0..8).for_each(|row| write!(lines, "{} ", row * 500 + group * 41).unwrap());
        lines.push('\n');
    }
    std::fs::write(&trace, &lines).unwrap();
    let args = ["convert", text(&table), "-o", text(&out), "--order", text(&trace)];
    let (planned, _) = report(&[&args[..], &["--dry-run"]].concat());
    assert!(!out.exists());
    let (written, said) = report(&args);
    assert_eq!(planned["file_bytes"], written["file_bytes"]);
    assert_eq!(planned["order"], written["order"]);
    let order = &written["order"];
    let number = |name: &str| order[name].as_f64().unwrap();
    assert_ne!(order["placement"], "by_id", "{order}");
    assert_eq!((number("placed_rows"), number("trace_ids")), (80.0, 2400.0));
    assert_eq!((number("trace_batches"), number("judged_batches")), (300.0, 60.0));
    assert_eq!((number("pages_per_batch_by_id"), number("pages_per_batch")), (8.0, 1.0));
    assert!(said.contains("1.0 pages of 4 KiB instead of 8.0"), "{said}");

    let placed = Table::load(&out).unwrap();
    assert_eq!((placed.vocab(), placed.info().placed_rows), (4000, 80));
    for id in [0, 41, 500, 541, 3999] {
        assert_eq!(placed.row::<f32>(id).unwrap(), [f32::from(id as u16); 128]);
    }
    // The same ids, in batches of another size.
    let more = [&args[..], &["-f", "--order-batch", "24"]].concat();
    assert_eq!(report(&more).0["order"]["trace_batches"], 100);
}

#[test]
fn an_order_that_cannot_be_made_is_refused_before_anything_is_written() {
    let directory = TempDir::new().unwrap();
    let table = table(&directory, 10);
    let path = |name: &str| directory.path().join(name);
    let (out, trace, words) = (path("out.emb"), path("trace"), path("words.vec"));
    std::fs::write(&trace, "1 2\n3 ten\n").unwrap();
    std::fs::write(&words, "a 1 2\nb 3 4\n").unwrap();
    let args = ["convert", text(&table), "-o", text(&out), "--order", text(&trace)];
    assert!(failure(&args, 1).contains("line 2: expected an id, found \"ten\""));
    std::fs::write(&trace, "1 2\n\n3 10\n").unwrap();
    assert!(failure(&args, 1).contains("line 3: id 10 is out of range: the table has 10 rows"));
    std::fs::write(&trace, "1 2\n").unwrap();
    let message = failure(&[&args[..], &["--rows", "0:5"]].concat(), 2);
    assert!(message.contains("--rows"), "{message}");
    let stream = ["convert", text(&words), "-o", text(&out), "--order", text(&trace)];
    assert!(failure(&stream, 1).contains("convert it without --order first"));
    failure(&["convert", text(&table), "-o", text(&out), "--order-batch", "3"], 2);
    assert!(!out.exists());
    // Too few batches to tell what is gained: the rows are placed, and that is said.
    let (written, said) = report(&args);
    assert_eq!(written["order"]["pages_per_batch"], Value::Null);
    assert!(said.contains("too few batches"), "{said}");
}

#[test]
fn rows_of_some_tokens_are_kept_in_the_order_of_the_source() {
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (words, keep, out) = (path("words.txt"), path("keep.txt"), path("out.emb"));
    std::fs::write(&words, "the 1 2\ncat 3 4\nnew york 5 6\nthe 7 nan\ndog 9 1\n").unwrap();
    std::fs::write(&keep, "\u{feff}new york\r\ndog\n\naxolotl\ncat\ndog").unwrap();
    let args = ["convert", text(&words), "-o", text(&out), "--keep-tokens", text(&keep)];
    let (planned, _) = report(&[&args[..], &["--dry-run"]].concat());
    let (written, said) = report(&args);
    assert_eq!(planned["file_bytes"], written["file_bytes"]);
    assert_eq!((&written["vocab"], &written["missing_tokens"]), (&3.into(), &1.into()));
    assert_eq!(written["non_finite"], 0, "the NaN is of a row that was left out");
    assert!(said.contains("no rows of 1 of the tokens"), "{said}");
    let table = Table::load(&out).unwrap();
    let tokens: Vec<_> = (0..3).map(|id| table.token(id).unwrap().unwrap().into_owned()).collect();
    assert_eq!(tokens, ["cat", "new york", "dog"]);
    assert_eq!(table.row::<f32>(1).unwrap(), [5.0, 6.0]);

    // The same of a table, which has the whole of the text.
    let whole = path("whole.emb");
    report(&["convert", text(&words), "-o", text(&whole), "--duplicates", "last"]);
    report(&["convert", text(&whole), "-f", "-o", text(&out), "--keep-tokens", text(&keep)]);
    let again = Table::load(&out).unwrap();
    for id in 0..3 {
        assert_eq!(again.token(id).unwrap(), table.token(id).unwrap());
        assert_eq!(again.row::<f32>(id).unwrap(), table.row::<f32>(id).unwrap());
    }

    // Two rows of one token that is asked for are two rows of one token.
    std::fs::write(&keep, "the\n").unwrap();
    let message = failure(&[&args[..], &["-f"]].concat(), 1);
    assert!(message.contains("the token \"the\" is that of line 1 too"), "{message}");
    assert!(message.contains("(at line 4)"), "{message}");
    let (last, _) = report(&[&args[..], &["-f", "--duplicates", "last"]].concat());
    assert_eq!((&last["vocab"], &last["duplicates"]), (&1.into(), &1.into()));
    assert_eq!(Table::load(&out).unwrap().row::<f32>(0).unwrap()[0], 7.0);
}

#[test]
fn tokens_that_cannot_be_kept_are_refused() {
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (words, keep, out) = (path("words.txt"), path("keep.txt"), path("out.emb"));
    std::fs::write(&words, "the 1 2\ncat 3 4\n").unwrap();
    let args = ["convert", text(&words), "-o", text(&out), "--keep-tokens", text(&keep)];
    for (tokens, reason) in [
        (&b"\n\r\n"[..], "expected tokens, one a line"),
        (b"the\n\xff\n", "line 2: expected a token in UTF-8"),
        (b"dog\n", "no row of any of the 1 tokens"),
    ] {
        std::fs::write(&keep, tokens).unwrap();
        let message = failure(&args, 1);
        assert!(message.contains(reason), "{message}");
        assert!(!out.exists());
    }
    failure(&[&args[..], &["--rows", "0:1"]].concat(), 2);
    failure(&["convert", "-", "-o", text(&out), "--keep-tokens", "-"], 2);
    std::fs::write(path("rows.f32"), [0; 24]).unwrap();
    let rows = path("rows.f32");
    let raw = ["convert", text(&rows), "--from", "raw", "--dim", "3", "--dtype", "f32"];
    let message = failure(&[&raw[..], &args[2..]].concat(), 1);
    assert!(message.contains("tokens"), "{message}");
}
