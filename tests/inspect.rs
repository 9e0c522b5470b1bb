//! Inspections against naive ones, and the command as a script sees it.
#![cfg(feature = "cli")]
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::float_cmp
)]

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, Output};

use embmap::{
    Access, Codec, ConvertOptions, DType, Error, InspectOptions, Inspection, OpenOptions, Table,
    WriteOptions, convert,
};
use serde_json::Value;

const MINILM: &str = "fixtures/minilm-2k";

/// A number that looks random.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

/// Rows as they come: some of zeros, some repeated, some with what is no number.
fn odd_rows(count: usize, dim: usize) -> Vec<Vec<f32>> {
    let mut state = 7;
    let mut rows: Vec<Vec<f32>> = Vec::new();
    for at in 0..count {
        let fresh =
            (0..dim).map(|_| (next(&mut state) % 2001) as f32 / 1000.0 - 1.0).collect::<Vec<_>>();
        rows.push(match at % 50 {
            7 => vec![0.0; dim],
            11 => rows[at - 5].clone(),
            13 => vec![0.25; dim],
            17 if at > 100 => {
                let mut row = fresh;
                row[at % dim] = if at % 100 == 17 { f32::NAN } else { f32::INFINITY };
                row
            }
            19 => fresh.iter().map(|value| value * 1e5).collect(),
            _ => fresh,
        });
    }
    rows
}

fn write(path: &Path, rows: &[Vec<f32>], options: WriteOptions) {
    let mut writer = options.create(path).unwrap();
    for row in rows {
        writer.push(row).unwrap();
    }
    writer.finish().unwrap();
}

fn norm(row: &[f32]) -> f64 {
    row.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt()
}

/// Compares with what a plain loop finds.
fn compare(found: &Inspection, rows: &[Vec<f32>]) {
    let ids = |is: &dyn Fn(&[f32]) -> bool| -> Vec<u64> {
        (0..).zip(rows).filter(|(_, row)| is(row)).map(|(id, _)| id).collect()
    };
    let zeros = ids(&|row| row.iter().all(|value| *value == 0.0));
    let odd = ids(&|row| row.iter().any(|value| !value.is_finite()));
    assert_eq!(found.rows, rows.len() as u64);
    assert_eq!(found.zero_rows.count, zeros.len() as u64);
    assert_eq!(found.zero_rows.first, zeros[..zeros.len().min(10)]);
    assert_eq!(found.non_finite_rows.count, odd.len() as u64);
    assert_eq!(found.non_finite_rows.first, odd[..odd.len().min(10)]);
    let all = || rows.iter().flatten();
    assert_eq!(found.nan, all().filter(|value| value.is_nan()).count() as u64);
    assert_eq!(found.infinite, all().filter(|value| value.is_infinite()).count() as u64);

    let mut counts: HashMap<Vec<u32>, u64> = HashMap::new();
    for row in rows.iter().filter(|row| row.iter().any(|value| *value != 0.0)) {
        *counts.entry(row.iter().map(|value| value.to_bits()).collect()).or_default() += 1;
    }
    let repeated: Vec<u64> = counts.into_values().filter(|count| *count > 1).collect();
    assert!(found.duplicates.exact);
    assert_eq!(found.duplicates.groups, repeated.len() as u64);
    assert_eq!(found.duplicates.rows, repeated.iter().map(|count| count - 1).sum::<u64>());
    let largest = found.duplicates.largest.first().map(|group| group.count);
    assert_eq!(largest, repeated.iter().max().copied());

    let finite: Vec<&Vec<f32>> =
        rows.iter().filter(|row| row.iter().all(|value| value.is_finite())).collect();
    let values = || finite.iter().copied().flatten().map(|value| f64::from(*value));
    let count = values().count() as f64;
    assert_eq!(found.values.count as f64, count);
    assert_eq!(found.values.min, values().fold(f64::INFINITY, f64::min));
    assert_eq!(found.values.max, values().fold(f64::NEG_INFINITY, f64::max));
    let mean = values().sum::<f64>() / count;
    assert!((found.values.mean - mean).abs() < 1e-9 * found.values.max);
    let variance = values().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
    assert!((found.values.std / variance.sqrt() - 1.0).abs() < 1e-9);
    let beyond = values().filter(|value| value.abs() >= 65_520.0).count() as u64;
    assert_eq!(found.values.beyond_f16, beyond);
    assert_eq!(found.values.zeros, values().filter(|value| *value == 0.0).count() as u64);

    let mut norms: Vec<f64> = finite.iter().map(|row| norm(row)).filter(|it| *it > 0.0).collect();
    norms.sort_by(f64::total_cmp);
    assert_eq!(found.norms.count, finite.len() as u64);
    assert!((found.norms.max / norms[norms.len() - 1] - 1.0).abs() < 1e-12);
    assert!((found.norms.min / norms[0] - 1.0).abs() < 1e-12);
    let mean = norms.iter().sum::<f64>() / norms.len() as f64;
    assert!((found.norms.mean / mean - 1.0).abs() < 1e-12);
    let binned: u64 = found.norms.histogram.iter().map(|bin| bin.rows).sum();
    assert_eq!(binned, norms.len() as u64);
}

