//! A session process: it is its owner, sees nothing but the owner's mail, and serves all of the owner's connections until none is left.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mail_config::Views;
use mail_ipc::frame::Frame;
use mail_net::Stream;
use mail_net::ipc::{Reader, Received, Writer};
use mail_posix::landlock::{Connections, Rules};
use mail_posix::sandbox::{Report, Sandbox};
use mail_posix::seccomp::Calls;
use mail_posix::{Confinement, Identity, become_user};
use mail_store::Location;
use mail_store::maildir::MaildirAccount;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::Instant;

use crate::SessionId;
use crate::link::Link;
use crate::monitor::Seen;
use crate::service::{Connection, Home, Lines, Protocol};
use crate::wire::{HandOver, LineLevel, Owner, SessionLine, SessionOrder, SessionReport};

/// How long a process without sessions waits for the owner to come back.
const LINGER: Duration = Duration::from_secs(10);
/// The same where the owner's mail cannot be served.
const LINGER_WITHOUT_MAIL: Duration = Duration::from_millis(100);
/// So long after the beginning of a session the process gives back the stack that making it took.
const REST: Duration = Duration::from_secs(1);
/// How long sessions may take to say goodbye when the service ends.
const GOODBYE: Duration = Duration::from_secs(5);
/// Threads for mailbox jobs, made when they are needed. The job of a client that reads slowly keeps its thread meanwhile, so there are more of
/// them than such clients usually are (`mail_max_userip_connections` from one address).
const JOBS: usize = 128;
/// A thread without a job ends so soon, and gives its stack back.
const JOB_THREAD: Duration = Duration::from_secs(1);
/// What a process may still read outside the owner's directories: the local time for the log.
const READABLE: [&str; 2] = ["/etc/localtime", "/usr/share/zoneinfo"];

/// What a session process starts with.
pub(crate) struct Start<P> {
    /// What the configuration says to each connection.
    pub(crate) views: Arc<Views<Seen<P>>>,
    /// The owner.
    pub(crate) owner: Owner,
    /// The conversation with the monitor.
    pub(crate) control: StdUnixStream,
}

impl<P> std::fmt::Debug for Start<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Start").field("owner", &self.owner).finish_non_exhaustive()
    }
}

/// Runs a session process; the exit code. Called in a child just forked, with one thread.
pub(crate) fn run<P: Protocol>(start: Start<P>) -> u8 {
    mail_posix::memory::share_pools(1);
    match become_owner(&start.owner) {
        Ok(()) => {
            let location = locate(&start.owner);
            let (location, lack) = match confine(location.as_ref().ok()) {
                Ok(lack) => (location, lack),
                Err(text) => (Err(text), None),
            };
            mail_posix::points::reached(&format!("{}.session", P::NAME));
            u8::from(serve(start, location, lack).is_err())
        }
        // Not the owner: a line for the log is all that this process may still do.
        Err(text) => {
            let line = SessionLine { session: String::new(), level: LineLevel::Error, text };
            let _ = Link::new(start.control).and_then(|mut link| link.send(&SessionReport::Line { line }, Vec::new()));
            1
        }
    }
}

/// Becomes the owner, where the monitor has the right to; otherwise stays the caller, without more rights. The process must end after an error.
fn become_owner(owner: &Owner) -> Result<(), String> {
    let identity = match owner.uid {
        Some(uid) => {
            let identity = Identity::ids(uid, owner.gid.unwrap_or(uid));
            identity.with_named_groups(&owner.groups).map_err(|error| format!("mail_access_groups: {error}"))?
        }
        None => Identity::current(),
    };
    become_user(&identity, Confinement::FULL).map_err(|error| error.to_string())
}

/// Finds the owner's directories; makes those that are missing.
fn locate(owner: &Owner) -> Result<Location, String> {
    let home = owner.home.as_ref().and_then(|home| home.as_str()).map_or_else(PathBuf::new, PathBuf::from);
    let location = match owner.mail.as_str() {
        "" => detect(&home)?,
        mail => Location::parse(mail, &home).map_err(|error| error.to_string())?,
    };
    for directory in location.directories() {
        make(directory).map_err(|error| format!("cannot make {}: {error}", directory.display()))?;
    }
    Ok(location)
}

