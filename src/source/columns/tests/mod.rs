//! Columns written by the format's own library, read back.

use std::sync::Arc;

use arrow_array::builder::{FixedSizeListBuilder, LargeListBuilder, ListBuilder, PrimitiveBuilder};
use arrow_array::types::{Float16Type, Float32Type, Float64Type, Int8Type, UInt8Type};
use arrow_array::{
    Array, ArrayRef, ArrowPrimitiveType, Int64Array, LargeStringArray, RecordBatch, StringArray,
    StringViewArray,
};
use half::f16;

use super::super::stream::{Batch, RowStream};
use super::*;
use crate::dtype::DType;
use crate::error::{Error, Place, Result};
use crate::storage::StoredFile;

mod arrow;
mod parquet;

/// The kinds of lists that hold vectors.
#[derive(Debug, Clone, Copy)]
enum Lists {
    Small,
    Large,
    Fixed,
}

/// Rows of numbers; `None` for an absent vector, or an absent number in one.
type Vectors<N> = Vec<Option<Vec<Option<N>>>>;

fn lists<T: ArrowPrimitiveType>(kind: Lists, rows: &Vectors<T::Native>) -> ArrayRef {
    let dim = rows.iter().flatten().map(Vec::len).max().unwrap_or(0);
    let numbers = PrimitiveBuilder::<T>::new();
    match kind {
        Lists::Small => {
            let mut builder = ListBuilder::new(numbers);
            for row in rows {
                if let Some(row) = row {
                    builder.values().extend(row.iter().copied());
                }
                builder.append(row.is_some());
            }
            Arc::new(builder.finish())
        }
        Lists::Large => {
            let mut builder = LargeListBuilder::new(numbers);
            for row in rows {
                if let Some(row) = row {
                    builder.values().extend(row.iter().copied());
                }
                builder.append(row.is_some());
            }
            Arc::new(builder.finish())
        }
        Lists::Fixed => {
            let mut builder = FixedSizeListBuilder::new(numbers, i32::try_from(dim).unwrap());
            for row in rows {
                match row {
                    Some(row) => builder.values().extend(row.iter().copied()),
                    None => builder.values().append_nulls(dim),
                }
                builder.append(row.is_some());
            }
            Arc::new(builder.finish())
        }
    }
}

fn whole<N: Copy>(rows: &[Vec<N>]) -> Vectors<N> {
    rows.iter().map(|row| Some(row.iter().copied().map(Some).collect())).collect()
}

/// What a reader gives, all of it.
struct Read {
    rows: Vec<u8>,
    tokens: Vec<Option<String>>,
}

fn all(mut stream: impl RowStream) -> Result<Read> {
    let mut read = Read { rows: Vec::new(), tokens: Vec::new() };
    let mut batch = Batch::default();
    while stream.next(&mut batch)? {
        assert!(batch.count > 0);
        read.rows.extend(&batch.rows);
        read.tokens.extend(batch.tokens.iter().map(|token| token.map(str::to_owned)));
    }
    Ok(read)
}

fn stored(bytes: &[u8]) -> StoredFile {
    StoredFile::from_bytes(bytes, "columns").unwrap()
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, column)| (name, column, true)),
    )
    .unwrap()
}

/// Ten thousand rows: more than a batch, and more than a page.
fn many() -> Vec<Vec<f32>> {
    (0..10_000u16)
        .map(|row| (0..40u8).map(|c| f32::from(row) / 8.0 - f32::from(c)).collect())
        .collect()
}

