//! What becomes of the rows that a conversion copies: kept as they are, decoded to another
//! dtype, or quantized.

use half::{bf16, f16};

use crate::codec::{
    Codec, Decoder, Encoding, Kernels, Loss, LossSum, Quantizer, RowParts, Scaling,
};
use crate::dtype::{DType, Element};
use crate::error::{Error, Result};
use crate::layout::{Layout, Part};
use crate::table::Table;
use crate::writer::WriteOptions;

/// What becomes of rows.
pub(crate) struct Recoding<'a> {
    layout: &'a Layout,
    /// How the rows that are written are encoded.
    pub(super) encoding: Encoding,
    work: Work,
    converted: Vec<u8>,
}

enum Work {
    /// Written as they are.
    Keep,
    /// Put together from their parts; without the scales where the table has one for all.
    Assemble {
        scales: bool,
    },
    /// Decoded, each number rounded once.
    Decode(DecodeInto),
    Quantize {
        quantizer: Quantizer,
        from: Decoder<f32>,
        back: Decoder<f32>,
        loss: LossSum,
    },
}

enum DecodeInto {
    F32(Decoder<f32>),
    F16(Decoder<f16>),
    BF16(Decoder<bf16>),
    F64(Decoder<f64>),
}

impl<'a> Recoding<'a> {
    /// What makes rows of `dtype` of a table's.
    pub(crate) fn new(table: &'a Table, dtype: DType) -> Result<Self> {
        Recoding::of(&table.layout, table.encoding(), dtype)
    }

    /// What makes rows of `dtype` of rows that are encoded so.
    pub(super) fn of(layout: &'a Layout, from: Encoding, dtype: DType) -> Result<Self> {
        let kernels = Kernels::of_process();
        let keep = dtype == from.dtype;
        let quantizer = Quantizer::to(dtype).filter(|_| !keep);
        let (encoding, work) = if keep {
            (from, keeping(layout, from))
        } else if let Some(quantizer) = quantizer {
            let dim = u32::try_from(layout.dim).unwrap_or(u32::MAX);
            let to = quantizer.encoding(dim);
            if to.codec.row_bytes(to.dtype, dim.into()).is_none() {
                return Err(refuse(format!(
                    "{dtype} stores {} elements together, and rows have {dim}; choose i8 or f8_e4m3",
                    dtype.block_elements()
                )));
            }
            let (from, back) = (Decoder::of(from, kernels), Decoder::of(to, kernels));
            (to, Work::Quantize { quantizer, from, back, loss: LossSum::new() })
        } else {
            let to = match dtype {
                DType::F32 => DecodeInto::F32(Decoder::of(from, kernels)),
                DType::F16 => DecodeInto::F16(Decoder::of(from, kernels)),
                DType::BF16 => DecodeInto::BF16(Decoder::of(from, kernels)),
                DType::F64 => DecodeInto::F64(Decoder::of(from, kernels)),
                other => {
                    return Err(refuse(format!(
                        "embmap reads {other} and does not make it of {}; choose f32, f16, bf16, \
                         f64, i8, f8_e4m3 or q8_0",
                        from.dtype
                    )));
                }
            };
            (Encoding { dtype, codec: Codec::Plain }, Work::Decode(to))
        };
        Ok(Recoding { layout, encoding, work, converted: Vec::new() })
    }

    /// Tells a writer how rows will be encoded.
    pub(super) fn describe(&self, write: WriteOptions) -> WriteOptions {
        let write = write.codec(self.encoding.codec);
        match (&self.work, &self.layout.scales) {
            (Work::Assemble { scales: false }, Part::Constant(scale)) => {
                write.table_scale(scale.to_vec())
            }
            _ => write,
        }
    }

