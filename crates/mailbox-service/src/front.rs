//! The front: network, TLS and the login machine, in a process without rights.
//!
//! It reads what strangers send, so it can read no mail, no password file and no key but those of its own listeners. After a good login it holds
//! a token that only the monitor can redeem; the connection then goes to the owner's session process.

mod hand_over;
mod login;
mod monitor_line;
mod queue;
mod relay;

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use decision::{Event, Ident, Level, Record, Stage};
use mail_config::dovecot::login_log::LoginElement;
use mail_config::dovecot::{Connection, Settings};
use mail_config::{Config, Views};
use mail_daemon::{Context, Log, Running, Stop, TlsFiles};
use mail_ipc::auth::{Request, Response};
use mail_ipc::hello::Hello;
use mail_ipc::sockets::AUTH;
use mail_net::ipc::Caller;
use mail_net::tls::Identity;
use mail_types::SourceLine;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::front::monitor_line::MonitorLine;
use crate::front::queue::Queue;
use crate::service::{Mechanism, Protocol};
use crate::wire::{FrontReply, FrontRequest, LineLevel, SessionLine};

/// After an error of accept, such as too many open files, this long passes before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// So many connections make room when there is no descriptor left, and so soon they are gone.
const DROPPED_AT_ONCE: usize = 16;
const DROP_PAUSE: Duration = Duration::from_millis(10);

/// How long the last lines of session processes may take.
const LAST_LINES: Duration = Duration::from_secs(10);

/// A network of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// An address in it.
    pub address: IpAddr,
    /// How many leading bits all its addresses share.
    pub bits: u8,
}

impl Network {
    /// Reads `192.0.2.0/24`, or a single address.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().ok()?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Some(width), |bits| bits.parse().ok().filter(|bits| *bits <= width))?;
        Some(Self { address, bits })
    }

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
    /// What the configuration in force says to each connection.
    views: RwLock<Arc<Views<Current<P>>>>,
    mechanisms: RwLock<Arc<[Mechanism]>>,
    authority: Arc<Caller<Request, Response>>,
    monitor: MonitorLine,
    queue: Queue,
    log: Log,
    stop: Stop,
}

/// What changes at reload, as some connections see it.
struct Current<P> {
    protocol: P,
    trusted: Vec<Network>,
    /// The certificate and its key; none where TLS is off, or the two cannot be used.
    identity: Option<Identity>,
    /// The form of login lines, where it is not the default.
    form: Option<Form>,
    /// Where `disable_plaintext_auth` is written, and `auth_mechanisms`.
    plaintext_source: SourceLine,
    mechanisms_source: SourceLine,
}

/// `login_log_format` and `login_log_format_elements`.
struct Form {
    format: String,
    elements: Vec<LoginElement>,
}

impl Form {
    fn of(settings: &Settings) -> Option<Self> {
        let (format, elements) = (&settings.login_log_format, &settings.login_log_format_elements);
        let is_default = format.source.is_built_in() && elements.source.is_built_in();
        (!is_default).then(|| Self { format: format.value.clone(), elements: elements.value.clone() })
    }
}

impl<P: Protocol> Current<P> {
    fn of(config: &Config, identities: &Identities) -> Self {
        let settings = config.dovecot.protocol(P::SERVED);
        let trusted = settings.login_trusted_networks.iter().filter_map(|text| Network::parse(text)).collect();
        let plaintext_source = settings.disable_plaintext_auth.source.clone();
        let mechanisms_source = settings.auth_mechanisms.source.clone();
        let files = crate::daemon::tls_files::<P>(&config.dovecot);
        let identity = files.and_then(|files| identities.find(&files));
        let form = Form::of(settings);
        Self { protocol: P::new(config), trusted, identity, form, plaintext_source, mechanisms_source }
    }
}

/// The certificates that can be shown, by their files.
#[derive(Default)]
struct Identities(Vec<(TlsFiles, Identity)>);

