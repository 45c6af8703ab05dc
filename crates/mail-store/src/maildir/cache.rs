//! `postrider.index.cache`: octets that a session keeps for messages (parsed envelopes and structures), appended, each with its checksum.
//!
//! A cache in the full sense: any entry may be lost, the file may be deleted at any time.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, Write as _};
use std::os::unix::fs::FileExt as _;

use super::dir::Dir;
use crate::Result;

const NAME: &[u8] = b"postrider.index.cache";
const MAGIC: &[u8; 8] = b"PRCACHE1";
/// The file's head: magic and UIDVALIDITY.
const HEAD: u64 = 12;
/// Before each entry: UID, length, checksum.
const ENTRY: u64 = 12;
/// Larger entries are not worth caching.
const ENTRY_MAX: usize = 1024 * 1024;
/// The file is written anew when more than half of it, and at least this much, is dead.
const DEAD_MAX: u64 = 1024 * 1024;

/// The cache of one open mailbox.
#[derive(Debug)]
pub struct Cache {
    dir: Dir,
    uid_validity: u32,
    file: Option<File>,
    places: Places,
    end: u64,
    /// Where the file ended when its living entries were last counted.
    counted: u64,
}

impl Cache {
    /// Opens the cache and finds its entries. One of another UIDVALIDITY, or damaged from the start, counts as empty.
    pub fn open(dir: Dir, uid_validity: u32) -> Self {
        let mut cache = Self { dir, uid_validity, file: None, places: Places::new(), end: HEAD, counted: 0 };
        if let Ok(Some(file)) = cache.dir.append_file(NAME) {
            // What cannot be read is not there.
            let _ = cache.scan(file);
        }
        cache
    }

    fn scan(&mut self, file: File) -> io::Result<()> {
        let reader = BufReader::with_capacity(256 * 1024, file.try_clone()?);
        if let Some((places, end)) = places(reader, file.metadata()?.len(), self.uid_validity)? {
            (self.places, self.end, self.file) = (places, end, Some(file));
        }
        Ok(())
    }

    /// What is kept for a message.
    pub fn get(&self, uid: u32) -> Option<Vec<u8>> {
        let &(at, size) = self.places.get(&uid)?;
        let mut octets = vec![0; ENTRY as usize + size as usize];
        self.file.as_ref()?.read_exact_at(&mut octets, at).ok()?;
        let checksum = crc32c::crc32c(&octets[ENTRY as usize..]).to_le_bytes();
        let right = octets[..4] == uid.to_le_bytes() && octets[8..12] == checksum;
        right.then(|| octets.split_off(ENTRY as usize))
    }

    /// Keeps octets for messages; `alive` tells which UIDs still exist when the file has to be written anew.
    pub fn put(&mut self, entries: &[(u32, Vec<u8>)], alive: impl Fn(u32) -> bool) -> Result<()> {
        let small = || entries.iter().filter(|(_, octets)| octets.len() <= ENTRY_MAX);
        if self.file.is_none() || self.is_mostly_dead(&alive) {
            let kept: Vec<(u32, Vec<u8>)> =
                self.places.keys().filter(|uid| alive(**uid)).filter_map(|&uid| Some((uid, self.get(uid)?))).collect();
            return self.replace(kept.iter().chain(small()));
        }
        let Some(mut file) = self.file.as_ref() else { return Ok(()) };
        let failed = |error: io::Error| self.dir.error(NAME, error);
        rustix::fs::flock(file, rustix::fs::FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
        // Another session may have appended; its entries are found at the next opening.
        let at = file.metadata().map_err(failed)?.len();
        let (text, places) = encode(small(), at);
        let written = file.write_all(&text);
        let unlocked = rustix::fs::flock(file, rustix::fs::FlockOperation::Unlock);
        written.and(unlocked.map_err(Into::into)).map_err(failed)?;
        self.end = at + text.len() as u64;
        self.places.extend(places);
        Ok(())
    }

    /// Whether the file is worth writing anew. Its entries are counted when it has doubled since they were counted last.
    fn is_mostly_dead(&mut self, alive: &impl Fn(u32) -> bool) -> bool {
        if self.end < 2 * self.counted + DEAD_MAX {
            return false;
        }
        self.counted = self.end;
        let live: u64 =
            self.places.iter().filter(|(uid, _)| alive(**uid)).map(|(_, (_, size))| u64::from(*size) + ENTRY).sum();
        // A file that somebody cut short has less than it is known to hold.
        let dead = self.end.saturating_sub(HEAD + live);
        dead > DEAD_MAX && dead > live
    }

    fn replace<'a>(&mut self, entries: impl Iterator<Item = &'a (u32, Vec<u8>)>) -> Result<()> {
        let mut text = MAGIC.to_vec();
        text.extend(self.uid_validity.to_le_bytes());
        let (body, places) = encode(entries, HEAD);
        text.extend(body);
        self.dir.replace_file(NAME, &text, false)?;
        self.file = self.dir.append_file(NAME)?;
        self.end = text.len() as u64;
        self.counted = self.end;
        self.places = places;
        Ok(())
    }
}

