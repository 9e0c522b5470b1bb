//! The commands that know what rows mean, as a script sees them.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, clippy::float_cmp)]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use embmap::{ConvertOptions, Metric, NearestOptions, NpyHeader, Table, convert};
use serde_json::Value;

const MINILM: &str = "fixtures/minilm-2k";

fn embmap(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_embmap"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run_with(args: &[&str], stdin: &[u8]) -> Output {
    let mut child = embmap(args).spawn().unwrap();
    // A command that fails early does not read.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    child.wait_with_output().unwrap()
}

fn data(args: &[&str], stdin: &[u8]) -> String {
    let output = run_with(args, stdin);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn lines(args: &[&str], stdin: &[u8]) -> Vec<Value> {
    data(args, stdin).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The one line that a run which fails says.
fn failure(args: &[&str], code: i32) -> String {
    let output = run_with(args, b"");
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {message}");
    assert_eq!(output.stdout, b"", "{args:?}");
    assert!(code == 2 || message.lines().count() == 1, "{message}");
    message
}

fn tokens(line: &Value) -> Vec<&str> {
    let found = line["neighbours"].as_array().unwrap();
    found.iter().map(|found| found["token"].as_str().unwrap()).collect()
}

/// The rows of some tokens.
fn rows(table: &Table, tokens: &[&str]) -> Vec<f32> {
    let ids: Vec<u64> = tokens.iter().map(|it| table.id_of(it).unwrap().unwrap()).collect();
    table.gather(&ids).unwrap()
}

#[test]
fn tokens_are_searched_for() {
    let text = data(&["similar", MINILM, "cat", "king", "-k", "2"], b"");
    let expected = "cat\n   0.8153  1952  \"cats\"\n   0.5600  1999  \"kitten\"\nking\n   0.6904  1855  \"kings\"\n   0.6273  1009  \"queen\"\n";
    assert_eq!(text, expected);
    let found = lines(&["similar", MINILM, "cat", "--json", "--no-map", "-j", "1"], b"");
    assert_eq!(found[0]["query"], "cat");
    assert_eq!(found[0]["neighbours"].as_array().unwrap().len(), 10);
    // The number is the shortest that reads back as the same.
    assert_eq!(
        found[0]["neighbours"][0].to_string(),
        "{\"id\":1952,\"score\":0.81526834,\"token\":\"cats\"}"
    );
}

#[test]
fn expressions_and_analogies_leave_out_what_they_are_made_of() {
    let args = ["-k", "3", "--json"];
    let with = |first: &[&'static str]| [first, &args].concat();
    let together = lines(&with(&["similar", MINILM, "king - man + woman"]), b"");
    assert_eq!(tokens(&together[0]), ["queen", "kings", "queens"]);
    for apart in [
        with(&["similar", MINILM, "king", "-", "man", "+", "woman"]),
        with(&["analogy", MINILM, "king", "man", "woman"]),
    ] {
        assert_eq!(lines(&apart, b""), together);
    }
    let own = lines(&with(&["similar", MINILM, "king - man + woman", "--include-query"]), b"");
    assert_eq!(tokens(&own[0])[..2], ["king", "queen"]);

    // By product terms count as they are.
    let table = Table::load(MINILM).unwrap();
    let three = rows(&table, &["king", "man", "woman"]);
    let sum: Vec<f32> = (0..384)
        .map(|at| {
            (f64::from(three[at]) - f64::from(three[at + 384]) + f64::from(three[at + 768])) as f32
        })
        .collect();
    let ids = ["king", "man", "woman"].map(|it| table.id_of(it).unwrap().unwrap());
    let options = NearestOptions::new().exclude(ids.to_vec());
    let expected = table.nearest_with(&sum, 3, Metric::Dot, &options).unwrap();
    let dot = lines(&with(&["analogy", MINILM, "king", "man", "woman", "--metric", "dot"]), b"");
    for (found, expected) in dot[0]["neighbours"].as_array().unwrap().iter().zip(&expected[0]) {
        assert_eq!(found["id"], expected.id);
        assert_eq!(found["score"].as_f64().unwrap() as f32, expected.score);
    }
    // Tokens that look like operators.
    let odd = lines(&["similar", MINILM, "-", "--json", "-k", "1"], b"");
    assert_eq!(odd[0]["query"], "-");
}

#[test]
fn ids_texts_and_vectors_are_searched_for() {
    let table = Table::load(MINILM).unwrap();
    let cat = table.id_of("cat").unwrap().unwrap();
    let by_token = lines(&["similar", MINILM, "cat", "--json"], b"");
    let same = |found: &[Value]| {
        assert_eq!(found[0]["neighbours"], by_token[0]["neighbours"]);
    };
    same(&lines(&["similar", MINILM, "--id", &cat.to_string(), "--json"], b""));
    same(&lines(&["similar", MINILM, "--id", "-", "--json"], format!("{cat}\n").as_bytes()));
    same(&lines(&["similar", MINILM, "--text", "Cat", "--json"], b""));

    // A vector is no row, so that the row itself is nearest to it.
    let vector = rows(&table, &["cat"]);
    let text: Vec<String> = vector.iter().map(|value| format!("{value:?}")).collect();
    let mut npy = Vec::new();
    let header = NpyHeader { descr: "<f4".into(), fortran_order: false, shape: vec![384] };
    header.write_to(&mut npy).unwrap();
    npy.extend_from_slice(bytemuck::cast_slice(&vector));
    for stdin in [text.join(" ").as_bytes(), &npy] {
        let found = lines(&["similar", MINILM, "--vector", "-", "--json", "-k", "2"], stdin);
        assert_eq!(tokens(&found[0]), ["cat", "cats"]);
    }
    // The order of answers is that of the kinds of queries: by name, id, text, vector.
    let text = text.join(",");
    let args =
        ["similar", MINILM, "dog", "--id", "5", "--text", "a dog", "--vector", "-", "--json"];
    let found = lines(&args, text.as_bytes());
    let names: Vec<&str> = found.iter().map(|line| line["query"].as_str().unwrap()).collect();
    assert_eq!(names, ["dog", "5", "a dog", "standard input 0"]);
}

#[test]
fn a_table_with_norms_answers_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("norms.emb");
    let path = path.to_str().unwrap();
    data(&["convert", MINILM, "-o", path, "--norms"], b"");
    let info: Value = serde_json::from_str(&data(&["info", path, "--json"], b"")).unwrap();
    let sections = info["sections"].as_array().unwrap();
    assert!(sections.iter().any(|section| section["name"] == "norms"));
    let args = ["paris", "--json", "-k", "50"];
    assert_eq!(
        lines(&[&["similar", path], &args[..]].concat(), b""),
        lines(&[&["similar", MINILM], &args[..]].concat(), b"")
    );
}

#[test]
fn what_is_missing_is_told_and_how_to_add_it() {
    let said = |args: &[&str], part: &str| {
        let message = failure(args, 1);
        assert!(message.contains(part), "{message}");
    };
    said(&["similar", MINILM, "frnace"], "did you mean \"france\"?");
    said(&["similar", MINILM, "Paris"], "the vocabulary has \"paris\"");
    said(&["similar", MINILM, "king - frnace"], "did you mean \"france\"?");
    said(&["similar", MINILM, "cat", "-k", "2004"], "expected 1 to 2003");
    said(&["similar", MINILM, "cat", "-k", "0"], "expected 1 to 2003");
    said(&["similar", MINILM, "--id", "2003"], "valid ids are 0 to 2002");
    said(&["similar", MINILM, "--text", ""], "no tokens");
    said(&["similar", MINILM, "--vector", "-"], "no vectors");
    said(&["similar", MINILM, "--vector", "no/such.npy"], "no/such.npy");
    said(&["similar", "fixtures/v1/f32.emb", "cat"], "vocabulary");
    said(&["similar", "fixtures/v1/f32.emb", "--text", "cat"], "tokenizer.json");
    said(&["similar", "fixtures/v1/no-rows.emb", "--id", "0"], "no rows");
    let directory = tempfile::tempdir().unwrap();
    let short = directory.path().join("short.txt");
    std::fs::write(&short, "1 2 3\n").unwrap();
    said(&["similar", MINILM, "--vector", short.to_str().unwrap()], "has 3 elements, expected 384");
    assert!(failure(&["similar", MINILM], 2).contains("nothing to search for"));
    assert!(failure(&["similar", MINILM, "--id", "-", "--vector", "-"], 2).contains("only once"));
    failure(&["analogy", MINILM, "king", "man"], 2);

    // Few rows, and no k asked for: all of them.
    let few = directory.path().join("few.emb");
    let table = Table::load(Path::new(MINILM)).unwrap();
    convert(&table, &few, &ConvertOptions::new().rows(1805..1812)).unwrap();
    let found = lines(&["similar", few.to_str().unwrap(), "cat", "--json"], b"");
    assert_eq!(found[0]["neighbours"].as_array().unwrap().len(), 6);
}
