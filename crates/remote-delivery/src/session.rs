//! One connection: the client machine on a stream, fed with messages.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use decision::{Event, Record, Stage};
use mail_config::Main;
use mail_ipc::delivery::{Destination, TransportKind};
use mail_net::tls::ClientTls;
use mail_net::{Answers, Driver, Handler, Stream};
use mail_smtp::client::{Answer, Client, Failure, Limits, Question, RcptOutcome, Settings};
use mail_types::UnixTime;
use session::AskId;
use tokio::sync::{mpsc, oneshot};

use crate::Shared;
use crate::job::{self, Job, Peer};

/// Octets of content per piece.
const PIECE: usize = 64 * 1024;

/// A message handed to a connection, and where it comes back.
#[derive(Debug)]
pub struct Handed {
    /// The message.
    pub job: Job,
    /// Brings it back when the connection is done with it.
    pub back: oneshot::Sender<Returned>,
}

/// A message that comes back from a connection.
#[derive(Debug)]
pub struct Returned {
    /// The message, nothing settled yet.
    pub job: Job,
    /// How it went.
    pub end: SessionEnd,
    /// With whom.
    pub peer: Peer,
}

/// How a connection ended for one message.
#[derive(Debug)]
pub enum SessionEnd {
    /// An outcome for each open recipient.
    Outcomes(Vec<RcptOutcome>),
    /// The session never became ready.
    Failed(Failure),
    /// TLS could not be set up; the message was not taken. The reason, if the certificate was refused.
    TlsFailed(Option<String>),
    /// Something that the connection needs cannot be had now; it was not used.
    NotBegun(String),
    /// The connection was gone before the message began.
    Gone,
}

/// Feeds one connection.
struct Feeder {
    shared: Arc<Shared>,
    main: Arc<Main>,
    sender: mpsc::Sender<Handed>,
    receiver: mpsc::Receiver<Handed>,
    current: Option<Handed>,
    destination: Destination,
    peer: Peer,
    at: u64,
    served: u64,
    idle_limit: Duration,
}

/// Runs a connection with its first message, until nothing more comes. Messages come back through their [`Handed::back`].
pub async fn run(
    shared: Arc<Shared>,
    main: Arc<Main>,
    stream: Stream,
    settings: Arc<Settings>,
    tls: Option<(ClientTls, String)>,
    peer: Peer,
    first: Handed,
) {
    let wrapped = stream.tls().is_some();
    let (sender, receiver) = mpsc::channel(1);
    let idle_limit = idle_limit(&main);
    let destination = first.job.lease.destination.clone();
    let feeder = Feeder {
        shared,
        main,
        sender,
        receiver,
        current: Some(first),
        destination,
        peer,
        at: 0,
        served: 0,
        idle_limit,
    };
    // TLS from the first octet is there already.
    feeder.log_tls(&stream);
    let mut feeder = feeder;
    let (_events, mut heard) = mpsc::channel(1);
    let driver = Driver::new(Client::new(settings, wrapped), stream, Vec::new());
    let tls = tls.as_ref().map(|(tls, name)| (tls, name.as_str()));
    let ended = driver.run_client(&mut feeder, tls, &mut heard).await;
    let tls_failed = matches!(ended.reason, session::Close::Hangup("TLS handshake failed") | session::Close::Timeout);
    let end = match ended.machine.into_outcome() {
        Some(outcomes) => SessionEnd::Outcomes(outcomes),
        None if tls_failed => SessionEnd::TlsFailed(tls.and_then(|(tls, _)| tls.refusal())),
        None => SessionEnd::Gone,
    };
    feeder.give_back(end);
    feeder.receiver.close();
    while let Ok(late) = feeder.receiver.try_recv() {
        feeder.current = Some(late);
        feeder.give_back(SessionEnd::Gone);
    }
}

fn idle_limit(main: &Main) -> Duration {
    if !crate::sasl::may_share(main) {
        return Duration::ZERO;
    }
    if *main.smtp_connection_cache_on_demand { *main.smtp_connection_cache_time_limit } else { Duration::ZERO }
}

