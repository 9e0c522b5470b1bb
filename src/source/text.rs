//! A line of text: a token, then the numbers of its row. What word2vec, fastText and `GloVe`
//! write.
//!
//! Numbers are read with the crate `fast-float2`, which rounds once, to nearest. The token is what
//! stands before the last `dim` fields, so that it may hold spaces.

use std::borrow::Cow;

use super::stream::{Batch, TokenList};
use crate::dtype::{DType, Element};

/// The longest token, as the file that is written has it.
pub(super) const LONGEST_TOKEN: usize = 1 << 20;

/// The bytes of a line that a number may take, white space included.
const LONGEST_NUMBER: usize = 64;

/// The longest line of all: a bound for memory where the number of columns is not known yet.
pub(crate) const LONGEST_LINE: usize = 16 << 20;

/// The lines that are looked at to find the number of columns.
const LINES_LOOKED_AT: usize = 1000;

/// How bytes become characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum TextEncoding {
    /// UTF-8; another byte is an error that names the line.
    #[default]
    Utf8,
    /// UTF-8, and U+FFFD in place of what is not.
    Lossy,
    /// ISO 8859-1: each byte is the character of its number.
    Latin1,
}

impl TextEncoding {
    /// The characters of some bytes; an error is a reason.
    pub(super) fn decode(self, bytes: &[u8]) -> Result<Cow<'_, str>, String> {
        match self {
            TextEncoding::Utf8 => std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|error| {
                format!(
                    "the token is not UTF-8 from its byte {} on: \"{}\"; accept it with \
                     --encoding lossy or latin1 (`ImportOptions::encoding`)",
                    error.valid_up_to(),
                    shown(bytes)
                )
            }),
            TextEncoding::Lossy => Ok(String::from_utf8_lossy(bytes)),
            TextEncoding::Latin1 => Ok(bytes.iter().map(|byte| char::from(*byte)).collect()),
        }
    }
}

/// What every line is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LineForm {
    pub(crate) dim: usize,
    /// `f32` or `f64`.
    pub(crate) dtype: DType,
    pub(crate) encoding: TextEncoding,
    /// True where the caller said how many columns there are. A token that ends in a number is
    /// believed then; otherwise it looks like a line of one number too many.
    pub(crate) dim_is_sure: bool,
}

impl LineForm {
    /// The longest line that is read.
    pub(crate) fn longest(&self) -> usize {
        let numbers = self.dim.saturating_mul(LONGEST_NUMBER);
        numbers.saturating_add(LONGEST_TOKEN).min(LONGEST_LINE)
    }

    /// Adds a line without its end to a batch. An error is a reason, and leaves the batch with
    /// part of a row.
    pub(crate) fn push(&self, line: &[u8], batch: &mut Batch) -> Result<(), String> {
        let done = match self.dtype {
            DType::F64 => push::<f64>(self, line, batch),
            _ => push::<f32>(self, line, batch),
        };
        batch.count += usize::from(done.is_ok());
        done
    }
}

/// A number that text can be read as.
trait Number: Element + fast_float2::FastFloat {}

impl Number for f32 {}
impl Number for f64 {}

fn push<T: Number>(form: &LineForm, line: &[u8], batch: &mut Batch) -> Result<(), String> {
    let start = batch.rows.len();
    if let Some(token) = quickly::<T>(form.dim, line, batch) {
        return push_token(form, token, &mut batch.tokens);
    }
    batch.rows.truncate(start);
    let fields = Fields::split(form, line)?;
    push_token(form, fields.token, &mut batch.tokens)?;
    for (column, field) in fields.numbers.enumerate() {
        let number: T = fast_float2::parse(field).map_err(|_| not_a_number(column, field))?;
        push_number(number, field, batch).map_err(|()| too_large::<T>(column, field))?;
    }
    Ok(())
}

