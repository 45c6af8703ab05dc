//! socketmap_table(5): one netstring with the name of the map and the key, one netstring with a status and the value.

use std::time::Duration;

use crate::RemoteAnswer;
use crate::connection::{Connection, Endpoint, Failure};
use crate::netstring;
use crate::pool::{Pool, Protocol};

/// The longest reply, as in Postfix.
const REPLY_MAX: usize = 100_000;
/// How long a question may take, as in Postfix.
const PATIENCE: Duration = Duration::from_secs(100);

/// A map of a socketmap server.
pub(crate) struct Socketmap {
    pool: Pool<Netstrings>,
    map: String,
}

impl Socketmap {
    /// Reads `inet:host:port:map` or `unix:path:map`.
    pub(crate) fn new(name: &str) -> Result<Self, String> {
        let wrong = || "write inet:HOST:PORT:NAME or unix:PATH:NAME".to_owned();
        let (server, map) = name.rsplit_once(':').ok_or_else(wrong)?;
        let typed = server.starts_with("inet:") || server.starts_with("unix:");
        let server = Endpoint::parse(server, None).filter(|_| typed && !map.is_empty()).ok_or_else(wrong)?;
        Ok(Self { pool: Pool::new(Netstrings, vec![server], PATIENCE), map: map.to_owned() })
    }

    pub(crate) async fn reach(&self, patience: Duration) -> Vec<String> {
        self.pool.reach(patience).await
    }

    pub(crate) async fn ask(&self, key: &str) -> RemoteAnswer {
        match self.pool.ask(&format!("{} {key}", self.map)).await {
            Ok(reply) => answer(&reply),
            Err(why) => RemoteAnswer::Temporary(why),
        }
    }
}

struct Netstrings;

impl Protocol for Netstrings {
    type Line = Connection;
    type Question = String;
    type Answer = Vec<u8>;

    async fn connect(&self, to: &Endpoint) -> Result<Connection, Failure> {
        Ok(to.connect().await?)
    }

    async fn ask(&self, line: &mut Connection, question: &String) -> Result<Vec<u8>, Failure> {
        line.send(&netstring::encode(question.as_bytes())).await?;
        line.read(REPLY_MAX + 20, |octets| netstring::decode(octets, REPLY_MAX)).await
    }
}

/// What a server's reply means: its status and the rest.
#[must_use]
pub fn answer(reply: &[u8]) -> RemoteAnswer {
    let reply = String::from_utf8_lossy(reply);
    let (status, text) = reply.split_once(' ').unwrap_or((&reply, ""));
    match status {
        "OK" if text.is_empty() => RemoteAnswer::Temporary("the server's value is empty".to_owned()),
        "OK" => RemoteAnswer::Found(text.to_owned()),
        "NOTFOUND" => RemoteAnswer::NotFound,
        "TEMP" | "TIMEOUT" => RemoteAnswer::Temporary(format!("the server has a temporary error: {text}")),
        "PERM" => RemoteAnswer::Temporary(format!("the server has a permanent error: {text}")),
        _ => RemoteAnswer::Temporary(format!("the server says what is no reply: {reply:.100}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_no_is_not_found() {
        assert_eq!(answer(b"OK some value"), RemoteAnswer::Found("some value".to_owned()));
        assert_eq!(answer(b"NOTFOUND "), RemoteAnswer::NotFound);
        for other in ["TEMP later", "TIMEOUT x", "PERM never", "", "NOTFOUNDS", "OK "] {
            assert!(matches!(answer(other.as_bytes()), RemoteAnswer::Temporary(_)), "{other}");
        }
    }

    #[test]
    fn the_map_is_what_follows_the_last_colon() {
        assert_eq!(Socketmap::new("inet:localhost:1234:virtual").map(|map| map.map).ok().as_deref(), Some("virtual"));
        assert_eq!(Socketmap::new("unix:/run/x:virtual").map(|map| map.map).ok().as_deref(), Some("virtual"));
        for wrong in ["", "inet:x", "localhost:1:m", "inet:localhost:1:", "unix::m"] {
            assert!(Socketmap::new(wrong).is_err(), "{wrong}");
        }
    }
}
