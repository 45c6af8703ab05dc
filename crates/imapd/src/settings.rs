//! What the configuration says to IMAP.

use std::sync::Arc;
use std::time::Duration;

use mail_config::Config;
use mail_config::dovecot::kinds::Ssl;
use mail_imap::{MailboxSettings, ReaderLimits};

use crate::jobs::Counts;
use crate::names::Names;

/// The settings of `protocol imap`, and the namespaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The greeting's text.
    pub greeting: String,
    /// Whether passwords may be sent in clear on a connection that is not secured.
    pub cleartext: bool,
    /// Whether nobody may log in before TLS (`ssl = required`).
    pub tls_required: bool,
    /// What the mailbox machine needs to know.
    pub machine: MailboxSettings,
    /// How often a mailbox without a watch is looked at while a client idles.
    pub poll: Duration,
    /// The text at the end of a session.
    pub logout_format: String,
    /// Namespaces and described mailboxes.
    pub names: Arc<Names>,
}

impl Settings {
    /// Reads the settings.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let imap = &config.dovecot.imap;
        let defaults = MailboxSettings::default();
        let command = usize::try_from(*imap.imap_max_line_length).unwrap_or(defaults.limits.command);
        Self {
            greeting: imap.login_greeting.value.clone(),
            cleartext: !*imap.disable_plaintext_auth,
            tls_required: *imap.ssl == Ssl::Required,
            machine: MailboxSettings {
                // Below this a client could not even name a mailbox.
                limits: ReaderLimits { command: command.max(8 * 1024) },
                idle_notify: *imap.imap_idle_notify_interval,
                ..defaults
            },
            poll: (*imap.mailbox_idle_check_interval).max(Duration::from_secs(1)),
            logout_format: imap.imap_logout_format.value.clone(),
            names: Arc::new(Names::new(&config.dovecot.namespaces)),
        }
    }
}

/// What a session did, as `imap_logout_format` wants it told.
#[must_use]
pub fn logout_text(format: &str, counts: &Counts, octets_in: u64, octets_out: u64) -> String {
    let value = |name: &str| -> Option<u64> {
        Some(match name {
            "i" | "input" => octets_in,
            "o" | "output" => octets_out,
            "deleted" => counts.deleted,
            "expunged" => counts.expunged,
            "trashed" => counts.trashed,
            "fetch_hdr_count" => counts.headers,
            "fetch_hdr_bytes" => counts.header_octets,
            "fetch_body_count" => counts.bodies,
            "fetch_body_bytes" => counts.body_octets,
            _ => return None,
        })
    };
    let mut out = String::new();
    let mut rest = format;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let (name, after) = match after.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            Some((name, after)) => (name, after),
            None => after.split_at(after.chars().next().map_or(0, char::len_utf8)),
        };
        match value(name) {
            Some(number) => out.push_str(&number.to_string()),
            None => out.push('%'),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_session_is_told_in_dovecots_words() {
        let counts = Counts { deleted: 1, expunged: 2, ..Counts::default() };
        let format =
            "in=%i out=%o deleted=%{deleted} expunged=%{expunged} trashed=%{trashed} hdr_count=%{fetch_hdr_count}";
        assert_eq!(logout_text(format, &counts, 10, 20), "in=10 out=20 deleted=1 expunged=2 trashed=0 hdr_count=0");
        assert_eq!(logout_text("%{nothing} 100%", &counts, 0, 0), "% 100%");
    }
}
