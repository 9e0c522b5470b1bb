mod faults;
mod misuse;
mod modes;
mod races;
mod replay;
mod token_sections;
mod twin;

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::options::{Sizes, WriteOptions};
use super::table_writer::{TableWriter, Written};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::publish::{Operation, Operations};

/// So little memory that every bound is met.
const TINY: Sizes = Sizes { buffer: 1, spool: 256, run: 7 };

/// The rows of [`write_sample`].
const SAMPLE_ROWS: u16 = 3000;

fn hooked(hook: impl Fn(Operation<'_>) -> io::Result<usize> + Send + Sync + 'static) -> Operations {
    Operations::hooked(Arc::new(hook))
}

fn sample_options(replace: bool, operations: Operations) -> WriteOptions {
    WriteOptions::new(5, DType::F32)
        .vocab(u64::from(SAMPLE_ROWS))
        .align(64)
        .file_id(*b"the sample's id.")
        .replace(replace)
        .metadata("{}")
        .tokenizer("{\"model\": {}}")
        .norms(true)
        .operations(operations)
        .sizes(TINY)
}

/// Writes a table that makes every operation happen.
fn write_sample(path: &Path, replace: bool, operations: Operations) -> Result<Written> {
    let mut writer = sample_options(replace, operations).create(path)?;
    if let Err(error) = push_sample(&mut writer) {
        assert!(matches!(writer.push(&[0.0f32; 5]), Err(Error::WriterPoisoned { .. })));
        assert!(matches!(writer.push_encoded(&[]), Err(Error::WriterPoisoned { .. })));
        assert!(matches!(writer.push_token(None), Err(Error::WriterPoisoned { .. })));
        assert!(matches!(writer.finish(), Err(Error::WriterPoisoned { .. })));
        return Err(error);
    }
    writer.finish()
}

fn push_sample(writer: &mut TableWriter) -> Result<()> {
    for row in 0..SAMPLE_ROWS {
        writer.push(&[f32::from(row); 5])?;
        if row < 40 {
            let token = format!("token {}", row % 30);
            writer.push_token((row % 9 != 0).then_some(token.as_str()))?;
        }
    }
    Ok(())
}

/// The sample as written without faults.
fn sample() -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sample.emb");
    write_sample(&path, false, Operations::default()).unwrap();
    std::fs::read(path).unwrap()
}

/// The names in a directory, but for one.
fn others(directory: &Path, expected: &str) -> Vec<String> {
    let names = std::fs::read_dir(directory).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name != expected).collect()
}

#[test]
fn a_writer_can_go_to_another_thread() {
    fn sendable<T: Send>() {}
    sendable::<TableWriter>();
}
