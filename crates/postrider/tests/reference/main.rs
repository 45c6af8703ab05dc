//! The commands of Postfix and Dovecot beside ours of the same name, over the same files.

mod chance;
mod doveconf;
mod postconf;

use std::process::ExitCode;

use test_support::harness::{Need, main as run, test};

/// What reads files only needs no rights.
const WITH_POSTCONF: &[Need] = &[Need::Program("postconf")];
/// The same of Dovecot.
const WITH_DOVECONF: &[Need] = &[Need::Program("doveconf")];

fn main() -> ExitCode {
    run(vec![
        test("doveconf shows what Dovecot's shows", WITH_DOVECONF, doveconf::shows_what_dovecot_shows),
        test("postconf shows what Postfix's shows", WITH_POSTCONF, postconf::shows_what_postfix_shows),
        test("postconf -d shows Postfix's defaults", WITH_POSTCONF, postconf::defaults_are_those_of_postfix),
        test("postconf edits as Postfix's edits", WITH_POSTCONF, postconf::edits_as_postfix_edits),
    ])
}
