//! `postfix start|stop|reload|status|check|flush|abort`: the mail system as a whole, with or without systemd.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mail_daemon::generation;
use mail_ipc::control::{DaemonRequest, DaemonResponse};
use mail_posix::locks::{Family, Kind, try_lock};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use crate::arguments::Grammar;
use crate::exit::{Failure, Outcome, UNAVAILABLE};
use crate::system::{DEFAULT_DIRECTORY, System, directory};
use crate::terminal::complain;
use crate::up::{LOCK_FILE, ReadySocket};
use crate::{check, daemons, postqueue};

const GRAMMAR: Grammar = Grammar::letters("c:Dv");
const USAGE: &str = "usage: postfix [-c config_dir] start|stop|reload|status|check|flush|abort";
/// How long the start may take until every daemon is ready.
const START: Duration = Duration::from_secs(60);
/// How long the stop may take: every stage of `up` has its own limit.
const STOP: Duration = Duration::from_secs(120);

/// Runs the command.
///
/// # Errors
/// 1 where the mail system is not in the state that the command needs; 78 for wrong files.
pub fn run(arguments: &[OsString]) -> Outcome {
    let parsed = GRAMMAR.parse(arguments).map_err(|error| Failure::usage(format!("{error}; {USAGE}")))?;
    let [command] = parsed.operands.as_slice() else { return Err(Failure::usage(USAGE)) };
    let option = parsed.last('c');
    match command.to_str() {
        Some("start") => start(&directory(option)),
        Some("stop") => stop(option, Signal::TERM),
        Some("abort") => stop(option, Signal::KILL),
        Some("reload") => reload(option),
        Some("status") => status(option),
        Some("check") => check::run(&option.map_or_else(Vec::new, |path| vec!["-c".into(), path.to_owned()])),
        Some("flush") => postqueue::flush(&System::state(option)?),
        _ => Err(Failure::usage(format!("unknown command: '{}'. {USAGE}", command.to_string_lossy()))),
    }
}

/// `postrider reload [-c DIR]`.
///
/// # Errors
/// As [`reload`].
pub fn reload_command(arguments: &[OsString]) -> Outcome {
    let parsed =
        GRAMMAR.parse(arguments).map_err(|error| Failure::usage(format!("{error}; usage: reload [-c DIR]")))?;
    reload(parsed.last('c'))
}

fn say(text: &str) {
    complain(&format!("postfix: {text}"));
}

/// Whether systemd runs this machine, has our units, and the directory is theirs.
fn by_systemd(directory: &Path) -> bool {
    let units =
        ["/etc/systemd/system", "/lib/systemd/system", "/usr/lib/systemd/system", "/usr/local/lib/systemd/system"];
    Path::new("/run/systemd/system").is_dir()
        && directory == Path::new(DEFAULT_DIRECTORY)
        && units.iter().any(|unit| Path::new(unit).join("postrider.target").exists())
}

fn systemctl(verb: &str) -> Outcome {
    let unavailable = |error: io::Error| Failure::new(UNAVAILABLE, format!("systemctl: {error}"));
    let status = Command::new("systemctl").arg(verb).arg("postrider.target").status().map_err(unavailable)?;
    Ok(if status.success() { 0 } else { 1 })
}

