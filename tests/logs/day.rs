//! A day of traffic against the real daemons, counted by fail2ban and pflogsumm in each of the forms that a log may have.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use test_support::dns::Dns;
use test_support::{Patience, System, free_port, wait_for};

use crate::readers::{Totals, fail2ban, jails, pflogsumm};
use crate::traffic::{Round, Truth, builder, remote};

/// From here the harness knocks at the ports until they answer.
const HARNESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn rounds() -> u8 {
    std::env::var("POSTRIDER_LOG_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(3)
}

pub fn is_counted_right() -> Result<(), String> {
    let wrong = |error: std::io::Error| error.to_string();
    let dns = Dns::start().map_err(wrong)?;
    let remote = remote().map_err(wrong)?;
    let closed = (Ipv4Addr::LOCALHOST, free_port(Ipv4Addr::LOCALHOST).map_err(wrong)?).into();
    let files = "maillog_file = {root}/log/maillog";
    let mut system = builder(remote, closed, &dns).main_cf(files).dovecot("log_path = {root}/log/dovecot").start()?;
    let mut truth = Truth::default();
    for number in 0..rounds() {
        let round = Round::new(&system, &mut truth, number).run();
        round.map_err(|error| format!("{error}\n{}", system.logs()))?;
    }
    finished(&system, &truth.totals)?;
    truth.is_logged(&system)?;
    system.stop()?;
    counted(&system, truth).map_err(|error| format!("{error}\n{}", system.logs()))
}

/// Waits until every recipient has come to the end that it must come to.
fn finished(system: &System, totals: &Totals) -> Result<(), String> {
    let wanted = [("sent", totals.delivered), ("bounced", totals.bounced), ("deferred", totals.deferrals)];
    wait_for("the end of every delivery", Patience::default(), || {
        let logs = system.logs();
        let count = |status: &str| logs.matches(&format!("status={status} (")).count();
        // The lines stand in the own logs and in maillog.
        wanted.iter().all(|(status, number)| count(status) >= 2 * *number as usize).then_some(())
    })
    .map_err(|error| format!("{error}: {totals:?}\n{}", system.logs()))
}

fn counted(system: &System, truth: Truth) -> Result<(), String> {
    let log = |name: &str| system.root().join("log").join(name);
    let own = merged(system).map_err(|error| error.to_string())?;
    let (maillog, dovecot) = (log("maillog"), log("dovecot"));
    // What fail2ban's journal backend hands to a filter: HOST IDENT[PID]: TEXT behind the time, as in our own log.
    let journal = &own;
    for file in [&own, &maillog] {
        let totals = pflogsumm(file)?;
        if totals != truth.totals {
            return Err(format!("pflogsumm over {}: {totals:?}, but it was {:?}", file.display(), truth.totals));
        }
    }
    let sum = |parts: &[&Vec<IpAddr>]| {
        let mut all: Vec<IpAddr> = parts.iter().copied().flatten().copied().collect();
        all.sort_unstable();
        all
    };
    let Truth { refused, listed, errors, logins, nothing, mailbox_logins, mailbox_nothing, .. } = &truth;
    let expected: [(&str, &Path, &str, Vec<IpAddr>); 17] = [
        ("normal", &own, "postfix[mode=normal]", sum(&[refused])),
        ("more", &own, "postfix[mode=more]", sum(&[refused])),
        ("auth", &own, "postfix[mode=auth]", sum(&[logins])),
        ("extra", &own, "postfix[mode=extra]", sum(&[refused, logins])),
        ("ddos", &own, "postfix[mode=ddos]", sum(&[nothing])),
        ("errors", &own, "postfix[mode=errors]", sum(&[errors])),
        ("rbl", &own, "postfix[mode=rbl]", sum(&[listed])),
        ("aggressive", &own, "postfix[mode=aggressive]", sum(&[refused, logins, nothing])),
        ("dovecot", &own, "dovecot[mode=normal]", sum(&[mailbox_logins])),
        ("dovecot aggressive", &own, "dovecot[mode=aggressive]", sum(&[mailbox_logins, mailbox_nothing])),
        ("maillog_file", &maillog, "postfix[mode=aggressive]", sum(&[refused, logins, nothing])),
        ("maillog_file has no logins", &maillog, "dovecot[mode=normal]", Vec::new()),
        ("log_path", &dovecot, "dovecot[mode=normal]", sum(&[mailbox_logins])),
        ("log_path aggressive", &dovecot, "dovecot[mode=aggressive]", sum(&[mailbox_logins, mailbox_nothing])),
        ("journal", journal, "postfix[mode=extra,logtype=journal]", sum(&[refused, logins])),
        ("journal ddos", journal, "postfix[mode=ddos,logtype=journal]", sum(&[nothing])),
        ("journal dovecot", journal, "dovecot[mode=normal,logtype=journal]", sum(&[mailbox_logins])),
    ];
    for (name, file, filter, expected) in expected {
        let found = fail2ban(file, filter, HARNESS)?;
        if found != expected {
            return Err(format!("fail2ban, {name}: {found:?}, but it was {expected:?}"));
        }
    }
    Ok(())
}

/// All logs of the daemons' own in one file, in the order of their times.
fn merged(system: &System) -> std::io::Result<PathBuf> {
    let mut lines: Vec<String> = Vec::new();
    for entry in fs::read_dir(system.root().join("log"))?.flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "log") {
            lines.extend(fs::read_to_string(entry.path())?.lines().map(str::to_owned));
        }
    }
    lines.sort();
    let path = system.root().join("all");
    fs::write(&path, lines.join("\n") + "\n")?;
    Ok(path)
}

pub fn jails_are_understood() -> Result<(), String> {
    let wrong = |error: std::io::Error| error.to_string();
    let directory = tempfile::tempdir().map_err(wrong)?;
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../etc/fail2ban/jail.d/postrider.conf");
    let copy = |from: &Path, to: &str| {
        let status = std::process::Command::new("cp").arg("-r").arg(from).arg(directory.path().join(to)).status();
        status.map_err(wrong).and_then(|status| if status.success() { Ok(()) } else { Err("cp failed".to_owned()) })
    };
    copy(Path::new("/etc/fail2ban"), "f2b")?;
    copy(&ours, "f2b/jail.d/postrider.conf")?;
    let said = jails(&directory.path().join("f2b"))?;
    let units = ["smtpd", "imapd", "pop3d", "authd"].map(|unit| format!("_SYSTEMD_UNIT={unit}.service"));
    for wanted in units.iter().map(String::as_str).chain(["['add', 'postfix', 'systemd']", "['start', 'dovecot']"]) {
        if !said.contains(wanted) {
            return Err(format!("{wanted} is missing in:\n{said}"));
        }
    }
    Ok(())
}
