//! What the system counts of this process, and the memory it has left.

use std::fs;

/// What was counted up to now; `None` where the system does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counters {
    /// Touches of mapped pages that had to be read first.
    pub(super) faults: Option<u64>,
    /// The bytes that a device had to read.
    pub(super) device_bytes: Option<u64>,
}

impl Counters {
    pub(super) fn now() -> Self {
        let read = |path| fs::read_to_string(path).ok();
        Counters {
            faults: read("/proc/self/stat").as_deref().and_then(major_faults),
            device_bytes: read("/proc/self/io")
                .as_deref()
                .and_then(|text| field(text, "read_bytes:")),
        }
    }

    /// What was counted since an earlier look.
    pub(super) fn since(self, before: Counters) -> Counters {
        let since = |now: Option<u64>, then| Some(now?.saturating_sub(then?));
        Counters {
            faults: since(self.faults, before.faults),
            device_bytes: since(self.device_bytes, before.device_bytes),
        }
    }

    /// Both together, where both are known.
    pub(super) fn plus(self, other: Counters) -> Counters {
        let plus = |a: Option<u64>, b| Some(a? + b?);
        Counters {
            faults: plus(self.faults, other.faults),
            device_bytes: plus(self.device_bytes, other.device_bytes),
        }
    }
}

/// The bytes of memory that may be used without swapping, the page cache's included.
pub(super) fn available_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    field(&text, "MemAvailable:")?.checked_mul(1024)
}

/// The number behind a name at the start of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// The 12th field of `/proc/self/stat`. The second is the program's name in brackets, which
/// may hold brackets and spaces itself.
fn major_faults(text: &str) -> Option<u64> {
    let (_, rest) = text.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(9)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_in_what_the_system_prints() {
        assert_eq!(major_faults("7 (a) b (c) R 1 2 3 4 5 6 70 80 90 100 11"), Some(90));
        assert_eq!(major_faults("7 a"), None);
        let io = "rchar: 5\nread_bytes: 4096\nwrite_bytes: 1\ncancelled_write_bytes: 0\n";
        assert_eq!(field(io, "read_bytes:"), Some(4096));
        assert_eq!(field("MemAvailable:   123 kB\n", "MemAvailable:"), Some(123));
        assert_eq!(field("", "x:"), None);
    }

    #[test]
    fn what_is_not_known_stays_unknown() {
        let known = Counters { faults: Some(5), device_bytes: Some(7) };
        let half = Counters { faults: Some(2), device_bytes: None };
        assert_eq!(known.since(half), Counters { faults: Some(3), device_bytes: None });
        assert_eq!(known.plus(half), Counters { faults: Some(7), device_bytes: None });
    }
}
