//! Stories of the whole system on the real binaries: one file, one story.

mod a_forwarding_loop_ends_at_once;
mod a_user_submits_and_reads;
mod every_process_is_the_user_it_should_be;
mod mail_waits_while_the_relay_host_is_down;

use std::process::ExitCode;

use test_support::harness::{Need, main as run, test};

const MACHINE: &[Need] = &[Need::Root, Need::NetworkNamespace];

fn main() -> ExitCode {
    run(vec![
        test(
            "started as root, every process is the user it should be",
            MACHINE,
            every_process_is_the_user_it_should_be::story,
        ),
        test("mail waits while the relay host is down", &[], mail_waits_while_the_relay_host_is_down::and_then_goes_on),
        // S16. Attack class: loops
        test("a forwarding loop ends at once", &[], a_forwarding_loop_ends_at_once::with_one_bounce),
        test("a user submits mail and reads it", &[], a_user_submits_and_reads::with_their_password_only),
    ])
}
