//! `auth.sock`: SASL exchanges, and the tokens of their outcomes.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use accounts::login::{Attempt, Granted, Verdict};
use accounts::lookup::{Found, after_login};
use accounts::plan::{Note, Sources};
use accounts::sasl::{Credentials, Exchange, Progress};
use accounts::variables::Values;
use decision::Stage;
use mail_config::dovecot::Connection;
use mail_ipc::auth::{Failure, Login, Request, Response};
use mail_ipc::hello::Role;
use mail_net::ipc;
use mail_types::Octets;
use tokio::net::UnixStream;

use crate::conversation::{Guests, Replies, describe};
use crate::front::{Front, Rules};
use crate::lookup::owned;

/// Exchanges that one front may have open; each waits for a client's next line.
const EXCHANGES_MOST: usize = 16_384;

/// The longest `auth_failure_delay` that is honoured; more would only hold connections.
const DELAY_MOST: Duration = Duration::from_secs(60);

/// Who is logging in, from `Begin`.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    service: String,
    mechanism: String,
    peer: IpAddr,
    local: IpAddr,
    local_name: Option<String>,
    session: String,
}

impl Client {
    /// The connection in the words of dovecot.conf's filters.
    fn connection(&self) -> Connection {
        Connection::tcp(&self.service, self.local, self.peer).named(self.local_name.as_deref())
    }
}

/// The service that a front serves; none for others.
fn service_of(role: Role) -> &'static str {
    match role {
        Role::ImapFront => "imap",
        Role::Pop3Front => "pop3",
        Role::Smtpd => "smtp",
        _ => "",
    }
}

/// Serves one front or monitor until it goes.
pub(crate) async fn serve(front: Arc<Front>, guests: Arc<Guests>, stream: UnixStream) {
    let Ok(mut conversation) = ipc::accept(stream, &front.hello).await else { return };
    if !guests.admits(&conversation) {
        front.say(Stage::Daemon, None, &format!("auth: auth.sock: {} is refused", describe(&conversation)));
        return;
    }
    let monitor = guests.is_monitor(&conversation);
    let (replies, service) = (Replies::start(conversation.writer.clone()), service_of(conversation.hello.role));
    let mut desk = Desk { front, replies, open: HashMap::new(), monitor, service };
    while let Ok(Some(received)) = conversation.reader.frame().await {
        let id = received.raw.id();
        match received.read::<Request>() {
            Ok(frame) => desk.request(id, frame.body).await,
            Err(_) => desk.replies.send(id, Response::NotUnderstood).await,
        }
    }
}

/// One connection: its open exchanges.
struct Desk {
    front: Arc<Front>,
    replies: Replies<Response>,
    open: HashMap<u64, (Client, Exchange)>,
    monitor: bool,
    service: &'static str,
}

impl Desk {
    async fn request(&mut self, id: u64, request: Request) {
        match request {
            Request::Mechanisms => {
                let names = self.front.rules(&Connection::of(self.service)).mechanisms.clone();
                // Both mechanisms that are built send the password in clear.
                self.replies.send(id, Response::Mechanisms { plaintext: names.clone(), names }).await;
            }
            Request::Begin { service, mechanism, initial, peer, local, secured, tls: _, session, local_name } => {
                let client = Client { service, mechanism, peer, local, local_name, session };
                let initial = initial.as_ref().map(Octets::as_bytes);
                match self.begin(&client, secured) {
                    Ok(mut exchange) => {
                        let progress = exchange.begin(initial);
                        self.progress(id, client, exchange, progress).await;
                    }
                    Err(failure) => self.replies.send(id, Response::Failed { failure, user: None }).await,
                }
            }
            Request::Continue { response } => match self.open.remove(&id) {
                Some((client, mut exchange)) => {
                    let progress = exchange.respond(response.as_bytes());
                    self.progress(id, client, exchange, progress).await;
                }
                None => self.replies.send(id, Response::Failed { failure: Failure::Protocol, user: None }).await,
            },
            Request::Cancel => drop(self.open.remove(&id)),
            Request::Redeem { token } => {
                let login = if self.monitor { self.redeem(&token) } else { None };
                let response = login.map_or(Response::Unknown, |login| Response::Login { login });
                self.replies.send(id, response).await;
            }
        }
    }

