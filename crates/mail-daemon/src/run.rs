//! From the command line to a serving daemon.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use decision::Ident;
use mail_config::Config;
use mail_ipc::hello::Role;
use mail_ipc::sockets::{self, Socket};
use mail_posix::become_user::{Confinement, Identity, become_user};
use mail_posix::sandbox::{Report, Sandbox};
use mail_posix::signals::{self, SignalFd};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::activation::Given;
use crate::context::{Context, Ends, Keeper, Opened, Running, Setup};
use crate::generation::{self, GenerationError};
use crate::log::{Log, LogPlan, System};
use crate::monitor::{Channel, Desk, Monitor, Service, Watch};
use crate::options::Options;
use crate::secrets::TlsFiles;
use crate::{sandbox, state};

/// How long `serve` may take to end after a stop.
const GRACE: Duration = Duration::from_secs(25);
/// How long the processes of a former life may take to end.
const DYING: Duration = Duration::from_secs(3);

/// What a daemon needs opened before it gives up its rights.
#[derive(Debug, Default)]
pub struct Plan {
    /// TCP listeners.
    pub tcp: Vec<SocketAddr>,
    /// Unix sockets below the state directory. Of several instances only the one without `@` opens them.
    pub unix: Vec<Socket>,
    /// Unix sockets elsewhere, for clients that are no part of the system.
    pub files: Vec<SocketFile>,
}

/// A Unix socket with a path of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketFile {
    /// The absolute path.
    pub path: PathBuf,
    /// The mode of the file.
    pub mode: u32,
    /// Its owner; empty for ours.
    pub user: String,
    /// Its group; empty for ours.
    pub group: String,
}

/// What the monitor does that watches the process that serves.
pub enum Supervision {
    /// It reads keys and tables that not everybody may read.
    Monitor,
    /// It also carries out a service.
    Service(fn() -> Box<dyn Service>),
}

/// A daemon: the one line in `main.rs` passes it to [`run`].
pub struct Daemon {
    /// Its name: binary, unit, log, manual page.
    pub name: &'static str,
    /// What it is for its peers.
    pub role: Role,
    /// The user it serves as when it is started as root.
    pub user: &'static str,
    /// What to open.
    pub plan: fn(&Config) -> Plan,
    /// Certificates and keys it needs, in a fixed order; read again at reload.
    pub tls: fn(&Config) -> Vec<TlsFiles>,
    /// What its monitor does.
    pub supervision: Supervision,
    /// Serves until [`crate::Stop`] and what was under way is finished.
    pub serve: fn(Context) -> Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// Why a daemon does not start.
enum StartError {
    /// The files, options or users are wrong: exit code 78.
    Configuration(String),
    /// The system refuses: exit code 71.
    System(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configuration(text) => f.write_str(text),
            Self::System(error) => error.fmt(f),
        }
    }
}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

impl From<GenerationError> for StartError {
    fn from(error: GenerationError) -> Self {
        match error {
            GenerationError::Files(errors) => Self::Configuration(errors.to_string()),
            GenerationError::System(error) => Self::System(error),
        }
    }
}

/// Starts a daemon and serves until it is stopped; the exit code of `main`.
#[must_use]
pub fn run(daemon: Daemon) -> ExitCode {
    let name = daemon.name;
    match start(daemon) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            complain(name, &error);
            ExitCode::from(match error {
                StartError::Configuration(_) => crate::EX_CONFIG,
                StartError::System(_) => crate::EX_OSERR,
            })
        }
    }
}

/// Threads of a daemon's event loop. Several daemons work on the same mail at the same time: half of the processors is enough for each, and threads
/// that wake each other for nothing cost more than they do.
fn threads() -> usize {
    (std::thread::available_parallelism().map_or(1, usize::from) / 2).max(1)
}

/// Pools of memory that the threads of a daemon share.
const POOLS: u8 = 2;

/// Takes as many descriptors as the hard limit allows: the soft limit of many shells, 1024, is meant for programs that use `select`.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    // What cannot be raised still serves, with fewer sessions.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

