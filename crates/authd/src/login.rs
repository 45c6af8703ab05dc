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
mod tests {
    use mail_ipc::Frame;
    use mail_ipc::hello::Hello;
    use mail_net::ipc::Conversation;

    use super::*;
    use crate::front::for_tests;

    const CONF: &str = "auth_failure_delay = 0\nauth_mechanisms = plain login cram-md5\nlogin_trusted_networks = 192.0.2.99/32\nmail_location = maildir:~/Maildir\n\
        passdb {\n  driver = passwd-file\n  args = DIR/users\n}\nuserdb {\n  driver = passwd-file\n  args = DIR/users\n}\n";
    const USERS: &str = "john:{PLAIN}secret:5000:5001::/srv/john::\nroot:{PLAIN}secret:0:0::/root::\n";

    /// A conversation with a front that serves it.
    async fn connect(role: Role) -> (tempfile::TempDir, Conversation) {
        let (directory, front) = for_tests(CONF);
        std::fs::write(directory.path().join("users"), USERS).unwrap();
        let (near, far) = UnixStream::pair().unwrap();
        tokio::spawn(serve(front, Arc::new(Guests::of(&[], false)), far));
        (directory, ipc::accept(near, &Hello::new(role, "test")).await.unwrap())
    }

    async fn ask(conversation: &mut Conversation, id: u64, request: Request) -> Response {
        conversation.writer.send(&Frame::new(id, request), &[], &[]).await.unwrap();
        let frame = conversation.reader.frame().await.unwrap().unwrap().read::<Response>().unwrap();
        assert_eq!(frame.id, id);
        frame.body
    }

    fn begin(service: &str, mechanism: &str, initial: Option<&str>, secured: bool) -> Request {
        Request::Begin {
            service: service.into(),
            mechanism: mechanism.into(),
            initial: initial.map(Octets::from),
            peer: "192.0.2.5".parse().unwrap(),
            local: "192.0.2.1".parse().unwrap(),
            secured,
            tls: secured,
            session: "SESS".into(),
            local_name: None,
        }
    }

    fn failed(response: &Response) -> Option<Failure> {
        match response {
            Response::Failed { failure, .. } => Some(*failure),
            _ => None,
        }
    }

    #[tokio::test]
    async fn a_login_gives_a_token_that_a_monitor_redeems_once() {
        let (_directory, mut talk) = connect(Role::Monitor).await;
        let response = ask(&mut talk, 1, begin("imap", "PLAIN", Some("\0John\0secret"), true)).await;
        let Response::Authenticated { user, token: Some(token), master: None } = response else {
            panic!("{response:?}")
        };
        assert_eq!(user, "john");
        let Response::Login { login } = ask(&mut talk, 2, Request::Redeem { token: token.clone() }).await else {
            panic!("the token is good")
        };
        assert_eq!((login.uid, login.mail.as_deref()), (Some(5000), Some("maildir:/srv/john/Maildir")));
        assert_eq!(ask(&mut talk, 3, Request::Redeem { token }).await, Response::Unknown);
    }

    #[tokio::test]
    async fn a_front_cannot_redeem() {
        let (_directory, mut talk) = connect(Role::ImapFront).await;
        let response = ask(&mut talk, 1, begin("imap", "PLAIN", Some("\0john\0secret"), true)).await;
        let Response::Authenticated { token: Some(token), .. } = response else { panic!("{response:?}") };
        assert_eq!(ask(&mut talk, 2, Request::Redeem { token }).await, Response::Unknown);
    }

    #[tokio::test]
    async fn smtp_needs_no_token_and_no_mailbox() {
        let (_directory, mut talk) = connect(Role::Smtpd).await;
        let response = ask(&mut talk, 1, begin("smtp", "PLAIN", Some("\0root\0secret"), false)).await;
        assert_eq!(response, Response::Authenticated { user: "root".into(), token: None, master: None });
        // The same user may not read mail: uid 0 is below first_valid_uid.
        let response = ask(&mut talk, 2, begin("imap", "PLAIN", Some("\0root\0secret"), true)).await;
        assert_eq!(failed(&response), Some(Failure::Temporary));
    }

    const MASTERS: &str = "auth_failure_delay = 0\nauth_mechanisms = plain login\nauth_master_user_separator = *\nmail_location = maildir:~/Maildir\n\
        passdb {\n  driver = passwd-file\n  args = DIR/masters\n  master = yes\n  pass = yes\n}\n\
        passdb {\n  driver = passwd-file\n  args = DIR/users\n}\nuserdb {\n  driver = passwd-file\n  args = DIR/users\n}\n";

    /// A front with one master user.
    fn with_a_master(conf: &str) -> (tempfile::TempDir, Arc<Front>) {
        let (directory, front) = for_tests(conf);
        std::fs::write(directory.path().join("users"), USERS).unwrap();
        std::fs::write(directory.path().join("masters"), "admin:{PLAIN}master\n").unwrap();
        (directory, front)
    }

