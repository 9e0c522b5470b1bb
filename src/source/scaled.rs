//! From the tensors of scales and biases to a codec, and to where they lie.

use std::path::PathBuf;

use super::beside::{Beside, Kind};
use super::form::Rows;
use super::quantization::Quantization;
use super::tensors::Placed;
use crate::codec::{Codec, ScaleType, Scaling};
use crate::dtype::DType;
use crate::error::Result;
use crate::layout::{Extent, Part, Plane};

/// How the values of a table are encoded, and where what belongs to them lies.
pub(super) struct Encoded {
    pub(super) dtype: DType,
    pub(super) codec: Codec,
    /// The elements of a row.
    pub(super) dim: u64,
    pub(super) scales: Part,
    pub(super) biases: Part,
}

/// What was found beside the values.
pub(super) struct Found<'a> {
    pub(super) scales: &'a Beside,
    pub(super) scale_tensors: &'a [Placed],
    pub(super) biases: &'a Beside,
    pub(super) bias_tensors: &'a [Placed],
    /// True where a caller named one of them.
    pub(super) asked: bool,
}

impl Found<'_> {
    fn tensors(&self) -> Vec<Placed> {
        [self.scale_tensors, self.bias_tensors].concat()
    }
}

/// The encoding of values. `config` gives the path of a `config.json`.
pub(super) fn encoded(
    rows: &Rows<'_>,
    found: &Found<'_>,
    config: impl Fn() -> Result<Option<PathBuf>>,
) -> Result<Encoded> {
    let packed = rows.dtype == PACKED;
    let plain = match rows.dtype.parse::<DType>() {
        Ok(dtype) => Some(dtype),
        Err(_) if packed => None,
        Err(_) => return Err(rows.unreadable(&found.tensors())),
    };
    if plain.is_some_and(|dtype| !takes_scales(dtype)) {
        if let (true, Some(tensor)) = (found.asked, found.tensors().first()) {
            return Err(rows.refuse(
                tensor,
                format!("was named for values of {}, which have no scales or biases", rows.dtype),
            ));
        }
        return Ok(without(rows, plain.unwrap_or(DType::F32)));
    }
    let scales = tensors(rows, found.scales, found.scale_tensors)?;
    let biases = tensors(rows, found.biases, found.bias_tensors)?;
    let stated = || match config()? {
        Some(path) => Quantization::read(&path, rows.module()),
        None => Ok(Quantization::default()),
    };
    match (plain, scales) {
        (Some(dtype), Some(scales)) => {
            if dtype == DType::U8 && !found.asked {
                check_bytes(rows, scales, biases, stated)?;
            }
            scaled(rows, dtype, rows.dim, scales, biases)
        }
        (None, Some(scales)) => {
            let (dtype, dim) = unpacked(rows, scales, &stated()?)?;
            let Some(biases) = biases else {
                return Err(rows.refuse_all(format!(
                    "has the shape {} of packed u32 with the scales {} and no biases, expected both (`.scales` and `.biases`, or --biases)",
                    rows.shape(),
                    names(scales)
                )));
            };
            scaled(rows, dtype, dim, scales, Some(biases))
        }
        (Some(dtype), None) => match biases {
            None => Ok(without(rows, dtype)),
            Some(biases) => Err(rows.refuse_all(format!(
                "has the shape {} of {} with the biases {} and no scales, expected both, or --biases none",
                rows.shape(),
                rows.dtype,
                names(biases)
            ))),
        },
        (None, None) => Err(rows.unreadable(&found.tensors())),
    }
}

/// The dtype of integers that several values are packed in.
const PACKED: &str = "u32";

/// True for values that are multiplied by scales.
fn takes_scales(dtype: DType) -> bool {
    matches!(
        dtype,
        DType::F8E4M3
            | DType::F8E5M2
            | DType::F8E4M3Fnuz
            | DType::F8E5M2Fnuz
            | DType::I8
            | DType::U8
    )
}

