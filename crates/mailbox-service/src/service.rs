//! What imapd and pop3d bring to the service that they share.

use std::net::IpAddr;
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mail_config::Config;
use mail_ipc::auth::Failure;
use mail_net::Stream;
use mail_store::Account;
use serde::{Deserialize, Serialize};
use session::Machine;
use tokio::sync::{Mutex, broadcast, mpsc, watch};

use crate::wire::{HandOver, LineLevel, Owner, Refusal, SessionLine};

/// A connection as its listener knows it before the first octet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The peer's address.
    pub peer: IpAddr,
    /// Our address.
    pub local: IpAddr,
    /// TLS is in use already.
    pub tls: bool,
    /// STARTTLS or STLS can be offered.
    pub starttls: bool,
    /// Counts as secured without TLS: the peer's address is ours (Dovecot's rule), or a trusted one (`login_trusted_networks`).
    pub local_peer: bool,
    /// The SASL mechanisms to offer.
    pub mechanisms: Arc<[Mechanism]>,
}

/// A SASL mechanism of authd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mechanism {
    /// Its name in upper case.
    pub name: String,
    /// Whether it sends the password in clear.
    pub plaintext: bool,
}

/// What a login machine may ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoginQuestion {
    /// A login begins.
    Begin {
        /// The mechanism in upper case.
        mechanism: String,
        /// The initial response, decoded.
        initial: Option<Vec<u8>>,
    },
    /// The client's next response, decoded.
    Continue(Vec<u8>),
    /// The client gave up. Not answered.
    Cancel,
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoginAnswer {
    /// The server's challenge.
    Challenge(Vec<u8>),
    /// The login is good: the machine ends with [`session::Close::HandOver`].
    Authenticated,
    /// The login failed; it has been delayed already.
    Failed(Failure),
}

/// What a login machine leaves for the session process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resume {
    /// The tag of the login command.
    pub tag: Option<String>,
    /// Extensions that the client enabled before the login.
    pub enabled: Vec<String>,
    /// Input that the machine took and did not use.
    pub unread: Vec<u8>,
}

/// A protocol on mailboxes: a machine before the login, run by the front, and sessions after it, run by the owner's process.
pub trait Protocol: Clone + Send + Sync + 'static {
    /// `imap` or `pop3`: the service's name in logs, in settings and for authd.
    const NAME: &'static str;
    /// The role of the front when it greets authd.
    const FRONT: mail_ipc::hello::Role;
    /// The protocol in dovecot.conf: its settings and listeners.
    const SERVED: mail_config::dovecot::Protocol;
    /// Whether local-delivery's announcements are of use: then the front listens on `mailbox.sock`.
    const ANNOUNCEMENTS: bool;
    /// The machine before the login.
    type Login: Machine<Question: Send, Answer: Send, Event: Send> + Send + 'static;

    /// The protocol as a configuration has it.
    fn new(config: &Config) -> Self;
    /// A machine for a connection; it greets.
    fn login(&self, facts: &Facts) -> Self::Login;
    /// Reads the machine's question.
    fn question(question: <Self::Login as Machine>::Question) -> LoginQuestion;
    /// Writes the machine's answer.
    fn answer(answer: LoginAnswer) -> <Self::Login as Machine>::Answer;
    /// The event that ends a machine because the service ends.
    fn shutdown() -> <Self::Login as Machine>::Event;
    /// What is left of a machine that ended with [`session::Close::HandOver`].
    fn resume(machine: &Self::Login) -> Resume;
    /// Whether the client tried to send a password where it may not, for the log.
    fn tried_cleartext(machine: &Self::Login) -> bool;
    /// What the client is told, after a good login, when no session can be started. The connection is closed after it.
    fn refusal(&self, refusal: &Refusal, resume: &Resume) -> Vec<u8>;
    /// What the client is told when the owner's mail location cannot be served, and nobody tries again before a person changed something.
    fn unusable(&self, connection: &HandOver) -> Vec<u8>;
    /// Serves a session to its end, from the reply to the login on. Gives the text of the log line, such as `Logged out in=10 out=20`.
    fn serve(&self, home: Arc<Home>, connection: Connection) -> impl Future<Output = String> + Send + use<Self>;
}

/// A connection in the session process.
#[derive(Debug)]
pub struct Connection {
    /// What the front knew.
    pub hand_over: HandOver,
    /// The client, or the front's relay to it.
    pub stream: Stream,
    /// Becomes true when the service ends: say goodbye.
    pub shutdown: watch::Receiver<bool>,
}

/// What all sessions of one owner share.
pub struct Home {
    /// Who.
    pub owner: Owner,
    /// The mailboxes. Its calls block: run them with [`tokio::task::spawn_blocking`], which is a small pool here.
    pub account: Arc<dyn Account>,
    /// Held by a session that must be the owner's only one, where a protocol can be told so.
    pub exclusive: Arc<Mutex<()>>,
    /// The names of mailboxes to which mail was delivered, as local-delivery announces them.
    pub announcements: broadcast::Sender<String>,
    /// Where the lines of the sessions go.
    pub(crate) log: Lines,
    /// The end of hard work, while the process waits to rest from it.
    pub(crate) resting: Arc<StdMutex<Option<Instant>>>,
}

/// So long after hard work the process gives the memory back that it freed: more work may follow, and would want it again.
const REST: Duration = Duration::from_secs(1);

impl Home {
    /// Says that a job has just used much memory. The process gives it back when no such job has followed for a second.
    pub fn worked_hard(&self) {
        let resting = Arc::clone(&self.resting);
        if lock(&resting).replace(Instant::now()).is_none() {
            tokio::spawn(rest(resting));
        }
    }

    /// Writes a line about a session to the log, in Dovecot's form: `pop3(user)<pid><session>: TEXT`. Never waits.
    pub fn line(&self, session: &str, level: LineLevel, text: impl Into<String>) {
        self.log.write(session, level, text.into());
    }
}

fn lock(resting: &StdMutex<Option<Instant>>) -> MutexGuard<'_, Option<Instant>> {
    resting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for a second without hard work, then gives memory back.
async fn rest(resting: Arc<StdMutex<Option<Instant>>>) {
    loop {
        let rested = lock(&resting).map_or(REST, |worked| worked.elapsed());
        match REST.checked_sub(rested).filter(|left| !left.is_zero()) {
            Some(left) => tokio::time::sleep(left).await,
            None => break,
        }
    }
    lock(&resting).take();
    let _ = tokio::task::spawn_blocking(mail_posix::memory::give_back).await;
}

/// Takes lines of a session process to the log, by way of the monitor. A slow log loses lines, never stops mail.
#[derive(Debug, Clone)]
pub(crate) struct Lines(mpsc::Sender<SessionLine>);

impl Lines {
    pub(crate) fn new() -> (Self, mpsc::Receiver<SessionLine>) {
        let (sender, receiver) = mpsc::channel(256);
        (Self(sender), receiver)
    }

    pub(crate) fn write(&self, session: &str, level: LineLevel, text: String) {
        let _ = self.0.try_send(SessionLine::new(session, level, text));
    }
}

impl std::fmt::Debug for Home {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Home").field("owner", &self.owner).finish_non_exhaustive()
    }
}
