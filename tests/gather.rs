//! Gathers against a naive twin: any dtype, any shape, any access, any number of threads.

#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::needless_range_loop,
    clippy::float_cmp,
    clippy::print_stderr
)]

mod support;

use embmap::{
    Access, BagOptions, DType, Element, Error, GatherOptions, OpenOptions, Output, Pooling, Table,
    WriteOptions,
};
use half::{bf16, f16};
use proptest::prelude::*;
use support::{FILE_ID, Random};

/// The dtypes whose elements are numbers by themselves.
const PLAIN: [DType; 4] = [DType::F32, DType::F16, DType::BF16, DType::F64];

/// The element at `index` of encoded elements, converted the slow and obvious way.
fn naive<O: Output>(dtype: DType, encoded: &[u8], index: usize) -> O {
    let at = index * dtype.block_bytes();
    let bytes = &encoded[at..at + dtype.block_bytes()];
    match dtype {
        DType::F32 => O::from_f32(f32::from_le_bytes(bytes.try_into().unwrap())),
        DType::F64 => O::from_f64(f64::from_le_bytes(bytes.try_into().unwrap())),
        DType::F16 => O::from_f32(f16::from_le_bytes(bytes.try_into().unwrap()).to_f32()),
        DType::BF16 => O::from_f32(bf16::from_le_bytes(bytes.try_into().unwrap()).to_f32()),
        other => panic!("{other}"),
    }
}

/// The bits of elements, so that NaNs compare.
fn bits<O: Element>(elements: &[O]) -> &[u8] {
    bytemuck::cast_slice(elements)
}

/// The same table reached in every way.
fn every_access(path: &std::path::Path) -> Vec<Table> {
    vec![
        // SAFETY: the test's own file, which nothing writes to.
        unsafe { Table::map(path).unwrap() },
        Table::load(path).unwrap(),
        OpenOptions::new().access(Access::Read).open(path).unwrap(),
        Table::from_bytes(&std::fs::read(path).unwrap()).unwrap(),
    ]
}

fn check<O: Output>(table: &Table, encoded: &[u8], ids: &[u64], stride: usize, threads: usize) {
    let dim = table.dim();
    let filler = O::from_f32(-77.0);
    let length = if ids.is_empty() { 0 } else { (ids.len() - 1) * stride + dim };
    let mut expected = vec![filler; length];
    for (row, id) in ids.iter().enumerate() {
        for column in 0..dim {
            let index = *id as usize * dim + column;
            expected[row * stride + column] = if table.dtype() == O::DTYPE {
                let at = index * table.dtype().block_bytes();
                bytemuck::pod_read_unaligned(&encoded[at..at + size_of::<O>()])
            } else {
                naive(table.dtype(), encoded, index)
            };
        }
    }
    let mut out = vec![filler; length];
    let options = GatherOptions::new().row_stride(stride).threads(threads);
    table.gather_into_with(ids, &mut out, &options).unwrap();
    assert!(
        bits(&out) == bits(&expected),
        "{:?} {} -> {}",
        table.access(),
        table.dtype(),
        O::DTYPE
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn gathers_equal_the_naive_twin(
        vocab in 1u64..60,
        dim in 1usize..70,
        dtype in prop::sample::select(&PLAIN[..]),
        align in prop::sample::select(vec![None, Some(64u64), Some(4096)]),
        picks in proptest::collection::vec(any::<prop::sample::Index>(), 0..50),
        gap in 0usize..5,
        threads in 1usize..4,
    ) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("random.emb");
        let encoded = support::write_random(&path, vocab, dim, dtype, align);
        let ids: Vec<u64> = picks.iter().map(|pick| pick.index(vocab as usize) as u64).collect();
        for table in every_access(&path) {
            check::<f32>(&table, &encoded, &ids, dim + gap, threads);
            check::<f16>(&table, &encoded, &ids, dim + gap, threads);
            check::<bf16>(&table, &encoded, &ids, dim + gap, threads);

            let row = dim * dtype.block_bytes();
            let mut out = vec![0; ids.len() * row];
            table.gather_bytes_into(&ids, &mut out).unwrap();
            for (id, out) in ids.iter().zip(out.chunks(row)) {
                prop_assert_eq!(out, &encoded[*id as usize * row..][..row]);
            }
        }
    }
}

