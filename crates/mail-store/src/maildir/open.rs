//! An open mailbox: its snapshot, and how it follows the directories and the uidlist.

use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::account::Shared;
use super::cache::Cache;
use super::deliver::Maildir;
use super::dir::{Dir, Stamp};
use super::file_name;
use super::index::{Head, IndexFile, Loaded, Saved};
use super::keywords::Keywords;
use super::scan::{Found, Part, Scan};
use super::uidlist::{Health, Record, UidList};
use super::uids::Uids;
use crate::content::{MessageFile, virtual_size};
use crate::mailbox::{Access, Changes, Facts, Message};
use crate::{MailboxName, Result, StoreError};

/// One message of the snapshot and its file.
#[derive(Debug)]
pub(super) struct Entry {
    /// The file's name when last seen.
    pub name: Box<[u8]>,
    /// Where it was.
    pub part: Part,
    /// Fields of its uidlist record.
    pub fields: Box<[u8]>,
    /// Date and sizes once asked for.
    pub facts: OnceLock<Facts>,
}

/// A directory that was modified this recently before it is read may change again without a new modification time: the clock of a file system
/// moves every 10 ms or more often.
const SETTLED_NANOS: i128 = 20_000_000;
/// The same where the file system keeps whole seconds, or every second of them.
const SETTLED_WHOLE_NANOS: i128 = 2_020_000_000;
/// The largest file that is a message: half of what RFC822.SIZE can say, as each line end may count twice.
const MESSAGE_MAX: u64 = 1 << 31;
/// The age at which a file in `tmp/` belongs to nobody any more.
const ABANDONED_SECONDS: i64 = 36 * 3600;
/// After a change of our own the directory is trusted for so long; then it is read once, as another program may have changed it in the same
/// tick of the file system's clock.
const OWN_CHANGE: Duration = Duration::from_secs(2);

/// An open Maildir mailbox.
pub(super) struct Open {
    pub shared: std::sync::Arc<Shared>,
    pub name: MailboxName,
    pub maildir: Maildir,
    pub control: Dir,
    pub access: Access,
    pub messages: Vec<Message>,
    pub entries: Vec<Entry>,
    pub uids: Uids,
    pub keywords: Keywords,
    /// UIDs below this one are in the snapshot or will never be: UIDNEXT of the last snapshot.
    pub snapshot_next: u32,
    /// `new/` and `cur/` when they were last read, if nothing can have changed since without changing them.
    pub seen: Option<(Stamp, Stamp)>,
    /// When `seen` was last carried over a change of our own.
    own_change: Option<Instant>,
    /// The head of the uidlist as we last knew it: what a lost one is restored with.
    pub head: UidList,
    index: Option<IndexFile>,
    /// The index's head as last read or written.
    saved: Option<Head>,
    /// Messages that the index has otherwise than we do.
    pub dirty: BTreeSet<u32>,
    /// Messages that the index has and we do not.
    pub removed: Vec<u32>,
    /// Dates and sizes found since the index was written.
    facts_found: AtomicUsize,
    cache: Mutex<Option<Cache>>,
    noticed: Mutex<HashSet<Vec<u8>>>,
}

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Open").field("name", &self.name).field("messages", &self.messages.len()).finish_non_exhaustive()
    }
}

impl Open {
    /// Opens a mailbox and takes its first snapshot.
    pub fn new(shared: std::sync::Arc<Shared>, name: MailboxName, access: Access) -> Result<Self> {
        let (maildir, control) = shared.directories(&name)?;
        let index = shared.index_directory(&name, &maildir.root)?;
        let mut open = Self {
            shared,
            name,
            maildir,
            control,
            access,
            messages: Vec::new(),
            entries: Vec::new(),
            uids: Uids::default(),
            keywords: Keywords::default(),
            snapshot_next: 0,
            seen: None,
            own_change: None,
            head: UidList::default(),
            index: index.map(IndexFile::new),
            saved: None,
            dirty: BTreeSet::new(),
            removed: Vec::new(),
            facts_found: AtomicUsize::new(0),
            cache: Mutex::default(),
            noticed: Mutex::default(),
        };
        if let Some(loaded) = open.index.as_mut().and_then(IndexFile::load) {
            open.begin_from(loaded)?;
        }
        open.synchronise()?;
        if access == Access::ReadWrite {
            open.clean_tmp();
        }
        Ok(open)
    }