fn without(rows: &Rows<'_>, dtype: DType) -> Encoded {
    Encoded {
        dtype,
        codec: Codec::of(dtype),
        dim: rows.dim,
        scales: Part::Absent,
        biases: Part::Absent,
    }
}

/// The tensors that were found, or why it is not clear which they are.
fn tensors<'a>(
    rows: &Rows<'_>,
    beside: &Beside,
    tensors: &'a [Placed],
) -> Result<Option<&'a [Placed]>> {
    match beside {
        Beside::Nothing => Ok(None),
        Beside::Tensors(_) => Ok(Some(tensors)),
        Beside::Unclear(names) => Err(rows.refuse_all(format!(
            "has the shape {} of {}, and what its scales are is not clear from the names of {}; name them with --scales and --biases (`OpenOptions::scales`), or say none",
            rows.shape(),
            rows.dtype,
            names.join(", ")
        ))),
    }
}

fn names(tensors: &[Placed]) -> String {
    let first: Vec<String> = tensors.iter().take(2).map(Placed::shown).collect();
    let more = if tensors.len() > first.len() { ", ..." } else { "" };
    format!("{}{more}", first.join(", "))
}

/// Refuses bytes that may hold values of fewer bits, which would have another number of elements.
///
/// What is known to hold one in each has biases, for bytes have no sign. Packed values of 6 bits
/// are published with scales alone.
fn check_bytes(
    rows: &Rows<'_>,
    scales: &[Placed],
    biases: Option<&[Placed]>,
    stated: impl Fn() -> Result<Quantization>,
) -> Result<()> {
    let groups = scales.first().and_then(|scale| scale.shape().matrix()).map(|(_, groups)| groups);
    let block = groups.filter(|groups| *groups > 0).map_or(rows.dim, |groups| rows.dim / groups);
    let doubt = match (biases, stated()?.bits) {
        (_, Some(bits)) if bits != 8 => format!("config.json states {bits} bits"),
        (None, _) => "there are no biases".to_owned(),
        (Some(_), None) if [24, 48, 96].contains(&block) => {
            format!("the groups are those of {} values of 6 bits", block / 6 * 8)
        }
        _ => return Ok(()),
    };
    Err(rows.refuse_all(format!(
        "has the shape {} of u8 with the scales {}, and {doubt}: expected a value in each byte, and packed ones only in u32 as MLX has them; where each byte is one, name the scales with --scales (`OpenOptions::scales`)",
        rows.shape(),
        names(scales)
    )))
}

/// Values with their scales and, if there are any, their biases.
fn scaled(
    rows: &Rows<'_>,
    dtype: DType,
    dim: u64,
    scales: &[Placed],
    biases: Option<&[Placed]>,
) -> Result<Encoded> {
    let scale = Numbers::of(rows, dim, Kind::Scales, scales)?;
    let bias = biases.map(|biases| Numbers::of(rows, dim, Kind::Biases, biases)).transpose()?;
    if let (Some(bias), Some(first)) = (&bias, biases.and_then(<[Placed]>::first)) {
        if bias.block != scale.block {
            return Err(rows.refuse(
                first,
                format!(
                    "has the shape {}: one bias for {} values, expected one for {}, as there are scales",
                    first.shape(),
                    bias.block,
                    scale.block
                ),
            ));
        }
        let is_float = matches!(dtype, DType::F8E4M3 | DType::F8E5M2)
            || matches!(dtype, DType::F8E4M3Fnuz | DType::F8E5M2Fnuz);
        if is_float || bias.kind == ScaleType::E8M0 {
            return Err(rows.refuse(
                first,
                format!("is {} for values of {dtype}, expected no biases there", first.dtype),
            ));
        }
    }
    let scaling = Scaling {
        block: u32::try_from(scale.block).map_err(|_| rows.too_large())?,
        scale: scale.kind,
        bias: bias.as_ref().map(|bias| bias.kind),
    };
    Ok(Encoded {
        dtype,
        codec: Codec::Scaled(scaling),
        dim,
        scales: scale.part,
        biases: bias.map_or(Part::Absent, |bias| bias.part),
    })
}