fn start(daemon: Daemon) -> Result<u8, StartError> {
    signals::ignore_sigpipe();
    raise_descriptor_limit();
    mail_posix::memory::share_pools(POOLS);
    let mut given = Given::take();
    let arguments = std::env::args_os().skip(1);
    let options =
        Options::parse(daemon.name, arguments, std::env::var_os("MAIL_CONFIG")).map_err(StartError::Configuration)?;
    let state = published_state(&options)?;
    let setup = Arc::new(Setup {
        daemon: daemon.name,
        role: daemon.role,
        instance: options.instance.clone(),
        state,
        roles: state::Roles::of_system()?,
        options,
        tls_files: daemon.tls,
    });
    let running = setup.load()?;
    let identity = identity(&daemon)?;
    let opened = open(&(daemon.plan)(&running.config), &setup, &mut given)?;
    for address in given.rest() {
        eprintln!("{}: the socket {address} was given, but the configuration does not ask for it", daemon.name);
    }
    let mut log = log_plan(&setup, &running.config);
    if identity.is_some() {
        log.open_with_rights(state::group(state::GROUP)?);
    }
    let service = match daemon.supervision {
        Supervision::Monitor => None,
        Supervision::Service(make) => Some(make()),
    };
    watched(daemon.serve, service, setup, running, identity, log, opened)
}

/// The state directory, with a published generation in it.
fn published_state(options: &Options) -> Result<PathBuf, StartError> {
    let found = quick_state(&options.directory);
    if let Some(state) = found.filter(|state| matches!(generation::current(&state.join("generation")), Ok(Some(_)))) {
        return Ok(state);
    }
    let published = generation::publish(&options.directory, options.dovecot.as_deref())?;
    for report in published.reports.iter().filter(|report| report.level == mail_config::Level::Warning) {
        complain(&options.instance, report);
    }
    Ok(published.config.state_dir())
}

/// Where the state lies, read from main.cf alone, so that a daemon restarts on its generation while somebody edits the files.
/// None where only the whole configuration can tell.
fn quick_state(directory: &Path) -> Option<PathBuf> {
    let text = std::fs::read_to_string(directory.join("main.cf")).unwrap_or_default();
    let mut values = text.lines().filter_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name.trim_end() == "queue_directory").then(|| value.trim())
    });
    match values.next_back() {
        None | Some("/var/spool/postfix") => Some(PathBuf::from("/var/spool/postrider")),
        Some(value) if value.starts_with('/') && !value.contains('$') => Some(Path::new(value).join("postrider")),
        Some(_) => None,
    }
}

/// Whom the serving process becomes; none without root.
fn identity(daemon: &Daemon) -> Result<Option<Identity>, StartError> {
    if !state::is_root() {
        return Ok(None);
    }
    let missing = |error: io::Error| StartError::Configuration(error.to_string());
    let user = state::role_user(daemon.user).map_err(missing)?;
    let group = state::group(state::GROUP).map_err(missing)?;
    Ok(Some(Identity::of(&user)?.with_group(group)))
}

/// Opens what the plan names, except what the supervisor has opened already.
fn open(plan: &Plan, setup: &Setup, given: &mut Given) -> io::Result<Opened> {
    let mut tcp = Vec::new();
    for &address in &plan.tcp {
        tcp.push(given.tcp(address).map_or_else(|| once_free(|| mail_net::listen::tcp(address)), Ok)?);
    }
    let mut unix = Vec::new();
    let sockets = if setup.instance.contains('@') { &[][..] } else { &plan.unix };
    for socket in sockets {
        let path = setup.state.join(socket.directory).join(socket.name);
        unix.push(given.unix(&path).map_or_else(|| bind(setup, socket), Ok)?);
    }
    let (mut files, mut problems) = (Vec::new(), Vec::new());
    for opened in plan.files.iter().filter_map(bind_file) {
        match opened {
            Ok(file) => files.push(file),
            Err(error) => problems.push(format!("{error}: nobody can connect there")),
        }
    }
    let name = format!("{}.sock", setup.instance);
    let daemon = once_free(|| mail_net::ipc::bind(&setup.state.join(sockets::DAEMONS), &name, 0o660))?;
    share(&setup.state.join(sockets::DAEMONS).join(name))?;
    Ok(Opened { tcp, unix, files, daemon, problems })
}

