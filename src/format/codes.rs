//! The numbers that stand for dtypes, codecs and checksums in the header.

use crate::codec::{Codec, ScaleType};
use crate::dtype::DType;

/// XXH3-64 of each block, the only checksum of version 1; 0 stands for none.
pub(super) const CHECKSUM_XXH3: u32 = 1;

pub(super) const fn dtype_code(dtype: DType) -> u32 {
    match dtype {
        DType::F32 => 1,
        DType::F16 => 2,
        DType::BF16 => 3,
        DType::F64 => 4,
        DType::F8E4M3 => 5,
        DType::F8E5M2 => 6,
        DType::F8E4M3Fnuz => 7,
        DType::F8E5M2Fnuz => 8,
        DType::I8 => 9,
        DType::U8 => 10,
        DType::U4 => 11,
        DType::U6 => 12,
        DType::Q8_0 => 13,
        DType::Q4_0 => 14,
        DType::Q4_1 => 15,
        DType::Q5_0 => 16,
        DType::Q5_1 => 17,
        DType::Q2K => 18,
        DType::Q3K => 19,
        DType::Q4K => 20,
        DType::Q5K => 21,
        DType::Q6K => 22,
        DType::IQ4NL => 23,
        DType::IQ4XS => 24,
    }
}

pub(super) fn dtype_of(code: u32) -> Option<DType> {
    DType::ALL.into_iter().find(|dtype| dtype_code(*dtype) == code)
}

/// The codes of codecs.
pub(super) const PLAIN: u32 = 0;
pub(super) const SCALED: u32 = 1;
pub(super) const BLOCKS: u32 = 2;

pub(super) const fn codec_code(codec: Codec) -> u32 {
    match codec {
        Codec::Plain => PLAIN,
        Codec::Scaled(_) => SCALED,
        Codec::Blocks => BLOCKS,
    }
}

/// The code of a type of scales; 0 stands for none.
pub(super) const fn scale_code(scale: ScaleType) -> u32 {
    match scale {
        ScaleType::F32 => 1,
        ScaleType::F16 => 2,
        ScaleType::BF16 => 3,
        ScaleType::E8M0 => 4,
    }
}

pub(super) fn scale_of(code: u32) -> Option<ScaleType> {
    ScaleType::ALL.into_iter().find(|scale| scale_code(*scale) == code)
}
