//! Processes without exec: a single-threaded parent forks, the child runs a closure and ends.
//!
//! Fork copies one thread only, so a lock that another thread held would stay locked in the child for ever. Therefore [`fork_child`]
//! refuses when more than one thread exists: daemons fork before they start their event loop.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};

/// A child process that has not been reaped. Its process id cannot be reused before [`Child::wait`] or [`Child::try_wait`] gave its end.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    pidfd: OwnedFd,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It exited with this code.
    Code(u8),
    /// This signal ended it.
    Signal(i32),
}

impl Ended {
    /// Exit code 0.
    #[must_use]
    pub fn success(self) -> bool {
        self == Self::Code(0)
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit status {code}"),
            Self::Signal(signal) => write!(f, "killed by signal {signal}"),
        }
    }
}

/// The exit code of a child whose closure panicked (EX_SOFTWARE of sysexits.h).
pub const PANICKED: u8 = 70;

/// How many threads this process has.
///
/// # Errors
/// /proc is not mounted.
pub fn thread_count() -> io::Result<usize> {
    Ok(std::fs::read_dir("/proc/self/task")?.count())
}

/// Forks; the child runs `run` and exits with its code, without destructors or exit handlers of the parent's frames.
/// A panic in the child becomes exit code 70. The child inherits blocked signals; call [`crate::signals::unblock_all`] there.
///
/// # Errors
/// More than one thread exists, or the system has no room for another process.
pub fn fork_child(run: impl FnOnce() -> u8) -> io::Result<Child> {
    let threads = thread_count()?;
    if threads != 1 {
        return Err(io::Error::other(format!("cannot fork a process with {threads} threads")));
    }
    // SAFETY: this process has one thread, so the child's copy of memory (allocator and locks included) is consistent.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let code = catch_unwind(AssertUnwindSafe(run)).unwrap_or(PANICKED);
            exit_now(code)
        }
        raw => Child::of(Pid::from_raw(raw).expect("fork gives a positive process id")),
    }
}

/// Ends this process at once: nothing is flushed, no exit handler runs.
pub fn exit_now(code: u8) -> ! {
    // SAFETY: never returns.
    unsafe { libc::_exit(i32::from(code)) }
}

/// Closes every descriptor but the standard three and `keep`: what a child just forked does first, so that it holds nothing of its parent's other
/// conversations. Objects of the parent's that own a closed descriptor must not be used or dropped in the child any more; a child made by
/// [`fork_child`] never drops them.
///
/// # Errors
/// The kernel refuses.
pub fn close_all_but(keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut kept: Vec<u32> = keep.iter().map(|fd| fd.as_raw_fd().unsigned_abs()).collect();
    kept.sort_unstable();
    let mut first = 3;
    for fd in kept {
        if fd > first {
            close_range(first, fd - 1)?;
        }
        first = first.max(fd + 1);
    }
    close_range(first, u32::MAX)
}

fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: closing descriptors touches no memory; see close_all_but for who may still hold them.
    match unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Ends this process with SIGALRM after so many seconds, whatever it is waiting for: for a child that runs foreign code. 0 takes it back.
pub fn end_after(seconds: u32) {
    // SAFETY: no pointers.
    unsafe { libc::alarm(seconds) };
}

/// Asks the kernel to end this process with SIGKILL when its parent (thread) ends. `parent` is the process id that the caller knows as
/// its parent: if it is already gone, the process ends now.
///
/// # Errors
/// The kernel refuses.
pub fn die_with_parent(parent: u32) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let current = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get().unsigned_abs());
    if current != parent {
        exit_now(PANICKED);
    }
    Ok(())
}

/// Makes orphaned descendants children of this process instead of init's, so that it can reap them.
///
/// # Errors
/// The kernel refuses.
pub fn adopt_orphans() -> io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?)
}

/// Reaps one ended child of any kind: its process id and end; `None` when none has ended (or none exists).
///
/// # Errors
/// The kernel refuses.
pub fn reap_any() -> io::Result<Option<(u32, Ended)>> {
    loop {
        match rustix::process::waitpid(None, WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                if let Some(ended) = ended(status) {
                    return Ok(Some((number(pid), ended)));
                }
            }
            Ok(None) | Err(rustix::io::Errno::CHILD) => return Ok(None),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

impl Child {
    fn of(pid: Pid) -> io::Result<Self> {
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty());
        match pidfd {
            Ok(pidfd) => Ok(Self { pid, pidfd }),
            Err(error) => {
                // Without a handle nobody could watch the child: it must not stay.
                let _ = rustix::process::kill_process(pid, Signal::KILL);
                let _ = rustix::process::waitpid(Some(pid), WaitOptions::empty());
                Err(error.into())
            }
        }
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        number(self.pid)
    }

    /// Sends a signal by number (SIGTERM is 15). A child that has already ended is not an error.
    ///
    /// # Errors
    /// The number is no signal, or the kernel refuses.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        let signal = Signal::from_named_raw(signal).ok_or(io::ErrorKind::InvalidInput)?;
        match rustix::process::pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until the child ends.
    ///
    /// # Errors
    /// It was reaped elsewhere.
    pub fn wait(&self) -> io::Result<Ended> {
        loop {
            if let Some(ended) = self.reap(WaitOptions::empty())? {
                return Ok(ended);
            }
        }
    }

    /// How the child ended, if it has.
    ///
    /// # Errors
    /// It was reaped elsewhere.
    pub fn try_wait(&self) -> io::Result<Option<Ended>> {
        self.reap(WaitOptions::NOHANG)
    }

    fn reap(&self, options: WaitOptions) -> io::Result<Option<Ended>> {
        loop {
            match rustix::process::waitpid(Some(self.pid), options) {
                Ok(found) => return Ok(found.and_then(|(_, status)| ended(status))),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Readable when the child has ended: for poll and for an event loop.
impl AsFd for Child {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

fn ended(status: rustix::process::WaitStatus) -> Option<Ended> {
    let code = status.exit_status().map(|code| Ended::Code(u8::try_from(code & 0xFF).expect("masked")));
    code.or_else(|| status.terminating_signal().map(Ended::Signal))
}

fn number(pid: Pid) -> u32 {
    pid.as_raw_nonzero().get().unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    // What really forks needs a process of one thread: see tests/processes.rs.

    #[test]
    fn a_process_with_threads_does_not_fork() {
        let (quit, wait) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || wait.recv());
        assert!(fork_child(|| 0).is_err());
        drop(quit);
        let _ = other.join();
    }
}
