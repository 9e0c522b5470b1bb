//! How rows are encoded: the codec and its fields in the header page.

use byteorder::{ByteOrder, LittleEndian};

use super::codes;
use super::field::{self, Field, HEADER_BYTES};
use crate::codec::{Codec, Scaling};
use crate::dtype::DType;
use crate::error::FormatError;

/// How the rows of a file are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RowForm {
    pub(crate) dim: u32,
    pub(crate) dtype: DType,
    pub(crate) codec: Codec,
    /// The scale of every row, where it is the same: its bytes, then zeros. Rows hold none then.
    pub(crate) table_scale: Option<[u8; 4]>,
}

impl RowForm {
    /// The bytes of the values, the scales and the biases in a row, or `None` where such rows
    /// cannot be.
    pub(crate) fn parts(&self) -> Option<[u64; 3]> {
        let dim = u64::from(self.dim);
        let values = self.codec.value_bytes(self.dtype, dim)?;
        let (scales, biases) = (self.codec.scale_bytes(dim)?, self.codec.bias_bytes(dim)?);
        match (self.table_scale, self.codec) {
            (None, _) => Some([values, scales, biases]),
            (Some(_), Codec::Scaled(Scaling { block, bias: None, .. })) if block == self.dim => {
                Some([values, 0, 0])
            }
            (Some(_), _) => None,
        }
    }

    /// The bytes of one row, or `None` where such rows cannot be.
    pub(crate) fn row_bytes(&self) -> Option<u64> {
        let [values, scales, biases] = self.parts()?;
        values.checked_add(scales)?.checked_add(biases)
    }

    /// What the distance between rows is a multiple of: typed slices need it.
    pub(crate) fn stride_multiple(&self) -> u64 {
        match (self.codec, self.dtype.block_elements()) {
            (Codec::Plain, 1) => self.dtype.block_bytes() as u64,
            _ => 1,
        }
    }

    /// The codec fields, each with its value.
    fn fields(&self) -> Option<[(Field, u64); 9]> {
        let [values, scales, biases] = self.parts()?;
        let scaling = match self.codec {
            Codec::Scaled(scaling) => Some(scaling),
            _ => None,
        };
        let block = match self.codec {
            Codec::Plain => 0,
            Codec::Scaled(scaling) => u64::from(scaling.block),
            Codec::Blocks => self.dtype.block_elements() as u64,
        };
        let bits = (self.dtype.block_bytes() * 8 / self.dtype.block_elements()) as u64;
        let packed = scaling.is_some() && self.dtype.block_elements() > 1;
        let scale = scaling.map_or(0, |scaling| codes::scale_code(scaling.scale));
        let bias_dtype = scaling.and_then(|scaling| scaling.bias).map_or(0, codes::scale_code);
        let after = |bytes: u64, start: u64| if bytes == 0 { 0 } else { start };
        let table_scale = self.table_scale.map_or(0, u32::from_le_bytes);
        Some([
            (field::BITS, if scaling.is_some() { bits } else { 0 }),
            (field::SCALE_DTYPE, scale.into()),
            (field::BIAS_DTYPE, bias_dtype.into()),
            (field::BLOCK_LENGTH, block),
            (field::SCALES_OFFSET, after(scales, values)),
            (field::BIASES_OFFSET, after(biases, values + scales)),
            (field::NIBBLE_ORDER, packed.into()),
            (field::TABLE_SCALE_PRESENT, self.table_scale.is_some().into()),
            (field::TABLE_SCALE, table_scale.into()),
        ])
    }

    pub(super) fn encode(&self, page: &mut [u8; HEADER_BYTES]) {
        LittleEndian::write_u32(&mut page[field::DTYPE.range()], codes::dtype_code(self.dtype));
        LittleEndian::write_u32(&mut page[field::CODEC.range()], codes::codec_code(self.codec));
        for (field, value) in self.fields().into_iter().flatten() {
            LittleEndian::write_uint(&mut page[field.range()], value, field.bytes);
        }
    }

    /// Reads the dtype, the codec and the codec fields of rows of `dim` elements.
    ///
    /// What a field says is read only where it says something that others do not; then the
    /// fields of such rows are compared with those that are there.
    pub(super) fn parse(page: &[u8; HEADER_BYTES], dim: u32) -> Result<Self, FormatError> {
        let found = get(page, field::DTYPE);
        let dtype = codes::dtype_of(found).ok_or(FormatError::DType { found })?;
        let found = get(page, field::CODEC);
        let codec = match found {
            codes::PLAIN => Codec::Plain,
            codes::SCALED => Codec::Scaled(parse_scaling(page)?),
            codes::BLOCKS => Codec::Blocks,
            found => return Err(FormatError::Codec { found }),
        };
        if !codec.takes(dtype) {
            return Err(FormatError::CodecDType { codec: codec.name(), dtype });
        }
        let mut form = RowForm { dim, dtype, codec, table_scale: None };
        if form.parts().is_none() {
            let multiple = dtype.block_elements() as u64;
            let found = match codec {
                Codec::Scaled(scaling) => scaling.block.into(),
                Codec::Plain | Codec::Blocks => multiple,
            };
            return Err(FormatError::BlockLength { dim: dim.into(), multiple, found });
        }
        if let (1, Codec::Scaled(scaling)) = (get(page, field::TABLE_SCALE_PRESENT), codec) {
            let mut bytes = [0; 4];
            let size = scaling.scale.size();
            bytes[..size].copy_from_slice(&page[field::TABLE_SCALE.range()][..size]);
            let with_scale = RowForm { table_scale: Some(bytes), ..form };
            if with_scale.parts().is_some() {
                form = with_scale;
            }
        }
        for (field, expected) in form.fields().into_iter().flatten() {
            let found = LittleEndian::read_uint(&page[field.range()], field.bytes);
            if found != expected {
                return Err(FormatError::CodecField { field: field.name, expected, found });
            }
        }
        Ok(form)
    }
}

fn parse_scaling(page: &[u8; HEADER_BYTES]) -> Result<Scaling, FormatError> {
    let scale_type = |field: Field| {
        let found = get(page, field);
        let unknown = FormatError::ScaleType { field: field.name, found };
        codes::scale_of(found).ok_or(unknown)
    };
    let bias = match get(page, field::BIAS_DTYPE) {
        0 => None,
        _ => Some(scale_type(field::BIAS_DTYPE)?),
    };
    let block = get(page, field::BLOCK_LENGTH);
    Ok(Scaling { block, scale: scale_type(field::SCALE_DTYPE)?, bias })
}

fn get(page: &[u8; HEADER_BYTES], field: Field) -> u32 {
    LittleEndian::read_u32(&page[field.range()])
}
