//! Durability and placement of files: sync of data and of directories, free space, rename that never replaces.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, RenameFlags};

/// Waits until the bytes and the size of the file are on disk (fdatasync).
///
/// # Errors
/// The disk reports a failed write; the file's content is then unknown and must not be relied on, also after a second call.
pub fn sync_data(file: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::fdatasync(file)?)
}

/// Waits until the entries of the directory are on disk: after a create, rename or unlink that must survive a power cut.
///
/// # Errors
/// The directory cannot be opened, or the disk reports a failed write.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(path, flags, Mode::empty())?;
    Ok(rustix::fs::fsync(directory)?)
}

/// Gives a file its new name if the name is free.
///
/// # Errors
/// `AlreadyExists` when the name is taken (nothing has changed then); `CrossesDevices` and others as rename. On a file system without this
/// kind of rename a hard link and an unlink do the same.
pub fn rename_noreplace(from: &Path, to: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            std::fs::hard_link(from, to)?;
            std::fs::remove_file(from)
        }
        other => Ok(other?),
    }
}

/// The space of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes that a process without rights may still use.
    pub free_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
    /// Files that may still be made; `u64::MAX` where the file system does not count them.
    pub free_files: u64,
}

/// The space of the file system that holds this file or directory.
///
/// # Errors
/// The descriptor's file system does not say.
pub fn space(of: impl AsFd) -> io::Result<Space> {
    let stat = rustix::fs::fstatvfs(of)?;
    Ok(Space {
        free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
        free_files: if stat.f_files == 0 { u64::MAX } else { stat.f_favail },
    })
}

/// Bytes that a process without rights may still use on the file system of this path. Unlike [`space_at`] it opens nothing, so a sandbox does not
/// stand in its way.
///
/// # Errors
/// The path cannot be reached.
pub fn free_bytes_at(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// The space of the file system that holds this path.
///
/// # Errors
/// The path cannot be opened.
pub fn space_at(path: &Path) -> io::Result<Space> {
    space(File::open(path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_name_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("a"), directory.path().join("b"));
        std::fs::write(&from, "new").unwrap();
        std::fs::write(&to, "old").unwrap();
        assert_eq!(rename_noreplace(&from, &to).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&to).unwrap(), "old");
        std::fs::remove_file(&to).unwrap();
        rename_noreplace(&from, &to).unwrap();
        assert_eq!(std::fs::read_to_string(&to).unwrap(), "new");
        assert!(!from.exists());
    }

    #[test]
    fn syncing_works_on_files_and_directories() {
        let directory = tempfile::tempdir().unwrap();
        sync_data(tempfile::tempfile().unwrap()).unwrap();
        sync_directory(directory.path()).unwrap();
        assert!(sync_directory(&directory.path().join("absent")).is_err());
    }

    #[test]
    fn space_is_counted_in_bytes() {
        let space = space_at(Path::new("/")).unwrap();
        assert!(space.total_bytes >= space.free_bytes && space.total_bytes > 1 << 20);
    }
}