impl Feeder {
    fn give_back(&mut self, end: SessionEnd) {
        if let Some(handed) = self.current.take() {
            // Nobody waits for it only where the daemon is ending.
            let _ = handed.back.send(Returned { job: handed.job, end, peer: self.peer.clone() });
        }
    }

    /// The machine is ready: begins the message at hand, or waits a little for another one.
    async fn ready(&mut self, limits: Limits) -> Answer {
        if self.current.is_none() && limits.mail.is_none_or(|most| self.served < most) {
            self.current = self.wait().await;
        }
        let Some(handed) = self.current.as_mut() else { return Answer::Quit };
        if !handed.job.may_begin() {
            self.give_back(SessionEnd::Gone);
            return Answer::Quit;
        }
        handed.job.connected = Some(UnixTime::from_system(SystemTime::now()));
        self.at = 0;
        match handed.job.message(limits) {
            Ok(message) => Answer::Message(Box::new(message)),
            Err(_) => {
                self.give_back(SessionEnd::Gone);
                Answer::Quit
            }
        }
    }

    async fn wait(&mut self) -> Option<Handed> {
        let limit = *self.main.smtp_connection_reuse_count_limit;
        if self.idle_limit.is_zero() || self.served == 0 || (limit > 0 && self.served >= limit) {
            return None;
        }
        let number = self.shared.pool.offer(&self.destination, self.sender.clone());
        let waited = tokio::time::timeout(self.idle_limit, self.receiver.recv()).await;
        if let Ok(handed) = waited {
            return handed;
        }
        if self.shared.pool.withdraw(&self.destination, number) { None } else { self.receiver.recv().await }
    }

    /// `Untrusted TLS connection established to ...`, as `smtp_tls_loglevel` and `lmtp_tls_loglevel` ask.
    fn log_tls(&self, stream: &Stream) {
        let Some(tls) = stream.tls() else { return };
        let (name, level) = match self.destination.kind {
            TransportKind::Lmtp => ("lmtp_tls_loglevel", &self.main.lmtp_tls_loglevel),
            _ => ("smtp_tls_loglevel", &self.main.smtp_tls_loglevel),
        };
        if **level > 0 {
            let text = format!("{} TLS connection established to {}: {tls}", tls.trust, self.peer.relay);
            let ident = job::ident(&self.main.syslog_name, self.destination.kind);
            let record = Record::new(&ident, Stage::Connect, Event::Text(&text)).by(name, &level.source);
            self.shared.log.record(&record);
        }
    }

    fn content(&mut self) -> Answer {
        let Some(handed) = &self.current else { return Answer::Abort };
        match handed.job.read(self.at, PIECE) {
            Ok(piece) if piece.is_empty() => Answer::EndOfContent,
            Ok(piece) => {
                self.at += piece.len() as u64;
                Answer::Chunk(piece)
            }
            Err(_) => Answer::Abort,
        }
    }
}

impl Handler<Client> for Feeder {
    async fn ask(&mut self, _id: AskId, question: Question, _answers: &Answers<Client>) -> Option<Answer> {
        Some(match question {
            Question::Ready(features) => self.ready(features.limits).await,
            Question::Content => self.content(),
            Question::Outcome(outcomes) => {
                mail_daemon::points::reached("remote-answered");
                self.served += 1;
                self.give_back(SessionEnd::Outcomes(outcomes));
                Answer::Noted
            }
            Question::Failed(failure) => {
                self.give_back(SessionEnd::Failed(failure));
                Answer::Noted
            }
        })
    }

    async fn give(&mut self, _chunk: Vec<u8>) {}

    fn tls_started(&mut self, stream: &Stream) {
        self.log_tls(stream);
    }
}

impl Peer {
    /// A peer's names for log and bounce.
    #[must_use]
    pub fn of(name: &str, address: Option<std::net::SocketAddr>) -> Self {
        match address {
            Some(address) => Self {
                label: format!("{name}[{}]", address.ip()),
                relay: format!("{name}[{}]:{}", address.ip(), address.port()),
                name: name.to_owned(),
            },
            None => Self { label: name.to_owned(), relay: name.to_owned(), name: name.to_owned() },
        }
    }
}