#[test]
fn large_gathers_do_not_depend_on_threads() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("large.emb");
    let (vocab, dim) = (3001, 257);
    let encoded = support::write_random(&path, vocab, dim, DType::F16, None);
    let mut random = Random(1);
    let ids: Vec<u64> = (0..10_007).map(|_| random.below(vocab)).collect();
    for table in every_access(&path) {
        for threads in [1, 2, 3, 7] {
            check::<f32>(&table, &encoded, &ids, dim, threads);
            check::<bf16>(&table, &encoded, &ids, dim + 3, threads);
        }
    }
}

#[test]
fn ids_of_every_type_are_the_same_ids() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ids.emb");
    support::write_random(&path, 300, 4, DType::F32, None);
    let table = Table::load(&path).unwrap();
    let mut expected = vec![0f32; 12];
    table.gather_into(&[299u64, 0, 7], &mut expected).unwrap();
    let mut out = vec![1f32; 12];
    table.gather_into(&[299u32, 0, 7], &mut out).unwrap();
    assert_eq!(bits(&out), bits(&expected));
    out.fill(1.0);
    table.gather_into(&[299i32, 0, 7], &mut out).unwrap();
    assert_eq!(bits(&out), bits(&expected));
    out.fill(1.0);
    table.gather_into(&[299i64, 0, 7], &mut out).unwrap();
    assert_eq!(bits(&out), bits(&expected));
}

#[test]
fn nothing_is_written_for_a_bad_id() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bad.emb");
    support::write_random(&path, 10, 4, DType::F32, None);
    for table in every_access(&path) {
        let mut out = vec![f32::MAX; 12];
        let error = table.gather_into(&[3i64, 9, -1], &mut out).unwrap_err();
        assert!(
            matches!(error, Error::RowOutOfRange { id: -1, position: Some(2), vocab: 10 }),
            "{error}"
        );
        let error = table.gather_into(&[3u32, 10, 11], &mut out).unwrap_err();
        assert!(matches!(error, Error::RowOutOfRange { id: 10, position: Some(1), vocab: 10 }));
        assert_eq!(out, vec![f32::MAX; 12]);

        let mut bytes = vec![0xee; 32];
        assert!(table.gather_bytes_into(&[0u64, u64::MAX], &mut bytes).is_err());
        assert_eq!(bytes, vec![0xee; 32]);
    }
}

#[test]
fn outputs_of_the_wrong_size_are_refused_before_anything_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sizes.emb");
    support::write_random(&path, 10, 4, DType::F32, None);
    let table = Table::load(&path).unwrap();
    for length in [0, 7, 9] {
        let mut out = vec![f32::MAX; length];
        let error = table.gather_into(&[1u32, 2], &mut out).unwrap_err();
        assert!(matches!(error, Error::OutputLength { expected: 8, got, .. } if got == length));
        assert_eq!(out, vec![f32::MAX; length]);
    }
    let with = |stride, length: usize, threads| {
        let mut out = vec![f32::MAX; length];
        let options = GatherOptions::new().row_stride(stride).threads(threads);
        table.gather_into_with(&[1u32, 2], &mut out, &options)
    };
    assert!(matches!(with(3, 100, 1), Err(Error::OutputStride { dim: 4, got: 3 })));
    assert!(matches!(with(6, 9, 1), Err(Error::OutputLength { expected: 10, got: 9, .. })));
    assert!(with(6, 10, 1).is_ok());
    assert!(with(6, 12, 1).is_ok(), "room after the last row is fine");
    assert!(matches!(with(4, 8, 0), Err(Error::InvalidOption { option: "threads", .. })));
    assert!(matches!(with(usize::MAX, 8, 1), Err(Error::OutputLength { .. })));
}

#[test]
fn no_ids_gather_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("none.emb");
    let writer = WriteOptions::new(4, DType::F32).file_id(FILE_ID).create(&path).unwrap();
    writer.finish().unwrap();
    for table in every_access(&path) {
        assert_eq!(table.vocab(), 0);
        table.gather_into::<u32, f32>(&[], &mut []).unwrap();
        assert!(table.gather_into(&[0u32], &mut [0f32; 4]).is_err());
        assert!(table.row::<f32>(0).is_err());
    }
}

