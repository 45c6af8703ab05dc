//! Users, asked of authd. An answer that found somebody is believed for a moment, so that a stream of mail for one user is one question.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use mail_ipc::hello::Hello;
use mail_ipc::lookup::{MailUser, PasswdUser, Request, Response};
use mail_ipc::sockets::LOOKUP;
use mail_net::ipc::Caller;

/// How long authd may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a user that was found is believed to be there, and where.
const BELIEVED: Duration = Duration::from_secs(5);
/// Users remembered; beyond that all are forgotten.
const REMEMBERED: usize = 10_000;

/// A user, or why there is none now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found<U> {
    /// This one.
    User(U),
    /// There is none; authoritative.
    Nobody,
    /// Nobody knows just now, and why.
    Later(String),
}

type Remembered<U> = Mutex<HashMap<String, (U, Instant)>>;

/// Asks authd, and remembers.
pub struct Users {
    caller: Caller<Request, Response>,
    passwd: Remembered<PasswdUser>,
    mail: Remembered<MailUser>,
}

impl Users {
    /// Nothing is connected yet.
    #[must_use]
    pub fn new(state: PathBuf, hello: Hello) -> Self {
        Self { caller: Caller::new(state, LOOKUP, hello), passwd: Mutex::default(), mail: Mutex::default() }
    }

    /// A user of the machine.
    pub async fn passwd(&self, name: &str) -> Found<PasswdUser> {
        if let Some(user) = recall(&self.passwd, name) {
            return Found::User(user);
        }
        match self.call(Request::Passwd { name: name.to_owned() }).await {
            Ok(Response::Passwd { user }) => Found::User(remember(&self.passwd, name, user)),
            other => missing(other),
        }
    }

    /// A user of Dovecot's userdb, as its LMTP server would look it up.
    pub async fn mail(&self, name: &str) -> Found<MailUser> {
        if let Some(user) = recall(&self.mail, name) {
            return Found::User(user);
        }
        match self.call(Request::Mail { user: name.to_owned(), service: "lmtp".to_owned() }).await {
            Ok(Response::Mail { user }) => Found::User(remember(&self.mail, name, user)),
            other => missing(other),
        }
    }

    /// What a table says that must be waited for. Only the evaluation remembers it.
    pub async fn table(&self, query: &mail_tables::Query) -> mail_tables::RemoteAnswer {
        mail_daemon::lookups::ask(&self.caller, query).await
    }

    /// Nothing is believed any more, as after a reload.
    pub fn forget(&self) {
        self.passwd.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.mail.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    async fn call(&self, request: Request) -> Result<Response, String> {
        match tokio::time::timeout(PATIENCE, self.caller.call(&request, &[])).await {
            Ok(Ok(reply)) => Ok(reply.message),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("authd does not answer".to_owned()),
        }
    }
}

fn missing<U>(answer: Result<Response, String>) -> Found<U> {
    match answer {
        Ok(Response::NotFound) => Found::Nobody,
        Ok(Response::Temporary { text }) | Err(text) => Found::Later(text),
        Ok(_) => Found::Later("authd speaks another version".to_owned()),
    }
}

fn recall<U: Clone>(remembered: &Remembered<U>, name: &str) -> Option<U> {
    let users = remembered.lock().unwrap_or_else(PoisonError::into_inner);
    users.get(name).filter(|(_, since)| since.elapsed() < BELIEVED).map(|(user, _)| user.clone())
}

fn remember<U: Clone>(remembered: &Remembered<U>, name: &str, user: U) -> U {
    let mut users = remembered.lock().unwrap_or_else(PoisonError::into_inner);
    if users.len() >= REMEMBERED {
        users.clear();
    }
    users.insert(name.to_owned(), (user.clone(), Instant::now()));
    user
}
