//! The element types of GGUF files: their names, and the bytes of a block.

/// An element type, by its number in the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct GgmlType {
    pub(in super::super) name: &'static str,
    /// The elements of a block, 0 where they are not known.
    pub(in super::super) block: u64,
    /// The bytes of a block.
    pub(in super::super) bytes: u64,
}

const fn known(name: &'static str, block: u64, bytes: u64) -> GgmlType {
    GgmlType { name, block, bytes }
}

/// A number that meant something in early files, or means nothing yet.
const fn other(name: &'static str) -> GgmlType {
    GgmlType { name, block: 0, bytes: 0 }
}

/// The types by their numbers; what lies beyond is [`UNKNOWN`].
pub(in super::super) static TYPES: [GgmlType; 48] = [
    known("f32", 1, 4),
    known("f16", 1, 2),
    known("q4_0", 32, 18),
    known("q4_1", 32, 20),
    other("q4_2"),
    other("q4_3"),
    known("q5_0", 32, 22),
    known("q5_1", 32, 24),
    known("q8_0", 32, 34),
    known("q8_1", 32, 40),
    known("q2_k", 256, 84),
    known("q3_k", 256, 110),
    known("q4_k", 256, 144),
    known("q5_k", 256, 176),
    known("q6_k", 256, 210),
    known("q8_k", 256, 292),
    known("iq2_xxs", 256, 66),
    known("iq2_xs", 256, 74),
    known("iq3_xxs", 256, 98),
    known("iq1_s", 256, 50),
    known("iq4_nl", 32, 18),
    known("iq3_s", 256, 110),
    known("iq2_s", 256, 82),
    known("iq4_xs", 256, 136),
    known("i8", 1, 1),
    known("i16", 1, 2),
    known("i32", 1, 4),
    known("i64", 1, 8),
    known("f64", 1, 8),
    known("iq1_m", 256, 56),
    known("bf16", 1, 2),
    other("q4_0_4_4"),
    other("q4_0_4_8"),
    other("q4_0_8_8"),
    known("tq1_0", 256, 54),
    known("tq2_0", 256, 66),
    other("iq4_nl_4_4"),
    other("iq4_nl_4_8"),
    other("iq4_nl_8_8"),
    known("mxfp4", 32, 17),
    known("nvfp4", 64, 36),
    known("q1_0", 128, 18),
    other("ggml_42"),
    other("ggml_43"),
    other("ggml_44"),
    other("ggml_45"),
    other("ggml_46"),
    other("ggml_47"),
];

/// A type of a number that is not known.
const UNKNOWN: GgmlType = other("ggml_unknown");

/// The number under which a type is kept, and the type.
pub(super) fn type_of(number: u32) -> (u8, GgmlType) {
    let index = u8::try_from(number).unwrap_or(u8::MAX);
    (index, TYPES.get(usize::from(index)).copied().unwrap_or(UNKNOWN))
}

/// The name of a type, by the number under which it is kept.
pub(super) fn name_of(index: u8) -> &'static str {
    TYPES.get(usize::from(index)).map_or(UNKNOWN.name, |known| known.name)
}
