//! The front: network, TLS and the login machine, in a process without rights.
//!
//! It reads what strangers send, so it can read no mail, no password file and no key but those of its own listeners. After a good login it holds
//! a token that only the monitor can redeem; the connection then goes to the owner's session process.

mod login;
mod monitor_line;
mod relay;

use std::io;
use std::net::{IpAddr, TcpListener as StdTcpListener};
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use decision::{Event, Ident, Level, Record, Stage};
use mail_ipc::auth::{Request, Response};
use mail_ipc::hello::Hello;
use mail_ipc::sockets::AUTH;
use mail_net::ipc::Caller;
use mail_net::tls::ServerTls;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};

use crate::front::monitor_line::MonitorLine;
use crate::service::{Mechanism, Protocol, Sink};
use crate::wire::{FrontReply, FrontRequest, LineLevel, SessionLine};

/// After an error of accept, such as too many open files, this long passes before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// A listener that the monitor opened.
#[derive(Debug)]
pub struct Listener {
    /// The socket.
    pub socket: StdTcpListener,
    /// TLS from the first octet (port 995, 993).
    pub implicit_tls: bool,
}

/// What the front starts with.
#[derive(Debug)]
pub struct Start<P> {
    /// The protocol.
    pub protocol: P,
    /// Its listeners.
    pub listeners: Vec<Listener>,
    /// Certificate and key; none where TLS is off.
    pub tls: Option<ServerTls>,
    /// Mechanisms to offer until authd has said which it has.
    pub mechanisms: Vec<Mechanism>,
    /// Networks whose clients count as local (`login_trusted_networks`).
    pub trusted: Vec<Network>,
    /// The state directory.
    pub state: PathBuf,
    /// The instance's name.
    pub instance: String,
    /// The most connections at one time.
    pub connections: usize,
    /// The conversation with the monitor.
    pub monitor: StdUnixStream,
    /// `mailbox.sock`, where local-delivery announces mail; none where the protocol has no use for it.
    pub announcements: Option<StdUnixListener>,
}

/// A network of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// An address in it.
    pub address: IpAddr,
    /// How many leading bits all its addresses share.
    pub bits: u8,
}

impl Network {
    /// Whether an address is in the network.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let same = |ours: u128, theirs: u128, width: u32| {
            let shift = width.saturating_sub(u32::from(self.bits));
            ours.checked_shr(shift) == theirs.checked_shr(shift)
        };
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => same(ours.to_bits().into(), theirs.to_bits().into(), 32),
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => same(ours.to_bits(), theirs.to_bits(), 128),
            _ => false,
        }
    }
}

/// What all connections of a front share.
struct Shared<P> {
    protocol: P,
    tls: Option<ServerTls>,
    trusted: Vec<Network>,
    mechanisms: RwLock<Arc<[Mechanism]>>,
    authority: Arc<Caller<Request, Response>>,
    monitor: MonitorLine,
    log: Sink,
    shutdown: watch::Receiver<bool>,
}

