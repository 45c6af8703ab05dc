//! `lookup.sock`: users, asked by smtpd (does the recipient exist?) and local-delivery (where does the mail go?), and tables that must be waited for,
//! asked by every daemon that decides about mail.

use mail_types::Octets;
use serde::{Deserialize, Serialize};

/// From smtpd, queue-manager, local-delivery or remote-delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// `unix:passwd.byname`: a user of the machine.
    Passwd {
        /// The user's name.
        name: String,
    },
    /// A user of Dovecot's userdb, as LMTP would look the recipient up.
    Mail {
        /// The user's name, mostly the recipient's address without extension.
        user: String,
        /// The service the variables and filters see, mostly `lmtp`.
        service: String,
    },
    /// A key of a table that a server answers, or that needs a secret.
    Table {
        /// The table as the configuration names it, without `proxy:`: `pgsql:/etc/postfix/virtual.cf`.
        table: String,
        /// The key.
        key: String,
    },
}

/// A user of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PasswdUser {
    /// The login name.
    pub name: String,
    /// The uid.
    pub uid: u32,
    /// The gid.
    pub gid: u32,
    /// The home directory.
    pub home: Octets,
    /// The login shell.
    #[serde(default)]
    pub shell: Octets,
}

/// A user with a mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailUser {
    /// The name after normalisation.
    pub user: String,
    /// The uid that owns the mail; none means the caller's own (no rights here).
    #[serde(default)]
    pub uid: Option<u32>,
    /// The gid.
    #[serde(default)]
    pub gid: Option<u32>,
    /// The home directory.
    #[serde(default)]
    pub home: Option<Octets>,
    /// The mail location with all variables expanded; none if none is configured.
    #[serde(default)]
    pub mail: Option<String>,
}

/// From authd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// A user of the machine.
    Passwd {
        /// The user.
        user: PasswdUser,
    },
    /// A user with a mailbox.
    Mail {
        /// The user.
        user: MailUser,
    },
    /// What a table says.
    Value {
        /// The value.
        value: String,
    },
    /// There is no such user, or no such key; authoritative.
    NotFound,
    /// Nobody knows just now; the mail waits.
    Temporary {
        /// Why.
        text: String,
    },
    /// The request is of a later version; as `Temporary`.
    NotUnderstood,
}
