//! Values that count only in the process that made them.

use std::sync::OnceLock;

/// One value for each process: a forked child makes its own.
///
/// A child has its parent's memory, but neither its threads nor a say in its rings. What it
/// inherited is neither used nor dropped there. The values form a list that only grows,
/// without a lock that a fork could leave held.
pub(super) struct PerProcess<T> {
    first: OnceLock<Box<Node<T>>>,
}

struct Node<T> {
    process: u32,
    /// Taken where the list is dropped.
    value: Option<T>,
    next: OnceLock<Box<Node<T>>>,
}

impl<T> PerProcess<T> {
    pub(super) const fn new() -> Self {
        PerProcess { first: OnceLock::new() }
    }

    /// This process's value.
    pub(super) fn get(&self, make: impl Fn() -> T) -> &T {
        let process = std::process::id();
        let mut place = &self.first;
        let mut fresh: Option<Box<Node<T>>> = None;
        loop {
            let Some(node) = place.get() else {
                let node = fresh.take().unwrap_or_else(|| {
                    Box::new(Node { process, value: Some(make()), next: OnceLock::new() })
                });
                // Where another thread was first, its node stands here now.
                fresh = place.set(node).err();
                continue;
            };
            if node.process == process
                && let Some(value) = &node.value
            {
                return value;
            }
            place = &node.next;
        }
    }
}

impl<T> Drop for PerProcess<T> {
    fn drop(&mut self) {
        let process = std::process::id();
        let mut next = self.first.take();
        while let Some(mut node) = next {
            if node.process != process {
                std::mem::forget(node.value.take());
            }
            next = node.next.take();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_value_is_made_once_and_dropped() {
        let shared = Arc::new(());
        let values = PerProcess::new();
        let first: *const Arc<()> = values.get(|| Arc::clone(&shared));
        assert!(std::ptr::eq(first, values.get(|| Arc::clone(&shared))));
        assert_eq!(Arc::strong_count(&shared), 2);
        drop(values);
        assert_eq!(Arc::strong_count(&shared), 1);
    }

    #[test]
    fn what_another_process_made_is_passed_by_and_left_alone() {
        let shared = Arc::new(());
        let values = PerProcess::new();
        let inherited =
            Node { process: 0, value: Some(Arc::clone(&shared)), next: OnceLock::new() };
        assert!(values.first.set(Box::new(inherited)).is_ok());
        let own = values.get(|| Arc::new(()));
        assert!(!Arc::ptr_eq(own, &shared));
        drop(values);
        assert_eq!(Arc::strong_count(&shared), 2, "not dropped");
    }
}
