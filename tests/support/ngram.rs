//! Checkpoints with the shapes of the published n-gram tables: sparse files in which some rows,
//! drawn once and for all, hold random codes, and the others zeros.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use half::bf16;

use super::Random;

/// The shape of a table and of its scales.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) pieces: u64,
    /// The rows of each piece.
    pub(crate) rows: u64,
    pub(crate) dim: u64,
    /// The files that the pieces are spread over.
    pub(crate) files: u64,
    pub(crate) scale: Scale,
}

/// What the codes are multiplied by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Scale {
    /// One BF16 number for the whole table.
    Shared(bf16),
    /// An E8M0 power of two for every 32 values.
    Blocks,
}

/// 47 GiB: 320,001,536 rows of 160 in FP8, in 128 pieces with one scale.
pub(crate) const PIECES: Shape = Shape {
    pieces: 128,
    rows: 2_500_012,
    dim: 160,
    files: 10,
    scale: Scale::Shared(bf16::from_bits(0x3a83)),
};

/// 98 GiB: 384,006,168 rows of 256 in FP8, a scale for every 32 values.
pub(crate) const BLOCKS: Shape =
    Shape { pieces: 1, rows: 384_006_168, dim: 256, files: 1, scale: Scale::Blocks };

pub(crate) const STEM: &str = "model.language_model.layers.1.ple.ple_embedding.ngram_embedding";

impl Shape {
    pub(crate) fn vocab(self) -> u64 {
        self.pieces * self.rows
    }

    /// The scales of a row, where it has its own.
    pub(crate) fn scale_bytes(self) -> u64 {
        if self.scale == Scale::Blocks { self.dim / 32 } else { 0 }
    }

    /// What to ask for with `--tensor`.
    pub(crate) fn tensor(self) -> String {
        if self.pieces == 1 {
            format!("{STEM}.weight")
        } else {
            format!("{STEM}.shard_{{}}.weight")
        }
    }

    /// The rows that are not zeros: as many as asked for, always the same ones.
    pub(crate) fn written(self, count: usize) -> Vec<u64> {
        let mut random = Random(self.dim);
        let mut ids: Vec<u64> = (0..count).map(|_| random.below(self.vocab())).collect();
        // The edges of pieces, where a wrong division would show.
        let edges =
            (0..self.pieces).flat_map(|piece| [piece * self.rows, (piece + 1) * self.rows - 1]);
        ids.extend(edges);
        ids
    }

    /// The codes of a written row, none of them a NaN, and its scales.
    pub(crate) fn row(self, id: u64) -> (Vec<u8>, Vec<u8>) {
        let mut random = Random(id.wrapping_mul(0xd6e8_feb8_6659_fd93));
        let mut codes = random.bytes(self.dim as usize);
        codes.iter_mut().filter(|code| **code & 0x7f == 0x7f).for_each(|code| *code ^= 1);
        let scales = random.bytes(self.scale_bytes() as usize);
        (codes, scales.iter().map(|byte| 117 + byte % 16).collect())
    }

    /// The numbers of a written row.
    pub(crate) fn numbers(self, id: u64) -> Vec<f32> {
        let (codes, scales) = self.row(id);
        let scale = |column: usize| match self.scale {
            Scale::Shared(scale) => scale.to_f32(),
            Scale::Blocks => 2f32.powi(i32::from(scales[column / 32]) - 127),
        };
        codes.iter().enumerate().map(|(column, code)| e4m3(*code) * scale(column)).collect()
    }

    /// Writes the checkpoint with this many rows that are not zeros, and `others` tensors
    /// beside the table.
    pub(crate) fn write(self, directory: &Path, written: &[u64], others: usize) {
        let mut files: Vec<Vec<(String, &str, Vec<u64>)>> = vec![Vec::new(); self.files as usize];
        for piece in 0..self.pieces {
            let name = self.tensor().replace("{}", &piece.to_string());
            let file = (piece * self.files / self.pieces) as usize;
            files[file].push((name, "F8_E4M3", vec![self.rows, self.dim]));
        }
        let scale = format!("{STEM}.weight_scale");
        match self.scale {
            Scale::Shared(_) => files[0].push((scale, "BF16", vec![])),
            Scale::Blocks => {
                files[0].push((format!("{STEM}.scale"), "F8_E8M0", vec![self.rows, self.dim / 32]));
            }
        }
        for other in 0..others {
            let name = format!(
                "model.language_model.layers.{}.mlp.experts.{}.up_proj.weight",
                other / 256,
                other % 256
            );
            let file = other % files.len();
            files[file].push((name, "BF16", vec![1]));
        }
        let mut map = serde_json::Map::new();
        let mut places = std::collections::HashMap::new();
        let mut open = Vec::new();
        for (number, tensors) in files.iter().enumerate() {
            let name = format!("model-{:05}-of-{:05}.safetensors", number + 1, files.len());
            let mut header = serde_json::Map::new();
            let mut at = 0;
            for (tensor, dtype, shape) in tensors {
                let size = if *dtype == "BF16" { 2 } else { 1 };
                let end = at + size * shape.iter().product::<u64>();
                header.insert(
                    tensor.clone(),
                    serde_json::json!({ "dtype": dtype, "shape": shape, "data_offsets": [at, end] }),
                );
                map.insert(tensor.clone(), serde_json::json!(name));
                places.insert(tensor.clone(), (number, at));
                at = end;
            }
            let mut head = serde_json::Value::Object(header).to_string();
            while !head.len().is_multiple_of(8) {
                head.push(' ');
            }
            let file = File::create_new(directory.join(name)).unwrap();
            file.set_len(8 + head.len() as u64 + at).unwrap();
            file.write_all_at(&(head.len() as u64).to_le_bytes(), 0).unwrap();
            file.write_all_at(head.as_bytes(), 8).unwrap();
            open.push((file, 8 + head.len() as u64));
        }
        if self.files > 1 {
            let index = serde_json::json!({ "metadata": {}, "weight_map": map }).to_string();
            fs::write(directory.join("model.safetensors.index.json"), index).unwrap();
        }
        let put = |tensor: &str, offset: u64, bytes: &[u8]| {
            let (number, at) = places[tensor];
            let (file, data) = &open[number];
            file.write_all_at(bytes, data + at + offset).unwrap();
        };
        if let Scale::Shared(scale) = self.scale {
            put(&format!("{STEM}.weight_scale"), 0, &scale.to_bits().to_le_bytes());
        }
        for id in written {
            let (codes, scales) = self.row(*id);
            let name = self.tensor().replace("{}", &(id / self.rows).to_string());
            put(&name, id % self.rows * self.dim, &codes);
            if self.scale == Scale::Blocks {
                put(&format!("{STEM}.scale"), id * scales.len() as u64, &scales);
            }
        }
    }
}

/// The number of an F8_E4M3 code that is no NaN.
fn e4m3(code: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(code >> 3 & 15), f32::from(code & 7));
    let size = match exponent {
        0 => mantissa * 2f32.powi(-9),
        _ => (8.0 + mantissa) * 2f32.powi(exponent - 10),
    };
    if code & 0x80 == 0 { size } else { -size }
}
