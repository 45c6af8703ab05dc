//! One user's Maildir++: which mailboxes there are, and making, removing and renaming them.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;

use super::append::Append;
use super::deliver::Maildir;
use super::dir::Dir;
use super::dotlock::host_name;
use super::file_name;
use super::open::Open;
use super::subscriptions;
use crate::location::{Index, Location};
use crate::mailbox::{Access, Account, Appending, Listed, Mailbox, NewMessage, Status};
use crate::{Flags, MailboxName, Result, StoreError, Watches};

/// Takes one line for the administrator: strange files, damaged lists.
pub type Notice = Arc<dyn Fn(&str) + Send + Sync>;

/// Where a mailbox goes before its files are removed one by one; Dovecot uses the same name and neither lists it.
const TRASH: &[u8] = b"..DOVECOT-TRASHED";
/// Marks a directory as a Maildir++ folder for programs that deliver by themselves.
const FOLDER_MARK: &[u8] = b"maildirfolder";

/// The mailboxes of one user in a Maildir++.
pub struct MaildirAccount {
    shared: Arc<Shared>,
}

/// What all open mailboxes of an account use.
pub(super) struct Shared {
    location: Location,
    notice: Notice,
    host: String,
    counter: AtomicU32,
    watches: Mutex<Option<Arc<Watches>>>,
}

impl fmt::Debug for MaildirAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MaildirAccount").field("location", &self.shared.location).finish_non_exhaustive()
    }
}

impl Shared {
    /// The watches of all open mailboxes; where the system had none left it is asked again.
    pub fn watches(&self) -> Option<Arc<Watches>> {
        let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        if watches.is_none() {
            *watches = Watches::new();
        }
        watches.clone()
    }

    pub fn notice(&self, line: &str) {
        (self.notice)(line);
    }

    /// A stem that no other file has: time, process, and a counter within the process.
    pub fn fresh_stem(&self) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let count = self.counter.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id();
        format!("{}.M{}P{pid}Q{count}.{}", now.as_secs(), now.subsec_micros(), file_name::host(&self.host))
    }

    /// The name of another file, with sizes and flags, under a fresh stem.
    pub fn fresh_name(&self, name: &[u8]) -> Vec<u8> {
        let stem = self.fresh_stem();
        [stem.as_bytes(), &name[file_name::stem(name).len()..]].concat()
    }

    /// The control directory of the account itself.
    pub fn control_root(&self) -> Result<Dir> {
        Dir::create(self.location.control.as_deref().unwrap_or(&self.location.root))
    }

    /// The Maildir and the control directory of a mailbox. The inbox is made if it is missing.
    pub fn directories(&self, name: &MailboxName) -> Result<(Maildir, Dir)> {
        let root = if name.is_inbox() {
            Dir::create(self.location.inbox_path())?
        } else {
            Dir::open(&self.location.root)?.subdirectory(&directory(name))?
        };
        let control = match &self.location.control {
            None => root.try_clone()?,
            Some(control) => Dir::create(control)?.make_subdirectory(&directory(name))?,
        };
        Ok((Maildir::in_root(root)?, control))
    }

    /// The directory of a mailbox's index; `None` without one.
    pub fn index_directory(&self, name: &MailboxName, mail: &Dir) -> Result<Option<Dir>> {
        match &self.location.index {
            Index::Memory => Ok(None),
            Index::Mailbox => mail.try_clone().map(Some),
            Index::Directory(path) => Dir::create(path)?.make_subdirectory(&directory(name)).map(Some),
        }
    }

    /// The directories beside the mail in which a mailbox has a directory of its own.
    fn side_roots(&self) -> Vec<Dir> {
        let index = match &self.location.index {
            Index::Directory(path) => Some(path),
            Index::Mailbox | Index::Memory => None,
        };
        [self.location.control.as_ref(), index].into_iter().flatten().filter_map(|path| Dir::open(path).ok()).collect()
    }
}

/// `.Name`: the directory of a mailbox.
fn directory(name: &MailboxName) -> Vec<u8> {
    format!(".{}", name.as_stored()).into_bytes()
}

impl MaildirAccount {
    /// The account at a location. Nothing is read or made before it is used.
    #[must_use]
    pub fn new(location: Location, notice: Notice) -> Self {
        let shared =
            Shared { location, notice, host: host_name(), counter: AtomicU32::new(0), watches: Mutex::default() };
        Self { shared: Arc::new(shared) }
    }

    fn root(&self) -> Result<Dir> {
        Dir::create(&self.shared.location.root)
    }
}

impl Account for MaildirAccount {
    fn watches(&self) -> Option<Arc<Watches>> {
        self.shared.watches()
    }

    fn list(&self) -> Result<Vec<Listed>> {
        let root = self.root()?;
        let mut names = vec![MailboxName::inbox()];
        root.entries(|name, kind| {
            let stored = name.strip_prefix(b".").filter(|stored| !stored.is_empty() && !stored.starts_with(b"."));
            let directory = matches!(kind, FileType::Directory | FileType::Unknown);
            let Some(stored) = stored.filter(|_| directory) else { return };
            match std::str::from_utf8(stored).map(MailboxName::from_stored) {
                Ok(Ok(name)) if name.as_stored().as_bytes() == stored && !name.is_inbox() => names.push(name),
                _ => self.shared.notice(&format!(
                    "{}/.{}: not a mailbox name",
                    root.path().display(),
                    stored.escape_ascii()
                )),
            }
        })?;
        let inbox = Dir::open(self.shared.location.inbox_path()).ok();
        let listed = names.into_iter().filter_map(|name| {
            let mail = if name.is_inbox() {
                inbox.as_ref()?.try_clone().ok()
            } else {
                root.subdirectory(&directory(&name)).ok()
            };
            let new = mail.and_then(|mail| mail.subdirectory(b"new").ok());
            if new.is_none() && !name.is_inbox() && !is_mailbox(&root, &name) {
                return None;
            }
            let marked = new.is_some_and(|new| has_files(&new));
            Some(Listed { name, marked })
        });
        let mut listed: Vec<Listed> = listed.collect();
        if inbox.is_none() {
            listed.insert(0, Listed { name: MailboxName::inbox(), marked: false });
        }
        Ok(listed)
    }