impl Identities {
    /// Those of a configuration; one that cannot be used is the one before, if there was one.
    fn of<P: Protocol>(running: &Running, before: &Self, log: &Log) -> Self {
        let named = crate::daemon::tls::<P>(&running.config);
        let usable = named.into_iter().zip(&running.tls).filter_map(|(files, pem)| {
            let made = Identity::from_pem(&pem.certificate, &pem.key);
            let made = made.or_else(|error| {
                let old = before.find(&files);
                let what = if old.is_some() { "the old certificate stays" } else { "TLS is off" };
                let file = files.certificate.as_ref().map_or(String::new(), |file| format!("{}: ", file.display()));
                log.warning(&Ident::dovecot(), &format!("{}-login: {what}: {file}{error}", P::NAME));
                old.ok_or(())
            });
            Some((files, made.ok()?))
        });
        Self(usable.collect())
    }

    fn find(&self, files: &TlsFiles) -> Option<Identity> {
        self.0.iter().find(|(known, _)| known == files).map(|(_, identity)| identity.clone())
    }
}

/// What a configuration says to connections, with its certificates.
fn views<P: Protocol>(running: &Running, identities: Arc<Identities>) -> Arc<Views<Current<P>>> {
    let make = move |config: &Config, _: &Connection| Current::of(config, &identities);
    Arc::new(Views::new(Arc::clone(&running.config), make))
}

impl<P> Shared<P> {
    fn mechanisms(&self) -> Arc<[Mechanism]> {
        Arc::clone(&self.mechanisms.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn views(&self) -> Arc<Views<Current<P>>> {
        Arc::clone(&self.views.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Serves until the daemon stops and all connections are over, or the monitor is gone.
pub(crate) async fn serve<P: Protocol>(mut context: Context) {
    let Some((reader, writer)) = context.monitor.take() else { return };
    raise_descriptor_limit();
    let running = context.now();
    let identities = Arc::new(Identities::of::<P>(&running, &Identities::default(), &context.log));
    let shared = Arc::new(Shared::<P> {
        views: RwLock::new(views(&running, Arc::clone(&identities))),
        mechanisms: RwLock::new(configured_mechanisms::<P>(&running.config)),
        authority: Arc::new(Caller::new(context.state().to_owned(), AUTH, context.hello())),
        monitor: MonitorLine::new(writer),
        queue: Queue::default(),
        log: context.log.clone(),
        stop: context.stop.clone(),
    });
    let most = connections(&running.config);
    let room = Arc::new(Semaphore::new(usize::try_from(most).unwrap_or(Semaphore::MAX_PERMITS)));
    for (socket, implicit_tls) in context.tcp.drain(..).zip(crate::daemon::implicit_tls::<P>(&running.config)) {
        tokio::spawn(accept(Arc::clone(&shared), socket, implicit_tls, Arc::clone(&room)));
    }
    let hello = context.hello();
    for socket in context.unix.drain(..) {
        tokio::spawn(announcements(Arc::clone(&shared), socket, hello.clone()));
    }
    tokio::spawn(learn_mechanisms(Arc::clone(&shared)));
    tokio::spawn(follow(Arc::clone(&shared), identities, context.running.clone()));
    context.ready();
    let listening = Arc::clone(&shared);
    let all_over = async {
        context.stop.requested().await;
        // Every connection holds a place; when all are free, all are over.
        let _ = room.acquire_many(most).await;
        // The last lines of the sessions come through the monitor.
        let _ = tokio::time::timeout(LAST_LINES, listening.monitor.drained()).await;
    };
    tokio::select! {
        // Without a monitor no login leads anywhere.
        () = listening.monitor.listen(reader, |line| log_line::<P>(&listening.log, line)) => {}
        () = all_over => {}
    }
}

/// The most connections at one time, relays to session processes included (`postrider_session_limit`).
fn connections(config: &Config) -> u32 {
    let limit = u64::from(u32::MAX).min(Semaphore::MAX_PERMITS as u64).min(*config.main.postrider_session_limit);
    u32::try_from(limit).unwrap_or(u32::MAX)
}

/// As many descriptors as the system allows: a connection through TLS takes two.
pub(crate) fn raise_descriptor_limit() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    // Refused or not, accept says when there are none left.
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised);
}

/// What `auth_mechanisms` says, until authd has said what it has.
fn configured_mechanisms<P: Protocol>(config: &Config) -> Arc<[Mechanism]> {
    let names = config.dovecot.protocol(P::SERVED).auth_mechanisms.iter().map(|name| name.to_ascii_uppercase());
    let plaintext = |name: String| {
        let built = matches!(name.as_str(), "PLAIN" | "LOGIN");
        built.then_some(Mechanism { name, plaintext: true })
    };
    names.filter_map(plaintext).collect()
}

/// Takes over each new configuration.
async fn follow<P: Protocol>(
    shared: Arc<Shared<P>>,
    mut identities: Arc<Identities>,
    mut running: watch::Receiver<Arc<Running>>,
) {
    while running.changed().await.is_ok() {
        let now = Arc::clone(&running.borrow_and_update());
        identities = Arc::new(Identities::of::<P>(&now, &identities, &shared.log));
        *shared.views.write().unwrap_or_else(PoisonError::into_inner) = views(&now, Arc::clone(&identities));
        tokio::spawn(learn_mechanisms(Arc::clone(&shared)));
    }
}

/// Writes down what the monitor passes on.
fn log_line<P: Protocol>(log: &Log, reply: FrontReply) {
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
            log.record(&record);
        }
        FrontReply::Warning { text } => log.warning(&ident, &text),
        FrontReply::Started { .. } | FrontReply::Refused { .. } | FrontReply::Drained => {}
    }
}

async fn accept<P: Protocol>(shared: Arc<Shared<P>>, socket: TcpListener, implicit_tls: bool, room: Arc<Semaphore>) {
    let mut stop = shared.stop.clone();
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = stop.requested() => return,
        };
        let Ok((stream, _)) = accepted else {
            // No descriptor is left. Several make room at once, so that a flood is worked off faster than it comes.
            let dropped = (0..DROPPED_AT_ONCE).take_while(|_| shared.queue.drop_oldest()).count();
            tokio::time::sleep(if dropped > 0 { DROP_PAUSE } else { ACCEPT_PAUSE }).await;
            continue;
        };
        let place = tokio::select! {
            place = place(&shared, &room) => place,
            () = stop.requested() => return,
        };
        let Some(place) = place else { return };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            login::serve(shared, stream, implicit_tls).await;
            drop(place);
        });
    }
}

