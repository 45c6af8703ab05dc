//! What a daemon serves with.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use mail_config::Config;
use mail_ipc::hello::{Hello, Role};
use mail_net::ipc;
use mail_posix::signals::{Caught, SignalFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{broadcast, watch};

use crate::log::Log;
use crate::monitor::{ToFront, ToMonitor};
use crate::options::Options;
use crate::secrets::{Pem, TlsFiles};
use crate::state::Roles;
use crate::tables::TableFiles;
use crate::{generation, notify};

/// The configuration in force.
#[derive(Debug, Clone)]
pub struct Running {
    /// The number of the generation.
    pub generation: u64,
    /// The configuration.
    pub config: Arc<Config>,
    /// Certificates and keys, in the order of the plan.
    pub tls: Vec<Pem>,
    /// The files of tables, also those that only the monitor may open.
    pub tables: TableFiles,
}

impl Running {
    pub(crate) fn without_keys(&self) -> Self {
        Self {
            generation: self.generation,
            config: Arc::clone(&self.config),
            tls: Vec::new(),
            tables: TableFiles::default(),
        }
    }
}

/// What does not change while a daemon runs.
#[derive(Debug)]
pub struct Setup {
    /// The daemon's name.
    pub daemon: &'static str,
    /// What it is for its peers.
    pub role: Role,
    /// Its instance.
    pub instance: String,
    /// The state directory.
    pub state: PathBuf,
    /// Who may be which role.
    pub roles: Roles,
    pub(crate) options: Options,
    pub(crate) tls_files: fn(&Config) -> Vec<TlsFiles>,
}

impl Setup {
    /// Reads the current generation and the keys it names.
    pub(crate) fn load(&self) -> io::Result<Running> {
        let (generation, config) = generation::read(&self.state)?;
        let host = config.main.myhostname.as_str();
        let tls =
            (self.tls_files)(&config).iter().map(|files| files.read(&self.state, host)).collect::<io::Result<_>>()?;
        Ok(Running { generation, config: Arc::new(config), tls, tables: TableFiles::default() })
    }
}

/// Says when to stop; clones share the word.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Waits until the daemon is asked to stop. Then nothing new is accepted, and what is under way is finished.
    pub async fn requested(&mut self) {
        // An error means that the sender is gone, which only happens at the end.
        let _ = self.0.wait_for(|stop| *stop).await;
    }

    /// Whether the daemon was asked to stop.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        *self.0.borrow()
    }
}

/// Everything a daemon's `serve` gets.
#[derive(Debug)]
pub struct Context {
    /// Names and places.
    pub setup: Arc<Setup>,
    /// The log.
    pub log: Log,
    /// The configuration in force; changes at reload.
    pub running: watch::Receiver<Arc<Running>>,
    /// Paths of tables whose source `postmap` or `newaliases` has checked: read them again at once.
    pub tables: broadcast::Sender<PathBuf>,
    /// When to stop.
    pub stop: Stop,
    /// The listeners for TCP, in the order of the plan.
    pub tcp: Vec<TcpListener>,
    /// The listeners for Unix sockets, in the order of the plan.
    pub unix: Vec<UnixListener>,
    /// The listeners for Unix sockets outside the state directory, as far as they could be opened.
    pub files: Vec<UnixListener>,
    /// The conversation with the monitor's service, where the daemon has one.
    pub monitor: Option<(ipc::Reader, ipc::Writer)>,
    pub(crate) exit: Arc<AtomicU8>,
}

impl Context {
    /// The configuration in force now.
    #[must_use]
    pub fn now(&self) -> Arc<Running> {
        Arc::clone(&self.running.borrow())
    }

    /// The state directory.
    #[must_use]
    pub fn state(&self) -> &std::path::Path {
        &self.setup.state
    }

    /// The greeting for conversations with other daemons.
    #[must_use]
    pub fn hello(&self) -> Hello {
        Hello { generation: self.now().generation, ..Hello::new(self.setup.role, self.setup.instance.clone()) }
    }

    /// The daemon cannot serve: says why on standard error, and the process ends with [`crate::EX_OSERR`] once `serve` returns, so that whoever
    /// watches it knows.
    pub fn fail(&self, why: &str) {
        eprintln!("{}: {why}", self.setup.instance);
        self.exit.store(crate::EX_OSERR, Ordering::Relaxed);
    }

