//! What address verification has found out: a cache beside the queue that can be deleted at any time.
//!
//! Keys are `a` address for an entry, `t` time, 0, address for its place in the order of age. Nothing here is ever synced for its own sake.

use std::path::{Path, PathBuf};

use mail_types::UnixTime;
use serde::{Deserialize, Serialize};

use crate::index::{Index, IndexError, Key, MemoryIndex, SledIndex, Write};

/// The most addresses; the oldest make room.
const ADDRESSES_MAX: usize = 100_000;
/// Octets of the page cache.
const CACHE: u64 = 4 * 1024 * 1024;
/// The longest reason in characters.
const TEXT_MAX: usize = 500;
/// Entries looked at in one step of a clean-up.
const PAGE: usize = 500;

/// Whether mail for an address would be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Deliverability {
    /// It would.
    Deliverable,
    /// It would come back.
    Undeliverable,
    /// It would wait.
    Deferred,
}

/// What a probe found out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The result.
    pub is: Deliverability,
    /// When.
    pub at: UnixTime,
    /// The reason in words.
    #[serde(default)]
    pub text: String,
}

/// The cache.
pub struct Addresses {
    index: Box<dyn Index>,
    count: usize,
    most: usize,
}

impl Addresses {
    /// A cache that ends with the process.
    #[must_use]
    pub fn in_memory() -> Self {
        Self { index: Box::new(MemoryIndex::default()), count: 0, most: ADDRESSES_MAX }
    }

    /// The cache in a state directory. A damaged one is made anew; where that fails it is kept in memory, and the error says why.
    #[must_use]
    pub fn open(dir: &Path) -> (Self, Option<IndexError>) {
        let path = Self::directory(dir);
        let opened = Self::load(&path).or_else(|_| {
            // Nobody is harmed by what is forgotten here.
            std::fs::remove_dir_all(&path).map_err(|error| IndexError(error.to_string()))?;
            Self::load(&path)
        });
        match opened {
            Ok(addresses) => (addresses, None),
            Err(error) => (Self::in_memory(), Some(error)),
        }
    }

    fn directory(dir: &Path) -> PathBuf {
        dir.join("sled").join("addresses")
    }

    fn load(path: &Path) -> Result<Self, IndexError> {
        let index = Box::new(SledIndex::open_with(path, CACHE)?);
        let count = index.scan(b"t", b"u", usize::MAX)?.len();
        Ok(Self { index, count, most: ADDRESSES_MAX })
    }

    /// What is known of an address, however old.
    #[must_use]
    pub fn get(&self, address: &str) -> Option<Standing> {
        // What cannot be read is found out again.
        let value = self.index.get(&entry(address)).ok()??;
        serde_json::from_slice(&value).ok()
    }

    /// Remembers what was found out.
    ///
    /// # Errors
    /// The cache is damaged or its disk fails: the caller goes on with [`Addresses::in_memory`].
    pub fn put(&mut self, address: &str, standing: &Standing) -> Result<(), IndexError> {
        let text = standing.text.chars().take(TEXT_MAX).collect();
        let standing = Standing { text, ..standing.clone() };
        let value = serde_json::to_vec(&standing).map_err(|error| IndexError(error.to_string()))?;
        let mut writes = self.without(address);
        if writes.is_empty() {
            self.count += 1;
        }
        writes.push((entry(address), Some(value.into())));
        writes.push((place(standing.at, address), Some(Box::default())));
        self.index.apply(writes)?;
        while self.count > self.most {
            let Some((key, _)) = self.index.scan(b"t", b"u", 1)?.pop() else { break };
            self.forget(&key)?;
        }
        Ok(())
    }

    /// Forgets an address.
    ///
    /// # Errors
    /// As [`Addresses::put`].
    pub fn remove(&mut self, address: &str) -> Result<(), IndexError> {
        let writes = self.without(address);
        self.count -= usize::from(!writes.is_empty());
        self.index.apply(writes)
    }

