//! One connection in the front, from accept to the hand-over.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use decision::{Event, Ident, LoginEvent, Record, Stage};
use mail_config::Views;
use mail_config::dovecot::Connection;
use mail_config::dovecot::login_log::{LoginFact, login_line};
use mail_ipc::auth::{Failure, Request, Response};
use mail_net::tls::ServerTls;
use mail_net::{Answers, Driver, Handler, Stream};
use mail_types::Octets;
use session::{AskId, Close, Machine};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::hand_over::Leaving;
use super::{Current, Shared, session_name};
use crate::login_log::{self, Attempts};
use crate::service::{Facts, LoginAnswer, LoginQuestion, Protocol};

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(60);

/// How long authd may take; it delays failed logins.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is known of a connection, for authd, the log and the hand-over.
pub(super) struct Client<P> {
    pub(super) shared: Arc<Shared<P>>,
    /// The configuration as it was when the connection came.
    views: Arc<Views<Current<P>>>,
    /// What of it holds for this connection.
    pub(super) current: Arc<Current<P>>,
    pub(super) session: String,
    pub(super) peer: IpAddr,
    pub(super) local: IpAddr,
    /// The client's port, and ours.
    ports: (u16, u16),
    pub(super) local_peer: bool,
    began: Instant,
}

/// What authd said so far.
#[derive(Debug, Default)]
struct Progress {
    attempts: Attempts,
    token: Option<String>,
}

/// Serves a connection until it is handed over or closed.
pub(super) async fn serve<P: Protocol>(shared: Arc<Shared<P>>, stream: TcpStream, implicit_tls: bool) {
    let (Ok(peer), Ok(local)) = (stream.peer_addr(), stream.local_addr()) else { return };
    let _ = stream.set_nodelay(true);
    let client = Arc::new(Client::new(Arc::clone(&shared), peer, local));
    let queued = shared.queue.enter();
    let left = tokio::select! {
        left = Arc::clone(&client).before_hand_over(stream, implicit_tls) => left,
        () = queued.must_go() => {
            client.log_lost_place();
            return;
        }
    };
    drop(queued);
    if let Some((leaving, stream, token)) = left {
        // Boxed, because this future would otherwise keep its size for every connection before its login.
        Box::pin(leaving.go(stream, token)).await;
    }
}

impl<P: Protocol> Client<P> {
    fn new(shared: Arc<Shared<P>>, peer: SocketAddr, local: SocketAddr) -> Self {
        let session = session_name(peer.port());
        let ports = (peer.port(), local.port());
        let (peer, local) = (peer.ip().to_canonical(), local.ip().to_canonical());
        // Dovecot's rule: who has our own address is on this machine.
        let views = shared.views();
        let current = views.of(&Connection::tcp(P::NAME, local, peer));
        let local_peer = peer == local || current.trusted.iter().any(|network| network.contains(peer));
        Self { shared, views, current, session, peer, local, ports, local_peer, began: Instant::now() }
    }

    /// The connection in the words of dovecot.conf's filters, with the name that the client asked for.
    fn named(&self, name: Option<&str>) -> Connection {
        Connection::tcp(P::NAME, self.local, self.peer).named(name)
    }

    /// The certificates for this connection; none where it is offered no TLS.
    fn tls(&self) -> Option<ServerTls> {
        self.current.identity.as_ref()?;
        let (views, connection) = (Arc::clone(&self.views), self.named(None));
        Some(ServerTls::chosen(move |name| views.of(&connection.clone().named(name)).identity.clone()))
    }

    /// The same after a handshake in which the client asked for a name.
    fn after_handshake(self: Arc<Self>, stream: &Stream) -> Arc<Self> {
        let Some(name) = stream.server_name() else { return self };
        let current = self.views.of(&self.named(Some(name)));
        let (shared, views, session) = (Arc::clone(&self.shared), Arc::clone(&self.views), self.session.clone());
        let Self { peer, local, ports, local_peer, began, .. } = *self;
        Arc::new(Self { shared, views, current, session, peer, local, ports, local_peer, began })
    }

    /// Handshake and login; what leaves for a session process.
    async fn before_hand_over(
        self: Arc<Self>,
        stream: TcpStream,
        implicit_tls: bool,
    ) -> Option<(Leaving<P>, Stream, String)> {
        let stream = match (implicit_tls, self.tls()) {
            (false, _) => Stream::Tcp(stream),
            (true, None) => return None,
            (true, Some(tls)) => {
                let handshake = tokio::time::timeout(HANDSHAKE, tls.accept(Stream::Tcp(stream)));
                let problem = match handshake.await {
                    Ok(Ok(stream)) => Ok(stream),
                    Ok(Err(error)) => Err(error.to_string()),
                    Err(_) => Err("timeout".to_owned()),
                };
                match problem {
                    Ok(stream) => stream,
                    Err(text) => {
                        self.log_failed_handshake(&text);
                        return None;
                    }
                }
            }
        };
        self.after_handshake(&stream).login(stream).await
    }

