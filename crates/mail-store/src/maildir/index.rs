//! `postrider.index`: what a mailbox looked like when a session last knew it. A cache, and what restores a lost uidlist.
//!
//! The file is a magic number and entries, each with length and checksum: a snapshot first, changes after it. It is appended to while it is as
//! its writer knows it, and replaced as a whole otherwise. Nothing in it is trusted further than its checksum; deleting it costs time only.

use std::io::Write as _;

use super::dir::{Dir, Stamp};
use super::scan::Part;
use crate::Result;
use crate::mailbox::Facts;

/// The file's name.
const NAME: &[u8] = b"postrider.index";
const MAGIC: &[u8; 8] = b"PRINDEX1";
/// No index is larger (2 million messages).
const FILE_MAX: u64 = 512 << 20;
/// Changes are folded into a new snapshot when they outgrow it by this much.
const SLACK: u64 = 256 * 1024;
const SNAPSHOT: u8 = 0;
const CHANGE: u8 = 1;

/// One message as the index keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// The UID.
    pub uid: u32,
    /// Where its file was.
    pub part: Part,
    /// The file's name.
    pub name: Box<[u8]>,
    /// The fields of its uidlist record.
    pub fields: Box<[u8]>,
    /// Date and sizes, where they were asked for.
    pub facts: Option<Facts>,
}

/// States of `new/`, `cur/` and the uidlist at which the messages are exactly these.
pub type Stamps = [Stamp; 3];

/// What belongs to the mailbox as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Head {
    /// UIDVALIDITY.
    pub uid_validity: u32,
    /// The next UID.
    pub next_uid: u32,
    /// Records in the uidlist.
    pub records: u32,
    /// Header fields of the uidlist.
    pub header_fields: Vec<u8>,
    /// The states, where nothing was under way when they were taken.
    pub stamps: Option<Stamps>,
}

/// An index that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The mailbox.
    pub head: Head,
    /// The messages in rising order of UIDs.
    pub messages: Vec<Saved>,
}

/// The file, and how far we know it.
#[derive(Debug)]
pub struct IndexFile {
    dir: Dir,
    /// Inode and length at which the file says what our session knows.
    known: Option<(u64, u64)>,
    /// Octets of its snapshot.
    snapshot: u64,
}

impl IndexFile {
    /// The index in a directory; nothing is read.
    pub fn new(dir: Dir) -> Self {
        Self { dir, known: None, snapshot: 0 }
    }

    /// Reads the index. None if it is missing or damaged anywhere: half of it would miss UIDs that were given.
    pub fn load(&mut self) -> Option<Loaded> {
        let (text, stamp) = self.dir.read_file(NAME, FILE_MAX).ok().flatten()?;
        let (loaded, snapshot) = parse(&text)?;
        self.known = Some((stamp.inode, stamp.size));
        self.snapshot = snapshot;
        Some(loaded)
    }

    /// Writes what changed, or everything where the file is not as we know it.
    pub fn save<'a>(
        &mut self,
        head: &Head,
        removed: &[u32],
        changed: impl Iterator<Item = Saved>,
        all: impl Iterator<Item = Saved> + 'a,
        whole: bool,
    ) -> Result<()> {
        if !whole && self.append(&entry(CHANGE, head, removed, changed))? {
            return Ok(());
        }
        let mut text = MAGIC.to_vec();
        text.extend(entry(SNAPSHOT, head, &[], all));
        self.dir.replace_file(NAME, &text, false)?;
        let stat = self.dir.stat(NAME)?;
        self.known = stat.map(|stat| (stat.st_ino, text.len() as u64));
        self.snapshot = text.len() as u64;
        Ok(())
    }

    /// Appends an entry; false if the file is not as we know it, or has grown too much.
    fn append(&mut self, entry: &[u8]) -> Result<bool> {
        let Some((inode, length)) = self.known else { return Ok(false) };
        if length + entry.len() as u64 > 2 * self.snapshot + SLACK {
            return Ok(false);
        }
        let Some(mut file) = self.dir.append_file(NAME)? else { return Ok(false) };
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)
            .map_err(|error| self.dir.error(NAME, error))?;
        let now = Stamp::from(&rustix::fs::fstat(&file).map_err(|error| self.dir.error(NAME, error))?);
        if (now.inode, now.size) != (inode, length) {
            return Ok(false);
        }
        file.write_all(entry).map_err(|error| self.dir.error(NAME, error))?;
        self.known = Some((inode, length + entry.len() as u64));
        Ok(true)
    }
}

/// Writes numbers and octets.
#[derive(Default)]
struct Out(Vec<u8>);