/// Bags the slow and obvious way.
fn naive_bags(
    rows: &[Vec<f32>],
    dim: usize,
    (ids, offsets): (&[i64], &[u64]),
    weights: Option<&[f32]>,
    pooling: Pooling,
    padding: Option<i64>,
) -> Vec<f32> {
    let mut out = Vec::new();
    for bag in offsets.windows(2) {
        let kept: Vec<usize> = (bag[0] as usize..bag[1] as usize)
            .filter(|position| Some(ids[*position]) != padding)
            .collect();
        for column in 0..dim {
            let start = if pooling == Pooling::Max { f32::NEG_INFINITY } else { 0.0 };
            let mut sum = start;
            for position in &kept {
                let mut value = rows[ids[*position] as usize][column];
                if let Some(weights) = weights {
                    value *= weights[*position];
                }
                if pooling != Pooling::Max {
                    sum += value;
                } else if value > sum || value.is_nan() {
                    sum = value;
                }
            }
            out.push(match (pooling, kept.len()) {
                (_, 0) => 0.0,
                (Pooling::Mean, count) => sum / count as f32,
                _ => sum,
            });
        }
    }
    out
}

/// NaNs are one another's equals here: which payload a sum keeps is not promised.
fn sum_bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| if v.is_nan() { 0x7fc0_0000 } else { v.to_bits() }).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn bags_equal_the_naive_twin(
        vocab in 1u64..60,
        dim in 1usize..70,
        dtype in prop::sample::select(&PLAIN[..]),
        picks in proptest::collection::vec(any::<prop::sample::Index>(), 0..80),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
        weights in proptest::collection::vec(-2.0f32..2.0, 80),
        pooling in prop::sample::select(vec![Pooling::Sum, Pooling::Mean, Pooling::Max]),
        weighted in any::<bool>(),
        padding in prop::sample::select(vec![None, Some(-1i64), Some(0)]),
        gap in 0usize..5,
        threads in 1usize..5,
    ) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bags.emb");
        let encoded = support::write_random(&path, vocab, dim, dtype, None);
        let rows: Vec<Vec<f32>> = (0..vocab as usize)
            .map(|row| (0..dim).map(|column| naive(dtype, &encoded, row * dim + column)).collect())
            .collect();
        let lowest = if padding == Some(-1) { -1 } else { 0 };
        let ids: Vec<i64> = picks
            .iter()
            .map(|pick| pick.index((vocab as i64 - lowest) as usize) as i64 + lowest)
            .collect();
        let mut offsets: Vec<u64> =
            cuts.iter().map(|cut| cut.index(ids.len() + 1) as u64).collect();
        offsets.extend([0, ids.len() as u64]);
        offsets.sort_unstable();
        let weights = &weights[..ids.len()];
        let weights = (weighted && pooling != Pooling::Max).then_some(weights);
        let expected =
            naive_bags(&rows, dim, (&ids, &offsets), weights, pooling, padding);

        let (bags, stride) = (offsets.len() - 1, dim + gap);
        for table in every_access(&path) {
            for portable in [false, true] {
                let mut options =
                    BagOptions::new().threads(threads).row_stride(stride).portable(portable);
                if let Some(id) = padding {
                    options = options.padding_id(id);
                }
                let mut out = vec![-77.0; bags * stride];
                table
                    .embedding_bag_into_with(&ids, &offsets, weights, pooling, &mut out, &options)
                    .unwrap();
                for (bag, out) in out.chunks(stride).enumerate() {
                    let expected = &expected[bag * dim..][..dim];
                    prop_assert_eq!(
                        sum_bits(&out[..dim]), sum_bits(expected),
                        "{:?} {} {:?} bag {}", table.access(), dtype, pooling, bag
                    );
                    prop_assert!(out[dim..].iter().all(|between| *between == -77.0));
                }
            }
        }
    }
}

#[test]
fn large_bags_do_not_depend_on_threads() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("large.emb");
    let (vocab, dim) = (3001, 129);
    for dtype in [DType::F32, DType::BF16] {
        support::write_random(&path, vocab, dim, dtype, None);
        let table = Table::load(&path).unwrap();
        let mut random = Random(1);
        let ids: Vec<u64> = (0..20_011).map(|_| random.below(vocab)).collect();
        let mut offsets: Vec<u32> = (0..500).map(|_| random.below(20_012) as u32).collect();
        // One bag is half of all, others are empty.
        offsets.retain(|offset| !(5_000..15_000).contains(offset));
        offsets.extend([0, 0, 0, 20_011, 20_011]);
        offsets.sort_unstable();
        let bags = offsets.len() - 1;
        let pool = |options: &BagOptions| {
            let mut out = vec![7.0; bags * dim];
            let pooling = Pooling::Mean;
            table
                .embedding_bag_into_with(&ids, &offsets, None, pooling, &mut out, options)
                .unwrap();
            sum_bits(&out)
        };
        let one = pool(&BagOptions::new().threads(1).portable(true));
        for threads in 1..5 {
            assert!(pool(&BagOptions::new().threads(threads)) == one, "{threads} threads");
        }
    }
}

