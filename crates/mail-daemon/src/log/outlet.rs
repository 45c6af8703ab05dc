//! One place that lines go to: a file, a pipe, syslog's socket, the journal's stream. Nothing here waits: what an outlet does not take now stays
//! in a bounded buffer, what does not fit is dropped and counted, and an outlet that broke is opened again.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// So many octets wait for one outlet before lines are dropped.
const WAITING: usize = 1024 * 1024;
/// POSIX's PIPE_BUF on Linux: a pipe that polls writable takes as much at once.
const PIPE: usize = 4096;
/// How often an outlet that could not be opened is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Where an outlet leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// A file or FIFO.
    File(PathBuf),
    /// The standard output, which `/dev/stdout` names.
    Stdout,
    /// The standard error: `/dev/stderr`, or the journal's stream.
    Stderr,
    /// The socket of a syslog daemon.
    Syslog(PathBuf),
}

impl Target {
    /// What a configured path means.
    pub(super) fn of(path: &Path) -> Self {
        match path.to_str() {
            Some("/dev/stdout" | "/dev/fd/1") => Self::Stdout,
            Some("/dev/stderr" | "/dev/fd/2") => Self::Stderr,
            _ => Self::File(path.to_owned()),
        }
    }

    fn open(&self) -> io::Result<Stream> {
        match self {
            Self::File(path) => Ok(Stream::of(open(path)?)),
            Self::Stdout => Ok(Stream::of(File::from(io::stdout().as_fd().try_clone_to_owned()?))),
            Self::Stderr => Ok(Stream::of(File::from(io::stderr().as_fd().try_clone_to_owned()?))),
            Self::Syslog(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path)?;
                socket.set_nonblocking(true)?;
                Ok(Stream::Datagrams(socket))
            }
        }
    }
}

/// Opens a log to append to it, without waiting for the reader of a FIFO.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let nonblocking = rustix::fs::OFlags::NONBLOCK.union(rustix::fs::OFlags::NOCTTY);
    let flags = i32::try_from(nonblocking.bits()).map_err(io::Error::other)?;
    File::options().create(true).append(true).mode(0o640).custom_flags(flags).open(path)
}

/// What is open.
enum Stream {
    /// A file on a disk, which takes any amount at once.
    Disk(Arc<File>),
    /// A pipe, terminal or socket.
    Pipe(File),
    /// One line per datagram.
    Datagrams(UnixDatagram),
}

impl Stream {
    fn of(file: File) -> Self {
        if file.metadata().is_ok_and(|metadata| metadata.is_file()) {
            Self::Disk(Arc::new(file))
        } else {
            Self::Pipe(file)
        }
    }

    /// Writes some of the octets, which are whole lines but for the first; gives how many it took.
    fn write(&self, octets: &[u8]) -> io::Result<usize> {
        match self {
            Self::Disk(file) => (&**file).write(octets),
            Self::Pipe(file) => {
                // The standard streams are shared and stay blocking, so room is asked for first.
                let mut entries = [PollFd::new(file, PollFlags::OUT)];
                poll(&mut entries, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
                let ready = entries[0].revents();
                if ready.contains(PollFlags::ERR) {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
                if !ready.contains(PollFlags::OUT) {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                (&*file).write(&octets[..octets.len().min(PIPE)])
            }
            Self::Datagrams(socket) => {
                let end = octets.iter().position(|&octet| octet == b'\n').unwrap_or(octets.len());
                socket.send(&octets[..end])?;
                Ok((end + 1).min(octets.len()))
            }
        }
    }
}

/// A target with what waits for it.
pub(super) struct Outlet {
    target: Target,
    stream: Option<Stream>,
    waiting: VecDeque<u8>,
    lost: u64,
    tried: Instant,
}

impl Outlet {
    /// An outlet; `given` was opened with rights that this process does not have any more.
    pub(super) fn new(target: Target, given: Option<&Arc<File>>) -> Self {
        let given = given.map(|file| Stream::Disk(Arc::clone(file)));
        Self { target, stream: given, waiting: VecDeque::new(), lost: 0, tried: Instant::now() }
    }

    /// Opens the outlet, again after a rotation. What was open before stays in use where that fails.
    ///
    /// # Errors
    /// A sentence about the target.
    pub(super) fn open(&mut self) -> Result<(), String> {
        self.tried = Instant::now();
        match self.target.open() {
            Ok(stream) => {
                self.stream = Some(stream);
                Ok(())
            }
            Err(error) => match &self.target {
                Target::File(path) => Err(format!("cannot open the log {}: {error}", path.display())),
                // Nobody listens there yet; tried again while something waits.
                _ => Ok(()),
            },
        }
    }

    /// Whether it has something to do without a new line.
    pub(super) fn is_busy(&self) -> bool {
        !self.waiting.is_empty() || self.lost > 0
    }

    /// Adds a line; one that does not fit is counted.
    pub(super) fn add(&mut self, line: &str) {
        if self.waiting.len() + line.len() >= WAITING {
            self.lost += 1;
            return;
        }
        self.waiting.extend(line.as_bytes());
        self.waiting.push_back(b'\n');
    }

    /// How many lines were dropped, once there is room to say so.
    pub(super) fn take_lost(&mut self) -> Option<u64> {
        let room = self.lost > 0 && self.waiting.len() < WAITING / 2;
        room.then(|| std::mem::take(&mut self.lost))
    }

    /// Writes what can be written now.
    pub(super) fn push(&mut self) {
        if self.stream.is_none() && !self.waiting.is_empty() && self.tried.elapsed() >= AGAIN {
            // The reason was told when it was opened first.
            let _ = self.open();
        }
        let datagrams = matches!(self.stream, Some(Stream::Datagrams(_)));
        while let Some(stream) = &self.stream
            && !self.waiting.is_empty()
        {
            let octets = if datagrams { self.waiting.make_contiguous() } else { self.waiting.as_slices().0 };
            match stream.write(octets) {
                // A file that takes nothing and gives no error is as good as full.
                Ok(0) => return,
                Ok(taken) => drop(self.waiting.drain(..taken)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => match error.raw_os_error().map(Errno::from_raw_os_error) {
                    // Too long for a datagram: this line is lost, the next may fit.
                    Some(Errno::MSGSIZE) => self.skip_line(),
                    Some(
                        Errno::PIPE
                        | Errno::CONNREFUSED
                        | Errno::CONNRESET
                        | Errno::NOTCONN
                        | Errno::DESTADDRREQ
                        | Errno::NOENT,
                    ) => self.stream = None,
                    None if error.kind() == io::ErrorKind::BrokenPipe => self.stream = None,
                    // Full pipe, full socket, full disk: it waits.
                    _ => return,
                },
            }
        }
    }

    fn skip_line(&mut self) {
        let end = self.waiting.iter().position(|&octet| octet == b'\n').map_or(self.waiting.len(), |at| at + 1);
        self.waiting.drain(..end);
        self.lost += 1;
    }
}