/// The scales, or the biases, of a table.
struct Numbers {
    kind: ScaleType,
    /// The elements that share a number.
    block: u64,
    part: Part,
}

/// What the shape of a tensor says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A single number.
    One,
    /// As many numbers for each row.
    Each(u64),
}

impl Numbers {
    fn of(rows: &Rows<'_>, dim: u64, what: Kind, tensors: &[Placed]) -> Result<Self> {
        let Some(first) = tensors.first() else {
            return Err(rows.refuse_all(format!("has no {}", what.option())));
        };
        let Some(kind) = scale_type(first.dtype) else {
            return Err(rows.refuse(
                first,
                format!(
                    "has the shape {} of {}, expected {} of f32, f16, bf16 or f8_e8m0 for {}",
                    first.shape(),
                    first.dtype,
                    what.option(),
                    rows.shown()
                ),
            ));
        };
        let form = form_of(rows, dim, what, first, rows.rows_of(0, tensors.len()))?;
        for (i, tensor) in tensors.iter().enumerate() {
            let own = form_of(rows, dim, what, tensor, rows.rows_of(i, tensors.len()))?;
            if (own, tensor.dtype) != (form, first.dtype) {
                return Err(rows.refuse(
                    tensor,
                    format!(
                        "has the shape {} and the type {}, expected the form of {} in the pieces before it",
                        tensor.shape(),
                        tensor.dtype,
                        first.shown()
                    ),
                ));
            }
        }
        let groups = match form {
            Form::One => 1,
            Form::Each(groups) => groups,
        };
        let bytes = groups.checked_mul(kind.size() as u64).ok_or_else(|| rows.too_large())?;
        let part = match form {
            Form::One => shared(rows, tensors, bytes)?,
            Form::Each(_) => Part::Apart(plane(rows, tensors, bytes, bytes)?),
        };
        Ok(Numbers { kind, block: dim / groups, part })
    }
}

fn scale_type(dtype: &str) -> Option<ScaleType> {
    match dtype {
        "f32" => Some(ScaleType::F32),
        "f16" => Some(ScaleType::F16),
        "bf16" => Some(ScaleType::BF16),
        "f8_e8m0" => Some(ScaleType::E8M0),
        _ => None,
    }
}

/// What a tensor of scales or biases for so many rows is.
fn form_of(rows: &Rows<'_>, dim: u64, what: Kind, tensor: &Placed, vocab: u64) -> Result<Form> {
    let dims: Vec<u64> = tensor.shape().dims().collect();
    let refuse = |reason: String| {
        let what = what.option();
        let (shape, dtype) = (tensor.shape(), tensor.dtype);
        let reason =
            format!("has the shape {shape} of {dtype}, {reason} as {what} of {}", rows.shown());
        Err(rows.refuse(tensor, reason))
    };
    match *dims.as_slice() {
        [] | [1] => Ok(Form::One),
        [1, 1] if vocab != 1 => Ok(Form::One),
        [one] if one == vocab => Ok(Form::Each(1)),
        [one, groups] if one == vocab && groups > 0 && dim.is_multiple_of(groups) => {
            Ok(Form::Each(groups))
        }
        [one, groups] if one == vocab => refuse(format!(
            "and its {groups} columns do not divide the {dim} elements of a row; expected a divisor of them"
        )),
        [high, wide] if high > 0 && high < vocab && wide > 0 && wide <= dim => refuse(format!(
            "blocks of about {} rows by {} columns, which are not read; expected [], [{vocab}], [{vocab}, 1] or [{vocab}, columns]",
            vocab.div_ceil(high),
            dim.div_ceil(wide)
        )),
        _ => refuse(format!("expected [], [{vocab}], [{vocab}, 1] or [{vocab}, columns]")),
    }
}

