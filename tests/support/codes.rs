//! Quantized rows whose numbers are known: codes from `fixtures/codes.safetensors`, where other
//! libraries say what they stand for, put together at random.

use embmap::{Codec, DType, ScaleType, Scaling};
use half::{bf16, f16};

use super::Random;

/// What the fixture says.
pub(crate) struct Codes(Vec<u8>);

impl Codes {
    pub(crate) fn read() -> Self {
        Codes(std::fs::read("fixtures/codes.safetensors").unwrap())
    }

    fn tensor(&self, name: &str) -> Vec<u8> {
        let tensors = safetensors::SafeTensors::deserialize(&self.0).unwrap();
        tensors.tensor(name).unwrap().data().to_vec()
    }

    fn numbers(&self, name: &str) -> Vec<f32> {
        let bytes = self.tensor(&format!("{name}.numbers"));
        bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    }

    /// Random elements of a dtype, encoded, and what they are without a scale.
    fn elements(&self, random: &mut Random, dtype: DType, count: usize) -> (Vec<u8>, Vec<f32>) {
        let block = dtype.block_elements();
        if dtype.is_blocks() {
            let codes = self.tensor(&format!("{dtype}.codes"));
            let numbers = self.numbers(dtype.name());
            let blocks: Vec<_> =
                codes.chunks(dtype.block_bytes()).zip(numbers.chunks(block)).collect();
            let picks: Vec<_> = (0..count / block)
                .map(|_| blocks[random.below(blocks.len() as u64) as usize])
                .collect();
            let bytes = picks.iter().flat_map(|(codes, _)| codes.iter().copied()).collect();
            return (
                bytes,
                picks.iter().flat_map(|(_, numbers)| numbers.iter().copied()).collect(),
            );
        }
        let bytes = random.bytes(dtype.bytes_of(count as u64).unwrap() as usize);
        let element = |index: usize, bits: usize| {
            let bit = |at: usize| usize::from(bytes[at / 8] >> (at % 8) & 1);
            (0..bits).map(|at| bit(index * bits + at) << at).sum::<usize>()
        };
        let numbers = match dtype {
            DType::I8 => bytes.iter().map(|byte| f32::from(byte.cast_signed())).collect(),
            DType::U8 => bytes.iter().map(|byte| f32::from(*byte)).collect(),
            DType::U4 => (0..count).map(|index| element(index, 4) as f32).collect(),
            DType::U6 => (0..count).map(|index| element(index, 6) as f32).collect(),
            float => {
                let numbers = self.numbers(float.name());
                bytes.iter().map(|byte| numbers[usize::from(*byte)]).collect()
            }
        };
        (bytes, numbers)
    }

    /// Random scales or biases: of a usual size, or any bits at all.
    fn scales(&self, random: &mut Random, kind: ScaleType, count: usize) -> (Vec<u8>, Vec<f32>) {
        let usual = random.below(3) > 0;
        let number = |random: &mut Random| random.below(2001) as f32 / 1000.0 - 1.0;
        let mut bytes = random.bytes(count * kind.size());
        if usual {
            bytes = (0..count)
                .flat_map(|_| match kind {
                    ScaleType::F32 => number(random).to_le_bytes().to_vec(),
                    ScaleType::F16 => f16::from_f32(number(random)).to_le_bytes().to_vec(),
                    ScaleType::BF16 => bf16::from_f32(number(random)).to_le_bytes().to_vec(),
                    _ => vec![117 + random.below(20) as u8],
                })
                .collect();
        }
        let powers = self.numbers("f8_e8m0");
        let number = |bytes: &[u8]| match kind {
            ScaleType::F32 => f32::from_le_bytes(bytes.try_into().unwrap()),
            ScaleType::F16 => f16::from_le_bytes(bytes.try_into().unwrap()).to_f32(),
            ScaleType::BF16 => bf16::from_le_bytes(bytes.try_into().unwrap()).to_f32(),
            _ => powers[usize::from(bytes[0])],
        };
        let numbers = bytes.chunks(kind.size()).map(number).collect();
        (bytes, numbers)
    }

    /// A random table, the obvious way: `element * scale`, rounded, then `+ bias`, rounded. A row
    /// has the scales of the one that `owner` names, which is not behind it.
    pub(crate) fn sample(
        &self,
        random: &mut Random,
        (dtype, codec): (DType, Codec),
        (vocab, dim): (usize, usize),
        owner: impl Fn(usize) -> usize,
    ) -> Sample {
        let (values, mut numbers) = self.elements(random, dtype, vocab * dim);
        let (mut scales, mut biases) = (Vec::new(), Vec::new());
        if let Codec::Scaled(Scaling { block, scale, bias, .. }) = codec {
            let (block, groups) = (block as usize, dim / block as usize);
            let of_rows = |random: &mut Random, kind: ScaleType| {
                let (mut bytes, mut factors) = self.scales(random, kind, vocab * groups);
                for row in 0..vocab {
                    let (from, to) = (owner(row) * groups, row * groups);
                    factors.copy_within(from..from + groups, to);
                    let size = kind.size();
                    bytes.copy_within(from * size..(from + groups) * size, to * size);
                }
                (bytes, factors)
            };
            let (bytes, factors) = of_rows(random, scale);
            scales = bytes;
            (0..numbers.len()).for_each(|at| numbers[at] *= factors[at / block]);
            if let Some(bias) = bias {
                let (bytes, terms) = of_rows(random, bias);
                biases = bytes;
                (0..numbers.len()).for_each(|at| numbers[at] += terms[at / block]);
            }
        }
        Sample { vocab, dim, dtype, codec, values, scales, biases, numbers }
    }
}

/// A table's rows, part by part, and their numbers.
pub(crate) struct Sample {
    pub(crate) vocab: usize,
    pub(crate) dim: usize,
    pub(crate) dtype: DType,
    pub(crate) codec: Codec,
    pub(crate) values: Vec<u8>,
    pub(crate) scales: Vec<u8>,
    pub(crate) biases: Vec<u8>,
    pub(crate) numbers: Vec<f32>,
}

impl Sample {
    /// The bytes of one row: values, scales, biases.
    pub(crate) fn row(&self, row: usize) -> [Vec<u8>; 3] {
        [&self.values, &self.scales, &self.biases].map(|part| self.part(part, &(row..row + 1)))
    }

    /// All rows as an `.emb` file has them.
    pub(crate) fn rows(&self) -> Vec<u8> {
        (0..self.vocab).flat_map(|row| self.row(row).concat()).collect()
    }

    /// Some rows of a part.
    pub(crate) fn part(&self, bytes: &[u8], rows: &std::ops::Range<usize>) -> Vec<u8> {
        let each = bytes.len() / self.vocab;
        bytes[rows.start * each..rows.end * each].to_vec()
    }
}
