//! What the configuration says to POP3.

use mail_config::dovecot::Settings as Dovecot;
use mail_config::dovecot::kinds::Ssl;
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
    /// Whether an `X-UIDL` field of a message is its UIDL.
    pub reuse_xuidl: bool,
    /// Whether UIDLs are kept in the uidlist, so that another format changes those of later messages only.
    pub save_uidl: bool,
    /// Whether content goes out with 0x80 in the place of NUL (`outlook-no-nuls`).
    pub no_nuls: bool,
    /// Whether a header without end is given its blank line (`oe-ns-eoh`).
    pub end_of_header: bool,
    /// Whether RETR leaves `\Seen` alone.
    pub no_flag_updates: bool,
    /// Whether an owner has one session at a time.
    pub lock: bool,
    /// The flag or keyword that hides messages deleted by POP3, and whether DELE sets it instead of removing the message.
    pub deleted_flag: Option<(String, bool)>,
    /// The text at the end of a session.
    pub logout_format: String,
}

impl Settings {
    /// Reads the settings of `protocol pop3`.
    #[must_use]
    pub fn of(dovecot: &Dovecot) -> Self {
        let hides = *dovecot.pop3_delete_type == "flag" || *dovecot.pop3_delete_type == "default";
        let flag = dovecot.pop3_deleted_flag.value.clone();
        Self {
            greeting: dovecot.login_greeting.value.clone(),
            cleartext: !*dovecot.disable_plaintext_auth,
            tls_required: *dovecot.ssl == Ssl::Required,
            last: *dovecot.pop3_enable_last,
            uidl: Format::parse(&dovecot.pop3_uidl_format).map_err(|error| error.to_string()),
            rename_duplicates: *dovecot.pop3_uidl_duplicates == "rename",
            reuse_xuidl: *dovecot.pop3_reuse_xuidl,
            save_uidl: *dovecot.pop3_save_uidl,
            no_nuls: dovecot.pop3_client_workarounds.iter().any(|word| word == "outlook-no-nuls"),
            end_of_header: dovecot.pop3_client_workarounds.iter().any(|word| word == "oe-ns-eoh"),
            no_flag_updates: *dovecot.pop3_no_flag_updates,
            lock: *dovecot.pop3_lock_session,
            deleted_flag: (!flag.is_empty()).then_some((flag, hides)),
            logout_format: dovecot.pop3_logout_format.value.clone(),
        }
    }
}

/// What a session did, as `pop3_logout_format` wants it told.
#[must_use]
pub fn logout_text(format: &str, statistics: &Statistics, octets_in: u64, octets_out: u64) -> String {
    let value = |name: &str| -> Option<u64> {
        Some(match name {
            "i" | "input" => octets_in,
            "o" | "output" => octets_out,
            "t" | "top_count" => statistics.top,
            "p" | "top_bytes" => statistics.top_bytes,
            "r" | "retr_count" => statistics.retr,
            "b" | "retr_bytes" => statistics.retr_bytes,
            "d" | "deleted_count" => statistics.deleted,
            "deleted_bytes" => statistics.deleted_bytes,
            "m" | "message_count" => statistics.messages,
            "s" | "message_bytes" => statistics.size,
            _ => return None,
        })
    };
    let mut out = String::new();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let (name, after) = match rest.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
            Some(parts) => parts,
            None => rest.split_at(rest.chars().next().map_or(0, char::len_utf8)),
        };
        match value(name) {
            Some(value) => out.push_str(&value.to_string()),
            // What is not counted is shown as it was written.
            None => out.push_str(&format!("%{}", &rest[..rest.len() - after.len()])),
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
        let statistics =
            Statistics { retr: 1, retr_bytes: 51, deleted: 2, messages: 4, size: 82, ..Statistics::default() };
        let text = |format: &str| logout_text(format, &statistics, 10, 20);
        assert_eq!(text("top=%t/%p, retr=%r/%b, del=%d/%m, size=%s"), "top=0/0, retr=1/51, del=2/4, size=82");
        assert_eq!(text("in=%i out=%{output} %{deleted_bytes} %x %"), "in=10 out=20 0 %x %");
    }
}
