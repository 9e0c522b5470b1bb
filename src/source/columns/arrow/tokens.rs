//! A column of tokens.

use arrow_schema::DataType;

use super::super::super::text::LONGEST_TOKEN;
use super::batch::Columns;
use super::buffers::{Bits, Buffer, RowFault};
use super::dictionary::Dictionary;

/// The most bytes of text that a record batch may hold as views, which lie in no order.
const MOST_VIEWED: u64 = 1 << 30;

/// The bytes of a view that is its own text.
const SHORT: usize = 12;

/// The tokens of a record batch that are left.
pub(super) struct Tokens {
    validity: Bits,
    text: Text,
    token: Vec<u8>,
}

enum Text {
    /// The offsets, the one that was read last, and the bytes.
    Offsets { offsets: Buffer, wide: bool, last: Option<i64>, bytes: Buffer },
    /// The views, and what they may lead to.
    Views { views: Buffer, texts: Vec<Vec<u8>> },
    /// Numbers of a dictionary's texts, and the bytes of each.
    Coded { codes: Buffer, bytes: usize, signed: bool },
}

impl Tokens {
    pub(super) fn open(columns: &mut Columns, column: &DataType) -> Result<Self, &'static str> {
        let rows = columns.rows;
        let node = columns.node(Some(rows))?;
        let validity = columns.validity(node)?;
        let first = columns.buffer()?;
        let text = if let DataType::Dictionary(codes, _) = column {
            let bytes = codes.primitive_width().filter(|_| codes.is_integer());
            let bytes = bytes.ok_or("the codes of a dictionary are no integers")?;
            Text::Coded { codes: first, bytes, signed: codes.is_signed_integer() }
        } else if *column == DataType::Utf8View {
            let (mut texts, mut left) = (Vec::new(), MOST_VIEWED);
            for _ in 0..columns.view_buffers()? {
                let mut text = Vec::new();
                let read = columns.buffer()?.rest(left + 1, &mut text);
                read.map_err(|_| "a buffer of text cannot be read")?;
                left = left.checked_sub(text.len() as u64).ok_or(
                    "a record batch has more than 1 GiB of text in views; write the column as \
                     large_string",
                )?;
                texts.push(text);
            }
            Text::Views { views: first, texts }
        } else {
            let wide = *column == DataType::LargeUtf8;
            Text::Offsets { offsets: first, wide, last: None, bytes: columns.buffer()? }
        };
        Ok(Tokens { validity, text, token: Vec::new() })
    }

    /// The next token, where there is one; `texts` are those that it may be the number of.
    pub(super) fn next<'t>(
        &'t mut self,
        texts: &'t Dictionary,
    ) -> Result<Option<&'t str>, RowFault> {
        let is_there = self.validity.next()?;
        if let Text::Coded { codes, bytes, signed } = &mut self.text {
            let code = code(codes, *bytes, *signed)?;
            return if is_there { texts.text(code) } else { Ok(None) };
        }
        self.text.next(&mut self.token)?;
        if !is_there {
            return Ok(None);
        }
        let token = std::str::from_utf8(&self.token)
            .map_err(|error| format!("the token is not UTF-8: {error}"))?;
        Ok(Some(token))
    }
}

/// The next code of a dictionary.
fn code(codes: &mut Buffer, bytes: usize, signed: bool) -> Result<i128, RowFault> {
    let mut code = [0; 16];
    codes.fill(&mut code[..bytes])?;
    if signed && code[bytes - 1] >= 0x80 {
        code[bytes..].fill(u8::MAX);
    }
    Ok(i128::from_le_bytes(code))
}

impl Text {
    /// Reads the next token that is text itself, whether it is there or not.
    fn next(&mut self, token: &mut Vec<u8>) -> Result<(), RowFault> {
        token.clear();
        match self {
            Text::Offsets { offsets, wide, last, bytes } => {
                let mut next = || {
                    if *wide { offsets.long_number() } else { offsets.number().map(i64::from) }
                };
                let start = if let Some(start) = *last {
                    start
                } else {
                    let start = next()?;
                    bytes.skip(u64::try_from(start).map_err(|_| ends_first())?)?;
                    start
                };
                let end = next()?;
                *last = Some(end);
                let length = end.checked_sub(start).and_then(|it| usize::try_from(it).ok());
                let length = length.ok_or_else(ends_first)?;
                check(length)?;
                token.resize(length, 0);
                bytes.fill(token)?;
            }
            Text::Views { views, texts } => {
                let mut view = [0; 16];
                views.fill(&mut view)?;
                let number = |at: usize| {
                    let bytes = view[at..at + 4].iter().rev();
                    bytes.fold(0usize, |number, byte| number << 8 | usize::from(*byte))
                };
                let length = number(0);
                check(length)?;
                let text = if length <= SHORT {
                    view.get(4..4 + length)
                } else {
                    let start = number(12);
                    texts.get(number(8)).and_then(|text| text.get(start..start + length))
                };
                let outside = || "the token lies outside its buffers".to_owned();
                token.extend_from_slice(text.ok_or_else(outside)?);
            }
            Text::Coded { .. } => {}
        }
        Ok(())
    }
}

fn check(length: usize) -> Result<(), RowFault> {
    if length <= LONGEST_TOKEN {
        return Ok(());
    }
    Err(format!("the token has {length} bytes, expected at most {LONGEST_TOKEN}").into())
}

fn ends_first() -> RowFault {
    RowFault::Row("the token ends before it starts".to_owned())
}
