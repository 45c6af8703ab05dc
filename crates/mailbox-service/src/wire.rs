//! The messages between monitor, front and session processes, over socket pairs that only they hold.
//!
//! All three are the same build of the same binary, so these messages have no versions; their frames are those of `mail-ipc`.

use std::net::IpAddr;

use mail_config::dovecot::Connection;
use mail_types::Octets;
use serde::{Deserialize, Serialize};

use crate::SessionId;

/// A connection whose user has logged in, as the front gives it away. The stream itself travels beside it as a descriptor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandOver {
    /// The name of the session in every log line.
    pub session: String,
    /// The peer's address.
    pub peer: IpAddr,
    /// Our address.
    pub local: IpAddr,
    /// The name that the client asked for in its handshake.
    #[serde(default)]
    pub local_name: Option<String>,
    /// Whether the front keeps TLS and relays.
    pub tls: bool,
    /// Whether the connection counts as secured: TLS, or from this machine itself.
    pub secured: bool,
    /// The tag of the login command, where the protocol has tags.
    #[serde(default)]
    pub tag: Option<String>,
    /// Extensions that the client enabled before the login.
    #[serde(default)]
    pub enabled: Vec<String>,
    /// Input that was read and not used.
    #[serde(default)]
    pub unread: Octets,
}

impl HandOver {
    /// The connection in the words of dovecot.conf's filters.
    #[must_use]
    pub fn connection(&self, protocol: &str) -> Connection {
        Connection::tcp(protocol, self.local, self.peer).named(self.local_name.as_deref())
    }
}

/// Who owns the mailbox, and where it lies: what authd said about a token, and what the configuration adds.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Owner {
    /// The login name.
    pub user: String,
    /// The uid that the session process has; none: the caller's.
    pub uid: Option<u32>,
    /// The gid.
    pub gid: Option<u32>,
    /// The names or numbers of further groups (`mail_access_groups`).
    pub groups: Vec<String>,
    /// The home directory.
    pub home: Option<Octets>,
    /// The mail location, `%` variables expanded; empty where none is named and `~/Maildir` counts if it is there.
    pub mail: String,
}

/// From the front to the monitor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FrontRequest {
    /// Start a session; with the stream as the one descriptor. Answered with `Started` or `Refused` of the same number.
    Start {
        /// The request's number.
        request: u64,
        /// What authd gave the front, and only the monitor can redeem.
        token: String,
        /// The connection.
        connection: HandOver,
    },
    /// A message was delivered; for the owner's session process, if there is one.
    Announce {
        /// Whose.
        user: String,
        /// Which mailbox.
        mailbox: String,
    },
}

/// Why no session was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// Too many connections of this user from this address (`mail_max_userip_connections`).
    TooMany {
        /// The limit.
        limit: u32,
    },
    /// authd does not answer, or no process can be made.
    Temporary,
    /// The user may not read mail here: the uid is outside `first_valid_uid` and `last_valid_uid`, or no location is known.
    Forbidden,
    /// The service ends.
    ShuttingDown,
}

/// From the monitor to the front.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FrontReply {
    /// The connection belongs to a session process now.
    Started {
        /// The request's number.
        request: u64,
        /// The session process.
        pid: u32,
    },
    /// Nothing was started. The front still holds its own copy of the stream, and tells the client.
    Refused {
        /// The request's number.
        request: u64,
        /// Why.
        refusal: Refusal,
    },
    /// A line of a session process for the log, which the front keeps.
    Line {
        /// The owner.
        user: String,
        /// The session process.
        pid: u32,
        /// The line.
        line: SessionLine,
    },
    /// The service ends, and all sessions are over: no further line follows.
    Drained,
    /// A line of the monitor itself for the log.
    Warning {
        /// The text.
        text: String,
    },
}

/// A line for the log about a session or its process. Whose it is the monitor knows better than the process says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionLine {
    /// The session's name; empty for the process itself.
    pub session: String,
    /// How serious it is.
    pub level: LineLevel,
    /// The text.
    pub text: String,
}

/// The longest text of a line.
const TEXT_MAX: usize = 2000;

impl SessionLine {
    /// A line; a text that is too long is cut.
    #[must_use]
    pub fn new(session: &str, level: LineLevel, mut text: String) -> Self {
        if text.len() > TEXT_MAX {
            text.truncate(text.floor_char_boundary(TEXT_MAX));
        }
        Self { session: session.to_owned(), level, text }
    }
}

/// How serious a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LineLevel {
    /// The ordinary course of things.
    Info,
    /// A warning.
    Warning,
    /// An error.
    Error,
}

/// From the monitor to a session process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionOrder {
    /// Serve this connection; with the stream as the one descriptor.
    Serve {
        /// The session's number.
        session: SessionId,
        /// The connection.
        connection: HandOver,
    },
    /// A message was delivered.
    Announce {
        /// Which mailbox.
        mailbox: String,
    },
    /// Nothing is under way: end. The answer to `Idle`.
    Exit,
    /// Tell the clients, end all sessions, then end.
    Shutdown,
}

/// From a session process to the monitor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionReport {
    /// A session ended.
    Closed {
        /// Its number.
        session: SessionId,
        /// The line for the log about its end.
        line: SessionLine,
    },
    /// A line for the log.
    Line {
        /// The line.
        line: SessionLine,
    },
    /// No session is left. The monitor answers `Exit` if it has passed no further connection, and otherwise nothing: that connection is on its way.
    Idle {
        /// How many connections have arrived in all.
        served: u64,
    },
}