#[test]
fn bags_that_cannot_be_are_refused_before_anything_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("refused.emb");
    support::write_random(&path, 10, 4, DType::F32, None);
    let table = Table::load(&path).unwrap();
    let refused = |ids: &[i64], offsets: &[i64], weights: Option<&[f32]>, pooling, length| {
        let mut out = vec![f32::MAX; length];
        let error = table.embedding_bag_into(ids, offsets, weights, pooling, &mut out).unwrap_err();
        assert_eq!(out, vec![f32::MAX; length]);
        error
    };
    let option = |error: Error| match error {
        Error::InvalidOption { option, .. } => option,
        other => panic!("{other}"),
    };
    let ids = [1, 2, 3];
    for offsets in [&[][..], &[0], &[1, 3], &[0, 2], &[0, 4], &[0, 2, 1, 3], &[0, -1, 3], &[-1, 3]]
    {
        assert_eq!(option(refused(&ids, offsets, None, Pooling::Sum, 8)), "offsets", "{offsets:?}");
    }
    let two = Some(&[1.0, 2.0][..]);
    assert_eq!(option(refused(&ids, &[0, 3], two, Pooling::Sum, 4)), "weights");
    let three = Some(&[1.0, 2.0, 3.0][..]);
    assert_eq!(option(refused(&ids, &[0, 3], three, Pooling::Max, 4)), "weights");
    let error = refused(&[1, -1, 3], &[0, 3], None, Pooling::Sum, 4);
    assert!(matches!(error, Error::RowOutOfRange { id: -1, position: Some(1), vocab: 10 }));
    let error = refused(&ids, &[0, 1, 3], None, Pooling::Sum, 4);
    assert!(matches!(error, Error::OutputLength { rows: 2, expected: 8, got: 4, .. }), "{error}");

    let mut out = [0.0; 4];
    let mut with = |options: BagOptions| {
        let offsets = [0u32, 3];
        table.embedding_bag_into_with(&ids, &offsets, None, Pooling::Sum, &mut out, &options)
    };
    assert!(matches!(with(BagOptions::new().row_stride(3)), Err(Error::OutputStride { .. })));
    assert_eq!(option(with(BagOptions::new().threads(0)).unwrap_err()), "threads");
    // Padding is an id like any other to all but itself.
    assert!(with(BagOptions::new().padding_id(-1)).is_ok());
    table.embedding_bag_into::<u32, u32>(&[], &[0], None, Pooling::Sum, &mut []).unwrap();
}

#[test]
fn fresh_outputs_are_those_of_gather_into() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fresh.emb");
    support::write_random(&path, 500, 2048, DType::F16, None);
    for table in every_access(&path) {
        for batch in [0u64, 1, 5000] {
            let ids: Vec<u64> = (0..batch).map(|id| id * 7 % 500).collect();
            let mut expected = vec![0f32; ids.len() * 2048];
            table.gather_into(&ids, &mut expected).unwrap();
            assert!(bits(&table.gather::<_, f32>(&ids).unwrap()) == bits(&expected));
        }
        assert!(matches!(
            table.gather::<u64, f32>(&[500]),
            Err(Error::RowOutOfRange { id: 500, position: Some(0), .. })
        ));
    }
}

#[test]
fn both_sets_of_kernels_and_every_way_of_writing_agree() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kernels.emb");
    // Rows and batches on both sides of the sizes from which outputs are written past the caches.
    for (dtype, dim) in
        [(DType::F32, 1031), (DType::F32, 100), (DType::F16, 1031), (DType::BF16, 7)]
    {
        let encoded = support::write_random(&path, 300, dim, dtype, None);
        // SAFETY: the test's own file, which nothing writes to while it is mapped.
        let table = unsafe { Table::map(&path).unwrap() };
        let mut random = Random(dim as u64);
        for batch in [1, 60, 2100] {
            let ids: Vec<u64> = (0..batch).map(|_| random.below(300)).collect();
            for threads in [1, 2, 3] {
                check::<f32>(&table, &encoded, &ids, dim, threads);
                check::<f32>(&table, &encoded, &ids, dim + 1, threads);
                let gather = |portable| {
                    let options = GatherOptions::new().threads(threads).portable(portable);
                    let mut out = vec![0f32; ids.len() * dim];
                    table.gather_into_with(&ids, &mut out, &options).unwrap();
                    out
                };
                assert!(bits(&gather(false)) == bits(&gather(true)), "{dtype} {batch}");
            }
        }
        std::fs::remove_file(&path).unwrap();
    }
}