/// Where each message's entry lies and how long it is.
type Places = HashMap<u32, (u64, u32)>;

/// Finds the entries of a cache file of this length, and where they end; none if it is not of this UIDVALIDITY.
///
/// # Errors
/// What reading says.
pub fn places(
    mut file: BufReader<impl Read + Seek>,
    length: u64,
    uid_validity: u32,
) -> io::Result<Option<(Places, u64)>> {
    let mut head = [0; HEAD as usize];
    file.read_exact(&mut head)?;
    if head[..8] != *MAGIC || head[8..] != uid_validity.to_le_bytes() {
        return Ok(None);
    }
    let (mut places, mut end, mut entry) = (Places::new(), HEAD, [0; ENTRY as usize]);
    while end + ENTRY <= length && file.read_exact(&mut entry).is_ok() {
        let [u0, u1, u2, u3, l0, l1, l2, l3, ..] = entry;
        let (uid, size) = (u32::from_le_bytes([u0, u1, u2, u3]), u32::from_le_bytes([l0, l1, l2, l3]));
        let next = end + ENTRY + u64::from(size);
        if next > length || size as usize > ENTRY_MAX {
            break;
        }
        places.insert(uid, (end, size));
        end = next;
        file.seek_relative(i64::from(size))?;
    }
    Ok(Some((places, end)))
}

fn encode<'a>(entries: impl Iterator<Item = &'a (u32, Vec<u8>)>, mut at: u64) -> (Vec<u8>, Places) {
    let (mut text, mut places) = (Vec::new(), Places::new());
    for (uid, octets) in entries {
        let Ok(size) = u32::try_from(octets.len()) else { continue };
        text.extend(uid.to_le_bytes());
        text.extend(size.to_le_bytes());
        text.extend(crc32c::crc32c(octets).to_le_bytes());
        text.extend(octets);
        places.insert(*uid, (at, size));
        at += ENTRY + u64::from(size);
    }
    (text, places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_kept_until_their_message_is_gone() {
        let temporary = tempfile::tempdir().expect("tempdir");
        let open = |validity| Cache::open(Dir::open(temporary.path()).expect("open"), validity);
        let mut cache = open(1);
        assert_eq!(cache.get(1), None);
        cache.put(&[(1, b"one".to_vec()), (2, vec![2; 700_000])], |_| true).expect("put");
        cache.put(&[(3, vec![3; 700_000]), (1, b"uno".to_vec())], |_| true).expect("put");
        let mut again = open(1);
        assert_eq!(again.get(1).as_deref(), Some(&b"uno"[..]));
        assert_eq!(again.get(2).map(|octets| octets.len()), Some(700_000));
        again.put(&[(4, b"four".to_vec())], |uid| uid == 1).expect("put");
        assert!(std::fs::metadata(temporary.path().join("postrider.index.cache")).expect("there").len() < 100);
        assert_eq!((again.get(1).is_some(), again.get(2), open(1).get(4).as_deref()), (true, None, Some(&b"four"[..])));
        assert_eq!(open(2).get(1), None);
        let path = temporary.path().join("postrider.index.cache");
        let mut text = std::fs::read(&path).expect("read");
        *text.last_mut().expect("some") ^= 1;
        std::fs::write(&path, &text).expect("write");
        let damaged = open(1);
        assert!(damaged.get(1).is_some() != damaged.get(4).is_some());
    }
}
