//! `maildrop/`: what `postdrop` wrote while this daemon could not be reached.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mail_ipc::maildrop::{COMPLETE, DIRECTORY, head};
use tokio::sync::watch;

use crate::intake::Door;
use crate::serve::Busy;
use crate::submit::{Source, Submission, is_final};

/// How often the directory is looked at.
const PERIOD: Duration = Duration::from_secs(1);
/// How much of a file may stand before its content.
const HEAD_MAX: usize = 64 * 1024 * 1024;

/// Picks up complete files until the daemon stops.
pub async fn watch(door: Arc<Door>, mut closed: watch::Receiver<bool>, busy: Busy) {
    let directory = door.state.join(DIRECTORY);
    loop {
        for path in complete_files(&directory) {
            if *closed.borrow() {
                return;
            }
            pick_up(&door, &path).await;
        }
        tokio::select! {
            _ = closed.wait_for(|closed| *closed) => break,
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
    drop(busy);
}

fn complete_files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let complete =
        |path: &PathBuf| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file() && meta.mode() & 0o777 == COMPLETE);
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).filter(complete).collect();
    paths.sort();
    paths
}

/// Takes one file in. It goes when the queue has it, or when it can never be taken; otherwise it stays for the next time.
async fn pick_up(door: &Arc<Door>, path: &Path) {
    let shared = door.shared();
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    // Recipients of many pages take their time to read.
    let own = path.to_owned();
    let opened = tokio::task::spawn_blocking(move || open(&own)).await;
    let opened = opened.unwrap_or_else(|error| Err(io::Error::other(error)));
    let (mut file, submission) = match opened {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            door.log.warning(&shared.pickup, &format!("maildrop/{name}: {error}: put aside"));
            return put_aside(door, path, &name);
        }
        Err(error) => return door.log.warning(&shared.pickup, &format!("maildrop/{name}: {error}")),
    };
    match submission.take_in(door, Source::File(&mut file)).await {
        Ok(Ok(_)) => {
            let _ = fs::remove_file(path);
        }
        Ok(Err(reply)) if is_final(&reply) => {
            door.log.warning(&shared.pickup, &format!("maildrop/{name}: {reply}: put aside"));
            put_aside(door, path, &name);
        }
        // The queue or a table is not there just now: the file waits.
        Ok(Err(_)) => {}
        Err(error) => {
            door.log.warning(&shared.pickup, &format!("maildrop/{name}: {error}: put aside"));
            put_aside(door, path, &name);
        }
    }
}

/// A file that can never be taken is kept where an operator finds it, and never looked at again.
fn put_aside(door: &Door, path: &Path, name: &str) {
    let target = door.state.join(DIRECTORY).join(format!("bad-{name}"));
    if fs::rename(path, &target).is_ok() {
        let mode = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o600);
        let _ = fs::set_permissions(target, mode);
    }
}

/// Opens a file and reads what stands before its content. The submitter is the file's owner.
fn open(path: &Path) -> io::Result<(File, Submission)> {
    let nofollow = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
    let mut file = fs::OpenOptions::new().read(true).custom_flags(nofollow).open(path)?;
    let metadata = file.metadata()?;
    let mut start = Vec::new();
    let found = loop {
        let before = start.len();
        // Twice as much each time: what was read is looked at again from its beginning.
        let more = (before as u64).max(256 * 1024);
        io::Read::by_ref(&mut file).take(more).read_to_end(&mut start)?;
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        match head(&start).map_err(invalid)? {
            Some(head) => break head,
            None if start.len() == before || start.len() > HEAD_MAX => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "not a submission"));
            }
            None => {}
        }
    };
    if found.offset.checked_add(found.length) != Some(metadata.len()) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "cut short"));
    }
    file.seek(io::SeekFrom::Start(found.offset))?;
    let submission = Submission::of(found.submission, metadata.uid());
    let (submission, _) = submission.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not a submission"))?;
    Ok((file, submission))
}
