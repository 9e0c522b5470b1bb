//! Static embedding models: the vector of a text is the mean of the rows of its tokens.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use super::tokenizer::{Limit, Tokenizer, pieces};
use crate::error::{Error, Result};
use crate::gather::{BagOptions, Crew, Pooling};
use crate::source::{Mapped, StaticRules, TextLength, find_mapped, read_tokenizer};
use crate::table::Table;

/// A table and a tokenizer that make vectors of texts: a model of model2vec or
/// sentence-transformers' `StaticEmbedding`, or any other table with a tokenizer.
///
/// Nothing is loaded but the tokenizer: rows are where the table has them. The vector of a text
/// is the mean of the rows of its tokens, without those of the model's template. What else is
/// to be done is found in the model's own files:
///
/// | | unknown words | long texts | vectors of length 1 |
/// |---|---|---|---|
/// | model2vec (`embeddings`, `config.json`) | count for nothing | `max_length`, 512 tokens unless said | `normalize` |
/// | `StaticEmbedding` (`embedding.weight`, `modules.json`) | count as their token | as the tokenizer file says | a module `Normalize` |
/// | any other table | count as their token | count as a whole | no |
///
/// An `.emb` file that was converted from one of them does the same.
///
/// ```
/// use embmap::{StaticModel, Table};
///
/// # fn main() -> Result<(), embmap::Error> {
/// let model = StaticModel::new(Table::load("fixtures/minilm-2k")?)?.normalize(true);
/// let texts = ["a cat sat on the mat", "the dog sat by the door", "the price of oil"];
/// let mut vectors = vec![0f32; texts.len() * model.table().dim()];
/// model.embed_into(&texts, &mut vectors)?;
///
/// let rows: Vec<&[f32]> = vectors.chunks(model.table().dim()).collect();
/// let cosine = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
/// assert!(cosine(rows[0], rows[1]) > 1.5 * cosine(rows[0], rows[2]));
/// # Ok(())
/// # }
/// ```
pub struct StaticModel {
    table: Arc<Table>,
    tokenizer: Tokenizer,
    rules: StaticRules,
    /// What leads from tokens to rows, where it is not that they have the same ids.
    lookup: Option<Lookup>,
    crew: Crew,
    /// Found where a text is long enough for it to matter.
    median_token: OnceLock<usize>,
}

/// The rows of tokens, and what they are multiplied by: model2vec's `mapping` and `weights`.
struct Lookup {
    rows: Vec<u32>,
    weights: Option<Vec<f32>>,
}

/// The tokens of some texts that count.
#[derive(Default)]
struct Bags {
    rows: Vec<u32>,
    /// One for each row, where the model has weights.
    weights: Vec<f32>,
    offsets: Vec<u64>,
}

impl StaticModel {
    /// The model that a table is, with the tokenizer from its file or its directory.
    ///
    /// # Errors
    ///
    /// As [`Table::tokenizer`]; [`Error::Foreign`] where a file of the model's is damaged.
    pub fn new(table: impl Into<Arc<Table>>) -> Result<Self> {
        let table = table.into();
        let (tokenizer, lookup) = match mapped(&table)? {
            None => (table.tokenizer()?, None),
            Some(parts) => {
                let tokenizer = match &parts.tokenizer {
                    Some(path) => {
                        let json = String::from_utf8_lossy(&read_tokenizer(path)?).into_owned();
                        Tokenizer::read(&table, &json)?
                    }
                    None => table.tokenizer()?,
                };
                (tokenizer, Some(Lookup::read(&parts, table.vocab())?))
            }
        };
        let (rules, crew) = (rules(&table)?, table.crew(None)?);
        Ok(StaticModel { table, tokenizer, rules, lookup, crew, median_token: OnceLock::new() })
    }

    /// The table of the rows.
    #[must_use]
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The tokenizer.
    #[must_use]
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// True where vectors are divided by their lengths.
    #[must_use]
    pub fn normalizes(&self) -> bool {
        self.rules.normalize
    }

    /// Divides vectors by their lengths, or does not, whatever the model says. Zeros stay zeros.
    #[must_use]
    pub fn normalize(mut self, yes: bool) -> Self {
        self.rules.normalize = yes;
        self
    }