/// Starts the mail system and waits until it is ready.
///
/// # Errors
/// 1 if it runs already or does not come up; 78 for wrong files.
pub fn start(directory: &Path) -> Outcome {
    if by_systemd(directory) {
        return systemctl("start");
    }
    let published = generation::publish(directory, None).map_err(crate::up::published)?;
    let state = published.config.state_dir();
    if running(&state).is_some() {
        return Err(Failure::new(1, "the mail system is already running"));
    }
    say("starting the mail system");
    let failed = |error: io::Error| Failure::new(1, error.to_string());
    let log = state.join("log/up.log");
    let output = OpenOptions::new().append(true).create(true).mode(0o640).open(&log).map_err(failed)?;
    let ready = ReadySocket::open("up").map_err(failed)?;
    let child = background(directory, &output, &ready).map_err(failed)?;
    let deadline = Instant::now() + START;
    loop {
        if ready.take().map_err(failed)? {
            return Ok(0);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if let Some(ended) = child.try_wait().map_err(failed)? {
            return Err(Failure::new(1, format!("the mail system did not start ({ended}); see {}", log.display())));
        }
        if left.is_zero() {
            return Err(Failure::new(1, format!("the mail system is not ready yet; see {}", log.display())));
        }
        let mut watched = [
            PollFd::from_borrowed_fd(ready.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(child.as_fd(), PollFlags::IN),
        ];
        wait(&mut watched, left).map_err(failed)?;
    }
}

/// `up` as a session of its own, so that neither this command's end nor the terminal's touches it.
fn background(directory: &Path, output: &File, ready: &ReadySocket) -> io::Result<mail_posix::Child> {
    let directory = std::path::absolute(directory)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("up").arg("-c").arg(directory).env("NOTIFY_SOCKET", ready.address()).current_dir("/");
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output.try_clone()?);
    mail_posix::fork_child(move || {
        let error = rustix::process::setsid().map_err(io::Error::from).err().unwrap_or_else(|| command.exec());
        complain(&format!("postfix: {error}"));
        127
    })
}

fn wait(watched: &mut [PollFd<'_>], left: Duration) -> io::Result<()> {
    let timeout = Timespec { tv_sec: left.as_secs().cast_signed() + 1, tv_nsec: 0 };
    match poll(watched, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The process id of the `up` that holds its lock, if one does.
fn running(state: &Path) -> Option<Pid> {
    let path = state.join(LOCK_FILE);
    let file = File::open(&path).ok()?;
    if try_lock(&file, Family::Flock, Kind::Shared).ok()?.is_some() {
        return None;
    }
    let text = std::fs::read_to_string(&path).ok()?;
    Pid::from_raw(text.lines().next()?.trim().parse().ok()?)
}

fn stop(option: Option<&OsStr>, signal: Signal) -> Outcome {
    if by_systemd(&directory(option)) {
        return systemctl("stop");
    }
    let state = System::state(option)?;
    let pid = running(&state).ok_or_else(|| Failure::new(1, "the mail system is not running"))?;
    let failed = |error: rustix::io::Errno| Failure::new(1, format!("process {}: {error}", pid.as_raw_nonzero()));
    let process = pidfd_open(pid, PidfdFlags::empty()).map_err(failed)?;
    say("stopping the mail system");
    kill_process(pid, signal).map_err(failed)?;
    let mut watched = [PollFd::from_borrowed_fd(process.as_fd(), PollFlags::IN)];
    let deadline = Instant::now() + STOP;
    // One wait suffices except where a signal interrupts it.
    while watched[0].revents().is_empty() && Instant::now() < deadline {
        wait(&mut watched, deadline.saturating_duration_since(Instant::now()))
            .map_err(|error| Failure::new(1, error.to_string()))?;
    }
    if watched[0].revents().is_empty() { Err(Failure::new(1, "the mail system has not stopped")) } else { Ok(0) }
}

/// Publishes what the files say now, and waits until every daemon has taken it.
///
/// # Errors
/// 78 for wrong files, with nothing changed; 1 where the system is down or a daemon lags.
pub fn reload(option: Option<&OsStr>) -> Outcome {
    let directory = directory(option);
    let state = System::state(option)?;
    let before = daemons::ask(&state, &DaemonRequest::Status);
    let up = running(&state);
    if before.is_empty() && up.is_none() {
        return Err(Failure::new(1, "the mail system is not running"));
    }
    let dovecot = dovecot_of(&directory, &state);
    let reachable = generation::read(&state).map(|(_, config)| config.policy_ports());
    let published = publish_tested(&directory, dovecot.as_deref())?;
    for report in published.reports.iter().filter(|report| report.level >= mail_config::Level::Warning) {
        say(&report.line());
    }
    if let Some(pid) = up {
        // It also starts and stops daemons where the protocols have changed.
        kill_process(pid, Signal::HUP).map_err(|error| Failure::new(1, error.to_string()))?;
    }
    say(&format!("refreshing the mail system, generation {}", published.number));
    let unreached = |port: &u16| reachable.as_ref().is_ok_and(|reachable| !reachable.contains(port));
    for port in published.config.policy_ports().into_iter().filter(unreached) {
        say(&format!(
            "smtpd may connect to the ports that the configuration named when it started: the policy service on TCP port {port} \
             is reached after `systemctl restart smtpd' (or postfix stop, postfix start)"
        ));
    }
    let mut lagging = Vec::new();
    for said in daemons::ask(&state, &DaemonRequest::Reload) {
        match said.answer {
            Ok(DaemonResponse::Running { generation, .. }) if generation >= published.number => {}
            Ok(DaemonResponse::Running { generation, .. }) => {
                lagging.push(format!("{}: still generation {generation}", said.instance));
            }
            Ok(DaemonResponse::Failed { text }) => lagging.push(format!("{}: {text}", said.instance)),
            Ok(DaemonResponse::NotUnderstood) => lagging.push(format!("{}: of another version", said.instance)),
            Err(error) => lagging.push(format!("{}: {error}", said.instance)),
        }
    }
    if lagging.is_empty() { Ok(0) } else { Err(Failure::new(1, lagging.join("; "))) }
}

/// Publishes what the files say now, unless a case of `postrider_reload_tests` does not come out as it expects.
///
/// # Errors
/// 78 for wrong files and for such a case, with nothing changed.
pub fn publish_tested(directory: &Path, dovecot: Option<&Path>) -> Result<generation::Published, Failure> {
    generation::publish_if(directory, dovecot, crate::explain::cases::gate)
}

impl From<generation::GenerationError> for Failure {
    fn from(error: generation::GenerationError) -> Self {
        crate::up::published(error)
    }
}

/// The dovecot.conf of the generation that runs, where it is another file than the usual ones: `up --dovecot FILE` named it.
fn dovecot_of(directory: &Path, state: &Path) -> Option<PathBuf> {
    let (_, config) = generation::read(state).ok()?;
    let file = PathBuf::from(&config.dovecot.raw().file);
    let usual = [directory.join("dovecot.conf"), PathBuf::from("/etc/dovecot/dovecot.conf")];
    (!usual.contains(&file)).then_some(file)
}

fn status(option: Option<&OsStr>) -> Outcome {
    let state = System::state(option)?;
    let up = running(&state);
    let said = daemons::ask(&state, &DaemonRequest::Status);
    if up.is_none() && said.is_empty() {
        return Err(Failure::new(1, "the mail system is not running"));
    }
    match up {
        Some(pid) => say(&format!("the mail system is running: PID: {}", pid.as_raw_nonzero())),
        None => say("the mail system is running"),
    }
    for said in said {
        match said.answer {
            Ok(DaemonResponse::Running { generation, pid }) => {
                say(&format!("  {:<18} PID: {pid}, generation {generation}", said.instance));
            }
            Ok(DaemonResponse::Failed { text }) => say(&format!("  {:<18} {text}", said.instance)),
            Ok(DaemonResponse::NotUnderstood) => say(&format!("  {:<18} of another version", said.instance)),
            Err(error) => say(&format!("  {:<18} {error}", said.instance)),
        }
    }
    Ok(0)
}
