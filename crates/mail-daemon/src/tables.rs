//! Tables that not everybody may read (0640 root:postfix): the monitor opens them, and the process without rights reads its descriptors.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mail_config::Config;
use mail_tables::{Disk, Files, Stamp, TableRef};
use tokio::sync::{Notify, watch};

/// The files of tables as a process without rights reaches them: those that the monitor has passed through their descriptors, the others by their path.
/// Clones share what was passed.
#[derive(Debug, Clone)]
pub struct TableFiles(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    passed: Mutex<HashMap<PathBuf, File>>,
    /// A path leads to another file than the descriptor that was passed for it, or to one that is closed to us and was not passed.
    replaced: Notify,
    /// Counts what the monitor has passed.
    rounds: watch::Sender<u64>,
}

impl Default for TableFiles {
    fn default() -> Self {
        let (passed, replaced) = (Mutex::default(), Notify::new());
        Self(Arc::new(Inner { passed, replaced, rounds: watch::Sender::new(0) }))
    }
}

impl TableFiles {
    fn passed(&self) -> MutexGuard<'_, HashMap<PathBuf, File>> {
        self.0.passed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what the monitor has opened, in place of what it opened before.
    pub(crate) fn take(&self, paths: Vec<PathBuf>, descriptors: Vec<OwnedFd>) {
        *self.passed() = paths.into_iter().zip(descriptors.into_iter().map(File::from)).collect();
        self.0.rounds.send_modify(|round| *round += 1);
    }

    /// Counts how often the monitor has passed files.
    pub(crate) fn rounds(&self) -> watch::Receiver<u64> {
        self.0.rounds.subscribe()
    }

    /// Waits until a file that was passed has been replaced, or one has been closed to us.
    pub(crate) async fn replaced(&self) {
        self.0.replaced.notified().await;
    }

    /// The stamp of a file that nobody passed. One that was closed to us meanwhile has none, so that it counts as changed once it is passed.
    fn own_stamp(&self, path: &Path) -> io::Result<Stamp> {
        let readable = rustix::fs::access(path, rustix::fs::Access::READ_OK);
        if readable == Err(rustix::io::Errno::ACCESS) {
            self.0.replaced.notify_one();
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Disk.stamp(path)
    }
}

impl Files for TableFiles {
    fn stamp(&self, path: &Path) -> io::Result<Stamp> {
        let passed = self.passed();
        let Some(file) = passed.get(path) else { return self.own_stamp(path) };
        let metadata = file.metadata()?;
        match fs::metadata(path) {
            Ok(now) if (now.dev(), now.ino()) != (metadata.dev(), metadata.ino()) => self.0.replaced.notify_one(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(error),
            // The directory may be closed to us.
            Ok(_) | Err(_) => {}
        }
        Ok(Stamp { size: metadata.len(), modified: metadata.modified()? })
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let passed = self.passed();
        let Some(file) = passed.get(path) else { return Disk.read(path) };
        let mut octets = Vec::new();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match file.read_at(&mut buffer, octets.len() as u64)? {
                0 => return Ok(octets),
                count => octets.extend_from_slice(&buffer[..count]),
            }
        }
    }
}

/// Opens the tables that a daemon uses and that not everybody may read. One that cannot be opened is left out: whoever asks for it learns why.
pub(crate) fn open(config: &Config, daemon: &str) -> Vec<(PathBuf, File)> {
    let paths: Vec<PathBuf> = match daemon {
        // It asks the servers for everybody, and no table in memory.
        "authd" => clients(config),
        _ => sources(config, daemon),
    };
    let paths = paths.into_iter();
    let closed = paths.filter(|path| path.is_absolute() && !is_open_to_all(path));
    closed.filter_map(|path| open_one(&path).ok().map(|file| (path, file))).collect()
}

/// What describes the servers of tables; passwords stand there.
fn clients(config: &Config) -> Vec<PathBuf> {
    let named = config.tables().into_iter().map(|(table, _)| table);
    named.chain(config.secret_tables()).filter_map(|table| table.client_file()).collect()
}

fn sources(config: &Config, daemon: &str) -> Vec<PathBuf> {
    let source = |table: TableRef| match (table.file()?, table.compiled_file()) {
        (source, Some(compiled)) if !source.exists() && compiled.exists() => Some(compiled),
        (source, _) => Some(source),
    };
    config.tables_of(daemon).into_iter().filter_map(|(table, _)| source(table)).collect()
}

fn open_one(path: &Path) -> io::Result<File> {
    // A FIFO would be waited for.
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let file = fs::OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

/// Whether every user may read the file and reach it.
fn is_open_to_all(path: &Path) -> bool {
    let Ok(path) = path.canonicalize() else { return true };
    let allows = |path: &Path, bit: u32| fs::metadata(path).is_ok_and(|metadata| metadata.mode() & bit != 0);
    allows(&path, 0o004) && path.ancestors().skip(1).all(|directory| allows(directory, 0o001))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_passed_is_read_and_its_replacement_noticed() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("table");
        fs::write(&path, "one").expect("written");
        let files = TableFiles::default();
        files.take(vec![path.clone()], vec![File::open(&path).expect("opened").into()]);
        fs::write(dir.path().join("new"), "another").expect("written");
        assert_eq!(files.stamp(&path).expect("there").size, 3);
        let waiting = |files: &TableFiles| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
            let wait = async { tokio::time::timeout(std::time::Duration::ZERO, files.replaced()).await.is_err() };
            runtime.block_on(wait)
        };
        assert!(waiting(&files), "nothing has changed");
        fs::rename(dir.path().join("new"), &path).expect("renamed");
        assert_eq!(files.stamp(&path).expect("still served").size, 3);
        assert_eq!(files.read(&path).expect("read"), b"one");
        assert!(!waiting(&files), "the monitor is to be asked");
        fs::remove_file(&path).expect("removed");
        files.stamp(&path).expect_err("it is gone");
    }
}
