//! Changing a file that an administrator wrote: the new text is written beside it, synced, and takes its place by rename, with the old one's owner
//! and mode. Whoever reads the file meanwhile sees the one or the other.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use crate::exit::Failure;

/// Changes a file to what `change` makes of its text; none leaves it as it is. A link is followed: what it leads to is changed. Two changes at
/// one time follow one another.
///
/// # Errors
/// 1 if it cannot be read, written or put in place; then nothing has changed.
pub fn rewrite(path: &Path, change: impl FnOnce(&str) -> Option<String>) -> Result<(), Failure> {
    let read = |error: &io::Error| Failure::usage(format!("open {} for reading: {}", path.display(), reason(error)));
    let path = fs::canonicalize(path).map_err(|error| read(&error))?;
    let failed = |error: io::Error| Failure::usage(format!("{}: {}", path.display(), reason(&error)));
    let directory = File::open(path.parent().unwrap_or(Path::new("/"))).map_err(failed)?;
    // Held until the rename: two edits at one time would lose one of them.
    rustix::fs::flock(&directory, rustix::fs::FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
    let text = fs::read(&path).map_err(|error| read(&error))?;
    let text = String::from_utf8(text).map_err(|_| failed(io::Error::other("it is not UTF-8 text")))?;
    match change(&text) {
        Some(new) => replace(&path, &directory, new.as_bytes()).map_err(failed),
        None => Ok(()),
    }
}

fn replace(path: &Path, directory: &File, text: &[u8]) -> io::Result<()> {
    let old = fs::metadata(path)?;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = Path::new(&temporary);
    // One that is left over from a crash; nobody else writes it under the lock.
    let _ = fs::remove_file(temporary);
    let written = File::options().write(true).create_new(true).mode(0o600).open(temporary).and_then(|mut file| {
        file.write_all(text)?;
        let new = file.metadata()?;
        if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
            std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()))?;
        }
        file.set_permissions(fs::Permissions::from_mode(old.mode() & 0o7777))?;
        file.sync_all()
    });
    let placed = written.and_then(|()| fs::rename(temporary, path));
    if placed.is_err() {
        let _ = fs::remove_file(temporary);
    }
    placed.and_then(|()| directory.sync_all())
}

/// The system's words without the error number.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mode_and_link_are_kept_and_no_other_file_is_left() {
        let directory = tempfile::tempdir().expect("a directory");
        let real = directory.path().join("real.cf");
        fs::write(&real, "a = 1\n").expect("written");
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).expect("a mode");
        let link = directory.path().join("main.cf");
        std::os::unix::fs::symlink("real.cf", &link).expect("a link");
        rewrite(&link, |text| Some(text.replace('1', "2"))).expect("rewritten");
        assert_eq!(fs::read_to_string(&real).expect("there"), "a = 2\n");
        assert_eq!(real.metadata().expect("there").mode() & 0o777, 0o640);
        assert!(link.is_symlink());
        assert_eq!(fs::read_dir(directory.path()).expect("lists").count(), 2);
        rewrite(&link, |_| None).expect("left alone");
        rewrite(&directory.path().join("none.cf"), |_| None).expect_err("there is none");
    }
}
