//! Many sessions at once, slow peers, and floods: what each costs, and that nobody else notices.
//!
//! `POSTRIDER_TEST_IMAP_SESSIONS` sets how many sessions over TLS idle at once, ten for each user. Without it there are 5,000 in CI, which a debug
//! build makes in some twenty seconds on two processors, and 500 elsewhere. Each takes a descriptor in the test and two in imapd's front: there are
//! no more than the hard limit allows.

use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use test_support::clients::{Imap, Security};
use test_support::{Builder, Patience, System, binaries, wait_for};

use super::dialogue::{Raw, check};
use super::session::Session;

/// How long somebody who comes while all others are there may wait for the greeting.
const AT_ONCE: Duration = Duration::from_secs(2);
/// So many newcomers are timed; the machine may stop for a moment, so the best of them counts.
const NEWCOMERS: usize = 5;
/// Sessions of one user from one address (`mail_max_userip_connections`).
const PER_USER: usize = 10;

fn wanted_sessions() -> usize {
    let wanted = std::env::var("POSTRIDER_TEST_IMAP_SESSIONS").ok().and_then(|text| text.parse().ok());
    let usual = if std::env::var("CI").is_ok_and(|value| value == "true") { 5_000 } else { 500 };
    wanted.unwrap_or(usual).min(descriptors().saturating_sub(1_000) / 2).max(PER_USER)
}

/// How many descriptors a process may have; this one takes all of them.
fn descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    limit.maximum.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX))
}

pub fn thousands_idle_and_a_new_one_is_greeted() -> Result<(), String> {
    let sessions = wanted_sessions();
    let users = sessions.div_ceil(PER_USER);
    let mut builder = Builder::new("info.net");
    for user in 0..users {
        builder = builder.user(&format!("u{user}"), "secret");
    }
    let system = builder.start()?;
    let began = Instant::now();
    let mut idling = idle_in_parallel(&system, sessions)?;
    eprintln!("{sessions} sessions of {users} users idle after {:.1?}", began.elapsed());
    let rss: u64 = system.pids_of("imapd").iter().map(|pid| memory(*pid).own).sum();
    eprintln!(
        "imapd: {} processes, {} KiB of their own, {} KiB a session",
        system.pids_of("imapd").len(),
        rss,
        rss / sessions as u64
    );
    // Somebody new is greeted and logged in at once.
    let visits = (0..NEWCOMERS).map(|_| a_new_one(&system).map_err(|error| error.to_string()));
    let visits: Vec<(Duration, Duration)> = visits.collect::<Result<_, String>>()?;
    let at_once = visits.iter().any(|(greeted, served)| *greeted < AT_ONCE && *served < 2 * AT_ONCE);
    check(at_once, || format!("greetings, and login with SELECT, took {visits:?}"))?;
    // An eleventh session of a user from the same address is refused, and says why.
    let mut more = Imap::connect(system.ports.at(system.ports.imaps), Security::Tls).map_err(|e| e.to_string())?;
    let refused = more.login("u0", "secret").err().map(|error| error.to_string()).unwrap_or_default();
    check(refused.contains("Maximum number of connections"), || format!("one session more: {refused}"))?;
    // All of them are still there and answer.
    for (number, session) in idling.iter_mut().enumerate().step_by(sessions.div_ceil(50)) {
        session.lines.say("DONE").map_err(|error| format!("session {number}: {error}"))?;
        let mut heard = session.lines.hear().map_err(|error| format!("session {number}: {error}"))?;
        // Who waits for long is told now and then that we are still here.
        while heard.starts_with("* ") {
            heard = session.lines.hear().map_err(|error| format!("session {number}: {error}"))?;
        }
        check(heard.contains("OK Idle"), || format!("session {number}: {heard}"))?;
    }
    Ok(())
}

/// A visit of somebody new: how soon the greeting came, and how soon the mailbox was open.
fn a_new_one(system: &System) -> std::io::Result<(Duration, Duration)> {
    let began = Instant::now();
    let mut new = Imap::connect(system.ports.at(system.ports.imaps), Security::Tls)?;
    let greeted = began.elapsed();
    new.login("mary", "secret")?;
    new.command("SELECT INBOX")?;
    let served = began.elapsed();
    new.command("LOGOUT")?;
    Ok((greeted, served))
}