/// Keeps the owner's mail and nothing else; the only connections are those that come from the monitor. Tells what the kernel lacks: then the
/// file permissions are left, which are the owner's.
fn confine(location: Option<&Location>) -> Result<Option<&'static str>, String> {
    let mail = location.map(Location::directories).unwrap_or_default();
    let rules = Rules {
        read: READABLE.iter().map(PathBuf::from).collect(),
        write: mail.into_iter().map(Path::to_owned).collect(),
        append: Vec::new(),
        connect: Connections::Ports(Vec::new()),
    };
    let report = mail_posix::sandbox::enter(&Sandbox { rules, calls: &[Calls::Basic, Calls::Files] });
    report.map(Report::lack).map_err(|error| format!("cannot enter the sandbox: {error}"))
}

/// Looks for mail as Dovecot does without `mail_location`, among the types that are built. An empty mailbox is never made up.
fn detect(home: &Path) -> Result<Location, String> {
    let maildir = home.join("Maildir");
    let found = home.is_absolute() && maildir.is_dir();
    found
        .then(|| Location::maildir(&maildir))
        .ok_or_else(|| format!("no mail_location is set, and {} is no Maildir", maildir.display()))
}

/// Makes a mail directory, for its owner only, as Dovecot does.
fn make(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

fn serve<P: Protocol>(start: Start<P>, location: Result<Location, String>, lack: Option<&str>) -> io::Result<()> {
    let Start { views, owner, control } = start;
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().max_blocking_threads(JOBS).thread_keep_alive(JOB_THREAD);
    // The C library keeps the stacks of threads that ended.
    let runtime = builder.on_thread_stop(mail_posix::memory::give_back_stack).build()?;
    let result = runtime.block_on(async {
        control.set_nonblocking(true)?;
        let (orders, writer) = mail_net::ipc::split(UnixStream::from_std(control)?)?;
        let (log, lines) = Lines::new();
        if let Some(lack) = lack {
            log.write("", LineLevel::Warning, lack.to_owned());
        }
        let home = location.map(|location| Arc::new(home(owner, location, log.clone())));
        let (shutdown, _) = watch::channel(false);
        let (closed, ended) = mpsc::unbounded_channel();
        let server = Server { views, home, log, writer, shutdown, closed, served: 0, open: 0, busy: None };
        server.run(Inbox { orders, ended, lines }).await
    });
    // A job that hangs in the file system must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

fn home(owner: Owner, location: Location, log: Lines) -> Home {
    let notices = log.clone();
    let notice = Arc::new(move |text: &str| notices.write("", LineLevel::Warning, text.to_owned()));
    let account = Arc::new(MaildirAccount::new(location, notice));
    Home {
        owner,
        account,
        exclusive: Arc::default(),
        announcements: broadcast::channel(64).0,
        log,
        resting: Arc::default(),
    }
}

/// A session that ended, and what the log says of it.
type Closed = (SessionId, SessionLine);

/// What reaches the process's loop.
struct Inbox {
    orders: Reader,
    ended: mpsc::UnboundedReceiver<Closed>,
    lines: mpsc::Receiver<SessionLine>,
}

/// The process's own loop: orders in, reports out.
struct Server<P> {
    views: Arc<Views<Seen<P>>>,
    /// The mail, or why there is none to serve.
    home: Result<Arc<Home>, String>,
    log: Lines,
    writer: Writer,
    shutdown: watch::Sender<bool>,
    closed: mpsc::UnboundedSender<Closed>,
    /// Connections that have reached this process.
    served: u64,
    /// Sessions now.
    open: usize,
    /// When the last session began, until the process has rested from it.
    busy: Option<Instant>,
}

/// Whether the loop goes on.
enum Then {
    Continue,
    Exit,
}

impl<P: Protocol> Server<P> {
    async fn run(mut self, mut inbox: Inbox) -> io::Result<()> {
        // Without mail to serve, the next connection deserves a fresh look.
        let linger = if self.home.is_ok() { LINGER } else { LINGER_WITHOUT_MAIL };
        loop {
            tokio::select! {
                biased;
                Some(line) = inbox.lines.recv() => self.report(SessionReport::Line { line }).await?,
                Some((session, line)) = inbox.ended.recv() => {
                    self.open -= 1;
                    self.report(SessionReport::Closed { session, line }).await?;
                    if self.open == 0 && *self.shutdown.borrow() {
                        return Ok(());
                    }
                }
                order = inbox.orders.frame() => match order? {
                    Some(received) => {
                        if let Then::Exit = self.order(received).await? {
                            return Ok(());
                        }
                    }
                    // The monitor is gone: sessions say goodbye.
                    None => return self.wind_down(&mut inbox.ended).await,
                },
                () = tokio::time::sleep_until(self.busy.map_or_else(Instant::now, |since| since + REST)), if self.busy.is_some() => {
                    self.busy = None;
                    mail_posix::memory::give_back_stack();
                }
                () = tokio::time::sleep(linger), if self.open == 0 => {
                    self.report(SessionReport::Idle { served: self.served }).await?;
                }
            }
        }
    }

    async fn report(&self, report: SessionReport) -> io::Result<()> {
        self.writer.send(&Frame::new(0, report), &[], &[]).await
    }

    async fn order(&mut self, received: Received) -> io::Result<Then> {
        let order = received.read::<SessionOrder>().map_err(io::Error::other)?.body;
        match order {
            SessionOrder::Serve { session, connection } => {
                self.served += 1;
                self.open += 1;
                self.busy = Some(Instant::now());
                let stream = received.descriptors.into_iter().next().ok_or(io::ErrorKind::InvalidData)?;
                self.start(session, connection, stream);
            }
            SessionOrder::Announce { mailbox } => {
                if let Ok(home) = &self.home {
                    let _ = home.announcements.send(mailbox);
                }
            }
            SessionOrder::Exit => return Ok(Then::Exit),
            SessionOrder::Shutdown => {
                self.shutdown.send_replace(true);
                if self.open == 0 {
                    return Ok(Then::Exit);
                }
            }
        }
        Ok(Then::Continue)
    }

    fn start(&self, session: SessionId, hand_over: HandOver, stream: OwnedFd) {
        let (closed, log, name) = (self.closed.clone(), self.log.clone(), hand_over.session.clone());
        let protocol = self.views.of(&hand_over.connection(P::NAME)).protocol.clone();
        let served = match (into_stream(stream), &self.home) {
            (Err(error), _) => {
                let text = format!("connection cannot be used: {error}");
                let _ = closed.send((session, SessionLine::new(&name, LineLevel::Error, text)));
                return;
            }
            (Ok(stream), Ok(home)) => {
                let home = Arc::clone(home);
                let shutdown = self.shutdown.subscribe();
                tokio::spawn(protocol.serve(home, Connection { hand_over, stream, shutdown }))
            }
            (Ok(stream), Err(text)) => {
                log.write(&name, LineLevel::Error, text.clone());
                tokio::spawn(refuse(stream, protocol.unusable(&hand_over)))
            }
        };
        tokio::spawn(async move {
            let (level, text) = match served.await {
                Ok(text) => (LineLevel::Info, format!("Disconnected: {text}")),
                Err(_) => (LineLevel::Error, "Disconnected: internal error".to_owned()),
            };
            let _ = closed.send((session, SessionLine::new(&name, level, text)));
        });
    }

    /// Tells the sessions to end and waits for them.
    async fn wind_down(mut self, ended: &mut mpsc::UnboundedReceiver<Closed>) -> io::Result<()> {
        self.shutdown.send_replace(true);
        let all = async {
            while self.open > 0 && ended.recv().await.is_some() {
                self.open -= 1;
            }
        };
        let _ = tokio::time::timeout(GOODBYE, all).await;
        Ok(())
    }
}

/// Tells a client that the mail cannot be served. Gives the text for the log.
async fn refuse(mut stream: Stream, refusal: Vec<u8>) -> String {
    let goodbye = async {
        let _ = stream.write_all(&refusal).await;
        let _ = stream.shutdown().await;
    };
    let _ = tokio::time::timeout(GOODBYE, goodbye).await;
    "Mail cannot be served".to_owned()
}

/// A client's own socket, or the front's relay to it.
fn into_stream(descriptor: OwnedFd) -> io::Result<Stream> {
    rustix::io::ioctl_fionbio(&descriptor, true)?;
    match rustix::net::sockopt::socket_domain(&descriptor)? {
        rustix::net::AddressFamily::UNIX => UnixStream::from_std(StdUnixStream::from(descriptor)).map(Stream::Unix),
        _ => TcpStream::from_std(std::net::TcpStream::from(descriptor)).map(Stream::Tcp),
    }
}