    /// Runs the login machine to its end.
    async fn login(self: Arc<Self>, stream: Stream) -> Option<(Leaving<P>, Stream, String)> {
        let server_tls = self.tls();
        let facts = Facts {
            peer: self.peer,
            local: self.local,
            tls: stream.tls().is_some(),
            starttls: server_tls.is_some(),
            local_peer: self.local_peer,
            mechanisms: self.shared.mechanisms(),
        };
        let machine = self.current.protocol.login(&facts);
        let progress = Arc::new(Mutex::new(Progress::default()));
        let mut asking = Asking {
            client: Arc::clone(&self),
            progress: Arc::clone(&progress),
            tls: facts.tls,
            local_name: stream.server_name().map(str::to_owned),
            exchange: 0,
        };
        let (events, mut heard) = mpsc::channel(1);
        let driver = Driver::new(machine, stream, Vec::new());
        let mut stop = self.shared.stop.clone();
        let ended = {
            // Pinned where it is made: a future keeps room for what is moved.
            let mut run = std::pin::pin!(driver.run(&mut asking, server_tls.as_ref(), &mut heard));
            tokio::select! {
                ended = &mut run => ended,
                () = stop.requested() => {
                    let _ = events.try_send(P::shutdown());
                    run.await
                }
            }
        };
        let Progress { mut attempts, token } = std::mem::take(&mut *lock(&progress));
        attempts.saw(&ended.stream);
        match token.filter(|_| ended.reason == Close::HandOver) {
            Some(token) => {
                let mut resume = P::resume(&ended.machine);
                resume.unread.extend_from_slice(&ended.unread);
                Some((Leaving::new(self, attempts, resume), ended.stream, token))
            }
            None => {
                attempts.cleartext = P::tried_cleartext(&ended.machine);
                let what = login_log::disconnected(&ended.reason, &attempts, self.began.elapsed());
                self.log(&what, &attempts, None, ended.stream.tls().is_some());
                None
            }
        }
    }

    /// All places are taken, and this connection has had its own for the longest time.
    fn log_lost_place(&self) {
        let attempts = Attempts::default();
        let full = Close::Hangup("Connection queue full");
        self.log_with(&login_log::disconnected(&full, &attempts, self.began.elapsed()), &attempts, None, None);
    }

    fn log_failed_handshake(&self, problem: &str) {
        let attempts = Attempts::default();
        let tried = login_log::tried(&attempts, self.began.elapsed());
        let what = format!("Disconnected: Connection closed: TLS handshake failed: {problem} ({tried})");
        self.log_with(&what, &attempts, None, Some("TLS handshaking"));
    }

    pub(super) fn log(&self, what: &str, attempts: &Attempts, mpid: Option<u32>, tls: bool) {
        let security = match (tls, self.local_peer) {
            (true, _) => Some("TLS"),
            (false, true) => Some("secured"),
            (false, false) => None,
        };
        self.log_with(what, attempts, mpid, security);
    }

    fn log_with(&self, what: &str, attempts: &Attempts, mpid: Option<u32>, security: Option<&str>) {
        let service = format!("{}-login", P::NAME);
        let line = self.current.form.as_ref().map(|form| {
            let fact = |fact| self.fact(fact, attempts, mpid, security);
            let told: Vec<String> = form.elements.iter().filter_map(|element| element.text(&fact)).collect();
            login_line(&form.format, what, &told.join(", "))
        });
        let event = LoginEvent {
            service: &service,
            what,
            user: attempts.user.as_deref(),
            master: attempts.master.as_deref(),
            method: attempts.method.as_deref(),
            rip: self.peer,
            lip: self.local,
            mpid,
            security,
            session: &self.session,
            line: line.as_deref(),
        };
        let ident = Ident::dovecot();
        let mut record = Record::new(&ident, Stage::Login, Event::Login(event));
        record.session = Some(&self.session);
        let rule = match attempts {
            Attempts { failed: 0, cleartext: true, .. } => {
                Some(("disable_plaintext_auth", &self.current.plaintext_source))
            }
            Attempts { method: Some(_), .. } => Some(("auth_mechanisms", &self.current.mechanisms_source)),
            _ => None,
        };
        self.shared.log.record(&record.by_any(rule));
    }
}

