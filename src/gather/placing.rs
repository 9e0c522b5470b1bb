//! Where the helpers of a gather wake up: not on the core of the thread that calls them.
//!
//! A scheduler may put a thread that is woken on the core of who woke it, though another core is
//! idle, and leave it there for milliseconds: seen on virtual machines, whose idle cores count as
//! taken. The two then share one core, and a gather by two threads takes longer than by one. So
//! helpers may run wherever they might, but for the core of the last caller.

#[cfg(target_os = "linux")]
pub(super) use linux::Placing;
#[cfg(not(target_os = "linux"))]
pub(super) use other::Placing;

#[cfg(target_os = "linux")]
mod linux {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rustix::thread::{CpuSet, Pid, gettid, sched_getaffinity, sched_getcpu, sched_setaffinity};

    /// The helpers of a pool, and the core that they keep away from.
    pub(in crate::gather) struct Placing {
        helpers: Mutex<Vec<Helper>>,
        /// How many there will be.
        expected: usize,
        away_from: AtomicUsize,
    }

    struct Helper {
        thread: Pid,
        /// Where it may run as far as others are concerned.
        allowed: CpuSet,
        /// Where it was told to run. Who finds something else was overruled.
        told: CpuSet,
    }

    const NOWHERE: usize = usize::MAX;

    impl Placing {
        pub(in crate::gather) fn new(expected: usize) -> Self {
            let (helpers, away_from) = (Mutex::default(), AtomicUsize::new(NOWHERE));
            Placing { helpers, expected, away_from }
        }

        /// Makes the thread that calls this one of the helpers.
        pub(in crate::gather) fn join(&self) {
            let (Ok(mut helpers), Ok(allowed)) = (self.helpers.lock(), sched_getaffinity(None))
            else {
                return;
            };
            helpers.push(Helper { thread: gettid(), allowed, told: allowed });
        }

        /// Keeps the helpers away from the core that this thread runs on. Once they are, that
        /// costs a look at which one it is.
        pub(in crate::gather) fn keep_away(&self) {
            let here = sched_getcpu();
            if self.away_from.load(Ordering::Relaxed) == here || here >= CpuSet::MAX_CPU {
                return;
            }
            // Never waited for: another caller is at it.
            let Ok(mut helpers) = self.helpers.try_lock() else { return };
            for helper in &mut *helpers {
                helper.keep_away_from(here);
            }
            // Those that have not started yet are told by the next call.
            if helpers.len() == self.expected {
                self.away_from.store(here, Ordering::Relaxed);
            }
        }
    }

    impl Helper {
        /// What is refused stays as it was, and costs time alone.
        fn keep_away_from(&mut self, core: usize) {
            let Ok(found) = sched_getaffinity(Some(self.thread)) else { return };
            if found != self.told {
                self.allowed = found;
            }
            let mut place = self.allowed;
            place.unset(core);
            if place.count() == 0 {
                place = self.allowed;
            }
            if sched_setaffinity(Some(self.thread), &place).is_ok() {
                self.told = place;
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use std::sync::mpsc::channel;

        use super::*;

        #[test]
        fn helpers_run_anywhere_but_on_the_callers_core() {
            let all = sched_getaffinity(None).unwrap();
            let placing = Placing::new(1);
            let (started, helper) = channel();
            let (stop, stopped) = channel::<()>();
            std::thread::scope(|scope| {
                let placing = &placing;
                scope.spawn(move || {
                    placing.join();
                    started.send(gettid()).unwrap();
                    stopped.recv().unwrap_err();
                });
                let helper = helper.recv().unwrap();
                let first = (0..CpuSet::MAX_CPU).find(|core| all.is_set(*core)).unwrap();
                let told = || sched_getaffinity(Some(helper)).unwrap();

                placing.helpers.lock().unwrap()[0].keep_away_from(first);
                if all.count() == 1 {
                    assert!(told() == all, "there is no other core");
                } else {
                    assert!(!told().is_set(first));
                    assert_eq!(told().count(), all.count() - 1);
                }
                // What somebody else has said meanwhile holds.
                let mut only = CpuSet::new();
                only.set(first);
                sched_setaffinity(Some(helper), &only).unwrap();
                placing.helpers.lock().unwrap()[0].keep_away_from(first);
                assert!(told() == only);
                sched_setaffinity(Some(helper), &all).unwrap();
                placing.keep_away();
                assert!(told().count() >= all.count() - 1);
                drop(stop);
            });
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod other {
    /// Other systems place threads by themselves.
    pub(in crate::gather) struct Placing;

    impl Placing {
        pub(in crate::gather) fn new(_: usize) -> Self {
            Placing
        }

        pub(in crate::gather) fn join(&self) {}

        pub(in crate::gather) fn keep_away(&self) {}
    }
}
