//! `embmap bench`, as a script sees it.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, clippy::print_stderr)]

mod support;

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use embmap::DType;
use serde_json::Value;
use tempfile::TempDir;

const MINILM: &str = "fixtures/minilm-2k";

fn bench(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_embmap"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).arg("bench").args(args).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(args: &[&str]) -> Output {
    bench(args).output().unwrap()
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The objects that a run with an exit code has printed.
fn objects(output: &Output, code: i32) -> Vec<Value> {
    assert_eq!(output.status.code(), Some(code), "{}", errors(output));
    let printed = String::from_utf8(output.stdout.clone()).unwrap();
    printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A file on a disk, where the system can forget its pages.
fn on_disk() -> (TempDir, String) {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = directory.path().join("table.emb");
    support::write_random(&path, 20_000, 128, DType::F16, None);
    let path = text(&path).to_owned();
    (directory, path)
}

fn number(object: &Value, key: &str) -> f64 {
    object[key].as_f64().unwrap_or_else(|| panic!("{key} in {object}"))
}

#[test]
fn json_has_the_figures_of_each_configuration() {
    let args = ["--batch", "64,500", "--threads", "1,2", "--seconds", "0.05", "--json"];
    for out in ["f32", "native", "bag:32"] {
        let found = objects(&run(&[&[MINILM, "--out", out], &args[..]].concat()), 0);
        let measured: Vec<_> =
            found.iter().map(|it| (it["threads"].as_u64(), it["batch"].as_u64())).collect();
        let expected = [(1, 64), (1, 500), (2, 64), (2, 500)].map(|(a, b)| (Some(a), Some(b)));
        assert_eq!(measured, expected);
        for object in &found {
            assert_eq!(object["table"], MINILM);
            assert_eq!((&object["vocab"], &object["dim"]), (&2003.into(), &384.into()));
            assert_eq!((&object["dtype"], &object["row_bytes"]), (&"f16".into(), &768.into()));
            assert_eq!((&object["access"], &object["ids"]), (&"map".into(), &"uniform".into()));
            assert_eq!((&object["state"], &object["out"]), (&"warm".into(), &out.into()));
            assert_eq!((&object["measured"], &object["reason"]), (&true.into(), &Value::Null));
            let (batch, batches) = (number(object, "batch"), number(object, "batches"));
            assert!(batches >= 1.0);
            assert!((number(object, "asked_bytes") - batches * batch * 768.0).abs() < 1.0);
            let (p50, p99) = (number(object, "p50_seconds"), number(object, "p99_seconds"));
            assert!(0.0 < p50 && p50 <= p99, "{object}");
            let rows = number(object, "rows_per_second");
            assert!((rows - batch / p50).abs() / rows < 1e-6, "{object}");
            assert!((number(object, "bytes_per_second") / rows - 768.0).abs() < 1e-6);
            let share = rows / number(object, "limit_rows_per_second");
            assert!((number(object, "share") - share).abs() < 1e-6);
            let limit = object["limit"].as_str().unwrap();
            assert!(limit.ends_with("from memory"), "{limit}");
            if cfg!(target_os = "linux") {
                assert!(number(object, "amplification") < 0.01, "{object}");
                assert!(number(object, "major_faults") < batches, "{object}");
            }
        }
    }
}

#[test]
fn people_get_a_line_a_configuration() {
    let output = run(&[MINILM, "--batch", "64", "--seconds", "0.05", "--threads", "1"]);
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    let printed = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines.len(), 3, "{printed}");
    assert!(lines[0].starts_with("fixtures/minilm-2k: 2003 x 384 f16"), "{printed}");
    assert!(lines[1].starts_with("state  threads  batch"), "{printed}");
    assert!(lines[1].ends_with("share"), "{printed}");
    assert_eq!(lines[2].split_whitespace().take(3).collect::<Vec<_>>(), ["warm", "1", "64"]);
}

#[test]
#[cfg(target_os = "linux")]
fn cold_rows_are_read_from_the_device() {
    let (_directory, path) = on_disk();
    for access in [&[][..], &["--no-map"], &["--access", "direct"]] {
        let args = [&path, "--state", "cold", "--batch", "100", "--seconds", "0.1", "--json"];
        let found = objects(&run(&[&args[..], access].concat()), 0);
        assert_eq!(found[0]["state"], "cold");
        assert_eq!(found[0]["measured"], true);
        // Of 20,000 rows 100 are hardly twice the same: each has to be read.
        let amplification = number(&found[0], "amplification");
        assert!(amplification > 0.9, "{}", found[0]);
        assert!(number(&found[0], "share") > 0.0);
        assert!(found[0]["limit"].as_str().unwrap().starts_with("direct reads "));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn rows_that_stay_in_memory_are_never_told_as_cold() {
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = directory.path().join("table.emb");
    support::write_random(&path, 2000, 128, DType::F16, None);
    let args = [text(&path), "--seconds", "0.05", "--batch", "64,128"];
    let output = run(&[&args[..], &["--state", "cold,warm", "--json"]].concat());
    let found = objects(&output, 1);
    assert_eq!(found.len(), 4);
    for cold in &found[..2] {
        assert_eq!((&cold["state"], &cold["measured"]), (&"cold".into(), &false.into()));
        assert!(cold["reason"].as_str().unwrap().contains("stay in the page cache"), "{cold}");
        for figure in ["rows_per_second", "bytes_per_second", "p50_seconds", "share", "batches"] {
            assert_eq!(cold[figure], Value::Null, "{figure}");
        }
    }
    assert!(found[2..].iter().all(|warm| warm["measured"] == true));
    let told = errors(&output);
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(told.starts_with("embmap: error: cold: "), "{told}");

    let output = run(&[&args[..], &["--state", "cold", "--quiet"]].concat());
    assert_eq!(output.status.code(), Some(1));
    assert!(errors(&output).starts_with("embmap: error: cold: "));
    let printed = String::from_utf8(output.stdout).unwrap();
    let last = printed.lines().last().unwrap();
    assert!(last.split_whitespace().skip(3).all(|word| word == "-"), "{printed}");
}

/// Whether there is a cgroup to be had depends on the machine; that it says so does not.
#[test]
#[cfg(target_os = "linux")]
fn a_cap_is_kept_or_refused() {
    let (_directory, path) = on_disk();
    let args = [&path, "--state", "capped:64MiB", "--batch", "64", "--seconds", "0.1", "--json"];
    let output = run(&args);
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["state"], "capped:67108864");
    let measured = found["measured"].as_bool().unwrap();
    assert_eq!(output.status.code(), Some(i32::from(!measured)), "{}", errors(&output));
    if !measured {
        assert!(errors(&output).starts_with("embmap: error: capped:67108864: "));
        assert_eq!(found["rows_per_second"], Value::Null);
    }
}

#[test]
fn a_recorded_trace_is_gathered_again() {
    let directory = TempDir::new().unwrap();
    let [first, second] = ["first", "second"].map(|name| directory.path().join(name));
    let args = [MINILM, "--batch", "64", "--seconds", "0.02", "--threads", "1", "--json"];
    let zipf = ["--ids", "zipf:1.2", "--record", text(&first)];
    assert_eq!(objects(&run(&[&args[..], &zipf].concat()), 0)[0]["ids"], "zipf:1.2");
    let ids = |path: &Path| -> Vec<u64> {
        let text = std::fs::read_to_string(path).unwrap();
        let batches = text.lines().map(|line| line.split(' ').map(|id| id.parse().unwrap()));
        batches
            .flat_map(|batch| {
                let batch: Vec<u64> = batch.collect();
                assert_eq!(batch.len(), 64);
                batch
            })
            .collect()
    };
    let recorded = ids(&first);
    assert!(recorded.len() >= 128 && recorded.len().is_multiple_of(64));
    assert!(recorded.iter().all(|id| *id < 2003));

    let replay = format!("trace:{}", text(&first));
    let replay = ["--ids", &replay, "--record", text(&second)];
    assert_eq!(objects(&run(&[&args[..], &replay].concat()), 0)[0]["measured"], true);
    let replayed = ids(&second);
    assert!(!replayed.is_empty());
    assert!(replayed.iter().eq(recorded.iter().cycle().take(replayed.len())));

    let again = run(&[&args[..], &replay].concat());
    assert_eq!(again.status.code(), Some(1), "the file is there");
    objects(&run(&[&args[..], &replay, &["--force"]].concat()), 0);
}

#[test]
fn a_wrong_trace_is_an_error_before_any_work() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("trace");
    let record = directory.path().join("record");
    for (trace, expected) in [
        ("1\n2\ncat\n", "line 3: expected an id, found \"cat\""),
        ("1 2\n2003\n", "line 2: id 2003 is out of range: the table has 2003 rows"),
        ("-1", "line 1: id -1 is out of range"),
        ("\n", "expected ids"),
    ] {
        std::fs::write(&path, trace).unwrap();
        let ids = format!("trace:{}", text(&path));
        let output = run(&[MINILM, "--ids", &ids, "--record", text(&record)]);
        assert_eq!(output.status.code(), Some(1));
        assert!(errors(&output).contains(expected), "{}", errors(&output));
        assert_eq!(output.stdout, b"");
        assert!(!record.exists());
    }
    let missing = run(&[MINILM, "--ids", "trace:no such file"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(errors(&missing).contains("no such file"), "{}", errors(&missing));
}

#[test]
fn wrong_use_is_refused_before_any_work() {
    let directory = TempDir::new().unwrap();
    let plot = directory.path().join("plot.svg");
    for wrong in [
        &["--batch", "0"][..],
        &["--batch", "64,,2"],
        &["--threads", "0"],
        &["--ids", "zipf:-1"],
        &["--ids", "trace:"],
        &["--state", "lukewarm"],
        &["--state", "capped:1"],
        &["--out", "bag:0"],
        &["--out", "f8"],
        &["--seconds", "0"],
        &["--seconds", "-1"],
        &["--record", "-"],
        &["--access", "paper"],
        &["--access", "map", "--no-map"],
        &["--record", text(&plot)],
    ] {
        let output = run(&[&[MINILM, "--plot", text(&plot)], wrong].concat());
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {}", errors(&output));
        assert_eq!(output.stdout, b"", "{wrong:?}");
        assert!(!plot.exists());
    }
    let huge = run(&[MINILM, "--batch", "1000000000000000"]);
    assert_eq!(huge.status.code(), Some(1));
    assert!(errors(&huge).contains("of memory, which is not there"), "{}", errors(&huge));
    let empty = run(&["fixtures/v1/no-rows.emb"]);
    assert_eq!(empty.status.code(), Some(1));
    assert!(errors(&empty).contains("no rows"), "{}", errors(&empty));
}

#[test]
fn a_plot_is_an_svg_with_a_point_a_configuration() {
    let directory = TempDir::new().unwrap();
    let plot = directory.path().join("a <plot>.svg");
    let args = ["--batch", "64,256,1024", "--threads", "1,2", "--seconds", "0.02", "--plot"];
    let output = run(&[&[MINILM], &args[..], &[text(&plot)]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    let svg = std::fs::read_to_string(&plot).unwrap();
    let parsed = roxmltree::Document::parse(&svg).unwrap();
    assert!(parsed.root_element().has_tag_name(("http://www.w3.org/2000/svg", "svg")));
    let count =
        |name: &str| parsed.descendants().filter(|node| node.tag_name().name() == name).count();
    assert_eq!(count("circle"), 6);
    let limits = parsed.descendants().filter(|node| {
        node.tag_name().name() == "polyline"
            && node
                .attribute("class")
                .is_some_and(|class| class.starts_with('c') && class.ends_with(" limit"))
    });
    assert_eq!(limits.count(), 3, "one a line, and the legend's");
    assert!(svg.contains("prefers-color-scheme"));
}

#[test]
#[cfg(unix)]
fn ctrl_c_leaves_nothing_behind() {
    let directory = TempDir::new().unwrap();
    let [plot, record] = ["plot.svg", "ids.txt"].map(|name| directory.path().join(name));
    let mut child = bench(&[MINILM, "--seconds", "60", "--batch", "64"])
        .args([Path::new("--plot"), &plot, Path::new("--record"), &record])
        .spawn()
        .unwrap();
    let start = Instant::now();
    // Both outputs are open, and the signal is deferred from then on.
    while std::fs::read_dir(directory.path()).unwrap().count() < 2 {
        assert!(start.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(200));
    let process = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(process, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(start.elapsed() < Duration::from_secs(30));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}
