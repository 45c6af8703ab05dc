//! The queue directory of the Postfix that is installed: where its files are, whose they are, and the lock that keeps its master away.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use mail_config::Config;
use mail_posix::files::sync_directory;
use mail_posix::locks::{Family, Kind, try_lock};
use mail_posix::users;
use postfix_queue::id;

use crate::exit::{CONFIGURATION, Failure, IO, TEMPORARY};

/// The mode of a complete message.
pub const READY: u32 = 0o700;
/// The mode of a complete message in `maildrop/`, as postdrop makes it.
pub const DROPPED: u32 = 0o744;
/// The bit that `postsuper -e` sets on the file of a message that is to be returned.
const EXPIRED: u32 = 0o010;
/// Directories deeper than `hash_queue_depth` could ever make them are none of Postfix's.
const DEPTH_MAX: usize = 16;
/// The longest file that is read: far more than any `message_size_limit` that anybody uses.
const FILE_MAX: u64 = 2 * 1024 * 1024 * 1024;

/// One of Postfix's queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Queue {
    /// Local submissions that no daemon has seen.
    Maildrop,
    /// Accepted, never attempted.
    Incoming,
    /// Being attempted when Postfix stopped.
    Active,
    /// Waits for its next attempt.
    Deferred,
    /// On hold.
    Hold,
    /// Put aside by Postfix as damaged.
    Corrupt,
}

/// Every queue, in the order in which they are shown.
pub const QUEUES: [Queue; 6] =
    [Queue::Maildrop, Queue::Incoming, Queue::Active, Queue::Deferred, Queue::Hold, Queue::Corrupt];

impl Queue {
    /// Its directory.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Maildrop => "maildrop",
            Self::Incoming => "incoming",
            Self::Active => "active",
            Self::Deferred => "deferred",
            Self::Hold => "hold",
            Self::Corrupt => "corrupt",
        }
    }
}

/// A file of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The queue.
    pub queue: Queue,
    /// The file's name, which is the queue id.
    pub id: String,
    /// Where it is.
    pub path: PathBuf,
    /// Its inode.
    pub inode: u64,
    /// Its owner.
    pub owner: u32,
    /// Whether it is complete: its owner may execute it.
    pub complete: bool,
    /// `postsuper -e` was said of it.
    pub expired: bool,
    /// When the next attempt is due, where it is deferred: milliseconds since 1970.
    pub modified: u64,
}

impl Found {
    /// The message as people know it.
    #[must_use]
    pub fn shown(&self) -> String {
        format!("{}/{}", self.queue.name(), self.id)
    }

    /// The octets of the file.
    ///
    /// # Errors
    /// It is gone, not a plain file any more, or longer than anything that can be a message.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        let nofollow = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(nofollow).open(&self.path)?;
        let length = file.metadata()?.len();
        if length > FILE_MAX {
            return Err(io::Error::other(format!("{length} octets are more than a message has")));
        }
        let mut octets = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
        file.take(FILE_MAX).read_to_end(&mut octets)?;
        Ok(octets)
    }
}

/// The queue directory of a Postfix.
#[derive(Debug, Clone)]
pub struct Spool {
    /// The directory.
    pub root: PathBuf,
    /// `mail_owner`: uid and gid, where there is such a user.
    pub owner: Option<(u32, u32)>,
    /// `setgid_group`, where there is one.
    pub drop_group: Option<u32>,
    /// `hash_queue_names`.
    hashed: Vec<String>,
    /// `hash_queue_depth`.
    depth: usize,
    /// `enable_long_queue_ids`.
    pub long_ids: bool,
}

/// The lock of Postfix's master; while it lives, no master starts.
#[derive(Debug)]
pub struct MasterLock {
    // Locked as long as it is open.
    _file: Option<File>,
}

impl Spool {
    /// The queue directory that main.cf names.
    ///
    /// # Errors
    /// The users of the machine cannot be asked.
    pub fn of(config: &Config) -> Result<Self, Failure> {
        let value = |name: &str| config.main.expanded(name).unwrap_or_default();
        let asked = |error: io::Error| Failure::new(IO, format!("passwd: {error}"));
        let owner = users::by_name(&value("mail_owner")).map_err(asked)?.map(|user| (user.uid, user.gid));
        let drop_group = users::group_by_name(&value("setgid_group")).map_err(asked)?.map(|group| group.gid);
        Ok(Self {
            root: PathBuf::from(config.main.queue_directory.as_str()),
            owner,
            drop_group,
            hashed: value("hash_queue_names")
                .split([' ', ',', '\t'])
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect(),
            depth: value("hash_queue_depth").parse().unwrap_or(1).clamp(1, DEPTH_MAX),
            long_ids: value("enable_long_queue_ids") == "yes",
        })
    }

