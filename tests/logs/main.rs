//! What the log says, and to whom: fail2ban and pflogsumm count what really happened, nothing hostile gets through, every line has its record,
//! and a log that is full or blocked stops nobody.
//!
//! `POSTRIDER_LOG_ROUNDS` says how many times the day's mix of traffic is repeated (3).

mod blocked;
mod day;
mod hostile;
mod journal;
mod places;
mod readers;
mod records;
mod traffic;

use std::process::ExitCode;

use test_support::harness::{Need, main as run, test};

const READERS: &[Need] =
    &[Need::Program("fail2ban-regex"), Need::Program("fail2ban-client"), Need::Program("pflogsumm")];

fn main() -> ExitCode {
    run(vec![
        test("fail2ban and pflogsumm count what a day of traffic really held", READERS, day::is_counted_right),
        test("the jails that we ship watch our units", READERS, day::jails_are_understood),
        // R8
        test("a blocked log and a full disk stop neither mail nor logins", &[], blocked::stops_nobody),
        test("nothing that a client says reaches a log or terminal raw", &[], hostile::is_shown_harmless),
        test(
            "as root the logs are written by daemons without rights, and rotated",
            &[Need::Root, Need::NetworkNamespace],
            places::as_root_the_logs_are_written_and_rotated,
        ),
        test("the journal has each line under its ident", journal::NEEDS, journal::has_each_line_under_its_ident),
        test(
            "a service writes to the journal's stream with priorities",
            &[],
            places::a_service_writes_to_the_journal_stream_with_priorities,
        ),
        test("every line of the log has its record, with rule and source", &[], records::stand_behind_every_line),
    ])
}
