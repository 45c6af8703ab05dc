//! Real clients of the distribution on a whole system.

mod imap_clients;
mod postgres;

use std::process::ExitCode;

use test_support::harness::{Need, main as run, test};

fn main() -> ExitCode {
    run(vec![
        test("curl stores, lists, searches and reads over IMAPS", &[Need::Program("curl")], imap_clients::curl),
        test("mbsync keeps two Maildirs equal in both directions", &[Need::Program("mbsync")], imap_clients::mbsync),
        test("fetchmail takes mail from IMAP with STARTTLS", &[Need::Program("fetchmail")], imap_clients::fetchmail),
        test(
            "mutt opens the inbox and copies a message",
            &[Need::Program("mutt"), Need::Program("script")],
            imap_clients::mutt,
        ),
        test(
            "PostgreSQL answers our tables, by every kind of login",
            &[Need::File(postgres::PROGRAMS)],
            postgres::answers_our_tables,
        ),
    ])
}