impl Out {
    fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn octets(&mut self, octets: &[u8]) {
        // File names and record fields are far below 4 GiB.
        self.u32(u32::try_from(octets.len()).unwrap_or(0));
        self.0.extend_from_slice(octets);
    }

    fn stamp(&mut self, stamp: Stamp) {
        self.u64(stamp.seconds.cast_unsigned());
        self.u32(stamp.nanos);
        self.u64(stamp.inode);
        self.u64(stamp.size);
    }

    fn saved(&mut self, saved: &Saved) {
        self.u32(saved.uid);
        self.0.push(u8::from(saved.part == Part::Cur) | u8::from(saved.facts.is_some()) << 1);
        if let Some(facts) = saved.facts {
            self.u64(facts.internal_date.cast_unsigned());
            self.u64(facts.size);
            self.u64(facts.physical);
        }
        self.octets(&saved.name);
        self.octets(&saved.fields);
    }
}

fn entry(kind: u8, head: &Head, removed: &[u32], messages: impl Iterator<Item = Saved>) -> Vec<u8> {
    let mut out = Out(vec![0; 8]);
    out.0.push(kind);
    out.u32(head.uid_validity);
    out.u32(head.next_uid);
    out.u32(head.records);
    out.octets(&head.header_fields);
    out.0.push(u8::from(head.stamps.is_some()));
    head.stamps.into_iter().flatten().for_each(|stamp| out.stamp(stamp));
    out.u32(u32::try_from(removed.len()).unwrap_or(u32::MAX));
    removed.iter().for_each(|&uid| out.u32(uid));
    messages.for_each(|message| out.saved(&message));
    let length = u32::try_from(out.0.len() - 8).unwrap_or(0);
    let checksum = crc32c::crc32c(&out.0[8..]);
    out.0[..4].copy_from_slice(&length.to_le_bytes());
    out.0[4..8].copy_from_slice(&checksum.to_le_bytes());
    out.0
}

/// Reads numbers and octets; none where they end too early.
struct In<'a>(&'a [u8]);

impl<'a> In<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|octets| octets[0])
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }

    fn octets(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()?;
        self.take(usize::try_from(length).ok()?)
    }

    fn stamp(&mut self) -> Option<Stamp> {
        let (seconds, nanos) = (self.u64()?.cast_signed(), self.u32()?);
        Some(Stamp { seconds, nanos, inode: self.u64()?, size: self.u64()? })
    }

    fn saved(&mut self) -> Option<Saved> {
        let (uid, bits) = (self.u32()?, self.u8()?);
        let facts = if bits & 2 != 0 {
            let internal_date = self.u64()?.cast_signed();
            Some(Facts { internal_date, size: self.u64()?, physical: self.u64()? })
        } else {
            None
        };
        let part = if bits & 1 != 0 { Part::Cur } else { Part::New };
        Some(Saved { uid, part, name: self.octets()?.into(), fields: self.octets()?.into(), facts })
    }
}

/// Reads a whole index, and the length of its snapshot.
fn parse(text: &[u8]) -> Option<(Loaded, u64)> {
    let mut input = In(text.strip_prefix(MAGIC)?);
    let mut loaded = Loaded { head: Head::default(), messages: Vec::new() };
    let mut snapshot = 0;
    while !input.0.is_empty() {
        let (length, checksum) = (input.u32()?, input.u32()?);
        let payload = input.take(usize::try_from(length).ok()?)?;
        if crc32c::crc32c(payload) != checksum {
            return None;
        }
        apply(&mut loaded, In(payload), snapshot == 0)?;
        if snapshot == 0 {
            snapshot = (text.len() - input.0.len()) as u64;
        }
    }
    (snapshot > 0).then_some((loaded, snapshot))
}

/// What an index says when it is read, written whole and read again: its UIDs both times, for who checks decoders. None if it is damaged.
#[must_use]
pub fn reread(text: &[u8]) -> Option<[Vec<u32>; 2]> {
    let uids = |loaded: &Loaded| loaded.messages.iter().map(|message| message.uid).collect();
    let (first, _) = parse(text)?;
    let mut again = MAGIC.to_vec();
    again.extend(entry(SNAPSHOT, &first.head, &[], first.messages.iter().cloned()));
    let second = parse(&again).map(|(second, _)| second).filter(|second| *second == first);
    Some([uids(&first), second.as_ref().map(uids).unwrap_or_default()])
}

