//! A limit for the page cache that this process may fill: a memory cgroup of its own.

use std::fs;
use std::path::{Path, PathBuf};

/// A cgroup (version 2) that this process is in, until this is dropped.
///
/// Pages count for the group whose process brought them in, so files are evicted before, and
/// memory that was touched before does not count.
#[derive(Debug)]
pub(super) struct Cap {
    group: PathBuf,
    home: PathBuf,
}

impl Cap {
    /// Moves this process into a new group of at most so many bytes, or says why that cannot be.
    pub(super) fn impose(bytes: u64) -> Result<Self, String> {
        let read =
            |path: &str| fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
        let mount = mount_point(&read("/proc/self/mountinfo")?)
            .ok_or("no cgroup file system of version 2 is mounted")?;
        let own = own_group(&read("/proc/self/cgroup")?)
            .ok_or("this process is in no cgroup of version 2")?;
        Cap::impose_below(&mount, &own, bytes, std::process::id())
    }

    /// Tries the process's own group and those above it: whichever may hand out memory.
    fn impose_below(mount: &Path, own: &Path, bytes: u64, process: u32) -> Result<Self, String> {
        let home = mount.join(own);
        let mut reason = "no cgroup above this process hands out the memory controller".to_owned();
        for parent in home.ancestors().take_while(|parent| parent.starts_with(mount)) {
            let handed_out = fs::read_to_string(parent.join("cgroup.subtree_control"));
            if !handed_out.is_ok_and(|names| names.split_whitespace().any(|name| name == "memory"))
            {
                continue;
            }
            let group = parent.join(format!("embmap-bench-{process}"));
            match enter(&group, bytes, process) {
                Ok(()) => return Ok(Cap { group, home }),
                Err(error) => {
                    _ = fs::remove_dir(&group);
                    reason = format!("{}: {error}", group.display());
                }
            }
        }
        Err(reason)
    }
}

fn enter(group: &Path, bytes: u64, process: u32) -> std::io::Result<()> {
    fs::create_dir(group)?;
    fs::write(group.join("memory.max"), bytes.to_string())?;
    // Without swap it is not there, and then there is nothing to forbid.
    _ = fs::write(group.join("memory.swap.max"), "0");
    fs::write(group.join("cgroup.procs"), process.to_string())
}

impl Drop for Cap {
    fn drop(&mut self) {
        // What cannot be put back ends with the process; an empty group costs nothing.
        _ = fs::write(self.home.join("cgroup.procs"), std::process::id().to_string());
        _ = fs::remove_dir(&self.group);
    }
}

/// Where the file system of version 2 is mounted.
fn mount_point(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let is_second = kind.split(' ').next() == Some("cgroup2");
        is_second.then(|| place.split(' ').nth(4).map(PathBuf::from))?
    })
}

/// The process's group, as a path below the mount point.
fn own_group(groups: &str) -> Option<PathBuf> {
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    Some(PathBuf::from(path.trim_start_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_found_in_what_the_system_prints() {
        let mounts = "35 24 0:30 / /sys/fs/cgroup rw shared:9 - tmpfs tmpfs rw\n\
                      36 35 0:31 / /sys/fs/cgroup/unified rw,relatime shared:10 - cgroup2 cgroup2 rw\n";
        assert_eq!(mount_point(mounts), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(mount_point("36 35 0:31 / /a rw - ext4 cgroup2 rw"), None);
        assert_eq!(own_group("4:memory:/x\n0::/user.slice/a b\n"), Some("user.slice/a b".into()));
        assert_eq!(own_group("4:memory:/x\n"), None);
    }

    /// A folder stands for the kernel's tree: what is written where can be seen, and no more.
    #[test]
    fn the_nearest_group_that_hands_out_memory_is_used() {
        let directory = tempfile::tempdir().unwrap();
        let mount = directory.path();
        let own = Path::new("user.slice/session.scope");
        fs::create_dir_all(mount.join(own)).unwrap();
        fs::write(mount.join(own).join("cgroup.subtree_control"), "\n").unwrap();
        let refused = Cap::impose_below(mount, own, 5 << 20, 77).unwrap_err();
        assert!(refused.contains("memory controller"), "{refused}");

        fs::write(mount.join("user.slice/cgroup.subtree_control"), "cpu memory pids\n").unwrap();
        let cap = Cap::impose_below(mount, own, 5 << 20, 77).unwrap();
        let read = |name| fs::read_to_string(mount.join("user.slice/embmap-bench-77").join(name));
        assert_eq!(read("memory.max").unwrap(), "5242880");
        assert_eq!(read("memory.swap.max").unwrap(), "0");
        assert_eq!(read("cgroup.procs").unwrap(), "77");
        drop(cap);
        let back = fs::read_to_string(mount.join(own).join("cgroup.procs")).unwrap();
        assert_eq!(back, std::process::id().to_string());
    }
}
