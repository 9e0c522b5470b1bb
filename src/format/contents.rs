//! What an `.emb` file holds and where, read from its header page and trailer.

use std::path::Path;

use super::field::{HEADER_BYTES, ROWS_OFFSET, TRAILER_BYTES};
use super::header::Header;
use super::section::{Section, SectionKind};
use super::trailer::check_trailer;
use crate::checks::{BlockSums, CheckPlan, SectionCheck, seed_of};
use crate::codec::Codec;
use crate::error::{Error, FormatError, Result};
use crate::layout::{Extent, Layout, Part, Plane};
use crate::order::OrderShape;
use crate::storage::{StoredFile, Stretch};
use crate::tokens::TokenParts;

/// Reads and checks the header page and the trailer of an `.emb` file.
pub(crate) fn read_header(file: &StoredFile) -> Result<Header> {
    let damaged = |source| Error::Format { path: file.path().to_path_buf(), source };
    let page = file.bytes_at(0, file.bytes().min(HEADER_BYTES as u64))?;
    let header = Header::parse(&page, file.bytes()).map_err(damaged)?;
    let mut trailer = [0; TRAILER_BYTES];
    file.read_at(header.file_bytes - TRAILER_BYTES as u64, &mut trailer)?;
    check_trailer(&trailer, header.file_bytes, &header.file_id).map_err(damaged)?;
    Ok(header)
}

/// Where the token sections lie, if there are any.
pub(crate) fn token_parts(header: &Header) -> Option<TokenParts> {
    let stretch = |kind| header.section(kind).map(|(_, section)| section.stretch());
    Some(TokenParts {
        offsets: stretch(SectionKind::TokenOffsets)?,
        bytes: stretch(SectionKind::TokenBytes)?,
        presence: stretch(SectionKind::TokenPresence)?,
        index: stretch(SectionKind::TokenIndex)?,
    })
}

/// Where the order of the rows lies, and its shape, if they have one of their own.
pub(crate) fn row_order(header: &Header) -> Option<(Stretch, OrderShape)> {
    let (_, section) = header.section(SectionKind::RowOrder)?;
    let shape = OrderShape::of_section(header.vocab, section.bytes).ok()?;
    Some((section.stretch(), shape))
}

/// What `verify` can check.
pub(crate) fn check_plan(header: &Header) -> CheckPlan {
    let sums = header.section(SectionKind::BlockSums).map(|(_, section)| section.stretch());
    let blocks = sums.map(|sums| BlockSums {
        covered: Stretch { offset: ROWS_OFFSET, bytes: sums.offset - ROWS_OFFSET },
        sums,
    });
    let header_page = Stretch { offset: 0, bytes: HEADER_BYTES as u64 };
    let padding = if header.vocab == 0 { 0 } else { header.row_stride - header.row_bytes };
    let rows = Stretch { offset: ROWS_OFFSET, bytes: header.rows_end() - ROWS_OFFSET - padding };
    let trailer = header.file_bytes - TRAILER_BYTES as u64;
    let sections = header.sections.iter().map(Section::stretch);
    let used: Vec<Stretch> = [header_page, rows].into_iter().chain(sections).collect();
    let starts = used.iter().skip(1).map(|stretch| stretch.offset).chain([trailer]);
    let zeros = used
        .iter()
        .zip(starts)
        .map(|(stretch, next)| Stretch { offset: stretch.end(), bytes: next - stretch.end() });
    CheckPlan {
        seed: seed_of(&header.file_id),
        blocks,
        sections: (0..)
            .zip(&header.sections)
            .map(|(index, section)| SectionCheck {
                index,
                stretch: section.stretch(),
                sum: section.sum,
            })
            .collect(),
        zeros: zeros.filter(|stretch| stretch.bytes > 0).collect(),
    }
}

/// Where the rows lie.
pub(crate) fn layout(header: &Header, path: &Path) -> Result<Layout> {
    let extent = Extent { first: 0, rows: header.vocab, file: 0, offset: ROWS_OFFSET };
    let plane = Plane::new(header.row_bytes, header.row_stride, vec![extent], &[header.file_bytes]);
    plane.and_then(|values| rows_of(header, values)).ok_or_else(|| Error::Format {
        path: path.to_path_buf(),
        source: FormatError::RowsBytes {
            expected: u128::from(header.vocab) * u128::from(header.row_stride),
            found: header.rows_end() - ROWS_OFFSET,
        },
    })
}

/// The parts of each row, which lie one after the other. `None` where memory cannot hold one.
fn rows_of(header: &Header, values: Plane) -> Option<Layout> {
    let mut layout = Layout::of_values(header.vocab, header.form.dim as usize, values)?;
    let mut parts = [0; 3];
    for (part, bytes) in parts.iter_mut().zip(header.form.parts()?) {
        *part = usize::try_from(bytes).ok()?;
    }
    let [values, scales, biases] = parts;
    let in_row = |start, bytes| match bytes {
        0 => Part::Absent,
        bytes => Part::InRow { start, bytes },
    };
    layout.value_bytes = values;
    layout.scales = match (header.form.table_scale, header.form.codec) {
        (Some(scale), Codec::Scaled(scaling)) => {
            Part::Constant(scale[..scaling.scale.size()].into())
        }
        _ => in_row(values, scales),
    };
    layout.biases = in_row(values + scales, biases);
    Some(layout)
}
