//! Which column holds the vectors, and which the tokens. Never a silent guess.

use std::path::Path;

use arrow_schema::{DataType, Field, Fields};

use super::super::json::shortened;
use crate::dtype::DType;
use crate::error::{Error, Result};

/// What a caller says of the columns.
#[derive(Debug, Clone, Default)]
pub(crate) struct ColumnNames {
    /// The column of vectors.
    pub(crate) vectors: Option<String>,
    /// The column of tokens; `none` for none.
    pub(crate) tokens: Option<String>,
}

/// Columns, by their places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) vectors: usize,
    pub(super) dtype: DType,
    pub(super) tokens: Option<usize>,
}

/// The type of a list's numbers, where it is a list of numbers.
pub(super) fn element(column: &DataType) -> Option<DType> {
    let (DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _)) =
        column
    else {
        return None;
    };
    match item.data_type() {
        DataType::Float32 => Some(DType::F32),
        DataType::Float16 => Some(DType::F16),
        DataType::Float64 => Some(DType::F64),
        DataType::Int8 => Some(DType::I8),
        DataType::UInt8 => Some(DType::U8),
        _ => None,
    }
}

/// True for text as it is.
fn is_text(column: &DataType) -> bool {
    matches!(column, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// True for text that Arrow keeps as numbers of a list of texts: categories of pandas and polars.
/// Parquet's own dictionaries are none: they are gone when its columns are read.
fn is_coded_text(column: &DataType) -> bool {
    matches!(column, DataType::Dictionary(_, text) if is_text(text))
}

/// The columns that were named, or the only ones that can be meant.
pub(super) fn choose(fields: &Fields, names: &ColumnNames, path: &Path) -> Result<Chosen> {
    let chooser = Chooser { fields, path };
    let vectors = chooser.one(
        names.vectors.as_deref(),
        ("column", "lists of f32, f16, f64, i8 or u8", "a column of vectors"),
        |field| element(field.data_type()).is_some(),
    )?;
    let Some(vectors) = vectors else {
        return Err(chooser.unclear("no column holds lists of numbers", "column"));
    };
    let dtype = element(fields[vectors].data_type()).unwrap_or(DType::F32);
    let tokens = match names.tokens.as_deref() {
        Some("none") => None,
        asked => {
            let one = |fits: &dyn Fn(&DataType) -> bool| {
                let about = ("token-column", "text", "a column of tokens (or none, for no tokens)");
                chooser.one(asked, about, |field| fits(field.data_type()))
            };
            if asked.is_some() {
                one(&|column| is_text(column) || is_coded_text(column))?
            } else {
                // Beside text as it is, categories say something of it: a language, a split.
                match one(&is_text)? {
                    None => one(&is_coded_text)?,
                    plain => plain,
                }
            }
        }
    };
    Ok(Chosen { vectors, dtype, tokens })
}

struct Chooser<'a> {
    fields: &'a Fields,
    path: &'a Path,
}

impl Chooser<'_> {
    /// The column of a name, or the only one that fits; `None` where none does.
    fn one(
        &self,
        asked: Option<&str>,
        (option, expected, what): (&'static str, &str, &str),
        fits: impl Fn(&Field) -> bool,
    ) -> Result<Option<usize>> {
        if let Some(name) = asked {
            let places = self.fields.iter().enumerate().filter(|(_, field)| field.name() == name);
            return match places.map(|(place, _)| place).collect::<Vec<_>>()[..] {
                [] => Err(self.unclear(&format!("no column is named {name:?}"), option)),
                [one] if fits(&self.fields[one]) => Ok(Some(one)),
                [one] => {
                    let found = self.fields[one].data_type();
                    let reason = format!("column {name:?} holds {found}, expected {expected}");
                    Err(self.unclear(&reason, option))
                }
                _ => Err(self.unclear(&format!("several columns are named {name:?}"), option)),
            };
        }
        let mut places = self.fields.iter().enumerate().filter(|(_, field)| fits(field));
        let first = places.next().map(|(place, _)| place);
        if places.next().is_some() {
            return Err(self.unclear(&format!("several columns could be {what}"), option));
        }
        Ok(first)
    }

    fn unclear(&self, reason: &str, option: &str) -> Error {
        const MOST: usize = 20;
        let shown = |field: &Field| {
            format!("{} ({})", shortened(field.name()).escape_debug(), field.data_type())
        };
        let mut list: Vec<String> =
            self.fields.iter().take(MOST).map(|field| shown(field)).collect();
        if self.fields.len() > MOST {
            list.push("...".to_owned());
        }
        Error::NoTable {
            path: self.path.to_path_buf(),
            reason: format!("{reason}; name one with --{option}. There are: {}", list.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn list(of: DataType) -> DataType {
        DataType::List(Arc::new(Field::new("item", of, true)))
    }

    fn pick(
        columns: &[(&str, DataType)],
        vectors: Option<&str>,
        tokens: Option<&str>,
    ) -> Result<Chosen> {
        let fields = columns.iter().map(|(name, of)| Field::new(*name, of.clone(), true));
        let names =
            ColumnNames { vectors: vectors.map(str::to_owned), tokens: tokens.map(str::to_owned) };
        choose(&fields.collect(), &names, Path::new("x.parquet"))
    }

    #[test]
    fn the_only_columns_that_fit_are_taken() {
        let columns = [
            ("id", DataType::Int64),
            ("token", DataType::Utf8),
            ("ids", list(DataType::Int64)),
            ("vector", list(DataType::Float16)),
        ];
        let chosen = pick(&columns, None, None).unwrap();
        assert_eq!(chosen, Chosen { vectors: 3, dtype: DType::F16, tokens: Some(1) });
        assert_eq!(pick(&columns, None, Some("none")).unwrap().tokens, None);
        assert_eq!(pick(&columns[3..], None, None).unwrap().tokens, None);
    }

    #[test]
    fn what_is_not_clear_is_asked_for() {
        let columns = [
            ("a", DataType::Utf8),
            ("b", DataType::LargeUtf8),
            ("x", list(DataType::Float32)),
            ("y", list(DataType::Float64)),
            ("z\n", DataType::Int64),
        ];
        let reason = |vectors, tokens| pick(&columns, vectors, tokens).unwrap_err().to_string();
        assert!(reason(None, None).contains("several columns could be a column of vectors; name one with --column. There are: a (Utf8), b (LargeUtf8), x (List"));
        assert!(reason(Some("x"), None).contains("--token-column"));
        assert!(reason(Some("w"), None).contains("no column is named \"w\""));
        assert!(reason(Some("a"), None).contains("holds Utf8, expected lists"));
        assert!(reason(Some("x"), Some("z\n")).contains("holds Int64, expected text"));
        let coded = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        let coded = [("c", coded), ("x", list(DataType::Float32)), ("b", DataType::Utf8)];
        assert_eq!(pick(&coded[..2], None, None).unwrap().tokens, Some(0));
        assert_eq!(pick(&coded[..2], None, Some("none")).unwrap().tokens, None);
        assert_eq!(pick(&coded, None, None).unwrap().tokens, Some(2));
        assert_eq!(pick(&coded, None, Some("c")).unwrap().tokens, Some(0));
        let twins = [coded[0].clone(), coded[1].clone(), ("d", coded[0].1.clone())];
        assert!(pick(&twins, None, None).unwrap_err().to_string().contains("several columns"));
        let chosen = pick(&columns, Some("y"), Some("b")).unwrap();
        assert_eq!(chosen, Chosen { vectors: 3, dtype: DType::F64, tokens: Some(1) });
        assert!(
            pick(&columns[..2], None, None).unwrap_err().to_string().contains("no column holds")
        );
        let twins = [("x", list(DataType::Float32)), ("x", list(DataType::Float32))];
        assert!(pick(&twins, Some("x"), None).unwrap_err().to_string().contains("several columns"));
    }
}
