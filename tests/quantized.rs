//! Quantized tables, gathered and pooled in every way, against numbers that other libraries
//! give: each codec, each layout of its parts, each access.

#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::float_cmp,
    clippy::print_stderr
)]

#[path = "support/codes.rs"]
mod codes;
mod support;

use std::path::Path;

use codes::{Codes, Sample};
use embmap::{
    Access, BagOptions, Codec, ConvertOptions, DType, Element, Error, GatherOptions, OpenOptions,
    Output, Pooling, ScaleType, Scaling, Table, WriteOptions, convert,
};
use half::{bf16, f16};
use proptest::prelude::*;
use support::Random;

const NUMBERS: [DType; 8] = [
    DType::F8E4M3,
    DType::F8E5M2,
    DType::F8E4M3Fnuz,
    DType::F8E5M2Fnuz,
    DType::I8,
    DType::U8,
    DType::U4,
    DType::U6,
];
const BLOCKS: [(DType, u32); 12] = [
    (DType::Q4_0, 2),
    (DType::Q4_1, 3),
    (DType::Q5_0, 6),
    (DType::Q5_1, 7),
    (DType::Q8_0, 8),
    (DType::Q2K, 10),
    (DType::Q3K, 11),
    (DType::Q4K, 12),
    (DType::Q5K, 13),
    (DType::Q6K, 14),
    (DType::IQ4NL, 20),
    (DType::IQ4XS, 23),
];

/// A table opened in every way that there is.
fn every_access(path: &Path, options: &OpenOptions) -> Vec<Table> {
    // SAFETY: the tests' own files, which nothing writes to.
    let mapped = unsafe { options.clone().map(path).unwrap() };
    let accesses = [Access::Memory, Access::Read, Access::Direct];
    let opened = accesses.map(|access| options.clone().access(access).open(path).unwrap());
    [mapped].into_iter().chain(opened).collect()
}

/// The bits of elements; NaNs are one another's equals.
fn bits(elements: &[impl Element]) -> Vec<u64> {
    let bits = |number: f64| if number.is_nan() { u64::MAX } else { number.to_bits() };
    elements.iter().map(|element| bits(element.convert())).collect()
}

/// How a batch is to be done.
#[derive(Debug, Clone)]
struct Batch {
    ids: Vec<u64>,
    gap: usize,
    threads: usize,
}

fn check_gather<O: Output>(table: &Table, sample: &Sample, batch: &Batch) {
    let (dim, stride) = (sample.dim, sample.dim + batch.gap);
    let filler = O::from_f32(-77.0);
    for portable in [false, true] {
        let options = GatherOptions::new().row_stride(stride).threads(batch.threads);
        let mut out = vec![filler; batch.ids.len() * stride];
        table.gather_into_with(&batch.ids, &mut out, &options.portable(portable)).unwrap();
        for (id, out) in batch.ids.iter().zip(out.chunks(stride)) {
            let numbers = &sample.numbers[*id as usize * dim..][..dim];
            let expected: Vec<O> = numbers.iter().map(|number| O::from_f32(*number)).collect();
            assert!(
                bits(&out[..dim]) == bits(&expected),
                "{table:?} to {}, portable {portable}, row {id}:\n{:?}\n{expected:?}",
                O::DTYPE,
                &out[..dim]
            );
            assert!(bits(&out[dim..]) == bits(&vec![filler; batch.gap]));
        }
    }
}

