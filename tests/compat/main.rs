//! The same story on Dovecot and on us: what a client or an administrator sees must not change with the switch.

mod dovecot;
mod fetch;
mod response;
mod switch;

use std::process::ExitCode;

use test_support::harness::{Need, main as run, test};

/// Dovecot needs root to serve another user's mail.
const WITH_DOVECOT: &[Need] = &[Need::Root, Need::Program("dovecot")];

fn main() -> ExitCode {
    run(vec![
        test("odd messages are shown by FETCH as Dovecot shows them", WITH_DOVECOT, fetch::is_the_same),
        test("UIDs, flags and keywords survive the switch in both directions", WITH_DOVECOT, switch::loses_nothing),
    ])
}
