//! The report as a page that needs nothing else.

use std::fmt::Write as _;
use std::io::Write as _;

use anyhow::Result;
use embmap::inspect::Duplicates;

use super::super::console::size;
use super::super::html::escaped;
use super::super::output::Output;
use super::super::tensors::file_name;
use super::lines::{self, Line};
use super::report::{Report, figure};

const PAGE: &str = include_str!("page.html");

/// The histogram's picture: its size, and the room for names below.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 180.0;
const BELOW: f64 = 22.0;

pub(super) fn write(mut out: Output, report: &Report<'_>) -> Result<()> {
    out.write_all(page(report).as_bytes())?;
    out.finish()
}

/// The page. What is put in is escaped, so that no mark is found in it.
fn page(report: &Report<'_>) -> String {
    PAGE.replace("<!--TITLE-->", &escaped(&file_name(report.path)))
        .replace("<!--CARDS-->", &cards(report))
        .replace("<!--BODY-->", &body(report))
}

fn cards(report: &Report<'_>) -> String {
    let (table, found) = (report.table, report.found);
    let mut cards = vec![
        (table.vocab().to_string(), "rows".to_owned()),
        (table.dim().to_string(), format!("elements a row, {}", table.dtype())),
        (size(table.vocab().saturating_mul(table.row_bytes())), "of rows".to_owned()),
        (figure(found.norms.mean), "mean length".to_owned()),
    ];
    if let Some(directions) = &found.directions {
        cards.push((figure(directions.effective_dim), "effective dimension".to_owned()));
        cards.push((figure(directions.mean_cosine), "mean cosine".to_owned()));
    }
    let mut all = String::new();
    for (value, name) in cards {
        let (value, name) = (escaped(&value), escaped(&name));
        // Writing to a string cannot fail.
        _ = write!(all, "<div class=card><b>{value}</b><span>{name}</span></div>");
    }
    all
}

fn body(report: &Report<'_>) -> String {
    let (mut body, found) = (String::new(), report.found);
    let mut findings = String::new();
    for finding in &report.findings {
        // Writing to a string cannot fail.
        _ = write!(findings, "<li>{}</li>", escaped(finding));
    }
    if findings.is_empty() {
        body.push_str("<p class=fine>Nothing out of the ordinary.</p>");
    } else {
        section(&mut body, "Worth a look", &format!("<ul class=findings>{findings}</ul>"));
    }
    if !found.norms.histogram.is_empty() {
        let content = histogram(report) + &pairs(&lines::norms(report));
        section(&mut body, "Lengths of rows", &content);
    }
    let content = pairs(&lines::rows(report)) + &groups(report, &found.duplicates);
    section(&mut body, "Rows", &content);
    if let Some(of) = &found.directions {
        let name = format!("Directions, of {}", report.sampled(of.rows));
        section(&mut body, &name, &pairs(&lines::directions(report)));
    }
    if !found.costs.is_empty() && found.cost_rows > 0 {
        let name = format!("Smaller dtypes, of {}", report.sampled(found.cost_rows));
        section(&mut body, &name, &costs(report));
    }
    if found.values.count > 0 {
        section(&mut body, "Elements", &pairs(&lines::elements(report)));
    }
    if let Some(tokens) = &found.tokens {
        let name = format!("{} tokens", tokens.count);
        let content = pairs(&lines::tokens(report, tokens)) + &groups(report, &tokens.duplicates);
        section(&mut body, &name, &content);
    }
    body
}

fn section(body: &mut String, name: &str, content: &str) {
    // Writing to a string cannot fail.
    _ = write!(body, "<section><h2>{}</h2>{content}</section>", escaped(name));
}

/// Names and what they stand for.
fn pairs(lines: &[Line]) -> String {
    let mut list = String::from("<dl>");
    for (name, value) in lines {
        // Writing to a string cannot fail.
        _ = write!(list, "<dt>{}</dt><dd>{}</dd>", escaped(name), escaped(value));
    }
    list + "</dl>"
}

fn groups(report: &Report<'_>, found: &Duplicates) -> String {
    if found.largest.is_empty() {
        return String::new();
    }
    let mut table = String::from("<table><tr><th class=number>times</th><th>rows</th></tr>");
    for group in &found.largest {
        let rows = escaped(&report.rows(&group.ids, group.count));
        _ = write!(table, "<tr><td class=number>{}</td><td>{rows}</td></tr>", group.count);
    }
    table + "</table>"
}

/// The histogram of lengths as a picture.
#[expect(clippy::cast_precision_loss, reason = "places in a picture")]
fn histogram(report: &Report<'_>) -> String {
    let bins = &report.found.norms.histogram;
    let most = bins.iter().map(|bin| bin.rows).max().unwrap_or(1).max(1);
    let step = WIDTH / bins.len().max(1) as f64;
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {}\" role=img aria-label=\"How many rows have which length\">",
        HEIGHT + BELOW
    );
    for (index, bin) in bins.iter().enumerate() {
        let height = (HEIGHT - 8.0) * bin.rows as f64 / most as f64;
        let (x, y, width) = (index as f64 * step + 1.0, HEIGHT - height, step - 2.0);
        let tip = format!("{} to {}: {} rows", figure(bin.from), figure(bin.to), bin.rows);
        _ = write!(
            svg,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"2\"><title>{tip}</title></rect>",
        );
    }
    let names = bins.len().clamp(1, 6);
    for index in 0..=names {
        let at = index as f64 / names as f64;
        let anchor = match index {
            0 => "start",
            index if index == names => "end",
            _ => "middle",
        };
        let edge = index * bins.len() / names;
        let norm = bins.get(edge).map(|bin| bin.from).or(bins.last().map(|bin| bin.to));
        let value = figure(norm.unwrap_or(0.0));
        let (x, y) = (WIDTH * at, HEIGHT + BELOW - 6.0);
        _ = write!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{value}</text>");
    }
    svg + "</svg>"
}

fn costs(report: &Report<'_>) -> String {
    let mut table = String::from("<table>");
    for (index, line) in lines::costs(report).iter().enumerate() {
        let tag = if index == 0 { "th" } else { "td" };
        table.push_str("<tr>");
        for (column, cell) in line.iter().enumerate() {
            let class = if column == 0 { "" } else { " class=number" };
            _ = write!(table, "<{tag}{class}>{}</{tag}>", escaped(cell));
        }
        table.push_str("</tr>");
    }
    table + "</table>"
}
