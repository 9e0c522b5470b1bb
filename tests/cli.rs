//! The command line, as a script sees it: output, exit codes, files.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot go on has failed")]

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use embmap::{DType, Table, WriteOptions};
use half::{bf16, f16};
use serde_json::Value;
use tempfile::TempDir;

const MINILM: &str = "fixtures/minilm-2k";
const MINILM_FILE: &str = "fixtures/minilm-2k/model.safetensors";
const SHARDED: &str = "fixtures/sharded";

fn embmap(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_embmap"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(args).stdin(Stdio::null());
    command.env_remove("NO_COLOR").env_remove("SOURCE_DATE_EPOCH");
    command
}

fn run(args: &[&str]) -> Output {
    embmap(args).output().unwrap()
}

fn run_with(args: &[&str], stdin: &[u8]) -> Output {
    let mut command = embmap(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(stdin).unwrap();
    child.wait_with_output().unwrap()
}

/// What a run that must succeed has printed.
fn data(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", errors(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The message of a run that must fail with this code and print nothing.
fn failure(output: &Output, code: i32) -> String {
    let message = errors(output);
    assert_eq!(output.status.code(), Some(code), "{message}");
    assert_eq!(output.stdout, b"", "nothing but data goes to standard output");
    if code == 1 {
        assert!(message.starts_with("embmap: error: "), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
    message
}

fn objects(lines: &str) -> Vec<Value> {
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn ids(lines: &str) -> Vec<u64> {
    objects(lines).iter().map(|row| row["id"].as_u64().unwrap()).collect()
}

fn keys(object: &Value) -> Vec<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// The rows of the fixture as numbers, by the library.
fn rows(ids: &[u64]) -> Vec<f32> {
    let table = Table::load(MINILM).unwrap();
    let mut out = vec![0.0; ids.len() * table.dim()];
    table.gather_into(ids, &mut out).unwrap();
    out
}

fn minilm_emb(directory: &TempDir) -> PathBuf {
    let path = directory.path().join("minilm.emb");
    data(&run(&["convert", MINILM, "-o", text(&path), "-q"]));
    path
}

/// The header of a .npy file and its data.
fn npy(path: &Path) -> (String, Vec<u8>) {
    let bytes = std::fs::read(path).unwrap();
    assert!(bytes.starts_with(b"\x93NUMPY\x01\x00"));
    let length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    assert_eq!((10 + length) % 64, 0);
    let header = String::from_utf8(bytes[10..10 + length].to_vec()).unwrap();
    (header.trim_end().to_owned(), bytes[10 + length..].to_vec())
}

#[test]
fn get_prints_one_json_object_a_row() {
    let printed = data(&run(&["get", MINILM, "0", "1811", "--json"]));
    assert!(printed.starts_with(r#"{"id":0,"token":"[PAD]","values":["#), "{printed}");
    let found = objects(&printed);
    assert_eq!(found[1]["token"], "cat");
    let values = found.iter().flat_map(|row| row["values"].as_array().unwrap());
    let values: Vec<f32> = values.map(|value| value.to_string().parse().unwrap()).collect();
    assert_eq!(values, rows(&[0, 1811]));
}

#[test]
fn get_takes_an_emb_file_a_safetensors_file_and_a_directory() {
    let directory = TempDir::new().unwrap();
    let emb = minilm_emb(&directory);
    let from_model = data(&run(&["get", MINILM, "1811", "2002", "--json"]));
    for mapped in [&[][..], &["--no-map"]] {
        let args = [&["get", text(&emb), "1811", "2002", "--json"], mapped].concat();
        assert_eq!(data(&run(&args)), from_model);
    }
    let from_file = data(&run(&["get", MINILM_FILE, "1811", "2002", "--json"]));
    assert_eq!(from_file, from_model, "its tokens lie beside it");
}

#[test]
fn get_for_people_shows_tokens_and_first_values() {
    let output = run(&["get", MINILM, "0", "1811"]);
    let printed = data(&output);
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines.len(), 2);
    let words: Vec<&str> = lines[1].split_whitespace().collect();
    assert_eq!(words[..2], ["1811", "\"cat\""]);
    let expected: Vec<String> = rows(&[1811])[..6].iter().map(|it| format!("{it:.4}")).collect();
    assert_eq!(words[2..8], expected);
    assert_eq!(words[8..], ["…"]);
    assert_eq!(errors(&output), "fixtures/minilm-2k: 2003 x 384 f16\n");
    assert_eq!(errors(&run(&["get", MINILM, "0", "-q"])), "");

    let full = data(&run(&["get", MINILM, "1811", "--full"]));
    let values: Vec<f32> = full.split_whitespace().skip(2).map(|it| it.parse().unwrap()).collect();
    assert_eq!(values, rows(&[1811]));
}

#[test]
fn get_says_nothing_but_the_error_where_a_token_is_damaged() {
    let directory = TempDir::new().unwrap();
    let emb = minilm_emb(&directory);
    let found = objects(&data(&run(&["info", text(&emb), "--json"]))).remove(0);
    let sections = found["sections"].as_array().unwrap();
    let section = sections.iter().find(|section| section["name"] == "token_offsets").unwrap();
    let mut file = File::options().write(true).open(&emb).unwrap();
    file.seek(SeekFrom::Start(section["offset"].as_u64().unwrap())).unwrap();
    file.write_all(&[0xff; 64]).unwrap();
    failure(&run(&["get", text(&emb), "1"]), 1);
}

#[test]
fn get_reads_ids_from_standard_input() {
    let printed = data(&run_with(&["get", MINILM, "7", "-", "9", "--json"], b"1811 3\n\n2\t1\r\n"));
    assert_eq!(ids(&printed), [7, 1811, 3, 2, 1, 9]);
    assert_eq!(data(&run_with(&["get", MINILM, "-", "--json"], b"")), "");
    let message = failure(&run_with(&["get", MINILM, "-"], b"1\n2\nx7\n"), 1);
    assert!(message.contains("standard input: line 3") && message.contains("\"x7\""), "{message}");
    failure(&run_with(&["get", MINILM, "-", "--text", "-"], b"1"), 2);
}

#[test]
fn get_finds_tokens_and_texts() {
    let printed = data(&run(&["get", MINILM, "--token", "cat", "--token", "[SEP]", "--json"]));
    assert_eq!(ids(&printed), [1811, 3]);

    let sentence = "the cat sat on the mat";
    let printed = data(&run(&["get", MINILM, "--text", sentence, "--json"]));
    assert_eq!(ids(&printed), [2, 92, 1811, 919, 102, 92, 1990, 3]);
    let tokens: Vec<_> = objects(&printed).iter().map(|row| row["token"].clone()).collect();
    assert_eq!(tokens, ["[CLS]", "the", "cat", "sat", "on", "the", "mat", "[SEP]"]);

    let args = ["get", MINILM, "--text", sentence, "--no-special-tokens", "--json"];
    assert_eq!(ids(&data(&run(&args))), [92, 1811, 919, 102, 92, 1990]);
    let args = ["get", MINILM, "--text", "-", "--json"];
    let piped = data(&run_with(&args, b"the cat sat on the mat\n"));
    assert_eq!(piped, printed);

    let args = ["get", MINILM, "--text", "mat", "--token", "cat", "5", "--json"];
    assert_eq!(ids(&data(&run(&args))), [5, 1811, 2, 1990, 3]);
}

#[test]
fn an_emb_file_has_the_tokens_and_the_tokenizer_of_its_model() {
    let directory = TempDir::new().unwrap();
    let emb = minilm_emb(&directory);
    let args = |table| ["get", table, "0", "--token", "cat", "--text", "the Cat?", "--json"];
    assert_eq!(data(&run(&args(text(&emb)))), data(&run(&args(MINILM))));
}

#[test]
fn an_unknown_token_is_an_error_that_names_the_spelling_there_is() {
    let message = failure(&run(&["get", MINILM, "--token", " Cat"]), 1);
    assert!(message.contains("\" Cat\"") && message.contains("\"cat\""), "{message}");
    let message = failure(&run(&["get", MINILM, "--token", "qqqq"]), 1);
    assert!(message.contains("\"qqqq\"") && message.contains("--text"), "{message}");
    let directory = TempDir::new().unwrap();
    let alone = directory.path().join("alone.safetensors");
    std::fs::copy(MINILM_FILE, &alone).unwrap();
    let message = failure(&run(&["get", text(&alone), "--token", "cat"]), 1);
    assert!(message.contains("has no tokens"), "{message}");
}

#[test]
fn bad_ids_fail_and_wrong_usage_is_told_apart() {
    let message = failure(&run(&["get", MINILM, "0", "2003", "--json"]), 1);
    for part in ["id 2003", "position 1", "2003 rows"] {
        assert!(message.contains(part), "{message}");
    }
    assert!(failure(&run(&["get", MINILM, "-1"]), 1).contains("id -1 at position 0"));
    let huge = "9".repeat(39);
    let message = failure(&run(&["get", MINILM, "1", &huge]), 1);
    assert!(
        message.contains(&format!("position 1: expected an id, found \"{huge}\"")),
        "{message}"
    );
    let message = failure(&run_with(&["get", MINILM, "1", "-"], b"2 -3"), 1);
    assert!(message.contains("id -3 at position 2"), "{message}");
    failure(&run(&["get", MINILM]), 2);
    failure(&run(&["get", MINILM, "cat"]), 2);
    failure(&run(&["get", MINILM, "1", "--no-such-option"]), 2);
    failure(&run(&[]), 2);
    let message = failure(&run(&["get", "no/such/table", "1"]), 1);
    assert!(message.contains("no/such/table"), "{message}");
    assert!(data(&run(&["get", "--help"])).contains("Examples:"));
}

#[test]
fn gather_writes_npy_files_that_hold_the_rows_exactly() {
    let directory = TempDir::new().unwrap();
    let wanted = [1811u64, 3, 1811, 2002];
    let (list, out) = (directory.path().join("ids"), directory.path().join("rows.npy"));
    std::fs::write(&list, "1811\n3 1811\n2002\n").unwrap();
    let gather = |dtype: &[&str]| {
        let args = ["gather", MINILM, "--ids", text(&list), "-o", text(&out), "--force"];
        data(&run(&[&args[..], dtype].concat()));
        npy(&out)
    };
    let header =
        |descr| format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': (4, 384), }}");
    let numbers = rows(&wanted);
    let wide: Vec<u8> = numbers.iter().flat_map(|value| value.to_le_bytes()).collect();
    assert_eq!(gather(&[]), (header("<f4"), wide));

    let stored = Table::load(MINILM).unwrap();
    let encoded: Vec<u8> =
        wanted.iter().flat_map(|id| stored.encoded_row(*id).unwrap()).copied().collect();
    assert_eq!(gather(&["--dtype", "native"]), (header("<f2"), encoded.clone()));
    assert_eq!(gather(&["--dtype", "f16"]), (header("<f2"), encoded.clone()));
    let rounded: Vec<u8> =
        numbers.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect();
    assert_eq!(gather(&["--dtype", "bf16"]), (header("<V2"), rounded));

    let args = ["gather", MINILM, "--ids", "-", "--raw", "--dtype", "native", "-o", "-"];
    assert_eq!(run_with(&args, b"1811 3 1811 2002").stdout, encoded);
}

#[test]
fn gather_writes_the_lines_that_get_writes() {
    let printed = data(&run_with(&["gather", MINILM, "--ids", "-", "--json"], b"1811\n0\n"));
    assert_eq!(printed, data(&run(&["get", MINILM, "1811", "0", "--json"])));
}

#[test]
fn gather_takes_ids_as_npy() {
    let mut list = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    let header = "{'descr': '<i4', 'fortran_order': False, 'shape': (2, 1), }";
    list.extend(format!("{header:<117}\n").as_bytes());
    list.extend([1811i32, 919].map(i32::to_le_bytes).concat());
    let args = ["gather", MINILM, "--ids", "-", "--json"];
    assert_eq!(ids(&data(&run_with(&args, &list))), [1811, 919]);

    let length = list.len();
    list[length - 1] = 0x80;
    let message = failure(&run_with(&args, &list), 1);
    let expected = "embmap: error: id -2147482729 at position 1 is out of range: the table has 2003 rows (valid ids are 0 to 2002)\n";
    assert_eq!(message, expected);
    list.truncate(length - 2);
    assert!(failure(&run_with(&args, &list), 1).contains("6 bytes of data"));
}

#[test]
fn gather_leaves_nothing_behind_when_it_fails() {
    let directory = TempDir::new().unwrap();
    let out = directory.path().join("rows.npy");
    let args = ["gather", MINILM, "--ids", "-", "-o", text(&out)];
    let message = failure(&run_with(&args, b"1 2 2003"), 1);
    assert!(message.contains("id 2003 at position 2"), "{message}");
    for id in ["-2", "18446744073709551616", "-170141183460469231731687303715884105728"] {
        let message = failure(&run_with(&args, format!("1\n{id}").as_bytes()), 1);
        assert!(message.contains(&format!("id {id} at position 1 is out of range")), "{message}");
    }
    let message = failure(&run_with(&args, format!("1\n{}", "9".repeat(39)).as_bytes()), 1);
    assert!(message.contains("standard input: line 2: expected an id"), "{message}");
    let message = failure(&run_with(&args, b"1\ncat"), 1);
    assert!(message.contains("line 2: expected an id, found \"cat\""), "{message}");
    assert_eq!(names(directory.path()), [""; 0]);

    data(&run_with(&args, b"1"));
    let before = std::fs::read(&out).unwrap();
    assert!(failure(&run_with(&args, b"2"), 1).contains("--force"));
    assert_eq!(std::fs::read(&out).unwrap(), before);
    data(&run_with(&[&args[..], &["--force"]].concat(), b"2"));
    assert_ne!(std::fs::read(&out).unwrap(), before);
    assert_eq!(names(directory.path()), ["rows.npy"]);
    failure(&run(&["gather", MINILM, "--ids", "-"]), 2);
}

#[test]
fn what_json_lacks_is_null_and_stays_exact_in_npy() {
    let directory = TempDir::new().unwrap();
    let (path, out) = (directory.path().join("odd.emb"), directory.path().join("rows.npy"));
    let bits = [0x7e01u16, 0x7c00, 0xfc00, 0x3c00];
    let mut writer = WriteOptions::new(4, DType::F16).create(&path).unwrap();
    let row = bits.map(u16::to_le_bytes).concat();
    writer.push_encoded(&row).unwrap();
    writer.finish().unwrap();

    let printed = data(&run(&["get", text(&path), "0", "--json"]));
    assert_eq!(printed, "{\"id\":0,\"token\":null,\"values\":[null,null,null,1.0]}\n");
    let args = ["gather", text(&path), "--ids", "-", "--dtype", "native", "-o", text(&out)];
    data(&run_with(&args, b"0"));
    assert_eq!(npy(&out).1, row);

    let found = objects(&data(&run(&["verify", text(&path), "--json"]))).remove(0);
    assert_eq!((found["nan"].as_u64(), found["infinite"].as_u64()), (Some(1), Some(2)));
    assert_eq!(found["first_non_finite_row"], 0);
    assert_eq!(found["sound"], true);
}

#[test]
fn doubles_keep_their_digits() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("double.emb");
    let mut writer = WriteOptions::new(2, DType::F64).create(&path).unwrap();
    let row = [std::f64::consts::PI, 1e-300].map(f64::to_le_bytes).concat();
    writer.push_encoded(&row).unwrap();
    writer.finish().unwrap();

    let printed = data(&run(&["get", text(&path), "0", "--json"]));
    assert_eq!(printed, "{\"id\":0,\"token\":null,\"values\":[3.141592653589793,1e-300]}\n");
    let out = directory.path().join("rows.npy");
    let args = ["gather", text(&path), "--ids", "-", "--dtype", "native", "-o", text(&out)];
    data(&run_with(&args, b"0"));
    let (header, found) = npy(&out);
    assert!(header.contains("'<f8'"), "{header}");
    assert_eq!(found, row);
}

#[test]
fn info_tells_all_of_a_table() {
    let directory = TempDir::new().unwrap();
    let emb = directory.path().join("padded.emb");
    data(&run(&["convert", SHARDED, "-o", text(&emb), "--align", "4096", "-q"]));
    let info = |table| {
        let printed = data(&run(&["info", table, "--json"]));
        assert!(printed.starts_with("{\"path\":") && printed.lines().count() == 1, "{printed}");
        objects(&printed).remove(0)
    };

    let found = info(MINILM);
    let expected = [
        "aligned",
        "biases",
        "checksums",
        "codec",
        "dim",
        "direct",
        "dtype",
        "file_bytes",
        "file_id",
        "files",
        "format",
        "metadata",
        "pages_per_row",
        "path",
        "pieces",
        "placed_rows",
        "row_bytes",
        "row_stride",
        "scales",
        "scaling",
        "sections",
        "source",
        "tokenizer",
        "tokens",
        "tokens_from",
        "version",
        "vocab",
    ];
    let mut found_keys = keys(&found);
    found_keys.sort_unstable();
    assert_eq!(found_keys, expected);
    assert_eq!((&found["vocab"], &found["dim"]), (&2003.into(), &384.into()));
    assert_eq!((&found["format"], &found["dtype"]), (&"safetensors".into(), &"f16".into()));
    assert_eq!(found["version"], Value::Null);
    assert_eq!(found["file_bytes"], std::fs::metadata(MINILM_FILE).unwrap().len());
    assert_eq!(found["tokens"], 2003);
    assert_eq!(found["source"]["tensor"], "embeddings.word_embeddings.weight");
    assert_eq!(found["source"]["files"].as_array().unwrap().len(), 1);

    let found = info(text(&emb));
    assert_eq!((&found["format"], &found["codec"]), (&"emb".into(), &"plain".into()));
    assert_eq!(found["version"], "1.0");
    assert_eq!((&found["row_bytes"], &found["row_stride"]), (&128.into(), &4096.into()));
    assert_eq!(found["file_bytes"], std::fs::metadata(&emb).unwrap().len());
    assert_eq!(found["source"]["tensor"], "model.embed_tokens.weight");
    assert_eq!(found["checksums"], true);
    assert_eq!(found["file_id"].as_str().unwrap().len(), 32);
    assert!(found["sections"].as_array().unwrap().len() > 3);

    let printed = data(&run(&["info", text(&emb)]));
    assert!(printed.contains("256 x 64"), "{printed}");
    assert!(printed.contains("alignment costs 992.0 KiB"), "{printed}");
}

#[test]
fn info_lists_the_tensors_of_a_checkpoint() {
    let found = objects(&data(&run(&["info", SHARDED, "--tensors", "--json"])));
    let picked: Vec<_> = found.iter().filter(|tensor| tensor["picked"] == true).collect();
    assert_eq!(picked.len(), 1);
    assert_eq!(picked[0]["name"], "model.embed_tokens.weight");
    assert_eq!(picked[0]["shape"], serde_json::json!([256, 64]));
    assert_eq!(picked[0]["bytes"], 256 * 64 * 2);
    assert_eq!(found.iter().filter(|tensor| tensor["name"] == "model.norm.weight").count(), 1);
    let printed = data(&run(&["info", SHARDED, "--tensors"]));
    let line = printed.lines().find(|line| line.contains("lm_head.weight")).unwrap();
    assert!(line.contains("[256, 64]") && line.contains("bf16"), "{line}");
    assert!(data(&run(&["info", SHARDED, "--tensor", "lm_head.weight"])).contains("lm_head"));

    let directory = TempDir::new().unwrap();
    let emb = minilm_emb(&directory);
    let message = failure(&run(&["info", text(&emb), "--tensors"]), 1);
    assert!(message.contains("an .emb file holds one table"), "{message}");
    File::options().write(true).open(&emb).unwrap().set_len(100_000).unwrap();
    let message = failure(&run(&["info", text(&emb), "--tensors"]), 1);
    assert!(message.contains("it was cut"), "{message}");
    let message = failure(&run(&["info", "Cargo.toml", "--tensors"]), 1);
    assert!(message.contains("no embedding table here"), "{message}");
}

#[test]
fn a_model_of_the_hub_is_found_in_the_cache() {
    let cache = tempfile::tempdir().unwrap();
    let model = cache.path().join("models--org--minilm");
    let snapshot = model.join("snapshots/0123abcd");
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::create_dir_all(model.join("refs")).unwrap();
    std::fs::write(model.join("refs/main"), "0123abcd").unwrap();
    for name in ["model.safetensors", "tokenizer.json", "config.json"] {
        std::fs::copy(Path::new("fixtures/minilm-2k").join(name), snapshot.join(name)).unwrap();
    }
    let with_cache = |args: &[&str]| {
        let mut command = embmap(args);
        command.env("HF_HUB_CACHE", cache.path()).output().unwrap()
    };
    for id in ["org/minilm", "org/minilm@main", "org/minilm@0123abcd"] {
        let lines = data(&with_cache(&["get", id, "--token", "cat", "--json"]));
        assert_eq!(ids(&lines), [1811]);
    }
    let absent = failure(&with_cache(&["info", "org/other@v2"]), 1);
    assert!(absent.contains("hf download org/other --revision v2"), "{absent}");
    let path = failure(&with_cache(&["info", "fixtures/absent"]), 1);
    assert!(path.contains("cannot open fixtures/absent"), "{path}");
}

#[test]
fn convert_keeps_every_bit_and_reports_what_it_wrote() {
    let directory = TempDir::new().unwrap();
    let out = directory.path().join("minilm.emb");
    let args = ["convert", MINILM, "-o", text(&out), "--json"];
    let output = run(&args);
    let found = objects(&data(&output)).remove(0);
    let mut found_keys = keys(&found);
    found_keys.sort_unstable();
    let expected = [
        "bytes_per_second",
        "dim",
        "dry_run",
        "dtype",
        "duplicates",
        "file_bytes",
        "file_id",
        "format",
        "missing_tokens",
        "non_finite",
        "order",
        "output",
        "quantization",
        "row_stride",
        "rows_per_second",
        "seconds",
        "tokens",
        "vocab",
    ];
    assert_eq!(found_keys, expected);
    assert_eq!((&found["vocab"], &found["tokens"]), (&2003.into(), &2003.into()));
    assert_eq!((&found["dtype"], &found["row_stride"]), (&"f16".into(), &768.into()));
    assert_eq!(found["file_bytes"], std::fs::metadata(&out).unwrap().len());
    assert!(errors(&output).contains("rows/s"), "{}", errors(&output));

    let (model, table) = (Table::load(MINILM).unwrap(), Table::load(&out).unwrap());
    assert_eq!(model.rows::<f16>().unwrap().as_slice(), table.rows::<f16>().unwrap().as_slice());

    let before = std::fs::read(&out).unwrap();
    assert!(failure(&run(&args), 1).contains("--force"));
    assert_eq!(std::fs::read(&out).unwrap(), before);
    data(&run(&[&args[..], &["--force"]].concat()));
    assert_eq!(names(directory.path()), ["minilm.emb"]);
    failure(&run(&["convert", MINILM, "-o", "-"]), 2);
    failure(&run(&["convert", MINILM, "-o", "/dev/null", "--force"]), 1);
}

#[test]
fn convert_reads_text_from_standard_input() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out.emb");
    let words = "the 0.5 1\ncat 2 inf\nthe 3 4\n";
    let with = |more: &[&str]| {
        let args = [&["convert", "-", "-o", text(&out), "--force"][..], more].concat();
        run_with(&args, words.as_bytes())
    };
    let error = failure(&with(&[]), 1);
    assert!(error.contains("standard input: not a valid glove file: the token \"the\""), "{error}");
    assert!(error.contains("that of line 1 too") && error.contains("(at line 3)"), "{error}");
    assert!(names(directory.path()).is_empty());

    let planned = objects(&data(&with(&["--duplicates", "last", "--dry-run", "--json"]))).remove(0);
    assert_eq!((&planned["dry_run"], &planned["vocab"]), (&true.into(), &3.into()));
    assert_eq!((&planned["format"], &planned["non_finite"]), (&"glove".into(), &1.into()));
    assert!(names(directory.path()).is_empty());

    let output = with(&["--duplicates", "last", "--json"]);
    let written = objects(&data(&output)).remove(0);
    assert_eq!((&written["duplicates"], &written["vocab"]), (&1.into(), &2.into()));
    let told = errors(&output);
    assert!(
        told.contains("left out 1 rows") && told.contains("1 numbers are NaN or inf"),
        "{told}"
    );
    let rows = objects(&data(&run(&["get", text(&out), "--token", "the", "--json"])));
    assert_eq!(rows[0]["values"], serde_json::json!([3.0, 4.0]));

    let wide = objects(&data(&with(&["--duplicates", "first", "--dtype", "f64", "--json"])));
    assert_eq!(wide[0]["dtype"], "f64");
}

#[test]
fn convert_is_told_what_raw_bytes_are() {
    let directory = tempfile::tempdir().unwrap();
    let (path, out) = (directory.path().join("rows"), directory.path().join("out.emb"));
    std::fs::write(&path, [1f32, 2.0, 3.0, 4.0].map(f32::to_le_bytes).concat()).unwrap();
    let with = |more: &[&str]| {
        let args = ["convert", text(&path), "--from", "raw", "-o", text(&out), "-f", "--json"];
        run(&[&args[..], more].concat())
    };
    assert!(failure(&with(&["--dim", "2"]), 1).contains("dtype: raw binary does not tell"));
    assert!(failure(&with(&["--dtype", "f32"]), 1).contains("dim: raw binary does not tell"));
    for (more, dtype) in
        [(&["--dtype", "f32"][..], "f32"), (&["--raw-dtype", "f32", "--dtype", "f16"], "f16")]
    {
        let written = objects(&data(&with(&[&["--dim", "2"][..], more].concat()))).remove(0);
        assert_eq!((&written["dtype"], &written["vocab"]), (&dtype.into(), &2.into()));
        assert_eq!(values(&out, 1), [3.0, 4.0]);
    }
    failure(&run(&["convert", text(&path), "--from", "nonsense", "-o", text(&out)]), 2);
}

/// The values of a row, as JSON has them.
fn values(path: &Path, id: u64) -> Vec<f64> {
    let lines = data(&run(&["get", text(path), &id.to_string(), "--json"]));
    serde_json::from_value(objects(&lines)[0]["values"].clone()).unwrap()
}

#[test]
fn convert_takes_a_range_and_another_type() {
    let directory = TempDir::new().unwrap();
    let out = directory.path().join("part.emb");
    let args = ["convert", MINILM, "-o", text(&out), "--rows", "1811:", "--dtype", "f32"];
    data(&run(&args));
    let table = Table::load(&out).unwrap();
    assert_eq!((table.vocab(), table.dtype()), (2003 - 1811, DType::F32));
    assert_eq!(table.row::<f32>(0).unwrap(), rows(&[1811]));
    assert_eq!(table.token(0).unwrap().as_deref(), Some("cat"));
    let args = ["convert", MINILM, "-o", text(&out), "--rows", "0:2004", "--force"];
    assert!(failure(&run(&args), 1).contains("0:2004"));
    failure(&run(&["convert", MINILM, "-o", text(&out), "--rows", "7"]), 2);
    failure(&run(&["convert", MINILM, "-o", text(&out), "--align", "100"]), 2);
}

#[test]
fn convert_is_reproducible() {
    let directory = TempDir::new().unwrap();
    let id = "000102030405060708090a0b0c0d0e0f";
    let files = ["a.emb", "b.emb"].map(|name| {
        let out = directory.path().join(name);
        let mut command = embmap(&["convert", MINILM, "-o", text(&out), "--file-id", id]);
        data(&command.env("SOURCE_DATE_EPOCH", "1700000000").output().unwrap());
        assert_eq!(objects(&data(&run(&["info", text(&out), "--json"])))[0]["file_id"], id);
        std::fs::read(out).unwrap()
    });
    assert!(files[0] == files[1]);
    failure(&run(&["convert", MINILM, "-o", "c.emb", "--file-id", "12"]), 2);
}

#[test]
fn verify_names_the_damaged_block_and_its_rows() {
    let directory = TempDir::new().unwrap();
    let emb = minilm_emb(&directory);
    let found = objects(&data(&run(&["verify", text(&emb), "--json"]))).remove(0);
    assert_eq!((&found["sound"], &found["damage_count"]), (&true.into(), &0.into()));
    assert!(found["blocks"].as_u64().unwrap() > 20, "{found}");
    assert!(data(&run(&["verify", text(&emb)])).contains("sound"));

    // Rows start at 65,536, and so does the block of this byte, the second: in row 90.
    let mut file = File::options().read(true).write(true).open(&emb).unwrap();
    let mut byte = [0];
    file.seek(SeekFrom::Start(65_536 + 90 * 768)).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek_relative(-1).unwrap();
    file.write_all(&[byte[0] ^ 1]).unwrap();
    drop(file);

    let output = run(&["verify", text(&emb), "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&found["sound"], &found["damage_count"]), (&false.into(), &1.into()));
    let damage = &found["damage"][0];
    assert_eq!((&damage["kind"], &damage["block"]), (&"block".into(), &1.into()));
    assert_eq!(damage["rows"], serde_json::json!([85, 171]));
    let output = run(&["verify", text(&emb)]);
    assert_eq!(output.status.code(), Some(1));
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.starts_with("block 1: rows 85 to 170; "), "{printed}");
    assert!(printed.contains("damaged, 1 finding"), "{printed}");
}

#[test]
fn verify_says_that_a_checkpoint_has_no_checksums() {
    assert!(data(&run(&["verify", SHARDED])).contains("no checksums in safetensors"));
    let found = objects(&data(&run(&["verify", SHARDED, "--json"]))).remove(0);
    assert_eq!((&found["checksums"], &found["blocks"]), (&false.into(), &0.into()));
    assert_eq!(found["bytes"], 256 * 64 * 2);
}

#[test]
fn completions_are_printed_for_each_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = data(&run(&["completions", shell]));
        assert!(script.contains("verify") && script.contains("no-special-tokens"), "{shell}");
    }
    failure(&run(&["completions", "csh"]), 2);
}

#[test]
fn colours_come_only_where_they_are_wanted() {
    let colored = |args: &[&str], no_color: bool| {
        let mut command = embmap(&[&["get", "no/such/table", "1"], args].concat());
        command.env("TERM", "xterm");
        if no_color {
            command.env("NO_COLOR", "1");
        }
        errors(&command.output().unwrap()).contains('\u{1b}')
    };
    assert!(!colored(&[], false), "standard error is no terminal here");
    assert!(!colored(&[], true));
    assert!(colored(&["--color", "always"], false));
    assert!(colored(&["--color", "always"], true), "what is asked for by name wins");
    assert!(!colored(&["--color", "never"], false));
}

#[test]
fn a_broken_pipe_is_no_error() {
    let every = (0..2003).map(|id| id.to_string()).collect::<Vec<_>>().join("\n");
    for args in [&["get", MINILM, "-", "--full"][..], &["gather", MINILM, "--ids", "-", "-o", "-"]]
    {
        let mut command = embmap(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.arg("-q").spawn().unwrap();
        let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        stdin.write_all(every.as_bytes()).unwrap();
        drop(stdin);
        stdout.read_exact(&mut [0; 100]).unwrap();
        drop(stdout);
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), errors(&output)), (Some(0), String::new()));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error() {
    let mut command = embmap(&["get", MINILM, "1", "-q"]);
    command.stdout(File::options().write(true).open("/dev/full").unwrap());
    let message = failure(&command.output().unwrap(), 1);
    assert!(message.contains("cannot write standard output"), "{message}");
}

/// On a file system of 256 KiB, in a mount namespace of its own. Skipped, and said so, where
/// this user may not mount one.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_the_destination_as_it_was() {
    let directory = TempDir::new().unwrap();
    let script = "mount -t tmpfs -o size=256k tmpfs \"$1\" || exit 99
        echo old >\"$1/out.emb\"
        \"$2\" convert \"$3\" -o \"$1/out.emb\" --force
        echo \"$? $(cat \"$1/out.emb\") $(ls -A \"$1\")\"";
    let shell = ["--mount", "sh", "-c", script, "sh", text(directory.path())];
    let mut command = Command::new("unshare");
    command.args(shell).args([env!("CARGO_BIN_EXE_embmap"), MINILM]);
    let output = command.output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if printed.is_empty() {
        eprintln!("skipped: no file system can be mounted: {}", errors(&output));
        return;
    }
    assert_eq!(printed, "1 old out.emb\n", "{}", errors(&output));
    assert!(errors(&output).contains("No space left on device"), "{}", errors(&output));
}

/// A checkpoint of 4 GiB that takes no room on disk and some time to convert.
fn sparse_checkpoint(path: &Path) {
    let (rows, dim) = (1u64 << 20, 1024u64);
    let bytes = rows * dim * 4;
    let header = serde_json::json!({
        "wte.weight": { "dtype": "F32", "shape": [rows, dim], "data_offsets": [0, bytes] }
    });
    let header = format!("{:<120}", header.to_string());
    let mut file = File::create(path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    file.set_len(8 + header.len() as u64 + bytes).unwrap();
}

fn interrupt(child: &Child) {
    let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

#[cfg(unix)]
#[test]
fn an_interrupted_convert_leaves_nothing_behind() {
    let directory = TempDir::new().unwrap();
    let (input, out) = (directory.path().join("in.safetensors"), directory.path().join("out.emb"));
    sparse_checkpoint(&input);
    let mut command = embmap(&["convert", text(&input), "-o", text(&out), "--dtype", "f16"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while names(directory.path()).len() < 2 {
        assert!(Instant::now() < deadline, "no temporary came");
        std::thread::sleep(Duration::from_millis(5));
    }
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", errors(&output));
    assert!(errors(&output).contains("interrupted"), "{}", errors(&output));
    assert_eq!(names(directory.path()), ["in.safetensors"]);
}

#[cfg(unix)]
#[test]
fn an_interrupted_verify_says_so() {
    let directory = TempDir::new().unwrap();
    let input = directory.path().join("in.safetensors");
    sparse_checkpoint(&input);
    let mut command = embmap(&["verify", text(&input), "-v"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stderr.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    interrupt(&child);
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(130));
}

#[test]
fn export_writes_what_other_tools_read() {
    let directory = TempDir::new().unwrap();
    let out = directory.path().join("words.vec");
    let args = ["export", MINILM, "-o", text(&out), "--rows", "1811:1813"];
    let planned = run(&[&args[..], &["--dry-run", "--json"]].concat());
    let plan: Value = serde_json::from_str(&data(&planned)).unwrap();
    assert_eq!((plan["written"].as_bool(), plan["vocab"].as_u64()), (Some(false), Some(2)));
    assert!(errors(&planned).contains("would write"));
    assert!(names(directory.path()).is_empty());

    let report: Value =
        serde_json::from_str(&data(&run(&[&args[..], &["--json"]].concat()))).unwrap();
    let expected = [
        "output",
        "format",
        "written",
        "vocab",
        "dim",
        "dtype",
        "file_bytes",
        "tokens",
        "tokens_output",
        "skipped",
        "replaced",
        "seconds",
        "rows_per_second",
    ];
    let mut found = keys(&report);
    found.sort_unstable();
    let mut expected = expected.to_vec();
    expected.sort_unstable();
    assert_eq!(found, expected);
    let written = std::fs::read_to_string(&out).unwrap();
    assert_eq!(report["file_bytes"].as_u64(), Some(written.len() as u64));
    assert_eq!(written.lines().next(), Some("2 384"));
    assert!(written.lines().nth(1).unwrap().starts_with("cat 0.03253174 "));

    let streamed = run(&["export", MINILM, "-o", "-", "--to", "word2vec", "--rows", "1811:1813"]);
    assert_eq!(data(&streamed), written);
    assert!(failure(&run(&args), 1).contains("--force"));
    data(&run(&[&args[..], &["--force", "--quiet"]].concat()));
}

#[test]
fn export_refuses_what_it_cannot_do() {
    let directory = TempDir::new().unwrap();
    let out = directory.path().join("out.npy");
    let (out, golden) = (text(&out), "fixtures/v1/f16-tokens.emb");
    failure(&run(&["export", MINILM, "-o", "-"]), 2);
    failure(&run(&["export", MINILM, "-o", "-", "--to", "npy", "--json"]), 2);
    failure(&run(&["export", MINILM, "-o", out, "--to", "parrot"]), 2);
    assert!(failure(&run(&["export", MINILM, "-o", "x.txt"]), 1).contains("--to"));
    let message = failure(&run(&["export", "fixtures/v1/bf16-align64.emb", "-o", out]), 1);
    assert!(message.contains("--dtype f32"), "{message}");
    let message = failure(&run(&["export", golden, "-o", out, "--to", "glove"]), 1);
    assert!(message.contains("row 2") && message.contains("--unfit-tokens"), "{message}");
    assert!(names(directory.path()).is_empty());
    let skipped = run(&["export", golden, "-o", out, "--to", "glove", "--unfit-tokens", "skip"]);
    assert!(errors(&skipped).contains("2 rows were left out"));
}