    /// Leaves out the token that stands for unknown words, or does not, whatever the model says.
    #[must_use]
    pub fn drop_unknown(mut self, yes: bool) -> Self {
        self.rules.drop_unknown = yes;
        self
    }

    /// The most tokens of a text, whatever the model says; `None` for all of them.
    ///
    /// As model2vec does it, no more of a text is looked at than as many times the median
    /// length of the vocabulary's tokens, in characters.
    #[must_use]
    pub fn max_tokens(mut self, most: Option<usize>) -> Self {
        self.rules.length = most.map_or(TextLength::Whole, TextLength::Most);
        self
    }

    /// The vector of a text.
    ///
    /// # Errors
    ///
    /// As [`embed_into`](StaticModel::embed_into).
    pub fn embed(&self, text: &str) -> Result<Vec<f32>> {
        let mut vector = vec![0f32; self.table.dim()];
        self.embed_into(&[text], &mut vector)?;
        Ok(vector)
    }

    /// The vectors of texts, one after the other, by several threads where that pays; and for
    /// each text the tokens that its vector is the mean of. Where there are none, as of an empty
    /// text, the vector is all zeros.
    ///
    /// # Errors
    ///
    /// [`Error::OutputLength`] where the output is not `dim` long for each text, and nothing is
    /// written. [`Error::Tokenizer`] where the tokenizer fails on a text or knows a token that
    /// has no row, and whatever gathering rows can give; the output is written in part then.
    pub fn embed_into<T: AsRef<str> + Sync>(
        &self,
        texts: &[T],
        out: &mut [f32],
    ) -> Result<Vec<usize>> {
        let dim = self.table.dim();
        let expected = texts.len() as u128 * dim as u128;
        if out.len() as u128 != expected {
            let (rows, got) = (texts.len(), out.len());
            return Err(Error::OutputLength { rows, row: dim, expected, got });
        }
        let mut counts = vec![0; texts.len()];
        let (mut rest, mut rest_counts) = (out, counts.as_mut_slice());
        let mut parts = Vec::new();
        for piece in pieces(texts, self.crew)? {
            let (out, after) = rest.split_at_mut(piece.len() * dim);
            let (counts, after_counts) = rest_counts.split_at_mut(piece.len());
            parts.push((piece, out, counts));
            (rest, rest_counts) = (after, after_counts);
        }
        self.crew.work(
            parts,
            |(piece, out, counts): (Range<usize>, &mut [f32], &mut [usize])| {
                self.embed_piece(&texts[piece], out, counts)
            },
        )?;
        Ok(counts)
    }

    /// The vectors of texts, by this thread.
    fn embed_piece<T: AsRef<str>>(
        &self,
        texts: &[T],
        out: &mut [f32],
        counts: &mut [usize],
    ) -> Result<()> {
        let mut bags = Bags { offsets: vec![0], ..Bags::default() };
        for (text, count) in texts.iter().zip(counts) {
            let before = bags.rows.len();
            self.push_tokens(text.as_ref(), &mut bags)?;
            *count = bags.rows.len() - before;
            bags.offsets.push(bags.rows.len() as u64);
        }
        let Bags { rows, weights, offsets } = &bags;
        let is_weighed = self.lookup.as_ref().is_some_and(|lookup| lookup.weights.is_some());
        let weights = is_weighed.then_some(weights.as_slice());
        let options = BagOptions::new().threads(1);
        self.table.embedding_bag_into_with(rows, offsets, weights, Pooling::Mean, out, &options)?;
        if self.rules.normalize {
            out.chunks_exact_mut(self.table.dim()).for_each(normalize);
        }
        Ok(())
    }

    /// Adds the tokens of a text that count.
    fn push_tokens(&self, text: &str, bags: &mut Bags) -> Result<()> {
        let (text, limit) = match self.rules.length {
            TextLength::Whole => (text, None),
            TextLength::OfTokenizer => (text, self.tokenizer.limit()),
            TextLength::Most(tokens) => {
                (self.cut(text, tokens), Some(Limit { tokens, last: false }))
            }
        };
        let encoding = self.tokenizer.encoding(text, false)?;
        let ids = encoding.get_ids();
        let ids = limit.map_or(ids, |limit| &ids[limit.of(ids.len())]);
        let unknown = self.tokenizer.unknown_id().filter(|_| self.rules.drop_unknown);
        for id in ids.iter().copied().filter(|id| Some(*id) != unknown) {
            let (row, weight) = self.row_of(id).ok_or_else(|| self.no_row(id))?;
            bags.rows.push(row);
            bags.weights.extend(weight);
        }
        Ok(())
    }

