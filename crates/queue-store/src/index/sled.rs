//! The index in sled 0.34: one tree of blocks.

use std::fs::File;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use super::block::{Changed, Entries, FIRST, find};
use super::{Index, IndexError, Key, Value, Write};

/// Octets of sled's page cache. What it drops is still in the kernel's; in this process every octet of it would count several times.
const CACHE: u64 = 1024 * 1024;

/// sled as the index.
///
/// sled's own `flush` calls `sync_file_range`, which does not survive a power cut; [`Index::make_durable`] therefore syncs the file itself.
#[derive(Debug)]
pub struct SledIndex {
    db: sled::Db,
    dir: PathBuf,
    /// Whoever reads several blocks sees them as they are before a batch or after it.
    batch: RwLock<()>,
}

impl SledIndex {
    /// Opens the index in `dir`, or makes an empty one.
    ///
    /// # Errors
    /// sled refuses the directory, or panics over it.
    pub fn open(dir: &Path) -> Result<Self, IndexError> {
        Self::open_with(dir, CACHE)
    }

    /// The same with so many octets of page cache.
    ///
    /// # Errors
    /// As [`SledIndex::open`].
    pub fn open_with(dir: &Path, cache: u64) -> Result<Self, IndexError> {
        remove_torn_snapshots(dir).map_err(|error| IndexError(error.to_string()))?;
        let db = guarded(|| {
            sled::Config::new()
                .path(dir)
                .cache_capacity(cache)
                .mode(sled::Mode::LowSpace)
                .flush_every_ms(Some(500))
                .print_profile_on_drop(false)
                .open()
        })?;
        Ok(Self { db, dir: dir.to_owned(), batch: RwLock::new(()) })
    }

    /// How many blocks there are.
    #[cfg(test)]
    pub fn blocks(&self) -> usize {
        self.db.len()
    }

    fn reading(&self) -> RwLockReadGuard<'_, ()> {
        self.batch.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The block that a key belongs to: the last whose name is not behind it.
    fn block_of(&self, key: &[u8]) -> Result<Option<(sled::IVec, sled::IVec)>, IndexError> {
        guarded(|| self.db.range(..=key).next_back().transpose())
    }

    /// The block behind a name.
    fn block_behind(&self, name: &[u8]) -> Result<Option<(sled::IVec, sled::IVec)>, IndexError> {
        guarded(|| self.db.range::<&[u8], _>((Bound::Excluded(name), Bound::Unbounded)).next().transpose())
    }

    /// What writes in the order of their keys make of the blocks.
    fn rewritten(&self, writes: Vec<Write>) -> Result<sled::Batch, IndexError> {
        let mut batch = sled::Batch::default();
        let mut writes = writes.into_iter().peekable();
        while let Some((first, _)) = writes.peek() {
            let (mut changed, mut name) = (Changed::default(), sled::IVec::from(FIRST));
            if let Some((known, block)) = self.block_of(first)? {
                changed.take_in(&block)?;
                name = known;
            }
            batch.remove(&name);
            let mut behind = self.block_behind(&name)?;
            loop {
                let belongs = |key: &[u8]| behind.as_ref().is_none_or(|(next, _)| key < &**next);
                changed.write(std::iter::from_fn(|| writes.next_if(|(key, _)| belongs(key))));
                let Some((next, block)) = behind.take().filter(|_| changed.is_short()) else { break };
                changed.take_in(&block)?;
                batch.remove(&next);
                behind = self.block_behind(&next)?;
            }
            for (name, piece) in changed.pieces((&*name).into()) {
                batch.insert(&*name, piece);
            }
        }
        Ok(batch)
    }
}

impl Index for SledIndex {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        let _reading = self.reading();
        let Some((_, block)) = self.block_of(key)? else { return Ok(None) };
        find(&block, key)
    }

    fn scan(&self, from: &[u8], until: &[u8], limit: usize) -> Result<Vec<(Key, Value)>, IndexError> {
        let mut found = Vec::new();
        if from >= until {
            return Ok(found);
        }
        let _reading = self.reading();
        let first = self.block_of(from)?.map_or_else(|| from.into(), |(name, _)| name);
        let mut blocks = self.db.range::<&[u8], _>(&*first..until);
        while let Some((_, block)) = guarded(|| blocks.next().transpose())? {
            let mut entries = Entries::of(&block);
            while let Some((key, value)) = entries.next()? {
                if key >= until || found.len() == limit {
                    return Ok(found);
                }
                if key >= from {
                    found.push((key.into(), value.into()));
                }
            }
        }
        Ok(found)
    }

    fn apply(&self, mut writes: Vec<Write>) -> Result<(), IndexError> {
        // The last write of a key wins.
        writes.reverse();
        writes.sort_by(|(one, _), (other, _)| one.cmp(other));
        writes.dedup_by(|(later, _), (kept, _)| later == kept);
        // Nobody else writes: what is read here stays as it is.
        let batch = self.rewritten(writes)?;
        let _writing = self.batch.write().unwrap_or_else(PoisonError::into_inner);
        guarded(|| self.db.apply_batch(batch))
    }

    fn make_durable(&self) -> Result<(), IndexError> {
        guarded(|| self.db.flush())?;
        // sled 0.34 never syncs this file on Linux (measured: 14 of 16 power cuts lost data without these lines).
        let synced = File::open(self.dir.join("db")).and_then(|file| file.sync_data());
        let named = synced.and_then(|()| File::open(&self.dir)?.sync_all());
        named.map_err(|error| IndexError(error.to_string()))
    }
}

/// Runs sled, and turns its panics over damaged files into errors.
fn guarded<T>(work: impl FnOnce() -> sled::Result<T>) -> Result<T, IndexError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|error| IndexError(error.to_string())),
        Err(_) => Err(IndexError("sled panicked".to_owned())),
    }
}

/// A crash inside sled's snapshot writer leaves a file that makes `open` fail, and that sled never removes.
fn remove_torn_snapshots(dir: &Path) -> std::io::Result<()> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
