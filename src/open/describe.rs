//! From what a file says to a table.

use std::path::Path;
use std::sync::OnceLock;

use super::SPIN;
use crate::checks::CheckPlan;
use crate::error::{Error, Result};
use crate::format::{
    SectionKind, VERSION_MAJOR, check_plan, layout, read_header, row_order, token_parts,
};
use crate::layout::LARGEST_DIM;
use crate::source::{FoundTable, Vocabulary};
use crate::storage::StoredFile;
use crate::table::{
    Access, Patience, RowOrder, SectionInfo, Table, TableInfo, Temperature, TextSource, TokenSource,
};
use crate::tokens::{TokenParts, encode_tokens};

/// The table that an `.emb` file is.
pub(super) fn from_emb(file: StoredFile) -> Result<Table> {
    let header = read_header(&file)?;
    let text = |kind| match header.section(kind) {
        Some((index, section)) => TextSource::Section(index, section.stretch()),
        None => TextSource::Nothing,
    };
    let sections = header.sections.iter().map(|section| SectionInfo {
        name: section.name(),
        kind: section.kind,
        offset: section.offset,
        bytes: section.bytes,
    });
    let tokenizer = text(SectionKind::Tokenizer);
    Ok(Table {
        layout: layout(&header, file.path())?,
        order: row_order(&header).map(|(section, shape)| RowOrder::new(section, shape)),
        dtype: header.form.dtype,
        codec: header.form.codec,
        tokens: token_parts(&header).map_or(TokenSource::Nothing, TokenSource::Sections),
        metadata: text(SectionKind::Metadata),
        norms: header.section(SectionKind::Norms).map(|(_, section)| section.stretch()),
        checks: check_plan(&header),
        access: Access::Read,
        direct: None,
        threads: None,
        spin: SPIN,
        temperature: Temperature::default(),
        patience: Patience::default(),
        budget: None,
        info: TableInfo {
            format: "emb",
            version: Some((VERSION_MAJOR, header.version_minor)),
            path: file.path().to_path_buf(),
            files: vec![file.path().to_path_buf()],
            file_bytes: file.bytes(),
            tensor: None,
            pieces: 1,
            scales: None,
            biases: None,
            file_id: Some(header.file_id),
            checksums: header.checksums,
            placed_rows: row_order(&header).map_or(0, |(_, shape)| shape.placed()),
            sections: sections.collect(),
            tokens_from: None,
            tokenizer: matches!(tokenizer, TextSource::Section(..)),
        },
        tokenizer,
        files: vec![file],
    })
}

/// The table that was found in a foreign format.
pub(super) fn from_source(found: FoundTable, path: &Path) -> Result<Table> {
    if found.layout.dim > LARGEST_DIM {
        return Err(Error::TensorForm {
            path: path.to_path_buf(),
            tensor: found.tensor.unwrap_or_default(),
            reason: format!(
                "has rows of {} elements, expected at most {LARGEST_DIM}; choose another with \
                 --tensor (`OpenOptions::tensor`)",
                found.layout.dim
            ),
        });
    }
    Ok(Table {
        dtype: found.dtype,
        codec: found.codec,
        layout: found.layout,
        order: None,
        metadata: TextSource::Nothing,
        norms: None,
        checks: CheckPlan::default(),
        access: Access::Read,
        direct: None,
        threads: None,
        spin: SPIN,
        temperature: Temperature::default(),
        patience: Patience::default(),
        budget: None,
        info: TableInfo {
            format: found.format,
            version: None,
            path: path.to_path_buf(),
            files: found.files.iter().map(|file| file.path().to_path_buf()).collect(),
            file_bytes: found.files.iter().map(StoredFile::bytes).sum(),
            tensor: found.tensor,
            pieces: found.pieces,
            scales: found.scales,
            biases: found.biases,
            file_id: None,
            checksums: false,
            placed_rows: 0,
            sections: Vec::new(),
            tokens_from: found.tokens.clone(),
            tokenizer: found.tokenizer.is_some(),
        },
        tokens: match found.tokens {
            Some(path) => {
                TokenSource::Beside { path, read: read_vocabulary, sections: OnceLock::new() }
            }
            None => TokenSource::Nothing,
        },
        tokenizer: found.tokenizer.map_or(TextSource::Nothing, TextSource::Beside),
        files: found.files,
    })
}

/// Encodes the vocabulary beside a checkpoint as the sections that lookups work on.
fn read_vocabulary(path: &Path) -> Result<(StoredFile, TokenParts)> {
    let vocabulary = Vocabulary::read(path)?;
    let count = usize::try_from(vocabulary.len()).unwrap_or(usize::MAX);
    let (encoded, parts) = encode_tokens(count, |id| vocabulary.get(id as u64));
    Ok((StoredFile::from_bytes(&encoded, &path.to_string_lossy())?, parts))
}
