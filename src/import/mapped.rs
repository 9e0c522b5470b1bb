//! The rows of tokens of a model2vec table: looked up through its mapping, multiplied by its
//! weights.

use half::f16;

use crate::codec::{Codec, Decoder, Kernels};
use crate::dtype::{DType, Element};
use crate::error::{Error, Result};
use crate::source::{Batch, MODEL2VEC, Mapped, Numbers, RowStream, StreamForm, Vocabulary};
use crate::table::Table;

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
        let vocab = parts.tokens(table.vocab())?;
        let vocabulary = parts.tokens.as_deref().map(Vocabulary::read).transpose()?;
        let form = StreamForm {
            format: MODEL2VEC,
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
        self.ids = self.parts.rows_of(self.row, count, self.table.vocab())?;
        let bytes = self.ids.len().saturating_mul(self.raw_bytes());
        self.raw.resize(bytes, 0);
        self.table.gather_bytes_into(&self.ids, &mut self.raw)
    }

    fn raw_bytes(&self) -> usize {
        usize::try_from(self.table.row_bytes()).unwrap_or(usize::MAX)
    }

    /// Multiplies the raw rows by the weights of their tokens.
    fn weigh(&self, factors: &[f64], out: &mut Vec<u8>) {
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
    }
}

/// The type of the products, as numpy has it: f64 where either is, f16 where the weights are and
/// the rows are no wider, else f32; without weights that of the rows.
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
        Some(DType::F16) if matches!(stored, DType::F16 | DType::I8 | DType::U8) => DType::F16,
        Some(_) => DType::F32,
    })
}

impl RowStream for MappedRows {
    fn next(&mut self, batch: &mut Batch) -> Result<bool> {
        batch.clear();
        let count = (self.vocab - self.row).min(self.form.batch_rows() as u64);
        if count == 0 {
            return Ok(false);
        }
        self.gather(count)?;
        match self.parts.factors(self.row, count)? {
            Some(factors) => self.weigh(&factors, &mut batch.rows),
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
