//! The commands that know what rows mean, as a script sees them.
#![cfg(feature = "cli")]
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::float_cmp
)]

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

#[test]
fn texts_are_tokenized() {
    let text = data(&["tokenize", MINILM, "the cat"], b"");
    assert_eq!(text, "   2  \"[CLS]\"\n  92  \"the\"\n1811  \"cat\"\n   3  \"[SEP]\"\n");
    let both = data(&["tokenize", MINILM, "a", "-", "--no-special-tokens"], b"the\r\n\ncat");
    assert_eq!(both, "a\n43  \"a\"\nthe\n92  \"the\"\n\ncat\n1811  \"cat\"\n");
    assert_eq!(data(&["tokenize", MINILM, "-", "--ids"], b"the xyzzy\n\n"), "2 92 1 3\n2 3\n");
    let found = data(&["tokenize", MINILM, "a \"\u{1}", "--json", "--no-special-tokens"], b"");
    assert_eq!(found, "{\"text\":\"a \\\"\\u0001\",\"ids\":[43,6],\"tokens\":[\"a\",\"\\\"\"]}\n");

    // As many lines as batches take are one text each.
    let lines: Vec<String> = (0..40_000).map(|line| format!("cat {line}")).collect();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lines.txt");
    std::fs::write(&path, lines.join("\n")).unwrap();
    let stdin = std::fs::File::open(&path).unwrap();
    let output = embmap(&["tokenize", MINILM, "-", "--ids"]).stdin(stdin).output().unwrap();
    let found = String::from_utf8(output.stdout).unwrap();
    assert_eq!(found.lines().count(), lines.len());
    assert!(found.lines().all(|line| line.starts_with("2 1811 ")));

    let output = run_with(&["tokenize", MINILM, "the xyzzy"], b"");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("4 tokens, 1 of them unknown"), "{said}");
    assert!(failure(&["tokenize", MINILM], 2).contains("TEXT"));
    assert!(failure(&["tokenize", MINILM, "-", "-"], 2).contains("only once"));
    assert!(failure(&["tokenize", "fixtures/v1/f32.emb", "a"], 1).contains("tokenizer.json"));
    let output = run_with(&["tokenize", MINILM, "-"], b"a\n\xff\n");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("standard input, line 2: expected UTF-8"), "{said}");
}

#[test]
fn texts_are_embedded_as_lines_or_as_an_array() {
    let table = Table::load(MINILM).unwrap();
    let mean = |tokens: &[&str]| -> Vec<f32> {
        let rows = rows(&table, tokens);
        let sum = |at| rows.iter().skip(at).step_by(384).sum::<f32>();
        (0..384).map(|at| sum(at) / tokens.len() as f32).collect()
    };
    let expected = [mean(&["the", "cat"]), mean(&["dog"])];
    let found = lines(&["embed", MINILM, "the cat", "-", "--json"], b"dog\n");
    for ((line, expected), (text, tokens)) in
        found.iter().zip(&expected).zip([("the cat", 2), ("dog", 1)])
    {
        assert_eq!((line["text"].as_str(), line["tokens"].as_u64()), (Some(text), Some(tokens)));
        let values = line["values"].as_array().unwrap();
        let values: Vec<f32> = values.iter().map(|it| it.as_f64().unwrap() as f32).collect();
        assert_eq!(values, *expected);
    }
    let text = data(&["embed", MINILM, "the cat", "dog", "--normalize"], b"");
    assert_eq!(text.lines().count(), 2);
    assert!(text.starts_with("\"the cat\" ") && text.ends_with(" …\n"), "{text}");

    // The array is the same whether its length was known or not, and wherever it goes.
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("vectors.npy");
    let path = file.to_str().unwrap();
    let mut arrays = Vec::new();
    for (texts, stdin) in [(&["the cat", "dog"][..], &b""[..]), (&["-"], b"the cat\ndog\n")] {
        let args = [&["embed", MINILM], texts, &["-f", "-o"]].concat();
        run_with(&[&args[..], &[path]].concat(), stdin);
        arrays.push(std::fs::read(&file).unwrap());
        arrays.push(run_with(&[&args[..], &["-"]].concat(), stdin).stdout);
    }
    assert!(arrays.iter().all(|array| *array == arrays[0]));
    let (header, data) = NpyHeader::parse(&arrays[0], "vectors.npy").unwrap();
    assert_eq!((header.descr.as_str(), &header.shape[..]), ("<f4", &[2, 384][..]));
    assert_eq!(&arrays[0][data as usize..], bytemuck::cast_slice::<f32, u8>(&expected.concat()));
    let kept = failure(&["embed", MINILM, "a", "-o", path], 1);
    assert!(kept.contains("--force"), "{kept}");
}

#[test]
fn texts_without_tokens_have_no_vector_unless_asked_for() {
    let said = |args: &[&str], part: &str| {
        let message = failure(args, 1);
        assert!(message.contains(part), "{message}");
    };
    said(&["embed", MINILM, "cat", " "], "text 2: the text is empty");
    said(&["embed", MINILM, "xyzzy", "--unknown", "drop"], "no token of \"xyzzy\"");
    said(&["embed", "fixtures/v1/f32.emb", "a"], "tokenizer.json");
    let found = lines(&["embed", MINILM, "", "--allow-empty", "--json"], b"");
    assert!(found[0]["values"].as_array().unwrap().iter().all(|value| value == 0.0));
    let known = lines(&["embed", MINILM, "cat xyzzy", "--unknown=drop", "--json"], b"");
    assert_eq!(known[0]["tokens"], 1);
    let cut = lines(&["embed", MINILM, "cat sat", "--max-tokens", "1", "--json"], b"");
    assert_eq!(cut[0]["values"], known[0]["values"]);

    // What failed leaves no file.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("vectors.npy");
    said(&["embed", MINILM, "", "-o", path.to_str().unwrap()], "the text is empty");
    assert_eq!(directory.path().read_dir().unwrap().count(), 0);
    failure(&["embed", MINILM, "a", "--max-tokens", "0"], 2);
}
