//! Searches against a naive twin: any codec, any access, any number of threads and queries.

#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::float_cmp,
    clippy::print_stderr
)]

mod support;

use std::ops::ControlFlow;
use std::path::Path;

use embmap::{
    Access, ConvertOptions, DType, Error, Metric, NearestOptions, Neighbour, OpenOptions, Table,
    WriteOptions, convert,
};
use proptest::prelude::*;
use support::Random;

const MODEL: &str = "fixtures/minilm-2k";

/// The same table reached in every way.
fn every_access(path: &Path) -> [Table; 4] {
    [
        mapped(path),
        Table::load(path).unwrap(),
        OpenOptions::new().access(Access::Read).open(path).unwrap(),
        OpenOptions::new().access(Access::Direct).open(path).unwrap(),
    ]
}

fn mapped(path: &Path) -> Table {
    // SAFETY: fixtures and the test's own files, which nothing writes to.
    unsafe { Table::map(path).unwrap() }
}

/// The row as `f32`.
fn row(table: &Table, id: u64) -> Vec<f32> {
    let mut row = vec![0f32; table.dim()];
    table.gather_into(&[id], &mut row).unwrap();
    row
}

/// A product as the documentation has it: 16 lanes, then halves.
fn product(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0f32; 16];
    for (index, (a, b)) in a.iter().zip(b).enumerate() {
        let product = a * b;
        lanes[index % 16] += product;
    }
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
    }
    lanes[0]
}

/// A norm as the documentation has it.
fn norm(row: &[f32]) -> f32 {
    let mut lanes = [0f64; 16];
    for (index, value) in row.iter().enumerate() {
        lanes[index % 16] += f64::from(*value) * f64::from(*value);
    }
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
    }
    lanes[0].sqrt() as f32
}

fn unit(query: &[f32]) -> Vec<f32> {
    let length = query.iter().map(|it| f64::from(*it) * f64::from(*it)).sum::<f64>().sqrt();
    query.iter().map(|it| (f64::from(*it) / length) as f32).collect()
}

/// Every row.
fn rows(table: &Table) -> Vec<f32> {
    let ids: Vec<u64> = (0..table.vocab()).collect();
    table.gather(&ids).unwrap()
}

/// Every row, sorted: the answers, and their bits.
fn naive(
    rows: &[f32],
    query: &[f32],
    k: usize,
    metric: Metric,
    without: &[u64],
) -> Vec<(u64, u32)> {
    let mut all: Vec<(u64, f32)> = (0..)
        .zip(rows.chunks(query.len()))
        .filter(|(id, _)| !without.contains(id))
        .map(|(id, row)| match metric {
            Metric::Dot => (id, product(row, query)),
            Metric::Cosine if row.iter().any(|value| !value.is_finite()) => (id, f32::NAN),
            Metric::Cosine if row.iter().all(|value| *value == 0.0) => (id, 0.0),
            Metric::Cosine => (id, (product(row, &unit(query)) / norm(row)).clamp(-1.0, 1.0)),
        })
        .filter(|(_, score)| !score.is_nan())
        .collect();
    all.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap().then(a.0.cmp(&b.0)));
    all.truncate(k);
    all.into_iter().map(|(id, score)| (id, score.to_bits())).collect()
}

fn bits(found: &[Neighbour]) -> Vec<(u64, u32)> {
    found.iter().map(|found| (found.id, found.score.to_bits())).collect()
}