/// Every kind of list of every type of number, with tokens of every kind, written by `write` and
/// read by `open`.
fn every_kind<S: RowStream>(
    write: impl Fn(&[RecordBatch]) -> Vec<u8>,
    open: impl Fn(StoredFile, &ColumnNames) -> Result<S>,
) {
    let rows = many();
    let tokens: Vec<Option<String>> =
        (0..rows.len()).map(|row| (row % 7 != 3).then(|| format!("tôken{row}"))).collect();
    for kind in [Lists::Small, Lists::Large, Lists::Fixed] {
        let text: [ArrayRef; 3] = [
            Arc::new(StringArray::from(tokens.clone())),
            Arc::new(LargeStringArray::from(tokens.clone())),
            Arc::new(StringViewArray::from_iter(tokens.clone())),
        ];
        let vectors = lists::<Float32Type>(kind, &whole(&rows));
        for text in text {
            let columns = batch(vec![
                ("id", Arc::new(Int64Array::from_iter_values(0..10_000))),
                ("token", text),
                ("vector", vectors.clone()),
            ]);
            // Some batches of odd lengths, and one that is empty.
            let cuts = [(0, 1), (1, 0), (1, 4096), (4097, 5903)];
            let batches = cuts.map(|(start, length)| columns.slice(start, length));
            let stream = open(stored(&write(&batches)), &ColumnNames::default()).unwrap();
            let read = all(stream).unwrap();
            let expected: Vec<u8> = rows.iter().flatten().flat_map(|x| x.to_le_bytes()).collect();
            assert!(read.rows == expected, "{kind:?}");
            assert!(read.tokens == tokens, "{kind:?}");
        }
        let few = &rows[..5];
        let narrow: Vec<Vec<f16>> =
            few.iter().map(|row| row.iter().map(|x| f16::from_f32(*x)).collect()).collect();
        let wide: Vec<Vec<f64>> =
            few.iter().map(|row| row.iter().map(|x| f64::from(*x) / 3.0).collect()).collect();
        let signed: Vec<Vec<i8>> = (0..5i8).map(|row| vec![row - 3; 40]).collect();
        let unsigned: Vec<Vec<u8>> = (0..5u8).map(|row| vec![row + 250; 40]).collect();
        for (array, dtype, bytes) in [
            (lists::<Float16Type>(kind, &whole(&narrow)), DType::F16, cast(&narrow)),
            (lists::<Float64Type>(kind, &whole(&wide)), DType::F64, cast(&wide)),
            (lists::<Int8Type>(kind, &whole(&signed)), DType::I8, cast(&signed)),
            (lists::<UInt8Type>(kind, &whole(&unsigned)), DType::U8, cast(&unsigned)),
        ] {
            let file = write(&[batch(vec![("v", array)])]);
            let stream = open(stored(&file), &ColumnNames::default()).unwrap();
            let read = all(stream).unwrap();
            assert_eq!((&read.rows, read.tokens.len()), (&bytes, 0), "{kind:?} {dtype}");
        }
    }
}

fn cast<N: bytemuck::NoUninit>(rows: &[Vec<N>]) -> Vec<u8> {
    rows.iter().flat_map(|row| bytemuck::cast_slice(row).to_vec()).collect()
}

/// Vectors that are no rows, each refused with the row.
fn every_fault<S: RowStream>(
    write: impl Fn(&[RecordBatch]) -> Vec<u8>,
    open: impl Fn(StoredFile, &ColumnNames) -> Result<S>,
) {
    let refused = |vectors: ArrayRef| {
        let file = write(&[batch(vec![("v", vectors)])]);
        let read = open(stored(&file), &ColumnNames::default()).and_then(all);
        match read.map(|_| ()).unwrap_err() {
            Error::Foreign { place, reason, .. } => (place, reason),
            Error::NoTable { reason, .. } => (Place::Row(0), reason),
            other => panic!("{other}"),
        }
    };
    let sound = Some(vec![Some(1f32), Some(2.0)]);
    for kind in [Lists::Small, Lists::Large, Lists::Fixed] {
        let with = |last: Option<Vec<Option<f32>>>| {
            let rows = vec![sound.clone(), sound.clone(), last];
            refused(lists::<Float32Type>(kind, &rows))
        };
        let (place, reason) = with(None);
        assert!(place == Place::Row(2) && reason.contains("no vector (null)"), "{reason}");
        let (place, reason) = with(Some(vec![Some(1.0), None]));
        assert!(place == Place::Row(2) && reason.contains("column 1 holds no number"), "{reason}");
        if !matches!(kind, Lists::Fixed) {
            let (place, reason) = with(Some(vec![Some(1.0); 3]));
            assert!(place == Place::Row(2) && reason.contains("3 numbers, expected 2"), "{reason}");
            let (_, reason) = refused(lists::<Float32Type>(kind, &vec![Some(vec![])]));
            assert!(reason.contains("0 numbers, expected 1 to"), "{reason}");
        }
        let (_, reason) = refused(lists::<Float32Type>(kind, &vec![None, sound.clone()]));
        assert!(reason.contains("no vector (null)"), "{reason}");
    }
    let empty = lists::<Float32Type>(Lists::Small, &vec![sound]).slice(0, 0);
    assert!(refused(empty).1.contains("without rows"));
}