/// Reads a line whose token has no spaces and whose fields have one between them, which is
/// nearly all lines. Gives the token, or `None` where the line is another.
fn quickly<'a, T: Number>(dim: usize, line: &'a [u8], batch: &mut Batch) -> Option<&'a [u8]> {
    let token = memchr::memchr2(b' ', b'\t', line)?;
    let mut rest = &line[token..];
    let non_finite = batch.non_finite;
    for _ in 0..dim {
        let ([b' ' | b'\t'], field) = rest.split_at_checked(1)? else { return None };
        let (number, length) = fast_float2::parse_partial::<T, _>(field).ok()?;
        if push_number(number, &field[..length], batch).is_err() {
            batch.non_finite = non_finite;
            return None;
        }
        rest = &field[length..];
    }
    if rest.trim_ascii_start().is_empty() {
        return Some(&line[..token]);
    }
    batch.non_finite = non_finite;
    None
}

/// Adds a number to the rows. One that is infinite and was not said to be is too large.
#[inline]
fn push_number<T: Number>(number: T, field: &[u8], batch: &mut Batch) -> Result<(), ()> {
    if number.is_nan() || number.is_infinite() {
        if field.iter().any(u8::is_ascii_digit) {
            return Err(());
        }
        batch.non_finite += 1;
    }
    batch.rows.extend_from_slice(bytemuck::bytes_of(&number));
    Ok(())
}

/// A line, cut from its end.
struct Fields<'a, I> {
    token: &'a [u8],
    numbers: I,
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

impl<'a> Fields<'a, ()> {
    fn split(
        form: &LineForm,
        line: &'a [u8],
    ) -> Result<Fields<'a, impl Iterator<Item = &'a [u8]> + use<'a>>, String> {
        let line = line.trim_ascii_end();
        // From the right: `dim` numbers, each with white space before it.
        let mut end = line.len();
        for _ in 0..form.dim {
            let field = line[..end].iter().rposition(|byte| is_space(*byte));
            let Some(space) = field else { return Err(too_few(form.dim, line)) };
            end = space;
            // All the spaces but the first, which ends the field before it.
            while end > 0 && is_space(line[end - 1]) {
                end -= 1;
            }
        }
        let (mut token, numbers) = line.split_at(end);
        if token.is_empty() {
            // Nothing stands before the numbers but the one space that follows a token: the
            // token is empty, or made of the spaces before that one.
            let spaces = numbers.iter().take_while(|byte| is_space(**byte)).count();
            token = &numbers[..spaces - 1];
        }
        if !form.dim_is_sure && is_number_too_many(token) {
            return Err(too_many(form.dim, line));
        }
        let numbers = numbers.split(|byte| is_space(*byte)).filter(|field| !field.is_empty());
        Ok(Fields { token, numbers })
    }
}

/// True for a token of several words of which the last is a number.
fn is_number_too_many(token: &[u8]) -> bool {
    let Some(space) = token.iter().rposition(|byte| is_space(*byte)) else { return false };
    let last = &token[space + 1..];
    last.iter().any(u8::is_ascii_digit) && fast_float2::parse::<f64, _>(last).is_ok()
}

fn push_token(form: &LineForm, token: &[u8], tokens: &mut TokenList) -> Result<(), String> {
    if token.len() > LONGEST_TOKEN {
        return Err(format!(
            "the token has {} bytes, expected at most {LONGEST_TOKEN}",
            token.len()
        ));
    }
    tokens.push(Some(&form.encoding.decode(token)?));
    Ok(())
}

/// The number of columns of lines that do not say it: the most common number of fields at their
/// ends that are numbers. `None` where no line has any.
///
/// A line may have more where its token ends in a number, and fewer where it is damaged: so the
/// most common number and not the first.
pub(crate) fn columns(text: &[u8]) -> Option<usize> {
    let mut counts: Vec<(usize, usize)> = Vec::new();
    for line in text.split(|byte| *byte == b'\n').take(LINES_LOOKED_AT) {
        let Some(count) = numbers_at_end(line.trim_ascii_end()) else { continue };
        match counts.iter_mut().find(|(other, _)| *other == count) {
            Some((_, lines)) => *lines += 1,
            None => counts.push((count, 1)),
        }
    }
    // Of two that are as common, the lower one: tokens with spaces are odder than without.
    counts
        .into_iter()
        .max_by_key(|(count, lines)| (*lines, usize::MAX - count))
        .map(|(count, _)| count)
}

