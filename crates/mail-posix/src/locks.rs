//! Locks on files, kept as long as the guard lives: `flock` and record locks, tried or waited for until a deadline.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

/// Shared with other readers, or exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Others may hold it shared too; the file needs to be open for reading.
    Shared,
    /// Nobody else holds it; the file needs to be open for writing when it is a record lock.
    Exclusive,
}

/// Which of the two families, which do not see each other on Linux.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// `flock(2)`, on the open file.
    Flock,
    /// `fcntl(2)` on the whole file, what Postfix and Dovecot call `fcntl`. An open-file-description lock, which conflicts with other programs'
    /// process locks, and does not vanish when some other descriptor of the file is closed.
    Fcntl,
}

/// A held lock; released when dropped.
#[derive(Debug)]
pub struct Lock<'a> {
    file: &'a File,
    family: Family,
}

impl Lock<'_> {
    /// Holds the lock as long as the file itself is open, without a guard: for a lock of the whole process's life.
    pub fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        let _ = match self.family {
            Family::Flock => rustix::fs::flock(self.file, FlockOperation::Unlock).map_err(io::Error::from),
            Family::Fcntl => record_lock(self.file, libc::F_UNLCK),
        };
    }
}

/// Takes the lock if it is free; `None` when somebody else holds it.
///
/// # Errors
/// The file does not support the lock.
pub fn try_lock(file: &File, family: Family, kind: Kind) -> io::Result<Option<Lock<'_>>> {
    let taken = match family {
        Family::Flock => {
            let operation = match kind {
                Kind::Shared => FlockOperation::NonBlockingLockShared,
                Kind::Exclusive => FlockOperation::NonBlockingLockExclusive,
            };
            rustix::fs::flock(file, operation).map_err(io::Error::from)
        }
        Family::Fcntl => record_lock(file, if kind == Kind::Shared { libc::F_RDLCK } else { libc::F_WRLCK }),
    };
    match taken {
        Ok(()) => Ok(Some(Lock { file, family })),
        Err(error) if busy(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Takes the lock, waiting at most until the deadline; `None` when it was not free until then. Blocks the thread: it looks again every few
/// milliseconds, because the kernel's own wait has no deadline without signals.
///
/// # Errors
/// The file does not support the lock.
pub fn lock_until(file: &File, family: Family, kind: Kind, deadline: Instant) -> io::Result<Option<Lock<'_>>> {
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(lock) = try_lock(file, family, kind)? {
            return Ok(Some(lock));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        std::thread::sleep(pause.min(left));
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

fn busy(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES | libc::EINTR))
}

fn record_lock(file: &File, kind: i32) -> io::Result<()> {
    // SAFETY: flock is plain data; all zero means the whole file from its start, and l_pid must be 0 for these locks.
    let mut range: libc::flock = unsafe { std::mem::zeroed() };
    range.l_type = i16::try_from(kind).expect("lock types are 0 to 2");
    range.l_whence = i16::try_from(libc::SEEK_SET).expect("0");
    // SAFETY: the descriptor is open and `range` is initialised.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const range) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_handles() -> (tempfile::NamedTempFile, File, File) {
        let file = tempfile::NamedTempFile::new().unwrap();
        let one = File::options().read(true).write(true).open(file.path()).unwrap();
        let two = File::options().read(true).write(true).open(file.path()).unwrap();
        (file, one, two)
    }

    #[test]
    fn an_exclusive_lock_excludes_until_it_is_dropped() {
        for family in [Family::Flock, Family::Fcntl] {
            let (_name, one, two) = two_handles();
            let held = try_lock(&one, family, Kind::Exclusive).unwrap().unwrap();
            assert!(try_lock(&two, family, Kind::Exclusive).unwrap().is_none());
            assert!(try_lock(&two, family, Kind::Shared).unwrap().is_none());
            drop(held);
            assert!(try_lock(&two, family, Kind::Exclusive).unwrap().is_some());
        }
    }

    #[test]
    fn shared_locks_live_together() {
        for family in [Family::Flock, Family::Fcntl] {
            let (_name, one, two) = two_handles();
            let _held = try_lock(&one, family, Kind::Shared).unwrap().unwrap();
            let other = try_lock(&two, family, Kind::Shared).unwrap();
            assert!(other.is_some());
            drop(other);
            assert!(try_lock(&two, family, Kind::Exclusive).unwrap().is_none());
        }
    }

    #[test]
    fn waiting_ends_at_the_deadline() {
        let (_name, one, two) = two_handles();
        let _held = try_lock(&one, Family::Flock, Kind::Exclusive).unwrap().unwrap();
        let deadline = Instant::now() + Duration::from_millis(5);
        assert!(lock_until(&two, Family::Flock, Kind::Exclusive, deadline).unwrap().is_none());
        assert!(Instant::now() >= deadline);
    }
}
