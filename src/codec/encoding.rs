//! How a table's rows are encoded, and how long their parts are.

use std::fmt;

use half::{bf16, f16};

use super::float8::e8m0;
use crate::dtype::DType;

/// How a table's rows are encoded.
///
/// ```
/// use embmap::{Codec, ScaleType, Scaling};
///
/// assert_eq!(Codec::Plain.name(), "plain");
/// let scaling = Scaling { block: 32, scale: ScaleType::F16, bias: Some(ScaleType::F16) };
/// assert_eq!(
///     Codec::Scaled(scaling).to_string(),
///     "scaled: f16 scale and f16 bias for every 32 elements"
/// );
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Codec {
    /// The elements one after the other, as their dtype says, little-endian.
    Plain,
    /// Elements of 4, 6 or 8 bits that are multiplied by a scale.
    Scaled(Scaling),
    /// The block types of GGUF, whose scales lie among their elements.
    Blocks,
}

/// The scales of elements: `value = element * scale + bias`.
///
/// The product is rounded to `f32`, then the sum, then the result once more where it is asked
/// for as another type: never two of these in one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Scaling {
    /// The elements that share a scale: `dim` for one scale a row, or one for the table.
    pub block: u32,
    /// The type of the scales.
    pub scale: ScaleType,
    /// The type of the biases, where there are any; there is one for each scale.
    pub bias: Option<ScaleType>,
}

/// The type of a scale or a bias.
///
/// ```
/// use embmap::ScaleType;
///
/// assert_eq!((ScaleType::E8M0.name(), ScaleType::E8M0.size()), ("f8_e8m0", 1));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ScaleType {
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 half precision.
    F16,
    /// The upper half of an `f32`.
    BF16,
    /// A power of two: 8 bits of exponent with bias 127, 255 for NaN, as the OCP microscaling
    /// (MX) specification has it.
    E8M0,
}

impl ScaleType {
    /// Every type of scale, in the order of their codes.
    pub const ALL: [ScaleType; 4] =
        [ScaleType::F32, ScaleType::F16, ScaleType::BF16, ScaleType::E8M0];

    /// The name that `info` shows: `f32`, `f16`, `bf16`, `f8_e8m0`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            ScaleType::F32 => "f32",
            ScaleType::F16 => "f16",
            ScaleType::BF16 => "bf16",
            ScaleType::E8M0 => "f8_e8m0",
        }
    }

    /// The bytes of one scale.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            ScaleType::F32 => 4,
            ScaleType::F16 | ScaleType::BF16 => 2,
            ScaleType::E8M0 => 1,
        }
    }

    /// The scale at an index among others.
    #[inline]
    pub(crate) fn read(self, scales: &[u8], index: usize) -> f32 {
        let start = index * self.size();
        let bytes = &scales[start..start + self.size()];
        match self {
            ScaleType::F32 => bytemuck::pod_read_unaligned(bytes),
            ScaleType::F16 => bytemuck::pod_read_unaligned::<f16>(bytes).to_f32(),
            ScaleType::BF16 => bytemuck::pod_read_unaligned::<bf16>(bytes).to_f32(),
            ScaleType::E8M0 => e8m0(bytes[0]),
        }
    }
}

impl fmt::Display for ScaleType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Codec {
    /// The name that `info` shows: `plain`, `scaled`, `blocks`. Displayed, a codec says more.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Codec::Plain => "plain",
            Codec::Scaled(_) => "scaled",
            Codec::Blocks => "blocks",
        }
    }

    /// The codec of a dtype where nothing else is said: blocks for the block types, else plain.
    #[must_use]
    pub const fn of(dtype: DType) -> Self {
        if dtype.is_blocks() { Codec::Blocks } else { Codec::Plain }
    }

    /// The bytes of one row's values, or `None` where that overflows, or where `dim` elements of
    /// this dtype cannot be encoded so: no whole number of blocks, or a dtype of another codec.
    pub(crate) fn value_bytes(self, dtype: DType, dim: u64) -> Option<u64> {
        if let Codec::Scaled(scaling) = self {
            let block = u64::from(scaling.block);
            let packed = dtype.block_elements() as u64;
            if block == 0 || !dim.is_multiple_of(block) || !block.is_multiple_of(packed) {
                return None;
            }
        }
        if self.takes(dtype) { dtype.bytes_of(dim) } else { None }
    }

    /// True where rows of a dtype may be encoded so. A bias that is a power of two is no such.
    pub(crate) fn takes(self, dtype: DType) -> bool {
        match self {
            Codec::Plain => !dtype.is_blocks(),
            Codec::Blocks => dtype.is_blocks(),
            Codec::Scaled(scaling) => is_scalable(dtype) && scaling.bias != Some(ScaleType::E8M0),
        }
    }

    /// The bytes of one row's scales; 0 where there are none, `None` where the block length does
    /// not divide `dim`.
    pub(crate) fn scale_bytes(self, dim: u64) -> Option<u64> {
        match self {
            Codec::Plain | Codec::Blocks => Some(0),
            Codec::Scaled(scaling) => scaling.bytes(scaling.scale, dim),
        }
    }

    /// The bytes of one row's biases; 0 where there are none, `None` where the block length does
    /// not divide `dim`.
    pub(crate) fn bias_bytes(self, dim: u64) -> Option<u64> {
        match self {
            Codec::Scaled(scaling @ Scaling { bias: Some(bias), .. }) => scaling.bytes(bias, dim),
            _ => Some(0),
        }
    }

    /// The bytes of one row with its scales and biases.
    pub(crate) fn row_bytes(self, dtype: DType, dim: u64) -> Option<u64> {
        let values = self.value_bytes(dtype, dim)?;
        values.checked_add(self.scale_bytes(dim)?)?.checked_add(self.bias_bytes(dim)?)
    }
}

impl Scaling {
    fn bytes(self, scale: ScaleType, dim: u64) -> Option<u64> {
        let block = u64::from(self.block);
        if block == 0 || !dim.is_multiple_of(block) {
            return None;
        }
        (dim / block).checked_mul(scale.size() as u64)
    }
}

/// True for the dtypes that may have scales.
fn is_scalable(dtype: DType) -> bool {
    !dtype.is_blocks() && !matches!(dtype, DType::F32 | DType::F16 | DType::BF16 | DType::F64)
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Codec::Scaled(Scaling { block, scale, bias }) = self else {
            return f.pad(self.name());
        };
        write!(f, "scaled: {scale} scale")?;
        if let Some(bias) = bias {
            write!(f, " and {bias} bias")?;
        }
        write!(f, " for every {block} elements")
    }
}

/// How a row's bytes are to be read: the element type, and what stands around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Encoding {
    pub(crate) dtype: DType,
    pub(crate) codec: Codec,
}