/// Opens a socket outside the state directory. Where that cannot be, because its directory is missing or somebody else listens there, the rest still serves.
fn bind_file(file: &SocketFile) -> Option<io::Result<std::os::unix::net::UnixListener>> {
    let (directory, name) = (file.path.parent()?, file.path.file_name()?.to_str()?);
    Some(mail_net::ipc::bind(directory, name, file.mode).and_then(|listener| {
        give(file)?;
        Ok(listener)
    }))
}

/// As root: gives a socket file to its user and group.
fn give(file: &SocketFile) -> io::Result<()> {
    if !state::is_root() {
        return Ok(());
    }
    let uid = match file.user.as_str() {
        "" => None,
        name => Some(state::role_user(name)?.uid),
    };
    let gid = match file.group.as_str() {
        "" => None,
        name => Some(state::group(name)?),
    };
    std::os::unix::fs::chown(&file.path, uid, gid)
}

/// Opens a listener. A killed monitor is gone before its children are, and they hold its sockets: who is started in its place waits for them.
fn once_free<T>(open: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let deadline = Instant::now() + DYING;
    loop {
        match open() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            other => return other,
        }
    }
}

fn bind(setup: &Setup, socket: &Socket) -> io::Result<std::os::unix::net::UnixListener> {
    let directory = setup.state.join(socket.directory);
    let listener = once_free(|| mail_net::ipc::bind(&directory, socket.name, socket.mode))?;
    share(&directory.join(socket.name))?;
    Ok(listener)
}

/// As root: gives a socket file to the group of its directory.
fn share(path: &Path) -> io::Result<()> {
    let directory = path.parent().unwrap_or(path);
    if state::is_root() { std::os::unix::fs::chown(path, None, Some(directory.metadata()?.gid())) } else { Ok(()) }
}

/// Every line goes into the daemon's own file; beside it to `maillog_file` and `log_path`, or to the system's log where they say so.
fn log_plan(setup: &Setup, config: &Config) -> LogPlan {
    let directory = setup.options.log_dir.clone().unwrap_or_else(|| setup.state.join("log"));
    let file = |extension: &str| directory.join(format!("{}.{extension}", setup.instance));
    let records = config.main.postrider_json_log.iter().any(|name| name == "all" || name == setup.daemon);
    let log_path = config.dovecot.settings.log_path.as_str();
    LogPlan {
        own: Some(file("log")),
        json: records.then(|| file("json")),
        maillog: config.main.maillog_file.value.clone(),
        dovecot: (!matches!(log_path, "" | "syslog")).then(|| PathBuf::from(log_path)),
        system: system_log(),
        host: config.main.myhostname.split('.').next().unwrap_or_default().to_owned(),
        instance: setup.instance.clone(),
        ..LogPlan::default()
    }
}

/// Only the system's own instance speaks to syslog, and a service of systemd's to its journal; a trial by some user keeps to its directory.
fn system_log() -> Option<System> {
    let socket = Path::new("/dev/log");
    let journal = System::stderr_is_journal();
    // By the socket each line keeps its ident, which fail2ban's filters look for.
    let by_socket = state::is_root() && (socket.exists() || !journal);
    if by_socket { Some(System::Syslog(socket.to_owned())) } else { journal.then_some(System::Journal) }
}

/// Tells whoever started the daemon; with a priority where that is the journal.
fn complain(name: &str, what: &dyn fmt::Display) {
    let priority = if System::stderr_is_journal() { "<3>" } else { "" };
    what.to_string().lines().for_each(|line| eprintln!("{priority}{name}: {line}"));
}

/// The process that serves, as it will be once it has given up its rights.
struct Confined {
    identity: Identity,
    sandbox: Option<Sandbox>,
}

impl Confined {
    /// Without root the identity is the caller's, and the sandbox is what is left to confine it.
    fn of(setup: &Setup, config: &Config, log: &LogPlan, identity: Option<Identity>) -> Self {
        let logs = log.own.iter().chain(&log.json).chain(&log.maillog).chain(&log.dovecot).cloned().collect();
        let facts = sandbox::Facts::of(config, &setup.state, logs);
        Self { identity: identity.unwrap_or_else(Identity::current), sandbox: sandbox::of_role(setup.role, &facts) }
    }

