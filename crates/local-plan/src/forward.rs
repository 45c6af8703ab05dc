//! Forward files, read by the deliverer, which is the user: what they list, and which are no forward files.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use mail_tables::aliases::{self, file_members};
use mail_types::Octets;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use crate::job::Report;

/// Octets of a forward file and all that it includes.
const LENGTH_MAX: u64 = 64 * 1024;
/// An `:include:` in an `:include:` in ...
const DEPTH_MAX: usize = 10;

/// What a forward file lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Listed {
    /// An address, as it is written.
    Address(String),
    /// `|command`.
    Command {
        /// The command.
        command: String,
        /// It stands in an `:include:` file.
        included: bool,
    },
    /// `/file`.
    File {
        /// The path.
        path: String,
        /// It stands in an `:include:` file.
        included: bool,
    },
    /// An `:include:` file that cannot be read.
    Unreadable {
        /// The path.
        path: String,
        /// Why.
        why: String,
    },
}

/// What the forward files of a user say.
#[derive(Debug, Default)]
pub struct Wishes {
    /// What the file lists; none where there is no file, or nothing in it.
    pub report: Option<Report>,
    /// What is wrong with a file that is left alone.
    pub warning: Option<String>,
}

/// Reads the first file that is there. One that is no regular file, belongs neither to root nor to `uid` (the user whose mail it is) or may be
/// written by everybody is left alone.
#[must_use]
pub fn look(candidates: &[Octets], uid: u32) -> Wishes {
    for candidate in candidates {
        let path = Path::new(std::ffi::OsStr::from_bytes(candidate.as_bytes()));
        match std::fs::symlink_metadata(path) {
            Ok(_) => return wishes(path, uid),
            Err(error) if is_absent(&error) => {}
            // A home that does not answer now may hold one.
            Err(error) => {
                let report = Report::deferred(3, 0, format!("{}: {error}", path.display()));
                return Wishes { report: Some(report), warning: None };
            }
        }
    }
    Wishes::default()
}

fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidFilename, NotADirectory, NotFound, PermissionDenied};
    matches!(error.kind(), NotFound | NotADirectory | PermissionDenied | InvalidFilename)
        || error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}

fn wishes(path: &Path, uid: u32) -> Wishes {
    let shown = path.display();
    let mut left = LENGTH_MAX;
    match read(path, &mut left, Some(uid)) {
        Ok(text) => {
            let mut listed = Vec::new();
            take(&text, false, 0, &mut left, &mut listed);
            let report = match left {
                0 => Some(Report::deferred(3, 5, format!("file {shown} is too large"))),
                _ if listed.is_empty() => None,
                _ => Some(Report::Forward { path: Octets::new(path.as_os_str().as_bytes()), listed }),
            };
            Wishes { report, warning: None }
        }
        Err(why) => Wishes { report: None, warning: Some(format!("file {shown} {why}; it is left alone")) },
    }
}

fn take(text: &str, included: bool, depth: usize, left: &mut u64, listed: &mut Vec<Listed>) {
    for member in file_members(text) {
        match member {
            aliases::Member::Address(address) => listed.push(Listed::Address(address)),
            aliases::Member::Command(command) => listed.push(Listed::Command { command, included }),
            aliases::Member::File(path) => listed.push(Listed::File { path, included }),
            aliases::Member::Include(path) => {
                let text = match (depth < DEPTH_MAX, path.starts_with('/')) {
                    (false, _) => Err("too many :include: files in one another".to_owned()),
                    (_, false) => Err("is not an absolute path".to_owned()),
                    _ => read(Path::new(&path), left, None),
                };
                match text {
                    Ok(text) => take(&text, true, depth + 1, left, listed),
                    Err(why) => listed.push(Listed::Unreadable { path, why }),
                }
            }
        }
        if *left == 0 {
            return;
        }
    }
}