    #[tokio::test]
    async fn a_master_user_gets_the_other_user_s_mailbox() {
        let (_directory, front) = with_a_master(MASTERS);
        let (near, far) = UnixStream::pair().unwrap();
        tokio::spawn(serve(front, Arc::new(Guests::of(&[], false)), far));
        let mut talk = ipc::accept(near, &Hello::new(Role::Monitor, "test")).await.unwrap();
        for (id, message) in [(1, "\0john*admin\0master"), (3, "John\0admin\0master")] {
            let response = ask(&mut talk, id, begin("imap", "PLAIN", Some(message), true)).await;
            let Response::Authenticated { user, token: Some(token), master } = response else { panic!("{response:?}") };
            assert_eq!((user.as_str(), master.as_deref()), ("john", Some("admin")));
            let Response::Login { login } = ask(&mut talk, id + 1, Request::Redeem { token }).await else {
                panic!("the token is good")
            };
            assert_eq!((login.user.as_str(), login.uid, login.master.as_deref()), ("john", Some(5000), Some("admin")));
            assert_eq!(login.mail.as_deref(), Some("maildir:/srv/john/Maildir"));
        }
        // Whom no mailbox may belong to, a master user does not get at either.
        let response = ask(&mut talk, 5, begin("imap", "PLAIN", Some("\0root*admin\0master"), true)).await;
        assert_eq!(failed(&response), Some(Failure::Temporary));
        let response = ask(&mut talk, 6, begin("smtp", "PLAIN", Some("\0john*admin\0master"), true)).await;
        let expected = Response::Authenticated { user: "john".into(), token: None, master: Some("admin".into()) };
        assert_eq!(response, expected);
    }

    #[tokio::test]
    async fn a_master_user_s_failures_name_the_master_and_make_the_next_login_wait() {
        let (_directory, front) = with_a_master(MASTERS);
        let client = |place| Client {
            service: "imap".into(),
            mechanism: "PLAIN".into(),
            peer: IpAddr::from([192, 0, 2, place]),
            local: IpAddr::from([192, 0, 2, 1]),
            local_name: None,
            session: String::new(),
        };
        let cases =
            [("john*admin", "wrong", "admin"), ("nobody*admin", "master", "nobody"), ("*admin", "master", "admin")];
        for (place, (user, password, shown)) in (50..).zip(cases) {
            let credentials = Credentials { authzid: String::new(), user: user.into(), password: password.into() };
            let response = login(&front, client(place), credentials).await;
            assert_eq!(response, Response::Failed { failure: Failure::Credentials, user: Some(shown.into()) });
            let wait = front.throttle.lock().unwrap().wait(IpAddr::from([192, 0, 2, place]), Instant::now());
            assert_eq!(wait.as_secs(), 2, "{user}");
        }
    }

    #[tokio::test]
    async fn what_is_remembered_of_a_master_user_serves_the_same_login_user_only() {
        // The userdb of the system makes such a plan worth remembering.
        let (directory, front) =
            with_a_master(&format!("auth_cache_size = 1 M\n{MASTERS}userdb {{\n  driver = passwd\n}}\n"));
        let client = Client {
            service: "imap".into(),
            mechanism: "PLAIN".into(),
            peer: IpAddr::from([192, 0, 2, 5]),
            local: IpAddr::from([192, 0, 2, 1]),
            local_name: None,
            session: String::new(),
        };
        let users =
            "john::5000:5001::/srv/john::\nmary::5000:5001::/srv/mary::\nadmin:{PLAIN}master:5000:5001::/srv/admin::\n";
        std::fs::write(directory.path().join("users"), users).unwrap();
        let place = async |authzid: &str, user: &str| {
            let rules = front.rules(&Connection::of("imap"));
            let credentials = Credentials { authzid: authzid.into(), user: user.into(), password: "master".into() };
            let outcome = evaluate(&front, &rules, &client, &credentials).await;
            outcome
                .result
                .map(|login| (login.mail.unwrap_or_default(), login.master))
                .map_err(|failure| format!("{failure:?}"))
        };
        let at =
            |user: &str, master: Option<&str>| Ok((format!("maildir:/srv/{user}/Maildir"), master.map(str::to_owned)));
        for _ in 0..2 {
            assert_eq!(place("", "john*admin").await, at("john", Some("admin")));
            assert_eq!(place("", "mary*admin").await, at("mary", Some("admin")));
            assert_eq!(place("john", "admin").await, at("john", Some("admin")));
            assert_eq!(place("mary", "admin").await, at("mary", Some("admin")));
            assert_eq!(place("", "admin").await, at("admin", None));
        }
    }

