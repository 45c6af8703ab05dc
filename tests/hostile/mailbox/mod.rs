//! Attacks on imapd, pop3d and the Maildirs that they serve.

mod before_login;
mod blow_ups;
mod bombs;
mod dialogue;
mod enumeration;
mod maildirs;
mod many;
mod neighbours;
mod pop3;
mod session;
mod syntax;

use test_support::harness::{Test, test};

pub fn tests() -> Vec<Test> {
    vec![
        // I04, I05
        test(
            "IMAP before login: no injection, no long line, no literal and no nonsense gets further than a refusal",
            &[],
            before_login::nothing_but_a_login_gets_through,
        ),
        // I07, I08
        test(
            "IMAP mailbox names: no path, no other user's box, no trick with modified UTF-7 leaves the Maildir",
            &[],
            blow_ups::names_stay_inside_the_maildir,
        ),
        // I05, I16, I19
        test(
            "IMAP after login: sets, searches, patterns, portions and sizes cost linear time and bounded memory",
            &[],
            blow_ups::commands_cost_linear_time,
        ),
        // I14, I15, I30, P04c
        test(
            "MIME bombs and hostile headers are listed and fetched in linear time, and every response is well-formed",
            &[],
            bombs::hostile_messages_are_listed_and_fetched,
        ),
        // I09, R9
        test(
            "a hostile Maildir stays usable: links, FIFOs, devices, huge and unreadable files are skipped and logged",
            &[],
            maildirs::what_is_no_message_is_skipped,
        ),
        // P07c, P08c, P10c
        test(
            "POP3 before login: no injection, no endless line and no nonsense gets further than a refusal",
            &[],
            pop3::nothing_but_a_login_gets_through,
        ),
        // P02c, P03c, P04c
        test(
            "POP3 after login: no number is ever another message, whatever is asked and whoever else is there",
            &[],
            pop3::no_number_is_another_message,
        ),
        test(
            "an unknown user gets the words of a wrong password, in the same time",
            &[],
            enumeration::an_unknown_user_looks_like_a_wrong_password,
        ),
        // I22, T02
        test(
            "thousands of IMAP sessions over TLS idle, and a new one is greeted at once",
            &[],
            many::thousands_idle_and_a_new_one_is_greeted,
        ),
        // R10
        test(
            "64 MiB of rubbish before login fill no memory of imapd and pop3d",
            &[],
            many::rubbish_before_login_fills_no_memory,
        ),
        // R9, R10
        test(
            "a user who searches bombs without end and reads nothing does not slow another",
            &[],
            neighbours::a_hostile_user_does_not_slow_another,
        ),
        // R9, R10
        test(
            "slow readers and writers cost one connection each, and a bounded part of memory",
            &[],
            many::slow_peers_cost_one_connection_each,
        ),
        test(
            "imapd without a descriptor left greets newcomers in the place of silent connections, and keeps its sessions",
            &[],
            many::descriptor_exhaustion_is_survived,
        ),
    ]
}
