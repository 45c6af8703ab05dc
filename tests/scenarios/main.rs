//! Stories of the whole system on the real binaries: one file, one story.

mod every_process_is_the_user_it_should_be;

use std::process::ExitCode;

use test_support::harness::{Need, main as run, test};

const MACHINE: &[Need] = &[Need::Root, Need::NetworkNamespace];

fn main() -> ExitCode {
    run(vec![test(
        "started as root, every process is the user it should be",
        MACHINE,
        every_process_is_the_user_it_should_be::story,
    )])
}