/// Sessions that are in IDLE, made by two threads.
fn idle_in_parallel(system: &System, sessions: usize) -> Result<Vec<Imap>, String> {
    let address = system.ports.at(system.ports.imaps);
    let idle = |number: usize| {
        let mut session = Imap::connect(address, Security::Tls)?;
        session.login(&format!("u{}", number / PER_USER), "secret")?;
        session.command("SELECT INBOX")?;
        session.lines.say("i IDLE")?;
        session.lines.hear()?;
        Ok(session)
    };
    let make = |first: usize| {
        let all = (first..sessions)
            .step_by(2)
            .map(|number| idle(number).map_err(|error: std::io::Error| format!("session {number}: {error}")));
        all.collect::<Result<Vec<Imap>, String>>()
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| make(1));
        let mut made = make(0)?;
        made.extend(other.join().map_err(|_| "a client panicked")??);
        Ok(made)
    })
}

/// What a process holds in memory, in KiB.
struct Memory {
    /// Resident.
    resident: u64,
    /// Not shared with another process.
    own: u64,
}

fn memory(pid: u32) -> Memory {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let sum = |names: &[&str]| {
        let lines = text.lines().filter(|line| names.iter().any(|name| line.starts_with(name)));
        lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum()
    };
    Memory { resident: sum(&["Rss:"]), own: sum(&["Private_Clean:", "Private_Dirty:"]) }
}

/// R10: 64 MiB of rubbish before login, on lines, in literals, in TLS, to either daemon.
pub fn rubbish_before_login_fills_no_memory() -> Result<(), String> {
    let system = Builder::new("info.net").start()?;
    let ports = system.ports;
    let rubbish: [(&str, u16, Security, &str, Vec<u8>); 5] = [
        ("imapd", ports.imap, Security::Clear, "no line end", vec![b'x'; 64 * 1024]),
        (
            "imapd",
            ports.imap,
            Security::Clear,
            "a literal",
            b"a LOGIN {67108864+}\r\n".iter().copied().cycle().take(64 * 1024).collect(),
        ),
        ("imapd", ports.imaps, Security::Tls, "TLS, no line end", vec![b'('; 64 * 1024]),
        ("pop3d", ports.pop3, Security::Clear, "no line end", vec![b'x'; 64 * 1024]),
        ("pop3d", ports.pop3s, Security::Tls, "TLS, NULs", vec![0; 64 * 1024]),
    ];
    for (daemon, port, security, what, chunk) in rubbish {
        let resident = || system.pids_of(daemon).iter().map(|pid| memory(*pid).resident).max().unwrap_or(0);
        let before = resident();
        // Who is hung up on comes again, until 64 MiB have been sent.
        let (mut sent, mut most) = (0, 0);
        while sent < 1024 {
            let mut raw = Raw::connect(ports.at(port), security, "rubbish")?;
            while sent < 1024 && raw.try_send(&chunk) {
                sent += 1;
                if sent % 128 == 0 {
                    most = most.max(resident());
                }
            }
            sent += 1;
        }
        let grown = most.max(resident()).saturating_sub(before);
        check(grown < 32 * 1024, || format!("{daemon}, {what}: {grown} KiB more"))?;
    }
    Ok(())
}

