//! `segments/run.json`: what one run of queue-manager tells the next.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::segment::sync_directory;

/// The content of `run.json`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Run {
    /// The kernel's boot id.
    pub boot: String,
    /// The last stop wrote everything down.
    pub clean: bool,
    /// The index may be used at the next start.
    pub index: bool,
    /// The workers that were connected.
    pub workers: Vec<String>,
}

impl Run {
    /// Reads what the last run left; a missing or unreadable file says nothing.
    #[must_use]
    pub fn read(dir: &Path) -> Self {
        let text = std::fs::read(directory(dir).join("run.json")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Writes the file anew; where there is no room for it, removes what the last run left, so that the next start believes nothing.
    ///
    /// # Errors
    /// Any of the file system.
    pub fn write_or_remove(&self, dir: &Path) -> io::Result<()> {
        match self.write(dir) {
            Err(error) if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
                // Half a file helps nobody.
                let _ = std::fs::remove_file(directory(dir).join("run.json.new"));
                Self::remove(dir)
            }
            other => other,
        }
    }

    /// Removes the file.
    ///
    /// # Errors
    /// Any of the file system.
    pub fn remove(dir: &Path) -> io::Result<()> {
        match std::fs::remove_file(directory(dir).join("run.json")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => sync_directory(&directory(dir)),
        }
    }

    /// Writes the file anew, by rename and synced.
    ///
    /// # Errors
    /// Any of the file system.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        let dir = directory(dir);
        let fresh = dir.join("run.json.new");
        let mut file = File::create(&fresh)?;
        serde_json::to_writer(&mut file, self)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        std::fs::rename(&fresh, dir.join("run.json"))?;
        sync_directory(&dir)
    }
}

/// Beside the segments: the state directory itself belongs to root, and queue-manager cannot make a file there.
fn directory(dir: &Path) -> PathBuf {
    dir.join("segments")
}

/// The kernel's name for the time since it started; empty where it cannot be read, which is never the same boot.
#[must_use]
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}