    fn exists(&self, name: &MailboxName) -> Result<bool> {
        Ok(name.is_inbox() || is_mailbox(&self.root()?, name))
    }

    fn open(&self, name: &MailboxName, access: Access) -> Result<Box<dyn Mailbox>> {
        Ok(Box::new(Open::new(Arc::clone(&self.shared), name.clone(), access)?))
    }

    fn status(&self, name: &MailboxName) -> Result<Status> {
        let open = Open::new(Arc::clone(&self.shared), name.clone(), Access::ReadOnly)?;
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let messages = open.messages();
        Ok(Status {
            messages: count(messages.len()),
            recent: count(messages.iter().filter(|message| message.recent).count()),
            unseen: count(messages.iter().filter(|message| !message.flags.contains(Flags::SEEN)).count()),
            uid_next: open.uid_next(),
            uid_validity: open.uid_validity(),
        })
    }

    fn create(&self, name: &MailboxName) -> Result<()> {
        if name.is_inbox() {
            return Err(StoreError::AlreadyExists);
        }
        let root = self.root()?;
        match rustix::fs::mkdirat(root.fd(), &directory(name)[..], rustix::fs::Mode::RWXU) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Err(StoreError::AlreadyExists),
            Err(error) => return Err(root.error(&directory(name), error)),
        }
        root.sync()?;
        let mail = root.subdirectory(&directory(name))?;
        if let Err(error) = mail.create_file(FOLDER_MARK) {
            return Err(mail.error(FOLDER_MARK, error));
        }
        // A control directory left by a mailbox of that name would give its UIDVALIDITY to this one.
        for side in self.shared.side_roots() {
            remove_tree(&side, &directory(name))?;
        }
        // The uidlist is made now, so that the UIDVALIDITY is settled before a client hears of the mailbox.
        Open::new(Arc::clone(&self.shared), name.clone(), Access::ReadOnly).map(drop)
    }

    fn delete(&self, name: &MailboxName) -> Result<()> {
        if name.is_inbox() {
            return Err(StoreError::BadName("the inbox stays"));
        }
        let root = self.root()?;
        if !is_mailbox(&root, name) {
            return Err(StoreError::NoSuchMailbox);
        }
        remove_tree(&root, TRASH)?;
        rustix::fs::renameat(root.fd(), &directory(name)[..], root.fd(), TRASH)
            .map_err(|error| root.error(&directory(name), error))?;
        root.sync()?;
        for side in self.shared.side_roots() {
            remove_tree(&side, &directory(name))?;
        }
        remove_tree(&root, TRASH)
    }

    fn rename(&self, from: &MailboxName, to: &MailboxName) -> Result<()> {
        if from.is_inbox() || to.is_inbox() {
            return Err(StoreError::BadName("the inbox keeps its name"));
        }
        let root = self.root()?;
        if !is_mailbox(&root, from) {
            return Err(StoreError::NoSuchMailbox);
        }
        let (old, new) = (directory(from), directory(to));
        match root.rename_new(&old, &root, &new) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Err(StoreError::AlreadyExists),
            Err(error) => return Err(root.error(&new, error)),
        }
        for side in self.shared.side_roots() {
            remove_tree(&side, &new)?;
            match side.rename_new(&old, &side, &new) {
                Ok(()) | Err(Errno::NOENT) => side.sync()?,
                Err(error) => return Err(side.error(&new, error)),
            }
        }
        root.sync()
    }

    fn subscriptions(&self) -> Result<Vec<MailboxName>> {
        subscriptions::read(&self.shared.control_root()?)
    }

    fn set_subscribed(&self, name: &MailboxName, subscribed: bool) -> Result<()> {
        subscriptions::set(&self.shared.control_root()?, name, subscribed)
    }

    fn append(&self, name: &MailboxName, message: NewMessage) -> Result<Box<dyn Appending>> {
        Ok(Box::new(Append::new(&self.shared, name, message)?))
    }
}

/// Whether a directory of this name is there.
fn is_mailbox(root: &Dir, name: &MailboxName) -> bool {
    root.subdirectory(&directory(name)).is_ok()
}

fn has_files(dir: &Dir) -> bool {
    let mut any = false;
    dir.entries(|name, _| any |= !name.starts_with(b".")).is_ok() && any
}

/// Removes a directory with all that is in it, following no link; a directory that is not there is fine.
fn remove_tree(parent: &Dir, name: &[u8]) -> Result<()> {
    let dir = match parent.subdirectory(name) {
        Ok(dir) => dir,
        Err(StoreError::NoSuchMailbox) => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    dir.entries(|name, _| names.push(name.to_vec()))?;
    for inside in names {
        match rustix::fs::unlinkat(dir.fd(), &inside[..], AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR | Errno::PERM) => remove_tree(&dir, &inside)?,
            Err(error) => return Err(dir.error(&inside, error)),
        }
    }
    match rustix::fs::unlinkat(parent.fd(), name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => parent.sync(),
        Err(error) => Err(parent.error(name, error)),
    }
}