/// Reads a regular file, without ever waiting for one that is none. `own` asks for one of this user or of root.
fn read(path: &Path, left: &mut u64, own: Option<u32>) -> Result<String, String> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let flags = if own.is_some() { flags | OFlags::NOFOLLOW } else { flags };
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::LOOP) => return Err("is not a regular file".to_owned()),
        Err(error) => return Err(format!("cannot be opened: {}", io::Error::from(error))),
    };
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("is not a regular file".to_owned());
    }
    if own.is_some_and(|uid| metadata.uid() != 0 && metadata.uid() != uid) {
        return Err(format!("has bad owner uid {}", metadata.uid()));
    }
    if metadata.mode() & 0o002 != 0 {
        return Err("is world writable".to_owned());
    }
    let mut text = Vec::new();
    file.take(*left).read_to_end(&mut text).map_err(|error| format!("cannot be read: {error}"))?;
    *left = left.saturating_sub(text.len() as u64);
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    struct Home(tempfile::TempDir);

    impl Home {
        fn new() -> Self {
            Self(tempfile::tempdir().expect("tempdir"))
        }

        fn path(&self, name: &str) -> std::path::PathBuf {
            self.0.path().join(name)
        }

        fn write(&self, name: &str, text: &str) {
            std::fs::write(self.path(name), text).expect("written");
        }

        fn look(&self, names: &[&str]) -> Wishes {
            let names = names.iter().map(|name| Octets::new(self.path(name).as_os_str().as_bytes()));
            look(&names.collect::<Vec<_>>(), rustix::process::geteuid().as_raw())
        }

        fn left_alone(&self) -> String {
            let wishes = self.look(&[".forward"]);
            assert_eq!(wishes.report, None);
            wishes.warning.expect("a warning")
        }
    }

    fn address(text: &str) -> Listed {
        Listed::Address(text.into())
    }

    #[test]
    fn the_first_file_that_is_there_counts() {
        let home = Home::new();
        assert!(home.look(&[".forward+x", ".forward"]).report.is_none());
        home.write(".forward", "# mine\njohn, \"|/bin/x a\"\n/home/john/all\n");
        let Some(Report::Forward { listed, .. }) = home.look(&[".forward+x", ".forward"]).report else {
            panic!("there")
        };
        let command = Listed::Command { command: "/bin/x a".into(), included: false };
        let file = Listed::File { path: "/home/john/all".into(), included: false };
        assert_eq!(listed, [address("john"), command, file]);
        home.write(".forward+x", "a@b\n");
        let Some(Report::Forward { listed, .. }) = home.look(&[".forward+x", ".forward"]).report else {
            panic!("there")
        };
        assert_eq!(listed, [address("a@b")]);
        home.write(".forward+x", "\n# nothing\n");
        assert!(home.look(&[".forward+x", ".forward"]).report.is_none(), "an empty one means: do not forward");
    }

    #[test]
    fn a_file_that_is_no_forward_file_is_left_alone_and_named() {
        let home = Home::new();
        home.write("target", "a@b\n");
        std::os::unix::fs::symlink(home.path("target"), home.path(".forward")).expect("linked");
        assert!(home.left_alone().contains("not a regular file"));
        std::fs::remove_file(home.path(".forward")).expect("removed");
        rustix::fs::mkfifoat(rustix::fs::CWD, home.path(".forward"), Mode::RUSR | Mode::WUSR).expect("made");
        assert!(home.left_alone().contains("not a regular file"));
        std::fs::remove_file(home.path(".forward")).expect("removed");
        home.write(".forward", "a@b\n");
        std::fs::set_permissions(home.path(".forward"), std::fs::Permissions::from_mode(0o666)).expect("set");
        assert!(home.left_alone().contains("world writable"));
        if rustix::process::geteuid().is_root() {
            std::fs::set_permissions(home.path(".forward"), std::fs::Permissions::from_mode(0o644)).expect("set");
            std::os::unix::fs::chown(home.path(".forward"), Some(4_000_000), None).expect("given away");
            assert!(home.left_alone().contains("bad owner uid 4000000"));
        }
    }

    #[test]
    fn included_files_are_read_to_a_depth_and_a_length() {
        let home = Home::new();
        let path = |name: &str| home.path(name).display().to_string();
        home.write("more", &format!("|/bin/x\n:include:{}\n:include:relative\n", path("gone")));
        home.write(".forward", &format!("a, :include:{}\n", path("more")));
        let Some(Report::Forward { listed, .. }) = home.look(&[".forward"]).report else { panic!("there") };
        assert_eq!(listed[..2], [address("a"), Listed::Command { command: "/bin/x".into(), included: true }]);
        assert!(matches!(&listed[2..], [Listed::Unreadable { .. }, Listed::Unreadable { .. }]));
        home.write(".forward", &format!(":include:{}\n", path(".forward")));
        let Some(Report::Forward { listed, .. }) = home.look(&[".forward"]).report else { panic!("there") };
        assert!(matches!(&listed[..], [Listed::Unreadable { why, .. }] if why.contains("in one another")));
        home.write(".forward", &"a, ".repeat(100_000));
        assert!(matches!(home.look(&[".forward"]).report, Some(Report::Deferred { .. })));
    }
}
