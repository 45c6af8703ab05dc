//! What a deliverer reaches that is confined to one mailbox: users who share a uid are kept apart by it.
//!
//! The mailbox is made before the sandbox closes what lies above it. The sandbox holds to the directory that was there then, not to its name: where
//! another one has come in its place, the deliverer ends, and the next one is confined to that.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mail_store::maildir::Maildir;
use mail_types::Octets;
use serde::{Deserialize, Serialize};

use crate::job::{Owner, Report, Target};
use crate::mailboxes::maildir_failure;

/// How long a mailbox that could not be made counts as one that cannot.
const HOPELESS: Duration = Duration::from_secs(1);

/// A mailbox that a deliverer is confined to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Mailbox {
    /// A Maildir, with everything in it.
    Maildir(Octets),
    /// An mbox file. Its directory is where its lock is made, so files there may be written and removed, but not read.
    Mbox(Octets),
}

impl Mailbox {
    /// The mailbox of a target whose owner may share the uid with others; none where the uid is the owner's own.
    #[must_use]
    pub fn of(owner: Owner, target: &Target) -> Option<Self> {
        match (owner, target) {
            (Owner::Virtual { .. } | Owner::MailUser { .. }, Target::Maildir { path, .. }) => {
                Some(Self::Maildir(path.clone()))
            }
            (Owner::Virtual { .. } | Owner::MailUser { .. }, Target::Mbox { path, .. }) => {
                Some(Self::Mbox(path.clone()))
            }
            _ => None,
        }
    }
}

/// The room of one deliverer.
#[derive(Debug)]
pub struct Room {
    /// The directory of the mailbox.
    path: PathBuf,
    /// Others have their mailboxes there too.
    shared: bool,
    /// Which directory that is; none where there is none.
    seen: Option<(u64, u64)>,
    /// Why it could not be made, and since when.
    refused: Option<(Report, Instant)>,
}

impl Room {
    /// Makes the mailbox where it is missing, as far as delivering would.
    #[must_use]
    pub fn prepare(mailbox: Mailbox) -> Self {
        let of = |path: &Octets| PathBuf::from(std::ffi::OsStr::from_bytes(path.as_bytes()));
        let (path, shared, refused) = match &mailbox {
            Mailbox::Maildir(path) => {
                let path = of(path);
                let refused = Maildir::create(&path).err().map(|error| maildir_failure(&path, &error));
                (path, false, refused)
            }
            Mailbox::Mbox(path) => (of(path).parent().map_or_else(PathBuf::new, Path::to_owned), true, None),
        };
        let (seen, refused) = (identity(&path), refused.map(|report| (report, Instant::now())));
        Self { path, shared, seen, refused }
    }

    /// What may be read and changed.
    #[must_use]
    pub fn writable(&self) -> Vec<PathBuf> {
        if self.shared { Vec::new() } else { vec![self.path.clone()] }
    }

    /// Where files may be written, but not read.
    #[must_use]
    pub fn shared(&self) -> Vec<PathBuf> {
        if self.shared { vec![self.path.clone()] } else { Vec::new() }
    }

    /// Whether the mailbox is still the one that the deliverer is confined to.
    #[must_use]
    pub fn is_current(&self) -> bool {
        let hopeless = self.refused.as_ref().is_none_or(|(_, since)| since.elapsed() < HOPELESS);
        hopeless && identity(&self.path) == self.seen
    }

    /// Why nothing can be delivered here.
    #[must_use]
    pub fn refusal(&self) -> Option<Report> {
        self.refused.as_ref().map(|(report, _)| report.clone())
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    path.metadata().ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn maildir(path: &Path) -> Mailbox {
        Mailbox::Maildir(Octets::from(path.to_str().expect("utf-8")))
    }

    #[test]
    fn a_room_ends_with_its_directory() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("a/Maildir");
        let room = Room::prepare(maildir(&path));
        assert!(path.join("tmp").is_dir() && room.is_current() && room.refusal().is_none());
        assert_eq!((room.writable(), room.shared()), (vec![path.clone()], Vec::new()));
        std::fs::rename(&path, dir.path().join("old")).expect("renamed");
        assert!(!room.is_current());
        std::fs::create_dir(&path).expect("made");
        assert!(!room.is_current(), "another directory of the same name");
    }

    #[test]
    fn a_mailbox_that_cannot_be_made_says_why_and_is_tried_again() {
        let dir = tempfile::tempdir().expect("tempdir");
        std::fs::write(dir.path().join("file"), "").expect("written");
        let mut room = Room::prepare(maildir(&dir.path().join("file")));
        assert!(matches!(room.refusal(), Some(Report::Deferred { .. })) && room.is_current());
        room.refused = room.refused.map(|(report, since)| (report, since - HOPELESS));
        assert!(!room.is_current());
    }

    #[test]
    fn an_mbox_is_written_beside_others() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("john");
        let room = Room::prepare(Mailbox::Mbox(Octets::from(path.to_str().expect("utf-8"))));
        assert_eq!((room.writable(), room.shared()), (Vec::new(), vec![dir.path().to_owned()]));
        assert!(!path.exists() && room.is_current());
    }

    #[test]
    fn a_uid_of_one_s_own_is_enough() {
        let target = Target::Maildir { path: "/home/john/Maildir".into(), size_limit: 0 };
        assert_eq!(Mailbox::of(Owner::User { uid: 1, gid: 1, spool: false }, &target), None);
        assert_eq!(Mailbox::of(Owner::Caller, &target), None);
        let mailbox = Some(Mailbox::Maildir("/home/john/Maildir".into()));
        assert_eq!(Mailbox::of(Owner::Virtual { uid: 1, gid: 1 }, &target), mailbox);
        assert_eq!(Mailbox::of(Owner::MailUser { uid: 1, gid: 1 }, &target), mailbox);
        assert_eq!(Mailbox::of(Owner::MailUser { uid: 1, gid: 1 }, &Target::Nothing), None);
    }
}
