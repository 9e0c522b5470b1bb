//! Element types, as stored and as Rust sees them.

use std::fmt;
use std::str::FromStr;

use bytemuck::Pod;
use half::{bf16, f16};

/// The type of a table's elements, as stored.
///
/// ```
/// use embmap::DType;
///
/// assert_eq!((DType::BF16.block_elements(), DType::BF16.block_bytes()), (1, 2));
/// assert_eq!((DType::Q8_0.block_elements(), DType::Q8_0.block_bytes()), (32, 34));
/// assert_eq!("f8_e4m3".parse(), Ok(DType::F8E4M3));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DType {
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 half precision.
    F16,
    /// The upper half of an `f32`.
    BF16,
    /// IEEE 754 double precision.
    F64,
    /// 8 bits: sign, 4 of exponent (bias 7), 3 of mantissa. Finite but for one NaN of each
    /// sign: the "FN" variant of the OCP 8-bit floating point specification.
    F8E4M3,
    /// 8 bits: sign, 5 of exponent (bias 15), 2 of mantissa: the upper byte of an `f16`.
    F8E5M2,
    /// 8 bits, as `f8_e4m3` with bias 8; no infinity, no negative zero, one NaN (`0x80`).
    F8E4M3Fnuz,
    /// 8 bits, as `f8_e5m2` with bias 16; no infinity, no negative zero, one NaN (`0x80`).
    F8E5M2Fnuz,
    /// A signed byte.
    I8,
    /// An unsigned byte.
    U8,
    /// 4 bits, unsigned: two elements a byte, the first in the lower bits, as MLX packs them.
    U4,
    /// 6 bits, unsigned: four elements in three bytes, the first in the lowest bits, as MLX
    /// packs them.
    U6,
    /// GGUF: blocks of 32 signed bytes with an f16 scale.
    Q8_0,
    /// GGUF: blocks of 32 of 4 bits with an f16 scale.
    Q4_0,
    /// GGUF: blocks of 32 of 4 bits with an f16 scale and minimum.
    Q4_1,
    /// GGUF: blocks of 32 of 5 bits with an f16 scale.
    Q5_0,
    /// GGUF: blocks of 32 of 5 bits with an f16 scale and minimum.
    Q5_1,
    /// GGUF: blocks of 256 of 2 bits, a 4-bit scale and minimum for each 16.
    Q2K,
    /// GGUF: blocks of 256 of 3 bits, a 6-bit scale for each 16.
    Q3K,
    /// GGUF: blocks of 256 of 4 bits, a 6-bit scale and minimum for each 32.
    Q4K,
    /// GGUF: blocks of 256 of 5 bits, a 6-bit scale and minimum for each 32.
    Q5K,
    /// GGUF: blocks of 256 of 6 bits, an 8-bit scale for each 16.
    Q6K,
    /// GGUF: blocks of 32 of 4 bits that stand for uneven steps, with an f16 scale.
    IQ4NL,
    /// GGUF: blocks of 256 of 4 bits that stand for uneven steps, a 6-bit scale for each 32.
    IQ4XS,
}

impl DType {
    /// Every dtype, in the order of their codes.
    pub const ALL: [DType; 24] = [
        DType::F32,
        DType::F16,
        DType::BF16,
        DType::F64,
        DType::F8E4M3,
        DType::F8E5M2,
        DType::F8E4M3Fnuz,
        DType::F8E5M2Fnuz,
        DType::I8,
        DType::U8,
        DType::U4,
        DType::U6,
        DType::Q8_0,
        DType::Q4_0,
        DType::Q4_1,
        DType::Q5_0,
        DType::Q5_1,
        DType::Q2K,
        DType::Q3K,
        DType::Q4K,
        DType::Q5K,
        DType::Q6K,
        DType::IQ4NL,
        DType::IQ4XS,
    ];

