//! An open mailbox: its snapshot, and how it follows the directories and the uidlist.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use super::account::Shared;
use super::deliver::Maildir;
use super::dir::{Dir, Stamp};
use super::dotlock::DotLock;
use super::file_name;
use super::keywords::Keywords;
use super::scan::{Found, Part, Scan};
use super::uidlist::{Health, Record, UidList};
use super::uids::{self, Refreshed, Uids};
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

/// A directory that was modified this recently may change again without a new modification time.
const SETTLED_NANOS: i128 = 50_000_000;

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
            noticed: Mutex::default(),
        };
        open.synchronise()?;
        Ok(open)
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
        let now = (self.maildir.new.stamp()?, self.maildir.cur.stamp()?);
        if self.seen == Some(now) && Uids::stamp_now(&self.control)? == self.uids.stamp() && self.uids.health.is_some()
        {
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
        let old_validity = self.uids.list.uid_validity;
        let records = self.records_for(&scan)?;
        let reset = old_validity != 0 && old_validity != self.uids.list.uid_validity;
        let mut changes = self.replace_snapshot(scan, records, &recent);
        changes.keywords = keywords;
        changes.uid_validity = reset;
        Ok(changes)
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

    /// The uidlist's records for the files of a scan, UIDs given to those that have none.
    fn records_for(&mut self, scan: &Scan) -> Result<Vec<Record>> {
        let known = self.refresh_records(false)?;
        let sound = self.uids.health == Some(Health::Sound);
        let missing = |records: &[Record]| {
            let known: HashSet<&[u8]> = records.iter().map(|record| &record.base[..]).collect();
            scan.files.keys().any(|base| !known.contains(&base[..]))
        };
        if sound && !missing(&known) {
            return Ok(known);
        }
        let lock = DotLock::take(&self.control, uids::NAME)?;
        let mut records = self.refresh_records(true)?;
        if self.uids.health != Some(Health::Sound) {
            self.restore(&mut records, scan, &lock)?;
        }
        let known: HashSet<&[u8]> = records.iter().map(|record| &record.base[..]).collect();
        let mut unknown: Vec<&[u8]> =
            scan.files.keys().map(|base| &base[..]).filter(|base| !known.contains(base)).collect();
        unknown.sort_by(|a, b| file_name::delivery_order(a, b));
        let given = self.uids.assign(&self.control, &unknown, &lock)?;
        let new =
            given.into_iter().zip(unknown).map(|(uid, base)| Record { uid, fields: Vec::new(), base: base.to_vec() });
        let new: Vec<Record> = new.collect();
        records.extend(new);
        Ok(records)
    }

    /// Reads the uidlist, or what was appended to it, and gives all records.
    fn refresh_records(&mut self, whole: bool) -> Result<Vec<Record>> {
        let before = self.snapshot_next;
        let refreshed = self.uids.refresh(&self.control, whole)?;
        let known = |open: &Self| -> Vec<Record> {
            let pairs = open.messages.iter().zip(&open.entries);
            let record = |(message, entry): (&Message, &Entry)| Record {
                uid: message.uid,
                fields: entry.fields.to_vec(),
                base: file_name::base(&entry.name).to_vec(),
            };
            pairs.map(record).collect()
        };
        Ok(match refreshed {
            Refreshed::Same => known(self),
            Refreshed::Appended(new) => {
                let mut records = known(self);
                records.extend(new);
                last_of_each_base(records)
            }
            Refreshed::Whole(records) => {
                // A file that comes back after this session saw it vanish must not come back under its old UID (RFC 3501 2.3.1.1).
                let mut records = last_of_each_base(records);
                if before > 0 {
                    records.retain(|record| record.uid >= before || self.position_of(record.uid).is_some());
                }
                records
            }
            Refreshed::Missing => Vec::new(),
        })
    }

    fn position_of(&self, uid: u32) -> Option<usize> {
        self.messages.binary_search_by_key(&uid, |message| message.uid).ok()
    }

    /// Makes a sound uidlist from what is left of it and from what we know ourselves.
    fn restore(&mut self, records: &mut Vec<Record>, scan: &Scan, lock: &DotLock) -> Result<()> {
        let list = match self.uids.health {
            // Nobody was told of a torn last line.
            Some(Health::TornTail) => UidList { next_uid: self.uids.next_uid, ..self.uids.list.clone() },
            Some(_) => {
                self.notice(uids::NAME.as_bytes(), "is damaged; every message gets a new UID");
                records.clear();
                uids::fresh_list(&self.shared.control_root()?)?
            }
            None => {
                records.clear();
                uids::fresh_list(&self.shared.control_root()?)?
            }
        };
        records.retain(|record| scan.files.contains_key(&record.base[..]));
        self.uids.rewrite(&self.control, UidList { records: records.clone(), ..list }, lock)
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
            let facts = before.map_or_else(OnceLock::new, |(_, entry)| entry.facts);
            self.messages.push(message);
            self.entries.push(Entry { name: found.name, part: found.part, fields: record.fields.into(), facts });
        }
        changes.expunged.extend(old.map(|(message, _)| message.uid));
        self.snapshot_next = self.uids.next_uid;
        self.seen = self.settled(scan.new, scan.cur);
        changes
    }

    /// The stamps, if the directories can be trusted to show any later change; moving out of `new/` ourselves is such a change.
    fn settled(&self, new: Stamp, cur: Stamp) -> Option<(Stamp, Stamp)> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        let now = i128::try_from(now).unwrap_or(i128::MAX);
        let calm =
            |stamp: Stamp| now - (i128::from(stamp.seconds) * 1_000_000_000 + i128::from(stamp.nanos)) > SETTLED_NANOS;
        (calm(new) && calm(cur)).then_some((new, cur))
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
                return Ok(opened);
            }
            at = self.find_file(file_name::base(&entry.name))?.ok_or(StoreError::Expunged)?;
        }
        Err(StoreError::Expunged)
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
        let stat = self.part(entry.part).stat(&entry.name)?;
        let (file, stat) = match stat {
            Some(stat) => (None, stat),
            None => self.open_file(uid).map(|(file, stat)| (Some(file), stat))?,
        };
        let physical = u64::try_from(stat.st_size).unwrap_or(0);
        // Sizes in a name are true only if the file still has the size that the name says.
        let named = file_name::size(&entry.name, b'W')
            .filter(|_| file_name::size(&entry.name, b'S').is_none_or(|s| s == physical));
        let size = match named.or_else(|| field_number(&entry.fields, b'W')).filter(|&size| size >= physical) {
            Some(size) => size,
            None => {
                let file = file.map_or_else(|| self.open_file(uid).map(|(file, _)| file), Ok)?;
                virtual_size(file).map_err(|error| self.part(entry.part).error(&entry.name, error))?
            }
        };
        let facts = Facts { internal_date: stat.st_mtime, size, physical };
        Ok(*entry.facts.get_or_init(|| facts))
    }
}

fn field_number(fields: &[u8], key: u8) -> Option<u64> {
    let value = fields.split(|&byte| byte == b' ').find_map(|field| field.strip_prefix(&[key]))?;
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// A base name that stands twice belongs to the later record, as Dovecot reads it.
fn last_of_each_base(mut records: Vec<Record>) -> Vec<Record> {
    let mut last: HashMap<&[u8], u32> = HashMap::with_capacity(records.len());
    for record in &records {
        last.insert(&record.base, record.uid);
    }
    if last.len() == records.len() {
        return records;
    }
    let keep: HashSet<u32> = last.into_values().collect();
    records.retain(|record| keep.contains(&record.uid));
    records
}
