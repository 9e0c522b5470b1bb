//! Telling network file systems, where a map turns a lost connection into a signal.

use std::fs::File;
use std::path::Path;

use crate::error::Result;

/// Refuses a file that lies on a network file system.
#[cfg(target_os = "linux")]
pub(super) fn refuse(file: &File, path: &Path) -> Result<()> {
    use crate::error::Error;

    let status =
        rustix::fs::fstatfs(file).map_err(|error| Error::io("inspect", path, error.into()))?;
    #[expect(
        clippy::cast_sign_loss,
        clippy::cast_possible_truncation,
        reason = "the kernel's magic numbers are 32 bits wide; the field's type varies by architecture"
    )]
    let magic = status.f_type as u32;
    match network_file_system(magic) {
        Some(file_system) => {
            Err(Error::NetworkFileSystem { path: path.to_path_buf(), file_system })
        }
        None => Ok(()),
    }
}

#[cfg(target_os = "linux")]
fn network_file_system(magic: u32) -> Option<&'static str> {
    #[cfg(test)]
    if tests::PRETENDED.get() == Some(magic) {
        return Some("pretended");
    }
    NETWORK_FILE_SYSTEMS.iter().find(|(known, _)| *known == magic).map(|(_, name)| *name)
}

/// Elsewhere the file system is not asked.
#[cfg(not(target_os = "linux"))]
pub(super) fn refuse(_file: &File, _path: &Path) -> Result<()> {
    Ok(())
}

/// File systems whose reads can fail long after an open: statfs(2)'s magic numbers.
///
/// FUSE is among them because sshfs, s3fs, gcsfuse and their like cannot be told from a
/// local FUSE file system by this number.
#[cfg(target_os = "linux")]
const NETWORK_FILE_SYSTEMS: [(u32, &str); 14] = [
    (0x0000_6969, "NFS"),
    (0x0000_517b, "SMB"),
    (0xfe53_4d42, "SMB2"),
    (0xff53_4d42, "CIFS"),
    (0x5346_414f, "AFS"),
    (0x6b41_4653, "AFS"),
    (0x00c3_6400, "Ceph"),
    (0x0102_1997, "9P"),
    (0x0bd0_0bd0, "Lustre"),
    (0x1983_0326, "BeeGFS"),
    (0x4750_4653, "GPFS"),
    (0x7375_7245, "Coda"),
    (0x0000_564c, "NCP"),
    (0x6573_5546, "FUSE"),
];

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::cell::Cell;

    use super::super::{MapPolicy, StoredFile};
    use super::*;
    use crate::error::Error;

    thread_local! {
        /// A file system that this thread takes for one on a network.
        pub(super) static PRETENDED: Cell<Option<u32>> = const { Cell::new(None) };
    }

    #[test]
    fn a_map_of_a_network_file_is_refused_unless_allowed() {
        let named = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(named.path(), b"rows").unwrap();
        let magic = rustix::fs::fstatfs(named.as_file()).unwrap().f_type;
        let magic = u32::try_from(magic).unwrap();
        let map = |allow_network| {
            let mut file = StoredFile::open(named.path()).unwrap();
            // SAFETY: the test's own file, which nothing writes to any more.
            unsafe { file.map(MapPolicy::Promised { allow_network }) }
        };
        assert!(map(false).is_ok());
        PRETENDED.set(Some(magic));
        assert!(matches!(
            map(false),
            Err(Error::NetworkFileSystem { file_system: "pretended", .. })
        ));
        assert!(map(true).is_ok());
    }

    #[test]
    fn network_file_systems_are_told_from_local_ones() {
        // From linux/magic.h, here in its own notation.
        assert_eq!(network_file_system(0x6969), Some("NFS"));
        assert_eq!(network_file_system(0xfe53_4d42), Some("SMB2"));
        assert_eq!(network_file_system(0x6573_5546), Some("FUSE"));
        for local in [0xef53, 0x0102_1994, 0x5846_5342, 0x9123_683e, 0x794c_7630, 0x2fc1_2fc1] {
            assert_eq!(network_file_system(local), None, "ext4, tmpfs, xfs, btrfs, overlay, zfs");
        }
    }

    #[test]
    fn a_local_file_is_not_refused() {
        let file = tempfile::tempfile().unwrap();
        assert!(refuse(&file, Path::new("local")).is_ok());
    }
}
