//! Tables that must be waited for: a socketmap, SQL, LDAP. authd asks their servers; whoever decides about mail asks authd.
//!
//! The functions of `mail-policy` and `mail-route` name such a question as a missing fact. The caller puts it to [`Lookups`], remembers the answer for the
//! length of one evaluation, and runs the function again.

use std::path::PathBuf;
use std::time::Duration;

use mail_ipc::hello::Hello;
use mail_ipc::lookup::{Request, Response};
use mail_ipc::sockets::LOOKUP;
use mail_net::ipc::Caller;
use mail_tables::{Query, RemoteAnswer};

/// How long authd may take for one question; it gives every server less.
const PATIENCE: Duration = Duration::from_secs(120);

/// The conversation with authd about tables; one serves a whole process.
#[derive(Debug)]
pub struct Lookups {
    caller: Caller<Request, Response>,
}

impl Lookups {
    /// A conversation with the authd of a state directory; nothing is connected yet.
    #[must_use]
    pub fn new(state: PathBuf, hello: Hello) -> Self {
        Self { caller: Caller::new(state, LOOKUP, hello) }
    }

    /// What a table says about a key.
    pub async fn table(&self, query: &Query) -> RemoteAnswer {
        ask(&self.caller, query).await
    }
}

/// Puts a question to authd over a conversation that is there. A silent or foreign authd is a temporary failure, never "not found".
pub async fn ask(caller: &Caller<Request, Response>, query: &Query) -> RemoteAnswer {
    let request = Request::Table { table: query.table.to_string(), key: query.key.clone() };
    let failed = |why: &str| RemoteAnswer::Temporary(format!("{}: {why}", query.table));
    match tokio::time::timeout(PATIENCE, caller.call(&request, &[])).await {
        Err(_) => failed("authd does not answer"),
        Ok(Err(error)) => failed(&format!("authd: {error}")),
        Ok(Ok(reply)) => match reply.message {
            Response::Value { value } => RemoteAnswer::Found(value),
            Response::NotFound => RemoteAnswer::NotFound,
            Response::Temporary { text } => RemoteAnswer::Temporary(text),
            Response::Passwd { .. } | Response::Mail { .. } | Response::NotUnderstood => {
                failed("authd is of another version")
            }
        },
    }
}
