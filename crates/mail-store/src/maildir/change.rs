//! What a session does to its mailbox: flags, expunging, copying; and the trait over all of it.

use rustix::io::Errno;

use super::append::Placing;
use super::dotlock::DotLock;
use super::file_name;
use super::open::Open;
use super::scan::{Found, Part};
use super::uidlist::{Health, UidList};
use super::uids::{self, Refreshed};
use crate::content::MessageFile;
use crate::mailbox::{Access, Changes, Facts, Mailbox, Message, Placed};
use crate::{FlagChange, FlagMode, KeywordSet, MailboxName, Result, StoreError, Tell, Watch};

/// How often a file is looked for again that another program renames at the same time.
const CHASES: usize = 5;
/// A uidlist is rewritten when this many of its records are of messages that are gone, and more than a quarter of all.
const DEAD_RECORDS: usize = 100;

impl Mailbox for Open {
    fn name(&self) -> &MailboxName {
        &self.name
    }

    fn is_read_only(&self) -> bool {
        self.access == Access::ReadOnly
    }

    fn uid_validity(&self) -> u32 {
        self.uids.list.uid_validity
    }

    fn uid_next(&self) -> u32 {
        self.uids.next_uid
    }

    fn messages(&self) -> &[Message] {
        &self.messages
    }

    fn keywords(&self) -> &[String] {
        self.keywords.names()
    }

    fn sync(&mut self) -> Result<Changes> {
        self.synchronise()
    }

    fn open_message(&self, uid: u32) -> Result<MessageFile> {
        self.open_content(uid)
    }

    fn facts(&self, uid: u32) -> Result<Facts> {
        self.facts_of(uid)
    }

    fn own_uidl(&self, uid: u32) -> Result<Option<String>> {
        let entry = &self.entries[self.find(uid)?];
        let own = entry.fields.split(|&byte| byte == b' ').find_map(|field| field.strip_prefix(b"P"));
        let own = own.map(|own| if own.is_empty() { file_name::base(&entry.name) } else { own });
        let usable = own.filter(|uidl| (1..=70).contains(&uidl.len()) && uidl.iter().all(u8::is_ascii_graphic));
        Ok(usable.map(|uidl| String::from_utf8_lossy(uidl).into_owned()))
    }

    fn file_name(&self, uid: u32) -> Result<String> {
        let entry = &self.entries[self.find(uid)?];
        Ok(String::from_utf8_lossy(file_name::base(&entry.name)).into_owned())
    }

    fn keep_uidls(&mut self, uidls: &[(u32, String)]) -> Result<()> {
        self.writable()?;
        let lock = DotLock::take(&self.control, uids::NAME)?;
        let Refreshed::Whole(mut records) = self.uids.refresh(&self.control, true)? else { return Ok(()) };
        if self.uids.health != Some(Health::Sound) {
            // The next sync restores it.
            return Ok(());
        }
        for (uid, uidl) in uidls {
            let Ok(at) = records.binary_search_by_key(uid, |record| record.uid) else { continue };
            if records[at].field(b'P').is_none() {
                records[at].set_field(b'P', uidl.as_bytes());
                if let Ok(entry) = self.find(*uid) {
                    self.entries[entry].fields = records[at].fields.clone().into();
                }
            }
        }
        let list = UidList { records, next_uid: self.uids.next_uid, ..self.uids.list.clone() };
        self.uids.rewrite(&self.control, list, &lock)
    }

    fn uidl(&self, uid: u32) -> Result<String> {
        let own = self.own_uidl(uid)?;
        Ok(own.unwrap_or_else(|| format!("{uid:08x}{:08x}", self.uid_validity())))
    }

    fn store(&mut self, uids: &[u32], change: &FlagChange) -> Result<Vec<u32>> {
        self.writable()?;
        let named = self.keyword_set(change)?;
        let mut done = Vec::with_capacity(uids.len());
        for &uid in uids {
            let Ok(at) = self.find(uid) else { continue };
            let message = self.messages[at];
            let flags = change.apply(message.flags);
            let keywords = change.apply_keywords(message.keywords, named);
            let same = (flags, keywords) == (message.flags, message.keywords);
            if same || self.changing(|open| open.rename(at, |name| file_name::with_flags(name, flags, keywords)))? {
                if !same {
                    self.dirty.insert(uid);
                }
                self.messages[at] = Message { flags, keywords, ..message };
                done.push(uid);
            }
        }
        Ok(done)
    }

