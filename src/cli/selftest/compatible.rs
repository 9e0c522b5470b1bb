//! Files of other versions: what is new and harmless is passed over, what is not is refused by
//! name.

use anyhow::{Context, Result};
use embmap::format::{FIELDS, SECTION_BYTES};
use embmap::{Error, FormatError, Table};

use super::sample::{self, Sample, VOCAB};
use super::score::Score;

/// A kind of section that no version defines.
const UNKNOWN: u32 = 1000;

pub(super) fn versions(sample: &Sample, score: &mut Score) -> Result<()> {
    let opens = |file: &[u8]| {
        Table::from_bytes(file).is_ok_and(|table| {
            sample::holds(&table, VOCAB, 1) && table.verify().is_ok_and(|found| found.is_sound())
        })
    };
    score.case(|| "1.0 does not open".to_owned(), || opens(&sample.emb));
    for minor in [1, 2, 9, 65_535] {
        let mut file = sample.emb.clone();
        sample::set(&mut file, "version_minor", minor)?;
        score.case(|| format!("1.{minor} does not open"), || opens(&file));
    }
    for bit in 0..64 {
        let mut file = sample.emb.clone();
        sample::set(&mut file, "compatible_features", 1 << bit)?;
        score.case(|| format!("compatible feature {bit} is refused"), || opens(&file));

        let mut file = sample.emb.clone();
        sample::set(&mut file, "incompatible_features", 1 << bit)?;
        score.case(
            || format!("incompatible feature {bit} is not refused by name"),
            || matches!(refusal(&file), Some(FormatError::IncompatibleFeatures { unknown }) if unknown == 1 << bit),
        );
    }
    for major in [0, 2, 3, 65_535] {
        let mut file = sample.emb.clone();
        sample::set(&mut file, "version_major", major)?;
        score.case(
            || format!("version {major} is not refused by name"),
            || matches!(refusal(&file), Some(FormatError::VersionMajor { found, .. }) if u64::from(found) == major),
        );
    }
    let table = Table::from_bytes(&sample.emb)?;
    let sections = &table.info().sections;
    let optional = sections.iter().position(|section| section.name == "metadata");
    let entry = FIELDS.iter().find(|field| field.name == "sections").context("no sections")?.offset
        + optional.context("no metadata")? * SECTION_BYTES;
    for (critical, what) in [(0u32, "optional"), (1, "critical")] {
        let mut file = sample.emb.clone();
        file[entry..entry + 4].copy_from_slice(&UNKNOWN.to_le_bytes());
        file[entry + 4..entry + 8].copy_from_slice(&critical.to_le_bytes());
        sample::seal(&mut file)?;
        score.case(
            || format!("an unknown {what} section"),
            || match critical {
                0 => opens(&file),
                _ => matches!(
                    refusal(&file),
                    Some(FormatError::SectionCritical { kind: UNKNOWN, .. })
                ),
            },
        );
    }
    Ok(())
}

fn refusal(file: &[u8]) -> Option<FormatError> {
    match Table::from_bytes(file) {
        Err(Error::Format { source, .. }) => Some(source),
        _ => None,
    }
}
