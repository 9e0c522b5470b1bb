//! The rows of tokens of a model2vec table: looked up through its mapping, multiplied by its
//! weights.

use half::f16;

use crate::codec::{Codec, Decoder, Encoding, Kernels, RowParts};
use crate::dtype::{DType, Element};
use crate::error::{Error, Place, Result};
use crate::source::{Batch, Mapped, Numbers, RowStream, StreamForm, Vocabulary};
use crate::table::Table;

/// The format's name.
const FORMAT: &str = "model2vec";

/// The rows of a table whose vocabulary is quantized.
pub(super) struct MappedRows {
    /// The raw rows.
    table: Table,
    parts: Mapped,
    form: StreamForm,
    vocabulary: Option<Vocabulary>,
    vocab: u64,
    row: u64,
    ids: Vec<u64>,
    raw: Vec<u8>,
}

impl MappedRows {
    /// `table` is that of the raw rows.
    pub(super) fn new(table: Table, parts: Mapped) -> Result<Self> {
        let numbers = parts.mapping.as_ref().or(parts.weights.as_ref());
        let vocab = numbers.map_or(table.vocab(), |numbers| numbers.count);
        if parts.mapping.is_none() && vocab != table.vocab() {
            return Err(Error::TensorForm {
                path: parts.file.path().to_path_buf(),
                tensor: "weights".to_owned(),
                reason: format!(
                    "holds {vocab} numbers, expected {}, one for each row",
                    table.vocab()
                ),
            });
        }
        let vocabulary = parts.tokens.as_deref().map(Vocabulary::read).transpose()?;
        let form = StreamForm {
            format: FORMAT,
            dtype: dtype_of(&table, parts.weights.as_ref())?,
            dim: table.dim(),
            rows: Some(vocab),
            rows_are_sure: true,
            has_tokens: vocabulary.is_some(),
        };
        let (ids, raw) = (Vec::new(), Vec::new());
        Ok(MappedRows { table, parts, form, vocabulary, vocab, row: 0, ids, raw })
    }

    pub(super) fn form(&self) -> &StreamForm {
        &self.form
    }

    /// The raw rows of the tokens from `self.row` on.
    fn gather(&mut self, count: u64) -> Result<()> {
        self.ids.clear();
        match &self.parts.mapping {
            None => self.ids.extend(self.row..self.row + count),
            Some(mapping) => {
                let bytes = mapping.read(&self.parts.file, self.row, count)?;
                let width = (bytes.len() as u64 / count.max(1)).max(1);
                let width = usize::try_from(width).unwrap_or(8);
                for (token, bytes) in (self.row..).zip(bytes.chunks_exact(width)) {
                    let id = index_of(bytes, mapping.dtype.starts_with('i'));
                    match id.filter(|id| *id < self.table.vocab()) {
                        Some(id) => self.ids.push(id),
                        None => return self.outside(token),
                    }
                }
            }
        }
        let bytes = self.ids.len().saturating_mul(self.raw_bytes());
        self.raw.resize(bytes, 0);
        self.table.gather_bytes_into(&self.ids, &mut self.raw)
    }

    fn raw_bytes(&self) -> usize {
        usize::try_from(self.table.row_bytes()).unwrap_or(usize::MAX)
    }

    fn outside(&self, token: u64) -> Result<()> {
        Err(Error::Foreign {
            path: self.parts.file.path().to_path_buf(),
            format: FORMAT,
            place: Place::Row(token),
            reason: format!(
                "the mapping leads to no row, expected one of {} below {}",
                self.parts.tensor,
                self.table.vocab()
            ),
        })
    }

    /// Multiplies the raw rows by the weights of their tokens.
    fn weigh(&self, weights: &Numbers, count: u64, out: &mut Vec<u8>) -> Result<()> {
        let bytes = weights.read(&self.parts.file, self.row, count)?;
        let plain = Encoding { dtype: weights.float(), codec: Codec::Plain };
        let mut factors = vec![0f64; self.ids.len()];
        Decoder::<f64>::of(plain, Kernels::of_process()).decode(RowParts::of(&bytes), &mut factors);
        let decoder = Decoder::<f64>::of(self.table.encoding(), Kernels::of_process());
        let mut row = vec![0f64; self.form.dim];
        let rows = self.raw.chunks_exact(self.raw_bytes().max(1));
        for (raw, factor) in rows.zip(factors) {
            decoder.decode(self.table.layout.parts(raw), &mut row);
            // The product of two f32 is exact as an f64, so all of these round once.
            let products = row.iter().map(|number| number * factor);
            match self.form.dtype {
                DType::F64 => products.for_each(|it| out.extend(it.to_le_bytes())),
                DType::F16 => {
                    products
                        .for_each(|it| out.extend(<f16 as Element>::from_f64(it).to_le_bytes()));
                }
                _ => {
                    products
                        .for_each(|it| out.extend(<f32 as Element>::from_f64(it).to_le_bytes()));
                }
            }
        }
        Ok(())
    }
}

/// The type of the products, as numpy has it: f64 where either is, else f32; without weights
/// that of the rows.
fn dtype_of(table: &Table, weights: Option<&Numbers>) -> Result<DType> {
    let stored = table.dtype();
    let plain = matches!(
        stored,
        DType::F32 | DType::F16 | DType::BF16 | DType::F64 | DType::I8 | DType::U8
    );
    if !plain || table.codec() != Codec::Plain {
        return Err(Error::TensorForm {
            path: table.info().path.clone(),
            tensor: table.info().tensor.clone().unwrap_or_default(),
            reason: format!("is {stored}, expected plain numbers to map and to weigh"),
        });
    }
    Ok(match weights.map(Numbers::float) {
        None => stored,
        Some(DType::F64) => DType::F64,
        Some(_) if stored == DType::F64 => DType::F64,
        Some(DType::F16) if stored == DType::F16 => DType::F16,
        Some(_) => DType::F32,
    })
}

/// A number of a mapping; `None` where it is negative.
fn index_of(bytes: &[u8], signed: bool) -> Option<u64> {
    let negative = signed && bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let value = bytes.iter().rev().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
    (!negative).then_some(value)
}

impl RowStream for MappedRows {
    fn next(&mut self, batch: &mut Batch) -> Result<bool> {
        batch.clear();
        let count = (self.vocab - self.row).min(self.form.batch_rows() as u64);
        if count == 0 {
            return Ok(false);
        }
        self.gather(count)?;
        match &self.parts.weights {
            Some(weights) => self.weigh(weights, count, &mut batch.rows)?,
            None => batch.rows.extend_from_slice(&self.raw),
        }
        if let Some(vocabulary) = &self.vocabulary {
            for id in self.row..self.row + count {
                batch.tokens.push(vocabulary.get(id));
            }
        }
        batch.count = self.ids.len();
        self.row += count;
        Ok(true)
    }

    fn consumed(&self) -> u64 {
        0
    }
}
