//! The system that is killed: mail for its own users and for another server, retried at once; and how it is seen to be back.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use test_support::clients::{Imap, Pop3, Security};
use test_support::{Builder, Patience, System, system, wait_for};

use crate::load::{Load, Mailboxes};
use crate::sink::Sink;

/// The daemons that are killed in turn.
pub const DAEMONS: &[&str] =
    &["queue-manager", "local-delivery", "remote-delivery", "smtpd", "authd", "imapd", "pop3d"];

/// A number from the environment, or CI's.
pub fn rounds(variable: &str, otherwise: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// A system whose mail for `far.example` goes to the sink.
pub fn builder(sink: &Sink) -> Builder {
    // A delivery that met a dead daemon is deferred; here it waits for a second, not for minutes.
    let lines = format!(
        "transport_maps = inline:{{far.example=smtp:[{}]:{}}}\nsmtpd_client_connection_count_limit = 0\n\
         minimal_backoff_time = 1s\nmaximal_backoff_time = 1s\nqueue_run_delay = 1s\n",
        sink.address.ip(),
        sink.address.port()
    );
    Builder::new("crash.example").main_cf(&lines)
}

/// Kills every process of a daemon, once it runs.
pub fn kill(system: &System, daemon: &str) -> Result<(), String> {
    let pids = wait_for(&format!("{daemon} to run"), Patience::default(), || {
        Some(system.pids_of(daemon)).filter(|pids| !pids.is_empty())
    });
    let pids = pids.map_err(|error| format!("{error}\n{}", system.logs()))?;
    pids.into_iter().for_each(|pid| system::signal(pid, Signal::KILL));
    Ok(())
}

/// Waits until what the daemon does for people works again; how long that took from the kill.
pub fn is_back(system: &System, daemon: &str, load: &Load, sink: &Sink, killed: Instant) -> Result<Duration, String> {
    let left = Patience::default;
    let doors: &[&str] = if daemon == "all" { DAEMONS } else { &[daemon] };
    for door in doors {
        let worked = match *door {
            "imapd" | "authd" => wait_for("a login with IMAP", left(), || imap(system)),
            "pop3d" => wait_for("a login with POP3", left(), || pop3(system)),
            "remote-delivery" => mail_passes(load, left, |number| sink.has(number), true),
            _ => {
                let mut mailboxes = Mailboxes::default();
                mail_passes(load, left, |number| mailboxes.count(system).contains_key(&number), false)
            }
        };
        worked.map_err(|error| format!("{door} is not back: {error}\n{}", system.logs()))?;
    }
    Ok(killed.elapsed())
}

fn mail_passes(
    load: &Load,
    left: impl Fn() -> Patience,
    mut arrived: impl FnMut(u32) -> bool,
    far: bool,
) -> Result<(), String> {
    let number = wait_for("an acknowledged message", left(), || load.send_one(far, "").ok())?;
    wait_for(&format!("message {number}"), left(), || arrived(number).then_some(()))
}

fn imap(system: &System) -> Option<()> {
    let mut imap = Imap::connect(system.ports.at(system.ports.imaps), Security::Tls).ok()?;
    imap.login("john", "secret").ok()?;
    imap.command("SELECT INBOX").ok().map(drop)
}

fn pop3(system: &System) -> Option<()> {
    let mut pop3 = Pop3::connect(system.ports.at(system.ports.pop3s), Security::Tls).ok()?;
    pop3.login("john", "secret").ok()
}

/// Makes a directory for the named points that the system's user may change.
pub fn points_directory(path: &Path) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt as _;
    let made =
        std::fs::create_dir(path).and_then(|()| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)));
    made.map_err(|error| format!("{}: {error}", path.display()))
}
