//! Pictures as a script makes them.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use embmap::{DType, Table, WriteOptions};
use serde_json::Value;

const MINILM: &str = "fixtures/minilm-2k";

fn run_with(args: &[&str], stdin: &[u8]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_embmap"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that fails early does not read.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    child.wait_with_output().unwrap()
}

fn data(args: &[&str]) -> String {
    let output = run_with(args, b"");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn failure(args: &[&str], code: i32) -> String {
    let output = run_with(args, b"");
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {message}");
    assert_eq!(output.stdout, b"");
    message
}

/// The data in a page.
fn data_of(page: &str) -> Value {
    let start = page.find("id=\"data\">").unwrap() + "id=\"data\">".len();
    let end = start + page[start..].find("</script>").unwrap();
    serde_json::from_str(&page[start..end]).unwrap()
}

/// The neighbours of a point as the page's script reads them.
fn near(data: &Value, name: &str) -> Vec<(String, f32)> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = data["points"].as_str().unwrap().bytes().filter(|digit| *digit != b'=');
    let digits = digits.map(|digit| DIGITS.iter().position(|it| *it == digit).unwrap());
    let bits: Vec<u8> =
        digits.flat_map(|digit| (0..6).rev().map(move |bit| (digit >> bit & 1) as u8)).collect();
    let bytes: Vec<u8> =
        bits.chunks_exact(8).map(|bits| bits.iter().fold(0, |byte, bit| byte << 1 | bit)).collect();
    let names = data["names"].as_array().unwrap();
    let point = names.iter().position(|it| it == name).unwrap();
    let k = usize::try_from(data["near"].as_u64().unwrap()).unwrap();
    let own = &bytes[point * (5 + 4 * k) + 5..][..4 * k];
    let of = |bytes: &[u8]| {
        let other = usize::from(u16::from_le_bytes([bytes[0], bytes[1]]));
        let cosine = f32::from(i16::from_le_bytes([bytes[2], bytes[3]])) / 10_000.0;
        (names[other].as_str().unwrap().to_owned(), cosine)
    };
    own.chunks_exact(4).map(of).collect()
}

#[test]
fn a_page_holds_the_points_and_their_neighbours() {
    let args = ["plot", MINILM, "--layout", "pca", "-o", "-"];
    let page = data(&args);
    assert_eq!(page, data(&args), "the same again");
    let found = data_of(&page);
    assert_eq!(found["title"], "minilm-2k");
    assert_eq!(found["clusters"].as_array().unwrap().len(), 12);
    let count = found["names"].as_array().unwrap().len();
    assert!((1800..=2000).contains(&count), "{count}");
    let rounded = |name: &str, most: usize| -> Vec<String> {
        let near = near(&found, name);
        near.iter().take(most).map(|(name, cosine)| format!("{name} {cosine:.3}")).collect()
    };
    assert_eq!(rounded("cat", 4), ["cats 0.815", "kitten 0.560", "kitty 0.537", "dog 0.424"]);
    assert_eq!(rounded("king", 2), ["kings 0.690", "queen 0.627"]);
    assert_eq!(rounded("paris", 3), ["parisian 0.569", "france 0.509", "london 0.415"]);
}