/// A place for one more connection; where none is free, the oldest that has not logged in must go.
async fn place<P>(shared: &Shared<P>, room: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    if let Ok(place) = Arc::clone(room).try_acquire_owned() {
        return Some(place);
    }
    // Again and again: another listener may have taken the place, or the oldest was not in the queue when it was looked for.
    loop {
        shared.queue.drop_oldest();
        if let Ok(place) = tokio::time::timeout(ACCEPT_PAUSE, Arc::clone(room).acquire_owned()).await {
            return place.ok();
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
        let network = |text: &str, bits: u8| Network::parse(&format!("{text}/{bits}")).expect("a network");
        let holds = |network: Network, text: &str| network.contains(text.parse().expect("an address"));
        assert!(holds(network("10.1.0.0", 16), "10.1.255.3"));
        assert!(!holds(network("10.1.0.0", 16), "10.2.0.1"));
        assert!(holds(network("10.1.0.0", 16), "::ffff:10.1.2.3"));
        assert!(holds(network("2001:db8::", 32), "2001:db8::1") && !holds(network("2001:db8::", 32), "2001:db9::1"));
        assert!(holds(network("0.0.0.0", 0), "192.0.2.1") && !holds(network("0.0.0.0", 0), "::1"));
        assert!(Network::parse("10.0.0.0/33").is_none() && Network::parse("10.0.0.1").expect("one").bits == 32);
        assert!(holds(network("::1", 128), "::1") && !holds(network("::1", 128), "::2"));
    }

    #[test]
    fn session_names_are_sixteen_letters_and_differ() {
        let (one, two) = (session_name(1234), session_name(1234));
        assert_eq!((one.len(), two.len()), (16, 16));
        assert_ne!(one, two);
    }
}