fn numbers_at_end(line: &[u8]) -> Option<usize> {
    let fields = line.split(|byte| is_space(*byte));
    let before_last = fields.clone().filter(|field| !field.is_empty()).count();
    // A line that starts with a space has an empty token; any other has one that is a field.
    let most = if line.first().is_some_and(|byte| is_space(*byte)) {
        before_last
    } else {
        before_last.checked_sub(1)?
    };
    let fields = fields.rev().filter(|field| !field.is_empty());
    let numbers = fields.take_while(|field| fast_float2::parse::<f64, _>(field).is_ok());
    Some(numbers.take(most).count()).filter(|count| *count > 0)
}

fn too_few(dim: usize, line: &[u8]) -> String {
    let fields = line.split(|byte| is_space(*byte)).filter(|field| !field.is_empty()).count();
    format!("expected a token and {dim} numbers, found {fields} fields: \"{}\"", shown(line))
}

fn too_many(dim: usize, line: &[u8]) -> String {
    format!(
        "expected a token and {dim} numbers, found a number more: \"{}\"; where the token is meant \
         to end in a number, say so with --dim {dim} (`ImportOptions::dim`)",
        shown(line)
    )
}

fn not_a_number(column: usize, field: &[u8]) -> String {
    format!("expected a number in column {column}, found \"{}\"", shown(field))
}

fn too_large<T: Element>(column: usize, field: &[u8]) -> String {
    let way_out = if T::DTYPE == DType::F64 {
        String::new()
    } else {
        "; read the numbers as f64 (--dtype f64, `ImportOptions::text_dtype`)".to_owned()
    };
    let dtype = T::DTYPE;
    format!("the number in column {column} is too large for {dtype}: \"{}\"{way_out}", shown(field))
}

