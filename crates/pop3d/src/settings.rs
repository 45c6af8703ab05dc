//! What the configuration says to POP3.

use mail_config::dovecot::Settings as Dovecot;
use mail_pop3::mailbox::Statistics;

use crate::uidl::Format;

/// The settings of `protocol pop3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The greeting's text.
    pub greeting: String,
    /// Whether passwords may be sent in clear on a connection that is not secured.
    pub cleartext: bool,
    /// Whether nobody may log in before TLS (`ssl = required`).
    pub tls_required: bool,
    /// Whether LAST is answered.
    pub last: bool,
    /// How UIDLs are made, or what is not known of the format.
    pub uidl: Result<Format, String>,
    /// Whether equal UIDLs are told apart.
    pub rename_duplicates: bool,
    /// Whether RETR leaves `\Seen` alone.
    pub no_flag_updates: bool,
    /// Whether an owner has one session at a time.
    pub lock: bool,
    /// The flag or keyword that hides messages deleted by POP3, and whether DELE sets it instead of removing the message.
    pub deleted_flag: Option<(String, bool)>,
    /// The text at the end of a session.
    pub logout_format: String,
}