impl<P: Protocol> Client<P> {
    /// What `login_log_format_elements` may ask for; empty for what is not known.
    fn fact(&self, fact: LoginFact, attempts: &Attempts, mpid: Option<u32>, security: Option<&str>) -> String {
        let user = attempts.user.as_deref().unwrap_or_default();
        let (before, domain) = user.split_once('@').unwrap_or((user, ""));
        let auth = attempts.master.as_deref().unwrap_or(user);
        let (auth_before, auth_domain) = auth.split_once('@').unwrap_or((auth, ""));
        match fact {
            LoginFact::AuthUser => auth.to_owned(),
            LoginFact::AuthUsername => auth_before.to_owned(),
            LoginFact::AuthDomain => auth_domain.to_owned(),
            LoginFact::User => user.to_owned(),
            LoginFact::Username => before.to_owned(),
            LoginFact::Domain => domain.to_owned(),
            LoginFact::Protocol => P::NAME.to_owned(),
            LoginFact::Mechanism => attempts.method.clone().unwrap_or_default(),
            LoginFact::RemoteAddress => self.peer.to_string(),
            LoginFact::LocalAddress => self.local.to_string(),
            LoginFact::RemotePort => self.ports.0.to_string(),
            LoginFact::LocalPort => self.ports.1.to_string(),
            LoginFact::MailPid => mpid.map_or(String::new(), |pid| pid.to_string()),
            LoginFact::Secured => security.unwrap_or_default().to_owned(),
            LoginFact::Security => attempts.cipher.clone(),
            LoginFact::Session => self.session.clone(),
            LoginFact::LocalName => attempts.local_name.clone().unwrap_or_default(),
            LoginFact::Pid => std::process::id().to_string(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Carries the machine's questions to authd.
struct Asking<P> {
    client: Arc<Client<P>>,
    progress: Arc<Mutex<Progress>>,
    tls: bool,
    /// The name that the client asked for in its handshake.
    local_name: Option<String>,
    /// The number of the exchange at authd.
    exchange: u64,
}

impl<P: Protocol> Asking<P> {
    fn begin(&mut self, mechanism: String, initial: Option<Vec<u8>>) -> Request {
        self.exchange = self.client.shared.authority.number();
        lock(&self.progress).attempts.method = Some(mechanism.clone());
        Request::Begin {
            service: P::NAME.to_owned(),
            mechanism,
            initial: initial.map(Octets::new),
            peer: self.client.peer,
            local: self.client.local,
            secured: self.tls || self.client.local_peer,
            tls: self.tls,
            session: self.client.session.clone(),
            local_name: self.local_name.clone(),
        }
    }
}

impl<P: Protocol> Handler<P::Login> for Asking<P> {
    async fn ask(
        &mut self,
        id: AskId,
        question: <P::Login as Machine>::Question,
        answers: &Answers<P::Login>,
    ) -> Option<<P::Login as Machine>::Answer> {
        let request = match P::question(question) {
            LoginQuestion::Begin { mechanism, initial } => self.begin(mechanism, initial),
            LoginQuestion::Continue(response) => Request::Continue { response: Octets::new(response) },
            LoginQuestion::Cancel => {
                let _ = self.client.shared.authority.notify(self.exchange, &Request::Cancel).await;
                return None;
            }
        };
        let (authority, exchange) = (Arc::clone(&self.client.shared.authority), self.exchange);
        let (progress, answers) = (Arc::clone(&self.progress), answers.clone());
        // A failed login is delayed by authd: meanwhile the connection must notice its end.
        tokio::spawn(async move {
            let call = authority.call_numbered(exchange, &request, &[]);
            let reply = match tokio::time::timeout(PATIENCE, call).await {
                Ok(reply) => reply.ok().map(|reply| reply.message),
                Err(_) => {
                    let _ = authority.notify(exchange, &Request::Cancel).await;
                    None
                }
            };
            let answer = judge(reply, &progress);
            let _ = answers.send((id, P::answer(answer))).await;
        });
        None
    }

    async fn give(&mut self, _chunk: Vec<u8>) {}

    fn tls_started(&mut self, stream: &Stream) {
        self.tls = true;
        self.local_name = stream.server_name().map(str::to_owned);
    }
}

/// What the machine is told about authd's answer.
fn judge(response: Option<Response>, progress: &Mutex<Progress>) -> LoginAnswer {
    let mut progress = lock(progress);
    match response {
        Some(Response::Challenge { challenge }) => LoginAnswer::Challenge(challenge.as_bytes().to_vec()),
        Some(Response::Authenticated { user, token: Some(token), master }) => {
            (progress.attempts.user, progress.attempts.master) = (Some(user), master);
            progress.token = Some(token);
            LoginAnswer::Authenticated
        }
        Some(Response::Failed { failure, user }) => {
            progress.attempts.failed += 1;
            (progress.attempts.user, progress.attempts.master) = (user, None);
            LoginAnswer::Failed(failure)
        }
        _ => LoginAnswer::Failed(Failure::Temporary),
    }
}
