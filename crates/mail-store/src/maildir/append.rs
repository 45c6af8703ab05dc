//! Messages that come into a mailbox by APPEND and COPY: written to `tmp/`, renamed, their UIDs assigned, all synced.

use std::io::Read as _;
use std::sync::Arc;

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::account::Shared;
use super::deliver::{Incoming, Maildir};
use super::dir::Dir;
use super::dotlock::DotLock;
use super::file_name;
use super::keywords::Keywords;
use super::open::Open;
use super::uidlist::Health;
use super::uids::{self, Uids};
use crate::mailbox::{Access, Appending, NewMessage, Placed};
use crate::{Flags, KeywordSet, MailboxName, Result, StoreError};

/// One message between `tmp/` and its place.
struct Waiting {
    temporary: Vec<u8>,
    /// Its final name; in `new/` without flags, else in `cur/`.
    name: Vec<u8>,
    moved: bool,
}

/// Messages placed into a mailbox together. Dropped before [`Placing::commit`] succeeded, they are removed again.
pub(super) struct Placing {
    shared: Arc<Shared>,
    target: MailboxName,
    maildir: Maildir,
    control: Dir,
    keywords: Keywords,
    waiting: Vec<Waiting>,
}

impl Placing {
    pub fn new(shared: &Arc<Shared>, target: &MailboxName) -> Result<Self> {
        let (maildir, control) = shared.directories(target)?;
        let mut keywords = Keywords::default();
        keywords.refresh(&control)?;
        let (shared, target) = (Arc::clone(shared), target.clone());
        Ok(Self { shared, target, maildir, control, keywords, waiting: Vec::new() })
    }

    /// A message of another mailbox: a hard link where possible, else a copy; then it is synced.
    pub fn copy(&mut self, from: &Open, uid: u32, flags: Flags, keywords: &[String]) -> Result<()> {
        let keywords = self.keywords.set_of(&self.control, keywords)?;
        let entry = &from.entries[from.find(uid)?];
        let temporary = self.shared.fresh_name(&entry.name);
        let source = from.part(entry.part);
        match rustix::fs::linkat(source.fd(), &entry.name[..], self.maildir.tmp.fd(), &temporary[..], AtFlags::empty())
        {
            Ok(()) => self.waits(temporary.clone(), &temporary, flags, keywords),
            // Renamed meanwhile, another file system, or too many links.
            Err(Errno::NOENT | Errno::XDEV | Errno::MLINK | Errno::PERM) => {
                let (mut file, stat) = from.open_file(uid)?;
                let mut incoming = self.maildir.begin(&self.shared.fresh_stem())?;
                let mut chunk = vec![0; 64 * 1024];
                loop {
                    let read = file.read(&mut chunk).map_err(|error| source.error(&entry.name, error))?;
                    if read == 0 {
                        break;
                    }
                    incoming.write(&chunk[..read])?;
                }
                self.take(incoming, flags, keywords, Some(stat.st_mtime))?;
            }
            Err(error) => return Err(self.maildir.tmp.error(&temporary, error)),
        }
        Ok(())
    }

    fn take(&mut self, mut incoming: Incoming, flags: Flags, keywords: KeywordSet, date: Option<i64>) -> Result<()> {
        let name = incoming.finish(date)?;
        self.waits(incoming.into_temporary(), &name, flags, keywords);
        Ok(())
    }

    fn waits(&mut self, temporary: Vec<u8>, name: &[u8], flags: Flags, keywords: KeywordSet) {
        let base = file_name::base(name);
        let plain = flags.is_empty() && keywords == 0;
        let name = if plain { base.to_vec() } else { file_name::with_flags(base, flags, keywords) };
        self.waiting.push(Waiting { temporary, name, moved: false });
    }

    /// Moves everything to its place, assigns UIDs, and syncs.
    pub fn commit(mut self) -> Result<Placed> {
        let (lock, mut uids) = self.lock_sound_list()?;
        for waiting in &mut self.waiting {
            let to = place_of(&self.maildir, &waiting.name);
            let moved = self.maildir.tmp.rename_new(&waiting.temporary, to, &waiting.name);
            moved.map_err(|error| to.error(&waiting.name, error))?;
            waiting.moved = true;
        }
        // The UIDs first: a journal that keeps them keeps the new names as well, so that the other syncs find their work done. A UID whose file
        // is lost with the power was never told to anybody.
        let bases: Vec<&[u8]> = self.waiting.iter().map(|waiting| file_name::base(&waiting.name)).collect();
        let given = uids.assign(&self.control, &bases, &lock)?;
        for dir in [&self.maildir.new, &self.maildir.cur] {
            if self.waiting.iter().any(|waiting| std::ptr::eq(place_of(&self.maildir, &waiting.name), dir)) {
                dir.sync()?;
            }
        }
        self.waiting.clear();
        Ok(Placed { uid_validity: uids.list.uid_validity, uids: given })
    }

    /// The uidlist's lock, and the list under it. A list that is missing or damaged is restored first, by opening the mailbox.
    fn lock_sound_list(&self) -> Result<(DotLock, Uids)> {
        for _ in 0..3 {
            let lock = DotLock::take(&self.control, uids::NAME)?;
            let mut uids = Uids::default();
            uids.refresh(&self.control, true)?;
            if uids.health == Some(Health::Sound) {
                return Ok((lock, uids));
            }
            drop(lock);
            drop(Open::new(Arc::clone(&self.shared), self.target.clone(), Access::ReadOnly)?);
        }
        Err(StoreError::Locked)
    }
}

/// Where a message of this name belongs: with flags it is no longer new.
fn place_of<'a>(maildir: &'a Maildir, name: &[u8]) -> &'a Dir {
    if name.contains(&b':') { &maildir.cur } else { &maildir.new }
}

impl Drop for Placing {
    fn drop(&mut self) {
        for waiting in &self.waiting {
            let _ = if waiting.moved {
                place_of(&self.maildir, &waiting.name).unlink(&waiting.name)
            } else {
                self.maildir.tmp.unlink(&waiting.temporary)
            };
        }
    }
}

/// An APPEND in progress.
pub(super) struct Append {
    placing: Placing,
    incoming: Incoming,
    message: NewMessage,
    keywords: KeywordSet,
}

impl Append {
    pub fn new(shared: &Arc<Shared>, target: &MailboxName, message: NewMessage) -> Result<Self> {
        let mut placing = Placing::new(shared, target)?;
        let keywords = placing.keywords.set_of(&placing.control, &message.keywords)?;
        let incoming = placing.maildir.begin(&shared.fresh_stem())?;
        Ok(Self { placing, incoming, message, keywords })
    }
}

impl Appending for Append {
    fn write(&mut self, chunk: &[u8]) -> Result<()> {
        self.incoming.write(chunk)
    }

    fn finish(self: Box<Self>) -> Result<Placed> {
        let Self { mut placing, incoming, message, keywords } = *self;
        placing.take(incoming, message.flags, keywords, message.internal_date)?;
        placing.commit()
    }
}