#[test]
fn inspections_are_those_of_a_plain_loop_whatever_the_threads() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("odd.emb");
    // So many that there are several windows.
    let rows = odd_rows(30_000, 96);
    write(&path, &rows, WriteOptions::new(96, DType::F32));
    let table = OpenOptions::new().access(Access::Read).open(&path).unwrap();
    let found = table.inspect(&InspectOptions::new()).unwrap();
    compare(&found, &rows);
    for threads in [1, 3] {
        let again = table.inspect(&InspectOptions::new().threads(threads)).unwrap();
        assert_eq!(again, found);
    }
    // A sample leaves what is counted as it is, and gives about the same directions.
    let table = Table::load(MINILM).unwrap();
    let found = table.inspect(&InspectOptions::new()).unwrap();
    let some = table.inspect(&InspectOptions::new().sample(384 * 1000).seed(5)).unwrap();
    assert_eq!((found.cost_rows, some.cost_rows), (2003, 1000));
    assert_eq!((&some.norms, &some.tokens), (&found.norms, &found.tokens));
    let ratio = some.directions.unwrap().effective_dim / found.directions.unwrap().effective_dim;
    assert!((0.95..1.05).contains(&ratio), "{ratio}");
}

#[test]
fn repeated_rows_are_estimated_where_memory_is_short() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("many.emb");
    let rows: Vec<Vec<f32>> = (0..20_000u32)
        .map(|at| vec![if at % 10 == 3 { -1.0 } else { (at - at % 2) as f32 + 1.0 }, 1.0])
        .collect();
    write(&path, &rows, WriteOptions::new(2, DType::F32));
    let table = Table::load(&path).unwrap();
    let exact = table.inspect(&InspectOptions::new()).unwrap();
    compare(&exact, &rows);
    let found = table.inspect(&InspectOptions::new().memory(16 << 10)).unwrap();
    assert!(!found.duplicates.exact && found.duplicates.share < 1.0);
    let ratio = found.duplicates.rows as f64 / exact.duplicates.rows as f64;
    assert!((0.8..1.2).contains(&ratio), "{ratio}");
    // A tenth of the table is one row: that is not left to chance.
    assert_eq!(found.duplicates.largest[0].count, 2000);
    assert_eq!(found.duplicates.largest[0].ids, [3, 13, 23, 33]);
}

#[test]
fn any_codec_and_order_is_inspected() {
    let directory = tempfile::tempdir().unwrap();
    let plain = Table::load(MINILM).unwrap();
    let expected = plain.inspect(&InspectOptions::new()).unwrap();
    let effective = |found: &Inspection| found.directions.as_ref().unwrap().effective_dim;
    for dtype in [DType::F32, DType::F64, DType::BF16, DType::I8, DType::F8E4M3, DType::Q8_0] {
        let path = directory.path().join(format!("{dtype}.emb"));
        convert(&plain, &path, &ConvertOptions::new().dtype(dtype)).unwrap();
        let table = Table::load(&path).unwrap();
        let found = table.inspect(&InspectOptions::new()).unwrap();
        assert!((found.norms.mean / expected.norms.mean - 1.0).abs() < 1e-2, "{dtype}");
        assert!((effective(&found) / effective(&expected) - 1.0).abs() < 1e-2, "{dtype}");
        assert_eq!(found.tokens, expected.tokens);
        if dtype == DType::F32 || dtype == DType::F64 {
            // Nothing is lost on the way there.
            assert!((found.values.std / expected.values.std - 1.0).abs() < 1e-12);
            let exact = |found: &Inspection| {
                let values = found.values;
                (values.min, values.max, values.smallest, values.zeros)
            };
            assert_eq!(exact(&found), exact(&expected));
            let f16 = found.costs.iter().find(|cost| cost.dtype == DType::F16).unwrap();
            assert_eq!(f16.loss.unwrap().max_error, 0.0);
        }
        if dtype == DType::I8 {
            assert!(matches!(table.codec(), Codec::Scaled(_)));
            let i8 = expected.costs.iter().find(|cost| cost.dtype == DType::I8).unwrap();
            let errors = i8.loss.unwrap();
            assert!(errors.max_error > 0.0 && errors.min_cosine > 0.999);
        }
    }
    // Rows in an order of their own are named by their ids.
    let path = directory.path().join("order.emb");
    let rows = odd_rows(200, 8);
    let order = [150u64, 7, 57, 3, 111];
    // Rows are written as they will lie.
    let others = (0..200).filter(|id| !order.contains(id));
    let lying: Vec<_> =
        order.into_iter().chain(others).map(|id| rows[id as usize].clone()).collect();
    write(&path, &lying, WriteOptions::new(8, DType::F32).order(order));
    let table = Table::load(&path).unwrap();
    assert!(table.info().placed_rows > 0);
    compare(&table.inspect(&InspectOptions::new()).unwrap(), &rows);
    for odd in ["no-rows", "f64", "norms", "row-order", "f16-tokens"] {
        let table = Table::load(format!("fixtures/v1/{odd}.emb")).unwrap();
        let found = table.inspect(&InspectOptions::new()).unwrap();
        assert_eq!(found.rows, table.vocab(), "{odd}");
    }
}