impl<P> Shared<P> {
    fn mechanisms(&self) -> Arc<[Mechanism]> {
        Arc::clone(&self.mechanisms.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Serves until `shutdown` becomes true and all connections are over, or the monitor is gone.
///
/// # Errors
/// A socket cannot be used.
pub async fn run<P: Protocol>(start: Start<P>, log: Sink, shutdown: watch::Receiver<bool>) -> io::Result<()> {
    start.monitor.set_nonblocking(true)?;
    let (monitor, reader) = MonitorLine::new(UnixStream::from_std(start.monitor)?);
    let hello = Hello::new(P::FRONT, start.instance);
    let shared = Arc::new(Shared {
        protocol: start.protocol,
        tls: start.tls,
        trusted: start.trusted,
        mechanisms: RwLock::new(start.mechanisms.into()),
        authority: Arc::new(Caller::new(start.state, AUTH, hello.clone())),
        monitor,
        log,
        shutdown: shutdown.clone(),
    });
    let room = Arc::new(Semaphore::new(start.connections));
    for listener in start.listeners {
        listener.socket.set_nonblocking(true)?;
        let socket = TcpListener::from_std(listener.socket)?;
        tokio::spawn(accept(Arc::clone(&shared), socket, listener.implicit_tls, Arc::clone(&room)));
    }
    if let Some(socket) = start.announcements {
        socket.set_nonblocking(true)?;
        tokio::spawn(announcements(Arc::clone(&shared), UnixListener::from_std(socket)?, hello));
    }
    tokio::spawn(learn_mechanisms(Arc::clone(&shared)));
    let listening = Arc::clone(&shared);
    let mut shutdown = shutdown;
    tokio::select! {
        // Without a monitor no login leads anywhere.
        () = listening.monitor.listen(reader, |line| log_line::<P>(&listening.log, line)) => Err(io::Error::new(io::ErrorKind::BrokenPipe, "the monitor is gone")),
        () = over(&mut shutdown) => {
            // Every connection holds a place; when all are free, all are over.
            let all = u32::try_from(start.connections).unwrap_or(u32::MAX);
            let _ = room.acquire_many(all).await;
            Ok(())
        }
    }
}

/// Writes down what the monitor passes on.
fn log_line<P: Protocol>(log: &Sink, reply: FrontReply) {
    let ident = Ident::dovecot();
    match reply {
        FrontReply::Line { user, pid, line } => {
            let SessionLine { session, level, text } = line;
            let event = Event::Mailbox { service: P::NAME, user: &user, pid, session: &session, text: &text };
            let mut record = Record::new(&ident, Stage::Mailbox, event);
            record.level = match level {
                LineLevel::Info => Level::Info,
                LineLevel::Warning => Level::Warning,
                LineLevel::Error => Level::Error,
            };
            record.session = Some(&session);
            log(&record);
        }
        FrontReply::Warning { text } => log(&Record::new(&ident, Stage::Daemon, Event::Warning(&text))),
        FrontReply::Started { .. } | FrontReply::Refused { .. } => {}
    }
}

/// Waits until the service ends. If nobody can say so any more, it never does.
async fn over(shutdown: &mut watch::Receiver<bool>) {
    if shutdown.wait_for(|over| *over).await.is_err() {
        std::future::pending().await
    }
}

async fn accept<P: Protocol>(shared: Arc<Shared<P>>, socket: TcpListener, implicit_tls: bool, room: Arc<Semaphore>) {
    let mut shutdown = shared.shutdown.clone();
    loop {
        let accepted = tokio::select! {
            accepted = async {
                let place = Arc::clone(&room).acquire_owned().await;
                (place, socket.accept().await)
            } => accepted,
            () = over(&mut shutdown) => return,
        };
        match accepted {
            (Ok(place), Ok((stream, _))) => {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    login::serve(shared, stream, implicit_tls).await;
                    drop(place);
                });
            }
            (Ok(_), Err(_)) => tokio::time::sleep(ACCEPT_PAUSE).await,
            (Err(_), _) => return,
        }
    }
}

/// Learns from authd what to offer; until it answers, what the configuration says is offered.
async fn learn_mechanisms<P: Protocol>(shared: Arc<Shared<P>>) {
    let mut pause = Duration::from_millis(100);
    loop {
        if let Ok(reply) = shared.authority.call(&Request::Mechanisms, &[]).await
            && let Response::Mechanisms { names, plaintext } = reply.message
        {
            let mechanism = |name: String| Mechanism { plaintext: plaintext.contains(&name), name };
            let known: Arc<[Mechanism]> = names.into_iter().map(mechanism).collect();
            *shared.mechanisms.write().unwrap_or_else(PoisonError::into_inner) = known;
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}

/// Takes announcements of local-delivery and passes them on to the owners' session processes.
async fn announcements<P: Protocol>(shared: Arc<Shared<P>>, socket: UnixListener, hello: Hello) {
    loop {
        let Ok((stream, _)) = socket.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (shared, hello) = (Arc::clone(&shared), hello.clone());
        tokio::spawn(async move {
            let Ok(mut talk) = mail_net::ipc::accept(stream, &hello).await else { return };
            while let Ok(Some(received)) = talk.reader.frame().await {
                if let Ok(frame) = received.read::<mail_ipc::mailbox::Announcement>() {
                    let mail_ipc::mailbox::Announcement::Delivered { user, mailbox } = frame.body;
                    shared.monitor.tell(FrontRequest::Announce { user, mailbox }).await;
                }
            }
        });
    }
}

/// The name of a session: 16 letters, unique on this machine as Dovecot's are (time, port, counter).
fn session_name(port: u16) -> String {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let micros = u64::try_from(now.as_micros()).unwrap_or(u64::MAX).to_le_bytes();
    let count = COUNTER.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let octets = [&micros[..6], &port.to_le_bytes(), &count].concat();
    base64::engine::general_purpose::STANDARD.encode(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_its_addresses() {
        let network = |text: &str, bits| Network { address: text.parse().expect("an address"), bits };
        let holds = |network: Network, text: &str| network.contains(text.parse().expect("an address"));
        assert!(holds(network("10.1.0.0", 16), "10.1.255.3"));
        assert!(!holds(network("10.1.0.0", 16), "10.2.0.1"));
        assert!(holds(network("10.1.0.0", 16), "::ffff:10.1.2.3"));
        assert!(holds(network("2001:db8::", 32), "2001:db8::1") && !holds(network("2001:db8::", 32), "2001:db9::1"));
        assert!(holds(network("0.0.0.0", 0), "192.0.2.1") && !holds(network("0.0.0.0", 0), "::1"));
        assert!(holds(network("::1", 128), "::1") && !holds(network("::1", 128), "::2"));
    }

    #[test]
    fn session_names_are_sixteen_letters_and_differ() {
        let (one, two) = (session_name(1234), session_name(1234));
        assert_eq!((one.len(), two.len()), (16, 16));
        assert_ne!(one, two);
    }
}
