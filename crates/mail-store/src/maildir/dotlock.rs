//! Dovecot's dot-lock: `FILE.lock`, holding `pid:host`. It appears with its content, by a rename that replaces nothing.

use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use rustix::io::Errno;

use super::dir::Dir;
use crate::{Result, StoreError};

/// A lock whose file has not changed for this long is a dead process's (Dovecot's stale timeout for the uidlist).
const STALE: Duration = Duration::from_mins(2);
/// Dovecot writes the holder into the file as soon as it is there: one that is still empty after so long is what a power cut or a kill left.
const EMPTY: Duration = Duration::from_secs(2);
/// How long a caller waits for a living holder.
const PATIENCE: Duration = Duration::from_secs(125);

/// Counts the lock files that this process made.
static PLACED: AtomicU64 = AtomicU64::new(0);

/// A held lock; dropping it removes the file.
#[derive(Debug)]
pub struct DotLock {
    dir: Dir,
    name: Vec<u8>,
}

impl DotLock {
    /// Takes `FILE.lock` in `dir`, waiting for a living holder and breaking the lock of a dead one.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when the holder lives and does not let go.
    pub fn take(dir: &Dir, file: &str) -> Result<Self> {
        let name = format!("{file}.lock").into_bytes();
        let begun = Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            if dir.stat(&name)?.is_none() && place(dir, &name)? {
                return Ok(Self { dir: dir.try_clone()?, name });
            }
            if !break_stale(dir, &name)? {
                if begun.elapsed() > PATIENCE {
                    return Err(StoreError::Locked);
                }
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(50));
            }
        }
    }
}

impl Drop for DotLock {
    fn drop(&mut self) {
        // Nothing useful can be done about a failure: others will find the lock stale.
        let _ = self.dir.unlink(&self.name);
    }
}

/// Makes the lock file, whole from its first moment; false if somebody was quicker.
fn place(dir: &Dir, name: &[u8]) -> Result<bool> {
    // Several threads of one process may want one lock.
    let number = PLACED.fetch_add(1, Ordering::Relaxed);
    let fresh = [name, format!(".{}.{number}", std::process::id()).as_bytes()].concat();
    let mut file = dir.create_file(&fresh).map_err(|error| dir.error(&fresh, error))?;
    let owner = format!("{}:{}", std::process::id(), host_name());
    let written = file.write_all(owner.as_bytes()).map_err(|error| dir.error(&fresh, error));
    let placed = written.and_then(|()| match dir.rename_new(&fresh, dir, name) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(error) => Err(dir.error(name, error)),
    });
    if !matches!(placed, Ok(true)) {
        // Nothing useful can be done about a failure: the name is nobody's lock.
        let _ = dir.unlink(&fresh);
    }
    placed
}

/// Removes the lock of a process that is gone; whether it is worth trying again at once.
fn break_stale(dir: &Dir, name: &[u8]) -> Result<bool> {
    let Some(stat) = dir.stat(name)? else { return Ok(true) };
    let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(stat.st_mtime).unwrap_or(0));
    let age = SystemTime::now().duration_since(modified).unwrap_or_default();
    let owner = dir.read_file(name, 4096).ok().flatten().map(|(content, _)| content);
    let dead = match &owner {
        Some(owner) if owner.is_empty() => age > EMPTY,
        Some(owner) => is_dead(owner),
        None => false,
    };
    if !dead && age <= STALE && age <= running_for() {
        return Ok(false);
    }
    // Moved aside first: if another process broke the lock in between, its new lock comes back under its name.
    let aside = [name, format!(".stale{}", std::process::id()).as_bytes()].concat();
    if dir.rename_new(name, dir, &aside).is_ok() {
        let same =
            dir.stat(&aside)?.is_some_and(|moved| moved.st_ino == stat.st_ino && moved.st_mtime == stat.st_mtime);
        if !same {
            let _ = dir.rename_new(&aside, dir, name);
        }
        let _ = dir.unlink(&aside);
    }
    Ok(true)
}

/// How long this machine runs: who took a lock before that is gone, whoever has the number now.
fn running_for() -> Duration {
    // The times of files are whole seconds.
    Duration::from_secs(u64::try_from(rustix::system::sysinfo().uptime).unwrap_or(u64::MAX).saturating_add(1))
}

/// Whether `pid:host` names a process of this machine that no longer exists.
fn is_dead(owner: &[u8]) -> bool {
    let Some((pid, host)) = std::str::from_utf8(owner).ok().and_then(|text| text.trim_end().split_once(':')) else {
        return false;
    };
    let pid = pid.parse().ok().and_then(rustix::process::Pid::from_raw);
    host == host_name() && pid.is_some_and(|pid| matches!(rustix::process::test_kill_process(pid), Err(Errno::SRCH)))
}

/// The host name as the kernel has it.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_of_a_dead_process_is_broken_and_that_of_a_living_one_is_not() {
        let temporary = tempfile::tempdir().expect("tempdir");
        let dir = Dir::open(temporary.path()).expect("open");
        let held = DotLock::take(&dir, "f").expect("lock");
        assert!(!break_stale(&dir, b"f.lock").expect("stat"));
        drop(held);
        // No process has the largest possible id (the kernel's limit is 2^22).
        std::fs::write(temporary.path().join("f.lock"), format!("2147483647:{}", host_name())).expect("write");
        DotLock::take(&dir, "f").expect("the dead holder's lock is broken");
        assert!(!temporary.path().join("f.lock").exists());
    }

    /// Makes a lock file of a certain age.
    fn lock_of(temporary: &std::path::Path, owner: &str, age: Duration) {
        std::fs::write(temporary.join("f.lock"), owner).expect("write");
        let file = std::fs::File::options().write(true).open(temporary.join("f.lock")).expect("open");
        file.set_modified(SystemTime::now() - age).expect("aged");
    }

    // R6
    #[test]
    fn what_a_power_cut_left_of_a_lock_stops_nobody_for_long() {
        let temporary = tempfile::tempdir().expect("tempdir");
        let dir = Dir::open(temporary.path()).expect("open");
        lock_of(temporary.path(), "", Duration::ZERO);
        assert!(!break_stale(&dir, b"f.lock").expect("stat"), "somebody may be about to write a name into it");
        lock_of(temporary.path(), "", EMPTY + Duration::from_secs(2));
        assert!(break_stale(&dir, b"f.lock").expect("stat"));
        // The number belongs to another process since the machine was started.
        let own = format!("{}:{}", std::process::id(), host_name());
        lock_of(temporary.path(), &own, Duration::from_secs(5));
        assert!(!break_stale(&dir, b"f.lock").expect("stat"));
        lock_of(temporary.path(), &own, running_for() + Duration::from_secs(2));
        assert!(break_stale(&dir, b"f.lock").expect("stat"));
        let left: Vec<_> = std::fs::read_dir(temporary.path()).expect("list").collect();
        assert!(left.is_empty(), "{left:?}");
    }
}
