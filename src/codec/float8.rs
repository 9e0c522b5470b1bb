//! Numbers of 8 bits: what each of the 256 codes stands for.
//!
//! The formats are those of the OCP "8-bit Floating Point Specification" (OFP8) 1.0 and, with
//! the biases moved by one and without infinities and a negative zero, of Noune et al., "8-bit
//! Numerical Formats for Deep Neural Networks" (the "FNUZ" pair). E8M0 is the scale of the OCP
//! "Microscaling Formats (MX) Specification" 1.0.

use half::f16;

use crate::dtype::DType;

/// The numbers of the four 8-bit floating-point dtypes, by their codes.
pub(super) static E4M3: [f32; 256] = numbers(Form { mantissa: 3, bias: 7, kind: Kind::Finite });
pub(super) static E5M2: [f32; 256] = numbers(Form { mantissa: 2, bias: 15, kind: Kind::Ieee });
pub(super) static E4M3_FNUZ: [f32; 256] =
    numbers(Form { mantissa: 3, bias: 8, kind: Kind::OneZero });
pub(super) static E5M2_FNUZ: [f32; 256] =
    numbers(Form { mantissa: 2, bias: 16, kind: Kind::OneZero });

/// The largest `f8_e4m3`.
pub(crate) const LARGEST_E4M3: f32 = 448.0;

/// The table of a dtype, if it is one of the four.
pub(super) fn table(dtype: DType) -> Option<&'static [f32; 256]> {
    match dtype {
        DType::F8E4M3 => Some(&E4M3),
        DType::F8E5M2 => Some(&E5M2),
        DType::F8E4M3Fnuz => Some(&E4M3_FNUZ),
        DType::F8E5M2Fnuz => Some(&E5M2_FNUZ),
        _ => None,
    }
}

/// A power of two, from `2^-127` to `2^127`; NaN for 255.
#[inline]
pub(super) fn e8m0(code: u8) -> f32 {
    match code {
        0 => f32::from_bits(0x0040_0000),
        255 => f32::NAN,
        exponent => f32::from_bits(u32::from(exponent) << 23),
    }
}

#[derive(Clone, Copy)]
struct Form {
    mantissa: u32,
    bias: i32,
    kind: Kind,
}

/// What the codes at the ends stand for.
#[derive(Clone, Copy)]
enum Kind {
    /// Infinities and NaNs, as IEEE 754 has them.
    Ieee,
    /// Numbers, but for all ones: NaN.
    Finite,
    /// Numbers, and NaN in the place of the negative zero.
    OneZero,
}

const fn numbers(form: Form) -> [f32; 256] {
    let mut numbers = [0.0; 256];
    let mut code = 0;
    while code < 256 {
        numbers[code as usize] = number(code, &form);
        code += 1;
    }
    numbers
}

const fn number(code: u32, form: &Form) -> f32 {
    let sign = (code & 0x80) << 24;
    let magnitude = code & 0x7f;
    let (exponent, fraction) = (magnitude >> form.mantissa, magnitude & ((1 << form.mantissa) - 1));
    match form.kind {
        Kind::Finite if magnitude == 0x7f => return f32::from_bits(sign | 0x7fc0_0000),
        Kind::OneZero if code == 0x80 => return f32::from_bits(0x7fc0_0000),
        // A NaN is made quiet and keeps its payload, as where an f16 is widened.
        Kind::Ieee if exponent == 0x7f >> form.mantissa => {
            let quiet = if fraction == 0 { 0 } else { 0x0040_0000 };
            return f32::from_bits(sign | 0x7f80_0000 | quiet | fraction << (23 - form.mantissa));
        }
        _ => {}
    }
    #[expect(clippy::cast_possible_wrap, reason = "7 bits at most")]
    let (power, leading) = if exponent == 0 {
        (1 - form.bias, 0)
    } else {
        (exponent as i32 - form.bias, 1 << form.mantissa)
    };
    let digits = leading | fraction;
    #[expect(clippy::cast_precision_loss, reason = "4 bits at most")]
    let size = digits as f32 * power_of_two(power - form.mantissa.cast_signed());
    f32::from_bits(size.to_bits() | sign)
}

/// `2^power`, for a power of a normal `f32`.
#[expect(clippy::cast_sign_loss, reason = "the exponent of a normal number is positive")]
const fn power_of_two(power: i32) -> f32 {
    f32::from_bits(((127 + power) as u32) << 23)
}

/// The nearest `f8_e4m3` to a finite number, ties to even; the largest for what is larger.
pub(super) fn to_e4m3(value: f32) -> u8 {
    let sign = u8::from(value.is_sign_negative()) << 7;
    let size = value.abs();
    if size >= LARGEST_E4M3 {
        return sign | 0x7e;
    }
    // Below 2^-6 the steps are those of subnormals, 2^-9.
    let exponent = (size.to_bits() >> 23).max(127 - 6);
    let step = f32::from_bits((exponent - 3) << 23);
    let steps = (size / step).round_ties_even();
    // 8 to 16 steps with the exponent above the lowest, 0 to 8 below: codes count up evenly.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a whole number of at most 16, and an exponent from 0 to 15"
    )]
    let code = (steps as u32 + ((exponent - (127 - 6)) << 3)) as u8;
    sign | code
}

/// An f16 from its two bytes, as f32.
#[inline]
pub(super) fn half_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}