    /// Removes what deliveries that died left in `tmp/`, after the 36 hours of the Maildir specification.
    fn clean_tmp(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let old = i64::try_from(now).unwrap_or(0) - ABANDONED_SECONDS;
        let mut names = Vec::new();
        // What cannot be read or removed stays: it harms nobody.
        let _ = self.maildir.tmp.entries(|name, _| names.push(name.to_vec()));
        for name in names {
            if let Ok(Some(stat)) = self.maildir.tmp.stat(&name)
                && stat.st_mtime.max(stat.st_ctime) < old
            {
                let _ = self.maildir.tmp.unlink(&name);
            }
        }
    }

    /// Begins with what the index says. If nothing changed since, that is the snapshot.
    fn begin_from(&mut self, loaded: Loaded) -> Result<()> {
        let Loaded { head, messages } = loaded;
        self.head = UidList {
            uid_validity: head.uid_validity,
            next_uid: head.next_uid,
            header_fields: head.header_fields.clone(),
            records: Vec::new(),
        };
        if let Some([new, cur, list]) = head.stamps {
            self.uids = Uids::known(self.head.clone(), head.next_uid, head.records as usize, list);
            let same = (new, cur) == (self.maildir.new.stamp()?, self.maildir.cur.stamp()?);
            let waiting = self.access == Access::ReadWrite && messages.iter().any(|message| message.part == Part::New);
            if same && !waiting && list == Uids::stamp_now(&self.control)? {
                self.seen = Some((new, cur));
                self.snapshot_next = head.next_uid;
            }
        }
        let fresh = self.seen.is_some();
        for saved in messages {
            let (flags, keywords) = file_name::flags(&saved.name);
            let recent = fresh && saved.part == Part::New;
            self.messages.push(Message { uid: saved.uid, flags, keywords, recent });
            let facts = saved.facts.map_or_else(OnceLock::new, OnceLock::from);
            self.entries.push(Entry { name: saved.name, part: saved.part, fields: saved.fields, facts });
        }
        self.saved = Some(head);
        Ok(())
    }

    /// Writes what changed to the index. A failure costs time at the next opening only.
    fn save_index(&mut self) {
        let Some(mut index) = self.index.take() else { return };
        let calm = self.seen.filter(|_| self.own_change.is_none());
        let head = Head {
            uid_validity: self.uids.list.uid_validity,
            next_uid: self.uids.next_uid,
            records: u32::try_from(self.uids.records).unwrap_or(u32::MAX),
            header_fields: self.uids.list.header_fields.clone(),
            stamps: calm.map(|(new, cur)| [new, cur, self.uids.stamp()]),
        };
        let found = self.facts_found.swap(0, Ordering::Relaxed);
        let validity = self.saved.as_ref().is_some_and(|saved| saved.uid_validity == head.uid_validity);
        let whole = !validity || found > 0;
        if whole || self.saved.as_ref() != Some(&head) || !self.dirty.is_empty() || !self.removed.is_empty() {
            let changed = self.dirty.iter().filter_map(|&uid| self.saved_message(self.position_of(uid)?));
            let all = (0..self.messages.len()).filter_map(|at| self.saved_message(at));
            match index.save(&head, &self.removed, changed, all, whole) {
                Ok(()) => self.saved = Some(head),
                Err(error) => {
                    self.saved = None;
                    self.notice(b"postrider.index", &error.to_string());
                }
            }
        }
        self.dirty.clear();
        self.removed.clear();
        self.index = Some(index);
    }

    fn saved_message(&self, at: usize) -> Option<Saved> {
        let (message, entry) = (self.messages.get(at)?, self.entries.get(at)?);
        let facts = entry.facts.get().copied();
        Some(Saved {
            uid: message.uid,
            part: entry.part,
            name: entry.name.clone(),
            fields: entry.fields.clone(),
            facts,
        })
    }