/// Bags of three, the obvious way: added up in order, an id in between left out.
fn check_bags(table: &Table, sample: &Sample, batch: &Batch) {
    let dim = sample.dim;
    let count = batch.ids.len();
    let offsets: Vec<u64> = (0..count as u64).step_by(3).chain([count as u64]).collect();
    let weights: Vec<f32> = (0..count).map(|at| at as f32 * 0.37 - 1.0).collect();
    let padding = batch.ids.first().copied().unwrap_or(0);
    for (pooling, weighted) in
        [(Pooling::Sum, false), (Pooling::Sum, true), (Pooling::Mean, true), (Pooling::Max, false)]
    {
        let mut expected = Vec::new();
        for bag in offsets.windows(2) {
            let kept: Vec<usize> = (bag[0] as usize..bag[1] as usize)
                .filter(|position| batch.ids[*position] != padding)
                .collect();
            expected.extend((0..dim).map(|column| {
                let number =
                    |position: usize| sample.numbers[batch.ids[position] as usize * dim + column];
                let mut sum = if pooling == Pooling::Max { f32::NEG_INFINITY } else { 0.0 };
                for position in &kept {
                    let number = number(*position);
                    match pooling {
                        Pooling::Max if number > sum || number.is_nan() => sum = number,
                        Pooling::Max => {}
                        _ if weighted => sum += number * weights[*position],
                        _ => sum += number,
                    }
                }
                match (pooling, kept.len()) {
                    (_, 0) => 0.0,
                    (Pooling::Mean, kept) => sum / kept as f32,
                    _ => sum,
                }
            }));
        }
        for portable in [false, true] {
            let options =
                BagOptions::new().padding_id(padding.cast_signed()).threads(batch.threads);
            let mut out = vec![7.0; expected.len()];
            let weights = weighted.then_some(&weights[..]);
            let options = options.portable(portable);
            table
                .embedding_bag_into_with(&batch.ids, &offsets, weights, pooling, &mut out, &options)
                .unwrap();
            assert!(bits(&out) == bits(&expected), "{table:?} {pooling:?}, portable {portable}");
        }
    }
}

/// What lies in the rows of a table, besides the values.
#[derive(Debug, Clone, Copy)]
struct InRow {
    scales: bool,
    biases: bool,
}

const ALL: InRow = InRow { scales: true, biases: true };
const VALUES: InRow = InRow { scales: false, biases: false };

/// Everything that can be asked of a table, in every access.
fn check(path: &Path, options: &OpenOptions, sample: &Sample, batch: &Batch, in_row: InRow) {
    for table in every_access(path, options) {
        assert_eq!((table.vocab(), table.dim()), (sample.vocab as u64, sample.dim));
        assert_eq!((table.dtype(), table.codec()), (sample.dtype, sample.codec), "{table:?}");
        check_gather::<f32>(&table, sample, batch);
        check_gather::<f16>(&table, sample, batch);
        check_gather::<bf16>(&table, sample, batch);
        check_bags(&table, sample, batch);

        let row_bytes = table.row_bytes() as usize;
        let mut out = vec![0; batch.ids.len() * row_bytes];
        table.gather_bytes_into(&batch.ids, &mut out).unwrap();
        for (id, out) in batch.ids.iter().zip(out.chunks(row_bytes)) {
            let [values, scales, biases] = sample.row(*id as usize);
            let mut row = values;
            row.extend(scales.iter().filter(|_| in_row.scales));
            row.extend(biases.iter().filter(|_| in_row.biases));
            assert_eq!(out, row);
            match table.encoded_row(*id) {
                Ok(bytes) => assert_eq!(bytes, row),
                Err(Error::RowApart) => assert!(!sample.scales.is_empty()),
                Err(Error::NotMapped { .. }) => {
                    assert!(matches!(table.access(), Access::Read | Access::Direct));
                }
                Err(other) => panic!("{other}"),
            }
            if let (DType::I8, Ok(values)) = (sample.dtype, table.row::<i8>(*id)) {
                assert_eq!(bytemuck::cast_slice::<_, u8>(values), &row[..sample.dim]);
            }
        }
        let found = table.verify().unwrap();
        let count = |is: fn(&f32) -> bool| sample.numbers.iter().filter(|n| is(n)).count() as u64;
        assert_eq!(found.nan, count(|number| number.is_nan()), "{table:?}");
        assert_eq!(found.infinite, count(|number| number.is_infinite()), "{table:?}");
        assert!(table.gather_into(&[sample.vocab as u64], &mut vec![0f32; sample.dim]).is_err());
    }
    check_interleaved(path, options, sample, batch);
}

/// Converted, a row is one piece of bytes, its scales and biases behind its values.
fn check_interleaved(path: &Path, options: &OpenOptions, sample: &Sample, batch: &Batch) {
    let copy = path.parent().unwrap().join("interleaved.emb");
    let table = options.clone().open(path).unwrap();
    convert(&table, &copy, &ConvertOptions::new().replace(true)).unwrap();
    let copy = Table::load(&copy).unwrap();
    assert_eq!((copy.dtype(), copy.codec()), (sample.dtype, sample.codec));
    assert_eq!(copy.vocab(), sample.vocab as u64);
    for id in &batch.ids {
        let [mut row, scales, biases] = sample.row(*id as usize);
        // A scale that all rows share stays one for all.
        let shared = copy.row_bytes() as usize == row.len();
        row.extend(scales.iter().chain(&biases).filter(|_| !shared));
        assert_eq!(copy.encoded_row(*id).unwrap(), row, "{copy:?}");
    }
    check_gather::<f32>(&copy, sample, batch);
}

