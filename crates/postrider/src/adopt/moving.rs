//! Files that go from one directory to another, perhaps on another file system, and are never nowhere.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use mail_posix::files::sync_directory;

/// Moves a file. On one file system this is a rename, and the caller syncs the directories of a whole batch. Across file systems the copy is
/// durable under its name before the original goes.
///
/// # Errors
/// Any of the file system; the file is then where it was, perhaps in both places.
pub fn move_durably(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => copy(from, to),
        other => other,
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let part = to.with_extension("part");
    fs::copy(from, &part)?;
    fs::set_permissions(&part, fs::Permissions::from_mode(0o600))?;
    File::open(&part)?.sync_all()?;
    fs::rename(&part, to)?;
    to.parent().map_or(Ok(()), sync_directory)?;
    fs::remove_file(from)?;
    from.parent().map_or(Ok(()), sync_directory)
}

/// A path as the journal has it: below a directory.
#[must_use]
pub fn relative(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_stands_in_for_a_rename_and_leaves_nothing_behind() {
        let directory = tempfile::tempdir().expect("a directory");
        let (from, to) = (directory.path().join("a"), directory.path().join("b"));
        fs::write(&from, "text").expect("written");
        copy(&from, &to).expect("copied");
        assert_eq!((from.exists(), fs::read_to_string(&to).expect("there")), (false, "text".to_owned()));
        assert_eq!(fs::read_dir(directory.path()).expect("listed").count(), 1);
        assert_eq!(relative(directory.path(), &to), "b");
    }
}
