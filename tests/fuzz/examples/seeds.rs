//! Writes the first inputs of every target, from the fixtures: `cargo run --example seeds -- corpus`.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use embmap::{DType, NpyHeader};
use zip::write::SimpleFileOptions;

fn main() {
    let corpus = PathBuf::from(std::env::args().nth(1).expect("the folder of the corpora"));
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
    let read = |name: &str| fs::read(fixtures.join(name)).unwrap();
    let seed = |target: &str, name: &str, bytes: &[u8]| {
        fs::create_dir_all(corpus.join(target)).unwrap();
        fs::write(corpus.join(target).join(name), bytes).unwrap();
    };

    for entry in fs::read_dir(fixtures.join("v1")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension() != Some("emb".as_ref()) {
            continue;
        }
        let name = path.file_stem().unwrap().to_str().unwrap();
        seed("emb", name, &embmap_fuzz::compact_emb(&fs::read(&path).unwrap()));
    }

    for (name, path) in [
        ("pieces", "pieces/model-00001-of-00002.safetensors"),
        ("shard", "sharded/model-00001-of-00003.safetensors"),
        ("model", "minilm-2k/model.safetensors"),
    ] {
        let file = read(path);
        let length = usize::try_from(u64::from_le_bytes(file[..8].try_into().unwrap())).unwrap();
        let data = u16::try_from(file.len() - 8 - length).unwrap_or(0xfffe);
        seed("safetensors", name, &[&data.to_le_bytes()[..], &file[8..8 + length]].concat());
        if file.len() < 1 << 16 {
            seed("safetensors", &format!("{name}-raw"), &[&[0xff, 0xff][..], &file].concat());
        }
    }
    for (name, header, data) in [
        ("plain", r#"{"wte.weight":{"dtype":"F32","shape":[4,3],"data_offsets":[0,48]}}"#, 48),
        (
            "scaled",
            r#"{"__metadata__":{"format":"pt"},"e.weight":{"dtype":"F8_E4M3","shape":[4,4],"data_offsets":[0,16]},"e.weight_scale":{"dtype":"F32","shape":[4],"data_offsets":[16,32]}}"#,
            32u16,
        ),
        (
            "packed",
            r#"{"e.weight":{"dtype":"U32","shape":[2,8],"data_offsets":[0,64]},"e.scales":{"dtype":"F16","shape":[2,2],"data_offsets":[64,72]},"e.biases":{"dtype":"F16","shape":[2,2],"data_offsets":[72,80]}}"#,
            80,
        ),
        (
            "pieces-of-one",
            r#"{"t.shard_0.weight":{"dtype":"BF16","shape":[2,2],"data_offsets":[0,8]},"t.shard_1.weight":{"dtype":"BF16","shape":[1,2],"data_offsets":[8,12]}}"#,
            12,
        ),
    ] {
        seed("safetensors", name, &[&data.to_le_bytes()[..], header.as_bytes()].concat());
    }

    seed("shard_index", "fixture", &read("sharded/model.safetensors.index.json"));
    seed("shard_index", "pieces", &read("pieces/model.safetensors.index.json"));

    seed("tokenizer_json", "tokenizer", &[&[0][..], &read("sharded/tokenizer.json")].concat());
    for (name, text) in [
        (
            "bpe",
            r#"{"version":"1.0","added_tokens":[{"id":3,"content":"<s>","special":true}],"model":{"type":"BPE","vocab":{"a":0,"b":1,"Ġc":2},"merges":["a b"]}}"#,
        ),
        (
            "unigram",
            r#"{"model":{"type":"Unigram","unk_id":0,"vocab":[["<unk>",0.0],["▁the",-1.5],["\u00e9",-2]]}}"#,
        ),
        (
            "wordpiece",
            r#"{"model":{"type":"WordPiece","unk_token":"[UNK]","vocab":{"[UNK]":0,"cat":1,"\u0023\u0023s":2}}}"#,
        ),
    ] {
        seed("tokenizer_json", name, &[&[0][..], text.as_bytes()].concat());
    }
    seed("tokenizer_json", "lines", b"\x01[PAD]\n[UNK]\ncat\r\n\n##s\n");
    seed("tokenizer_json", "config", &[&[2][..], &read("sharded/config.json")].concat());
    seed(
        "tokenizer_json",
        "quantized",
        br#"~{"model_type":"x","quantization":{"group_size":8,"bits":8},"quantization_config":{"quant_method":"fp8","weight_block_size":[1,8]}}"#
            .map(|byte| if byte == b'~' { 2 } else { byte })
            .as_slice(),
    );

    let mut arrays = Vec::new();
    for dtype in [DType::F32, DType::F16, DType::F64, DType::I8, DType::U8, DType::BF16] {
        let mut file = Vec::new();
        NpyHeader::of_rows(dtype, 4, 3).write_to(&mut file).unwrap();
        file.extend((0..12 * dtype.block_bytes()).map(|i| (i % 251) as u8));
        seed("npy", dtype.name(), &file);
        arrays.push((dtype.name(), file));
    }
    let mut second = arrays[0].1.clone();
    second[6] = 2;
    second.splice(8..10, [118u8, 0, 0, 0]);
    seed("npy", "version-2", &second);
    for packed in [zip::CompressionMethod::Stored, zip::CompressionMethod::Deflated] {
        for count in [1, 3] {
            let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
            for (name, file) in &arrays[..count] {
                let options = SimpleFileOptions::default().compression_method(packed);
                archive.start_file(format!("{name}.npy"), options).unwrap();
                archive.write_all(file).unwrap();
            }
            let bytes = archive.finish().unwrap().into_inner();
            seed("npz", &format!("{packed}-{count}"), &bytes);
        }
    }

    let folder = tempfile::tempdir().unwrap();
    let small = fixtures.join("v1/f16-tokens.emb");
    let small = embmap::Table::load(small).unwrap();
    for (choice, format) in [
        (0u8, embmap::ExportFormat::Word2Vec),
        (1, embmap::ExportFormat::Word2VecBinary),
        (2, embmap::ExportFormat::Glove),
    ] {
        let path = folder.path().join(format.name());
        let options = embmap::ExportOptions::new()
            .format(format)
            .rows(0..small.vocab().min(2))
            .unfit_tokens(embmap::UnfitTokens::Skip);
        if embmap::export(&small, &path, &options).is_ok() {
            seed("import", format.name(), &[&[choice][..], &fs::read(&path).unwrap()].concat());
        }
    }
    // Columns, as another library writes them: these are kept.
    for entry in fs::read_dir(fixtures.join("../tests/fuzz/seeds/import")).unwrap() {
        let path = entry.unwrap().path();
        seed("import", path.file_name().unwrap().to_str().unwrap(), &fs::read(&path).unwrap());
    }
    seed("import", "text", b"\x002 3\nthe 0.5 -1 1e-3\nnew york 1 2 3\n");
    seed("import", "lines", b"\x02the 0.5 -1 1e-3\n. . 1 2 3\n");
    seed("import", "binary", b"\x012 1\na \0\0\x80\x3fb \0\0\0\xbf");

    for (name, kind, dims, bytes) in [
        ("f32", 0u32, [3u64, 4], 48usize),
        ("f16", 1, [3, 4], 24),
        ("q8_0", 8, [32, 2], 68),
        ("q4_0", 2, [32, 2], 36),
        ("q4_k", 12, [256, 1], 144),
        ("iq4_nl", 20, [32, 1], 18),
    ] {
        seed("gguf", name, &gguf(kind, dims, bytes));
    }
}

/// A GGUF file of one embedding, with the tokens of its rows.
fn gguf(kind: u32, dims: [u64; 2], bytes: usize) -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let mut file = b"GGUF\x03\0\0\0".to_vec();
    file.extend(1u64.to_le_bytes());
    file.extend(3u64.to_le_bytes());
    file.extend(
        [text("general.architecture"), 8u32.to_le_bytes().to_vec(), text("llama")].concat(),
    );
    file.extend([text("general.alignment"), 4u32.to_le_bytes().to_vec()].concat());
    file.extend(32u32.to_le_bytes());
    file.extend([text("tokenizer.ggml.tokens"), 9u32.to_le_bytes().to_vec()].concat());
    file.extend(8u32.to_le_bytes());
    file.extend(dims[1].to_le_bytes());
    for row in 0..dims[1] {
        file.extend(text(&format!("t{row}")));
    }
    file.extend([text("token_embd.weight"), 2u32.to_le_bytes().to_vec()].concat());
    file.extend(dims.map(u64::to_le_bytes).concat());
    file.extend(kind.to_le_bytes());
    file.extend(0u64.to_le_bytes());
    file.resize(file.len().next_multiple_of(32), 0);
    file.extend((0..bytes).map(|i| (i % 251) as u8));
    file.resize(file.len().next_multiple_of(32), 0);
    file
}
