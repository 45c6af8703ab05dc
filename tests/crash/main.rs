//! Processes are killed; nothing acknowledged is lost.

mod queue_manager_is_killed;

use std::process::ExitCode;

use test_support::harness::{main as run, test};

fn main() -> ExitCode {
    run(vec![test(
        "queue-manager is killed while 20 sessions send: every acknowledged message arrives",
        &[],
        queue_manager_is_killed::nothing_acknowledged_is_lost,
    )])
}
