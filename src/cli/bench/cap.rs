//! A limit for the page cache that this process may fill: a memory cgroup of its own.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A memory cgroup that this process is in, until this is dropped.
///
/// Pages count for the group whose process brought them in, so files are evicted before, and
/// memory that was touched before does not count.
#[derive(Debug)]
pub(super) struct Cap {
    group: PathBuf,
    home: PathBuf,
}

/// The two kinds of cgroups: one tree for all controllers, or one for memory alone.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Version {
    Two,
    One,
}

impl Cap {
    /// Moves this process into a new group of at most so many bytes, or says why that cannot be.
    pub(super) fn impose(bytes: u64) -> Result<Self, String> {
        let read =
            |path: &str| fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
        let mounts = read("/proc/self/mountinfo")?;
        let groups = read("/proc/self/cgroup")?;
        let mut reason = "no cgroup file system with memory is mounted".to_owned();
        for version in [Version::Two, Version::One] {
            let Some((mount, home)) = version.home(&mounts, &groups) else { continue };
            match Cap::impose_below(version, &mount, &home, bytes, std::process::id()) {
                Ok(cap) => return Ok(cap),
                Err(error) => reason = error,
            }
        }
        Err(reason)
    }

    /// Tries the process's own group and those above it: whichever may hand out memory.
    fn impose_below(
        version: Version,
        mount: &Path,
        home: &Path,
        bytes: u64,
        process: u32,
    ) -> Result<Self, String> {
        let mut reason = "no cgroup above this process hands out the memory controller".to_owned();
        for parent in home.ancestors().take_while(|parent| parent.starts_with(mount)) {
            if !version.hands_out_memory(parent) {
                continue;
            }
            let group = parent.join(format!("embmap-bench-{process}"));
            match version.enter(&group, bytes, process) {
                Ok(()) => return Ok(Cap { group, home: home.to_owned() }),
                Err(error) => {
                    _ = fs::remove_dir(&group);
                    reason = format!("{}: {error}", group.display());
                }
            }
        }
        Err(reason)
    }
}

impl Drop for Cap {
    fn drop(&mut self) {
        // What cannot be put back ends with the process; an empty group costs nothing.
        _ = fs::write(self.home.join("cgroup.procs"), std::process::id().to_string());
        _ = fs::remove_dir(&self.group);
    }
}

impl Version {
    /// Where the tree is mounted, and the process's own group in it.
    fn home(self, mounts: &str, groups: &str) -> Option<(PathBuf, PathBuf)> {
        let own = groups.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (tree, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            let is_it = match self {
                Version::Two => tree == "0" && controllers.is_empty(),
                Version::One => controllers.split(',').any(|name| name == "memory"),
            };
            is_it.then_some(path)
        })?;
        mounts.lines().find_map(|line| {
            let (place, system) = line.split_once(" - ")?;
            let mut system = system.split(' ');
            let is_it = match (self, system.next()?) {
                (Version::Two, "cgroup2") => true,
                (Version::One, "cgroup") => {
                    system.next_back()?.split(',').any(|option| option == "memory")
                }
                _ => false,
            };
            let mut place = place.split(' ').skip(3);
            let (root, mount) = (place.next()?, PathBuf::from(place.next()?));
            let below = Path::new(own).strip_prefix(root).ok().filter(|_| is_it)?;
            Some((mount.clone(), mount.join(below)))
        })
    }

    /// True where groups below this one may limit memory.
    fn hands_out_memory(self, parent: &Path) -> bool {
        match self {
            Version::Two => fs::read_to_string(parent.join("cgroup.subtree_control"))
                .is_ok_and(|names| names.split_whitespace().any(|name| name == "memory")),
            Version::One => parent.join("memory.limit_in_bytes").exists(),
        }
    }

    /// Makes a group and moves the process into it.
    fn enter(self, group: &Path, bytes: u64, process: u32) -> io::Result<()> {
        let (limit, swap, most_swap) = match self {
            Version::Two => ("memory.max", "memory.swap.max", 0),
            Version::One => ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", bytes),
        };
        fs::create_dir(group)?;
        fs::write(group.join(limit), bytes.to_string())?;
        // Without swap it is not there, and then there is nothing to forbid.
        _ = fs::write(group.join(swap), most_swap.to_string());
        fs::write(group.join("cgroup.procs"), process.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_found_in_what_the_system_prints() {
        let mounts = "35 24 0:30 / /sys/fs/cgroup rw shared:9 - tmpfs tmpfs rw\n\
                      36 35 0:31 / /sys/fs/cgroup/unified rw,relatime shared:10 - cgroup2 cgroup2 rw\n\
                      37 35 0:32 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      38 35 0:33 /pod /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n";
        let groups = "4:memory,hugetlb:/pod/x\n2:cpu:/\n0::/user.slice/a b:c\n";
        assert_eq!(
            Version::Two.home(mounts, groups),
            Some((
                "/sys/fs/cgroup/unified".into(),
                "/sys/fs/cgroup/unified/user.slice/a b:c".into()
            ))
        );
        assert_eq!(
            Version::One.home(mounts, groups),
            Some(("/sys/fs/cgroup/memory".into(), "/sys/fs/cgroup/memory/x".into()))
        );
        for version in [Version::Two, Version::One] {
            assert_eq!(version.home("36 35 0:31 / /a rw - ext4 cgroup2 rw", groups), None);
            assert_eq!(version.home(mounts, "2:cpu:/\n"), None);
        }
        assert_eq!(Version::One.home(mounts, "4:memory:/elsewhere\n"), None);
    }

    /// A folder stands for the kernel's tree: what is written where can be seen, and no more.
    #[test]
    fn the_nearest_group_that_hands_out_memory_is_used() {
        let directory = tempfile::tempdir().unwrap();
        let mount = directory.path();
        let home = mount.join("user.slice/session.scope");
        fs::create_dir_all(&home).unwrap();
        fs::write(home.join("cgroup.subtree_control"), "\n").unwrap();
        for version in [Version::Two, Version::One] {
            let refused = Cap::impose_below(version, mount, &home, 5 << 20, 77).unwrap_err();
            assert!(refused.contains("memory controller"), "{refused}");
        }

        let slice = mount.join("user.slice");
        fs::write(slice.join("cgroup.subtree_control"), "cpu memory pids\n").unwrap();
        fs::write(slice.join("memory.limit_in_bytes"), "9223372036854771712\n").unwrap();
        for (version, limit, swap, most_swap) in [
            (Version::Two, "memory.max", "memory.swap.max", "0"),
            (Version::One, "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "5242880"),
        ] {
            let cap = Cap::impose_below(version, mount, &home, 5 << 20, 77).unwrap();
            let read = |name| fs::read_to_string(slice.join("embmap-bench-77").join(name)).unwrap();
            assert_eq!(read(limit), "5242880");
            assert_eq!(read(swap), most_swap);
            assert_eq!(read("cgroup.procs"), "77");
            drop(cap);
            let back = fs::read_to_string(home.join("cgroup.procs")).unwrap();
            assert_eq!(back, std::process::id().to_string());
            fs::remove_dir_all(slice.join("embmap-bench-77")).unwrap();
        }
    }
}