    /// The row of a token and what it is multiplied by, if by anything.
    fn row_of(&self, id: u32) -> Option<(u32, Option<f32>)> {
        match &self.lookup {
            None => (u64::from(id) < self.table.vocab()).then_some((id, None)),
            Some(Lookup { rows, weights }) => {
                let token = usize::try_from(id).ok()?;
                let weight = weights.as_ref().and_then(|weights| weights.get(token));
                Some((*rows.get(token)?, weight.copied()))
            }
        }
    }

    /// The characters of a text that model2vec looks at for so many tokens.
    fn cut<'a>(&self, text: &'a str, tokens: usize) -> &'a str {
        if text.len() <= tokens {
            return text;
        }
        let median = *self.median_token.get_or_init(|| self.tokenizer.median_length());
        let end = text.char_indices().nth(tokens.saturating_mul(median));
        end.map_or(text, |(end, _)| &text[..end])
    }

    #[cold]
    fn no_row(&self, id: u32) -> Error {
        Error::Tokenizer {
            path: self.table.info().path.clone(),
            reason: format!(
                "its token {:?} has the id {id}, and the table has rows of {} tokens only; the two \
                 are not of one model",
                self.tokenizer.token(id).unwrap_or_default(),
                self.lookup.as_ref().map_or(self.table.vocab(), |it| it.rows.len() as u64)
            ),
        }
    }
}

impl fmt::Debug for StaticModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaticModel")
            .field("table", &self.table)
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}

impl Lookup {
    /// Those of a model whose table of raw rows has so many of them.
    fn read(parts: &Mapped, rows: u64) -> Result<Self> {
        let tokens = parts.tokens(rows)?;
        let too_many = || Error::InvalidOption {
            option: "static_model",
            reason: format!("expected rows and tokens below 2^32, found {rows} and {tokens}"),
        };
        let ids = parts.rows_of(0, tokens, rows)?;
        let ids: Option<Vec<u32>> = ids.into_iter().map(|id| u32::try_from(id).ok()).collect();
        #[expect(clippy::cast_possible_truncation, reason = "sums are in f32, as weights are then")]
        let narrow = |factors: Vec<f64>| factors.into_iter().map(|it| it as f32).collect();
        let weights = parts.factors(0, tokens)?.map(narrow);
        Ok(Lookup { rows: ids.ok_or_else(too_many)?, weights })
    }
}

/// The mapping and the weights of a model2vec table, where rows are not those of tokens as they
/// are.
fn mapped(table: &Table) -> Result<Option<Mapped>> {
    let info = table.info();
    let (Some(file), Some(tensor)) = (info.files.first(), &info.tensor) else { return Ok(None) };
    if info.format != "safetensors" || info.files.len() > 1 || !file.is_file() {
        return Ok(None);
    }
    Ok(find_mapped(file, false)?.filter(|parts| parts.tensor == tensor))
}

/// What is known of how a table's texts become vectors.
fn rules(table: &Table) -> Result<StaticRules> {
    let (info, metadata) = (table.info(), table.metadata()?);
    let found = StaticRules::of(info.files.first(), info.tensor.as_ref(), metadata.as_deref())?;
    Ok(found.unwrap_or(StaticRules::PLAIN))
}

/// Divides a vector by its length, summed in `f64`, where the square of an `f32` is exact.
fn normalize(vector: &mut [f32]) {
    let squares: f64 = vector.iter().map(|value| f64::from(*value) * f64::from(*value)).sum();
    if squares > 0.0 {
        let length = squares.sqrt();
        for value in vector {
            #[expect(clippy::cast_possible_truncation, reason = "rounding is the purpose")]
            {
                *value = (f64::from(*value) / length) as f32;
            }
        }
    }
}