/// A codec of elements with scales, for rows of a multiple of its block.
fn scaling() -> impl Strategy<Value = Scaling> {
    let kinds = prop::sample::select(&ScaleType::ALL[..]);
    let biases = [None, Some(ScaleType::F32), Some(ScaleType::F16), Some(ScaleType::BF16)];
    let blocks = prop::sample::select(vec![4u32, 12, 16, 32, 64, 100, 128]);
    (blocks, kinds, prop::sample::select(biases.to_vec()))
        .prop_map(|(block, scale, bias)| Scaling { block, scale, bias })
}

fn batch() -> impl Strategy<Value = (usize, Batch)> {
    let picks = proptest::collection::vec(any::<prop::sample::Index>(), 0..40);
    (1usize..30, picks, 0usize..5, 1usize..4).prop_map(|(vocab, picks, gap, threads)| {
        let ids = picks.iter().map(|pick| pick.index(vocab) as u64).collect();
        (vocab, Batch { ids, gap, threads })
    })
}

fn write(path: &Path, sample: &Sample, align: Option<u64>) {
    let options = WriteOptions::new(sample.dim, sample.dtype).codec(sample.codec);
    let options = align.into_iter().fold(options, WriteOptions::align);
    let mut writer = options.create(path).unwrap();
    writer.push_encoded(&sample.rows()).unwrap();
    writer.finish().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn rows_with_their_scales_in_them(
        dtype in prop::sample::select(&NUMBERS[..]),
        scaling in scaling(),
        groups in 1usize..5,
        (vocab, batch) in batch(),
        align in prop::sample::select(vec![None, Some(64u64)]),
        seed: u64,
    ) {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let path = directory.path().join("table.emb");
        let (codec, dim) = (Codec::Scaled(scaling), groups * scaling.block as usize);
        let form = ((dtype, codec), (vocab, dim));
        let sample = Codes::read().sample(&mut Random(seed), form.0, form.1, |row| row);
        write(&path, &sample, align);
        check(&path, &OpenOptions::new(), &sample, &batch, ALL);
    }

    #[test]
    fn rows_of_blocks_in_both_files_that_have_them(
        (dtype, kind) in prop::sample::select(&BLOCKS[..]),
        blocks in 1usize..5,
        (vocab, batch) in batch(),
        align in prop::sample::select(vec![None, Some(64u64)]),
        seed: u64,
    ) {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let path = directory.path().join("table.emb");
        let form = ((dtype, Codec::Blocks), (vocab, blocks * dtype.block_elements()));
        let sample = Codes::read().sample(&mut Random(seed), form.0, form.1, |row| row);
        write(&path, &sample, align);
        check(&path, &OpenOptions::new(), &sample, &batch, ALL);

        let path = directory.path().join("table.gguf");
        let shape = [vocab as u64, sample.dim as u64];
        support::write_gguf(&path, "token_embd.weight", kind, shape, &sample.values);
        check(&path, &OpenOptions::new(), &sample, &batch, ALL);
    }

    #[test]
    fn one_scale_for_all_rows(
        dtype in prop::sample::select(&NUMBERS[..]),
        scale in prop::sample::select(&ScaleType::ALL[..]),
        dim in 1usize..50,
        (vocab, batch) in batch(),
        cut in any::<prop::sample::Index>(),
        seed: u64,
    ) {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let dim = dim * 4;
        let codec = Codec::Scaled(Scaling { block: dim as u32, scale, bias: None });
        let form = ((dtype, codec), (vocab, dim));
        let sample = Codes::read().sample(&mut Random(seed), form.0, form.1, |_| 0);
        let path = directory.path().join("table.emb");
        let scale_bytes = sample.scales[..scale.size()].to_vec();
        let options = WriteOptions::new(dim, dtype).codec(codec).table_scale(scale_bytes.clone());
        let mut writer = options.create(&path).unwrap();
        writer.push_encoded(&sample.values).unwrap();
        writer.finish().unwrap();
        check(&path, &OpenOptions::new(), &sample, &batch, VALUES);

        let Some(written) = in_safetensors(dtype) else { return Ok(()) };
        let (first, rest) = (0..cut.index(vocab + 1), cut.index(vocab + 1)..vocab);
        let names = ["t.shard_0.weight", "t.shard_1.weight"];
        let shape = |rows: &std::ops::Range<usize>| [rows.len() as u64, dim as u64];
        let (shapes, parts) = (
            [shape(&first), shape(&rest)],
            [sample.part(&sample.values, &first), sample.part(&sample.values, &rest)],
        );
        support::write_safetensors(&directory.path().join("model.safetensors"), &[
            (names[1], written, &shapes[1], &parts[1]),
            ("t.weight_scale", scale_in_safetensors(scale), &[], &scale_bytes),
            (names[0], written, &shapes[0], &parts[0]),
        ]);
        let options = named(dtype, "t.weight_scale").tensor("t.shard_{}.weight");
        check(&directory.path().join("model.safetensors"), &options, &sample, &batch, VALUES);
    }

    #[test]
    fn scales_and_biases_in_tensors_of_their_own(
        dtype in prop::sample::select(&NUMBERS[..]),
        scaling in scaling(),
        groups in 1usize..5,
        (vocab, batch) in batch(),
        cut in any::<prop::sample::Index>(),
        of_pieces: bool,
        seed: u64,
    ) {
        let Some(written) = in_safetensors(dtype) else { return Ok(()) };
        let is_float = !matches!(dtype, DType::I8 | DType::U8);
        let mut scaling = Scaling { bias: scaling.bias.filter(|_| !is_float), ..scaling };
        let dim = groups * scaling.block as usize;
        let cut = cut.index(vocab + 1);
        if of_pieces {
            scaling.block = dim as u32;
        }
        let form = ((dtype, Codec::Scaled(scaling)), (vocab, dim));
        // Where pieces have a scale each, it is that of their first row.
        let owner = |row: usize| match (of_pieces, row < cut) {
            (false, _) => row,
            (true, true) => 0,
            (true, false) => cut,
        };
        let sample = Codes::read().sample(&mut Random(seed), form.0, form.1, owner);
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let mut map = serde_json::Map::new();
        let mut written_numbers = Vec::new();
        for (piece, rows) in [0..cut, cut..vocab].into_iter().enumerate() {
            let name = |end: &str| format!("t.shards.{piece}.{end}");
            let parts = [&sample.values, &sample.scales, &sample.biases]
                .map(|part| sample.part(part, &rows));
            let one = |bytes: &[u8], kind: ScaleType| bytes[..kind.size().min(bytes.len())].to_vec();
            let height = rows.len() as u64;
            let wide = [height, (dim / scaling.block as usize) as u64];
            // A piece without rows has a scale all the same.
            let number = |part: &[u8], kind: ScaleType| match (of_pieces, part.is_empty()) {
                (true, true) => vec![0x3c; kind.size()],
                (true, false) => one(part, kind),
                (false, _) => part.to_vec(),
            };
            let shape = if of_pieces { &[][..] } else { &wide[..] };
            let scales = number(&parts[1], scaling.scale);
            let biases = scaling.bias.map(|bias| (bias, number(&parts[2], bias)));
            written_numbers.push((scales.clone(), biases.clone().map(|(_, biases)| biases)));
            // The scales of one piece lie with its values, those of the other apart.
            let (values_file, scales_file) =
                (format!("v{piece}.safetensors"), format!("{}{piece}.safetensors", ["v", "s"][piece]));
            let (weight, scale) = (name("weight"), name("scales"));
            let values = (weight.as_str(), written, &[height, dim as u64][..], &parts[0][..]);
            let mut others =
                vec![(scale.as_str(), scale_in_safetensors(scaling.scale), shape, &scales[..])];
            let bias = name("biases");
            if let Some((kind, biases)) = &biases {
                others.push((bias.as_str(), scale_in_safetensors(*kind), shape, &biases[..]));
            }
            map.insert(weight.clone(), values_file.clone().into());
            for (name, ..) in &others {
                map.insert((*name).to_owned(), scales_file.clone().into());
            }
            if piece == 0 {
                others.push(values);
                support::write_safetensors(&directory.path().join(values_file), &others);
            } else {
                support::write_safetensors(&directory.path().join(values_file), &[values]);
                support::write_safetensors(&directory.path().join(scales_file), &others);
            }
        }
        let index = serde_json::json!({ "weight_map": map }).to_string();
        std::fs::write(directory.path().join("model.safetensors.index.json"), index).unwrap();
        // A number that is the same for both pieces is no part of the rows.
        let (first, second) = (&written_numbers[0], &written_numbers[1]);
        let in_row =
            InRow { scales: !of_pieces || first.0 != second.0, biases: !of_pieces || first.1 != second.1 };
        check(directory.path(), &named(dtype, "t.shards.{}.scales"), &sample, &batch, in_row);
    }

    #[test]
    fn packed_groups_as_mlx_writes_them(
        (dtype, bits) in prop::sample::select(vec![(DType::U4, 4), (DType::U6, 6), (DType::U8, 8)]),
        block in prop::sample::select(vec![32u32, 64, 128]),
        kind in prop::sample::select(vec![ScaleType::F16, ScaleType::BF16, ScaleType::F32]),
        groups in 1usize..5,
        (vocab, batch) in batch(),
        seed: u64,
    ) {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let dim = groups * block as usize;
        let codec = Codec::Scaled(Scaling { block, scale: kind, bias: Some(kind) });
        let form = ((dtype, codec), (vocab, dim));
        let sample = Codes::read().sample(&mut Random(seed), form.0, form.1, |row| row);
        let (rows, written) = (vocab as u64, scale_in_safetensors(kind));
        support::write_safetensors(&directory.path().join("model.safetensors"), &[
            ("model.embed_tokens.scales", written, &[rows, groups as u64], &sample.scales),
            ("model.embed_tokens.weight", "U32", &[rows, dim as u64 * bits / 32], &sample.values),
            ("model.embed_tokens.biases", written, &[rows, groups as u64], &sample.biases),
        ]);
        let config = serde_json::json!({ "quantization": { "bits": bits, "group_size": block } });
        std::fs::write(directory.path().join("config.json"), config.to_string()).unwrap();
        check(directory.path(), &OpenOptions::new(), &sample, &batch, ALL);
    }
}