#[test]
fn pictures_are_made_of_what_is_chosen() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let svg = path("few.svg");
    let json = data(&["plot", MINILM, "--tokens", "king,queen,cat,dog,man", "-o", &svg, "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((json["points"].as_u64(), json["layout"].as_str()), (Some(5), Some("tsne")));
    let text = std::fs::read_to_string(&svg).unwrap();
    let parsed = roxmltree::Document::parse(&text).unwrap();
    let texts: Vec<&str> = parsed.descendants().filter_map(|node| node.text()).collect();
    for name in ["king", "queen", "cat", "dog", "man"] {
        assert!(texts.contains(&name), "{name}: {texts:?}");
    }
    assert!(failure(&["plot", MINILM, "--tokens", "king", "-o", &svg], 1).contains("few.svg"));
    data(&["plot", MINILM, "--rows", "1800:1840", "--clusters", "3", "-o", &svg, "-f"]);
    let text = std::fs::read_to_string(&svg).unwrap();
    assert_eq!(text.matches("<circle").count(), 43);

    // A file of tokens, and standard input.
    let words = path("words.txt");
    std::fs::write(&words, "cat\nqqqq\ndog\n").unwrap();
    let page = path("words.html");
    assert!(failure(&["plot", MINILM, "--tokens", &words, "-o", &page], 1).contains("qqqq"));
    assert!(!Path::new(&page).exists(), "nothing is left of what failed");
    data(&["plot", MINILM, "--tokens", &words, "--skip-unknown", "-o", &page]);
    let found = data_of(&std::fs::read_to_string(&page).unwrap());
    assert_eq!(found["names"], serde_json::json!(["cat", "dog"]));
    let output = run_with(&["plot", MINILM, "--tokens", "-", "-o", "-"], b"cat\nking\n");
    assert!(data_of(&String::from_utf8(output.stdout).unwrap())["ids"].is_array());
}

#[test]
fn hostile_tokens_stay_in_their_place() {
    let directory = tempfile::tempdir().unwrap();
    let table = directory.path().join("<b>.emb");
    let tokens = [
        "</script><script>alert(1)</script>",
        "\"'`${x}\\",
        "\u{202e}drow\u{2066}",
        "\u{0}\u{1b}[31m\r\n",
        "<!--DATA-->",
        "\u{2028}",
        "",
        "the same",
        "the same",
    ];
    let long = "x".repeat(100_000);
    let mut writer = WriteOptions::new(4, DType::F32).create(&table).unwrap();
    for at in 0..12u8 {
        let row = [f32::from(at), 1.0, f32::from(at % 3), -1.0];
        let odd = match at {
            10 => [0.0; 4],
            11 => [f32::NAN; 4],
            _ => row,
        };
        writer.push(&odd).unwrap();
        let token = tokens.get(usize::from(at)).copied();
        writer.push_token(token.or((at == 9).then_some(&*long))).unwrap();
    }
    writer.finish().unwrap();
    let args = ["plot", table.to_str().unwrap(), "--rows", ":", "-o"];
    let page = data(&[&args[..], &["-"]].concat());
    assert_eq!(page.matches("<script").count(), 2);
    assert!(page.len() < 60_000 && !page.contains(['\u{202e}', '\u{2028}', '\u{0}', '\u{1b}']));
    let found = data_of(&page);
    assert_eq!(found["names"][0], "</script><script>alert(1)</script>");
    assert_eq!(found["names"][1], "\"'`${x}\\");
    assert_eq!(found["names"][2], "\\u{202e}drow\\u{2066}");
    assert_eq!(found["names"][6], "(empty)");
    assert_eq!(found["ids"].as_array().unwrap().len(), 10, "rows without a direction are left out");
    let svg = directory.path().join("odd.svg");
    data(&[&args[..], &[svg.to_str().unwrap()]].concat());
    let text = std::fs::read_to_string(&svg).unwrap();
    roxmltree::Document::parse(&text).unwrap();
}

#[test]
fn what_cannot_be_drawn_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out.html");
    let out = out.to_str().unwrap();
    let said = |args: &[&str], code: i32, part: &str| {
        let message = failure(&[&["plot"], args].concat(), code);
        assert!(message.contains(part), "{message}");
    };
    said(&[MINILM, "-o", "out.png"], 2, "name it .html or .svg");
    said(&[MINILM, "-o", "-", "--json"], 2, "cannot both");
    said(&[MINILM, "--tokens", "frnace", "-o", out], 1, "did you mean \"france\"?");
    said(&[MINILM, "--top", "30000", "-o", out], 1, "at most 20000");
    said(&[MINILM, "--rows", "5:2", "-o", out], 1, "2003 rows");
    said(&[MINILM, "--perplexity", "1", "-o", out], 2, "2 to 200");
    said(&[MINILM, "--clusters", "13", "-o", out], 2, "13");
    said(&["fixtures/v1/f32.emb", "--tokens", "cat", "-o", out], 1, "vocabulary");
    said(&["fixtures/v1/no-rows.emb", "-o", out], 1, "no rows");
    let zeros = directory.path().join("zeros.emb");
    let mut writer = WriteOptions::new(2, DType::F32).create(&zeros).unwrap();
    writer.push(&[0f32; 6]).unwrap();
    writer.finish().unwrap();
    said(&[zeros.to_str().unwrap(), "-o", out], 1, "has a direction");
    assert!(std::fs::read_dir(directory.path()).unwrap().count() == 1, "nothing is left behind");
    assert_eq!(Table::load(&zeros).unwrap().vocab(), 3);
}
