//! Keeping a table's share of the resident set under a limit.

use crate::storage::file_backed_bytes;
use crate::table::Table;

/// The bytes that one touched row may map at most: a large page of the cache is mapped whole.
const AROUND: u64 = 2 << 20;

impl Table {
    /// The rows that may be gathered between two looks at the budget.
    pub(crate) fn rows_between_looks(&self) -> Option<usize> {
        let budget = self.budget.as_ref()?;
        let rows = budget.limit / 8 / (AROUND + self.row_bytes());
        Some(usize::try_from(rows).unwrap_or(usize::MAX).clamp(16, 1 << 16))
    }

    /// Releases the map where it has grown over the budget.
    ///
    /// The process's counter is cheap and the table's own is not, so that the first says
    /// when to look at the second.
    pub(crate) fn keep_to_budget(&self) {
        let Some(budget) = &self.budget else { return };
        let Some(process) = file_backed_bytes() else { return };
        if !budget.may_be_over(process) {
            return;
        }
        // What cannot be measured or released stays: rows are right all the same.
        if let Ok(Some(mapped)) = self.mapped_bytes()
            && budget.is_over(process, mapped)
        {
            let _ = self.release();
        }
    }
}