    /// The name that the command line and `info` use: `f32`, `bf16`, `f8_e4m3`, `q8_0`, ...
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            DType::F64 => "f64",
            DType::F8E4M3 => "f8_e4m3",
            DType::F8E5M2 => "f8_e5m2",
            DType::F8E4M3Fnuz => "f8_e4m3fnuz",
            DType::F8E5M2Fnuz => "f8_e5m2fnuz",
            DType::I8 => "i8",
            DType::U8 => "u8",
            DType::U4 => "u4",
            DType::U6 => "u6",
            DType::Q8_0 => "q8_0",
            DType::Q4_0 => "q4_0",
            DType::Q4_1 => "q4_1",
            DType::Q5_0 => "q5_0",
            DType::Q5_1 => "q5_1",
            DType::Q2K => "q2_k",
            DType::Q3K => "q3_k",
            DType::Q4K => "q4_k",
            DType::Q5K => "q5_k",
            DType::Q6K => "q6_k",
            DType::IQ4NL => "iq4_nl",
            DType::IQ4XS => "iq4_xs",
        }
    }

    /// The elements that are stored together, in whole bytes: 1 for most, 2 for `u4`, 4 for
    /// `u6`, 32 or 256 for the block types of GGUF.
    #[must_use]
    pub const fn block_elements(self) -> usize {
        match self {
            DType::U4 => 2,
            DType::U6 => 4,
            DType::Q8_0 | DType::Q4_0 | DType::Q4_1 | DType::Q5_0 | DType::Q5_1 | DType::IQ4NL => {
                32
            }
            DType::Q2K | DType::Q3K | DType::Q4K | DType::Q5K | DType::Q6K | DType::IQ4XS => 256,
            _ => 1,
        }
    }

    /// The bytes that [`block_elements`](DType::block_elements) elements take.
    #[must_use]
    pub const fn block_bytes(self) -> usize {
        match self {
            DType::F8E4M3
            | DType::F8E5M2
            | DType::F8E4M3Fnuz
            | DType::F8E5M2Fnuz
            | DType::I8
            | DType::U8
            | DType::U4 => 1,
            DType::F16 | DType::BF16 => 2,
            DType::U6 => 3,
            DType::F32 => 4,
            DType::F64 => 8,
            DType::Q8_0 => 34,
            DType::Q4_0 | DType::IQ4NL => 18,
            DType::Q4_1 => 20,
            DType::Q5_0 => 22,
            DType::Q5_1 => 24,
            DType::Q2K => 84,
            DType::Q3K => 110,
            DType::Q4K => 144,
            DType::Q5K => 176,
            DType::Q6K => 210,
            DType::IQ4XS => 136,
        }
    }

    /// True for the block types of GGUF, whose scales lie among their elements.
    #[must_use]
    pub const fn is_blocks(self) -> bool {
        self.block_elements() >= 32
    }

    /// The bytes of `count` elements, or `None` where they are no whole number of blocks, or
    /// the product overflows.
    ///
    /// ```
    /// use embmap::DType;
    ///
    /// assert_eq!(DType::U4.bytes_of(160), Some(80));
    /// assert_eq!(DType::Q8_0.bytes_of(100), None);
    /// ```
    #[must_use]
    pub const fn bytes_of(self, count: u64) -> Option<u64> {
        let elements = self.block_elements() as u64;
        if !count.is_multiple_of(elements) {
            return None;
        }
        (count / elements).checked_mul(self.block_bytes() as u64)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for DType {
    type Err = UnknownDType;

    fn from_str(name: &str) -> Result<Self, UnknownDType> {
        DType::ALL.into_iter().find(|dtype| dtype.name() == name).ok_or(UnknownDType)
    }
}

/// The name given is no dtype's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown dtype, expected one of {}", DType::ALL.map(DType::name).join(", "))]
pub struct UnknownDType;

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
    impl Sealed for half::f16 {}
    impl Sealed for half::bf16 {}
    impl Sealed for i8 {}
    impl Sealed for u8 {}
}

/// A Rust type that a row can be seen as: `f32`, `f16`, `bf16`, `f64`, `i8`, `u8`. Sealed.
///
/// The integers are what is stored: where a table has scales, they are still to be multiplied.
///
/// ```
/// use embmap::{DType, Element};
///
/// assert_eq!(<half::f16 as Element>::DTYPE, DType::F16);
/// ```
pub trait Element: sealed::Sealed + Pod + Send + Sync + fmt::Debug + fmt::Display {
    /// The dtype that this type is.
    const DTYPE: DType;

