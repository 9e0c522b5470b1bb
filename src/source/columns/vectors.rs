//! From arrays of lists to rows, and from arrays of text to tokens.

use std::ops::Range;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float16Type, Float32Type, Float64Type, Int8Type, UInt8Type};
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType};
use arrow_schema::DataType;
use bytemuck::NoUninit;

use super::super::stream::TokenList;
use crate::dtype::DType;

/// What is wrong with a row, counted from the first of its array.
pub(super) type RowFault = (usize, String);

/// The length of a row's list, which is to be there.
pub(super) fn length(lists: &ArrayRef, row: usize) -> Result<usize, RowFault> {
    bounds(lists, row).map(|range| range.len())
}

/// Where a row's numbers lie in the array of all numbers.
fn bounds(lists: &ArrayRef, row: usize) -> Result<Range<usize>, RowFault> {
    if lists.is_null(row) {
        return Err((row, "there is no vector (null), expected one in each row".to_owned()));
    }
    let range = match lists.data_type() {
        DataType::FixedSizeList(_, length) => {
            let length = usize::try_from(*length).unwrap_or(0);
            let start = lists.as_fixed_size_list().value_offset_at(row);
            Some(start..start + length)
        }
        DataType::LargeList(_) => {
            let offsets = lists.as_list::<i64>().value_offsets();
            range_of(offsets[row], offsets[row + 1])
        }
        _ => {
            let offsets = lists.as_list::<i32>().value_offsets();
            range_of(offsets[row], offsets[row + 1])
        }
    };
    range.ok_or((row, "the vector ends before it starts".to_owned()))
}

fn range_of<O: TryInto<usize>>(start: O, end: O) -> Option<Range<usize>> {
    let (start, end) = (start.try_into().ok()?, end.try_into().ok()?);
    (start <= end).then_some(start..end)
}

/// The array of all numbers of the lists.
fn numbers(lists: &ArrayRef) -> ArrayRef {
    match lists.data_type() {
        DataType::FixedSizeList(..) => lists.as_fixed_size_list().values().clone(),
        DataType::LargeList(_) => lists.as_list::<i64>().values().clone(),
        _ => lists.as_list::<i32>().values().clone(),
    }
}

/// Appends the rows that an array of lists is.
pub(super) fn append_rows(
    lists: &ArrayRef,
    dtype: DType,
    dim: usize,
    out: &mut Vec<u8>,
) -> Result<(), RowFault> {
    match dtype {
        DType::F16 => append::<Float16Type>(lists, dim, out),
        DType::F64 => append::<Float64Type>(lists, dim, out),
        DType::I8 => append::<Int8Type>(lists, dim, out),
        DType::U8 => append::<UInt8Type>(lists, dim, out),
        _ => append::<Float32Type>(lists, dim, out),
    }
}

fn append<T: ArrowPrimitiveType>(
    lists: &ArrayRef,
    dim: usize,
    out: &mut Vec<u8>,
) -> Result<(), RowFault>
where
    T::Native: NoUninit,
{
    let numbers = numbers(lists);
    let Some(numbers) = numbers.as_primitive_opt::<T>() else {
        return Err((
            0,
            format!("the vectors hold {}, another type than at first", numbers.data_type()),
        ));
    };
    for row in 0..lists.len() {
        let range = bounds(lists, row)?;
        if range.len() != dim {
            let reason = format!(
                "the vector has {} numbers, expected {dim} as in the first row",
                range.len()
            );
            return Err((row, reason));
        }
        let column = |range: Range<usize>| range.clone().position(|at| numbers.is_null(at));
        if let Some(column) = (numbers.null_count() > 0).then(|| column(range.clone())).flatten() {
            return Err((row, format!("column {column} holds no number (null)")));
        }
        let values = numbers.values().get(range);
        let values = values.ok_or((row, "the vector lies outside its numbers".to_owned()))?;
        out.extend_from_slice(bytemuck::cast_slice(values));
    }
    Ok(())
}

/// Appends a token of an array of text; null is an absent one.
pub(super) fn append_token(text: &ArrayRef, row: usize, tokens: &mut TokenList) {
    if text.is_null(row) {
        return tokens.push(None);
    }
    tokens.push(Some(match text.data_type() {
        DataType::LargeUtf8 => text.as_string::<i64>().value(row),
        DataType::Utf8View => text.as_string_view().value(row),
        _ => text.as_string::<i32>().value(row),
    }));
}