    /// Encodes rows anew that follow each other from `first` on.
    pub(crate) fn encode<'b>(
        &'b mut self,
        first: u64,
        rows: &'b [u8],
        row_bytes: usize,
    ) -> Result<&'b [u8]> {
        let Recoding { layout, work, converted, .. } = self;
        let rows_of = rows.chunks_exact(row_bytes.max(1)).map(|row| layout.parts(row));
        converted.clear();
        match work {
            Work::Keep => return Ok(rows),
            Work::Assemble { scales } => {
                for parts in rows_of {
                    converted.extend_from_slice(parts.values);
                    if *scales {
                        converted.extend_from_slice(parts.scales);
                    }
                    converted.extend_from_slice(parts.biases);
                }
            }
            Work::Decode(DecodeInto::F32(decoder)) => decode(rows_of, decoder, layout, converted),
            Work::Decode(DecodeInto::F16(decoder)) => decode(rows_of, decoder, layout, converted),
            Work::Decode(DecodeInto::BF16(decoder)) => decode(rows_of, decoder, layout, converted),
            Work::Decode(DecodeInto::F64(decoder)) => decode(rows_of, decoder, layout, converted),
            Work::Quantize { quantizer, from, back, loss } => {
                let [mut given, mut read] = [vec![0.0; layout.dim], vec![0.0; layout.dim]];
                let values =
                    self.encoding.codec.value_bytes(self.encoding.dtype, layout.dim as u64);
                let values = values.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(0);
                for (id, parts) in (first..).zip(rows_of) {
                    from.decode(parts, &mut given);
                    let start = converted.len();
                    quantizer
                        .push(&given, converted)
                        .map_err(|at| not_held(id, at, given[at], self.encoding.dtype))?;
                    let (values, scales) = converted[start..].split_at(values);
                    back.decode(RowParts { values, scales, biases: &[] }, &mut read);
                    loss.add(&given, &read);
                }
            }
        }
        Ok(converted)
    }

    /// What quantizing cost so far; `None` where rows are not quantized.
    pub(super) fn loss(&self) -> Option<Loss> {
        match &self.work {
            Work::Quantize { loss, .. } => Some(loss.finish()),
            _ => None,
        }
    }
}

/// How rows are kept: as they lie where that is values, scales, biases.
fn keeping(layout: &Layout, encoding: Encoding) -> Work {
    let dim = layout.dim as u64;
    let one_scale = matches!(
        encoding.codec,
        Codec::Scaled(Scaling { block, bias: None, .. }) if u64::from(block) == dim
    );
    let follows = |part: &Part, at: u64| match part {
        Part::Absent | Part::Apart(_) => true,
        Part::InRow { start, .. } => *start as u64 == at,
        Part::Constant(_) => false,
    };
    let scales = encoding.codec.scale_bytes(dim).unwrap_or(0);
    let biases_at = layout.value_bytes as u64 + scales;
    if matches!(layout.scales, Part::Constant(_)) && one_scale {
        return Work::Assemble { scales: false };
    }
    let whole = encoding.codec.row_bytes(encoding.dtype, dim) == Some(layout.row_bytes());
    if whole
        && follows(&layout.scales, layout.value_bytes as u64)
        && follows(&layout.biases, biases_at)
    {
        return Work::Keep;
    }
    Work::Assemble { scales: true }
}

fn decode<'a, O: Element>(
    rows: impl Iterator<Item = RowParts<'a>>,
    decoder: &Decoder<O>,
    layout: &Layout,
    converted: &mut Vec<u8>,
) {
    let mut elements = vec![O::from_f32(0.0); layout.dim];
    for row in rows {
        decoder.decode(row, &mut elements);
        converted.extend_from_slice(bytemuck::cast_slice(&elements));
    }
}

fn refuse(reason: String) -> Error {
    Error::InvalidOption { option: "dtype", reason }
}

fn not_held(id: u64, column: usize, value: f32, dtype: DType) -> Error {
    refuse(format!(
        "row {id} holds {value} in column {column}, which no scale of {dtype} can hold; convert to \
         f16, bf16 or f32, or leave the row out"
    ))
}