    /// The nearest element to an `f64`, ties to even. An integer type takes a NaN as 0.
    fn from_f64(value: f64) -> Self;

    /// The nearest element to an `f32`, ties to even. An integer type takes a NaN as 0.
    fn from_f32(value: f32) -> Self;

    /// The same number as another element, rounded once, to nearest.
    ///
    /// Between equal types the bits are kept, NaN payloads included.
    fn convert<To: Element>(self) -> To;

    /// True for a NaN of any payload.
    fn is_nan(self) -> bool;

    /// True for either infinity.
    fn is_infinite(self) -> bool;
}

/// A Rust type that [`gather_into`](crate::Table::gather_into) can write: `f32`, `f16`,
/// `bf16`. Sealed.
pub trait Output: Element {}

impl Output for f32 {}
impl Output for f16 {}
impl Output for bf16 {}

impl Element for f32 {
    const DTYPE: DType = DType::F32;

    #[expect(clippy::cast_possible_truncation, reason = "rounding to nearest is the purpose")]
    fn from_f64(value: f64) -> Self {
        value as f32
    }

    fn from_f32(value: f32) -> Self {
        value
    }

    fn convert<To: Element>(self) -> To {
        To::from_f32(self)
    }

    fn is_nan(self) -> bool {
        self.is_nan()
    }

    fn is_infinite(self) -> bool {
        self.is_infinite()
    }
}

impl Element for f64 {
    const DTYPE: DType = DType::F64;

    fn from_f64(value: f64) -> Self {
        value
    }

    fn from_f32(value: f32) -> Self {
        f64::from(value)
    }

    fn convert<To: Element>(self) -> To {
        To::from_f64(self)
    }

    fn is_nan(self) -> bool {
        self.is_nan()
    }

    fn is_infinite(self) -> bool {
        self.is_infinite()
    }
}

impl Element for f16 {
    const DTYPE: DType = DType::F16;

    fn from_f64(value: f64) -> Self {
        f16::from_f32(round_to_odd(value))
    }

    fn from_f32(value: f32) -> Self {
        f16::from_f32(value)
    }

    fn convert<To: Element>(self) -> To {
        To::from_f32(self.to_f32())
    }

    fn is_nan(self) -> bool {
        f16::is_nan(self)
    }

    fn is_infinite(self) -> bool {
        f16::is_infinite(self)
    }
}

impl Element for bf16 {
    const DTYPE: DType = DType::BF16;

    fn from_f64(value: f64) -> Self {
        bf16::from_f32(round_to_odd(value))
    }

    fn from_f32(value: f32) -> Self {
        bf16::from_f32(value)
    }

    fn convert<To: Element>(self) -> To {
        To::from_f32(self.to_f32())
    }

    fn is_nan(self) -> bool {
        bf16::is_nan(self)
    }

    fn is_infinite(self) -> bool {
        bf16::is_infinite(self)
    }
}

macro_rules! integer_element {
    ($($integer:ty, $dtype:expr;)*) => {
        $(impl Element for $integer {
            const DTYPE: DType = $dtype;

            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a cast of a whole number goes to the nearest integer there is"
            )]
            fn from_f64(value: f64) -> Self {
                value.round_ties_even() as $integer
            }

            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a cast of a whole number goes to the nearest integer there is"
            )]
            fn from_f32(value: f32) -> Self {
                value.round_ties_even() as $integer
            }

            fn convert<To: Element>(self) -> To {
                To::from_f32(f32::from(self))
            }

            fn is_nan(self) -> bool {
                false
            }

            fn is_infinite(self) -> bool {
                false
            }
        })*
    };
}

integer_element! {
    i8, DType::I8;
    u8, DType::U8;
}

