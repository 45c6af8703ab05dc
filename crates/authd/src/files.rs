//! Passwd-files, kept parsed and looked at again with each use.
//!
//! A file that was replaced is taken at once, one that was written in place when it has rested for two seconds: until then the old one serves,
//! so that a half written file refuses nobody. A file that is missing gives temporary errors, never "unknown user"; so does one that became empty,
//! until a reload says that it is meant.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use accounts::passwd_file::PasswdFile;

/// How long a file that is written in place must rest.
const REST: Duration = Duration::from_secs(2);
/// The largest file that is read.
const LARGEST: u64 = 64 << 20;
/// The most files kept; a path with `%d` may name many.
const MOST: usize = 1000;

/// The files by path.
#[derive(Debug, Default)]
pub(crate) struct Files {
    known: Mutex<HashMap<String, Known>>,
}

#[derive(Debug, Clone)]
struct Known {
    stamp: Stamp,
    file: Arc<PasswdFile>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    /// Numbers of inodes are used again; the birth of the file, where the file system knows it, tells two apart.
    born: Option<SystemTime>,
    size: u64,
    modified: SystemTime,
}

/// A file's users, and whether it was read just now (so that its problems are logged once).
pub(crate) struct Users {
    pub(crate) file: Arc<PasswdFile>,
    pub(crate) fresh: bool,
}

impl Files {
    /// The users of a file that is as it was when it was read. None where it must be opened.
    pub(crate) fn unchanged(&self, path: &str) -> Option<Users> {
        let stamp = Stamp::of(&std::fs::metadata(path).ok()?);
        let known = self.known();
        let known = known.get(path).filter(|known| known.stamp == stamp)?;
        Some(Users { file: Arc::clone(&known.file), fresh: false })
    }

    /// The users of an opened file.
    pub(crate) fn users(&self, path: &str, opened: &File, now: SystemTime) -> Result<Users, String> {
        let failed = |error: std::io::Error| format!("read({path}) failed: {error}");
        let stamp = Stamp::of(&opened.metadata().map_err(failed)?);
        let known = self.known().get(path).cloned();
        if let Some(known) = &known
            && !known.is_outdated(stamp, now)
        {
            return Ok(Users { file: Arc::clone(&known.file), fresh: false });
        }
        let file = Arc::new(read(opened, stamp).map_err(failed)?);
        if file.is_empty() && known.is_some_and(|known| !known.file.is_empty()) {
            return Err(format!("passwd-file {path} has become empty"));
        }
        let mut all = self.known();
        if all.len() >= MOST {
            all.clear();
        }
        all.insert(path.to_owned(), Known { stamp, file: Arc::clone(&file) });
        Ok(Users { file, fresh: true })
    }

    /// Forgets everything: a reload says that the files are meant as they are now.
    pub(crate) fn forget(&self) {
        self.known().clear();
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            born: metadata.created().ok(),
            size: metadata.len(),
            modified: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
        }
    }
}

impl Known {
    fn is_outdated(&self, stamp: Stamp, now: SystemTime) -> bool {
        let identity = |stamp: Stamp| (stamp.device, stamp.inode, stamp.born);
        let replaced = identity(stamp) != identity(self.stamp);
        // A time far in the future says nothing: such a file counts as rested.
        let distance = now.duration_since(stamp.modified).unwrap_or_else(|future| future.duration());
        let rested = distance >= REST;
        stamp != self.stamp && (replaced || rested)
    }
}

fn read(opened: &File, stamp: Stamp) -> std::io::Result<PasswdFile> {
    if stamp.size > LARGEST {
        return Err(std::io::Error::other("larger than 64 MiB"));
    }
    let mut bytes = Vec::new();
    opened.take(LARGEST).read_to_end(&mut bytes)?;
    Ok(PasswdFile::parse(&String::from_utf8_lossy(&bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Place {
        directory: tempfile::TempDir,
        files: Files,
    }

    impl Place {
        fn new() -> Self {
            Self { directory: tempfile::tempdir().unwrap(), files: Files::default() }
        }

        fn write(&self, text: &str) {
            std::fs::write(self.directory.path().join("users"), text).unwrap();
        }

        fn replace(&self, text: &str) {
            std::fs::write(self.directory.path().join("new"), text).unwrap();
            std::fs::rename(self.directory.path().join("new"), self.directory.path().join("users")).unwrap();
        }

        fn knows(&self, name: &str, now: SystemTime) -> Result<bool, String> {
            let opened = File::open(self.directory.path().join("users")).unwrap();
            self.files.users("users", &opened, now).map(|users| users.file.get(name).is_some())
        }
    }

    #[test]
    fn a_file_in_the_middle_of_being_written_is_not_taken() {
        let (place, now) = (Place::new(), SystemTime::now());
        place.write("john:x\nmary:x\n");
        assert_eq!(place.knows("mary", now), Ok(true));
        place.write("john:x\n");
        assert_eq!(place.knows("mary", now), Ok(true));
        assert_eq!(place.knows("mary", now + 2 * REST), Ok(false));
    }

    #[test]
    fn a_replaced_file_is_taken_at_once() {
        let (place, now) = (Place::new(), SystemTime::now());
        place.write("john:x\n");
        assert_eq!(place.knows("mary", now), Ok(false));
        place.replace("john:x\nmary:x\n");
        assert_eq!(place.knows("mary", now), Ok(true));
    }

    #[test]
    fn a_file_that_became_empty_says_nothing_about_anybody() {
        let (place, now) = (Place::new(), SystemTime::now());
        place.write("john:x\n");
        assert_eq!(place.knows("john", now), Ok(true));
        place.replace("");
        assert!(place.knows("john", now).is_err());
        place.replace("mary:x\n");
        assert_eq!(place.knows("mary", now), Ok(true));
        place.replace("");
        assert!(place.knows("mary", now).is_err());
        place.files.forget();
        assert_eq!(place.knows("mary", now), Ok(false));
    }

    #[test]
    fn a_file_is_read_once() {
        let (place, now) = (Place::new(), SystemTime::now());
        place.write("john:x\njohn:y\n");
        let opened = File::open(place.directory.path().join("users")).unwrap();
        assert!(place.files.users("users", &opened, now).unwrap().fresh);
        let again = place.files.users("users", &opened, now).unwrap();
        assert!(!again.fresh && again.file.problems.len() == 1);
    }
}
