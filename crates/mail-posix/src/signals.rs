//! Signals as a descriptor: blocked, and read in the same poll loop as everything else. No handler runs anywhere.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// The signals that a daemon listens to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caught {
    /// SIGTERM: stop.
    Stop,
    /// SIGINT: stop. A terminal sends it to all processes of a daemon at once.
    Interrupt,
    /// SIGHUP: take the new configuration.
    Reload,
    /// SIGCHLD: a child changed state; several may hide behind one.
    Child,
    /// SIGUSR1: a daemon's own meaning.
    User,
}

const LISTENED: [i32; 5] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGCHLD, libc::SIGUSR1];

/// The blocked signals, readable. Non-blocking and close-on-exec.
#[derive(Debug)]
pub struct SignalFd(OwnedFd);

impl SignalFd {
    /// Blocks the signals for this thread (and threads and children that it makes) and opens the descriptor.
    ///
    /// # Errors
    /// The system has no descriptor left.
    pub fn open() -> io::Result<Self> {
        let set = set_of(&LISTENED);
        mask(libc::SIG_BLOCK, &set)?;
        // SAFETY: `set` is initialised; -1 asks for a new descriptor.
        let raw = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a fresh descriptor that nobody else owns.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(raw) }))
    }

    /// The next signal that has arrived; `None` when none waits.
    ///
    /// # Errors
    /// The descriptor cannot be read.
    pub fn next(&self) -> io::Result<Option<Caught>> {
        let mut record = [0_u8; size_of::<libc::signalfd_siginfo>()];
        match rustix::io::read(&self.0, &mut record) {
            Ok(_) => {}
            Err(rustix::io::Errno::AGAIN) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        // ssi_signo is the first field (signalfd(2)).
        let number = u32::from_ne_bytes([record[0], record[1], record[2], record[3]]);
        Ok(Some(match i32::try_from(number).unwrap_or(0) {
            libc::SIGINT => Caught::Interrupt,
            libc::SIGHUP => Caught::Reload,
            libc::SIGCHLD => Caught::Child,
            libc::SIGUSR1 => Caught::User,
            _ => Caught::Stop,
        }))
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for SignalFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Unblocks every signal and gives the listened ones their default action: what a child does first.
///
/// # Errors
/// The kernel refuses.
pub fn unblock_all() -> io::Result<()> {
    for signal in LISTENED {
        // SAFETY: SIG_DFL is a valid disposition.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: sigset_t is plain data that sigfillset initialises.
    let all = unsafe {
        let mut set = MaybeUninit::uninit();
        libc::sigfillset(set.as_mut_ptr());
        set.assume_init()
    };
    mask(libc::SIG_UNBLOCK, &all)
}

/// A write to a closed socket becomes an error instead of the end of the process. Rust's runtime does this at start as well; a process
/// started with the signal's default action needs it.
pub fn ignore_sigpipe() {
    // SAFETY: SIG_IGN is a valid disposition.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

fn set_of(signals: &[i32]) -> libc::sigset_t {
    // SAFETY: sigset_t is plain data that sigemptyset initialises; the numbers are signals.
    unsafe {
        let mut set = MaybeUninit::uninit();
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), *signal);
        }
        set.assume_init()
    }
}

fn mask(how: i32, set: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: `set` is initialised; the old mask is not asked for.
    match unsafe { libc::pthread_sigmask(how, set, std::ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_for_this_thread_is_read_from_the_descriptor() {
        let signals = SignalFd::open().unwrap();
        assert_eq!(signals.next().unwrap(), None);
        // SAFETY: the calling thread exists; the signal is blocked in it.
        unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGHUP) };
        assert_eq!(signals.next().unwrap(), Some(Caught::Reload));
        assert_eq!(signals.next().unwrap(), None);
    }
}