/// The name that safetensors has for a dtype.
fn in_safetensors(dtype: DType) -> Option<&'static str> {
    match dtype {
        DType::F8E4M3 => Some("F8_E4M3"),
        DType::F8E5M2 => Some("F8_E5M2"),
        DType::F8E4M3Fnuz => Some("F8_E4M3FNUZ"),
        DType::F8E5M2Fnuz => Some("F8_E5M2FNUZ"),
        DType::I8 => Some("I8"),
        DType::U8 => Some("U8"),
        _ => None,
    }
}

/// Options that name the scales where they are not taken on trust: of bytes, which might be packed.
fn named(dtype: DType, scales: &str) -> OpenOptions {
    let options = OpenOptions::new();
    if dtype == DType::U8 { options.scales(scales) } else { options }
}

fn scale_in_safetensors(kind: ScaleType) -> &'static str {
    match kind {
        ScaleType::F32 => "F32",
        ScaleType::F16 => "F16",
        ScaleType::BF16 => "BF16",
        _ => "F8_E8M0",
    }
}

/// Rows of a usual kind: no two alike, one of zeros, one with a single large number.
fn usual_rows(random: &mut Random, vocab: usize, dim: usize) -> Vec<f32> {
    let mut rows: Vec<f32> =
        (0..vocab * dim).map(|_| random.below(20_001) as f32 / 10_000.0 - 1.0).collect();
    rows[..dim].fill(0.0);
    rows[dim] = 300.0;
    rows
}