fn number(random: &mut Random) -> f32 {
    (random.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
}

/// A table of small numbers, where rows come twice, are zeros, or hold a NaN or an infinity.
fn write_odd(path: &Path, vocab: u64, dim: usize) {
    let mut random = Random(vocab ^ (dim as u64) << 20);
    let mut writer = WriteOptions::new(dim, DType::F32).replace(true).create(path).unwrap();
    let mut row = vec![0f32; dim];
    for id in 0..vocab {
        match random.below(12) {
            // The one before again.
            0 => {}
            1 => row.fill(0.0),
            2 if id > 3 => row[0] = f32::NAN,
            3 if id > 3 => row[dim - 1] = f32::INFINITY,
            _ => row.iter_mut().for_each(|value| *value = number(&mut random)),
        }
        writer.push(&row).unwrap();
    }
    writer.finish().unwrap();
}

/// The rows of a table, those of some ids first.
fn write_ordered(table: &Table, path: &Path, order: &[u64], norms: bool) {
    let options = WriteOptions::new(table.dim(), table.dtype()).order(order).norms(norms);
    let mut writer = options.create(path).unwrap();
    let others = (0..table.vocab()).filter(|id| !order.contains(id));
    for id in order.iter().copied().chain(others) {
        writer.push_encoded(table.encoded_row(id).unwrap()).unwrap();
    }
    writer.finish().unwrap();
}

fn check(table: &Table, queries: &[f32], k: usize, without: &[u64]) {
    let (dim, rows) = (table.dim(), rows(table));
    for metric in [Metric::Dot, Metric::Cosine] {
        let expected: Vec<_> =
            queries.chunks(dim).map(|query| naive(&rows, query, k, metric, without)).collect();
        for (threads, portable) in [(1, false), (1, true), (2, false), (5, true)] {
            let options =
                NearestOptions::new().threads(threads).portable(portable).exclude(without.to_vec());
            let found = table.nearest_with(queries, k, metric, &options).unwrap();
            let found: Vec<_> = found.iter().map(|found| bits(found)).collect();
            assert_eq!(found, expected, "{table:?} {metric:?}, {threads} threads, {portable}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn searches_find_what_sorting_all_rows_finds(
        vocab in 1u64..200,
        dim in prop::sample::select(vec![1usize, 3, 8, 15, 16, 17, 33, 64, 100]),
        k in 1usize..20,
        count in prop::sample::select(vec![1usize, 2, 3, 17]),
        dtype in prop::sample::select(vec![DType::F32, DType::F16, DType::BF16, DType::F64]),
        align in any::<bool>(),
        norms in any::<bool>(),
        placed in 0usize..200,
        seed: u64,
    ) {
        let directory = tempfile::tempdir().unwrap();
        let [odd, path, ordered] =
            ["odd.emb", "table.emb", "ordered.emb"].map(|name| directory.path().join(name));
        write_odd(&odd, vocab, dim);
        let options = ConvertOptions::new().dtype(dtype).norms(norms);
        let options = if align { options.align(64) } else { options };
        convert(&mapped(&odd), &path, &options).unwrap();
        let mut random = Random(seed);
        // Some rows lie in an order of their own.
        let mut order: Vec<u64> = (0..vocab).collect();
        for at in 0..order.len() {
            order.swap(at, random.below(vocab) as usize);
        }
        order.truncate(placed);
        write_ordered(&mapped(&path), &ordered, &order, norms);
        let queries: Vec<f32> = (0..count * dim).map(|_| number(&mut random)).collect();
        let without: Vec<u64> = (0..3).map(|_| random.below(vocab)).collect();
        for table in every_access(&path).into_iter().chain(every_access(&ordered)) {
            check(&table, &queries, k.min(vocab as usize), &without);
            prop_assert!(table.verify().unwrap().is_sound());
        }
    }
}

#[test]
fn every_codec_is_searched_as_it_decodes() {
    let directory = tempfile::tempdir().unwrap();
    let mut random = Random(5);
    for dtype in [DType::I8, DType::F8E4M3, DType::Q8_0] {
        let path = directory.path().join(format!("{dtype}.emb"));
        let options = ConvertOptions::new().dtype(dtype);
        convert(&mapped(Path::new(MODEL)), &path, &options).unwrap();
        let queries: Vec<f32> = (0..5 * 384).map(|_| number(&mut random)).collect();
        for table in every_access(&path) {
            check(&table, &queries, 7, &[3, 3, 2002]);
        }
    }
    // Many pieces in several files, one scale for all; blocks of GGUF.
    let tensor = "model.language_model.layers.1.ple.ple_embedding.ngram_embedding.shard_{}.weight";
    let open = |access| OpenOptions::new().tensor(tensor).access(access).open("fixtures/pieces");
    for access in [Access::Memory, Access::Read] {
        let table = open(access).unwrap();
        let queries: Vec<f32> = (0..2 * table.dim()).map(|_| number(&mut random)).collect();
        check(&table, &queries, 9, &[]);
    }
    for tensor in ["token_embd.weight", "per_layer_token_embd.weight", "blk.1.engram_embd.weight"] {
        let table = OpenOptions::new().tensor(tensor).open("fixtures/gguf/model.gguf").unwrap();
        let queries: Vec<f32> = (0..2 * table.dim()).map(|_| number(&mut random)).collect();
        check(&table, &queries, 9, &[]);
    }
}

/// Norms are found as rows are written, whatever their codec, and change no answer.
#[test]
fn norms_in_the_file_are_those_that_a_search_finds() {
    let directory = tempfile::tempdir().unwrap();
    let tensor = "model.language_model.layers.1.ple.ple_embedding.ngram_embedding.shard_{}.weight";
    let pieces = OpenOptions::new().tensor(tensor).open("fixtures/pieces").unwrap();
    let gguf = OpenOptions::new().tensor("token_embd.weight").open("fixtures/gguf/model.gguf");
    let tables =
        [(mapped(Path::new(MODEL)), Some(DType::I8)), (pieces, None), (gguf.unwrap(), None)];
    for (table, dtype) in tables {
        let path = |name: &str| directory.path().join(name);
        let mut options = ConvertOptions::new().replace(true);
        if let Some(dtype) = dtype {
            options = options.dtype(dtype);
        }
        convert(&table, path("without.emb"), &options).unwrap();
        convert(&table, path("with.emb"), &options.norms(true)).unwrap();
        // A table that has norms keeps them, whatever becomes of its rows.
        let again = ConvertOptions::new().dtype(DType::F16).rows(3..90).replace(true);
        convert(&mapped(&path("with.emb")), path("again.emb"), &again).unwrap();
        for (name, has) in [("without.emb", false), ("with.emb", true), ("again.emb", true)] {
            let table = mapped(&path(name));
            assert_eq!(table.info().sections.iter().any(|it| it.name == "norms"), has);
            assert!(table.verify().unwrap().is_sound());
            let queries: Vec<f32> = row(&table, 5).into_iter().chain(row(&table, 7)).collect();
            for table in every_access(&path(name)) {
                check(&table, &queries, 5, &[]);
            }
        }
    }
}

#[test]
fn tables_of_many_windows_give_the_same_on_any_number_of_threads() {
    // Windows are of 4 MiB, pieces that are read of 256 KiB, groups of up to 64 rows.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("long.emb");
    write_odd(&path, 20_000, 130);
    let mut random = Random(8);
    let queries: Vec<f32> = (0..2 * 130).map(|_| number(&mut random)).collect();
    for table in every_access(&path) {
        check(&table, &queries, 50, &[1, 2, 3, 19_999]);
    }
}

#[test]
fn a_real_table_has_the_neighbours_that_are_known() {
    let table = mapped(Path::new(MODEL));
    for (token, expected) in [
        ("cat", &[("cats", 0.815), ("kitten", 0.560), ("kitty", 0.537), ("dog", 0.424)][..]),
        ("king", &[("kings", 0.690), ("queen", 0.627)]),
        ("paris", &[("parisian", 0.569), ("france", 0.509), ("london", 0.415)]),
    ] {
        let id = table.id_of(token).unwrap().unwrap();
        let options = NearestOptions::new().exclude(vec![id]);
        let found = table.nearest_with(&row(&table, id), 4, Metric::Cosine, &options).unwrap();
        let found = found[0].iter().map(|found| {
            let token = table.token(found.id).unwrap().unwrap().into_owned();
            (token, (f64::from(found.score) * 1000.0).round() / 1000.0)
        });
        let expected = expected.iter().map(|(token, score)| ((*token).to_owned(), *score));
        assert!(found.take(expected.len()).eq(expected.clone()), "{token}");
    }
}

#[test]
fn tiny_and_huge_rows_have_directions_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("scales.emb");
    let mut writer = WriteOptions::new(3, DType::F32).create(&path).unwrap();
    for scale in [1e-38f32, 1e30, 1.0, 1e-20] {
        writer.push(&[3.0 * scale, 0.0, 4.0 * scale]).unwrap();
    }
    writer.push(&[0.0f32; 3]).unwrap();
    writer.finish().unwrap();
    let table = Table::load(&path).unwrap();
    let found = table.nearest(&[3e-30, 0.0, 4e-30], 5, Metric::Cosine).unwrap();
    assert!(found[..4].iter().all(|found| (found.score - 1.0).abs() < 1e-6), "{found:?}");
    assert_eq!(found[4], Neighbour { id: 4, score: 0.0 });
}

#[test]
fn what_cannot_be_searched_is_told_before_a_row_is_read() {
    let table = mapped(Path::new(MODEL));
    let one = vec![1f32; 384];
    let wrong = |query: &[f32], k, metric| table.nearest(query, k, metric).unwrap_err().to_string();
    assert_eq!(wrong(&one, 0, Metric::Dot), "k: expected 1 to 2003, the rows there are, found 0");
    assert!(wrong(&one, 2004, Metric::Dot).contains("expected 1 to 2003"));
    assert!(wrong(&one[1..], 1, Metric::Dot).contains("expected 384 elements"));
    assert!(wrong(&[0.0; 384], 1, Metric::Cosine).contains("no direction"));
    assert_eq!(table.nearest(&[0.0; 384], 1, Metric::Dot).unwrap()[0].id, 0);
    for odd in [f32::NAN, f32::INFINITY] {
        let mut query = one.clone();
        query[7] = odd;
        for metric in [Metric::Dot, Metric::Cosine] {
            let message = wrong(&query, 1, metric);
            assert!(message.contains("element 7"), "{message}");
        }
    }
    let with = |queries: &[f32], options: NearestOptions| {
        table.nearest_with(queries, 3, Metric::Dot, &options)
    };
    assert!(with(&[1.0; 385], NearestOptions::new()).unwrap_err().to_string().contains("385"));
    assert_eq!(with(&[], NearestOptions::new()).unwrap(), Vec::<Vec<_>>::new());
    let error = with(&one, NearestOptions::new().exclude(vec![5, 2003])).unwrap_err();
    assert!(matches!(error, Error::RowOutOfRange { id: 2003, position: Some(1), .. }), "{error}");
    assert!(with(&one, NearestOptions::new().exclude_each(vec![vec![], vec![]])).is_err());
    assert!(with(&one, NearestOptions::new().threads(0)).is_err());

    let empty = Table::load("fixtures/v1/no-rows.emb").unwrap();
    let error = empty.nearest(&[1.0; 768], 1, Metric::Dot).unwrap_err();
    assert!(error.to_string().contains("no rows"), "{error}");
}

#[test]
fn each_query_has_exclusions_of_its_own() {
    let table = mapped(Path::new(MODEL));
    let queries = [row(&table, 1811), row(&table, 919)].concat();
    let each = vec![vec![1811], vec![1811, 919]];
    let options = NearestOptions::new().exclude(vec![0]).exclude_each(each);
    let (found, rows) =
        (table.nearest_with(&queries, 5, Metric::Cosine, &options).unwrap(), rows(&table));
    assert_eq!(bits(&found[0]), naive(&rows, &queries[..384], 5, Metric::Cosine, &[0, 1811]));
    assert_eq!(bits(&found[1]), naive(&rows, &queries[384..], 5, Metric::Cosine, &[0, 1811, 919]));
    // As many as are left.
    let most: Vec<u64> = (3..2003).collect();
    let options = NearestOptions::new().exclude(most);
    let found = table.nearest_with(&queries[..384], 10, Metric::Dot, &options).unwrap();
    assert_eq!(found[0].len(), 3);
}

#[test]
fn a_search_that_is_broken_off_ends() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("long.emb");
    write_odd(&path, 30_000, 100);
    let table = mapped(&path);
    for threads in [1, 3] {
        let options = NearestOptions::new().threads(threads);
        let mut told = Vec::new();
        let found = table.nearest_while(&[1.0; 100], 3, Metric::Dot, &options, |done, all| {
            told.push((done, all));
            ControlFlow::Continue(())
        });
        assert_eq!(found.unwrap()[0].len(), 3);
        assert_eq!(told.last(), Some(&(30_000, 30_000)));
        assert!(told.len() == 3 && told.windows(2).all(|pair| pair[0].0 < pair[1].0));
        let broken = table
            .nearest_while(&[1.0; 100], 3, Metric::Dot, &options, |_, _| ControlFlow::Break(()));
        assert!(matches!(broken, Err(Error::Interrupted)));
    }
}

/// What a search maps stays within the budget of the table.
#[test]
fn the_resident_set_is_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("long.emb");
    write_odd(&path, 60_000, 100);
    for (budget, threads) in [(8 << 20, 1), (1 << 20, 2)] {
        // SAFETY: the test's own file, which nothing writes to.
        let table = unsafe { OpenOptions::new().rss_budget(budget).map(&path).unwrap() };
        let options = NearestOptions::new().threads(threads);
        table.nearest_with(&[1.0; 100], 3, Metric::Dot, &options).unwrap();
        let Some(mapped) = table.residency().unwrap().mapped_bytes else { return };
        assert!(mapped <= budget, "{mapped} of {budget}");
    }
    let table = mapped(&path);
    table.nearest(&[1.0; 100], 3, Metric::Dot).unwrap();
    if let (Some(cached), Some(mapped)) =
        (table.residency().unwrap().cached_bytes, table.residency().unwrap().mapped_bytes)
        && cached >= 24_000_000
    {
        assert!(mapped >= 24_000_000, "what is small stays for the next search: {mapped}");
    }
}

/// A file that is cut while it is searched is an error where it is read.
#[test]
fn a_file_that_was_cut_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cut.emb");
    write_odd(&path, 5000, 100);
    let table = OpenOptions::new().access(Access::Read).open(&path).unwrap();
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(1 << 20).unwrap();
    let error = table.nearest(&[1.0; 100], 3, Metric::Dot).unwrap_err();
    assert!(matches!(error, Error::FileChanged { .. }), "{error}");
}