#[test]
fn an_inspection_can_be_broken_off() {
    let table = Table::load(MINILM).unwrap();
    let mut calls = 0;
    let stop = |_, _| {
        calls += 1;
        ControlFlow::Break(())
    };
    let result = table.inspect_while(&InspectOptions::new(), stop);
    assert!(matches!(result, Err(Error::Interrupted)));
}

fn run(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_embmap"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(args).output().unwrap()
}

fn data(args: &[&str]) -> String {
    let output = run(args);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_command_reports_as_text_json_and_page() {
    let text = data(&["inspect", MINILM]);
    for part in
        ["nothing out of the ordinary", "4 \"[MASK]\" (0.2449)", "178.1 of 384", "█", "q8_0"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    let json: Value = serde_json::from_str(&data(&["inspect", MINILM, "--json"])).unwrap();
    assert_eq!(json["norms"]["longest"][0]["id"], 2);
    assert_eq!(json["tokens"]["rows_without"]["count"], 0);
    assert_eq!(json["duplicates"]["exact"], true);
    assert_eq!(json["costs"].as_array().unwrap().len(), 3);
    let page = data(&["inspect", MINILM, "--html", "-"]);
    assert!(page.starts_with("<!doctype html>") && page.contains("prefers-color-scheme: dark"));
    assert!(!page.contains("<!--") && !page.contains("src=") && !page.contains("href="));
    assert_eq!(page.matches("<rect").count(), 24);
}

#[test]
fn hostile_tables_are_reported_in_words() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("odd<script>.emb");
    let mut rows = odd_rows(120, 8);
    let tokens = (0..118u32).map(|at| match at {
        7 => Some("</script><script>alert(1)</script>".to_owned()),
        13 => Some("\u{202e}\u{1b}[31m\"'".repeat(40)),
        20 => None,
        21 => Some(String::new()),
        40 => Some("t39".to_owned()),
        at => Some(format!("t{at}")),
    });
    rows[30] = vec![3e9; 8];
    let mut writer = WriteOptions::new(8, DType::F32).create(&path).unwrap();
    for row in &rows {
        writer.push(row).unwrap();
    }
    for token in tokens {
        writer.push_token(token.as_deref()).unwrap();
    }
    writer.finish().unwrap();
    let path = path.to_str().unwrap();
    let text = data(&["inspect", path]);
    assert!(text.chars().all(|c| c == '\n' || !c.is_control() && c != '\u{202e}'), "{text:?}");
    for part in [
        "1 row with NaN or infinite elements",
        "3 rows of zeros",
        "3 rows without a token",
        "1 token that an earlier row has",
        "beyond the range of f16",
        "times as long as the median",
        "7 \"</script>",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let page = data(&["inspect", path, "--html", "-"]);
    assert!(!page.contains("<script") && !page.contains('\u{202e}'), "{page}");
    let file = directory.path().join("report.html");
    let to = file.to_str().unwrap();
    assert_eq!(data(&["inspect", path, "--html", to]), "");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), page);
    assert_eq!(run(&["inspect", path, "--html", to]).status.code(), Some(1), "it is there");
    data(&["inspect", path, "--html", to, "--force"]);
    assert_eq!(run(&["inspect", path, "--html", "-", "--json"]).status.code(), Some(2));
    // An empty table has nothing to tell, and tells that.
    let none = data(&["inspect", "fixtures/v1/no-rows.emb"]);
    assert!(none.contains("the table has no rows"), "{none}");
    data(&["inspect", "fixtures/v1/no-rows.emb", "--json", "--html", file.to_str().unwrap(), "-f"]);
}
