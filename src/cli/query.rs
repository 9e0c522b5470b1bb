//! Vectors to search for: rows by id and token, sums of them, texts, vectors as they are.

use std::path::Path;

use anyhow::{Result, anyhow, bail, ensure};
use embmap::{Metric, NpyHeader, Table};

use super::escape::printable_path;
use super::ids::{Batch, IdArg, read_bytes};
use super::npy;
use super::tokens;

/// A vector, what to call it, and the rows that it is made of.
pub(crate) struct Query {
    pub(crate) name: String,
    pub(crate) vector: Vec<f32>,
    pub(crate) rows: Vec<u64>,
}

/// What makes vectors of names.
pub(crate) struct Queries<'a> {
    pub(crate) table: &'a Table,
    pub(crate) path: &'a Path,
    pub(crate) metric: Metric,
}

/// A token of an expression, and whether it is taken away.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Term<'a> {
    pub(crate) minus: bool,
    pub(crate) token: &'a str,
}

impl Queries<'_> {
    /// The query that an argument is: a token, or tokens with ` + ` and ` - ` between them.
    pub(crate) fn named(&self, argument: &str) -> Result<Query> {
        tokens::check(self.table, self.path)?;
        if self.table.id_of(argument)?.is_none()
            && let Some(terms) = expression(argument)
        {
            return self.sum(argument.to_owned(), &terms);
        }
        self.sum(argument.to_owned(), &[Term { minus: false, token: argument }])
    }

    /// The sum of some rows. By cosine each counts with length 1, as word vectors are added
    /// (Mikolov et al., "Linguistic Regularities in Continuous Space Word Representations",
    /// 2013); by product as it is.
    pub(crate) fn sum(&self, name: String, terms: &[Term<'_>]) -> Result<Query> {
        let ids = terms.iter().map(|term| tokens::id_of(term.token, self.table, self.path));
        let rows = ids.collect::<Result<Vec<u64>>>()?;
        if let [Term { minus: false, .. }] = terms {
            return Ok(Query { name, vector: self.table.gather(&rows)?, rows });
        }
        let dim = self.table.dim();
        let mut sum = vec![0f64; dim];
        for (row, term) in self.table.gather::<_, f32>(&rows)?.chunks_exact(dim).zip(terms) {
            let squares: f64 = row.iter().map(|value| f64::from(*value).powi(2)).sum();
            let length = if self.metric == Metric::Cosine { squares.sqrt() } else { 1.0 };
            let token = term.token;
            ensure!(length > 0.0, "the row of {token:?} is all zeros, which has no direction");
            let factor = if term.minus { -1.0 } else { 1.0 } / length;
            for (sum, value) in sum.iter_mut().zip(row) {
                *sum += f64::from(*value) * factor;
            }
        }
        #[expect(clippy::cast_possible_truncation, reason = "rounding to nearest is the purpose")]
        let vector = sum.into_iter().map(|value| value as f32).collect();
        Ok(Query { name, vector, rows })
    }

    /// The rows of some ids, each by itself.
    pub(crate) fn ids(&self, ids: &[IdArg]) -> Result<Vec<Query>> {
        let mut batch = Batch::new(self.table);
        batch.push_arguments(ids)?;
        let named = |id: u64| -> Result<Query> {
            Ok(Query { name: id.to_string(), vector: self.table.gather(&[id])?, rows: vec![id] })
        };
        batch.into_ids().into_iter().map(named).collect()
    }

    /// The mean of the rows of a text.
    pub(crate) fn text(&self, text: &str) -> Result<Query> {
        let tokens = self.table.tokenizer()?.encode(text, false)?;
        ensure!(!tokens.is_empty(), "the text {text:?} has no tokens: give one that is not empty");
        let mut batch = Batch::new(self.table);
        tokens.iter().try_for_each(|token| batch.push(token.id.into()))?;
        let rows = batch.into_ids();
        let mut vector = vec![0f32; self.table.dim()];
        let bag = [0, rows.len() as u64];
        self.table.embedding_bag_into(&rows, &bag, None, embmap::Pooling::Mean, &mut vector)?;
        Ok(Query { name: text.to_owned(), vector, rows })
    }

    /// The vectors of a file, .npy or text.
    pub(crate) fn vectors(&self, path: &Path) -> Result<Vec<Query>> {
        let (name, bytes) = read_bytes(path)?;
        let dim = self.table.dim();
        let vectors = if npy::is_npy(&bytes) {
            npy_vectors(&bytes, path)?
        } else {
            text_vectors(&bytes).map_err(|reason| anyhow!("{name}: {reason}"))?
        };
        if let Some(at) = vectors.iter().position(|vector| vector.len() != dim) {
            let found = vectors[at].len();
            bail!("{name}: vector {at} has {found} elements, expected {dim}, as rows have");
        }
        ensure!(!vectors.is_empty(), "{name}: there are no vectors in it");
        let query = |(at, vector)| Query { name: format!("{name} {at}"), vector, rows: Vec::new() };
        Ok(vectors.into_iter().enumerate().map(query).collect())
    }
}

