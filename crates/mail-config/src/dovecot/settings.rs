//! Dovecot's settings that we carry out, declared once: name, type, default (2.3.19), meaning.

use super::kinds::*;
use super::login_log::LoginElements;
use crate::main_cf::Value;

/// What the table says about a setting.
#[derive(Debug, Clone, Copy)]
pub struct Declared {
    /// Its name in dovecot.conf.
    pub name: &'static str,
    /// Its type, for manual pages.
    pub kind: &'static str,
    /// Its default as `doveconf -d` shows it.
    pub default: &'static str,
    /// What it means.
    pub doc: &'static str,
}

/// Where values come from while they are read.
pub(super) trait Source {
    fn value<K: Kind>(&mut self, name: &'static str, default: &'static str) -> Value<K::Value>;
}

macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $field:ident : $kind:ty = $default:literal;)+) => {
        /// The settings as one protocol sees them (`protocol NAME { ... }` over the rest of the file).
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Settings { $($(#[doc = $doc])+ pub $field: Value<<$kind as Kind>::Value>,)+ }

        /// What the table declares, in its order.
        pub const SETTINGS: &[Declared] = &[$(Declared {
            name: stringify!($field), kind: <$kind as Kind>::NAME, default: $default, doc: concat!($($doc, "\n"),+),
        }),+];

        impl Settings {
            pub(super) fn read(source: &mut impl Source) -> Self {
                Self { $($field: source.value::<$kind>(stringify!($field), $default),)+ }
            }
        }
    };
}

settings! {
    /// The protocols that are served.
    protocols: Words = "imap pop3 lmtp";
    /// The addresses of listeners that name none: `*` is IPv4, `::` IPv6.
    listen: Words = "*, ::";
    /// The directory of sockets with relative paths.
    base_dir: Text = "/run/dovecot";

    /// Whether TLS is offered, and whether logins require it.
    ssl: Ssl = "yes";
    /// The certificate with its chain; 2.4 calls it `ssl_server_cert_file`.
    ssl_cert: File = "";
    /// The private key; 2.4 calls it `ssl_server_key_file`.
    ssl_key: File = "";
    /// The least version of TLS; ours is TLSv1.2 whatever lower one is written, and a higher one stops the start.
    ssl_min_protocol: LeastTls = "TLSv1.2";
    /// Whether logins in clear are refused unless the connection is local; 2.4 says `auth_allow_cleartext = no`.
    disable_plaintext_auth: YesNo = "yes";
    /// Networks of trusted proxies, which are as good as TLS.
    login_trusted_networks: Words = "";

    /// The SASL mechanisms that are offered.
    auth_mechanisms: Words = "plain";
    /// How a user name is normalised before it is looked up.
    auth_username_format: Text = "%Lu";
    /// The characters that a user name may have; empty for any.
    auth_username_chars: Text = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ01234567890.-_@";
    /// The character that stands in `login*master`, the name that a master user gives to log in as somebody else; empty for none.
    auth_master_user_separator: Text = "";
    /// The domain of a user name without one.
    auth_default_realm: Text = "";
    /// How much of what databases said is remembered; 0 for nothing.
    auth_cache_size: Size = "0";
    /// How long a right login is remembered.
    auth_cache_ttl: Span = "1 hours";
    /// How long an unknown user or a wrong password is remembered; 0 for not at all.
    auth_cache_negative_ttl: Span = "1 hours";
    /// How long a failed login waits for its answer.
    auth_failure_delay: Span = "2 secs";
    /// Whether failed logins are logged with their reason.
    auth_verbose: YesNo = "no";
    /// How many helpers check passwords at once.
    auth_worker_max_count: Number = "30";

    /// The text of the greeting.
    login_greeting: Text = "Dovecot ready.";
    /// The form of a login's line in the log: `%$` is what happened, `%s` the elements.
    login_log_format: Text = "%$: %s";
    /// What a login's line tells, as far as there is something to tell.
    login_log_format_elements: LoginElements = "user=<%u> method=%m rip=%r lip=%l mpid=%e %c session=<%{session}>";
    /// How many connections one user may have from one address.
    mail_max_userip_connections: Number = "10";
    /// The user of other processes without rights.
    default_internal_user: Text = "dovecot";

    /// Where mail lies: `maildir:~/Maildir:INBOX=...`; 2.4 has `mail_driver` and `mail_path`.
    mail_location: Text = "";
    /// The home directory where the user database gives none.
    mail_home: Text = "";
    /// The uid where the user database gives none.
    mail_uid: Text = "";
    /// The gid where the user database gives none.
    mail_gid: Text = "";
    /// The least uid that may log in.
    first_valid_uid: Number = "500";
    /// The largest uid that may log in; 0 for any.
    last_valid_uid: Number = "0";
    /// The least gid that may log in.
    first_valid_gid: Number = "1";
    /// The largest gid that may log in; 0 for any.
    last_valid_gid: Number = "0";
    /// Further groups of whoever reads or stores a user's mail.
    mail_access_groups: Words = "";
    /// Plugins of mailboxes.
    mail_plugins: Words = "";
    /// How often changes by other programs are looked for.
    mailbox_idle_check_interval: Span = "30 secs";

    /// The longest line of an IMAP client.
    imap_max_line_length: Size = "64 k";
    /// How often something is sent to an idle client.
    imap_idle_notify_interval: Span = "2 mins";
    /// How an end of session is logged.
    imap_logout_format: Text = "in=%i out=%o deleted=%{deleted} expunged=%{expunged} trashed=%{trashed} hdr_count=%{fetch_hdr_count} hdr_bytes=%{fetch_hdr_bytes} body_count=%{fetch_body_count} body_bytes=%{fetch_body_bytes}";

    /// How a UIDL is made.
    pop3_uidl_format: Text = "%08Xu%08Xv";
    /// Whether a UIDL once given is kept in the uidlist.
    pop3_save_uidl: YesNo = "no";
    /// What happens to equal UIDLs: `allow` or `rename`.
    pop3_uidl_duplicates: Text = "allow";
    /// Whether RETR does not set \Seen.
    pop3_no_flag_updates: YesNo = "no";
    /// Whether LAST is supported.
    pop3_enable_last: YesNo = "no";
    /// Whether UIDLs of `X-UIDL` fields are used.
    pop3_reuse_xuidl: YesNo = "no";
    /// Whether a session locks its mailbox.
    pop3_lock_session: YesNo = "no";
    /// Whether deletion sets a flag or removes: `expunge` or `flag`.
    pop3_delete_type: Text = "default";
    /// The flag that deletion sets.
    pop3_deleted_flag: Text = "";
    /// How an end of session is logged.
    pop3_logout_format: Text = "top=%t/%p, retr=%r/%b, del=%d/%m, size=%s";
    /// Workarounds for old clients.
    pop3_client_workarounds: Words = "";

    /// What separates user and extension in LMTP.
    recipient_delimiter: Text = "+";
    /// The name of this machine in greetings of LMTP.
    hostname: Text = "";

    /// The log: `syslog`, or a file.
    log_path: Text = "syslog";
}