/// One number for the whole table, or one for each piece.
fn shared(rows: &Rows<'_>, tensors: &[Placed], bytes: u64) -> Result<Part> {
    let mut numbers = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        numbers.push(rows.file(tensor).bytes_at(tensor.offset, bytes)?.into_owned());
    }
    let Some(first) = numbers.first() else { return Ok(Part::Absent) };
    if numbers.iter().all(|number| number == first) {
        return Ok(Part::Constant(first.as_slice().into()));
    }
    // Every row of a piece finds its number at the same place.
    Ok(Part::Apart(plane(rows, tensors, bytes, 0)?))
}

/// The rows of numbers, which follow those of the values.
fn plane(rows: &Rows<'_>, tensors: &[Placed], bytes: u64, stride: u64) -> Result<Plane> {
    let mut first = 0;
    let mut extents = Vec::with_capacity(tensors.len());
    for (i, tensor) in tensors.iter().enumerate() {
        let count = rows.rows_of(i, tensors.len());
        extents.push(Extent { first, rows: count, file: tensor.file, offset: tensor.offset });
        first += count;
    }
    Plane::new(bytes, stride, extents, &rows.file_bytes()).ok_or_else(|| rows.too_large())
}

/// The dtype and the elements of a row of packed values: as `config.json` states, or as only
/// one of the numbers of bits that are read allows.
fn unpacked(rows: &Rows<'_>, scales: &[Placed], stated: &Quantization) -> Result<(DType, u64)> {
    const KNOWN: [(u64, DType); 3] = [(4, DType::U4), (6, DType::U6), (8, DType::U8)];
    const GROUPS: [u64; 3] = [32, 64, 128];
    if let Some(mode) = stated.mode.as_deref().filter(|mode| *mode != "affine") {
        return Err(rows.refuse_all(format!(
            "is packed in the mode {mode:?} by config.json, expected affine groups; save it as one of these"
        )));
    }
    let scale = scales.first().and_then(|scale| Some((scale, scale.shape().matrix()?.1)));
    let Some((scale, groups)) = scale.filter(|(_, groups)| *groups > 0) else {
        return Err(rows.refuse_all(format!(
            "is packed u32 with the scales {}, expected scales of two dimensions: rows and groups",
            names(scales)
        )));
    };
    let row_bits = rows.dim.checked_mul(32).ok_or_else(|| rows.too_large())?;
    let fits = |bits: u64, group: u64| {
        bits.checked_mul(group).and_then(|bits| bits.checked_mul(groups)) == Some(row_bits)
    };
    let fitting = KNOWN.into_iter().flat_map(|(bits, dtype)| {
        let groups = GROUPS.into_iter().chain(stated.group_size);
        groups.map(move |group| (bits, group, dtype))
    });
    let mut found: Vec<(u64, u64, DType)> = fitting
        .filter(|(bits, group, _)| {
            fits(*bits, *group)
                && stated.bits.is_none_or(|stated| stated == *bits)
                && stated.group_size.is_none_or(|stated| stated == *group)
        })
        .collect();
    found.dedup();
    match found.as_slice() {
        [(bits, _, dtype)] => Ok((*dtype, row_bits / bits)),
        [] => {
            let said = match (stated.bits, stated.group_size) {
                (None, None) => "4, 6 or 8 bits in groups of 32, 64 or 128".to_owned(),
                (bits, group) => {
                    let number = |number: Option<u64>| {
                        number.map_or_else(|| "any".to_owned(), |number| number.to_string())
                    };
                    format!(
                        "{} bits in groups of {}, as config.json states (4, 6 and 8 bits are read)",
                        number(bits),
                        number(group)
                    )
                }
            };
            Err(rows.refuse_all(format!(
                "has the shape {} of packed u32 with the scales {}, expected {said}",
                rows.shape(),
                scale.shown()
            )))
        }
        several => {
            let ways: Vec<String> = several
                .iter()
                .map(|(bits, group, _)| format!("{bits} bits in groups of {group}"))
                .collect();
            Err(rows.refuse_all(format!(
                "is packed u32, by its shape {}; write which into a config.json beside it: {{\"quantization\": {{\"bits\": ..., \"group_size\": ...}}}}",
                ways.join(" or ")
            )))
        }
    }
}