    /// Whether there is a queue at all.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.root.join("incoming").is_dir() || self.root.join("maildrop").is_dir()
    }

    /// Whether Postfix's master runs.
    ///
    /// # Errors
    /// The lock cannot be asked.
    pub fn is_running(&self) -> io::Result<bool> {
        let path = self.root.join("pid/master.pid");
        match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
            Ok(file) => Ok(try_lock(&file, Family::Flock, Kind::Exclusive)?.is_none()),
        }
    }

    /// Takes the lock of Postfix's master. Where there is no directory for it, no master can run there.
    ///
    /// # Errors
    /// Postfix runs (75), or the lock file cannot be opened.
    pub fn lock(&self) -> Result<MasterLock, Failure> {
        let directory = self.root.join("pid");
        if !directory.is_dir() {
            return Ok(MasterLock { _file: None });
        }
        let path = directory.join("master.pid");
        let failed = |error: io::Error| Failure::new(IO, format!("{}: {error}", path.display()));
        let nofollow = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o644).custom_flags(nofollow);
        let file = options.open(&path).map_err(failed)?;
        match try_lock(&file, Family::Flock, Kind::Exclusive).map_err(failed)? {
            // Kept as long as the file is open, which is in our hands.
            Some(lock) => lock.keep(),
            None => return Err(Failure::new(TEMPORARY, "Postfix is running: stop it first (postfix stop)")),
        }
        Ok(MasterLock { _file: Some(file) })
    }

    /// The files of a queue, by id. What cannot be a message is left out.
    ///
    /// # Errors
    /// A directory cannot be read.
    pub fn files(&self, queue: Queue) -> io::Result<Vec<Found>> {
        let mut found = Vec::new();
        self.scan(queue, &self.root.join(queue.name()), 0, &mut found)?;
        found.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(found)
    }

    fn scan(&self, queue: Queue, directory: &Path, depth: usize, found: &mut Vec<Found>) -> io::Result<()> {
        let entries = match fs::read_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
            let metadata = match entry.metadata() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                metadata => metadata?,
            };
            if metadata.is_dir() && name.len() == 1 && depth < DEPTH_MAX {
                self.scan(queue, &entry.path(), depth + 1, found)?;
            } else if metadata.is_file() && id::is_id(&name) {
                found.push(Found {
                    queue,
                    id: name,
                    path: entry.path(),
                    inode: metadata.ino(),
                    owner: metadata.uid(),
                    complete: metadata.mode() & 0o700 == READY,
                    expired: queue != Queue::Maildrop && metadata.mode() & EXPIRED != 0,
                    modified: u64::try_from(metadata.mtime()).unwrap_or(0) * 1000,
                });
            }
        }
        Ok(())
    }

    /// Where the file of a queue or a log directory (`defer`, `bounce`, `trace`) lies.
    #[must_use]
    pub fn path(&self, directory: &str, id: &str) -> PathBuf {
        let hashed = self.hashed.iter().any(|name| name.eq_ignore_ascii_case(directory));
        let below = if hashed { id::forest(id, self.depth) } else { String::new() };
        self.root.join(directory).join(below).join(id)
    }

    /// Makes the directories of a path, as Postfix does: for its owner alone. Durable.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn make_parents(&self, path: &Path) -> io::Result<()> {
        let Some(parent) = path.parent().filter(|parent| !parent.is_dir()) else { return Ok(()) };
        self.make_parents(parent)?;
        fs::DirBuilder::new().create(parent)?;
        fs::set_permissions(parent, fs::Permissions::from_mode(0o700))?;
        self.give(parent)?;
        parent.parent().map_or(Ok(()), sync_directory)
    }

    /// As root: gives a file to Postfix.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn give(&self, path: &Path) -> io::Result<()> {
        match self.owner.filter(|_| rustix::process::geteuid().is_root()) {
            Some((uid, gid)) => std::os::unix::fs::lchown(path, Some(uid), Some(gid)),
            None => Ok(()),
        }
    }
}

/// The configuration of a directory; what is wrong with it stops a command that moves mail.
///
/// # Errors
/// 78 with every mistake.
pub fn load(directory: &Path, dovecot: Option<&Path>) -> Result<mail_config::Loaded, Failure> {
    Config::load(directory, dovecot).map_err(|errors| Failure::new(CONFIGURATION, errors.to_string()))
}
