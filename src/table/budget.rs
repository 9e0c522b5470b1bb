//! How much of a process's resident set a table may be.

use std::sync::atomic::{AtomicU64, Ordering};

/// A limit on the mapped bytes of a table.
#[derive(Debug)]
pub(crate) struct Budget {
    pub(crate) limit: u64,
    /// What of the process's file-backed resident set was not this table's, when last looked.
    others: AtomicU64,
}

impl Budget {
    pub(crate) fn new(limit: u64) -> Self {
        Budget { limit, others: AtomicU64::new(0) }
    }

    /// True where the table may be over its limit, from the process's whole.
    pub(crate) fn may_be_over(&self, process: u64) -> bool {
        let others = self.others.load(Ordering::Relaxed);
        if process < others {
            // They have less than they had.
            self.others.store(process, Ordering::Relaxed);
        }
        process.saturating_sub(others) > self.limit
    }

    /// True where the table is over its limit, now that its share of the whole is known.
    pub(crate) fn is_over(&self, process: u64, mapped: u64) -> bool {
        self.others.store(process.saturating_sub(mapped), Ordering::Relaxed);
        mapped > self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_have_does_not_count() {
        let budget = Budget::new(100);
        assert!(!budget.may_be_over(100));
        assert!(budget.may_be_over(150));
        assert!(!budget.is_over(150, 30), "120 are of others");
        assert!(!budget.may_be_over(220));
        assert!(budget.may_be_over(221));
        assert!(budget.is_over(221, 101));
    }
}
