//! Quantized values whose scales and biases lie in other tensors.

use std::fs;

use serde_json::json;

use super::super::{FoundTable, SourceOptions, from_stored, open};
use super::{stored, tensors};
use crate::codec::{Codec, ScaleType, Scaling};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::layout::{Part, Plane, RowPlace};

type List<'a> = &'a [(&'a str, &'a str, &'a [u64])];

fn opened(list: List<'_>) -> Result<FoundTable> {
    let named = SourceOptions { tensor: Some(list[0].0.to_owned()), ..SourceOptions::default() };
    from_stored(stored(&tensors(list)), &named)
}

fn scaling(found: &FoundTable) -> Scaling {
    match found.codec {
        Codec::Scaled(scaling) => scaling,
        other => panic!("{other:?}"),
    }
}

/// The refused tensor, and why.
fn refusal(result: Result<FoundTable>) -> (String, String) {
    match result {
        Err(Error::TensorForm { tensor, reason, .. }) => (tensor, reason),
        Err(other) => panic!("{other}"),
        Ok(found) => panic!("opened {:?} as {:?}", found.tensor, found.codec),
    }
}

#[test]
fn every_shape_of_scales_that_is_read() {
    let kinds = [
        ("F32", ScaleType::F32),
        ("F16", ScaleType::F16),
        ("BF16", ScaleType::BF16),
        ("F8_E8M0", ScaleType::E8M0),
    ];
    for (written, kind) in kinds {
        for end in ["weight_scale", "weight_scale_inv", "scales", "scale"] {
            let name = format!("t.{end}");
            for (shape, block) in
                [(&[][..], 64), (&[1], 64), (&[1, 1], 64), (&[3], 64), (&[3, 1], 64), (&[3, 2], 32)]
            {
                let list = [("t.weight", "F8_E4M3", &[3, 64][..]), (&name, written, shape)];
                let found = opened(&list).unwrap();
                let expected = Scaling { block, scale: kind, bias: None };
                assert_eq!(scaling(&found), expected, "{written} {shape:?}");
                assert_eq!((found.dtype, found.layout.dim), (DType::F8E4M3, 64));
                assert_eq!(found.scales.as_deref(), Some(name.as_str()));
                let rows = shape.first().copied() == Some(3);
                match &found.layout.scales {
                    Part::Constant(bytes) => assert!(!rows && bytes.len() == kind.size()),
                    Part::Apart(plane) => {
                        assert!(rows);
                        assert_eq!(plane.row_bytes(), 64 / u64::from(block) * kind.size() as u64);
                        assert_eq!(plane.place(3), None);
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    }
}

#[test]
fn values_without_scales_are_plain() {
    for (written, dtype) in [
        ("F8_E4M3", DType::F8E4M3),
        ("F8_E5M2", DType::F8E5M2),
        ("F8_E4M3FNUZ", DType::F8E4M3Fnuz),
        ("F8_E5M2FNUZ", DType::F8E5M2Fnuz),
        ("I8", DType::I8),
        ("U8", DType::U8),
    ] {
        let found = opened(&[("t.weight", written, &[3, 64])]).unwrap();
        assert_eq!((found.dtype, found.codec), (dtype, Codec::Plain));
        assert_eq!(found.layout.scales, Part::Absent);
        // Scales of something else are not this table's, and floats have none.
        let list = [("t.weight", written, &[3, 64][..]), ("u.scales", "F32", &[3])];
        assert_eq!(opened(&list).unwrap().codec, Codec::Plain);
    }
    let list = [("t.weight", "BF16", &[3, 64][..]), ("t.scale", "F32", &[64])];
    let found = opened(&list).unwrap();
    assert_eq!((found.codec, found.scales), (Codec::Plain, None));
}

#[test]
fn bytes_may_have_biases_too() {
    for (written, dtype) in [("I8", DType::I8), ("U8", DType::U8)] {
        for (shape, block) in [(&[3][..], 64), (&[3, 2], 32), (&[], 64)] {
            let list = [
                ("t.weight", written, &[3, 64][..]),
                ("t.scales", "F16", shape),
                ("t.biases", "F32", shape),
            ];
            let found = opened(&list).unwrap();
            let expected = Scaling { block, scale: ScaleType::F16, bias: Some(ScaleType::F32) };
            assert_eq!((scaling(&found), found.dtype), (expected, dtype));
            assert_eq!(found.biases.as_deref(), Some("t.biases"));
        }
    }
}

#[test]
fn wrong_scales_are_refused_by_name() {
    let with = |dtype: &str, shape: &[u64]| {
        refusal(opened(&[("t.weight", "F8_E4M3", &[300, 256]), ("t.weight_scale", dtype, shape)]))
    };
    for (dtype, shape, expected) in [
        ("F32", &[299][..], "expected [], [300], [300, 1] or [300, columns]"),
        ("F32", &[300, 3], "3 columns do not divide the 256 elements"),
        ("F32", &[300, 512], "512 columns do not divide the 256 elements"),
        ("F32", &[300, 0], "0 columns do not divide"),
        ("F32", &[3, 2], "blocks of about 100 rows by 128 columns, which are not read"),
        ("F32", &[300, 1, 1], "expected []"),
        ("F32", &[0], "expected []"),
        ("I32", &[300], "[300] of i32, expected scales of f32, f16, bf16 or f8_e8m0"),
        ("U8", &[300, 8], "[300, 8] of u8, expected scales of"),
        ("F64", &[], "[] of f64, expected scales of"),
    ] {
        let (tensor, reason) = with(dtype, shape);
        assert_eq!(tensor, "t.weight_scale");
        assert!(reason.contains(expected), "{expected:?}: {reason}");
    }
    let (tensor, reason) = refusal(opened(&[
        ("t.weight", "I8", &[3, 64]),
        ("t.scales", "F16", &[3, 2]),
        ("t.biases", "F16", &[3]),
    ]));
    assert_eq!(tensor, "t.biases");
    assert!(reason.contains("one bias for 64 values, expected one for 32"), "{reason}");
    for list in [
        &[("t.weight", "I8", &[3, 64][..]), ("t.biases", "F16", &[3])][..],
        &[("t.weight", "F8_E4M3", &[3, 64]), ("t.scales", "F16", &[3]), ("t.biases", "F16", &[3])],
        &[("t.weight", "I8", &[3, 64]), ("t.scales", "F16", &[3]), ("t.biases", "F8_E8M0", &[3])],
        &[("t.weight", "I8", &[3, 64]), ("t.scales", "F16", &[3]), ("t.weight_scale", "F16", &[])],
        &[("t.weight", "U8", &[3, 64]), ("t.scales", "F16", &[3]), ("t.zeros", "U8", &[3])],
        &[("t.weight", "F8_E4M3", &[3, 64]), ("t.weight_scale_2", "F32", &[])],
        &[("t.weight", "I32", &[3, 64]), ("t.scales", "F16", &[3])],
    ] {
        let (_, reason) = refusal(opened(list));
        assert!(reason.contains("expected") || reason.contains("is not clear"), "{reason}");
    }
}

fn pieces<'a>(names: &'a [String], more: &[(&'a str, &'a str, &'a [u64])]) -> Result<FoundTable> {
    let mut list: Vec<(&str, &str, &[u64])> =
        names.iter().map(|name| (name.as_str(), "F8_E4M3", &[3, 64][..])).collect();
    list.extend(more);
    let options =
        SourceOptions { tensor: Some("t.shard_{}.weight".to_owned()), ..SourceOptions::default() };
    from_stored(stored(&tensors(&list)), &options)
}

#[test]
fn pieces_share_a_scale_or_have_their_own() {
    let names: Vec<String> = (0..2).map(|i| format!("t.shard_{i}.weight")).collect();
    let found = pieces(&names, &[("t.weight_scale", "BF16", &[])]).unwrap();
    assert!(matches!(found.layout.scales, Part::Constant(_)));
    assert_eq!(found.pieces, 2);

    // One tensor for the rows of all pieces, and one for each.
    let all = pieces(&names, &[("t.scale", "F8_E8M0", &[6, 2])]).unwrap();
    let each =
        [("t.shard_1.scale", "F8_E8M0", &[3, 2][..]), ("t.shard_0.scale", "F8_E8M0", &[3, 2])];
    let each = pieces(&names, &each).unwrap();
    assert_eq!(scaling(&all).block, 32);
    assert_eq!(scaling(&each), scaling(&all));
    let plane = |found: &FoundTable| found.layout.scales.plane().unwrap().clone();
    let first = plane(&all).place(0).unwrap().offset;
    assert_eq!(plane(&all).place(5), Some(RowPlace { file: 0, offset: first + 10 }));
    // The scales of piece 1 lie before those of piece 0.
    let places =
        |plane: &Plane| (0..6).map(|id| plane.place(id).unwrap().offset).collect::<Vec<_>>();
    let offsets = places(&plane(&each));
    let first = offsets[3];
    assert_eq!(offsets, [6, 8, 10, 0, 2, 4].map(|offset| first + offset));

    // A number for each piece: every row of the piece finds it at one place.
    let list = [("t.shard_0.weight_scale", "F16", &[][..]), ("t.shard_1.weight_scale", "F16", &[])];
    let found = pieces(&names, &list).unwrap();
    let scales = plane(&found);
    assert_eq!((scales.row_bytes(), scales.row_stride()), (2, 0));
    let offsets = places(&scales);
    assert_eq!(offsets, [0, 0, 0, 2, 2, 2].map(|offset| offsets[0] + offset));

    for (more, expected) in [
        (&[("t.shard_0.weight_scale", "F16", &[][..])][..], "in 1 pieces, expected 2"),
        (&[("t.shard_1.weight_scale", "F16", &[])], "lacks piece 0"),
        (&[("t.weight_scale", "F16", &[3])], "expected [], [6]"),
        (
            &[("t.shard_0.scales", "F16", &[3]), ("t.shard_1.scales", "F16", &[3, 2])],
            "expected the form of \"t.shard_0.scales\"",
        ),
        (
            &[("t.shard_0.scales", "F16", &[3]), ("t.shard_1.scales", "F32", &[3])],
            "expected the form of \"t.shard_0.scales\"",
        ),
        (
            &[("t.shard_0.scales", "F16", &[3]), ("t.shard_1.scales", "F16", &[])],
            "expected the form of \"t.shard_0.scales\"",
        ),
    ] {
        let (_, reason) = refusal(pieces(&names, more));
        assert!(reason.contains(expected), "{expected:?}: {reason}");
    }
}

/// A table of 160 columns in 4 bits and groups of 32, as MLX writes it.
const MLX: [(&str, &str, &[u64]); 3] = [
    ("model.embed_tokens.weight", "U32", &[5, 20]),
    ("model.embed_tokens.scales", "BF16", &[5, 5]),
    ("model.embed_tokens.biases", "BF16", &[5, 5]),
];

#[test]
fn packed_groups_are_what_their_shapes_allow() {
    let found = opened(&MLX).unwrap();
    let expected = Scaling { block: 32, scale: ScaleType::BF16, bias: Some(ScaleType::BF16) };
    assert_eq!((found.dtype, found.layout.dim, scaling(&found)), (DType::U4, 160, expected));
    assert_eq!(found.layout.row_bytes(), 100);
    let with = |columns: u64, groups: u64| {
        let shapes = [[5, columns], [5, groups]];
        let list = [
            (MLX[0].0, "U32", &shapes[0][..]),
            (MLX[1].0, "F16", &shapes[1]),
            (MLX[2].0, "F16", &shapes[1]),
        ];
        opened(&list)
    };
    let six = with(36, 3).unwrap();
    assert_eq!((six.dtype, six.layout.dim, scaling(&six).block), (DType::U6, 192, 64));
    let eight = with(64, 2).unwrap();
    assert_eq!((eight.dtype, eight.layout.dim, scaling(&eight).block), (DType::U8, 256, 128));
    let (tensor, reason) = refusal(with(16, 2));
    assert_eq!(tensor, MLX[0].0);
    assert!(reason.contains("4 bits in groups of 64 or 8 bits in groups of 32"), "{reason}");
    assert!(reason.contains("config.json"), "{reason}");
    for (columns, groups) in [(20, 3), (20, 40), (3, 1)] {
        let (_, reason) = refusal(with(columns, groups));
        assert!(reason.contains("expected 4, 6 or 8 bits in groups of"), "{reason}");
    }
    let (_, reason) = refusal(opened(&MLX[..2]));
    assert!(reason.contains("and no biases, expected both"), "{reason}");
    let (_, reason) = refusal(opened(&MLX[..1]));
    assert!(reason.contains("[5, 20] of u32, expected one of f32"), "{reason}");
}

#[test]
fn a_config_tells_the_bits_and_is_held_to_the_shapes() {
    let dir = tempfile::tempdir().unwrap();
    let list: [(&str, &str, &[u64]); 3] =
        [(MLX[0].0, "U32", &[5, 16]), (MLX[1].0, "F16", &[5, 2]), (MLX[2].0, "F16", &[5, 2])];
    fs::write(dir.path().join("model.safetensors"), tensors(&list)).unwrap();
    let with = |quantization: serde_json::Value| {
        let config = json!({ "quantization": quantization }).to_string();
        fs::write(dir.path().join("config.json"), config).unwrap();
        open(dir.path(), &SourceOptions::default())
    };
    for (bits, group, dtype, dim) in [(4, 64, DType::U4, 128), (8, 32, DType::U8, 64)] {
        let found = with(json!({ "bits": bits, "group_size": group })).unwrap();
        assert_eq!((found.dtype, found.layout.dim), (dtype, dim));
        let found = with(json!({ "bits": 2, "group_size": 1, "model.embed_tokens": {
            "bits": bits, "group_size": group } }));
        assert_eq!(found.unwrap().dtype, dtype);
    }
    for (stated, expected) in [
        (json!({ "bits": 4, "group_size": 32 }), "expected 4 bits in groups of 32, as config.json"),
        (json!({ "bits": 2, "group_size": 128 }), "expected 2 bits in groups of 128"),
        (json!({ "bits": 4, "group_size": u64::MAX }), "expected 4 bits in groups of"),
        (json!({ "bits": 4, "group_size": 64, "mode": "mxfp4" }), "in the mode \"mxfp4\""),
    ] {
        let (_, reason) = refusal(with(stated));
        assert!(reason.contains(expected), "{expected:?}: {reason}");
    }
}

#[test]
fn scales_that_are_named_stand_before_what_names_tell() {
    let dir = tempfile::tempdir().unwrap();
    let list: [(&str, &str, &[u64]); 4] = [
        ("t.weight", "I8", &[3, 64]),
        ("t.scales", "F16", &[3]),
        ("other.s", "F32", &[3, 2]),
        ("other.b", "F32", &[3, 2]),
    ];
    let path = dir.path().join("model.safetensors");
    fs::write(&path, tensors(&list)).unwrap();
    let with = |scales: Option<&str>, biases: Option<&str>| {
        let text = |name: Option<&str>| name.map(str::to_owned);
        let options = SourceOptions {
            tensor: text(Some("t.weight")),
            scales: text(scales),
            biases: text(biases),
            ..SourceOptions::default()
        };
        open(&path, &options)
    };
    assert_eq!(scaling(&with(None, None).unwrap()).scale, ScaleType::F16);
    let named = with(Some("other.s"), Some("other.b")).unwrap();
    assert_eq!((scaling(&named).block, named.biases.as_deref()), (32, Some("other.b")));
    assert_eq!(with(Some("none"), None).unwrap().codec, Codec::Plain);
    for (scales, biases) in [(Some("absent"), None), (None, Some("absent"))] {
        let error = with(scales, biases).err().unwrap();
        assert!(matches!(error, Error::InvalidOption { .. }), "{error}");
    }
    let options = SourceOptions {
        tensor: Some("other.s".to_owned()),
        scales: Some("t.scales".to_owned()),
        ..SourceOptions::default()
    };
    let (tensor, reason) = refusal(open(&path, &options));
    assert_eq!(tensor, "t.scales");
    assert!(reason.contains("values of f32, which have no scales"), "{reason}");
}
