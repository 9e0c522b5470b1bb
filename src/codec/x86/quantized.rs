//! Quantized rows, decoded sixteen elements at a time straight to an output or into a bag.

use half::{bf16, f16};

use super::copy::{LINE, prefetch};
use crate::codec::sum::{Group, Join};
use crate::codec::{Decode, Encoding, JoinRows, Recipe, RowParts};
use crate::dtype::{DType, Element};

/// The cache lines of a row that are asked for at once.
const MOST_LINES: usize = 4096 / LINE;

/// Where the numbers of a row go.
enum Sink<'a> {
    F32(&'a mut [f32]),
    F16(&'a mut [f16]),
    BF16(&'a mut [bf16]),
    /// Times a weight, then added to these.
    Add(&'a mut [f32], f32),
    Max(&'a mut [f32]),
}

/// Decodes one row into a sink: as many elements as it holds.
trait Kernel {
    fn run(encoding: Encoding, row: RowParts<'_>, sink: Sink<'_>);
}

fn decode<K: Kernel, O: Element>(recipe: Recipe, row: RowParts<'_>, out: &mut [O]) {
    // The same type under its own name: `decoder` has compared the dtypes.
    let sink = match O::DTYPE {
        DType::F16 => Sink::F16(bytemuck::cast_slice_mut(out)),
        DType::BF16 => Sink::BF16(bytemuck::cast_slice_mut(out)),
        _ => Sink::F32(bytemuck::cast_slice_mut(out)),
    };
    K::run(recipe.encoding, row, sink);
}

fn join<K: Kernel>(recipe: Recipe, join: Join, group: Group<'_>, sums: &mut [f32]) {
    for (index, row) in group.rows().enumerate() {
        if let Some(row) = group.coming.get(index) {
            prefetch(row, MOST_LINES);
        }
        let sink = match join {
            // A product with 1 is the number itself.
            Join::Add => Sink::Add(sums, 1.0),
            Join::AddWeighted => Sink::Add(sums, group.weights[index]),
            Join::Max => Sink::Max(sums),
        };
        K::run(recipe.encoding, row, sink);
    }
}

/// The decoder of quantized rows for this CPU, or `None` where there is no such.
pub(in crate::codec) fn decoder<O: Element>(dtype: DType) -> Option<Decode<O>> {
    if !matches!(O::DTYPE, DType::F32 | DType::F16 | DType::BF16) {
        return None;
    }
    by_vbmi::decoder(dtype)
        .or_else(|| by_avx512::decoder(dtype))
        .or_else(|| by_avx2::decoder(dtype))
}

/// The joiner of quantized rows for this CPU, or `None` where there is no such.
pub(in crate::codec) fn joiner(dtype: DType) -> Option<JoinRows> {
    by_vbmi::joiner(dtype).or_else(|| by_avx512::joiner(dtype)).or_else(|| by_avx2::joiner(dtype))
}

fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c")
}

fn has_avx512() -> bool {
    has_avx2()
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
}

fn has_vbmi() -> bool {
    has_avx512() && is_x86_feature_detected!("avx512vbmi")
}

/// A kernel for each dtype, compiled for some features of a CPU.
///
/// What takes codes apart is the same for all: it is inlined here, together with the closure
/// that makes numbers of sixteen codes and puts them in their place.
macro_rules! level {
    ($level:ident, $has:ident, $features:literal, $lanes:ident, [$($rooms:ident)*]: $($dtype:ident $room:ident $kernel:ident,)*) => {
        mod $level {
            use super::super::$lanes::{add, max, put_bf16, put_f16, put_f32};
            use super::super::{$($rooms),*};
            use super::{
                DType, Decode, Element, Encoding, JoinRows, Kernel, RowParts, Sink, decode, $has, join,
            };

            pub(super) fn decoder<O: Element>(dtype: DType) -> Option<Decode<O>> {
                match dtype {
                    $(DType::$dtype if $has() => Some(decode::<of::$dtype, O>),)*
                    _ => None,
                }
            }

            pub(super) fn joiner(dtype: DType) -> Option<JoinRows> {
                match dtype {
                    $(DType::$dtype if $has() => Some(join::<of::$dtype>),)*
                    _ => None,
                }
            }

            /// The kernels as types, for `decoder` and `joiner` alone.
            mod of {
                use super::{Encoding, Kernel, RowParts, Sink};

                $(pub(super) struct $dtype;

                impl Kernel for $dtype {
                    fn run(encoding: Encoding, row: RowParts<'_>, sink: Sink<'_>) {
                        // SAFETY: `decoder` and `joiner`, the only ones to name this type, have
                        // found the features on this CPU.
                        #[allow(unsafe_code)]
                        unsafe {
                            super::$kernel(encoding, row, sink);
                        }
                    }
                })*
            }

            $(#[target_feature(enable = $features)]
            fn $kernel(encoding: Encoding, row: RowParts<'_>, sink: Sink<'_>) {
                match sink {
                    Sink::F32(out) => $room::$kernel(encoding, row, out, |out, coded| put_f32(out, coded)),
                    Sink::F16(out) => $room::$kernel(encoding, row, out, |out, coded| put_f16(out, coded)),
                    Sink::BF16(out) => $room::$kernel(encoding, row, out, |out, coded| put_bf16(out, coded)),
                    Sink::Add(sums, weight) => {
                        $room::$kernel(encoding, row, sums, |sums, coded| add(sums, coded, weight));
                    }
                    Sink::Max(sums) => $room::$kernel(encoding, row, sums, |sums, coded| max(sums, coded)),
                }
            })*
        }
    };
}

macro_rules! levels {
    ($($dtype:ident: $room:ident::$kernel:ident,)*) => {
        level! { by_avx2, has_avx2, "avx2,f16c", lanes, [blocks large scaled]: $($dtype $room $kernel,)* }
        level! { by_avx512, has_avx512, "avx2,f16c,avx512f,avx512bw,avx512vl", wide, [blocks large scaled]: $($dtype $room $kernel,)* }
    };
}

level! {
    by_vbmi, has_vbmi, "avx2,f16c,avx512f,avx512bw,avx512vl,avx512vbmi", wide, [tables]:
    F8E4M3 tables f8_e4m3,
    F8E5M2 tables f8_e5m2,
    F8E4M3Fnuz tables f8_e4m3fnuz,
    F8E5M2Fnuz tables f8_e5m2fnuz,
}

levels! {
    F8E4M3: scaled::f8_e4m3,
    F8E5M2: scaled::f8_e5m2,
    F8E4M3Fnuz: scaled::f8_e4m3fnuz,
    F8E5M2Fnuz: scaled::f8_e5m2fnuz,
    I8: scaled::i8,
    U8: scaled::u8,
    U4: scaled::u4,
    U6: scaled::u6,
    Q8_0: blocks::q8_0,
    Q4_0: blocks::q4_0,
    Q4_1: blocks::q4_1,
    Q5_0: blocks::q5_0,
    Q5_1: blocks::q5_1,
    Q2K: large::q2_k,
    Q3K: large::q3_k,
    Q4K: large::q4_k,
    Q5K: large::q5_k,
    Q6K: large::q6_k,
    IQ4NL: blocks::iq4_nl,
    IQ4XS: large::iq4_xs,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Codec, Kernels, ScaleType, Scaling, plain, sum};

    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u32 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
            (self.0 >> 32) as u32
        }

        fn bytes(&mut self, length: usize) -> Vec<u8> {
            (0..length).map(|_| self.next() as u8).collect()
        }

        fn below(&mut self, bound: usize) -> usize {
            self.next() as usize % bound
        }
    }

    /// NaNs are one another's equals: of two in one product either may stay.
    fn bits(values: &[impl Element]) -> Vec<u64> {
        let bits = |value: &f64| if value.is_nan() { u64::MAX } else { value.to_bits() };
        values.iter().map(|value| bits(&value.convert::<f64>())).collect()
    }

    /// Every encoding of a dtype that comes to mind, with the dims to try it with.
    fn encodings(dtype: DType) -> Vec<(Encoding, Vec<usize>)> {
        let packed = dtype.block_elements();
        let whole = |codec, dims: &[usize]| {
            let dims = dims.iter().map(|count| count * packed).collect();
            (Encoding { dtype, codec }, dims)
        };
        if dtype.is_blocks() {
            return vec![whole(Codec::Blocks, &[0, 1, 2, 3, 7])];
        }
        let mut found = vec![whole(Codec::Plain, &[0, 1, 3, 4, 7, 8, 15, 16, 17, 40, 67])];
        for scale in ScaleType::ALL {
            for bias in [None, Some(ScaleType::F32), Some(ScaleType::F16), Some(ScaleType::BF16)] {
                for block in [4, 12, 16, 20, 32, 36, 64, 68, 128, 160, 192] {
                    let scaling = Scaling { block: block as u32, scale, bias };
                    let dims = [1, 2, 3, 5].map(|count| count * block).to_vec();
                    found.push((Encoding { dtype, codec: Codec::Scaled(scaling) }, dims));
                }
            }
        }
        found
    }

    /// The parts of a random row: any bits, and scales of a usual size as often.
    fn row(random: &mut Random, encoding: Encoding, dim: usize) -> [Vec<u8>; 3] {
        let length = |bytes: Option<u64>| bytes.unwrap() as usize;
        let Encoding { dtype, codec } = encoding;
        // From an odd place on.
        let mut values = random.bytes(1 + length(codec.value_bytes(dtype, dim as u64)));
        values.remove(0);
        let [mut scales, biases] = [codec.scale_bytes(dim as u64), codec.bias_bytes(dim as u64)]
            .map(|bytes| random.bytes(length(bytes)));
        if let (Codec::Scaled(scaling), 0) = (codec, random.below(2)) {
            let usual = match scaling.scale {
                ScaleType::F32 => 0.37f32.to_le_bytes().to_vec(),
                ScaleType::F16 => f16::from_f32(0.0123).to_le_bytes().to_vec(),
                ScaleType::BF16 => bf16::from_f32(-3.1).to_le_bytes().to_vec(),
                ScaleType::E8M0 => vec![120],
            };
            scales = usual.iter().copied().cycle().take(scales.len()).collect();
        }
        [values, scales, biases]
    }

    fn parts([values, scales, biases]: &[Vec<u8>; 3]) -> RowParts<'_> {
        RowParts { values, scales, biases }
    }

    fn compare<O: Element>(encoding: Encoding, dim: usize, row: RowParts<'_>) {
        let recipe = Recipe::of(encoding, Kernels::Portable);
        let twin = plain::decoder::<O>(encoding.dtype, Kernels::Portable);
        let filler = O::from_f32(7.0);
        let mut expected = vec![filler; dim + 1];
        twin(recipe, row, &mut expected[..dim]);
        let levels = [by_avx2::decoder, by_avx512::decoder, by_vbmi::decoder];
        for fast in levels.into_iter().filter_map(|level| level(encoding.dtype)) {
            let mut got = vec![filler; dim + 1];
            fast(recipe, row, &mut got[..dim]);
            let is_same = if encoding.codec == Codec::Plain {
                // The bits of each NaN too.
                bytemuck::cast_slice::<O, u8>(&got) == bytemuck::cast_slice::<O, u8>(&expected)
            } else {
                bits(&got) == bits(&expected)
            };
            assert!(is_same, "{encoding:?} x {dim}: {row:02x?}\n{got:?}\n{expected:?}");
        }
    }

    #[test]
    fn decoders_equal_their_twins_bit_for_bit() {
        let mut random = Random(3);
        for dtype in DType::ALL.into_iter().filter(|dtype| !is_wide(*dtype)) {
            for (encoding, dims) in encodings(dtype) {
                for dim in dims {
                    let row = row(&mut random, encoding, dim);
                    compare::<f32>(encoding, dim, parts(&row));
                    compare::<f16>(encoding, dim, parts(&row));
                    compare::<bf16>(encoding, dim, parts(&row));
                }
            }
        }
    }

    fn is_wide(dtype: DType) -> bool {
        matches!(dtype, DType::F32 | DType::F16 | DType::BF16 | DType::F64)
    }

    #[test]
    fn every_code_of_8_bits_is_the_twins_with_every_kind_of_scale() {
        let codes: Vec<u8> = (0..=255).collect();
        let scales = [
            1.0,
            -0.75,
            0.0,
            -0.0,
            f32::MIN_POSITIVE / 8.0,
            f32::from_bits(1),
            f32::MAX,
            // From 2^120 on the product with a power of two would overflow.
            1e36,
            1.4e36,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::NAN,
        ];
        let floats = [
            DType::F8E4M3,
            DType::F8E5M2,
            DType::F8E4M3Fnuz,
            DType::F8E5M2Fnuz,
            DType::I8,
            DType::U8,
        ];
        for dtype in floats {
            let plain = Encoding { dtype, codec: Codec::Plain };
            compare::<f32>(plain, 256, RowParts::of(&codes));
            compare::<f16>(plain, 256, RowParts::of(&codes));
            compare::<bf16>(plain, 256, RowParts::of(&codes));
            for scale in scales {
                let scaling = Scaling { block: 256, scale: ScaleType::F32, bias: None };
                let encoding = Encoding { dtype, codec: Codec::Scaled(scaling) };
                let scale = scale.to_le_bytes();
                let row = RowParts { values: &codes, scales: &scale, biases: &[] };
                compare::<f32>(encoding, 256, row);
                compare::<f16>(encoding, 256, row);
                compare::<bf16>(encoding, 256, row);
            }
        }
    }

    #[test]
    fn joiners_equal_their_twins_bit_for_bit() {
        let mut random = Random(5);
        let weights: Vec<f32> = (0..8).map(|_| f32::from_bits(random.next() >> 1)).collect();
        for dtype in DType::ALL.into_iter().filter(|dtype| !is_wide(*dtype)) {
            let levels = [by_avx2::joiner(dtype), by_avx512::joiner(dtype), by_vbmi::joiner(dtype)];
            let twin = sum::joiner(dtype, Kernels::Portable);
            for (encoding, dims) in encodings(dtype) {
                let dim = dims[random.below(dims.len())];
                let rows: Vec<_> =
                    (0..random.below(9)).map(|_| row(&mut random, encoding, dim)).collect();
                let rows: Vec<RowParts<'_>> = rows.iter().map(parts).collect();
                let coming: Vec<&[u8]> = rows.iter().map(|row| row.values).take(5).collect();
                let weights = &weights[..rows.len()];
                let values: Vec<&[u8]> = rows.iter().map(|row| row.values).collect();
                let scales: Vec<&[u8]> = rows.iter().map(|row| row.scales).collect();
                let biases: Vec<&[u8]> = rows.iter().map(|row| row.biases).collect();
                let (scales, biases) = (&scales[..], &biases[..]);
                let group = Group { values: &values, scales, biases, weights, coming: &coming };
                let recipe = Recipe::of(encoding, Kernels::Portable);
                for join in [Join::Add, Join::AddWeighted, Join::Max] {
                    let mut expected = vec![join.start(); dim];
                    twin(recipe, join, group, &mut expected);
                    for fast in levels.into_iter().flatten() {
                        let mut got = vec![join.start(); dim];
                        fast(recipe, join, group, &mut got);
                        assert!(bits(&got) == bits(&expected), "{encoding:?} {join:?} x {dim}");
                    }
                }
            }
        }
    }
}
