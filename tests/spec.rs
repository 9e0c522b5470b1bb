//! The specification and the code say the same.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::float_cmp,
    clippy::print_stderr
)]

use embmap::DType;
use embmap::format::{FIELDS, SECTION_KINDS};

fn specification() -> String {
    std::fs::read_to_string("docs/format.md").unwrap()
}

/// The cells of the rows of the table that follows a heading, without its head.
fn table_under(heading: &str) -> Vec<Vec<String>> {
    let text = specification();
    let (_, after) =
        text.split_once(&format!("{heading}\n")).unwrap_or_else(|| panic!("no {heading:?}"));
    let rows = after.lines().skip_while(|line| !line.starts_with('|'));
    let rows = rows.take_while(|line| line.starts_with('|')).skip(2);
    rows.map(|row| {
        row.trim_matches('|')
            .split('|')
            .map(|cell| cell.trim().trim_matches('`').to_owned())
            .collect()
    })
    .collect()
}

fn number(cell: &str) -> usize {
    cell.replace(',', "").parse().unwrap()
}

#[test]
fn the_header_table_is_the_code_s() {
    let written: Vec<(String, usize, usize)> = table_under("## The header page")
        .into_iter()
        .map(|row| (row[2].clone(), number(&row[0]), number(&row[1])))
        .collect();
    let coded: Vec<(String, usize, usize)> =
        FIELDS.iter().map(|field| (field.name.to_owned(), field.offset, field.bytes)).collect();
    assert_eq!(written, coded);
}

#[test]
fn the_section_kinds_are_the_code_s() {
    let heading = "refuses the file. A known kind has the critical bit of this table:";
    let written: Vec<(u32, String, bool)> = table_under(heading)
        .into_iter()
        .map(|row| (row[0].parse().unwrap(), row[1].clone(), row[2] == "yes"))
        .collect();
    let coded: Vec<(u32, String, bool)> = SECTION_KINDS
        .iter()
        .map(|(code, name, critical)| (*code, (*name).to_owned(), *critical))
        .collect();
    assert_eq!(written, coded);
}

#[test]
fn the_dtypes_are_the_code_s() {
    let written: Vec<(String, usize, usize)> = table_under("### dtype")
        .into_iter()
        .map(|row| (row[1].clone(), number(&row[2]), number(&row[3])))
        .collect();
    let coded: Vec<(String, usize, usize)> = DType::ALL
        .iter()
        .map(|dtype| (dtype.name().to_owned(), dtype.block_elements(), dtype.block_bytes()))
        .collect();
    assert_eq!(written, coded);
}