    /// Forgets what is believed no more, from the oldest; one step. Gives where the next begins, none at the end.
    ///
    /// # Errors
    /// As [`Addresses::put`].
    pub fn clean(
        &mut self,
        from: Option<Key>,
        is_expired: impl Fn(&Standing) -> bool,
    ) -> Result<Option<Key>, IndexError> {
        let page = self.index.scan(from.as_deref().unwrap_or(b"t"), b"u", PAGE)?;
        for (key, _) in &page {
            let standing = address_of(key).and_then(|address| self.get(address));
            if standing.is_none_or(|standing| is_expired(&standing)) {
                self.forget(key)?;
            }
        }
        let last = page.last().filter(|_| page.len() == PAGE);
        Ok(last.map(|(key, _)| crate::keys::after(key).into()))
    }

    /// How many addresses are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn forget(&mut self, place: &[u8]) -> Result<(), IndexError> {
        let mut writes: Vec<Write> = vec![(place.into(), None)];
        writes.extend(address_of(place).map(|address| (entry(address), None)));
        self.count = self.count.saturating_sub(1);
        self.index.apply(writes)
    }

    /// The writes that take an address out; none if it is not there.
    fn without(&self, address: &str) -> Vec<Write> {
        let known = self.get(address);
        known.map(|known| vec![(entry(address), None), (place(known.at, address), None)]).unwrap_or_default()
    }
}

fn entry(address: &str) -> Key {
    [b"a", address.as_bytes()].concat().into()
}

fn place(at: UnixTime, address: &str) -> Key {
    [b"t", &at.0.to_be_bytes()[..], b"\0", address.as_bytes()].concat().into()
}

fn address_of(place: &[u8]) -> Option<&str> {
    std::str::from_utf8(place.get(10..)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(at: u64) -> Standing {
        Standing { is: Deliverability::Undeliverable, at: UnixTime(at), text: "no such user".to_owned() }
    }

    #[test]
    fn what_was_found_out_outlives_a_restart_and_damage_costs_nothing_else() {
        let dir = tempfile::tempdir().expect("directory");
        let (mut addresses, trouble) = Addresses::open(dir.path());
        assert_eq!(trouble, None);
        addresses.put("a@x.org", &standing(1)).expect("put");
        addresses.put("a@x.org", &standing(2)).expect("put");
        addresses.put("b@x.org", &standing(3)).expect("put");
        addresses.remove("b@x.org").expect("removed");
        drop(addresses);
        let (addresses, _) = Addresses::open(dir.path());
        assert_eq!((addresses.get("a@x.org"), addresses.get("b@x.org")), (Some(standing(2)), None));
        assert_eq!(addresses.len(), 1);
        drop(addresses);
        for file in std::fs::read_dir(dir.path().join("sled/addresses")).expect("list") {
            let path = file.expect("entry").path();
            if path.is_file() {
                std::fs::write(path, vec![0x55; 5000]).expect("write");
            }
        }
        let (mut addresses, trouble) = Addresses::open(dir.path());
        assert_eq!((trouble, addresses.is_empty()), (None, true));
        addresses.put("a@x.org", &standing(4)).expect("put");
    }

    #[test]
    fn the_oldest_make_room_and_the_expired_go() {
        let mut addresses = Addresses { most: 3, ..Addresses::in_memory() };
        for (n, at) in [5, 1, 9, 7].into_iter().enumerate() {
            addresses.put(&format!("{n}@x.org"), &standing(at)).expect("put");
        }
        let known = |addresses: &Addresses| -> Vec<usize> {
            (0..4).filter(|n| addresses.get(&format!("{n}@x.org")).is_some()).collect()
        };
        assert_eq!((known(&addresses), addresses.len()), (vec![0, 2, 3], 3));
        assert_eq!(addresses.clean(None, |standing| standing.at.0 < 8).expect("cleaned"), None);
        assert_eq!((known(&addresses), addresses.len()), (vec![2], 1));
    }
}
