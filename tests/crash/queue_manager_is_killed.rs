//! SIGKILL for queue-manager, again and again, while 20 sessions send numbered messages through smtpd.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use test_support::clients::{Security, Smtp};
use test_support::{Builder, Patience, System, system, wait_for};

const SESSIONS: u32 = 20;
const KILLS: usize = 5;
/// Messages acknowledged between two kills.
const BETWEEN: usize = 40;

pub fn nothing_acknowledged_is_lost() -> Result<(), String> {
    let system = Builder::new("crash.example").main_cf("smtpd_client_connection_count_limit = 0").start()?;
    let acknowledged: Mutex<BTreeSet<u32>> = Mutex::default();
    let (next, done) = (AtomicU32::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        for _ in 0..SESSIONS {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    send_many(&system, &next, &acknowledged, &done);
                }
            });
        }
        let killed = kill_again_and_again(&system, &acknowledged);
        done.store(true, Ordering::Relaxed);
        killed
    })?;
    let acknowledged = acknowledged.into_inner().map_err(|error| error.to_string())?;
    everything_arrives(&system, &acknowledged)
}

/// One connection that sends until something breaks; only a 250 after the content counts.
fn send_many(system: &System, next: &AtomicU32, acknowledged: &Mutex<BTreeSet<u32>>, done: &AtomicBool) {
    let Ok(mut smtp) = Smtp::connect(system.ports.at(system.ports.smtp), Security::Clear) else { return };
    while !done.load(Ordering::Relaxed) {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let message = format!("Subject: number {number}\r\nX-Number: {number}\r\n\r\nmessage {number}");
        if smtp.send("mary@crash.example", &["john@crash.example"], &message).is_err() {
            return;
        }
        if let Ok(mut numbers) = acknowledged.lock() {
            numbers.insert(number);
        }
    }
}

fn kill_again_and_again(system: &System, acknowledged: &Mutex<BTreeSet<u32>>) -> Result<(), String> {
    let count = || acknowledged.lock().map(|numbers| numbers.len()).unwrap_or(0);
    for round in 0..KILLS {
        let wanted = count() + BETWEEN;
        let progress =
            wait_for("acknowledged messages", Patience(Duration::from_secs(60)), || (count() >= wanted).then_some(()));
        progress.map_err(|error| format!("round {round}: {error}\n{}", system.logs()))?;
        let pids = system.pids_of("queue-manager");
        if pids.is_empty() {
            return Err(format!("round {round}: queue-manager does not run\n{}", system.logs()));
        }
        for pid in pids {
            system::signal(pid, Signal::KILL);
        }
    }
    let wanted = count() + BETWEEN;
    wait_for("acknowledged messages after the last kill", Patience(Duration::from_secs(60)), || {
        (count() >= wanted).then_some(())
    })
}

fn everything_arrives(system: &System, acknowledged: &BTreeSet<u32>) -> Result<(), String> {
    let mut missing = acknowledged.clone();
    let arrived = wait_for("every acknowledged message", Patience(Duration::from_secs(120)), || {
        let there: BTreeSet<u32> = system.messages("john").iter().filter_map(|message| number(message)).collect();
        missing = acknowledged.difference(&there).copied().collect();
        missing.is_empty().then_some(())
    });
    arrived.map_err(|error| format!("{error}: of {} missing {missing:?}\n{}", acknowledged.len(), system.logs()))
}

fn number(message: &str) -> Option<u32> {
    message.lines().find_map(|line| line.strip_prefix("X-Number: "))?.trim().parse().ok()
}
