//! How an open mailbox finds the UIDs of its files: from the uidlist, from what it gives to new files, and from its own knowledge when the
//! uidlist is damaged or lost.

use std::collections::{HashMap, HashSet};

use super::dotlock::DotLock;
use super::file_name;
use super::open::{Entry, Open};
use super::scan::Scan;
use super::uidlist::{Health, Record, UidList};
use super::uids::{self, Refreshed};
use crate::Result;
use crate::mailbox::Message;

impl Open {
    /// The uidlist's records for the files of a scan, UIDs given to those that have none.
    pub fn records_for(&mut self, scan: &Scan) -> Result<Vec<Record>> {
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
        Ok(match refreshed {
            Refreshed::Same => self.known_records(),
            Refreshed::Appended(new) => {
                let mut records = self.known_records();
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

    /// Makes a sound uidlist from what is left of it and from what the index or this session knows. A torn last line was never shown to
    /// anybody; a damaged or lost list is complete with our own knowledge; without that, UIDs could come back, so UIDVALIDITY changes.
    fn restore(&mut self, records: &mut Vec<Record>, scan: &Scan, lock: &DotLock) -> Result<()> {
        let ours = self.head.clone();
        let theirs = UidList { next_uid: self.uids.next_uid, ..self.uids.list.clone() };
        let complete = ours.uid_validity != 0;
        let list = match self.uids.health {
            Some(Health::Sound) => theirs,
            Some(_) if complete && theirs.uid_validity == ours.uid_validity => {
                self.notice(uids::NAME.as_bytes(), "is damaged; restored from the index");
                self.add_known_records(records);
                let fields = if theirs.header_fields.is_empty() { ours.header_fields } else { theirs.header_fields };
                UidList { next_uid: ours.next_uid.max(theirs.next_uid), header_fields: fields, ..theirs }
            }
            Some(Health::TornTail) => theirs,
            None if complete => {
                self.notice(uids::NAME.as_bytes(), "is lost; restored from the index");
                records.clear();
                self.add_known_records(records);
                ours
            }
            Some(Health::Damaged) if complete && theirs.uid_validity == 0 => {
                self.notice(uids::NAME.as_bytes(), "is unreadable; restored from the index");
                records.clear();
                self.add_known_records(records);
                ours
            }
            health => {
                if health.is_some() {
                    self.notice(
                        uids::NAME.as_bytes(),
                        "is damaged and cannot be restored; every message gets a new UID",
                    );
                }
                records.clear();
                uids::fresh_list(&self.shared.control_root()?)?
            }
        };
        records.retain(|record| scan.files.contains_key(&record.base[..]));
        self.uids.rewrite(&self.control, UidList { records: records.clone(), ..list }, lock)
    }

    /// Adds the records of our snapshot for files that have none.
    fn add_known_records(&self, records: &mut Vec<Record>) {
        let present: HashSet<u32> = records.iter().map(|record| record.uid).collect();
        let bases: HashSet<Vec<u8>> = records.iter().map(|record| record.base.clone()).collect();
        let ours = self.known_records().into_iter();
        records.extend(ours.filter(|record| !present.contains(&record.uid) && !bases.contains(&record.base)));
        records.sort_by_key(|record| record.uid);
    }

    /// The snapshot as records of a uidlist.
    fn known_records(&self) -> Vec<Record> {
        let record = |(message, entry): (&Message, &Entry)| Record {
            uid: message.uid,
            fields: entry.fields.to_vec(),
            base: file_name::base(&entry.name).to_vec(),
        };
        self.messages.iter().zip(&self.entries).map(record).collect()
    }
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
