//! The numbers that stand for dtypes, codecs and checksums in the header.

use crate::codec::Codec;
use crate::dtype::DType;

/// XXH3-64 of each block, the only checksum of version 1; 0 stands for none.
pub(super) const CHECKSUM_XXH3: u32 = 1;

pub(super) const fn dtype_code(dtype: DType) -> u32 {
    match dtype {
        DType::F32 => 1,
        DType::F16 => 2,
        DType::BF16 => 3,
        DType::F64 => 4,
    }
}

pub(super) fn dtype_of(code: u32) -> Option<DType> {
    DType::ALL.into_iter().find(|dtype| dtype_code(*dtype) == code)
}

pub(super) const fn codec_code(codec: Codec) -> u32 {
    match codec {
        Codec::Plain => 0,
    }
}

pub(super) const fn codec_of(code: u32) -> Option<Codec> {
    match code {
        0 => Some(Codec::Plain),
        _ => None,
    }
}
