//! Reading a finished file back, as a reader will, before anybody else can see it.

use std::path::Path;

use crate::checks::{SectionSum, seed_of};
use crate::error::{Error, FormatError, Result};
use crate::format::{Header, read_header, row_order, token_parts};
use crate::order::verify_order;
use crate::storage::{Scan, StoredFile};
use crate::tokens::{Tokens, verify_tokens};

/// The bytes read at once.
const PIECE: usize = 1 << 20;

/// Checks all of a file but its rows.
pub(super) fn check(path: &Path, written: &Header) -> Result<()> {
    let file = StoredFile::open(path)?;
    let damaged = |source| Error::Format { path: path.to_path_buf(), source };
    let header = read_header(&file)?;
    if header != *written {
        return Err(Error::FileChanged {
            path: path.to_path_buf(),
            reason: "its header is not the one that was written".to_owned(),
        });
    }
    for (index, section) in (0u32..).zip(&header.sections) {
        let mut sum = SectionSum::new(seed_of(&header.file_id));
        let mut scan = Scan::new(&file, section.offset, section.stretch().end(), PIECE);
        while let Some((_, piece)) = scan.next()? {
            sum.update(piece);
        }
        let (expected, found) = (section.sum, sum.finish());
        if found != expected {
            return Err(damaged(FormatError::SectionSum { index, expected, found }));
        }
    }
    if let Some((section, shape)) = row_order(&header) {
        verify_order(&file, section, shape)?;
    }
    match token_parts(&header) {
        Some(parts) => verify_tokens(Tokens { file: &file, parts: &parts }),
        None => Ok(()),
    }
}