    /// The cache, opened at its first use.
    pub fn with_cache<T>(&self, run: impl FnOnce(&mut Cache) -> T) -> Option<T> {
        let mut cache: MutexGuard<'_, Option<Cache>> = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.is_none() {
            let directory = self.shared.index_directory(&self.name, &self.maildir.root).ok()??;
            *cache = Some(Cache::open(directory, self.uids.list.uid_validity));
        }
        cache.as_mut().map(run)
    }

    /// The states of the directories now.
    fn stamps(&self) -> Result<(Stamp, Stamp)> {
        Ok((self.maildir.new.stamp()?, self.maildir.cur.stamp()?))
    }

    /// Carries what is known of the directories over a change of our own, if nobody else changed anything before it.
    pub fn changing<T>(&mut self, run: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let undisturbed = self.seen.is_some() && self.seen == self.stamps().ok();
        let result = run(self);
        self.seen = if undisturbed { self.stamps().ok() } else { None };
        self.own_change = self.seen.map(|_| Instant::now());
        result
    }

    /// Tells the administrator something once per session.
    pub fn notice(&self, name: &[u8], what: &str) {
        let mut noticed = self.noticed.lock().unwrap_or_else(PoisonError::into_inner);
        // A bounded memory: a hostile Maildir may hold any number of strange names.
        if noticed.len() < 1000 && noticed.insert(name.to_vec()) {
            let path = self.maildir.root.path().display();
            self.shared.notice(&format!("{path}: {}: {what}", name.escape_ascii()));
        }
    }

    /// Brings the snapshot up to date.
    pub fn synchronise(&mut self) -> Result<Changes> {
        let keywords = self.keywords.refresh(&self.control)?;
        let trusted = self.own_change.is_none_or(|when| when.elapsed() < OWN_CHANGE);
        let same = trusted && self.seen == Some(self.stamps()?) && self.uids.health == Some(Health::Sound);
        if same && Uids::stamp_now(&self.control)? == self.uids.stamp() {
            return Ok(Changes { keywords, ..Changes::default() });
        }
        let mut scan = Scan::of(&self.maildir)?;
        if self.entries.iter().any(|entry| !scan.files.contains_key(file_name::base(&entry.name))) {
            // A file renamed while the directory was read can be missed once, hardly twice.
            scan.merge(Scan::of(&self.maildir)?);
        }
        for (name, what) in std::mem::take(&mut scan.strange) {
            self.notice(&name, what);
        }
        self.separate_duplicates(&mut scan)?;
        let mut recent = HashSet::new();
        if self.access == Access::ReadWrite {
            self.take_from_new(&mut scan, &mut recent)?;
        }
        let old_validity = self.head.uid_validity;
        let records = self.records_for(&scan)?;
        let reset = old_validity != 0 && old_validity != self.uids.list.uid_validity;
        self.head = UidList { next_uid: self.uids.next_uid, ..self.uids.list.clone() };
        if reset {
            self.forget_messages();
        }
        let mut changes = self.replace_snapshot(scan, records, &recent);
        changes.keywords = keywords;
        changes.uid_validity = reset;
        self.save_index();
        Ok(changes)
    }

    /// Under another UIDVALIDITY nothing that was known of a UID holds.
    fn forget_messages(&mut self) {
        self.messages.clear();
        self.entries.clear();
        self.saved = None;
        *self.cache.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Two files with one base name: the second gets a name, and so a UID, of its own.
    fn separate_duplicates(&self, scan: &mut Scan) -> Result<()> {
        for found in std::mem::take(&mut scan.duplicates) {
            let dir = self.part(found.part);
            // Only if both are really there: most often the first was the second before a rename.
            let kept = scan.files.get(file_name::base(&found.name));
            let both = dir.stat(&found.name)?.is_some()
                && kept.is_some_and(|kept| {
                    (kept.part, &kept.name) != (found.part, &found.name)
                        && self.part(kept.part).stat(&kept.name).is_ok_and(|stat| stat.is_some())
                });
            if !both {
                continue;
            }
            self.notice(&found.name, "a second file with the same base name");
            if self.access == Access::ReadWrite {
                let name = self.shared.fresh_name(&found.name);
                if dir.rename_new(&found.name, dir, &name).is_ok() {
                    scan.files.insert(file_name::base(&name).into(), Found { name: name.into(), part: found.part });
                }
            }
        }
        Ok(())
    }

    /// Moves what lies in `new/` to `cur/`: this session is the one to which these messages are recent.
    fn take_from_new(&self, scan: &mut Scan, recent: &mut HashSet<Box<[u8]>>) -> Result<()> {
        for (base, found) in &mut scan.files {
            if found.part != Part::New {
                continue;
            }
            let name = file_name::seen_by_a_reader(&found.name);
            match self.maildir.new.rename_new(&found.name, &self.maildir.cur, &name) {
                Ok(()) => {
                    recent.insert(base.clone());
                    *found = Found { name: name.into(), part: Part::Cur };
                }
                // Another session was faster; the next sync finds it in cur/.
                Err(rustix::io::Errno::NOENT) => *found = Found { name: name.into(), part: Part::Cur },
                Err(rustix::io::Errno::EXIST) => self.notice(&found.name, "its name in cur/ is taken"),
                Err(error) => self.notice(&found.name, &format!("cannot be moved to cur/: {error}")),
            }
        }
        Ok(())
    }

    /// The place of a UID in the snapshot.
    pub fn position_of(&self, uid: u32) -> Option<usize> {
        self.messages.binary_search_by_key(&uid, |message| message.uid).ok()
    }

    /// Puts files and records together and says what is different from before.
    fn replace_snapshot(&mut self, mut scan: Scan, records: Vec<Record>, recent: &HashSet<Box<[u8]>>) -> Changes {
        let old: Vec<(Message, Entry)> =
            std::mem::take(&mut self.messages).into_iter().zip(std::mem::take(&mut self.entries)).collect();
        let mut old = old.into_iter().peekable();
        let mut changes = Changes::default();
        for record in records {
            while let Some((gone, _)) = old.next_if(|(message, _)| message.uid < record.uid) {
                changes.expunged.push(gone.uid);
            }
            let before = old.next_if(|(message, _)| message.uid == record.uid);
            let Some((base, found)) = scan.files.remove_entry(&record.base[..]) else {
                changes.expunged.extend(before.map(|(message, _)| message.uid));
                continue;
            };
            let (flags, keywords) = file_name::flags(&found.name);
            let is_recent = recent.contains(&base)
                || before.as_ref().is_some_and(|(message, _)| message.recent)
                || (self.access == Access::ReadOnly && found.part == Part::New);
            let message = Message { uid: record.uid, flags, keywords, recent: is_recent };
            match &before {
                None => changes.added.push(record.uid),
                Some((old, _)) if (old.flags, old.keywords) != (flags, keywords) => changes.flags.push(record.uid),
                Some(_) => {}
            }
            let as_saved = before.as_ref().is_some_and(|(_, old)| {
                (old.part, &old.name, &old.fields[..]) == (found.part, &found.name, &record.fields[..])
            });
            if !as_saved {
                self.dirty.insert(record.uid);
            }
            let facts = before.map_or_else(OnceLock::new, |(_, entry)| entry.facts);
            self.messages.push(message);
            self.entries.push(Entry { name: found.name, part: found.part, fields: record.fields.into(), facts });
        }
        changes.expunged.extend(old.map(|(message, _)| message.uid));
        self.removed.extend(&changes.expunged);
        self.snapshot_next = self.uids.next_uid;
        self.seen = settled(&scan);
        self.own_change = None;
        changes
    }

    /// The directory of a part.
    pub fn part(&self, part: Part) -> &Dir {
        match part {
            Part::New => &self.maildir.new,
            Part::Cur => &self.maildir.cur,
        }
    }

    /// The place of a message in the snapshot.
    pub fn find(&self, uid: u32) -> Result<usize> {
        self.position_of(uid).ok_or(StoreError::Expunged)
    }

    /// The name that a message's file has now, after another program renamed it.
    pub fn find_file(&self, base: &[u8]) -> Result<Option<Found>> {
        // Twice, as a further rename may hide it from the first look.
        for _ in 0..2 {
            let mut found = None;
            for (dir, part) in [(&self.maildir.new, Part::New), (&self.maildir.cur, Part::Cur)] {
                dir.entries(|name, _| {
                    if file_name::base(name) == base {
                        found = Some(Found { name: name.into(), part });
                    }
                })?;
            }
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Opens the file of a message.
    pub fn open_file(&self, uid: u32) -> Result<(std::fs::File, rustix::fs::Stat)> {
        let entry = &self.entries[self.find(uid)?];
        let mut at = Found { name: entry.name.clone(), part: entry.part };
        for _ in 0..4 {
            if let Some(opened) = self.part(at.part).open_file(&at.name)? {
                self.small_enough(&at, &opened.1)?;
                return Ok(opened);
            }
            at = self.find_file(file_name::base(&entry.name))?.ok_or(StoreError::Expunged)?;
        }
        Err(StoreError::Expunged)
    }

    /// IMAP can name no larger size; somebody has put a file there that costs no room on the disk and much time to read.
    fn small_enough(&self, found: &Found, stat: &rustix::fs::Stat) -> Result<()> {
        let small = u64::try_from(stat.st_size).is_ok_and(|size| size <= MESSAGE_MAX);
        if small { Ok(()) } else { Err(self.part(found.part).unreadable(&found.name, &"larger than a message can be")) }
    }

    /// Opens a message for reading.
    pub fn open_content(&self, uid: u32) -> Result<MessageFile> {
        let (file, stat) = self.open_file(uid)?;
        Ok(MessageFile::new(file, u64::try_from(stat.st_size).unwrap_or(0)))
    }

    /// Date and sizes: from the file's name and state, reading the content only if no name says the size.
    pub fn facts_of(&self, uid: u32) -> Result<Facts> {
        let entry = &self.entries[self.find(uid)?];
        if let Some(facts) = entry.facts.get() {
            return Ok(*facts);
        }
        let (in_name, in_record) = (file_name::size(&entry.name, b'W'), field_number(&entry.fields, b'W'));
        // Without a size that somebody noted the file is opened in any case, and read.
        let noted = in_name.or(in_record).is_some();
        let stat = if noted { self.part(entry.part).stat(&entry.name)? } else { None };
        let (file, stat) = match stat {
            Some(stat) => (None, stat),
            None => self.open_file(uid).map(|(file, stat)| (Some(file), stat))?,
        };
        self.small_enough(&Found { name: entry.name.clone(), part: entry.part }, &stat)?;
        let physical = u64::try_from(stat.st_size).unwrap_or(0);
        // Sizes in a name are true only if the file still has the size that the name says.
        let in_name = in_name.filter(|_| file_name::size(&entry.name, b'S').is_none_or(|s| s == physical));
        let size = match in_name.or(in_record).filter(|&size| size >= physical) {
            Some(size) => size,
            None => {
                let file = file.map_or_else(|| self.open_file(uid).map(|(file, _)| file), Ok)?;
                virtual_size(file, physical).map_err(|error| self.part(entry.part).error(&entry.name, error))?
            }
        };
        let facts = Facts { internal_date: stat.st_mtime, size, physical };
        self.facts_found.fetch_add(1, Ordering::Relaxed);
        Ok(*entry.facts.get_or_init(|| facts))
    }
}

/// The stamps, if the directories can be trusted to show any change since they were read; moving out of `new/` ourselves is such a change.
fn settled(scan: &Scan) -> Option<(Stamp, Stamp)> {
    let begun = scan.begun.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    let begun = i128::try_from(begun).unwrap_or(i128::MAX);
    (is_calm(scan.new, begun) && is_calm(scan.cur, begun)).then_some((scan.new, scan.cur))
}

/// Whether a change after `begun` (nanoseconds of UNIX time) would show in the modification time.
fn is_calm(stamp: Stamp, begun: i128) -> bool {
    let wanted = if stamp.nanos == 0 { SETTLED_WHOLE_NANOS } else { SETTLED_NANOS };
    begun - (i128::from(stamp.seconds) * 1_000_000_000 + i128::from(stamp.nanos)) > wanted
}

impl Drop for Open {
    fn drop(&mut self) {
        // Flags and sizes of this session, for the next one.
        if self.uids.health == Some(Health::Sound) {
            self.save_index();
        }
    }
}

fn field_number(fields: &[u8], key: u8) -> Option<u64> {
    let value = fields.split(|&byte| byte == b' ').find_map(|field| field.strip_prefix(&[key]))?;
    std::str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_calm_when_a_later_change_must_show() {
        const SECOND: i128 = 1_000_000_000;
        let stamp = |seconds, nanos| Stamp { seconds, nanos, inode: 1, size: 4096 };
        assert!(!is_calm(stamp(100, 5), 100 * SECOND + 10_000_000));
        assert!(is_calm(stamp(100, 5), 100 * SECOND + 30_000_000));
        // A file system of whole seconds shows nothing more in the same second.
        assert!(!is_calm(stamp(100, 0), 101 * SECOND));
        assert!(is_calm(stamp(100, 0), 103 * SECOND));
        // The clock went back.
        assert!(!is_calm(stamp(100, 5), 90 * SECOND));
    }
}
