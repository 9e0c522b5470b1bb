//! Rows as numbers, printed for people or as JSON lines.

use std::io::Write;

use anyhow::Result;
use embmap::{DType, Output, Table};
use half::{bf16, f16};

/// The bytes of rows that are held at once.
const WINDOW: u64 = 8 << 20;

/// The values that a row for people starts with.
const FIRST: usize = 6;

/// The number of rows to gather at once.
pub(crate) fn window_rows(table: &Table) -> usize {
    let widest = table.row_bytes().max(table.dim() as u64 * size_of::<f32>() as u64);
    usize::try_from(WINDOW / widest.max(1)).unwrap_or(usize::MAX).max(1)
}

/// Gathered rows, wide enough for each number to keep its value.
pub(crate) enum Values {
    Single(Vec<f32>),
    Double(Vec<f64>),
}

/// One of them.
#[derive(Debug, Clone, Copy)]
pub(crate) enum RowValues<'a> {
    Single(&'a [f32]),
    Double(&'a [f64]),
}

impl Values {
    /// Gathers rows as they are stored, or rounded to a dtype first.
    pub(crate) fn gather(table: &Table, ids: &[u64], dtype: Option<DType>) -> Result<Values> {
        match (dtype, table.dtype()) {
            (None | Some(DType::F64), DType::F64) => {
                let mut out = vec![0f64; ids.len() * table.dim()];
                table.gather_bytes_into(ids, bytemuck::cast_slice_mut(&mut out))?;
                Ok(Values::Double(out))
            }
            (Some(DType::F16), _) => single::<f16>(table, ids),
            (Some(DType::BF16), _) => single::<bf16>(table, ids),
            _ => single::<f32>(table, ids),
        }
    }

    /// The row at a position among those gathered.
    pub(crate) fn row(&self, position: usize, dim: usize) -> RowValues<'_> {
        let range = position * dim..(position + 1) * dim;
        match self {
            Values::Single(values) => RowValues::Single(&values[range]),
            Values::Double(values) => RowValues::Double(&values[range]),
        }
    }
}

fn single<O: Output>(table: &Table, ids: &[u64]) -> Result<Values> {
    let mut out = vec![O::zeroed(); ids.len() * table.dim()];
    table.gather_into(ids, &mut out)?;
    Ok(Values::Single(out.into_iter().map(O::convert::<f32>).collect()))
}

/// Writes a row as one line of JSON. NaN and the infinities, which JSON lacks, are null.
pub(crate) fn write_json(
    out: &mut impl Write,
    id: u64,
    token: Option<&str>,
    values: RowValues<'_>,
) -> Result<()> {
    write!(out, "{{\"id\":{id},\"token\":")?;
    serde_json::to_writer(&mut *out, &token)?;
    write!(out, ",\"values\":")?;
    match values {
        RowValues::Single(values) => serde_json::to_writer(&mut *out, values)?,
        RowValues::Double(values) => serde_json::to_writer(&mut *out, values)?,
    }
    writeln!(out, "}}")?;
    Ok(())
}

/// How rows for people are laid out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Columns {
    pub(crate) id: usize,
    pub(crate) token: usize,
    /// Every value, in the shortest form that reads back as the same number.
    pub(crate) full: bool,
}

/// A token for people; `-` where there is none.
pub(crate) fn shown_token(token: Option<&str>) -> String {
    token.map_or_else(|| "-".to_owned(), |token| format!("{token:?}"))
}

/// Writes a row as one line for people.
pub(crate) fn write_text(
    out: &mut impl Write,
    id: u64,
    token: &str,
    values: RowValues<'_>,
    columns: Columns,
) -> Result<()> {
    write!(
        out,
        "{id:>width$}  {token:<token_width$} ",
        width = columns.id,
        token_width = columns.token
    )?;
    write_values(out, values, columns.full)
}

/// Writes the end of a line for people: the first values, or all of them.
pub(crate) fn write_values(out: &mut impl Write, values: RowValues<'_>, full: bool) -> Result<()> {
    match (values, full) {
        (RowValues::Single(values), true) => {
            values.iter().try_for_each(|value| write!(out, " {value:?}"))?;
        }
        (RowValues::Double(values), true) => {
            values.iter().try_for_each(|value| write!(out, " {value:?}"))?;
        }
        (RowValues::Single(values), false) => {
            let first = values.iter().take(FIRST).map(|value| f64::from(*value));
            write_first(out, first, values.len())?;
        }
        (RowValues::Double(values), false) => {
            write_first(out, values.iter().take(FIRST).copied(), values.len())?;
        }
    }
    writeln!(out)?;
    Ok(())
}

fn write_first(out: &mut impl Write, first: impl Iterator<Item = f64>, dim: usize) -> Result<()> {
    for value in first {
        let size = value.abs();
        if size.is_finite() && size != 0.0 && !(1e-4..1e4).contains(&size) {
            write!(out, " {value:>9.1e}")?;
        } else {
            write!(out, " {value:>9.4}")?;
        }
    }
    if dim > FIRST {
        write!(out, " …")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(values: RowValues<'_>, full: bool) -> String {
        let mut out = Vec::new();
        let columns = Columns { id: 4, token: 6, full };
        write_text(&mut out, 7, &shown_token(Some("a\n")), values, columns).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn json_numbers_are_the_shortest_and_what_json_lacks_is_null() {
        let mut out = Vec::new();
        let values = [0.1f32, -0.0, 1.0, 1e-40, f32::NAN, f32::INFINITY, f32::MAX];
        write_json(&mut out, 0, Some("\"\u{1}"), RowValues::Single(&values)).unwrap();
        let line = "{\"id\":0,\"token\":\"\\\"\\u0001\",\"values\":[0.1,-0.0,1.0,1e-40,null,null,3.4028235e+38]}\n";
        assert_eq!(String::from_utf8(out).unwrap(), line);
        let mut out = Vec::new();
        write_json(&mut out, 1, None, RowValues::Double(&[0.1])).unwrap();
        assert_eq!(out, b"{\"id\":1,\"token\":null,\"values\":[0.1]}\n");
    }

    #[test]
    fn text_shows_the_first_values_or_all_of_them() {
        let values = [0.12345f32, -1.0, 0.0, 1e-7, f32::NAN, -12345.0, 9.0];
        assert_eq!(
            text(RowValues::Single(&values), false),
            "   7  \"a\\n\"      0.1235   -1.0000    0.0000    1.0e-7       NaN    -1.2e4 …\n"
        );
        assert_eq!(text(RowValues::Double(&[0.5, 1e300]), true), "   7  \"a\\n\"   0.5 1e300\n");
    }
}