    /// Gives up all rights and enters the sandbox. Tells what the kernel lacks.
    fn enter(&self) -> Result<Option<&'static str>, StartError> {
        let system = |error: String| StartError::System(io::Error::other(error));
        become_user(&self.identity, Confinement::FULL).map_err(|error| system(error.to_string()))?;
        let Some(sandbox) = &self.sandbox else { return Ok(None) };
        let report = mail_posix::sandbox::enter(sandbox);
        report.map(Report::lack).map_err(|error| system(format!("cannot enter the sandbox: {error}")))
    }
}

/// Forks the front and watches it.
fn watched(
    serve_with: fn(Context) -> Pin<Box<dyn Future<Output = ()> + Send>>,
    service: Option<Box<dyn Service>>,
    setup: Arc<Setup>,
    running: Running,
    identity: Option<Identity>,
    log: LogPlan,
    opened: Opened,
) -> Result<u8, StartError> {
    let signals = SignalFd::open()?;
    let (control, control_end) = Channel::pair()?;
    let (front, service_end) = Channel::pair()?;
    let monitor = std::process::id();
    let (child_setup, child_log) = (Arc::clone(&setup), log.clone());
    let ends = Ends { control: control_end, service: service_end };
    let confined = Confined::of(&setup, &running.config, &log, identity);
    // What moves into the child is dropped, and so closed, on this side.
    let child = mail_posix::fork::fork_child(move || {
        let ends_kept = [ends.control.as_fd(), ends.service.as_fd()];
        let keep = opened.descriptors().chain(child_log.descriptors()).chain(ends_kept).collect::<Vec<_>>();
        let ready = mail_posix::fork::close_all_but(&keep).and_then(|()| signals::unblock_all());
        // Before threads exist: each of them has the signals blocked.
        let ready = ready.and_then(|()| SignalFd::open()).map_err(StartError::System);
        // Giving up rights resets the parent-death signal, so that comes after it.
        let ready = ready.and_then(|signals| {
            let lack = confined.enter()?;
            mail_posix::fork::die_with_parent(monitor)?;
            Ok((signals, lack))
        });
        match ready {
            Ok((signals, lack)) => serve(serve_with, child_setup, &child_log, opened, (ends, signals), lack),
            Err(error) => {
                complain(&child_setup.instance, &error);
                crate::EX_OSERR
            }
        }
    })?;
    let desk = Desk { front, watch: Watch::new()?, running: Arc::new(running.without_keys()), log, setup };
    let monitor =
        Monitor { front: child, control, desk, front_open: service.is_some(), control_open: true, service, signals };
    monitor.pass(&running)?;
    drop(running);
    Ok(monitor.run())
}

/// Serves: the event loop, the context, the daemon.
fn serve(
    serve_with: fn(Context) -> Pin<Box<dyn Future<Output = ()> + Send>>,
    setup: Arc<Setup>,
    log: &LogPlan,
    opened: Opened,
    (ends, signals): (Ends, SignalFd),
    lack: Option<&str>,
) -> u8 {
    let instance = setup.instance.clone();
    let result = Log::start(log.clone()).and_then(|log| {
        crate::diagnostics::install(&log, setup.daemon);
        if let Some(lack) = lack {
            log.warning(&Ident::postfix("postrider", setup.daemon), lack);
        }
        mail_posix::points::reached(&format!("{}.front", setup.daemon));
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(threads()).build()?;
        let outcome = runtime.block_on(async {
            let context = Keeper::start(setup, log.clone(), opened, (ends, signals)).await?;
            let exit = Arc::clone(&context.exit);
            let mut stop = context.stop.clone();
            let late = async {
                stop.requested().await;
                tokio::time::sleep(GRACE).await;
            };
            // On a thread of the pool, as all else: every word between two threads would cost both a turn.
            let served = tokio::spawn(serve_with(context));
            tokio::select! {
                ended = served => {
                    if let Err(error) = ended && error.is_panic() {
                        std::panic::resume_unwind(error.into_panic());
                    }
                }
                () = late => {}
            }
            io::Result::Ok(exit.load(std::sync::atomic::Ordering::Relaxed))
        });
        log.flush();
        runtime.shutdown_background();
        outcome
    });
    match result {
        Ok(code) => code,
        Err(error) => {
            complain(&instance, &error);
            crate::EX_OSERR
        }
    }
}