/// The cost of reading `read` in place of `given`, by its definition.
fn cost(given: &[f32], read: &[f32], dim: usize) -> [f64; 4] {
    let pairs = || given.iter().zip(read).map(|(a, b)| (f64::from(*a), f64::from(*b)));
    let max = pairs().map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    let squares: f64 = pairs().map(|(a, b)| (a - b) * (a - b)).sum();
    let cosines: Vec<f64> = given
        .chunks(dim)
        .zip(read.chunks(dim))
        .map(|(a, b)| {
            let dot = |a: &[f32], b: &[f32]| -> f64 {
                a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
            };
            let norms = (dot(a, a) * dot(b, b)).sqrt();
            if norms == 0.0 { 1.0 } else { dot(a, b) / norms }
        })
        .collect();
    let rows = cosines.len() as f64;
    [
        max,
        (squares / given.len() as f64).sqrt(),
        cosines.iter().sum::<f64>() / rows,
        cosines.iter().copied().fold(1.0, f64::min),
    ]
}

#[test]
fn quantizing_tells_what_it_cost() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (from, to) = (directory.path().join("from.emb"), directory.path().join("to.emb"));
    let (vocab, dim) = (300, 96);
    let numbers = usual_rows(&mut Random(9), vocab, dim);
    for stored in [DType::F32, DType::F16, DType::BF16, DType::F8E5M2] {
        let rows: Vec<u8> = match stored {
            DType::F32 => numbers.iter().flat_map(|x| x.to_le_bytes()).collect(),
            DType::F16 => numbers.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect(),
            DType::BF16 => numbers.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect(),
            // The upper byte of an f16.
            _ => numbers.iter().map(|x| f16::from_f32(*x).to_le_bytes()[1]).collect(),
        };
        let mut writer = WriteOptions::new(dim, stored).replace(true).create(&from).unwrap();
        writer.push_encoded(&rows).unwrap();
        writer.finish().unwrap();
        let table = OpenOptions::new().open(&from).unwrap();
        let ids: Vec<u64> = (0..vocab as u64).collect();
        let given: Vec<f32> = table.gather(&ids).unwrap();
        // What a step is of the largest number of a row, and half of it the most that is lost.
        for (dtype, step, row_bytes) in [
            (DType::I8, 1.0 / 127.0, dim + 4),
            (DType::F8E4M3, 1.0 / 14.0, dim + 4),
            (DType::Q8_0, 1.0 / 127.0, dim / 32 * 34),
        ] {
            let options = ConvertOptions::new().dtype(dtype).replace(true);
            let loss = convert(&table, &to, &options).unwrap().loss.unwrap();
            let copy = OpenOptions::new().open(&to).unwrap();
            assert_eq!((copy.dtype(), copy.row_bytes()), (dtype, row_bytes as u64));
            let read: Vec<f32> = copy.gather(&ids).unwrap();
            for (given, read) in given.chunks(dim).zip(read.chunks(dim)) {
                let largest = given.iter().fold(0.0f32, |most, number| most.max(number.abs()));
                for (given, read) in given.iter().zip(read) {
                    assert!((given - read).abs() <= largest * step * 0.57, "{given} {read}");
                }
            }
            let expected = cost(&given, &read, dim);
            let told = [loss.max_error, loss.rms_error, loss.mean_cosine, loss.min_cosine];
            for (told, expected) in told.iter().zip(expected) {
                assert!((told - expected).abs() < 1e-9, "{stored} to {dtype}: {told} {expected}");
            }
            assert!(expected[0] > 0.0 && expected[3] < 1.0 - 1e-9 && expected[3] > 0.99);
            let metadata = copy.metadata().unwrap().unwrap();
            let metadata: serde_json::Value = serde_json::from_str(&metadata).unwrap();
            let metadata = &metadata["quantization"];
            assert_eq!(
                (metadata["from"].as_str(), metadata["to"].as_str()),
                (Some(stored.name()), Some(dtype.name()))
            );
            let names = ["max_error", "rms_error", "mean_cosine", "min_cosine"];
            for (name, told) in names.iter().zip(told) {
                assert!((metadata[name].as_f64().unwrap() - told).abs() < 1e-12, "{metadata}");
            }
            assert!(copy.verify().unwrap().is_sound());
        }
    }
    // Nothing is left of what cannot be done.
    let table = OpenOptions::new().open(&from).unwrap();
    for dtype in [DType::Q4_0, DType::U4, DType::F8E4M3Fnuz] {
        let error =
            convert(&table, directory.path().join("no.emb"), &ConvertOptions::new().dtype(dtype));
        assert!(error.unwrap_err().to_string().contains("choose f32"), "{dtype}");
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
}

#[test]
fn what_no_scale_can_hold_is_named_and_nothing_is_left() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (from, to) = (directory.path().join("from.emb"), directory.path().join("to.emb"));
    let mut writer = WriteOptions::new(32, DType::F32).create(&from).unwrap();
    let mut rows = [1f32; 96];
    rows[70] = f32::NEG_INFINITY;
    rows.chunks(32).for_each(|row| writer.push(row).unwrap());
    writer.finish().unwrap();
    let table = OpenOptions::new().open(&from).unwrap();
    for dtype in [DType::I8, DType::F8E4M3, DType::Q8_0] {
        let error = convert(&table, &to, &ConvertOptions::new().dtype(dtype)).unwrap_err();
        assert!(error.to_string().contains("row 2 holds -inf in column 6"), "{error}");
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
}
