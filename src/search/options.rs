//! How a search is to be done.

/// What a single search does differently from its table's defaults.
///
/// ```
/// use embmap::{Metric, NearestOptions, Table};
///
/// # fn main() -> Result<(), embmap::Error> {
/// let table = Table::load("fixtures/minilm-2k")?;
/// let king = table.id_of("king")?.unwrap();
/// let mut query = vec![0f32; table.dim()];
/// table.gather_into(&[king], &mut query)?;
/// // A row is nearest to itself, which nobody asks for.
/// let options = NearestOptions::new().exclude(vec![king]).threads(2);
/// let found = table.nearest_with(&query, 1, Metric::Cosine, &options)?;
/// assert_eq!(table.token(found[0][0].id)?.as_deref(), Some("kings"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NearestOptions {
    pub(super) threads: Option<usize>,
    pub(super) exclude: Vec<u64>,
    pub(super) exclude_each: Vec<Vec<u64>>,
    pub(super) portable: bool,
}

impl NearestOptions {
    /// The defaults: all rows, the table's threads.
    #[must_use]
    pub fn new() -> Self {
        NearestOptions::default()
    }

    /// The threads to use for this search, where the table is large enough for several.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Rows that are no answer to any query.
    #[must_use]
    pub fn exclude(mut self, ids: Vec<u64>) -> Self {
        self.exclude = ids;
        self
    }

    /// Rows that are no answer to a query, for each query; besides those of
    /// [`exclude`](NearestOptions::exclude).
    #[must_use]
    pub fn exclude_each(mut self, ids: Vec<Vec<u64>>) -> Self {
        self.exclude_each = ids;
        self
    }

    /// Uses the portable kernels, as `EMBMAP_PORTABLE=1` does: so that tests can compare.
    #[doc(hidden)]
    #[must_use]
    pub fn portable(mut self, portable: bool) -> Self {
        self.portable = portable;
        self
    }
}