/// The start of some bytes for a message, escaped.
pub(super) fn shown(bytes: &[u8]) -> String {
    const MOST: usize = 40;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(MOST)]);
    let more = if bytes.len() > MOST { "..." } else { "" };
    format!("{}{more}", text.escape_debug())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn form(dim: usize) -> LineForm {
        LineForm { dim, dtype: DType::F32, encoding: TextEncoding::Utf8, dim_is_sure: false }
    }

    /// The token and the numbers of a line, or why there are none.
    fn read(form: &LineForm, line: &[u8]) -> Result<(String, Vec<f32>), String> {
        let mut batch = Batch::default();
        form.push(line, &mut batch)?;
        assert_eq!(batch.count, 1);
        let token = batch.tokens.iter().next().unwrap().unwrap().to_owned();
        Ok((
            token,
            batch.rows.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect(),
        ))
    }

    fn row(token: &str, numbers: &[f32]) -> (String, Vec<f32>) {
        (token.to_owned(), numbers.to_vec())
    }

    /// The same as it is said in words: the last fields are the numbers, what stands before them
    /// and the space behind it is the token.
    fn naive(dim: usize, line: &str) -> Option<(String, Vec<u32>)> {
        let line = line.trim_end_matches([' ', '\t', '\r', '\n', '\x0c']);
        let is_space = |c: char| c == ' ' || c == '\t';
        let mut rest = line;
        let mut numbers = Vec::new();
        for _ in 0..dim {
            rest = rest.trim_end_matches(is_space);
            let start = rest.rfind(is_space)? + 1;
            let text = rest[start..].to_lowercase();
            let number: f32 = text.parse().ok()?;
            let said = ["nan", "inf", "infinity"].contains(&text.trim_start_matches(['-', '+']));
            if !number.is_finite() && !said {
                return None;
            }
            numbers.insert(0, number.to_bits());
            rest = &rest[..start];
        }
        let token = rest.trim_end_matches(is_space);
        let token = if token.is_empty() { &rest[..rest.len() - 1] } else { token };
        let last = token.rsplit(is_space).next().unwrap_or_default();
        let has_digit = last.contains(|c: char| c.is_ascii_digit());
        if token.contains(is_space) && has_digit && last.parse::<f64>().is_ok() {
            return None;
        }
        Some((token.to_owned(), numbers))
    }

    #[test]
    fn the_numbers_are_the_last_fields() {
        for (line, expected) in [
            (&b"the 0.5 -1"[..], row("the", &[0.5, -1.0])),
            (b"the 0.5 -1 ", row("the", &[0.5, -1.0])),
            (b"the\t0.5\t-1\r", row("the", &[0.5, -1.0])),
            (b"the  0.5   -1", row("the", &[0.5, -1.0])),
            (b"new york 0.5 -1", row("new york", &[0.5, -1.0])),
            (b". . . 1e-3 +2", row(". . .", &[1e-3, 2.0])),
            (b" 0.5 -1", row("", &[0.5, -1.0])),
            (b"   0.5 -1", row("  ", &[0.5, -1.0])),
            ("\u{a0} 0.5 -1".as_bytes(), row("\u{a0}", &[0.5, -1.0])),
            ("a\u{2028}b .5 5.".as_bytes(), row("a\u{2028}b", &[0.5, 5.0])),
            (b"boeing 747s 0.5 -1", row("boeing 747s", &[0.5, -1.0])),
            (b"0.5 0.5 -1", row("0.5", &[0.5, -1.0])),
            (b"0 -0 1e-60", row("0", &[-0.0, 0.0])),
            (b"x inf -Infinity", row("x", &[f32::INFINITY, f32::NEG_INFINITY])),
            (b"x 16777217 0.1", row("x", &[16_777_216.0, 0.1])),
        ] {
            assert_eq!(
                read(&form(2), line).unwrap(),
                expected,
                "{:?}",
                line.escape_ascii().to_string()
            );
        }
        let (_, numbers) = read(&form(2), b"x nan -NaN").unwrap();
        assert!(numbers.iter().all(|number| number.is_nan()));
    }

    #[test]
    fn what_is_no_row_is_refused_with_what_was_found() {
        let refused = |line: &[u8], part: &str| {
            let reason = read(&form(2), line).unwrap_err();
            assert!(reason.contains(part), "{reason}");
        };
        refused(b"the 0.5", "a token and 2 numbers, found 2 fields: \"the 0.5\"");
        refused(b"0.5 -1", "found 2 fields");
        refused(b"the", "found 1 fields");
        refused(b"the 0.5 minus", "column 1, found \"minus\"");
        refused(b"the 1,5 2", "column 0, found \"1,5\"");
        refused(b"the 0x10 2", "column 0");
        refused(b"the 1_0 2", "column 0");
        refused(b"the 0.1 0.5 -1", "a number more");
        refused(b"web 2.0 0.5 -1", "--dim 2");
        refused(b"boeing 747 0.5 -1", "--dim 2");
        refused(b"the 1e39 1", "too large for f32");
        refused(b"the 0.5 -1e400", "column 1 is too large");
        refused(b"a\xffb 0.5 -1", "not UTF-8 from its byte 1");
        refused(b"\x1b[31m 0.5 x", "column 1");
        let sure = LineForm { dim_is_sure: true, ..form(2) };
        assert_eq!(read(&sure, b"web 2.0 0.5 -1").unwrap(), row("web 2.0", &[0.5, -1.0]));
        let wide = LineForm { dtype: DType::F64, ..form(2) };
        let mut batch = Batch::default();
        wide.push(b"the 0.1 1e300", &mut batch).unwrap();
        assert_eq!(batch.rows, [0.1f64.to_le_bytes(), 1e300f64.to_le_bytes()].concat());
        assert!(wide.push(b"the 0.1 1e400", &mut batch).unwrap_err().ends_with("\"1e400\""));
        let token = [&vec![b'x'; LONGEST_TOKEN + 1][..], b" 1 2"].concat();
        refused(&token, "1048577 bytes, expected at most 1048576");
        assert!(read(&form(2), &token[1..]).is_ok());
    }

    #[test]
    fn other_encodings_are_taken_where_they_are_asked_for() {
        let read_as =
            |encoding, line: &[u8]| read(&LineForm { encoding, ..form(1) }, line).unwrap().0;
        assert_eq!(read_as(TextEncoding::Lossy, b"a\xffb 1"), "a\u{fffd}b");
        assert_eq!(read_as(TextEncoding::Latin1, b"caf\xe9 1"), "café");
        assert_eq!(read_as(TextEncoding::Lossy, "café 1".as_bytes()), "café");
    }

    #[test]
    fn columns_are_those_of_most_lines() {
        let of = |text: &str| columns(text.as_bytes());
        assert_eq!(of("the 1 2\nof 3 4\n"), Some(2));
        assert_eq!(of("the 1 2\r\nof 3 4"), Some(2));
        assert_eq!(of(". . 1 2\nof 3 4\nthe 1 2\n"), Some(2));
        assert_eq!(of("new york 1 2\nlos angeles 3 4\n"), Some(2));
        assert_eq!(of("boeing 747 1 2\nthe 3 4\nof 3 4\n"), Some(2));
        assert_eq!(of("the 1\nof 3 4\nto 3 4\n"), Some(2), "a damaged line is not the rule");
        assert_eq!(of("1 2 3\n4 5 6\n"), Some(2));
        assert_eq!(of(" 2 3\n5 6 7\n"), Some(2));
        assert_eq!(of("5 6 7\n 1 2 3\n"), Some(2), "of two the lower");
        assert_eq!(of("the cat\nsat\n\n"), None);
        assert_eq!(of(""), None);
    }

    #[test]
    fn no_line_is_longer_than_its_columns_can_be() {
        assert_eq!(form(300).longest(), LONGEST_TOKEN + 300 * 64);
        assert_eq!(form(usize::MAX).longest(), LONGEST_LINE);
    }

    fn number() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<f32>().prop_map(|x| x.to_string()),
            any::<f32>().prop_map(|x| format!("{x:e}")),
            (-2f32..2.0).prop_map(|x| format!("{x:.6}")),
            (-2f32..2.0).prop_map(|x| format!("{x:+.5}")),
            any::<f64>().prop_map(|x| x.to_string()),
            any::<i16>().prop_map(|x| x.to_string()),
            "[0-9]{0,30}\\.?[0-9]{0,30}(e-?[0-9]{1,2})?",
        ]
    }

    proptest! {
        #[test]
        fn lines_are_read_as_it_is_said_in_words(
            token in "(\\PC|[ \\t.0-9e-]){0,8}",
            numbers in proptest::collection::vec(number(), 0..5),
            space in "[ \\t]{1,2}",
            end in "[ \\t\\r]{0,2}",
        ) {
            let line = format!("{token}{space}{}{end}", numbers.join(&space));
            for dim in 1..5 {
                let ours = read(&form(dim), line.as_bytes()).ok();
                let bits = ours.map(|(token, row)| (token, row.into_iter().map(f32::to_bits).collect()));
                let naive = naive(dim, &line);
                // NaNs have one spelling and many bits.
                if !naive.as_ref().is_some_and(|(_, row)| row.iter().any(|x| f32::from_bits(*x).is_nan())) {
                    prop_assert_eq!(bits, naive, "{} columns of {:?}", dim, line);
                }
            }
        }

        #[test]
        fn the_quick_way_reads_no_line_otherwise(line in "[ \\t0-9.e+a\\-nif]{0,16}") {
            for dim in 1..4 {
                let ours = read(&form(dim), line.as_bytes());
                let naive = naive(dim, &line);
                prop_assert_eq!(ours.is_ok(), naive.is_some(), "{:?} {:?}", line, ours);
                if let (Ok((token, _)), Some((naive, _))) = (ours, naive) {
                    prop_assert_eq!(token, naive);
                }
            }
        }
    }
}
