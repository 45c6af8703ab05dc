//! The ordered map under the queue's state: a trait, sled, and a map in memory; one conformance suite for both.

mod block;
mod memory;
mod sled;

use std::fmt;
use std::path::Path;

pub use memory::MemoryIndex;
pub use sled::SledIndex;

/// A key of the index.
pub type Key = Box<[u8]>;
/// A value of the index.
pub type Value = Box<[u8]>;
/// A key with its new value, or none if it goes.
pub type Write = (Key, Option<Value>);

/// The index failed or is damaged: it is discarded at the next start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexError(pub String);

impl fmt::Display for IndexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "queue index: {}", self.0)
    }
}

impl std::error::Error for IndexError {}

/// An ordered map from octets to octets.
pub trait Index: Send + Sync {
    /// The value of a key.
    ///
    /// # Errors
    /// The index is damaged or its disk fails.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError>;

    /// The first `limit` entries with `from <= key < until`, in order.
    ///
    /// # Errors
    /// The index is damaged or its disk fails.
    fn scan(&self, from: &[u8], until: &[u8], limit: usize) -> Result<Vec<(Key, Value)>, IndexError>;

    /// Carries out all writes, or none if the process ends meanwhile.
    ///
    /// # Errors
    /// The index is damaged or its disk fails; some of the writes may have happened.
    fn apply(&self, writes: Vec<Write>) -> Result<(), IndexError>;

    /// Makes everything durable, also against a power cut.
    ///
    /// # Errors
    /// The index is damaged or its disk fails.
    fn make_durable(&self) -> Result<(), IndexError>;
}

/// Which index a store uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Engine {
    /// sled in `sled/index`.
    #[default]
    Sled,
    /// A map in memory, rebuilt from the log at each start.
    Memory,
}

impl Engine {
    pub(crate) fn directory(dir: &Path) -> std::path::PathBuf {
        // One level down: where the state directory belongs to root, `sled/` is ours to empty and not to remove.
        dir.join("sled").join("index")
    }