    fn begin(&self, client: &Client, secured: bool) -> Result<Exchange, Failure> {
        let rules = self.front.rules(&client.connection());
        if !rules.mechanisms.contains(&client.mechanism) {
            return Err(Failure::Mechanism);
        }
        // The front refuses this by itself; here it is refused even if the front is wrong.
        if rules.needs_security(&client.service) && !secured {
            return Err(Failure::Mechanism);
        }
        if self.open.len() >= EXCHANGES_MOST {
            return Err(Failure::Temporary);
        }
        Exchange::new(&client.mechanism).ok_or(Failure::Mechanism)
    }

    async fn progress(&mut self, id: u64, client: Client, exchange: Exchange, progress: Progress) {
        match progress {
            Progress::Challenge(challenge) => {
                self.open.insert(id, (client, exchange));
                self.replies.send(id, Response::Challenge { challenge: Octets::new(challenge) }).await;
            }
            Progress::Invalid(text) => {
                let note =
                    format!("{}(?,{},<{}>): {text}", client.mechanism.to_lowercase(), client.peer, client.session);
                let verbose = self.front.rules(&client.connection()).verbose;
                self.front.note(&[Note { error: false, text: note }], verbose, Some(&client.session));
                self.replies.send(id, Response::Failed { failure: Failure::Protocol, user: None }).await;
            }
            Progress::Credentials(credentials) => {
                let Ok(permit) = Arc::clone(&self.front.logins).try_acquire_owned() else {
                    self.replies.send(id, Response::Failed { failure: Failure::Temporary, user: None }).await;
                    return;
                };
                let (front, replies) = (Arc::clone(&self.front), self.replies.clone());
                tokio::spawn(async move {
                    let response = login(&front, client, credentials).await;
                    replies.send(id, response).await;
                    drop(permit);
                });
            }
        }
    }

    fn redeem(&self, token: &str) -> Option<Login> {
        self.front.tokens.lock().unwrap_or_else(PoisonError::into_inner).redeem(token, Instant::now())
    }
}

/// One attempt from the first wait to the answer.
pub(crate) async fn login(front: &Arc<Front>, client: Client, credentials: Credentials) -> Response {
    let peer = client.peer;
    let throttle = || front.throttle.lock().unwrap_or_else(PoisonError::into_inner);
    let wait = throttle().wait(peer, Instant::now());
    tokio::time::sleep(wait).await;
    let rules = front.rules(&client.connection());
    let outcome = evaluate(front, &rules, &client, &credentials).await;
    front.note(&outcome.notes, rules.verbose, Some(&client.session));
    match outcome.result {
        Ok(login) => {
            throttle().succeeded(peer);
            answer(front, login)
        }
        Err(failure) => {
            let tried = (credentials.user.as_str(), credentials.password.as_bytes());
            if !rules.trusts(peer) {
                throttle().failed(peer, tried, Instant::now());
            }
            // The same for an unknown user and a wrong password. "Not now" waits as well: where one database does not answer, another
            // one may still say yes to the right guess.
            tokio::time::sleep(rules.failure_delay.min(DELAY_MOST)).await;
            Response::Failed { failure, user: Some(outcome.user) }
        }
    }
}

struct Outcome {
    user: String,
    notes: Vec<Note>,
    result: Result<Login, Failure>,
}

async fn evaluate(front: &Arc<Front>, rules: &Arc<Rules>, client: &Client, credentials: &Credentials) -> Outcome {
    let attempt = Attempt {
        service: client.service.clone(),
        mechanism: client.mechanism.clone(),
        authzid: credentials.authzid.clone(),
        user: credentials.user.clone(),
        password: credentials.password.clone(),
        peer: client.peer,
        local: client.local,
        local_name: client.local_name.clone(),
        session: client.session.clone(),
    };
    let memory = front.remembered(rules);
    if let Some((user, result)) = memory.as_ref().and_then(|memory| memory.recall(&attempt, Instant::now())) {
        return Outcome { user, notes: Vec::new(), result };
    }
    let outcome = ask(front, rules, &attempt).await;
    if let Some(memory) = memory {
        memory.keep(&attempt, &outcome.user, &outcome.result, Instant::now());
    }
    outcome
}

