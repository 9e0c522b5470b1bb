//! Whether a table's rows are in memory already, and what is known of it.

use std::sync::atomic::{AtomicU32, Ordering};

/// Whether a gather expects its rows in the page cache (warm) or on the device (cold).
///
/// Cold rows are asked for many at once before they are copied, which is many times faster
/// than waiting for one after the other, and makes warm rows twice as slow. Which it is
/// is found out while rows are copied, so that there is seldom a reason to say it.
///
/// ```
/// use embmap::{OpenOptions, Temperature};
///
/// # fn main() -> Result<(), embmap::Error> {
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("table.emb");
/// # let mut writer = embmap::WriteOptions::new(2, embmap::DType::F32).create(&path)?;
/// # writer.push(&[1f32, 2.0, 3.0, 4.0])?;
/// # writer.finish()?;
/// // A sandbox that counts no faults, and a table much larger than its memory.
/// let options = OpenOptions::new().temperature(Temperature::Cold);
/// // SAFETY: nothing writes to the file while it is mapped.
/// let table = unsafe { options.map(&path)? };
/// let mut out = [0f32; 2];
/// table.gather_into(&[1u32], &mut out)?;
/// assert_eq!(out, [3.0, 4.0]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Temperature {
    /// Found out by each gather, from what the system counts for its thread.
    #[default]
    Measured,
    /// Always warm: nothing is asked for ahead, and a cold row is read when it is touched.
    Warm,
    /// Always cold: every row is asked for ahead, even where it is in memory.
    Cold,
}

/// What the last gathers found: the number of rows that are still to be asked for ahead
/// before a table counts as warm again; 0 where it does.
///
/// One relaxed number, written only when it changes. Threads that overwrite each other's
/// findings cost time at most.
#[derive(Debug)]
pub(crate) struct Patience {
    rows: AtomicU32,
    /// The runs of cold rows that are being copied now.
    cold: AtomicU32,
}

/// A run of cold rows that is being copied, as long as this lives.
pub(crate) struct ColdRun<'a>(&'a AtomicU32);

impl Drop for ColdRun<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Default for Patience {
    /// A table that was just opened may well be cold, and a few rows show it.
    fn default() -> Self {
        Patience { rows: AtomicU32::new(Patience::FIRST), cold: AtomicU32::new(0) }
    }
}

impl Patience {
    /// The rows that are asked for ahead when nothing is known.
    pub(crate) const FIRST: u32 = 64;

    /// The rows in sequence that nothing must be read for until a table counts as warm. A
    /// miss costs more than asking for a hundred rows in vain.
    pub(crate) const FULL: u32 = 512;

    #[inline]
    pub(crate) fn get(&self) -> u32 {
        self.rows.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn set(&self, rows: u32) {
        if self.get() != rows {
            self.rows.store(rows, Ordering::Relaxed);
        }
    }

    /// Counts a run of cold rows until what it returns is dropped.
    pub(crate) fn cold_run(&self) -> ColdRun<'_> {
        self.cold.fetch_add(1, Ordering::Relaxed);
        ColdRun(&self.cold)
    }

    /// True while a gather copies rows that have to be read first.
    pub(crate) fn is_reading(&self) -> bool {
        self.cold.load(Ordering::Relaxed) > 0
    }
}