    /// Opens what is there, or something empty.
    pub(crate) fn open(self, dir: &Path) -> Result<Box<dyn Index>, IndexError> {
        match self {
            Self::Sled => Ok(Box::new(SledIndex::open(&Self::directory(dir))?)),
            Self::Memory => Ok(Box::new(MemoryIndex::default())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(key: &str, value: Option<&str>) -> Write {
        (key.as_bytes().into(), value.map(|v| v.as_bytes().into()))
    }

    fn keys(index: &dyn Index, from: &str, until: &str, limit: usize) -> Vec<String> {
        let entries = index.scan(from.as_bytes(), until.as_bytes(), limit).expect("scan");
        entries.iter().map(|(key, _)| String::from_utf8_lossy(key).into_owned()).collect()
    }

    /// What every index must do.
    fn conforms(index: &dyn Index) {
        assert_eq!(index.get(b"a"), Ok(None));
        index.apply(vec![write("b", Some("2")), write("a", Some("1")), write("c", Some(""))]).expect("apply");
        assert_eq!(index.get(b"a"), Ok(Some(b"1".to_vec())));
        assert_eq!(index.get(b"c"), Ok(Some(Vec::new())), "an empty value is not a missing one");
        assert_eq!(keys(index, "a", "c", 10), ["a", "b"], "the end is not part of the range");
        assert_eq!(keys(index, "", "z", 2), ["a", "b"]);
        assert_eq!(keys(index, "aa", "z", 10), ["b", "c"]);
        assert_eq!(keys(index, "c", "a", 10), [""; 0], "an inverted range is empty");
        index.apply(vec![write("a", None), write("x", None), write("b", Some("3"))]).expect("apply");
        assert_eq!(index.get(b"a"), Ok(None));
        assert_eq!(index.get(b"b"), Ok(Some(b"3".to_vec())));
        // The last write of a key in one batch wins.
        index.apply(vec![write("d", Some("1")), write("d", None)]).expect("apply");
        assert_eq!(index.get(b"d"), Ok(None));
        let high = [0xff_u8; 3];
        index.apply(vec![(high.as_slice().into(), Some(b"h".as_slice().into()))]).expect("apply");
        assert_eq!(index.scan(&[0xff], &[0xff; 4], 10).expect("scan").len(), 1);
        index.make_durable().expect("durable");
    }

    /// Both maps hold the same after the same batches, whatever is asked.
    fn agree(sled: &SledIndex, map: &MemoryIndex, keys: u32) {
        let all = |index: &dyn Index| index.scan(b"", &[0xff], usize::MAX).expect("scan");
        assert_eq!(all(sled), all(map));
        for n in (0..keys).step_by(7) {
            let (key, behind) = (format!("{n:05}"), format!("{:05}", n + 40));
            assert_eq!(sled.get(key.as_bytes()), map.get(key.as_bytes()), "{key}");
            for limit in [1, 3, usize::MAX] {
                let of = |index: &dyn Index| index.scan(key.as_bytes(), behind.as_bytes(), limit);
                assert_eq!(of(sled), of(map), "{key} to {behind}");
            }
        }
    }

    #[test]
    fn blocks_are_cut_and_joined_without_anybody_noticing() {
        let dir = tempfile::tempdir().expect("directory");
        let (sled, map) = (SledIndex::open(dir.path()).expect("open"), MemoryIndex::default());
        let mut seed = 7_u32;
        let mut random = move |below: u32| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) % below
        };
        for round in 0..60 {
            // Growing, then mostly shrinking, at the end empty; every batch has neighbours, strangers and a key written twice.
            let put = |random: &mut dyn FnMut(u32) -> u32| random(10) < if round < 30 { 9 } else { 2 };
            let begin = random(2_000);
            let keys: Vec<u32> = (begin..begin + 100).chain((0..60).map(|_| random(2_100))).chain([begin]).collect();
            let value = |random: &mut dyn FnMut(u32) -> u32| vec![round; random(120) as usize].into();
            let writes: Vec<Write> = keys
                .iter()
                .map(|n| {
                    let value = put(&mut random).then(|| value(&mut random));
                    (format!("{n:05}").into_bytes().into(), value)
                })
                .collect();
            map.apply(writes.clone()).expect("applied");
            sled.apply(writes).expect("applied");
            agree(&sled, &map, 2_100);
            let entries = map.scan(b"", &[0xff], usize::MAX).expect("scan").len();
            assert!(sled.blocks() <= 8 + entries / 10, "{entries} entries in {} blocks", sled.blocks());
        }
        let rest = map.scan(b"", &[0xff], usize::MAX).expect("scan").into_iter();
        sled.apply(rest.map(|(key, _)| (key, None)).collect()).expect("applied");
        agree(&sled, &MemoryIndex::default(), 100);
        assert_eq!(sled.blocks(), 0);
    }

    #[test]
    fn the_map_in_memory_conforms() {
        conforms(&MemoryIndex::default());
    }

    #[test]
    fn sled_conforms_and_keeps_what_it_was_given() {
        let dir = tempfile::tempdir().expect("directory");
        let index = SledIndex::open(dir.path()).expect("open");
        conforms(&index);
        drop(index);
        // What a crash inside sled's snapshot writer leaves, and sled itself does not remove.
        std::fs::write(dir.path().join("snap.00000000000000AF.generating"), b"torn").expect("write");
        let index = SledIndex::open(dir.path()).expect("open again");
        assert_eq!(index.get(b"b"), Ok(Some(b"3".to_vec())));
    }

    #[test]
    fn a_damaged_sled_is_an_error_and_not_a_panic() {
        let dir = tempfile::tempdir().expect("directory");
        let index = SledIndex::open(dir.path()).expect("open");
        conforms(&index);
        drop(index);
        for entry in std::fs::read_dir(dir.path()).expect("list") {
            let path = entry.expect("entry").path();
            if path.is_file() {
                let length = path.metadata().expect("length").len();
                std::fs::write(path, vec![0x55; length as usize]).expect("write");
            }
        }
        assert!(SledIndex::open(dir.path()).is_err());
    }
}
