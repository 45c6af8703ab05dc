//! `postrider up`: starts every daemon, keeps it alive, and takes all of them along when it ends. For containers, trials and tests;
//! under systemd the units do the same.

mod daemon;
mod plan;
mod publication;
mod readiness;
mod restarts;
mod start;
mod supervise;

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use mail_daemon::generation::{self, GenerationError};
use mail_posix::locks::{Family, Kind, try_lock};

use self::daemon::Launch;
use self::plan::{Workers, plan};
use self::publication::{Publication, publish};
pub use self::readiness::ReadySocket;
use self::start::Console;
use self::supervise::Supervisor;
use crate::arguments::Grammar;
use crate::exit::{CONFIGURATION, Failure, Outcome, SOFTWARE, UNAVAILABLE, USAGE};
use crate::system::directory;

const GRAMMAR: Grammar = Grammar { letters: "c:D:L:W:", long: &[("dovecot", 'D'), ("log-dir", 'L'), ("workers", 'W')] };
const HELP: &str = "usage: up [-c DIR] [--dovecot FILE] [--log-dir DIR] [--workers local-delivery=N,remote-delivery=N]";

/// The file below the state directory whose lock says that `up` runs, and whose content says as which process.
pub const LOCK_FILE: &str = "up.pid";

/// The command line of `up`.
#[derive(Debug, Clone)]
struct Options {
    directory: PathBuf,
    dovecot: Option<PathBuf>,
    log_dir: Option<PathBuf>,
    workers: Workers,
}

impl Options {
    fn parse(arguments: &[OsString]) -> Result<Self, Failure> {
        let usage = |text: String| Failure::new(USAGE, format!("{text}; {HELP}"));
        let parsed = GRAMMAR.parse(arguments).map_err(|error| usage(error.to_string()))?;
        if let Some(operand) = parsed.operands.first() {
            return Err(usage(format!("unexpected `{}'", operand.display())));
        }
        let mut workers = Workers::default();
        for given in parsed.options.iter().filter(|given| given.option == 'W') {
            workers.set(&given.text()).map_err(|part| usage(format!("bad worker count `{part}'")))?;
        }
        let path = |option| parsed.last(option).map(PathBuf::from);
        Ok(Self { directory: directory(parsed.last('c')), dovecot: path('D'), log_dir: path('L'), workers })
    }

    fn publish(&self) -> Result<Publication, Failure> {
        publish(|| generation::publish(&self.directory, self.dovecot.as_deref()).map_err(published))
    }

    /// Publishes at a reload, which `postrider_reload_tests` may refuse.
    fn publish_again(&self) -> Result<Publication, Failure> {
        publish(|| crate::postfix::publish_tested(&self.directory, self.dovecot.as_deref()))
    }

    fn plan(&self, published: &Publication) -> Vec<plan::Planned> {
        plan(self.workers, published.doors)
    }

    /// The options that every daemon gets. Paths are made absolute: a daemon may change its directory.
    fn for_daemons(&self) -> io::Result<Vec<OsString>> {
        let mut options = Vec::new();
        let named =
            [("-c", Some(&self.directory)), ("--dovecot", self.dovecot.as_ref()), ("--log-dir", self.log_dir.as_ref())];
        for (name, path) in named {
            if let Some(path) = path {
                options.extend([OsString::from(name), std::path::absolute(path)?.into_os_string()]);
            }
        }
        Ok(options)
    }
}

/// Why a generation could not be published, with its exit code: 78 for wrong files and missing users, which another try does not mend; 69 for
/// what the system refuses now.
pub fn published(error: GenerationError) -> Failure {
    match error {
        GenerationError::System(error) if error.kind() != io::ErrorKind::NotFound => {
            Failure::new(UNAVAILABLE, error.to_string())
        }
        error => Failure::new(CONFIGURATION, error.to_string()),
    }
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// 64 for a wrong command line, 78 for wrong files, 69 where the state directory cannot be used or another `up` runs.
pub fn run(arguments: &[OsString]) -> Outcome {
    let options = Options::parse(arguments)?;
    let unavailable = |what: &Path| {
        let what = what.display().to_string();
        move |error: io::Error| Failure::new(UNAVAILABLE, format!("{what}: {error}"))
    };
    let published = options.publish()?;
    let state = published.state.clone();
    let logs = options.log_dir.clone().unwrap_or_else(|| state.join("log"));
    std::fs::create_dir_all(&logs).map_err(unavailable(&logs))?;
    let lock = lock(&state.join(LOCK_FILE))?;
    let programs = programs()?;
    let launch = Launch { programs, options: options.for_daemons().map_err(unavailable(&options.directory))?, logs };
    let plan = options.plan(&published);
    let console = Console::new(options, published);
    let supervisor = Supervisor::new(launch, plan, console).map_err(unavailable(Path::new("up")))?;
    let code = supervisor.run().map_err(unavailable(Path::new("up")))?;
    drop(lock);
    Ok(code)
}

/// Takes the lock that says that `up` runs here, and writes our process id into the file. Held until the file is dropped.
fn lock(path: &Path) -> Result<File, Failure> {
    let unavailable = |error: io::Error| Failure::new(UNAVAILABLE, format!("{}: {error}", path.display()));
    let open = OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o644).open(path);
    let mut file = open.map_err(unavailable)?;
    // The lock is the open file's and ends with it, not with the guard.
    let held = try_lock(&file, Family::Flock, Kind::Exclusive).map_err(unavailable)?.map(std::mem::forget);
    held.ok_or_else(|| Failure::new(UNAVAILABLE, "the mail system is already running"))?;
    file.set_len(0).map_err(unavailable)?;
    writeln!(file, "{}", std::process::id()).map_err(unavailable)?;
    Ok(file)
}

/// The directory of the daemons: our own, or `../lib/postrider` beside it, as `cargo xtask install` lays them out.
fn programs() -> Result<PathBuf, Failure> {
    let us = std::env::current_exe().map_err(|error| Failure::new(SOFTWARE, error.to_string()))?;
    let ours = us.parent().unwrap_or(Path::new("/"));
    let installed = ours.parent().unwrap_or(Path::new("/")).join("lib/postrider");
    [ours.to_owned(), installed.clone()]
        .into_iter()
        .find(|directory| directory.join("queue-manager").exists())
        .ok_or_else(|| {
            Failure::new(UNAVAILABLE, format!("no daemons in {} or {}", ours.display(), installed.display()))
        })
}