    /// Tells the supervisor that the daemon serves. Call it once everything is open.
    pub fn ready(&self) {
        notify::ready(self.now().generation);
    }
}

/// Signals as the event loop reads them. That of tokio would keep a channel for each signal there is, in every process that has an event loop.
#[expect(deprecated, reason = "its successor is unsafe, for owners whose descriptor changes; that of signals does not")]
fn watched(signals: SignalFd) -> io::Result<AsyncFd<SignalFd>> {
    AsyncFd::with_interest(signals, Interest::READABLE)
}

/// The sockets that were opened with rights.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) tcp: Vec<std::net::TcpListener>,
    pub(crate) unix: Vec<std::os::unix::net::UnixListener>,
    pub(crate) files: Vec<std::os::unix::net::UnixListener>,
    pub(crate) daemon: std::os::unix::net::UnixListener,
    /// What could not be opened although the rest serves, for the log.
    pub(crate) problems: Vec<String>,
}

impl Opened {
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let unix = self.unix.iter().chain(&self.files).map(AsFd::as_fd);
        let tcp = self.tcp.iter().map(AsFd::as_fd);
        tcp.chain(unix).chain([self.daemon.as_fd()])
    }
}

/// The ends of the conversations with the monitor.
#[derive(Debug)]
pub(crate) struct Ends {
    pub(crate) control: UnixStream,
    pub(crate) service: UnixStream,
}

/// Keeps a context's channels going: signals, the monitor's word, the daemon's own control socket.
pub(crate) struct Keeper {
    pub(crate) setup: Arc<Setup>,
    pub(crate) log: Log,
    pub(crate) running: watch::Sender<Arc<Running>>,
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) tables: broadcast::Sender<PathBuf>,
    table_files: TableFiles,
    /// The sending half to the monitor.
    pub(crate) monitor: ipc::Writer,
}

impl Keeper {
    /// Makes the context and starts what keeps it going. The configuration comes from the monitor.
    pub(crate) async fn start(
        setup: Arc<Setup>,
        log: Log,
        opened: Opened,
        (ends, signals): (Ends, SignalFd),
    ) -> io::Result<Context> {
        let (mut reader, writer) = ipc::split(tokio::net::UnixStream::from_std(ends.control)?)?;
        let service = ipc::split(tokio::net::UnixStream::from_std(ends.service)?)?;
        let table_files = TableFiles::default();
        let first = taken(&setup, &mut reader, &table_files).await?;
        let (running, running_receiver) = watch::channel(Arc::new(first));
        let (stop, stop_receiver) = watch::channel(false);
        let (tables, _) = broadcast::channel(64);
        let keeper = Arc::new(Self {
            setup: Arc::clone(&setup),
            log: log.clone(),
            running,
            stop,
            tables: tables.clone(),
            table_files,
            monitor: writer,
        });
        let ident = decision::Ident::postfix("postrider", keeper.setup.daemon);
        opened.problems.iter().for_each(|problem| keeper.log.warning(&ident, problem));
        tokio::spawn(Arc::clone(&keeper).watch_signals(watched(signals)?));
        if let Some(pause) = notify::watchdog_pause() {
            tokio::spawn(feed_watchdog(pause));
        }
        tokio::spawn(Arc::clone(&keeper).watch_monitor(reader));
        tokio::spawn(Arc::clone(&keeper).watch_tables());
        opened.daemon.set_nonblocking(true)?;
        tokio::spawn(crate::control::serve(keeper, UnixListener::from_std(opened.daemon)?));
        Ok(Context {
            setup,
            log,
            running: running_receiver,
            tables,
            stop: Stop(stop_receiver),
            tcp: opened.tcp.into_iter().map(TcpListener::from_std).collect::<io::Result<_>>()?,
            unix: opened.unix.into_iter().map(UnixListener::from_std).collect::<io::Result<_>>()?,
            files: opened.files.into_iter().map(UnixListener::from_std).collect::<io::Result<_>>()?,
            monitor: Some(service),
            exit: Arc::default(),
        })
    }

    async fn watch_signals(self: Arc<Self>, signals: AsyncFd<SignalFd>) {
        while let Ok(mut ready) = signals.readable().await {
            match signals.get_ref().next() {
                Ok(Some(Caught::Stop)) => self.stop(),
                // A terminal's signals go to the whole group; the monitor passes them on in order.
                Ok(Some(_)) => {}
                Ok(None) => ready.clear_ready(),
                Err(_) => return,
            }
        }
    }