/// A peer that reads or writes slowly costs its own connection: the others of the same user go on, and so do all other users.
pub fn slow_peers_cost_one_connection_each() -> Result<(), String> {
    let system = Builder::new("info.net").start()?;
    let mut john = Session::login_to_work(&system, "john", "the sender")?;
    let message = format!("Subject: large\r\n\r\n{}", "0123456789abcdef0123456789abcdef\r\n".repeat(600_000));
    john.ok(&format!("APPEND INBOX {{{}+}}\r\n{message}", message.len()))?;
    let mut slow = Vec::new();
    // Eight readers that take nothing: each has asked for more than all buffers on the way hold.
    for _ in 0..8 {
        let mut reader =
            Imap::connect(system.ports.at(system.ports.imap), Security::Clear).map_err(|e| e.to_string())?;
        reader.login("john", "secret").map_err(|error| error.to_string())?;
        reader.command("SELECT INBOX").map_err(|error| error.to_string())?;
        reader.lines.say("s FETCH 1 (BODY.PEEK[] BODY.PEEK[TEXT] BODY.PEEK[1])").map_err(|error| error.to_string())?;
        slow.push(reader);
    }
    // A writer that has announced a message and sends an octet of it.
    let mut writer = Imap::connect(system.ports.at(system.ports.imap), Security::Clear).map_err(|e| e.to_string())?;
    writer.login("john", "secret").map_err(|error| error.to_string())?;
    writer.lines.send(b"w APPEND INBOX {1000000+}\r\nx").map_err(|error| error.to_string())?;
    slow.push(writer);
    let began = Instant::now();
    john.ok("SELECT INBOX")?;
    john.ok("FETCH 1 (ENVELOPE BODYSTRUCTURE BODY.PEEK[]<1000000.1000>)")?;
    let mut mary = Session::login_to_work(&system, "mary", "another user")?;
    mary.ok("SELECT INBOX")?;
    mary.ok(&format!("APPEND INBOX {{{}+}}\r\n{message}", message.len()))?;
    let took = began.elapsed();
    // Whoever waited for them would wait until they are given up, which takes minutes.
    check(took < Duration::from_secs(60), || format!("beside slow peers it took {took:?}"))?;
    // Their memory is bounded, whatever they asked for: here some 500 MiB.
    let most = system.pids_of("imapd").iter().map(|pid| memory(*pid).own).max().unwrap_or(0);
    check(most < 100 * 1024, || format!("a process holds {most} KiB for slow readers"))?;
    // And one of them, reading at last, gets all of it.
    let mut reader = slow.swap_remove(0);
    let mut heard = 0;
    loop {
        let line = reader.lines.line().map_err(|error| error.to_string())?;
        heard += line.len();
        if line.starts_with(b"s ") {
            break;
        }
    }
    check(heard > 3 * message.len() - 100, || format!("the slow reader got {heard} octets"))
}

/// All descriptors, or all places, of the front are taken by silent connections: the oldest of them makes room for who comes, and who has logged
/// in stays.
pub fn descriptor_exhaustion_is_survived() -> Result<(), String> {
    let mut few_descriptors = Builder::new("info.net").prepare()?;
    limit_descriptors(&few_descriptors, "imapd", 100).map_err(|error| error.to_string())?;
    few_descriptors.start()?;
    a_newcomer_gets_in(&few_descriptors)?;
    drop(few_descriptors);
    a_newcomer_gets_in(&Builder::new("info.net").main_cf("postrider_session_limit = 60").start()?)
}

fn a_newcomer_gets_in(system: &System) -> Result<(), String> {
    let mut john = Session::login(system, "john", "the one who was there")?;
    let address = system.ports.at(system.ports.imap);
    let silent: Vec<_> = (0..150).map_while(|_| std::net::TcpStream::connect(address).ok()).collect();
    check(silent.len() > 100, || format!("only {} silent connections", silent.len()))?;
    john.ok("SELECT INBOX")?;
    let mut last = String::new();
    let mary = wait_for("a login during the flood", Patience::default(), || {
        Session::login(system, "mary", "a newcomer").map_err(|error| last = error).ok()
    });
    let mut mary = mary.map_err(|error| format!("{error}: {last}\n{}", system.log("imapd")))?;
    mary.ok("SELECT INBOX")?;
    john.ok("NOOP")?;
    system.wait_for_line("imapd", &["Connection queue full"]).map(drop)
}

/// Puts a script in a daemon's place that starts it with so many descriptors.
fn limit_descriptors(system: &System, daemon: &str, limit: u32) -> std::io::Result<()> {
    let bin = system.root().join("bin");
    let real = bin.join("limited");
    std::fs::create_dir(&real)?;
    std::fs::rename(bin.join(daemon), real.join(daemon))?;
    let script = format!("#!/bin/sh\nulimit -n {limit}\nexec {}/{daemon} \"$@\"\n", real.display());
    binaries::script(&bin.join(daemon), &script)
}