/// What the databases say.
async fn ask(front: &Arc<Front>, rules: &Arc<Rules>, attempt: &Attempt) -> Outcome {
    let failed = Outcome { user: attempt.user.clone(), notes: Vec::new(), result: Err(Failure::Temporary) };
    let Ok(_permit) = front.evaluations.acquire().await else { return failed };
    {
        // Most often everything is known already, and another thread would cost more than the answer.
        let at_once = front.sources.at_once();
        let outcome = judge(front, rules, attempt, &at_once);
        if !at_once.missed() {
            return outcome;
        }
    }
    let (front, rules, attempt) = (Arc::clone(front), Arc::clone(rules), attempt.clone());
    // Hashes and PAM block: on a thread of their own. A panic there costs this login only.
    tokio::task::spawn_blocking(move || judge(&front, &rules, &attempt, &front.sources)).await.unwrap_or(failed)
}

fn judge(front: &Front, rules: &Rules, attempt: &Attempt, sources: &impl Sources) -> Outcome {
    let judged = accounts::login::login(&rules.plan, sources, attempt);
    let mut notes = judged.notes;
    let result = match judged.verdict {
        Verdict::Denied => Err(Failure::Credentials),
        Verdict::Unavailable => Err(Failure::Temporary),
        Verdict::Granted(granted) => mailbox((front, sources), rules, attempt, granted, &mut notes),
    };
    Outcome { user: judged.user, notes, result }
}

/// Where the user's mail lies, for the services that read it. SMTP needs the name only.
fn mailbox(
    (front, sources): (&Front, &impl Sources),
    rules: &Rules,
    attempt: &Attempt,
    granted: Granted,
    notes: &mut Vec<Note>,
) -> Result<Login, Failure> {
    let mut login = Login {
        user: granted.user.clone(),
        master: granted.master.clone(),
        service: attempt.service.clone(),
        uid: None,
        gid: None,
        home: None,
        mail: None,
    };
    if attempt.service == "smtp" {
        return Ok(login);
    }
    let context = Values {
        user: &granted.user,
        login_user: None,
        master_user: granted.master.as_deref(),
        service: &attempt.service,
        home: None,
        local: Some(attempt.local),
        local_name: attempt.local_name.as_deref(),
        remote: Some(attempt.peer),
        session: &attempt.session,
        mechanism: &attempt.mechanism,
    };
    let who = format!("userdb({},{},<{}>)", granted.user, attempt.peer, attempt.session);
    match owned(front, after_login(&rules.plan, sources, &granted, &context, notes)) {
        Found::User(user) => {
            login.user = user.user;
            (login.uid, login.gid, login.mail) = (user.uid, user.gid, user.mail);
            login.home = user.home.map(|home| home.as_str().into());
            Ok(login)
        }
        Found::Unknown => {
            notes.push(Note { error: true, text: format!("{who}: user not found from any userdbs") });
            Err(Failure::Temporary)
        }
        Found::Unavailable(text) => {
            notes.push(Note { error: true, text: format!("{who}: {text}") });
            Err(Failure::Temporary)
        }
    }
}

/// The answer to a right login: for services with sessions, a token that only a monitor can redeem.
fn answer(front: &Front, login: Login) -> Response {
    let (user, master) = (login.user.clone(), login.master.clone());
    if login.service == "smtp" {
        return Response::Authenticated { user, token: None, master };
    }
    match front.tokens.lock().unwrap_or_else(PoisonError::into_inner).issue(login, Instant::now()) {
        Ok(token) => Response::Authenticated { user, token: Some(token), master },
        Err(error) => {
            front.say_at(decision::Level::Error, Stage::Login, None, &format!("auth: {error}"));
            Response::Failed { failure: Failure::Temporary, user: Some(user) }
        }
    }
}

#[cfg(test)]
mod tests;
