//! Every parameter of main.cf that we carry out, declared once: name, type, default, meaning, and who uses it.
//!
//! From this table come the fields of [`Main`], `postconf`, the manual page of main.cf and the comments of
//! `etc/main.cf`. Defaults are those of Postfix 3.7.11; where ours is safer, the text says so and
//! `docs/differences.md` says why. What Postfix has beyond this table stands in `data/postfix-parameters.tsv`.

use std::sync::Arc;

use super::kinds::*;
use super::lists::{Domains, Networks, Restrictions, SecretTables, TableRef, Tables};
use super::{Parameter, RawMain, Reader, Value};

macro_rules! name {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $name:literal) => {
        $name
    };
}

macro_rules! partly {
    () => {
        None
    };
    ($text:literal) => {
        Some($text)
    };
}

macro_rules! parameters {
    ($($(#[doc = $doc:literal])+ $field:ident $(as $name:literal)? : $kind:ty = $default:literal, used by [$($daemon:literal),+]
        $(, partly $partly:literal)?;)+) => {
        /// main.cf as one service sees it: every parameter with its type and the line that states it.
        #[derive(Debug, Clone)]
        #[allow(non_snake_case)]
        pub struct Main {
            pub(crate) raw: Arc<RawMain>,
            $($(#[doc = $doc])+ pub $field: Value<<$kind as Kind>::Value>,)+
        }

        /// What the table declares, in its order.
        pub const PARAMETERS: &[Parameter] = &[$(Parameter {
            name: name!($field $($name)?),
            kind: <$kind as Kind>::NAME,
            default: $default,
            doc: concat!($($doc, "\n"),+),
            used_by: &[$($daemon),+],
            partly: partly!($($partly)?),
        }),+];

        impl Main {
            /// Reads every parameter; mistakes are left with the reader.
            pub(crate) fn read(reader: &mut Reader<'_>) -> Self {
                Self {
                    raw: Arc::clone(reader.raw),
                    $($field: reader.value::<$kind>(name!($field $($name)?), $default),)+
                }
            }

            /// Every table and list file that a parameter names, and whether a file states it (a default may name a table
            /// that does not exist). Restriction classes included.
            #[must_use]
            pub fn tables(&self) -> Vec<(TableRef, bool)> {
                self.tables_where(|_| true)
            }

            /// The same for the parameters that `is_wanted`, asked with the daemons that use one, says. Restriction classes are smtpd's.
            pub(crate) fn tables_where(&self, is_wanted: impl Fn(&[&str]) -> bool) -> Vec<(TableRef, bool)> {
                let mut found = Vec::new();
                $(if is_wanted(&[$($daemon),+]) {
                    let written = self.$field.is_written();
                    found.extend(<$kind as Kind>::tables(&self.$field).into_iter().map(|table| (table, written)));
                })+
                if !is_wanted(&["smtpd"]) {
                    return found;
                }
                for class in self.smtpd_restriction_classes.iter() {
                    let rules = self.restriction_class(class).map_or_else(Vec::new, |rules| rules.value);
                    found.extend(Restrictions::tables(&rules).into_iter().map(|table| (table, true)));
                }
                found
            }
        }
    };
}

parameters! {
    // ---- who and where we are ----

    /// The version of the defaults that this file was written for; newer levels change some defaults.
    compatibility_level: Text = "0", used by ["postrider"];
    /// The name of this machine on the Internet; without it the system's host name, completed with `mydomain`.
    myhostname: Text = "", used by ["smtpd", "queue-manager", "local-delivery", "remote-delivery"];
    /// The domain of this machine; without it `myhostname` without its first label.
    mydomain: Text = "", used by ["smtpd", "queue-manager", "local-delivery", "remote-delivery"];
    /// The domain that an address without one gets; a path names a file whose first line holds it.
    myorigin: Text = "$myhostname", used by ["smtpd", "queue-manager", "local-delivery", "remote-delivery"];
    /// The domains whose mail is for the users of this machine.
    mydestination: Domains = "$myhostname, localhost.$mydomain, localhost", used by ["smtpd", "local-delivery", "queue-manager", "remote-delivery"];
    /// The clients that may relay. Without it the machine itself only, as `mynetworks_style` says.
    mynetworks: Networks = "", used by ["smtpd"];
    /// Whom an absent `mynetworks` trusts. Our default is `host` at every compatibility level.
    mynetworks_style: NetworksStyle = "host", used by ["smtpd"];
    /// The addresses on which mail is received.
    inet_interfaces: Interfaces = "all", used by ["smtpd", "queue-manager", "remote-delivery"];
    /// Whether IPv4, IPv6 or both are used.
    inet_protocols: IpVersions = "all", used by ["smtpd", "remote-delivery"];
    /// Addresses by which this machine is reached from outside through a translator or proxy; mail for them is ours.
    proxy_interfaces: List = "", used by ["smtpd", "queue-manager", "remote-delivery"];
    /// The name of the mail system in greetings and bounces.
    mail_name: Text = "Postfix", used by ["smtpd", "queue-manager"];
    /// The version in greetings that ask for it.
    mail_version: Text = "3.7.11", used by ["smtpd"];
    /// The directory of Postfix's queue; if it is not /var/spool/postfix, our state lies in `postrider` below it.
    queue_directory: Text = "/var/spool/postfix", used by ["smtpd", "queue-manager", "local-delivery", "remote-delivery", "authd"];
    /// Other directories that `-c` of the commands may name.
    alternate_config_directories: List = "", used by ["postdrop", "postrider"];
    /// The files of address-less names become upright.
    default_database_type: Text = "hash", used by ["postrider", "smtpd", "queue-manager", "local-delivery"];
    /// Names of TCP ports that master.cf and next hops may use instead of numbers.
    known_tcp_ports: List = "lmtp=24, smtp=25, smtps=submissions=465, submission=587", used by ["smtpd", "remote-delivery"];
    /// What of a written configuration is left out because it is not built: names of parameters and types of tables.
    postrider_run_without: List = "", used by ["postrider"];
    /// How many sessions a listener serves at once where master.cf says `-`, and how many imapd and pop3d serve.
    postrider_session_limit: Positive = "10000", used by ["smtpd", "imapd", "pop3d"];
    /// Whether a listener that relays for strangers may start.
    postrider_allow_open_relay: YesNo = "no", used by ["smtpd"];
    /// Files of cases as `postrider test` runs them; a reload after which one of them does not come out as it expects is refused, and nothing changes.
    /// Ours alone; Postfix has no such parameter.
    postrider_reload_tests: List = "", used by ["postrider"];
    /// The name servers to ask, `ADDRESS` or `ADDRESS:PORT`, instead of those of /etc/resolv.conf. Ours alone; Postfix has no such parameter.
    postrider_dns_servers: List = "", used by ["smtpd", "remote-delivery"];

    // ---- logs ----

    /// The name before the slash in log lines.
    syslog_name: Text = "${multi_instance_name?{$multi_instance_name}:{postfix}}", used by ["smtpd", "queue-manager", "local-delivery", "remote-delivery"];
    /// A file for the log instead of syslog; `/dev/stdout` is the standard output.
    maillog_file: File = "", used by ["smtpd", "queue-manager", "local-delivery", "remote-delivery"];
    /// The daemons that also write their decision records, one JSON object per line, beside their own log as `NAME.json`: names such as `smtpd`, or
    /// `all`. Ours alone; Postfix has no such parameter.
    postrider_json_log: Daemons = "", used by ["smtpd", "queue-manager", "local-delivery", "remote-delivery", "pop3d", "imapd", "authd"];
    /// The name of this instance in logs.
    multi_instance_name: Text = "", used by ["postrider"];
    /// The digits after the point of a delay in seconds.
    delay_logging_resolution_limit: Number<0, 6> = "2", used by ["local-delivery", "remote-delivery"];
    /// Whether a refusal names the table that lacks the user.
    show_user_unknown_table_name: YesNo = "yes", used by ["smtpd"];

    // ---- sizes ----

    /// The largest message in octets.
    message_size_limit: Count = "10240000", used by ["smtpd", "postdrop", "queue-manager"];
    /// The longest line that is read from a client; longer ones are split.
    line_length_limit: Positive = "2048", used by ["smtpd"];
    /// The most octets of a message that a bounce carries.
    bounce_size_limit: Positive = "50000", used by ["queue-manager"];
    /// The largest mailbox file in octets; 0 for no limit. It must not be smaller than `message_size_limit`.
    mailbox_size_limit: Count = "51200000", used by ["local-delivery"];
    /// The largest mailbox of virtual(8) in octets; 0 for no limit.
    virtual_mailbox_limit: Count = "51200000", used by ["local-delivery"];
    /// The octets that must stay free on the queue's disk; mail is refused with 452 below it.
    queue_minfree: Count = "0", used by ["smtpd", "queue-manager"];
    /// The most octets of one header field; continuation lines beyond it are left out.
    header_size_limit: Positive = "102400", used by ["smtpd"];
    /// The most Received fields that a message may have.
    hopcount_limit: Positive = "50", used by ["smtpd", "queue-manager"];

    // ---- SMTP server: the session ----

    /// The text of the greeting after the code.
    smtpd_banner: Text = "$myhostname ESMTP $mail_name", used by ["smtpd"];
    /// Whether a client must say HELO or EHLO before MAIL.
    smtpd_helo_required: YesNo = "no", used by ["smtpd"];
    /// Whether VRFY is refused.
    disable_vrfy_command: YesNo = "no", used by ["smtpd"];
    /// Whether the addresses of MAIL and RCPT must stand in angle brackets without phrases.
    strict_rfc821_envelopes: YesNo = "no", used by ["smtpd"];
    /// How long a client may take for the next command or piece of content.
    smtpd_timeout: Span = "${stress?{10}:{300}}s", used by ["smtpd"];
    /// How long a TLS handshake may take.
    smtpd_starttls_timeout: Span = "${stress?{10}:{300}}s", used by ["smtpd"];
    /// How long the whole of a command or of a message may take to come in at `smtpd_min_data_rate`.
    smtpd_per_request_deadline: YesNo = "${smtpd_per_record_deadline?{$smtpd_per_record_deadline}:{${stress?{yes}:{no}}}}", used by ["smtpd"];
    /// The least octets per second with which content must come in.
    smtpd_min_data_rate: Positive = "500", used by ["smtpd"];
    /// The delay of a reply to a client that has made more errors than `smtpd_soft_error_limit`.
    smtpd_error_sleep_time: Span = "1s", used by ["smtpd"];
    /// How many errors a client may make before replies are delayed.
    smtpd_soft_error_limit: Positive = "10", used by ["smtpd"];
    /// How many errors a client may make before the connection ends.
    smtpd_hard_error_limit: Positive = "${stress?{1}:{20}}", used by ["smtpd"];
    /// How many commands without effect (NOOP, VRFY, RSET) a client may send before they count as errors.
    smtpd_junk_command_limit: Positive = "${stress?{1}:{100}}", used by ["smtpd"];
    /// The most recipients of a message.
    smtpd_recipient_limit: Positive = "1000", used by ["smtpd"];
    /// How many recipients beyond the limit are refused before it counts as an error.
    smtpd_recipient_overshoot_limit: Positive = "1000", used by ["smtpd"];
    /// Commands that end the connection.
    smtpd_forbidden_commands: List = "CONNECT GET POST regexp:{{/^[^A-Z]/ Bogus}}", used by ["smtpd"], partly "tables in the list are ignored";
    /// EHLO keywords that are not announced.
    smtpd_discard_ehlo_keywords: List = "", used by ["smtpd"];
    /// The same for single clients, by their address.
    smtpd_discard_ehlo_keyword_address_maps: Tables = "", used by ["smtpd"];
    /// Clients that may say with XCLIENT for whom they speak; all decisions are then about that one.
    smtpd_authorized_xclient_hosts: Networks = "", used by ["smtpd"];
    /// A table that changes command lines before they are read, by the whole line.
    smtpd_command_filter: Tables = "", used by ["smtpd"];
    /// What is done about a bare line feed in a message. `no` acts as `normalize`: only CR LF . CR LF ends a message.
    smtpd_forbid_bare_newline: BareNewline = "no", used by ["smtpd"];
    /// The code of such a refusal; 521 ends the connection.
    smtpd_forbid_bare_newline_reject_code: Refusal = "550", used by ["smtpd"];
    /// Whether a client that sends ahead without leave is cut off.
    smtpd_forbid_unauth_pipelining: YesNo = "no", used by ["smtpd"];
    /// Whether a stray carriage return or line feed in content becomes a blank.
    cleanup_replace_stray_cr_lf: YesNo = "yes", used by ["smtpd"];
    /// Whether the client's name is looked up in DNS.
    smtpd_peername_lookup: YesNo = "yes", used by ["smtpd"];
    /// How many connections one client may hold at once; 0 for no limit.
    smtpd_client_connection_count_limit: Count = "50", used by ["smtpd"];
    /// How many connections one client may make per `anvil_rate_time_unit`; 0 for no limit.
    smtpd_client_connection_rate_limit: Count = "0", used by ["smtpd"];
    /// How many messages one client may send per `anvil_rate_time_unit`; 0 for no limit.
    smtpd_client_message_rate_limit: Count = "0", used by ["smtpd"];
    /// How many recipients one client may name per `anvil_rate_time_unit`; 0 for no limit.
    smtpd_client_recipient_rate_limit: Count = "0", used by ["smtpd"];
    /// How many AUTH commands one client may send per `anvil_rate_time_unit`; 0 for no limit.
    smtpd_client_auth_rate_limit: Count = "0", used by ["smtpd"];
    /// How many new TLS sessions one client may negotiate per `anvil_rate_time_unit`; 0 for no limit. The one too many hears 421 after its handshake.
    smtpd_client_new_tls_session_rate_limit: Count = "0", used by ["smtpd"];
    /// Whether replies and log lines name the client's port too: `host[address]:port`.
    smtpd_client_port_logging: YesNo = "no", used by ["smtpd"];
    /// Whether a message gets its queue id with its first recipient; else with MAIL, so that refused recipients are logged with it.
    smtpd_delay_open_until_valid_rcpt: YesNo = "yes", used by ["smtpd"];
    /// Clients to which these limits do not apply.
    smtpd_client_event_limit_exceptions: Networks = "${smtpd_client_connection_limit_exceptions:$mynetworks}", used by ["smtpd"];
    /// The time over which rates are counted.
    anvil_rate_time_unit: Span = "60s", used by ["smtpd"];
    /// Whether SMTPUTF8 is offered and used.
    smtputf8_enable: YesNo = "${{$compatibility_level} <level {1} ? {no} : {yes}}", used by ["smtpd", "remote-delivery", "queue-manager"];
    /// Whether every permanent refusal becomes a temporary one, for trials.
    soft_bounce: YesNo = "no", used by ["smtpd", "queue-manager", "local-delivery", "remote-delivery"];

    // ---- SMTP server: who may do what ----

    /// Restrictions at the connection.
    smtpd_client_restrictions: Restrictions = "", used by ["smtpd"];
    /// Restrictions at HELO and EHLO.
    smtpd_helo_restrictions: Restrictions = "", used by ["smtpd"];
    /// Restrictions at MAIL.
    smtpd_sender_restrictions: Restrictions = "", used by ["smtpd"];
    /// Restrictions at RCPT that keep strangers from relaying. Ours refuse (554) where Postfix's default defers.
    smtpd_relay_restrictions: Restrictions = "permit_mynetworks, permit_sasl_authenticated, reject_unauth_destination", used by ["smtpd"];
    /// Further restrictions at RCPT.
    smtpd_recipient_restrictions: Restrictions = "", used by ["smtpd"];
    /// Restrictions at DATA.
    smtpd_data_restrictions: Restrictions = "", used by ["smtpd"];
    /// Restrictions after the content.
    smtpd_end_of_data_restrictions: Restrictions = "", used by ["smtpd"];
    /// Restrictions at ETRN.
    smtpd_etrn_restrictions: Restrictions = "", used by ["smtpd"];
    /// The domains whose mail ETRN may have delivered at once.
    fast_flush_domains: Domains = "$relay_domains", used by ["smtpd"];
    /// The actions of access tables and restrictions that are logged although they permit; `static:all` for all.
    smtpd_log_access_permit_actions: Domains = "", used by ["smtpd"];
    /// What follows the text of every refusal (4xx and 5xx): a new line of the reply after `\\c` or at once. `$client_address`, `$localtime` and
    /// relatives are replaced.
    smtpd_reject_footer: Template = "", used by ["smtpd"];
    /// Footers for single refusals, by the whole of the reply; they replace `smtpd_reject_footer`.
    smtpd_reject_footer_maps: Tables = "", used by ["smtpd"];
    /// The characters that a client may bring into a reply by `$name`; others become `_`.
    smtpd_expansion_filter: Escaped = "\\t\\40!\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\\\]^_`abcdefghijklmnopqrstuvwxyz{|}~", used by ["smtpd"];
    /// How long one attempt to ask a policy service may take.
    smtpd_policy_service_timeout: Span = "100s", used by ["smtpd"];
    /// How often a policy service is tried before the default action counts.
    smtpd_policy_service_try_limit: Positive = "2", used by ["smtpd"];
    /// The pause before a policy service is tried again.
    smtpd_policy_service_retry_delay: Span = "1s", used by ["smtpd"];
    /// What counts as the answer of a policy service that cannot be asked.
    smtpd_policy_service_default_action: Text = "451 4.3.5 Server configuration problem", used by ["smtpd"];
    /// How many requests one connection to a policy service carries; 0 for no limit.
    smtpd_policy_service_request_limit: Count = "0", used by ["smtpd"];
    /// How long a connection to a policy service is kept without use.
    smtpd_policy_service_max_idle: Span = "300s", used by ["smtpd"];
    /// How long a connection to a policy service is kept at all.
    smtpd_policy_service_max_ttl: Span = "1000s", used by ["smtpd"];
    /// The `policy_context` that policy services are told.
    smtpd_policy_service_policy_context: Text = "", used by ["smtpd"];
    /// The reply to a client or name that a DNS list holds.
    default_rbl_reply: Template = "$rbl_code Service unavailable; $rbl_class [$rbl_what] blocked using $rbl_domain${rbl_reason?; $rbl_reason}", used by ["smtpd"];
    /// The same for single lists, by their domain with its filter.
    rbl_reply_maps: Tables = "", used by ["smtpd"];
    /// The lists of `reject_maps_rbl`.
    maps_rbl_domains: List = "", used by ["smtpd"];
    /// The code of such a reply.
    maps_rbl_reject_code: Refusal = "554", used by ["smtpd"];
    /// The networks in which the best mail servers of a domain must be before `permit_mx_backup` permits; empty: anywhere.
    permit_mx_backup_networks: Networks = "", used by ["smtpd"];
    /// What restrictions do about a lookup that fails for now.
    reject_tempfail_action: TempfailAction = "defer_if_permit", used by ["smtpd"];
    /// The same for `reject_unknown_sender_domain` and `reject_unknown_recipient_domain`.
    unknown_address_tempfail_action: TempfailAction = "$reject_tempfail_action", used by ["smtpd"];
    /// The same for `reject_unknown_helo_hostname`.
    unknown_helo_hostname_tempfail_action: TempfailAction = "$reject_tempfail_action", used by ["smtpd"];
    /// The same for `reject_unverified_sender`.
    unverified_sender_tempfail_action: TempfailAction = "$reject_tempfail_action", used by ["smtpd"];
    /// The same for `reject_unverified_recipient`.
    unverified_recipient_tempfail_action: TempfailAction = "$reject_tempfail_action", used by ["smtpd"];
    /// The code of a sender whose mail would be returned; 250 accepts it.
    unverified_sender_reject_code: Number<200, 599> = "450", used by ["smtpd"];
    /// The code of a recipient whose mail would be returned; 250 accepts it.
    unverified_recipient_reject_code: Number<200, 599> = "450", used by ["smtpd"];
    /// The code of a sender of whom nobody can tell yet; 250 accepts it.
    unverified_sender_defer_code: Number<200, 599> = "450", used by ["smtpd"];
    /// The code of a recipient of whom nobody can tell yet; 250 accepts it.
    unverified_recipient_defer_code: Number<200, 599> = "450", used by ["smtpd"];
    /// What such a sender's refusal says instead of the reason that was found out.
    unverified_sender_reject_reason: Text = "", used by ["smtpd"];
    /// What such a recipient's refusal says instead of the reason that was found out.
    unverified_recipient_reject_reason: Text = "", used by ["smtpd"];
    /// Names of lists of restrictions that other lists and access tables may use.
    smtpd_restriction_classes: List = "", used by ["smtpd"];
    /// Whether refusals of client, HELO and sender wait until RCPT.
    smtpd_delay_reject: YesNo = "yes", used by ["smtpd"];
    /// Whether the relay restrictions run before the recipient restrictions.
    smtpd_relay_before_recipient_restrictions: YesNo = "${{$compatibility_level} <level {3.6} ? {no} : {yes}}", used by ["smtpd"];
    /// Whether recipients that no table lists are refused although no restriction says so.
    smtpd_reject_unlisted_recipient: YesNo = "yes", used by ["smtpd"];
    /// Whether senders that no table lists are refused although no restriction says so.
    smtpd_reject_unlisted_sender: YesNo = "no", used by ["smtpd"];
    /// Who owns which sender address.
    smtpd_sender_login_maps: Tables = "", used by ["smtpd"];
    /// The key for the null sender in access tables.
    smtpd_null_access_lookup_key: Text = "<>", used by ["smtpd"];
    /// Where a name also means its subdomains.
    parent_domain_matches_subdomains: List = "debug_peer_list,fast_flush_domains,mynetworks,permit_mx_backup_networks,qmqpd_authorized_clients,relay_domains,smtpd_access_maps", used by ["smtpd", "queue-manager"];
    /// Whether addresses with sender-given routing (`user@elsewhere@here`) may pass.
    allow_untrusted_routing: YesNo = "no", used by ["smtpd"];
    /// The code of an access table's REJECT.
    access_map_reject_code: Refusal = "554", used by ["smtpd"];
    /// The code of an access table's DEFER.
    access_map_defer_code: Refusal = "450", used by ["smtpd"];
    /// The code of `reject`.
    reject_code: Refusal = "554", used by ["smtpd"];
    /// The code of `defer`.
    defer_code: Refusal = "450", used by ["smtpd"];
    /// The code of a refused HELO name.
    invalid_hostname_reject_code: Refusal = "501", used by ["smtpd"];
    /// The code of an incomplete name.
    non_fqdn_reject_code: Refusal = "504", used by ["smtpd"];
    /// The code of a refused relay.
    relay_domains_reject_code: Refusal = "554", used by ["smtpd"];
    /// The code of an unknown domain.
    unknown_address_reject_code: Refusal = "450", used by ["smtpd"];
    /// The code of a client without a verified name.
    unknown_client_reject_code: Refusal = "450", used by ["smtpd"];
    /// The code of a HELO name without address.
    unknown_hostname_reject_code: Refusal = "450", used by ["smtpd"];
    /// The code of an unknown local recipient.
    unknown_local_recipient_reject_code: Refusal = "550", used by ["smtpd"];
    /// The code of an unknown recipient of a relay domain.
    unknown_relay_recipient_reject_code: Refusal = "550", used by ["smtpd"];
    /// The code of an unknown recipient of a virtual alias domain.
    unknown_virtual_alias_reject_code: Refusal = "550", used by ["smtpd"];
    /// The code of an unknown recipient of a virtual mailbox domain.
    unknown_virtual_mailbox_reject_code: Refusal = "550", used by ["smtpd"];
    /// The code of a null sender with several recipients.
    multi_recipient_bounce_reject_code: Refusal = "550", used by ["smtpd"];
    /// The code of a session in clear.
    plaintext_reject_code: Refusal = "450", used by ["smtpd"];
    /// Who may submit with sendmail.
    authorized_submit_users: Domains = "static:anyone", used by ["smtpd", "postdrop", "postrider"];
    /// Who may look at the queue.
    authorized_mailq_users: List = "static:anyone", used by ["queue-manager", "postrider"];
    /// Who may flush the queue.
    authorized_flush_users: List = "static:anyone", used by ["queue-manager", "postrider"];

    // ---- SMTP server: SASL ----

    /// Whether AUTH is offered.
    smtpd_sasl_auth_enable: YesNo = "no", used by ["smtpd"];
    /// Who checks passwords; every type means our authd.
    smtpd_sasl_type: Text = "cyrus", used by ["smtpd"], partly "authd answers whatever the type";
    /// The socket of the password checker; authd's own is used.
    smtpd_sasl_path: Text = "smtpd", used by ["smtpd"], partly "authd's own socket is used";
    /// What mechanisms must not be in clear sessions: noplaintext, noanonymous and the like.
    smtpd_sasl_security_options: List = "noanonymous", used by ["smtpd"];
    /// The same for sessions with TLS.
    smtpd_sasl_tls_security_options: List = "$smtpd_sasl_security_options", used by ["smtpd"];
    /// Whether the user's name stands in the Received field.
    smtpd_sasl_authenticated_header: YesNo = "no", used by ["smtpd"];
    /// Whether AUTH is also announced in the form `AUTH=`, for old clients.
    broken_sasl_auth_clients: YesNo = "no", used by ["smtpd"];
    /// The longest response of a client in octets.
    smtpd_sasl_response_limit: Positive = "12288", used by ["smtpd"];
    /// Mechanisms that may be offered.
    smtpd_sasl_mechanism_filter: List = "!external, static:rest", used by ["smtpd"], partly "tables but static: are not asked, and nothing is offered that comes to one";

    // ---- SMTP server: TLS ----

    /// Whether STARTTLS is offered or required.
    smtpd_tls_security_level: ServerTls = "", used by ["smtpd"];
    /// The old way to offer STARTTLS.
    smtpd_use_tls: YesNo = "no", used by ["smtpd"];
    /// The old way to require STARTTLS.
    smtpd_enforce_tls: YesNo = "no", used by ["smtpd"];
    /// Whether TLS begins with the first octet (port 465).
    smtpd_tls_wrappermode: YesNo = "no", used by ["smtpd"];
    /// Whether AUTH waits for TLS. Where main.cf does not say `no` itself, ours is `yes`.
    smtpd_tls_auth_only: YesNo = "yes", used by ["smtpd"];
    /// The file with the certificate and its chain; without it one is made for trials.
    smtpd_tls_cert_file: File = "", used by ["smtpd"];
    /// The file with the private key.
    smtpd_tls_key_file: File = "$smtpd_tls_cert_file", used by ["smtpd"];
    /// A second certificate, for elliptic curves.
    smtpd_tls_eccert_file: File = "", used by ["smtpd"];
    /// Its key.
    smtpd_tls_eckey_file: File = "$smtpd_tls_eccert_file", used by ["smtpd"];
    /// Files that hold key and certificates together; they replace the four above.
    smtpd_tls_chain_files: List = "", used by ["smtpd"];
    /// The protocol versions for opportunistic TLS. Ours are 1.2 and 1.3; a list without 1.2 stops the start.
    smtpd_tls_protocols: TlsVersions = ">=TLSv1", used by ["smtpd"];
    /// The protocol versions for required TLS. Ours are 1.2 and 1.3; a list without 1.2 stops the start.
    smtpd_tls_mandatory_protocols: TlsVersions = ">=TLSv1", used by ["smtpd"];
    /// How much TLS writes into the log: from 1 a line for each handshake. Ours writes no more at higher levels.
    smtpd_tls_loglevel: Count = "0", used by ["smtpd"];
    /// Whether the Received field tells protocol, cipher and the client's certificate.
    smtpd_tls_received_header: YesNo = "no", used by ["smtpd"];
    /// Whether clients are asked for a certificate. They may show none.
    smtpd_tls_ask_ccert: YesNo = "no", used by ["smtpd"];
    /// Whether a session with TLS needs a client certificate that an authority vouches for. It has an effect where TLS is required.
    smtpd_tls_req_ccert: YesNo = "no", used by ["smtpd"];
    /// The most certificates between a client's and its authority.
    smtpd_tls_ccert_verifydepth: Count = "9", used by ["smtpd"];
    /// A file of certificates of authorities that are trusted to vouch for clients; clients are told their names.
    smtpd_tls_CAfile: File = "", used by ["smtpd"];
    /// A directory of such files, of which clients are not told.
    smtpd_tls_CApath: File = "", used by ["smtpd"];
    /// How the fingerprints of client certificates and their keys are made: md5, sha1, sha256 or sha512.
    smtpd_tls_fingerprint_digest: Text = "${{$compatibility_level} <level {3.6} ? {md5} : {sha256}}", used by ["smtpd"];
    /// The fingerprints of the client certificates, or of their public keys, that `permit_tls_clientcerts` lets relay.
    relay_clientcerts: Tables = "", used by ["smtpd"];

    // ---- addresses ----

    /// Whether a local part without domain gets `myorigin`.
    append_at_myorigin: YesNo = "yes", used by ["smtpd", "local-delivery", "remote-delivery"];
    /// Whether a domain without dot gets `mydomain`.
    append_dot_mydomain: YesNo = "${{$compatibility_level} <level {1} ? {yes} : {no}}", used by ["smtpd", "local-delivery", "remote-delivery"];
    /// Whether `user%domain` is read as `user@domain`.
    allow_percent_hack: YesNo = "yes", used by ["smtpd", "local-delivery", "remote-delivery"];
    /// Whether `site!user` is read as `user@site`.
    swap_bangpath: YesNo = "yes", used by ["smtpd", "local-delivery", "remote-delivery"];
    /// What separates user and extension.
    recipient_delimiter: Text = "", used by ["smtpd", "queue-manager", "local-delivery", "remote-delivery"];
    /// Which rewritings keep an extension that their table does not match.
    propagate_unmatched_extensions: List = "canonical, virtual", used by ["smtpd", "local-delivery", "remote-delivery"];
    /// Whose headers get complete addresses.
    local_header_rewrite_clients: Restrictions = "permit_inet_interfaces", used by ["smtpd"];
    /// The domain that incomplete addresses in the headers of other clients get. Empty: such headers are not touched.
    remote_header_rewrite_domain: Text = "", used by ["smtpd"];
    /// Address rewriting for senders and recipients.
    canonical_maps: Tables = "", used by ["smtpd", "local-delivery"];
    /// What `canonical_maps` rewrites.
    canonical_classes: List = "envelope_sender, envelope_recipient, header_sender, header_recipient", used by ["smtpd", "local-delivery"];
    /// Address rewriting for senders, before `canonical_maps`.
    sender_canonical_maps: Tables = "", used by ["smtpd", "local-delivery"];
    /// What `sender_canonical_maps` rewrites.
    sender_canonical_classes: List = "envelope_sender, header_sender", used by ["smtpd", "local-delivery"];
    /// Address rewriting for recipients, before `canonical_maps`.
    recipient_canonical_maps: Tables = "", used by ["smtpd", "local-delivery"];
    /// What `recipient_canonical_maps` rewrites.
    recipient_canonical_classes: List = "envelope_recipient, header_recipient", used by ["smtpd", "local-delivery"];
    /// Domains whose subdomains are hidden.
    masquerade_domains: List = "", used by ["smtpd", "local-delivery"];
    /// What masquerading rewrites.
    masquerade_classes: List = "envelope_sender, header_sender, header_recipient", used by ["smtpd", "local-delivery"];
    /// Users who are not masqueraded.
    masquerade_exceptions: Domains = "", used by ["smtpd", "local-delivery"];
    /// Address rewriting of recipients that may give several.
    virtual_alias_maps: Tables = "$virtual_maps", used by ["smtpd", "local-delivery"];
    /// Domains that consist of virtual aliases only.
    virtual_alias_domains: Domains = "$virtual_alias_maps", used by ["smtpd", "local-delivery", "queue-manager"];
    /// The most addresses that a recipient becomes.
    virtual_alias_expansion_limit: Positive = "1000", used by ["smtpd", "local-delivery"];
    /// The deepest nesting of virtual aliases.
    virtual_alias_recursion_limit: Positive = "1000", used by ["smtpd", "local-delivery"];
    /// The longest address that a virtual alias may give.
    virtual_alias_address_length_limit: Positive = "1000", used by ["smtpd", "local-delivery"];
    /// The old name of `virtual_alias_maps`.
    virtual_maps: Tables = "", used by ["smtpd", "local-delivery"];
    /// An address that gets a copy of every new message.
    always_bcc: Text = "", used by ["smtpd"];
    /// An address that gets a copy of every new message of a sender.
    sender_bcc_maps: Tables = "", used by ["smtpd"];
    /// An address that gets a copy of every new message to a recipient.
    recipient_bcc_maps: Tables = "", used by ["smtpd"];
    /// What a listener leaves out: no_address_mappings (canonical maps, masquerading, virtual aliases, automatic copies) and
    /// no_unknown_recipient_checks. Filters and milters are not built, so there is nothing of theirs to leave out.
    receive_override_options: List = "", used by ["smtpd"];
    /// The recipient that stands for the null address.
    empty_address_recipient: Text = "MAILER-DAEMON", used by ["smtpd"];
    /// The sender of mail whose bounce nobody gets; mail for it is thrown away.
    double_bounce_sender: Text = "double-bounce", used by ["smtpd", "queue-manager", "local-delivery", "remote-delivery"];
    /// Whether `X-Original-To` and `orig_to=` are kept, and duplicates are found by them.
    enable_original_recipient: YesNo = "yes", used by ["smtpd", "queue-manager", "local-delivery"];
    /// The To field of a message without one; empty: none is added.
    undisclosed_recipients_header: Template = "", used by ["smtpd"];
    /// Whether From, Date and Message-ID are added to mail of other clients too.
    always_add_missing_headers: YesNo = "no", used by ["smtpd"];
    /// Header fields that are removed.
    message_drop_headers: List = "bcc, content-length, resent-bcc, return-path", used by ["smtpd"];

    // ---- which mail is ours, and where it goes ----

    /// The recipients of local domains; empty: every one is taken.
    local_recipient_maps: Tables = "proxy:unix:passwd.byname $alias_maps", used by ["smtpd"];
    /// Domains that are relayed to. Our default is empty at every compatibility level.
    relay_domains: Domains = "", used by ["smtpd", "local-delivery", "queue-manager"];
    /// The recipients of relay domains; empty: every one is taken.
    relay_recipient_maps: Tables = "", used by ["smtpd"];
    /// Domains with mailboxes that are not system users.
    virtual_mailbox_domains: Domains = "$virtual_mailbox_maps", used by ["smtpd", "local-delivery", "queue-manager"];
    /// The mailboxes of such domains.
    virtual_mailbox_maps: Tables = "", used by ["smtpd", "local-delivery"];
    /// The directory before each mailbox of `virtual_mailbox_maps`.
    virtual_mailbox_base: File = "", used by ["local-delivery"];
    /// The uid that delivers to such a mailbox.
    virtual_uid_maps: Tables = "", used by ["local-delivery"];
    /// The gid that delivers to such a mailbox.
    virtual_gid_maps: Tables = "", used by ["local-delivery"];
    /// The least uid that `virtual_uid_maps` may give.
    virtual_minimum_uid: Positive = "100", used by ["local-delivery"];
    /// The transport and next hop of single recipients and domains.
    transport_maps: Tables = "", used by ["queue-manager", "smtpd"];
    /// The transport of local domains.
    local_transport: Text = "local:$myhostname", used by ["queue-manager", "smtpd"];
    /// The transport of virtual mailbox domains.
    virtual_transport: Text = "virtual", used by ["queue-manager", "smtpd"];
    /// The transport of relay domains.
    relay_transport: Text = "relay", used by ["queue-manager", "smtpd"];
    /// The transport of everything else.
    default_transport: Text = "smtp", used by ["queue-manager", "smtpd"];
    /// The next hop of mail for outside.
    relayhost: Text = "", used by ["queue-manager", "smtpd"];
    /// The next hop of mail for outside, by its sender: it goes before `relayhost`.
    sender_dependent_relayhost_maps: Tables = "", used by ["queue-manager", "smtpd"];
    /// The key of the null sender in `sender_dependent_relayhost_maps`.
    empty_address_relayhost_maps_lookup_key: Text = "<>", used by ["queue-manager", "smtpd"];
    /// The transport of mail for outside, by its sender: it goes before `default_transport`.
    sender_dependent_default_transport_maps: Tables = "", used by ["queue-manager", "smtpd"];
    /// The key of the null sender in `sender_dependent_default_transport_maps`.
    empty_address_default_transport_maps_lookup_key: Text = "<>", used by ["queue-manager", "smtpd"];
    /// Where what probes found out is kept: in the state directory, whatever stands here; in memory alone where this is empty.
    address_verify_map: Text = "btree:$data_directory/verify_cache", used by ["queue-manager"], partly "the cache lies in the state directory; an empty value keeps it in memory";
    /// The sender of probes; `<>` for the null sender.
    address_verify_sender: Text = "$double_bounce_sender", used by ["queue-manager"];
    /// How often smtpd would look whether a probe has ended; it waits for all but the first of these.
    address_verify_poll_count: Positive = "${stress?{1}:{3}}", used by ["smtpd"];
    /// The time between two of these.
    address_verify_poll_delay: Span = "3s", used by ["smtpd"];
    /// How long it is believed that an address is good.
    address_verify_positive_expire_time: Span = "31d", used by ["queue-manager"];
    /// When a good address is probed again at its next use.
    address_verify_positive_refresh_time: Span = "7d", used by ["queue-manager"];
    /// Whether it is remembered that an address is bad.
    address_verify_negative_cache: YesNo = "yes", used by ["queue-manager"];
    /// How long it is believed that an address is bad.
    address_verify_negative_expire_time: Span = "3d", used by ["queue-manager"];
    /// When a bad address is probed again at its next use.
    address_verify_negative_refresh_time: Span = "3h", used by ["queue-manager"];
    /// How often what is believed no more is removed.
    address_verify_cache_cleanup_interval: Span = "12h", used by ["queue-manager"];
    /// The most probes under way.
    address_verify_pending_request_limit: Positive = "5000", used by ["queue-manager"];
    /// `transport_maps` for probes.
    address_verify_transport_maps: Tables = "$transport_maps", used by ["queue-manager"];
    /// `local_transport` for probes.
    address_verify_local_transport: Text = "$local_transport", used by ["queue-manager"];
    /// `virtual_transport` for probes.
    address_verify_virtual_transport: Text = "$virtual_transport", used by ["queue-manager"];
    /// `relay_transport` for probes.
    address_verify_relay_transport: Text = "$relay_transport", used by ["queue-manager"];
    /// `default_transport` for probes.
    address_verify_default_transport: Text = "$default_transport", used by ["queue-manager"];
    /// `relayhost` for probes.
    address_verify_relayhost: Text = "$relayhost", used by ["queue-manager"];
    /// `sender_dependent_relayhost_maps` for probes.
    address_verify_sender_dependent_relayhost_maps: Tables = "$sender_dependent_relayhost_maps", used by ["queue-manager"];
    /// `sender_dependent_default_transport_maps` for probes.
    address_verify_sender_dependent_default_transport_maps: Tables = "$sender_dependent_default_transport_maps", used by ["queue-manager"];
    /// Where users and domains have moved to; mail for them is returned with the new address.
    relocated_maps: Tables = "", used by ["queue-manager", "smtpd"];
    /// Whether `5.1.6 User has moved to` stands before what `relocated_maps` holds.
    relocated_prefix_enable: YesNo = "yes", used by ["queue-manager", "smtpd"];
    /// Whether routing in a local part that needs quotes (`"user@elsewhere"@here`) is followed.
    resolve_dequoted_address: YesNo = "yes", used by ["queue-manager", "smtpd"];
    /// Whether `user@192.0.2.1` means `user@[192.0.2.1]`; else it is no address.
    resolve_numeric_domain: YesNo = "no", used by ["queue-manager", "smtpd"];

    // ---- queue ----

    /// How often the deferred queue is looked at.
    queue_run_delay: Span = "300s", used by ["queue-manager"];
    /// The shortest time between two attempts to deliver a deferred message.
    minimal_backoff_time: Span = "300s", used by ["queue-manager"];
    /// The longest time between two attempts.
    maximal_backoff_time: Span = "4000s", used by ["queue-manager"];
    /// How long a message is tried before it is returned.
    maximal_queue_lifetime: Span = "5d", used by ["queue-manager"];
    /// How long a bounce is tried before it is dropped.
    bounce_queue_lifetime: Span = "5d", used by ["queue-manager"];
    /// After which time the sender is told that the message waits; 0 for never.
    delay_warning_time: Span = "0h", used by ["queue-manager"];
    /// How many messages are in work at once.
    qmgr_message_active_limit: Positive = "20000", used by ["queue-manager"];
    /// The concurrency with which a destination is begun.
    initial_destination_concurrency: Positive = "5", used by ["queue-manager"];
    /// The most deliveries at once to a destination.
    default_destination_concurrency_limit: Count = "20", used by ["queue-manager"];
    /// The most recipients of one delivery.
    default_destination_recipient_limit: Count = "50", used by ["queue-manager"];
    /// How many failed sessions in a row close a destination.
    default_destination_concurrency_failed_cohort_limit: Count = "1", used by ["queue-manager"];
    /// The most deliveries at once of a transport whose line in master.cf has `-` for maxproc, for each worker; 0 for no limit. Listeners have
    /// `postrider_session_limit`.
    default_process_limit: Count = "100", used by ["queue-manager"];
    /// The pause between deliveries to one destination.
    default_destination_rate_delay: Span = "0s", used by ["queue-manager"];
    /// The pause between deliveries of one transport.
    default_transport_rate_delay: Span = "0s", used by ["queue-manager"], partly "read; mail is not slowed down";
    /// The most deliveries of local(8) at once for one recipient.
    local_destination_concurrency_limit: Count = "2", used by ["queue-manager"];
    /// The most recipients of one delivery of local(8).
    local_destination_recipient_limit: Count = "1", used by ["queue-manager"];
    /// Whether queue ids are long. Ours always are.
    enable_long_queue_ids: YesNo = "no", used by ["queue-manager"], partly "queue ids are always long";

    // ---- local delivery ----

    /// The tables of aliases(5).
    alias_maps: Tables = "hash:/etc/aliases, nis:mail.aliases", used by ["local-delivery", "smtpd", "queue-manager"];
    /// The alias files that newaliases checks.
    alias_database: Tables = "hash:/etc/aliases", used by ["postrider"];
    /// The mailbox below the home directory; a slash at the end makes it a Maildir.
    home_mailbox: Text = "", used by ["local-delivery"];
    /// The directory of mailboxes; a slash at the end makes them Maildirs.
    mail_spool_directory: Text = "/var/mail", used by ["local-delivery"];
    /// How a mailbox file is locked.
    mailbox_delivery_lock: List = "fcntl, dotlock", used by ["local-delivery"];
    /// How a mailbox file of virtual(8) is locked.
    virtual_mailbox_lock: List = "fcntl, dotlock", used by ["local-delivery"];
    /// How often a lock is tried.
    deliver_lock_attempts: Positive = "20", used by ["local-delivery"];
    /// The pause between two tries.
    deliver_lock_delay: Span = "1s", used by ["local-delivery"];
    /// The age at which a lock file is thought to be forgotten.
    stale_lock_time: Span = "500s", used by ["local-delivery"];
    /// Where `|command` is allowed: alias, forward, include.
    allow_mail_to_commands: List = "alias, forward", used by ["local-delivery"];
    /// Where `/file` is allowed: alias, forward, include.
    allow_mail_to_files: List = "alias, forward", used by ["local-delivery"];
    /// Whether an address may begin with `-`.
    allow_min_user: YesNo = "no", used by ["smtpd", "local-delivery", "queue-manager"];
    /// Whether `owner-list` and `list-request` are not split at a `-` delimiter.
    owner_request_special: YesNo = "yes", used by ["smtpd", "local-delivery", "queue-manager", "remote-delivery"];
    /// Whether the sender of a list's mail is what `owner-list` expands to.
    expand_owner_alias: YesNo = "no", used by ["local-delivery"];
    /// Where a Delivered-To field is written.
    prepend_delivered_header: List = "command, file, forward", used by ["local-delivery", "remote-delivery"];
    /// Whether the owner of a mailbox file must be the recipient.
    strict_mailbox_ownership: YesNo = "yes", used by ["local-delivery"];
    /// Whether a user without home directory gets no mail.
    require_home_directory: YesNo = "no", used by ["local-delivery"];
    /// The rights of deliveries that belong to nobody.
    default_privs: Text = "nobody", used by ["local-delivery"];
    /// The forward files of a user, the first that is there counts. Empty: none are read.
    forward_path: Template = "$home/.forward${recipient_delimiter}${extension}, $home/.forward", used by ["local-delivery"];
    /// The characters that an address may bring into the name of a forward file; others become `_`.
    forward_expansion_filter: Text = "1234567890!@%-_=+:,./abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", used by ["local-delivery"];
    /// The command that gets the mail of a user instead of the mailbox.
    mailbox_command: Template = "", used by ["local-delivery"];
    /// The same for single users.
    mailbox_command_maps: Tables = "", used by ["local-delivery"];
    /// The characters that mail may bring into the environment of a command; others become `_`.
    command_expansion_filter: Text = "1234567890!@%-_=+:,./abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", used by ["local-delivery"];
    /// The transport that takes the mail of single users, known or not, in place of the mailbox, by their name without extension.
    mailbox_transport_maps: Tables = "", used by ["local-delivery"];
    /// The transport that takes the mail of all other users in place of the mailbox.
    mailbox_transport: Text = "", used by ["local-delivery"];
    /// The transport of mail for single names that are neither alias nor user.
    fallback_transport_maps: Tables = "", used by ["local-delivery"];
    /// The transport of mail for all other names that are neither alias nor user.
    fallback_transport: Text = "", used by ["local-delivery"];
    /// The address that gets mail for names that are neither alias nor user; `$local`, `$user`, `$extension` and their relatives are replaced.
    luser_relay: Template = "", used by ["local-delivery"];
    /// How long a command may run.
    command_time_limit: Span = "1000s", used by ["local-delivery"];
    /// The directory in which a command runs.
    command_execution_directory: Template = "", used by ["local-delivery"];
    /// The characters that an address may bring into that directory's name; others become `_`.
    execution_directory_expansion_filter: Text = "1234567890!@%-_=+:,./abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", used by ["local-delivery"];
    /// The variables of the daemon's environment that a command sees.
    export_environment: List = "TZ MAIL_CONFIG LANG", used by ["local-delivery"];
    /// The shell that runs every command; empty: /bin/sh, where a command needs one.
    local_command_shell: Text = "", used by ["local-delivery"];

    // ---- SMTP and LMTP client ----

    /// The name in HELO and EHLO.
    smtp_helo_name: Text = "$myhostname", used by ["remote-delivery"];
    /// Address rewriting of what leaves by SMTP: the envelope, and the sender and recipient fields of the header.
    smtp_generic_maps: Tables = "", used by ["remote-delivery"];
    /// The same for LMTP.
    lmtp_generic_maps: Tables = "", used by ["remote-delivery"];
    /// The name in LHLO.
    lmtp_lhlo_name: Text = "$myhostname", used by ["remote-delivery"];
    /// The port where a next hop names none.
    smtp_tcp_port: Text = "smtp", used by ["remote-delivery"];
    /// The port where an LMTP next hop names none.
    lmtp_tcp_port: Text = "24", used by ["remote-delivery"];
    /// How much of DNS is used: `dnssec` changes nothing as long as the TLS levels that need it defer.
    smtp_dns_support_level: DnsSupport = "", used by ["remote-delivery"];
    /// The most addresses of mail exchangers that are tried; 0 for no limit.
    smtp_mx_address_limit: Count = "5", used by ["remote-delivery"];
    /// The most sessions in one attempt; 0 for no limit.
    smtp_mx_session_limit: Count = "2", used by ["remote-delivery"];
    /// Whether mail exchangers of equal preference are shuffled.
    smtp_randomize_addresses: YesNo = "yes", used by ["remote-delivery"];
    /// Keywords of the server that are ignored.
    smtp_discard_ehlo_keywords: List = "", used by ["remote-delivery"];
    /// Keywords of the LMTP server that are ignored.
    lmtp_discard_lhlo_keywords: List = "", used by ["remote-delivery"];
    /// Whether a greeting of 5xx leads to the next mail exchanger.
    smtp_skip_5xx_greeting: YesNo = "yes", used by ["remote-delivery"];
    /// Whether the answer to QUIT is not waited for.
    smtp_skip_quit_response: YesNo = "yes", used by ["remote-delivery"];
    /// The longest line that is sent; longer ones are folded.
    smtp_line_length_limit: Count = "998", used by ["remote-delivery"];
    /// How long a connection may take.
    smtp_connect_timeout: Span = "30s", used by ["remote-delivery"];
    /// How long the greeting and the answer to EHLO may take.
    smtp_helo_timeout: Span = "300s", used by ["remote-delivery"];
    /// How long the answer to MAIL may take.
    smtp_mail_timeout: Span = "300s", used by ["remote-delivery"];
    /// How long the answer to RCPT may take.
    smtp_rcpt_timeout: Span = "300s", used by ["remote-delivery"];
    /// How long the answer to DATA may take.
    smtp_data_init_timeout: Span = "120s", used by ["remote-delivery"];
    /// How long a piece of content may take.
    smtp_data_xfer_timeout: Span = "180s", used by ["remote-delivery"];
    /// How long the answer to the final dot may take.
    smtp_data_done_timeout: Span = "600s", used by ["remote-delivery"];
    /// How long the answer to RSET may take.
    smtp_rset_timeout: Span = "20s", used by ["remote-delivery"];
    /// How long the answer to QUIT may take.
    smtp_quit_timeout: Span = "300s", used by ["remote-delivery"];
    /// How long the TLS handshake may take.
    smtp_starttls_timeout: Span = "300s", used by ["remote-delivery"];
    /// How long an LMTP connection may take; 0 for the system's limit.
    lmtp_connect_timeout: Span = "0s", used by ["remote-delivery"];
    /// How long the answer to LHLO may take.
    lmtp_lhlo_timeout: Span = "300s", used by ["remote-delivery"];
    /// How long the answer to MAIL may take in LMTP.
    lmtp_mail_timeout: Span = "300s", used by ["remote-delivery"];
    /// How long the answer to RCPT may take in LMTP.
    lmtp_rcpt_timeout: Span = "300s", used by ["remote-delivery"];
    /// How long the answer to DATA may take in LMTP.
    lmtp_data_init_timeout: Span = "120s", used by ["remote-delivery"];
    /// How long a piece of content may take in LMTP.
    lmtp_data_xfer_timeout: Span = "180s", used by ["remote-delivery"];
    /// How long the answer to the final dot may take in LMTP.
    lmtp_data_done_timeout: Span = "600s", used by ["remote-delivery"];
    /// Whether a connection is kept for more mail when much is waiting.
    smtp_connection_cache_on_demand: YesNo = "yes", used by ["remote-delivery"];
    /// How long a connection is kept without use.
    smtp_connection_cache_time_limit: Span = "2s", used by ["remote-delivery"];
    /// How many messages one connection may carry; 0 for no limit.
    smtp_connection_reuse_count_limit: Count = "0", used by ["remote-delivery"];
    /// How TLS is used by the SMTP client.
    smtp_tls_security_level: ClientTls = "", used by ["remote-delivery"], partly "dane and dane-only defer";
    /// The TLS policy of single next hops: level, match, protocols, tafile.
    smtp_tls_policy_maps: Tables = "", used by ["remote-delivery"], partly "an attribute that is not built defers the mail of its next hop";
    /// A file of certificates of authorities that `verify` and `secure` trust.
    smtp_tls_CAfile: File = "", used by ["remote-delivery"];
    /// A directory of such files.
    smtp_tls_CApath: File = "", used by ["remote-delivery"];
    /// Whether the machine's own authorities (/etc/ssl/certs) are trusted beside those of `smtp_tls_CAfile` and its relatives.
    tls_append_default_CA: YesNo = "no", used by ["remote-delivery", "smtpd"];
    /// The names that `verify` wants in a certificate.
    smtp_tls_verify_cert_match: List = "hostname", used by ["remote-delivery"];
    /// The names that `secure` wants in a certificate.
    smtp_tls_secure_cert_match: List = "nexthop, dot-nexthop", used by ["remote-delivery"];
    /// The fingerprints that `fingerprint` accepts.
    smtp_tls_fingerprint_cert_match: List = "", used by ["remote-delivery"];
    /// How fingerprints are made.
    smtp_tls_fingerprint_digest: Text = "${{$compatibility_level} <level {3.6} ? {md5} : {sha256}}", used by ["remote-delivery"];
    /// Whether the SMTP client logs in where `smtp_sasl_password_maps` has a password.
    smtp_sasl_auth_enable: YesNo = "no", used by ["remote-delivery"];
    /// `user:password` by sender (with `smtp_sender_dependent_authentication`), host name or next hop. Read with the rights of root at start and reload.
    smtp_sasl_password_maps: SecretTables = "", used by ["remote-delivery"];
    /// What a mechanism must not be, without TLS.
    smtp_sasl_security_options: List = "noplaintext, noanonymous", used by ["remote-delivery"];
    /// What a mechanism must not be, with TLS.
    smtp_sasl_tls_security_options: List = "$smtp_sasl_security_options", used by ["remote-delivery"];
    /// What a mechanism must not be, with TLS and a certificate that was checked.
    smtp_sasl_tls_verified_security_options: List = "$smtp_sasl_tls_security_options", used by ["remote-delivery"];
    /// Which of the server's mechanisms are used: names, `!name`, `static:all`.
    smtp_sasl_mechanism_filter: List = "", used by ["remote-delivery"], partly "names, not tables; mail that a table would decide is deferred";
    /// Whether mail waits when the server refuses the login.
    smtp_sasl_auth_soft_bounce: YesNo = "yes", used by ["remote-delivery"];
    /// Whether the sender decides which password is used.
    smtp_sender_dependent_authentication: YesNo = "no", used by ["remote-delivery"];
    /// How much the SMTP client's TLS writes into the log: from 1 a line for each handshake. Ours writes no more at higher levels.
    smtp_tls_loglevel: Count = "0", used by ["remote-delivery"];
    /// How TLS is used by the LMTP client.
    lmtp_tls_security_level: ClientTls = "", used by ["remote-delivery"], partly "dane and dane-only defer";
    /// The TLS policy of single LMTP next hops: level, match, protocols, tafile.
    lmtp_tls_policy_maps: Tables = "", used by ["remote-delivery"], partly "an attribute that is not built defers the mail of its next hop";
    /// A file of certificates of authorities that `verify` and `secure` trust in LMTP.
    lmtp_tls_CAfile: File = "", used by ["remote-delivery"];
    /// A directory of such files.
    lmtp_tls_CApath: File = "", used by ["remote-delivery"];
    /// The names that `verify` wants in the certificate of an LMTP server.
    lmtp_tls_verify_cert_match: List = "hostname", used by ["remote-delivery"];
    /// The names that `secure` wants in the certificate of an LMTP server.
    lmtp_tls_secure_cert_match: List = "nexthop", used by ["remote-delivery"];
    /// The fingerprints that `fingerprint` accepts of an LMTP server.
    lmtp_tls_fingerprint_cert_match: List = "", used by ["remote-delivery"];
    /// How fingerprints of LMTP servers are made.
    lmtp_tls_fingerprint_digest: Text = "${{$compatibility_level} <level {3.6} ? {md5} : {sha256}}", used by ["remote-delivery"];
    /// The old way to use TLS in LMTP where it is offered.
    lmtp_use_tls: YesNo = "no", used by ["remote-delivery"];
    /// The old way to require TLS in LMTP.
    lmtp_enforce_tls: YesNo = "no", used by ["remote-delivery"];
    /// Whether TLS begins with the first octet in LMTP.
    lmtp_tls_wrappermode: YesNo = "no", used by ["remote-delivery"];
    /// The protocol versions for opportunistic TLS in LMTP. Ours are 1.2 and 1.3; a list without 1.2 stops the start.
    lmtp_tls_protocols: TlsVersions = ">=TLSv1", used by ["remote-delivery"];
    /// The protocol versions for required TLS in LMTP. Ours are 1.2 and 1.3; a list without 1.2 stops the start.
    lmtp_tls_mandatory_protocols: TlsVersions = ">=TLSv1", used by ["remote-delivery"];
    /// How long the TLS handshake may take in LMTP.
    lmtp_starttls_timeout: Span = "300s", used by ["remote-delivery"];
    /// How much the LMTP client's TLS writes into the log: from 1 a line for each handshake.
    lmtp_tls_loglevel: Count = "0", used by ["remote-delivery"];
    /// The old way to use TLS where it is offered.
    smtp_use_tls: YesNo = "no", used by ["remote-delivery"];
    /// The old way to require TLS.
    smtp_enforce_tls: YesNo = "no", used by ["remote-delivery"];
    /// Whether TLS begins with the first octet.
    smtp_tls_wrappermode: YesNo = "no", used by ["remote-delivery"];
    /// The protocol versions for opportunistic TLS. Ours are 1.2 and 1.3; a list without 1.2 stops the start.
    smtp_tls_protocols: TlsVersions = ">=TLSv1", used by ["remote-delivery"];
    /// The protocol versions for required TLS. Ours are 1.2 and 1.3; a list without 1.2 stops the start.
    smtp_tls_mandatory_protocols: TlsVersions = ">=TLSv1", used by ["remote-delivery"];
}
