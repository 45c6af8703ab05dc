//! The one lookup over a socket: whether a user exists, asked of authd, with a bounded cache.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use mail_ipc::hello::Hello;
use mail_ipc::lookup::{Request, Response};
use mail_ipc::sockets;
use mail_net::ipc::Caller;

use crate::facts::{Database, Known};

/// How long "there is such a user" is believed. "No such user" is never cached: the user may be made in the next second.
const BELIEVED: Duration = Duration::from_secs(60);
/// The most names in the cache; it is emptied when it is full.
const NAMES_MAX: usize = 10_000;
/// How long authd may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The conversation on `lookup.sock`, shared by all sessions.
pub struct Users {
    caller: Caller<Request, Response>,
    found: Mutex<HashMap<(Database, String), Instant>>,
}

impl Users {
    /// A conversation with the authd of a state directory; nothing is connected yet.
    #[must_use]
    pub fn new(state: PathBuf, hello: Hello) -> Self {
        Self { caller: Caller::new(state, sockets::LOOKUP, hello), found: Mutex::default() }
    }

    /// Forgets everything, after a reload.
    pub fn forget(&self) {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn is_cached(&self, key: &(Database, String)) -> bool {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.get(key).is_some_and(|since| since.elapsed() < BELIEVED)
    }

    fn remember(&self, key: (Database, String)) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if found.len() >= NAMES_MAX {
            found.clear();
        }
        found.insert(key, Instant::now());
    }
}

impl crate::facts::Users for Users {
    async fn exists(&self, database: Database, name: &str) -> Known {
        let key = (database, name.to_owned());
        if self.is_cached(&key) {
            return Known::Yes;
        }
        let request = match key.0 {
            Database::Passwd => Request::Passwd { name: name.to_owned() },
            Database::Mail => Request::Mail { user: name.to_owned(), service: "lmtp".to_owned() },
        };
        match tokio::time::timeout(PATIENCE, self.caller.call(&request, &[])).await {
            Err(_) => Known::Later("authd does not answer".to_owned()),
            Ok(Err(error)) => Known::Later(format!("authd: {error}")),
            Ok(Ok(reply)) => match reply.message {
                Response::Passwd { .. } | Response::Mail { .. } => {
                    self.remember(key);
                    Known::Yes
                }
                Response::NotFound => Known::No,
                Response::Temporary { text } => Known::Later(text),
                Response::Value { .. } | Response::NotUnderstood => {
                    Known::Later("authd is of another version".to_owned())
                }
            },
        }
    }

    async fn table(&self, query: &mail_tables::Query) -> mail_tables::RemoteAnswer {
        mail_daemon::lookups::ask(&self.caller, query).await
    }
}