fn apply(loaded: &mut Loaded, mut input: In<'_>, first: bool) -> Option<()> {
    let kind = input.u8()?;
    if (kind == SNAPSHOT) != first {
        return None;
    }
    let (uid_validity, next_uid, records) = (input.u32()?, input.u32()?, input.u32()?);
    let header_fields = input.octets()?.to_vec();
    let stamps = if input.u8()? == 1 { Some([input.stamp()?, input.stamp()?, input.stamp()?]) } else { None };
    loaded.head = Head { uid_validity, next_uid, records, header_fields, stamps };
    let count = input.u32()?;
    let mut removed = Vec::new();
    for _ in 0..count {
        removed.push(input.u32()?);
    }
    if !removed.is_empty() {
        removed.sort_unstable();
        loaded.messages.retain(|message| removed.binary_search(&message.uid).is_err());
    }
    let mut in_order = true;
    while !input.0.is_empty() {
        let saved = input.saved()?;
        in_order &= loaded.messages.last().is_none_or(|last| last.uid < saved.uid);
        loaded.messages.push(saved);
    }
    if !in_order {
        last_of_each(&mut loaded.messages);
    }
    Some(())
}

/// Sorts by UID; of several with the same the last counts.
fn last_of_each(messages: &mut Vec<Saved>) {
    messages.sort_by_key(|message| message.uid);
    messages.dedup_by(|later, earlier| {
        let same = later.uid == earlier.uid;
        if same {
            std::mem::swap(later, earlier);
        }
        same
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn saved(uid: u32, name: &[u8]) -> Saved {
        let facts = uid.is_multiple_of(2).then_some(Facts { internal_date: -5, size: 10, physical: 9 });
        let part = if uid.is_multiple_of(3) { Part::New } else { Part::Cur };
        Saved { uid, part, name: name.into(), fields: b"P1"[..].into(), facts }
    }

    fn head(next_uid: u32) -> Head {
        let stamp = Stamp { seconds: -1, nanos: 2, inode: 3, size: 4 };
        Head { uid_validity: 7, next_uid, records: 9, header_fields: b"Gx".to_vec(), stamps: Some([stamp; 3]) }
    }

    fn index() -> (tempfile::TempDir, IndexFile) {
        let temporary = tempfile::tempdir().expect("tempdir");
        let file = IndexFile::new(Dir::open(temporary.path()).expect("open"));
        (temporary, file)
    }

    #[test]
    fn changes_are_appended_and_read_back() {
        let (temporary, mut one) = index();
        let all: Vec<Saved> = (1..6).map(|uid| saved(uid, b"a")).collect();
        one.save(&head(6), &[], std::iter::empty(), all.into_iter(), true).expect("saved");
        let long = std::fs::metadata(temporary.path().join("postrider.index")).expect("there").len();
        let changed = [saved(3, b"renamed"), saved(6, b"new")];
        one.save(&head(7), &[2], changed.into_iter(), std::iter::empty(), false).expect("saved");
        assert!(std::fs::metadata(temporary.path().join("postrider.index")).expect("there").len() < 2 * long);
        let mut two = IndexFile::new(Dir::open(temporary.path()).expect("open"));
        let loaded = two.load().expect("sound");
        assert_eq!(loaded.head, head(7));
        let names: Vec<(u32, &[u8])> = loaded.messages.iter().map(|m| (m.uid, &m.name[..])).collect();
        assert_eq!(names, [(1, &b"a"[..]), (3, b"renamed"), (4, b"a"), (5, b"a"), (6, b"new")]);
        assert_eq!(loaded.messages[1], saved(3, b"renamed"));
        // The first writer does not know of the second one's change, and replaces the whole.
        two.save(&head(8), &[1], std::iter::empty(), std::iter::empty(), false).expect("saved");
        one.save(&head(9), &[], std::iter::empty(), [saved(1, b"b")].into_iter(), false).expect("saved");
        assert_eq!(two.load().expect("sound").messages, [saved(1, b"b")]);
    }

    #[test]
    fn a_damaged_index_is_no_index() {
        let (temporary, mut file) = index();
        file.save(&head(6), &[], std::iter::empty(), [saved(1, b"a")].into_iter(), true).expect("saved");
        let path = temporary.path().join("postrider.index");
        let text = std::fs::read(&path).expect("read");
        for cut in 0..text.len() {
            std::fs::write(&path, &text[..cut]).expect("write");
            assert!(file.load().is_none(), "{cut}");
            let mut flipped = text.clone();
            flipped[cut] ^= 1;
            std::fs::write(&path, &flipped).expect("write");
            assert!(file.load().is_none(), "{cut}");
        }
    }

    proptest! {
        #[test]
        fn any_octets_are_read_without_panic(text: Vec<u8>, sums in any::<bool>()) {
            let mut file = MAGIC.to_vec();
            if sums {
                file.extend((text.len() as u32).to_le_bytes());
                file.extend(crc32c::crc32c(&text).to_le_bytes());
            }
            file.extend(&text);
            let _ = parse(&file);
        }
    }
}
