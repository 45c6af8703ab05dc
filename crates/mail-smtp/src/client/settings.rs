//! How the client machine behaves towards one destination.

use std::time::Duration;

use crate::server::Dialect;

/// What is wanted of STARTTLS (`smtp_tls_security_level`). Certificates are the driver's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Starttls {
    /// Not used.
    #[default]
    Off,
    /// Used if offered; a refusal leads to plain delivery.
    May,
    /// Without TLS nothing is sent.
    Required,
}

/// A mechanism of SASL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// CRAM-MD5 (RFC 2195).
    CramMd5,
    /// PLAIN (RFC 4616).
    Plain,
    /// LOGIN, which no RFC describes.
    Login,
}

impl Mechanism {
    /// All, the one to be preferred first: a password that is not sent cannot be read.
    pub const ALL: [Self; 3] = [Self::CramMd5, Self::Plain, Self::Login];

    /// Its name in AUTH.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CramMd5 => "CRAM-MD5",
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
        }
    }
}

/// What the client logs in with (`smtp_sasl_password_maps`).
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user name.
    pub user: String,
    /// The password.
    pub password: String,
    /// The mechanisms that may be used in clear, the preferred one first (`smtp_sasl_security_options`).
    pub in_clear: Vec<Mechanism>,
    /// The mechanisms that may be used inside TLS (`smtp_sasl_tls_security_options`).
    pub in_tls: Vec<Mechanism>,
    /// Whether a login that is refused for ever leaves the mail waiting (`smtp_sasl_auth_soft_bounce`).
    pub soft_bounce: bool,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// How long each step may take (S11); each counts from the moment the step began, however slowly octets trickle in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// The greeting, and EHLO, HELO or LHLO (`smtp_helo_timeout`).
    pub helo: Duration,
    /// The reply to STARTTLS (`smtp_starttls_timeout`).
    pub starttls: Duration,
    /// MAIL, and each step of AUTH (`smtp_mail_timeout`).
    pub mail: Duration,
    /// RCPT (`smtp_rcpt_timeout`).
    pub rcpt: Duration,
    /// DATA (`smtp_data_init_timeout`).
    pub data_init: Duration,
    /// Each piece of content until it is written (`smtp_data_xfer_timeout`).
    pub data_xfer: Duration,
    /// The final dot (`smtp_data_done_timeout`).
    pub data_done: Duration,
    /// RSET (`smtp_rset_timeout`).
    pub rset: Duration,
    /// QUIT (`smtp_quit_timeout`).
    pub quit: Duration,
}

/// The settings of one connection. [`Settings::default`] has Postfix's defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// SMTP or LMTP.
    pub dialect: Dialect,
    /// What EHLO says (`smtp_helo_name`).
    pub helo_name: String,
    /// What is wanted of STARTTLS.
    pub starttls: Starttls,
    /// What to log in with; mail leaves only after a login then.
    pub credentials: Option<Credentials>,
    /// `smtp_line_length_limit` in octets; 0 is no limit.
    pub line_length_limit: usize,
    /// Whether a 5xx greeting means "try another host" (`smtp_skip_5xx_greeting`).
    pub skip_5xx_greeting: bool,
    /// Our own name (`myhostname`), if a peer that greets with it is a loop.
    pub own_name: Option<String>,
    /// Whether the reply to QUIT is not waited for (`smtp_skip_quit_response`).
    pub skip_quit_response: bool,
    /// The keywords of EHLO that are not used, in upper case (`smtp_discard_ehlo_keywords`).
    pub discard_ehlo_keywords: Vec<String>,
    /// The timeouts.
    pub timeouts: Timeouts,
}

impl Default for Settings {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            dialect: Dialect::Smtp,
            helo_name: "localhost".to_owned(),
            starttls: Starttls::Off,
            credentials: None,
            line_length_limit: 998,
            skip_5xx_greeting: true,
            own_name: None,
            skip_quit_response: true,
            discard_ehlo_keywords: Vec::new(),
            timeouts: Timeouts {
                helo: seconds(300),
                starttls: seconds(300),
                mail: seconds(300),
                rcpt: seconds(300),
                data_init: seconds(120),
                data_xfer: seconds(180),
                data_done: seconds(600),
                rset: seconds(20),
                quit: seconds(300),
            },
        }
    }
}
