//! AUTH: the exchange with authd. smtpd passes responses on and never looks into them.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use mail_ipc::auth::{Failure, Request, Response};
use mail_ipc::hello::Hello;
use mail_ipc::sockets;
use mail_net::ipc::Caller;
use mail_smtp::server::Answer;
use mail_types::{EnhancedStatus, Octets, Reply, ReplyCode};

/// How long authd may take; it slows failed logins down itself.
const PATIENCE: Duration = Duration::from_secs(60);

/// The conversation on `auth.sock`, shared by all sessions.
pub struct Sasl {
    caller: Caller<Request, Response>,
}

/// Where a login comes from.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The client's address.
    pub peer: IpAddr,
    /// Ours.
    pub local: IpAddr,
    /// Whether the session has TLS.
    pub tls: bool,
    /// The session's name.
    pub session: String,
}

/// One exchange, while it lasts.
#[derive(Debug)]
pub struct Exchange {
    number: u64,
    /// The mechanism in upper case.
    pub mechanism: String,
}

/// What came of a step.
#[derive(Debug)]
pub enum Step {
    /// The client must answer.
    Challenge(Vec<u8>),
    /// The login is good; the name after normalisation.
    Good(String),
    /// It is not; what the client hears, what the log says, and whom it was about.
    Bad {
        /// For the client.
        reply: Reply,
        /// For the log.
        reason: String,
        /// The user name that was tried.
        user: Option<String>,
    },
}

impl Sasl {
    /// A conversation with the authd of a state directory; nothing is connected yet.
    #[must_use]
    pub fn new(state: PathBuf, hello: Hello) -> Self {
        Self { caller: Caller::new(state, sockets::AUTH, hello) }
    }

    /// The mechanisms that authd has; none while it cannot be asked.
    pub async fn mechanisms(&self) -> Option<Vec<String>> {
        let call = self.caller.call(&Request::Mechanisms, &[]);
        match tokio::time::timeout(Duration::from_secs(5), call).await {
            Ok(Ok(reply)) => match reply.message {
                Response::Mechanisms { names, .. } => Some(names),
                _ => None,
            },
            _ => None,
        }
    }

    /// Begins an exchange.
    pub async fn begin(&self, mechanism: String, initial: Option<Vec<u8>>, origin: &Origin) -> (Exchange, Step) {
        let exchange = Exchange { number: self.caller.number(), mechanism };
        let request = Request::Begin {
            service: "smtp".to_owned(),
            mechanism: exchange.mechanism.clone(),
            initial: initial.map(Octets::new),
            peer: origin.peer,
            local: origin.local,
            // Whether clear text is good enough was decided when AUTH was offered (`smtpd_tls_auth_only`).
            secured: true,
            tls: origin.tls,
            session: origin.session.clone(),
            local_name: None,
        };
        let step = self.step(exchange.number, &request).await;
        (exchange, step)
    }

    /// Passes the client's next response on.
    pub async fn respond(&self, exchange: &Exchange, response: Vec<u8>) -> Step {
        self.step(exchange.number, &Request::Continue { response: Octets::new(response) }).await
    }

    /// The client gave up.
    pub async fn cancel(&self, exchange: &Exchange) {
        // An authd that does not hear it forgets the exchange by itself.
        let _ = self.caller.notify(exchange.number, &Request::Cancel).await;
    }

    async fn step(&self, number: u64, request: &Request) -> Step {
        match tokio::time::timeout(PATIENCE, self.caller.call_numbered(number, request, &[])).await {
            Err(_) => temporary("Connection lost to authentication server: it does not answer"),
            Ok(Err(error)) => temporary(&format!("Connection lost to authentication server: {error}")),
            Ok(Ok(reply)) => match reply.message {
                Response::Challenge { challenge } => Step::Challenge(challenge.as_bytes().to_vec()),
                Response::Authenticated { user, .. } => Step::Good(user),
                Response::Failed { failure, user } => failed(failure, user),
                _ => temporary("Connection lost to authentication server: it is of another version"),
            },
        }
    }
}

fn temporary(why: &str) -> Step {
    let text = "Temporary authentication failure: authentication server unavailable";
    let reply = Reply::new(ReplyCode::of(454), EnhancedStatus::of(4, 7, 0), text);
    Step::Bad { reply, reason: why.to_owned(), user: None }
}

/// The peer never learns whether the user exists: every wrong credential has the same words.
fn failed(failure: Failure, user: Option<String>) -> Step {
    let (code, status, text, reason) = match failure {
        Failure::Credentials => {
            let text = "Error: authentication failed: authentication failure";
            (535, EnhancedStatus::of(5, 7, 8), text, "authentication failure")
        }
        Failure::Protocol => (501, EnhancedStatus::of(5, 5, 2), "Error: malformed authentication data", "invalid data"),
        Failure::Mechanism => {
            let text = "Error: authentication mechanism not supported";
            (504, EnhancedStatus::of(5, 5, 4), text, "Invalid authentication mechanism")
        }
        Failure::Temporary => {
            let text = "Temporary authentication failure: authentication server unavailable";
            // The words that keep fail2ban from counting against the client what is no fault of theirs.
            let reason = "Connection lost to authentication server or to its database";
            (454, EnhancedStatus::of(4, 7, 0), text, reason)
        }
    };
    Step::Bad { reply: Reply::new(ReplyCode::of(code), status, text), reason: reason.to_owned(), user }
}

impl Step {
    /// The machine's answer.
    #[must_use]
    pub fn into_answer(self) -> Answer {
        match self {
            Self::Challenge(octets) => Answer::Challenge(octets),
            Self::Good(_) => Answer::Authenticated,
            Self::Bad { reply, .. } => Answer::Refuse(reply),
        }
    }
}
