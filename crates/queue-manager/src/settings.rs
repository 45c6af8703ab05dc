//! What queue-manager takes from main.cf.

use std::collections::HashMap;

use decision::Ident;

use crate::backoff::Times;
use crate::schedule::Limits;

/// The configuration of the queue.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Back-off, lifetimes, warnings.
    pub times: Times,
    /// Concurrency.
    pub limits: Limits,
    /// `bounce_size_limit`: longer messages come back as their header only; octets.
    pub bounce_size: u64,
    /// `myhostname`.
    pub host: String,
    /// `mail_name`.
    pub mail_name: String,
    /// `postmaster`, completed with `myorigin`.
    pub postmaster: String,
    /// Whose log lines are whose.
    pub idents: Idents,
    /// `max_idle` and friends do not matter here; how long leases of a worker whose connection broke are kept for it.
    pub lease_grace: std::time::Duration,
}

/// The idents of the programs whose lines queue-manager writes.
#[derive(Debug, Clone)]
pub struct Idents {
    /// `postfix/qmgr`
    pub qmgr: Ident,
    /// `postfix/bounce`
    pub bounce: Ident,
    /// `postfix/error`
    pub error: Ident,
    /// `postfix/discard`
    pub discard: Ident,
}

impl Idents {
    /// The idents under a `syslog_name`.
    #[must_use]
    pub fn new(syslog_name: &str) -> Self {
        let of = |program| Ident::postfix(syslog_name, program);
        Self { qmgr: of("qmgr"), bounce: of("bounce"), error: of("error"), discard: of("discard") }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            times: Times::default(),
            limits: Limits { transports: HashMap::new(), ..Limits::default() },
            bounce_size: 50_000,
            host: "localhost".to_owned(),
            mail_name: "Postfix".to_owned(),
            postmaster: "postmaster@localhost".to_owned(),
            idents: Idents::new("postfix"),
            lease_grace: std::time::Duration::from_secs(10),
        }
    }
}
