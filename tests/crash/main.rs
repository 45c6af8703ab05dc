//! Processes are killed, the power fails, the disk is full; nothing acknowledged is lost.

mod daemons_are_killed;
mod disk;
mod failed_sync;
mod full_disk;
mod index_deleted;
mod load;
mod points;
mod power_cut;
mod questions;
mod sink;
mod slow_remote;
mod system;

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode, Stdio};

use test_support::harness::{Need, main as run, test};

/// Set in the process that has mounts of its own.
const INSIDE: &str = "POSTRIDER_CRASH_INSIDE";

/// As root: goes on in a mount namespace, so that no mount outlives the test or shows outside.
fn go_inside() {
    let root = rustix::process::geteuid().is_root();
    if !root || std::env::var_os(INSIDE).is_some() {
        return;
    }
    // Where this is not allowed the tests that need it are skipped for the same reason.
    let allowed = Command::new("unshare").args(["--mount", "true"]).stderr(Stdio::null()).status();
    if let Ok(own) = std::env::current_exe()
        && allowed.is_ok_and(|status| status.success())
    {
        let mut command = Command::new("unshare");
        let _ = command.args(["--mount", "--"]).arg(own).args(std::env::args_os().skip(1)).env(INSIDE, "1").exec();
    }
}

fn main() -> ExitCode {
    go_inside();
    run(vec![
        // R1, R3, R6, S14
        test(
            "each daemon and all of them are killed while 20 sessions send: every acknowledged message arrives, and service is back in 5 s",
            &[],
            daemons_are_killed::nothing_acknowledged_is_lost,
        ),
        // R1, R2, R3, R6
        test(
            "a process dies at each named point: every acknowledged message arrives, twice only where nobody can know",
            &[],
            points::a_death_at_any_of_them_loses_nothing,
        ),
        // R6
        test(
            "queue-manager dies at its commits while sendmail -bv asks: each question is answered once",
            &[],
            questions::are_answered_once,
        ),
        // R6, R7
        test(
            "queue-manager is restarted 50 times while the other server is slow: no message goes out twice",
            &[],
            slow_remote::no_message_goes_out_twice,
        ),
        // R2, R7, S14
        test(
            "sled is deleted under delivered, held and deleted mail: nothing is sent twice, released or resurrected",
            &[],
            index_deleted::nothing_is_sent_twice_released_or_resurrected,
        ),
        // R1, R4
        test(
            "a sync of the queue fails: 451, no second sync of that file, and the refused message never comes",
            &[Need::Root, Need::Program("strace")],
            failed_sync::is_not_repeated,
        ),
        test("a disk that forgets what was not flushed loses what it should", disk::NEEDS, power_cut::the_disk_forgets),
        // R1, R2, R3, S14, I09
        test(
            "the power fails: queue, Maildir, uidlist and index have everything that was acknowledged",
            disk::NEEDS,
            power_cut::the_system_keeps_what_it_acknowledged,
        ),
        // R5
        test(
            "the queue's disk is full: 452 4.3.1, nothing is lost, and it heals",
            full_disk::NEEDS,
            full_disk::a_full_queue_refuses_and_heals,
        ),
        // R5
        test(
            "the queue's disk has no inodes: 452 4.3.1, nothing is lost, and it heals",
            full_disk::NEEDS,
            full_disk::a_queue_without_inodes_refuses_and_heals,
        ),
        // R5
        test("queue_minfree octets stay free", full_disk::NEEDS, full_disk::queue_minfree_is_kept_free),
        // R5
        test(
            "the mailboxes' disk is full: deferred, tmp is empty, and delivered when there is room",
            full_disk::NEEDS,
            full_disk::a_full_mailbox_disk_defers_and_heals,
        ),
        // R5
        test("an mbox on a full disk is cut back to what it was", full_disk::NEEDS, full_disk::an_mbox_is_as_it_was),
    ])
}