/// The terms of an expression, or `None` for what is none: tokens with a `+` or `-` between each
/// two, white space around it.
pub(crate) fn expression(argument: &str) -> Option<Vec<Term<'_>>> {
    let mut words = argument.split_whitespace();
    let mut terms = vec![Term { minus: false, token: words.next()? }];
    while let Some(operator) = words.next() {
        let minus = match operator {
            "+" => false,
            "-" => true,
            _ => return None,
        };
        terms.push(Term { minus, token: words.next()? });
    }
    (terms.len() > 1).then_some(terms)
}

/// The vectors of an array of numbers: of two dimensions, or of one.
fn npy_vectors(bytes: &[u8], path: &Path) -> Result<Vec<Vec<f32>>> {
    let (header, start) = NpyHeader::parse(bytes, path)?;
    let table = if let [dim] = header.shape[..] {
        let data = usize::try_from(start).ok().and_then(|start| bytes.get(start..));
        let mut matrix = Vec::new();
        NpyHeader { shape: vec![1, dim], ..header }.write_to(&mut matrix)?;
        matrix.extend_from_slice(data.unwrap_or_default());
        Table::from_bytes(&matrix)
    } else {
        Table::from_bytes(bytes)
    };
    let table = table.map_err(|error| anyhow!("{}: {error}", printable_path(path)))?;
    let ids: Vec<u64> = (0..table.vocab()).collect();
    let values: Vec<f32> = table.gather(&ids)?;
    Ok(values.chunks_exact(table.dim()).map(<[f32]>::to_vec).collect())
}

/// A vector a line: numbers separated by white space or commas.
fn text_vectors(bytes: &[u8]) -> Result<Vec<Vec<f32>>, String> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| format!("expected .npy or numbers as text, and {error}"))?;
    let numbers = |(line, text): (usize, &str)| {
        let separated = |c: char| c.is_whitespace() || matches!(c, ',' | '[' | ']');
        text.split(separated)
            .filter(|word| !word.is_empty())
            .map(|word| {
                let refused = || format!("line {line}: expected a number, found {word:?}");
                word.parse::<f32>().map_err(|_| refused())
            })
            .collect::<Result<Vec<f32>, String>>()
    };
    let vectors = (1..).zip(text.lines()).map(numbers);
    vectors.filter(|vector| !matches!(vector, Ok(vector) if vector.is_empty())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(argument: &str) -> Option<String> {
        let sign = |term: &Term<'_>| if term.minus { '-' } else { '+' };
        let terms = expression(argument)?;
        let shown = terms.iter().map(|term| format!("{}{}", sign(term), term.token));
        Some(shown.collect::<Vec<_>>().concat())
    }

    #[test]
    fn expressions_have_an_operator_between_each_two_tokens() {
        assert_eq!(shown("king - man + woman").as_deref(), Some("+king-man+woman"));
        assert_eq!(shown("  c++ +\tc ").as_deref(), Some("+c+++c"));
        assert_eq!(shown("- - -").as_deref(), Some("+---"));
        for other in ["", "king", "king -", "king-man", "king man", "king * man", "- king"] {
            assert_eq!(shown(other), None, "{other}");
        }
    }

    #[test]
    fn vectors_are_read_as_text_or_npy() {
        assert_eq!(
            text_vectors(b"1 2.5 -3e-2\n\n[4, 5,6]\r\n"),
            Ok(vec![vec![1.0, 2.5, -0.03], vec![4.0, 5.0, 6.0]])
        );
        assert_eq!(text_vectors(b"1\nx"), Err("line 2: expected a number, found \"x\"".into()));
        assert!(text_vectors(b"\xff").is_err());
        for (shape, count) in [(vec![6], 1), (vec![2, 3], 2), (vec![3, 2], 3)] {
            let mut bytes = Vec::new();
            let header = NpyHeader { descr: "<f8".to_owned(), fortran_order: false, shape };
            header.write_to(&mut bytes).unwrap();
            bytes.extend((1..=6u8).flat_map(|value| f64::from(value).to_le_bytes()));
            let vectors = npy_vectors(&bytes, Path::new("v.npy")).unwrap();
            assert_eq!(vectors.len(), count);
            assert_eq!(vectors.concat(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
            assert!(npy_vectors(&bytes[..bytes.len() - 1], Path::new("v.npy")).is_err());
        }
    }
}