    #[tokio::test]
    async fn login_takes_its_two_steps() {
        let (_directory, mut talk) = connect(Role::Smtpd).await;
        let first = ask(&mut talk, 7, begin("smtp", "LOGIN", None, true)).await;
        assert_eq!(first, Response::Challenge { challenge: "Username:".into() });
        let second = ask(&mut talk, 7, Request::Continue { response: "john".into() }).await;
        assert_eq!(second, Response::Challenge { challenge: "Password:".into() });
        let third = ask(&mut talk, 7, Request::Continue { response: "secret".into() }).await;
        assert_eq!(third, Response::Authenticated { user: "john".into(), token: None, master: None });
        let late = ask(&mut talk, 7, Request::Continue { response: "secret".into() }).await;
        assert_eq!(failed(&late), Some(Failure::Protocol));
    }

    #[tokio::test]
    async fn wrong_password_and_unknown_user_fail_alike() {
        let (_directory, mut talk) = connect(Role::Smtpd).await;
        for (id, place, message) in [(1, 6, "\0john\0wrong"), (2, 7, "\0nobody\0wrong")] {
            let mut request = begin("smtp", "PLAIN", Some(message), true);
            if let Request::Begin { peer, .. } = &mut request {
                *peer = IpAddr::from([192, 0, 2, place]);
            }
            let response = ask(&mut talk, id, request).await;
            assert_eq!(failed(&response), Some(Failure::Credentials));
        }
    }

    #[tokio::test]
    async fn every_failure_makes_the_next_login_wait() {
        let (directory, front) = for_tests(CONF);
        let client = |place| Client {
            service: "smtp".into(),
            mechanism: "PLAIN".into(),
            peer: IpAddr::from([192, 0, 2, place]),
            local: IpAddr::from([192, 0, 2, 1]),
            local_name: None,
            session: String::new(),
        };
        let credentials =
            |password: &str| Credentials { authzid: String::new(), user: "john".into(), password: password.into() };
        let wait = |place: u8| front.throttle.lock().unwrap().wait(IpAddr::from([192, 0, 2, place]), Instant::now());
        // No file: nobody knows.
        let response = login(&front, client(8), credentials("secret")).await;
        assert_eq!((failed(&response), wait(8).as_secs()), (Some(Failure::Temporary), 2));
        std::fs::write(directory.path().join("users"), USERS).unwrap();
        let response = login(&front, client(9), credentials("wrong")).await;
        assert_eq!((failed(&response), wait(9).as_secs()), (Some(Failure::Credentials), 2));
        login(&front, client(10), credentials("secret")).await;
        assert_eq!(wait(10).as_secs(), 0);
        // A webmail server of login_trusted_networks.
        login(&front, client(99), credentials("wrong")).await;
        assert_eq!(wait(99).as_secs(), 0);
    }

    #[tokio::test]
    async fn what_is_not_offered_is_refused() {
        let (_directory, mut talk) = connect(Role::ImapFront).await;
        let Response::Mechanisms { names, plaintext } = ask(&mut talk, 1, Request::Mechanisms).await else { panic!() };
        assert_eq!((names.as_slice(), plaintext.len()), (["PLAIN".to_owned(), "LOGIN".to_owned()].as_slice(), 2));
        let response = ask(&mut talk, 2, begin("imap", "CRAM-MD5", None, true)).await;
        assert_eq!(failed(&response), Some(Failure::Mechanism));
        let response = ask(&mut talk, 3, begin("imap", "PLAIN", Some("\0john\0secret"), false)).await;
        assert_eq!(failed(&response), Some(Failure::Mechanism));
        let response = ask(&mut talk, 4, begin("imap", "PLAIN", Some("garbage"), true)).await;
        assert_eq!(failed(&response), Some(Failure::Protocol));
    }

