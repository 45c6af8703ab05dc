//! `auth.sock`: logins. The fronts of smtpd, pop3d and imapd pass SASL through; monitors learn who logged in.

use std::net::IpAddr;

use mail_types::Octets;
use serde::{Deserialize, Serialize};

/// From a front or a monitor. One exchange per request number: `Continue` and `Cancel` repeat the number of their `Begin`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Which mechanisms are there? Answered with [`Response::Mechanisms`].
    Mechanisms,
    /// A login begins. Answered with `Challenge`, `Authenticated` or `Failed`.
    Begin {
        /// `smtp`, `imap` or `pop3`.
        service: String,
        /// The SASL mechanism in upper case.
        mechanism: String,
        /// The initial response, decoded; an empty one is not the same as none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        initial: Option<Octets>,
        /// The peer's address.
        peer: IpAddr,
        /// Our address.
        local: IpAddr,
        /// Whether the connection counts as secured: TLS, or from this machine itself.
        secured: bool,
        /// Whether TLS is in use.
        tls: bool,
        /// The session's name for the log.
        session: String,
        /// The name that the client asked for in its TLS handshake; none if it asked for none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        local_name: Option<String>,
    },
    /// The client's next response, decoded. Answered as `Begin`.
    Continue {
        /// The response.
        response: Octets,
    },
    /// The client gave up (`*`) or went away; not answered.
    Cancel,
    /// A monitor asks who a token is. Answered with `Login` or `Unknown`. Each token can be redeemed once, within a minute.
    Redeem {
        /// The token.
        token: String,
    },
}

/// Why a login failed; the front turns it into the protocol's words, which are the same for every `Credentials`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failure {
    /// Wrong user or password, or a user that may not log in: the peer never learns which.
    Credentials,
    /// The exchange is no valid SASL.
    Protocol,
    /// No such mechanism, or not without TLS.
    Mechanism,
    /// Not now: a database or helper does not answer.
    Temporary,
}

/// What a session process needs to know about its owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// The login name after normalisation.
    pub user: String,
    /// The master user who logged in as that user; none for the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master: Option<String>,
    /// `smtp`, `imap` or `pop3`.
    pub service: String,
    /// The uid that mail is read as; none means the caller's own (no rights here).
    #[serde(default)]
    pub uid: Option<u32>,
    /// The gid.
    #[serde(default)]
    pub gid: Option<u32>,
    /// The home directory.
    #[serde(default)]
    pub home: Option<Octets>,
    /// The mail location with all variables expanded, such as `maildir:/home/john/Maildir`; none: the configuration's.
    #[serde(default)]
    pub mail: Option<String>,
}

/// From authd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// The mechanisms offered.
    Mechanisms {
        /// Their names.
        names: Vec<String>,
        /// Which of them send the password in clear, and so need a secured connection unless the files say otherwise.
        plaintext: Vec<String>,
    },
    /// The server's challenge; the client's answer comes in `Continue`.
    Challenge {
        /// The challenge, not yet in base64.
        challenge: Octets,
    },
    /// The login is good.
    Authenticated {
        /// The login name after normalisation.
        user: String,
        /// What the monitor redeems; none for `smtp`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<String>,
        /// The master user whose password it was; none for the user's own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        master: Option<String>,
    },
    /// The login failed. It has been delayed already: the front answers at once.
    Failed {
        /// Why.
        failure: Failure,
        /// The user name that was tried, for the log; none if there was none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user: Option<String>,
    },
    /// Who logged in.
    Login {
        /// The record.
        login: Login,
    },
    /// No such token.
    Unknown,
    /// The request is of a later version; the front answers with a temporary failure.
    NotUnderstood,
}
