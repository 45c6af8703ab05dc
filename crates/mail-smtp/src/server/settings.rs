//! What the server machine must know of the configuration.

use std::time::Duration;

use crate::content::StrayCr;

/// Which protocol the server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dialect {
    /// SMTP and ESMTP.
    #[default]
    Smtp,
    /// LMTP (RFC 2033): LHLO, one reply per recipient after the content.
    Lmtp,
}

/// What a bare LF does (`smtpd_forbid_bare_newline`). Under neither does it end the content (S07).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BareNewline {
    /// It ends a command line, and becomes CRLF inside content.
    Normalize,
    /// The command or message is refused with this code; 521 also closes the connection.
    Reject(u16),
}

/// How STARTTLS is treated (`smtpd_tls_security_level`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tls {
    /// Not offered.
    #[default]
    Off,
    /// Offered.
    May,
    /// Offered, and needed before anything but EHLO, NOOP, RSET and QUIT.
    Encrypt,
}

/// AUTH as it is offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthSettings {
    /// Mechanism names in upper case, in the order of the offer.
    pub mechanisms: Vec<String>,
    /// Only after TLS (`smtpd_tls_auth_only`).
    pub tls_only: bool,
    /// The longest response line in octets (`smtpd_sasl_response_limit`).
    pub response_limit: usize,
    /// Whether `AUTH=` is offered too (`broken_sasl_auth_clients`).
    pub broken_clients: bool,
}

/// The settings of one listener, shared by its sessions. [`Settings::default`] has Postfix's defaults; field comments name the parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// SMTP or LMTP.
    pub dialect: Dialect,
    /// `myhostname`.
    pub hostname: String,
    /// `smtpd_banner`, expanded; begins with the host name.
    pub banner: String,
    /// `message_size_limit` in octets; 0 is no limit.
    pub size_limit: u64,
    /// `smtpd_recipient_limit`.
    pub recipient_limit: usize,
    /// `smtpd_recipient_overshoot_limit`.
    pub overshoot_limit: usize,
    /// `line_length_limit`: the longest command in octets.
    pub line_limit: usize,
    /// `smtpd_timeout`: for the next command, or the next piece of content.
    pub timeout: Duration,
    /// `smtpd_per_request_deadline`: content must also come at `min_data_rate`.
    pub per_request_deadline: bool,
    /// `smtpd_min_data_rate` in octets per second.
    pub min_data_rate: u32,
    /// `smtpd_error_sleep_time`.
    pub error_sleep: Duration,
    /// `smtpd_soft_error_limit`.
    pub soft_error_limit: u32,
    /// `smtpd_hard_error_limit`.
    pub hard_error_limit: u32,
    /// `smtpd_junk_command_limit`.
    pub junk_command_limit: u32,
    /// `smtpd_helo_required`.
    pub helo_required: bool,
    /// `disable_vrfy_command`.
    pub disable_vrfy: bool,
    /// `strict_rfc821_envelopes`.
    pub strict_envelopes: bool,
    /// `smtputf8_enable`.
    pub smtputf8: bool,
    /// `smtpd_forbid_bare_newline` for this client.
    pub bare_newline: BareNewline,
    /// `cleanup_replace_stray_cr_lf`.
    pub stray_cr: StrayCr,
    /// `smtpd_forbid_unauth_pipelining`.
    pub forbid_unauth_pipelining: bool,
    /// `smtpd_tls_security_level`.
    pub tls: Tls,
    /// Whether there is a certificate that can be used; without one STARTTLS is not offered and answers 454, and what needs TLS still needs it.
    pub tls_ready: bool,
    /// `smtpd_sasl_auth_enable` and what hangs on it; none where AUTH is not offered.
    pub auth: Option<AuthSettings>,
    /// `smtpd_discard_ehlo_keywords`, in upper case.
    pub discard_ehlo_keywords: Vec<String>,
    /// Whether ETRN is offered.
    pub etrn: bool,
    /// Whether the client may use XCLIENT (`smtpd_authorized_xclient_hosts`).
    pub xclient: bool,
    /// Whether command lines go through `smtpd_command_filter`.
    pub filter_commands: bool,
    /// The verbs of `smtpd_forbidden_commands`, in upper case.
    pub forbidden_commands: Vec<String>,
    /// Whether `smtpd_forbidden_commands` also names whatever begins with something else than a letter.
    pub forbid_non_letters: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            dialect: Dialect::Smtp,
            hostname: "localhost".to_owned(),
            banner: "localhost ESMTP".to_owned(),
            size_limit: 10_240_000,
            recipient_limit: 1000,
            overshoot_limit: 1000,
            line_limit: 2048,
            timeout: Duration::from_secs(300),
            per_request_deadline: false,
            min_data_rate: 500,
            error_sleep: Duration::from_secs(1),
            soft_error_limit: 10,
            hard_error_limit: 20,
            junk_command_limit: 100,
            helo_required: false,
            disable_vrfy: false,
            strict_envelopes: false,
            smtputf8: true,
            bare_newline: BareNewline::Normalize,
            stray_cr: StrayCr::Blank,
            forbid_unauth_pipelining: false,
            tls: Tls::Off,
            tls_ready: true,
            auth: None,
            discard_ehlo_keywords: Vec::new(),
            etrn: false,
            xclient: false,
            filter_commands: false,
            forbidden_commands: ["CONNECT", "GET", "POST"].map(str::to_owned).to_vec(),
            forbid_non_letters: true,
        }
    }
}