    fn expunge(&mut self, uids: &[u32]) -> Result<Vec<u32>> {
        self.writable()?;
        let mut gone = Vec::with_capacity(uids.len());
        let mut failure = None;
        for &uid in uids {
            let Ok(at) = self.find(uid) else { continue };
            match self.changing(|open| open.unlink(at)) {
                Ok(()) => gone.push(uid),
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        gone.sort_unstable();
        self.removed.extend(&gone);
        let mut keep = self
            .messages
            .iter()
            .map(|message| gone.binary_search(&message.uid).is_err())
            .collect::<Vec<_>>()
            .into_iter();
        self.entries.retain(|_| keep.next().unwrap_or(true));
        self.messages.retain(|message| gone.binary_search(&message.uid).is_err());
        match failure {
            Some(error) => Err(error),
            None => {
                self.compact()?;
                Ok(gone)
            }
        }
    }

    fn copy(&mut self, uids: &[u32], target: &MailboxName) -> Result<Placed> {
        let mut placing = Placing::new(&self.shared, target)?;
        for &uid in uids {
            let at = self.find(uid)?;
            let message = self.messages[at];
            let keywords = self.keywords.names_of(message.keywords);
            placing.copy(self, uid, message.flags, &keywords)?;
        }
        placing.commit()
    }

    fn cached(&self, uid: u32) -> Option<Vec<u8>> {
        self.with_cache(|cache| cache.get(uid)).flatten()
    }

    fn put_cached(&mut self, entries: &[(u32, Vec<u8>)]) -> Result<()> {
        self.with_cache(|cache| cache.put(entries, |uid| self.find(uid).is_ok())).unwrap_or(Ok(()))
    }

    fn watch(&self, tell: &Tell) -> Option<Watch> {
        let parts = [self.maildir.new.path(), self.maildir.cur.path(), self.control.path()];
        self.shared.watches()?.on(&parts, tell)
    }
}

impl Open {
    fn writable(&self) -> Result<()> {
        if self.access == Access::ReadOnly { Err(StoreError::ReadOnly) } else { Ok(()) }
    }

    fn keyword_set(&mut self, change: &FlagChange) -> Result<KeywordSet> {
        match change.mode {
            FlagMode::Remove => Ok(self.keywords.known(&change.keywords)),
            FlagMode::Add | FlagMode::Replace => self.keywords.set_of(&self.control, &change.keywords),
        }
    }

    /// Gives a message's file the name that `to` makes of its present one, in `cur/`; false if the message is gone.
    fn rename(&mut self, at: usize, to: impl Fn(&[u8]) -> Vec<u8>) -> Result<bool> {
        for _ in 0..CHASES {
            let entry = &self.entries[at];
            let name = to(&entry.name);
            let from = self.part(entry.part);
            match rustix::fs::renameat(from.fd(), &entry.name[..], self.maildir.cur.fd(), &name[..]) {
                Ok(()) => {
                    let entry = &mut self.entries[at];
                    (entry.name, entry.part) = (name.into(), Part::Cur);
                    return Ok(true);
                }
                Err(Errno::NOENT) => {
                    let base = file_name::base(&self.entries[at].name).to_vec();
                    let Some(Found { name, part }) = self.find_file(&base)? else { return Ok(false) };
                    let entry = &mut self.entries[at];
                    (entry.name, entry.part) = (name, part);
                }
                // One message cannot be marked; the others can.
                Err(Errno::NAMETOOLONG) => {
                    self.notice(&self.entries[at].name, "its name has no room for flags");
                    return Ok(false);
                }
                Err(error) => return Err(self.maildir.cur.error(&name, error)),
            }
        }
        Err(StoreError::Locked)
    }

    /// Removes a message's file, under whatever flags it has now. A file that is gone already is fine.
    fn unlink(&self, at: usize) -> Result<()> {
        let entry = &self.entries[at];
        let mut found = Found { name: entry.name.clone(), part: entry.part };
        for _ in 0..CHASES {
            if self.part(found.part).unlink(&found.name)? {
                return Ok(());
            }
            match self.find_file(file_name::base(&entry.name))? {
                Some(again) => found = again,
                None => return Ok(()),
            }
        }
        Err(StoreError::Locked)
    }

    /// Rewrites the uidlist when many of its records are dead.
    fn compact(&mut self) -> Result<()> {
        let dead = self.uids.records.saturating_sub(self.messages.len());
        if dead < DEAD_RECORDS || dead * 4 < self.uids.records {
            return Ok(());
        }
        let lock = DotLock::take(&self.control, uids::NAME)?;
        let Refreshed::Whole(mut records) = self.uids.refresh(&self.control, true)? else { return Ok(()) };
        if self.uids.health != Some(Health::Sound) {
            // The next sync restores it.
            return Ok(());
        }
        // Only what this session saw and expunged, or never saw and is not there; new mail of others keeps its records.
        let mut present = std::collections::HashSet::new();
        for dir in [&self.maildir.new, &self.maildir.cur] {
            dir.entries(|name, _| {
                present.insert(file_name::base(name).to_vec());
            })?;
        }
        records.retain(|record| present.contains(&record.base) || self.find(record.uid).is_ok());
        let list = UidList { records, next_uid: self.uids.next_uid, ..self.uids.list.clone() };
        self.uids.rewrite(&self.control, list, &lock)
    }
}
