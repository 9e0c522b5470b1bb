//! How one gather is to be done.

use super::ids::Id;
use crate::codec::Kernels;

/// What a single gather does differently from its table's defaults.
///
/// ```
/// use embmap::GatherOptions;
///
/// # fn main() -> Result<(), embmap::Error> {
/// let table = embmap::Table::load("fixtures/minilm-2k")?;
/// // Rows 512 elements apart, as a batch padded for a kernel would have them.
/// let mut out = vec![0f32; 2 * 512];
/// table.gather_into_with(&[7u32, 1811], &mut out, &GatherOptions::new().row_stride(512))?;
/// assert_eq!(out[512], table.row::<half::f16>(1811)?[0].to_f32());
/// assert_eq!(out[384], 0.0, "what lies between rows is left as it was");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GatherOptions {
    pub(super) row_stride: Option<usize>,
    pub(super) threads: Option<usize>,
    pub(super) portable: bool,
}

impl GatherOptions {
    /// The defaults: dense output, the table's threads.
    #[must_use]
    pub fn new() -> Self {
        GatherOptions::default()
    }

    /// The distance between output rows: in elements for `gather_into`, in bytes for
    /// `gather_bytes_into`. What lies between rows is not written.
    #[must_use]
    pub fn row_stride(mut self, stride: usize) -> Self {
        self.row_stride = Some(stride);
        self
    }

    /// The threads to use for this gather, where it is large enough for several.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
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

/// What a single call of [`embedding_bag_into`](crate::Table::embedding_bag_into) does
/// differently from its table's defaults.
///
/// ```
/// use embmap::{BagOptions, Pooling};
///
/// # fn main() -> Result<(), embmap::Error> {
/// let table = embmap::Table::load("fixtures/minilm-2k")?;
/// // Two bags padded to the same length; -1 stands for no row.
/// let ids = [391i64, 1009, 238, 498, -1, -1];
/// let options = BagOptions::new().padding_id(-1);
/// let mut out = vec![0f32; 2 * table.dim()];
/// table.embedding_bag_into_with(&ids, &[0u32, 3, 6], None, Pooling::Mean, &mut out, &options)?;
/// assert_eq!(out[384], table.row::<half::f16>(498)?[0].to_f32(), "a mean over one row");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BagOptions {
    pub(super) row_stride: Option<usize>,
    pub(super) threads: Option<usize>,
    pub(super) padding: Option<u64>,
    pub(super) portable: bool,
}

impl BagOptions {
    /// The defaults: dense output, the table's threads, no padding.
    #[must_use]
    pub fn new() -> Self {
        BagOptions::default()
    }

    /// The distance between output rows, in elements. What lies between is not written.
    #[must_use]
    pub fn row_stride(mut self, stride: usize) -> Self {
        self.row_stride = Some(stride);
        self
    }

    /// The threads to use for this call, where it is large enough for several.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// An id that is skipped as if it were not in the bag: it adds nothing and a mean does not
    /// count it. It need not be a row's, so -1 will do.
    #[must_use]
    pub fn padding_id(mut self, id: i64) -> Self {
        self.padding = Some(id.row());
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

/// The kernels for a call: the process's, or the portable ones.
pub(crate) fn kernels(portable: bool) -> Kernels {
    if portable { Kernels::Portable } else { Kernels::of_process() }
}