    fn stop(&self) {
        notify::stopping();
        let _ = self.stop.send(true);
    }

    async fn watch_monitor(self: Arc<Self>, mut reader: ipc::Reader) {
        loop {
            match taken(&self.setup, &mut reader, &self.table_files).await {
                Ok(running) => self.take(running),
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => self.warn(&error.to_string()),
                Err(_) => {
                    // The monitor is gone: nothing can be right any more.
                    self.stop();
                    return;
                }
            }
        }
    }

    /// Asks for files again that were replaced.
    async fn watch_tables(self: Arc<Self>) {
        loop {
            self.table_files.replaced().await;
            self.refresh_tables().await;
            // A file that cannot be opened now is not asked for all the time.
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
    }

    /// Has the monitor open the tables again that only it may open, and waits for them.
    pub(crate) async fn refresh_tables(&self) {
        let mut rounds = self.table_files.rounds();
        let before = *rounds.borrow_and_update();
        if self.monitor.send(&mail_ipc::Frame::new(0, ToMonitor::Tables), &[], &[]).await.is_ok() {
            let passed = rounds.wait_for(|round| *round > before);
            // Without an answer the tables stay as they are.
            let _ = tokio::time::timeout(std::time::Duration::from_secs(5), passed).await;
        }
    }

    fn take(&self, running: Running) {
        self.log.reopen();
        let generation = running.generation;
        self.running.send_replace(Arc::new(running));
        notify::ready(generation);
    }

    fn warn(&self, text: &str) {
        let ident = decision::Ident::postfix("postrider", self.setup.daemon);
        self.log.warning(&ident, &format!("the configuration stays as it was: {text}"));
        notify::unchanged(text);
    }

    /// Takes the newest generation, and waits until it is in force.
    pub(crate) async fn reload(&self) -> io::Result<()> {
        let wanted = generation::current(&self.setup.state.join("generation"))?.unwrap_or(0);
        self.monitor.send(&mail_ipc::Frame::new(0, ToMonitor::Reload), &[], &[]).await?;
        let mut running = self.running.subscribe();
        let reached = running.wait_for(|running| running.generation >= wanted);
        match tokio::time::timeout(std::time::Duration::from_secs(10), reached).await {
            Ok(_) => Ok(()),
            Err(_) => Err(io::Error::other("the monitor did not pass the new generation; its log line says why")),
        }
    }
}

/// Tells the supervisor that the event loop turns: a daemon that hangs is started again.
async fn feed_watchdog(pause: std::time::Duration) {
    loop {
        notify::notify("WATCHDOG=1\n");
        tokio::time::sleep(pause).await;
    }
}

/// Waits for the monitor's word about the next generation. `InvalidInput` means: stay.
async fn taken(setup: &Setup, reader: &mut ipc::Reader, tables: &TableFiles) -> io::Result<Running> {
    let (mut paths, mut files, mut keys) = (Vec::new(), Vec::new(), Vec::new());
    let received = loop {
        let received = reader.frame().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let (more, last) = match received.read::<ToFront>().map_err(io::Error::other)?.body {
            ToFront::Tables { paths, last } => (paths, last),
            ToFront::Keys => {
                keys.extend(received.descriptors);
                continue;
            }
            ToFront::Take | ToFront::Stay { .. } => break received,
        };
        paths.extend(more);
        files.extend(received.descriptors);
        if last {
            tables.take(std::mem::take(&mut paths), std::mem::take(&mut files));
        }
    };
    match received.read::<ToFront>().map_err(io::Error::other)?.body {
        ToFront::Stay { text } => Err(io::Error::new(io::ErrorKind::InvalidInput, text)),
        ToFront::Tables { .. } | ToFront::Keys => Err(io::Error::other("tables and keys come before the generation")),
        ToFront::Take => {
            let (generation, config) = generation::read(&setup.state)?;
            let mut contents = keys.into_iter().chain(received.descriptors).map(read_all);
            let mut tls = Vec::new();
            while let (Some(certificate), Some(key)) = (contents.next(), contents.next()) {
                tls.push(Pem { certificate: certificate?, key: key? });
            }
            Ok(Running { generation, config: Arc::new(config), tls, tables: tables.clone() })
        }
    }
}

fn read_all(descriptor: OwnedFd) -> io::Result<Vec<u8>> {
    let mut file = File::from(descriptor);
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}
