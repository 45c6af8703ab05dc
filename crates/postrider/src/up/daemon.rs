//! One daemon under supervision: how it is started, what became of it.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use mail_posix::Child;
use rustix::process::Signal;

use super::plan::Planned;
use super::readiness::ReadySocket;
use super::restarts::Restarts;

/// The exit code of a child that could not even start its program.
const NOT_STARTED: u8 = 127;
/// How much of a dead daemon's last words is shown.
const LAST_WORDS: u64 = 2048;

/// What is common to all daemons of one `up`.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The directory with the daemons' binaries.
    pub programs: PathBuf,
    /// The options that every daemon gets: `-c`, `--dovecot`, `--log-dir`.
    pub options: Vec<OsString>,
    /// Where each daemon's log is.
    pub logs: PathBuf,
}

/// Where a daemon is in its life.
#[derive(Debug)]
pub enum Life {
    /// To be started at this moment, when its stage has come.
    Due(Instant),
    /// Running.
    Running {
        /// The process.
        child: Child,
        /// Whether it has said so.
        ready: bool,
        /// Since when.
        since: Instant,
        /// How long its log was before.
        log: u64,
    },
    /// Ended and not to be started again.
    Over,
}

/// A daemon with its past.
#[derive(Debug)]
pub struct Daemon {
    /// What it is.
    pub planned: Planned,
    /// Where it is in its life.
    pub life: Life,
    /// Its deaths.
    pub restarts: Restarts,
    /// Whether it has ever been ready; the first time opens the next stage.
    pub was_ready: bool,
    /// Whether its end is wanted: the configuration has no place for it any more.
    pub retired: bool,
    /// Where it says that it is ready.
    pub socket: ReadySocket,
    log: PathBuf,
}

impl Daemon {
    /// A daemon that is due now.
    ///
    /// # Errors
    /// No socket for its readiness could be opened.
    pub fn new(planned: Planned, launch: &Launch) -> io::Result<Self> {
        let socket = ReadySocket::open(&planned.instance)?;
        let log = launch.logs.join(format!("{}.log", planned.instance));
        let life = Life::Due(Instant::now());
        Ok(Self { planned, life, restarts: Restarts::default(), was_ready: false, retired: false, socket, log })
    }

    /// Its process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        match &self.life {
            Life::Running { child, .. } => Some(child.pid()),
            Life::Due(_) | Life::Over => None,
        }
    }

    /// Starts it: a process of its own group, so that the terminal's ^C is ours alone, that dies with us.
    ///
    /// # Errors
    /// The log cannot be opened or no process be made.
    pub fn start(&mut self, launch: &Launch) -> io::Result<()> {
        let log = open_log(&self.log)?;
        let length = log.metadata()?.len();
        let mut command = Command::new(launch.programs.join(self.planned.program));
        command.args(&launch.options).arg("--name").arg(&self.planned.instance);
        command.env("NOTIFY_SOCKET", self.socket.address()).env_remove("WATCHDOG_USEC");
        command.stdin(Stdio::null()).stdout(Stdio::from(log.try_clone()?)).stderr(Stdio::from(log)).process_group(0);
        let parent = std::process::id();
        let child = mail_posix::fork_child(move || exec(command, parent))?;
        self.life = Life::Running { child, ready: false, since: Instant::now(), log: length };
        Ok(())
    }

    /// Sends a signal if it runs.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        match &self.life {
            Life::Running { child, .. } => child.signal(signal.as_raw()),
            Life::Due(_) | Life::Over => Ok(()),
        }
    }

    /// The end of what this life has written to the log.
    #[must_use]
    pub fn last_words(&self, since: u64) -> String {
        tail(&self.log, since).unwrap_or_default()
    }
}

/// Opens a daemon's log. As root the daemon's part without rights writes to it as well, as a member of our group; and since that group may
/// write to the directory, nothing but a file of one name is touched there.
fn open_log(path: &Path) -> io::Result<File> {
    let no_link = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    let log = OpenOptions::new().append(true).create(true).mode(0o640).custom_flags(no_link).open(path)?;
    if mail_daemon::state::is_root() {
        let metadata = log.metadata()?;
        if !metadata.is_file() || metadata.nlink() != 1 {
            return Err(io::Error::other(format!("{} is no file of one name", path.display())));
        }
        std::os::unix::fs::fchown(&log, None, Some(mail_daemon::state::group(mail_daemon::state::GROUP)?))?;
        log.set_permissions(Permissions::from_mode(0o660))?;
    }
    Ok(log)
}

/// In the child: becomes the program, or says why not.
fn exec(mut command: Command, parent: u32) -> u8 {
    let prepared = mail_posix::fork::die_with_parent(parent).and_then(|()| mail_posix::signals::unblock_all());
    let error = prepared.err().unwrap_or_else(|| command.exec());
    // Into the log if that much succeeded, else to our own standard error.
    crate::terminal::complain(&format!("{}: {error}", command.get_program().to_string_lossy()));
    NOT_STARTED
}

fn tail(path: &Path, since: u64) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(since.max(length.saturating_sub(LAST_WORDS))))?;
    let mut octets = Vec::new();
    file.take(LAST_WORDS).read_to_end(&mut octets)?;
    Ok(String::from_utf8_lossy(&octets).trim_end().to_owned())
}
