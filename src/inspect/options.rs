//! How a table is to be inspected.

/// The memory for finding repeated rows, where nothing was said.
const MEMORY: u64 = 256 << 20;

/// The least that can be asked for.
const LEAST: u64 = 4 << 10;

/// What an inspection does differently from its defaults.
///
/// ```
/// use embmap::{InspectOptions, Table};
///
/// # fn main() -> Result<(), embmap::Error> {
/// let table = Table::load("fixtures/minilm-2k")?;
/// // 4 GiB hold what tells 234 million rows apart.
/// let found = table.inspect(&InspectOptions::new().memory(4 << 30))?;
/// assert!(found.duplicates.exact);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InspectOptions {
    pub(super) threads: Option<usize>,
    pub(super) memory: u64,
    pub(super) sample: u64,
    pub(super) seed: u64,
}

impl Default for InspectOptions {
    fn default() -> Self {
        InspectOptions { threads: None, memory: MEMORY, sample: 1 << 25, seed: 0 }
    }
}

impl InspectOptions {
    /// The defaults: 256 MiB to find repeated rows with, samples of 2^25 elements.
    #[must_use]
    pub fn new() -> Self {
        InspectOptions::default()
    }

    /// The threads to use, where the table is large enough for several.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// The bytes for finding repeated rows, at least 4 KiB. Rows that differ take 16 bytes and
    /// some room each; where there are more than fit, repeated rows are estimated from those
    /// whose hash is in a part of all hashes.
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = bytes.max(LEAST);
        self
    }

    /// The elements of the sample, which lies in memory as `f32`, for directions and the costs
    /// of dtypes. A table that has no more is not sampled but taken whole.
    #[must_use]
    pub fn sample(mut self, elements: u64) -> Self {
        self.sample = elements;
        self
    }

    /// What chooses the rows of a sample.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }
}