    #[tokio::test]
    async fn a_right_login_is_remembered_until_a_reload_would_forget_it() {
        let conf = "auth_failure_delay = 0\nauth_cache_size = 1 M\nauth_cache_negative_ttl = 0\nmail_location = maildir:~/Maildir\n\
            passdb {\n  driver = static\n  args = password=secret\n}\nuserdb {\n  driver = passwd-file\n  args = DIR/users\n}\nuserdb {\n  driver = passwd\n}\n";
        let (directory, front) = for_tests(conf);
        let client = |service: &str, place| Client {
            service: service.into(),
            mechanism: "PLAIN".into(),
            peer: IpAddr::from([192, 0, 2, place]),
            local: IpAddr::from([192, 0, 2, 1]),
            local_name: None,
            session: String::new(),
        };
        let users = directory.path().join("users");
        std::fs::write(&users, "john::5000:5001::/srv/john::\n").unwrap();
        let credentials =
            |password: &str| Credentials { authzid: String::new(), user: "john".into(), password: password.into() };
        let place = async |service: &str, place: u8, password: &str| {
            let rules = front.rules(&Connection::of(service));
            let outcome = evaluate(&front, &rules, &client(service, place), &credentials(password)).await;
            outcome.result.map(|login| login.mail.unwrap_or_default()).map_err(|failure| format!("{failure:?}"))
        };
        assert_eq!(place("imap", 5, "secret").await.as_deref(), Ok("maildir:/srv/john/Maildir"));
        std::fs::remove_file(&users).unwrap();
        front.sources.forget_files();
        assert_eq!(place("imap", 5, "secret").await.as_deref(), Ok("maildir:/srv/john/Maildir"));
        // Another password, another address and another service are other logins.
        for (service, from, password) in [("imap", 5, "wrong"), ("imap", 6, "secret"), ("pop3", 5, "secret")] {
            assert!(place(service, from, password).await.is_err(), "{service} {from} {password}");
        }
        // What nobody knew is asked again.
        std::fs::write(&users, "john::5000:5001::/srv/john::\n").unwrap();
        front.sources.forget_files();
        assert!(place("pop3", 5, "secret").await.is_ok());
    }

    #[tokio::test]
    async fn protocols_addresses_and_names_have_rules_of_their_own() {
        let own = "\nprotocol pop3 {\n passdb {\n  driver = passwd-file\n  args = DIR/popusers\n }\n}\n\
            remote 192.0.2.0/24 {\n disable_plaintext_auth = no\n mail_location = maildir:~/near\n}\n\
            local_name far.example {\n mail_location = maildir:~/far\n}\n";
        let (directory, front) = for_tests(&format!("{CONF}{own}"));
        std::fs::write(directory.path().join("users"), USERS).unwrap();
        std::fs::write(directory.path().join("popusers"), "mary:{PLAIN}pop\n").unwrap();
        let (near, far) = UnixStream::pair().unwrap();
        tokio::spawn(serve(front, Arc::new(Guests::of(&[], false)), far));
        let mut talk = ipc::accept(near, &Hello::new(Role::Monitor, "test")).await.unwrap();
        let mut id = 0;
        let mut place = async |service: &str, from: [u8; 4], name: Option<&str>, initial: &str, safe: bool| {
            let mut request = begin(service, "PLAIN", Some(initial), safe);
            if let Request::Begin { peer, local_name, .. } = &mut request {
                (*peer, *local_name) = (from.into(), name.map(str::to_owned));
            }
            id += 2;
            match ask(&mut talk, id, request).await {
                Response::Authenticated { token: Some(token), .. } => {
                    let Response::Login { login } = ask(&mut talk, id + 1, Request::Redeem { token }).await else {
                        panic!("the token is good")
                    };
                    login.mail
                }
                Response::Failed { failure, .. } => Some(format!("{failure:?}")),
                other => panic!("{other:?}"),
            }
        };
        let john = "\0john\0secret";
        let far_away = [198, 51, 100, 1];
        assert_eq!(place("imap", [192, 0, 2, 5], None, john, false).await.as_deref(), Some("maildir:/srv/john/near"));
        assert_eq!(place("imap", far_away, None, john, false).await.as_deref(), Some("Mechanism"));
        assert_eq!(place("imap", far_away, None, john, true).await.as_deref(), Some("maildir:/srv/john/Maildir"));
        let named = place("imap", far_away, Some("FAR.example"), john, true).await;
        assert_eq!(named.as_deref(), Some("maildir:/srv/john/far"));
        // The passdb of one protocol is none of another's.
        assert_eq!(place("imap", far_away, None, "\0mary\0pop", true).await.as_deref(), Some("Credentials"));
        assert_eq!(place("pop3", [198, 51, 100, 2], None, "\0mary\0pop", true).await.as_deref(), Some("Temporary"));
    }

    #[tokio::test]
    async fn a_given_up_exchange_is_forgotten() {
        let (_directory, mut talk) = connect(Role::Smtpd).await;
        ask(&mut talk, 1, begin("smtp", "LOGIN", None, true)).await;
        talk.writer.send(&Frame::new(1, Request::Cancel), &[], &[]).await.unwrap();
        let response = ask(&mut talk, 1, Request::Continue { response: "john".into() }).await;
        assert_eq!(failed(&response), Some(Failure::Protocol));
    }

    #[tokio::test]
    async fn a_stranger_is_not_served() {
        let (_directory, front) = for_tests(CONF);
        let (near, far) = UnixStream::pair().unwrap();
        let guests = Guests::nobody();
        let served = tokio::spawn(serve(front, Arc::new(guests), far));
        let mut talk = ipc::accept(near, &Hello::new(Role::Monitor, "test")).await.unwrap();
        served.await.unwrap();
        assert!(!matches!(talk.reader.frame().await, Ok(Some(_))));
    }
}