/// Narrows an `f64` so that narrowing the result again rounds as if it were done in one step.
///
/// Where the number is no `f32`, its last bit is set: then no later rounding can take it for
/// a tie. `half` narrows through a nearest `f32`, or through the upper half of the bits,
/// depending on the CPU, and both round twice. (Boldo and Melquiond, "Emulation of FMA and
/// correctly rounded sums: proved algorithms using rounding to odd", 2008.)
#[expect(clippy::float_cmp, reason = "whether the number is an f32 exactly is the question")]
fn round_to_odd(value: f64) -> f32 {
    let nearest = f32::from_f64(value);
    if nearest.is_nan() || f64::from(nearest) == value {
        return nearest;
    }
    let away = f64::from(nearest).abs() > value.abs();
    f32::from_bits((nearest.to_bits() - u32::from(away)) | 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The finite neighbours of a number among all of a 16-bit type, found by looking at all.
    fn nearest(value: f64, from_bits: fn(u16) -> f64) -> u16 {
        let distance = |bits: &u16| (from_bits(*bits) - value).abs();
        (0..=u16::MAX)
            .filter(|bits| from_bits(*bits).is_finite())
            // Ties go to the even one; of the two zeros the sign decides.
            .min_by(|a, b| {
                distance(a).total_cmp(&distance(b)).then((a & 1).cmp(&(b & 1))).then_with(|| {
                    let sign =
                        |bits: u16| from_bits(bits).is_sign_negative() != value.is_sign_negative();
                    sign(*a).cmp(&sign(*b))
                })
            })
            .unwrap()
    }

    fn check(value: f64) {
        let got = f16::from_f64_once(value);
        if got.is_finite() {
            assert_eq!(
                got.to_bits(),
                nearest(value, |bits| f16::from_bits(bits).to_f64()),
                "{value:e}"
            );
        }
        let got = bf16::from_f64_once(value);
        if got.is_finite() {
            assert_eq!(
                got.to_bits(),
                nearest(value, |bits| bf16::from_bits(bits).to_f64()),
                "{value:e}"
            );
        }
    }

    /// The trait's conversion, which the types' own method of that name hides.
    trait Once: Element {
        fn from_f64_once(value: f64) -> Self {
            <Self as Element>::from_f64(value)
        }
    }

    impl Once for f16 {}
    impl Once for bf16 {}

    #[test]
    fn numbers_just_beside_a_tie_are_rounded_once() {
        let tiny = f64::from(f32::EPSILON) / 1e6;
        for scale in [1.0, 3.0, -1.0, 1e-4, 6e-8, -2.9e-8, 60_000.0, 65_519.9] {
            for tie in [2f64.powi(-11), 2f64.powi(-8), 2f64.powi(-9), 3.0 * 2f64.powi(-11)] {
                for beside in [-tiny, 0.0, tiny, 2f64.powi(-22), -(2f64.powi(-40))] {
                    check(scale * (1.0 + tie + beside));
                }
            }
        }
        assert_eq!(
            f16::from_f64_once(1.0 + 2f64.powi(-11) + 2f64.powi(-40)).to_f64(),
            1.0 + 2f64.powi(-10)
        );
        assert_eq!(
            bf16::from_f64_once(1.0 + 2f64.powi(-8) + 2f64.powi(-40)).to_f64(),
            1.0 + 2f64.powi(-7)
        );
    }

    #[test]
    fn what_is_too_large_is_infinite() {
        for (value, finite) in [(65_519.99, true), (65_520.0, false), (1e300, false)] {
            assert_eq!(f16::from_f64_once(value).is_finite(), finite, "{value}");
            assert_eq!(f16::from_f64_once(-value).is_finite(), finite, "-{value}");
        }
        assert_eq!(bf16::from_f64_once(f64::INFINITY), bf16::INFINITY);
        assert!(bf16::from_f64_once(f64::NAN).is_nan());
    }

    proptest! {
        #[test]
        fn random_numbers_are_rounded_once(mantissa: u64, exponent in 970u64..1060) {
            check(f64::from_bits(mantissa >> 12 | exponent << 52 | (mantissa & 1) << 63));
        }
    }
}
