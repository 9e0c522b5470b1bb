//! The norms that a file holds, compared with those of its rows.

use byteorder::{ByteOrder, LittleEndian};

use super::{Damage, Verification};
use crate::codec::{Kernels, Norms};
use crate::error::{FormatError, Result};
use crate::storage::{StoredFile, Stretch};
use crate::table::Table;

/// The norms that are read at once.
const AT_ONCE: u64 = 16 << 10;

/// Compares norms, in the order of the places of rows.
pub(super) struct RecordedNorms<'a> {
    table: &'a Table,
    file: &'a StoredFile,
    place: Stretch,
    norms: Norms,
    /// The bits of some norms, of the rows from `first` on.
    recorded: Vec<u32>,
    first: u64,
    /// What reading them failed with.
    failed: Result<()>,
}

impl<'a> RecordedNorms<'a> {
    /// `None` for a table without norms.
    pub(super) fn of(table: &'a Table) -> Option<Self> {
        let (place, file) = (table.norms?, table.files.first()?);
        let norms = Norms::of(table.encoding(), table.dim(), Kernels::of_process());
        Some(RecordedNorms {
            table,
            file,
            place,
            norms,
            recorded: Vec::new(),
            first: 0,
            failed: Ok(()),
        })
    }

    /// Compares the norm of the row at a place.
    pub(super) fn compare(&mut self, place: u64, row: &[u8], found: &mut Verification) {
        if self.failed.is_err() {
            return;
        }
        let at = place.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
        let Some(recorded) = at.and_then(|at| self.recorded.get(at).copied()) else {
            self.failed = self.read_from(place);
            if !self.recorded.is_empty() {
                self.compare(place, row, found);
            }
            return;
        };
        let mut norm = [0.0];
        self.norms.find(&[self.table.layout.parts(row)], &mut norm);
        let (expected, recorded) = (bits(norm[0]), bits(f32::from_bits(recorded)));
        if expected != recorded {
            let id = self.table.id_at(place);
            found.add(Damage::Format(FormatError::Norm { id, expected, found: recorded }));
        }
    }

    /// What reading the norms failed with.
    pub(super) fn finish(self) -> Result<()> {
        self.failed
    }

    fn read_from(&mut self, place: u64) -> Result<()> {
        self.recorded.clear();
        let left = (self.place.bytes / 4).saturating_sub(place);
        let bytes = self.file.bytes_at(self.place.offset + place * 4, left.min(AT_ONCE) * 4)?;
        self.recorded.extend(bytes.chunks_exact(4).map(LittleEndian::read_u32));
        self.first = place;
        Ok(())
    }
}

/// The bits of a norm, where one NaN is as good as another.
fn bits(norm: f32) -> u32 {
    if norm.is_nan() { f32::NAN.to_bits() } else { norm.to_bits() }
}
