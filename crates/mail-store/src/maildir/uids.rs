//! `dovecot-uidlist` as a file: read when it changed, appended to and rewritten under Dovecot's dot-lock.

use std::io::Write as _;
use std::os::unix::fs::FileExt as _;

use super::dir::{Dir, Stamp};
use super::dotlock::DotLock;
use super::uidlist::{Health, Record, UidList};
use super::uidvalidity;
use crate::{Result, StoreError};

/// The name of the file.
pub const NAME: &str = "dovecot-uidlist";
/// No sound uidlist is larger (2 million messages).
const FILE_MAX: u64 = 256 << 20;

/// What is known of a uidlist file, and whether it is still so.
#[derive(Debug, Default)]
pub struct Uids {
    /// The list as last read; without records once they were taken.
    pub list: UidList,
    /// Its state.
    pub health: Option<Health>,
    /// The UID of the next message, as far as known.
    pub next_uid: u32,
    /// Records in the file, those of vanished messages included.
    pub records: usize,
    stamp: Stamp,
}

/// What a refresh found.
#[derive(Debug, PartialEq, Eq)]
pub enum Refreshed {
    /// Nothing changed.
    Same,
    /// Lines were appended: these records.
    Appended(Vec<Record>),
    /// Another file, or the first reading: all records.
    Whole(Vec<Record>),
    /// There is no such file.
    Missing,
}

impl Uids {
    /// The state of the file when it was last read.
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// The state of the file now.
    pub fn stamp_now(control: &Dir) -> Result<Stamp> {
        Ok(control.stat(NAME.as_bytes())?.as_ref().map_or_else(Stamp::default, Stamp::from))
    }

    /// Continues from an index that knew the file in this state.
    pub fn known(list: UidList, next_uid: u32, records: usize, stamp: Stamp) -> Self {
        Self { list, health: Some(Health::Sound), next_uid, records, stamp }
    }

    /// Reads what changed. With `whole` everything is read, for a writer who needs to see all records.
    pub fn refresh(&mut self, control: &Dir, whole: bool) -> Result<Refreshed> {
        if control.is_strange(NAME.as_bytes(), FILE_MAX)? {
            *self = Self { health: Some(Health::Damaged), stamp: Self::stamp_now(control)?, ..Self::default() };
            return Ok(Refreshed::Whole(Vec::new()));
        }
        let Some((file, stat)) = control.open_file(NAME.as_bytes())? else {
            *self = Self::default();
            return Ok(Refreshed::Missing);
        };
        let stamp = Stamp::from(&stat);
        if stamp == self.stamp && !whole {
            return Ok(Refreshed::Same);
        }
        let grown =
            stamp.inode == self.stamp.inode && stamp.size > self.stamp.size && self.health == Some(Health::Sound);
        if grown && !whole {
            let mut tail = vec![0; usize::try_from(stamp.size - self.stamp.size).map_err(|_| StoreError::Locked)?];
            file.read_exact_at(&mut tail, self.stamp.size).map_err(|error| control.error(NAME.as_bytes(), error))?;
            let mut added = UidList { next_uid: self.next_uid, ..UidList::default() };
            // Only whole lines, each above what is known; anything else means reading all of it again.
            if tail.ends_with(b"\n")
                && added.extend(&tail)
                && added.records.first().is_some_and(|r| r.uid >= self.next_uid)
            {
                self.next_uid = added.next();
                self.records += added.records.len();
                self.stamp = stamp;
                return Ok(Refreshed::Appended(added.records));
            }
        }
        drop(file);
        let Some((text, stamp)) = control.read_file(NAME.as_bytes(), FILE_MAX)? else {
            *self = Self::default();
            return Ok(Refreshed::Missing);
        };
        let (mut list, health) = UidList::parse(&text);
        let records = std::mem::take(&mut list.records);
        let next_uid = list.next_uid.max(records.last().map_or(1, |last| last.uid.saturating_add(1)));
        *self = Self { list, health: Some(health), next_uid, records: records.len(), stamp };
        Ok(Refreshed::Whole(records))
    }

    /// Gives UIDs to files, in this order, and makes them durable before it returns. The caller holds the lock and has refreshed.
    pub fn assign(&mut self, control: &Dir, bases: &[&[u8]], _lock: &DotLock) -> Result<Vec<u32>> {
        let first = self.next_uid;
        let count = u32::try_from(bases.len()).map_err(|_| StoreError::NoSpace)?;
        let end = first.checked_add(count).filter(|&end| end < u32::MAX);
        let end = end.ok_or_else(|| StoreError::Unsupported("no UID is left in this mailbox".to_owned()))?;
        let mut lines = Vec::with_capacity(bases.len() * 80);
        for (uid, base) in (first..).zip(bases) {
            Record { uid, fields: Vec::new(), base: base.to_vec() }.write(&mut lines);
        }
        let error = |error: std::io::Error| control.error(NAME.as_bytes(), error);
        let mut file = control.append_file(NAME.as_bytes())?.ok_or(StoreError::Locked)?;
        let before = file.metadata().map_err(error)?.len();
        let written = file.write_all(&lines).and_then(|()| rustix::fs::fdatasync(&file).map_err(Into::into));
        if let Err(failure) = written {
            // Half a line would make the next reader think of damage; nobody saw these UIDs.
            let _ = rustix::fs::ftruncate(&file, before);
            return Err(error(failure));
        }
        self.stamp = Self::stamp_now(control)?;
        self.next_uid = end;
        self.records += bases.len();
        Ok((first..end).collect())
    }

    /// Writes the whole list anew: temporary file, sync, rename, directory sync. The caller holds the lock.
    pub fn rewrite(&mut self, control: &Dir, list: UidList, _lock: &DotLock) -> Result<()> {
        control.replace_file(NAME.as_bytes(), &list.to_text(), true)?;
        let (next_uid, records) = (list.next(), list.records.len());
        let stamp = Self::stamp_now(control)?;
        *self = Self {
            list: UidList { records: Vec::new(), ..list },
            health: Some(Health::Sound),
            next_uid,
            records,
            stamp,
        };
        Ok(())
    }
}

/// An empty list with a UIDVALIDITY of its own and a random GUID.
pub fn fresh_list(control_root: &Dir) -> Result<UidList> {
    Ok(UidList {
        uid_validity: uidvalidity::next(control_root)?,
        next_uid: 1,
        header_fields: format!("G{}", guid()?).into_bytes(),
        records: Vec::new(),
    })
}

/// 128 random bits in hexadecimal digits, as Dovecot names a mailbox.
fn guid() -> Result<String> {
    let mut bits = [0u8; 16];
    rustix::rand::getrandom(&mut bits, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| StoreError::io("random numbers", error))?;
    Ok(bits.iter().map(|octet| format!("{octet:02x}")).collect())
}
