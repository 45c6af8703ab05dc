//! What lies in `new/` and `cur/`, found without trusting any of it.

use std::collections::HashMap;
use std::time::SystemTime;

use rustix::fs::FileType;

use super::deliver::Maildir;
use super::dir::{Dir, Stamp};
use super::file_name;
use crate::Result;

/// In which directory a message lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// `new/`: no session has seen it.
    New,
    /// `cur/`.
    Cur,
}

/// A file of a scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its whole name.
    pub name: Box<[u8]>,
    /// Where it lies.
    pub part: Part,
}

/// The files of a Maildir by base name.
#[derive(Debug)]
pub struct Scan {
    /// One file for each base name.
    pub files: HashMap<Box<[u8]>, Found>,
    /// Further files with a base name that is taken.
    pub duplicates: Vec<Found>,
    /// Names that are no message, with the reason.
    pub strange: Vec<(Vec<u8>, &'static str)>,
    /// When reading began.
    pub begun: SystemTime,
    /// The state of `new/` before it was read.
    pub new: Stamp,
    /// The state of `cur/` before it was read.
    pub cur: Stamp,
}

impl Scan {
    /// Reads both directories.
    pub fn of(maildir: &Maildir) -> Result<Self> {
        let (begun, new, cur) = (SystemTime::now(), maildir.new.stamp()?, maildir.cur.stamp()?);
        let mut scan = Self { files: HashMap::new(), duplicates: Vec::new(), strange: Vec::new(), begun, new, cur };
        scan.read(&maildir.new, Part::New)?;
        scan.read(&maildir.cur, Part::Cur)?;
        Ok(scan)
    }

    fn read(&mut self, dir: &Dir, part: Part) -> Result<()> {
        let mut unknown = Vec::new();
        dir.entries(|name, kind| match kind {
            FileType::Unknown => unknown.push(name.to_vec()),
            FileType::RegularFile => self.take(name, part),
            _ if name.starts_with(b".") => {}
            _ => self.strange.push((name.to_vec(), "not a regular file")),
        })?;
        for name in unknown {
            if let Some(stat) = dir.stat(&name)? {
                match FileType::from_raw_mode(stat.st_mode) {
                    FileType::RegularFile => self.take(&name, part),
                    _ => self.strange.push((name, "not a regular file")),
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, name: &[u8], part: Part) {
        if name.starts_with(b".") {
            return;
        }
        let base = file_name::base(name);
        if base.is_empty() || name.contains(&b'\n') {
            self.strange.push((name.to_vec(), "not a name for a message"));
            return;
        }
        let found = Found { name: name.into(), part };
        match self.files.entry(base.into()) {
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(found);
            }
            // While we read, the file was renamed from new/ to cur/ or got other flags: what was read last is true. Or there really are two.
            std::collections::hash_map::Entry::Occupied(mut entry) => {
                let earlier = std::mem::replace(entry.get_mut(), found);
                self.duplicates.push(earlier);
            }
        }
    }

    /// Adds what a second scan found: a file renamed during the first may have been missed.
    pub fn merge(&mut self, second: Self) {
        for (base, found) in second.files {
            self.files.insert(base, found);
        }
        self.duplicates = second.duplicates;
        (self.begun, self.new, self.cur) = (second.begun, second.new, second.cur);
    }
}
