//! The same story on Postfix or Dovecot and on us: what a client or an administrator sees must not change with the switch.

mod addresses;
mod certificates;
mod dialogue;
mod dovecot;
mod elsewhere;
mod fetch;
mod lmtp;
mod masters;
mod moving;
mod names;
mod postfix;
mod relay;
mod response;
mod restrictions;
mod servers;
mod store;
mod switch;
mod tables;

use std::process::ExitCode;

use test_support::harness::{Need, main as run, test};

/// Dovecot needs root to serve another user's mail.
const WITH_DOVECOT: &[Need] = &[Need::Root, Need::Program("dovecot")];
/// Both do.
const WITH_BOTH: &[Need] = &[Need::Root, Need::Program("postfix"), Need::Program("dovecot")];
/// Postfix needs root to become its own users.
const WITH_POSTFIX: &[Need] = &[Need::Root, Need::Program("postfix")];
/// Certificates are made with openssl.
const WITH_CERTIFICATES: &[Need] =
    &[Need::Root, Need::Program("postfix"), Need::Program("swaks"), Need::Program("openssl")];
/// Its postmap needs no rights.
const WITH_POSTMAP: &[Need] = &[Need::Program("postmap")];
const WITH_SQLITE: &[Need] = &[Need::Program("postmap"), Need::Program("sqlite3")];
/// The types of tables whose servers we start are modules of Postfix's, in packages of their own.
const WITH_SLAPD: &[Need] =
    &[Need::Program("postmap"), Need::File("/usr/lib/postfix/postfix-ldap.so"), Need::Program("slapd")];
const WITH_MARIADB: &[Need] = &[
    Need::Program("postmap"),
    Need::File("/usr/lib/postfix/postfix-mysql.so"),
    Need::Program("mariadbd"),
    Need::Program("mariadb-install-db"),
];
const WITH_MEMCACHED: &[Need] = &[Need::Program("postmap"), Need::Program("memcached")];

/// Name servers and ports of their own need a machine of their own.
const WITH_POSTFIX_INSIDE: &[Need] =
    &[Need::Root, Need::NetworkNamespace, Need::Program("postfix"), Need::Program("python3")];

fn main() -> ExitCode {
    run(vec![
        test("an SMTP client hears what Postfix would say", WITH_POSTFIX, dialogue::is_the_same),
        test(
            "addresses of all kinds are rewritten and routed as Postfix does it",
            WITH_POSTFIX,
            addresses::are_handled_alike,
        ),
        test(
            "the next server is shown what Postfix would show it",
            WITH_POSTFIX,
            addresses::leave_as_they_would_leave_postfix,
        ),
        test(
            "generated restriction lists and access tables decide as Postfix does",
            WITH_POSTFIX,
            restrictions::are_the_same,
        ),
        test(
            "unknown domains, DNS lists and the hosts of a name decide as with Postfix",
            WITH_POSTFIX_INSIDE,
            names::decide_as_with_postfix,
        ),
        test(
            "certificates of clients and servers are judged, logged and told as Postfix does it",
            WITH_CERTIFICATES,
            certificates::are_judged_alike,
        ),
        test(
            "what local delivery passes on goes where Postfix sends it",
            WITH_POSTFIX,
            elsewhere::goes_where_postfix_sends_it,
        ),
        test(
            "a Dovecot behind us takes mail over LMTP, each recipient on its own",
            WITH_DOVECOT,
            lmtp::gives_mail_to_dovecot,
        ),
        // L01, L02
        test("a Postfix beside us delivers through our LMTP listener", WITH_POSTFIX, lmtp::takes_mail_from_postfix),
        test("odd messages are shown by FETCH as Dovecot shows them", WITH_DOVECOT, fetch::is_the_same),
        test(
            "master users log in as whom Dovecot lets them, and as nobody else",
            WITH_DOVECOT,
            masters::log_in_as_with_dovecot,
        ),
        test("UIDs, flags and keywords survive the switch in both directions", WITH_DOVECOT, switch::loses_nothing),
        test(
            "the queue goes from Postfix to us and back, and every recipient gets one copy",
            WITH_POSTFIX,
            moving::there_and_back,
        ),
        // L02
        test(
            "Dovecot's LMTP server takes our mail and its refusals come back",
            WITH_DOVECOT,
            store::delivers_to_dovecot,
        ),
        // T03
        test(
            "Postfix as relay host takes our mail after STARTTLS, a checked certificate and AUTH",
            WITH_BOTH,
            relay::takes_our_mail,
        ),
        test("tables with keys give what Postfix's give", WITH_POSTMAP, tables::with_keys_give_the_same_values),
        test("tables of networks give what Postfix's give", WITH_POSTMAP, tables::of_networks_give_the_same_values),
        test("tables of patterns give what Postfix's give", WITH_POSTMAP, tables::of_patterns_give_the_same_values),
        test(
            "tables of POSIX patterns share a match alike",
            WITH_POSTMAP,
            tables::of_posix_patterns_share_a_match_alike,
        ),
        test("tables in main.cf give what Postfix's give", WITH_POSTMAP, tables::in_main_cf_give_the_same_values),
        test("tables in SQLite give what Postfix's give", WITH_SQLITE, tables::in_sqlite_give_the_same_values),
        test("tables in a directory give what Postfix's give", WITH_SLAPD, servers::ldap::gives_the_same_values),
        test(
            "a list in a directory is expanded, mail for it waits while nobody answers, and check says so",
            WITH_SLAPD,
            servers::ldap::expands_lists,
        ),
        test("tables in MariaDB give what Postfix's give", WITH_MARIADB, servers::mysql::gives_the_same_values),
        test("tables in memcached give what Postfix's give", WITH_MEMCACHED, servers::memcache::gives_the_same_values),
        test("tables of a tcp server give what Postfix's give", WITH_POSTMAP, servers::tcp::gives_the_same_values),
    ])
}
