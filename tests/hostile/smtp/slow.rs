//! Many and slow clients: thousands that idle, some that never read or write by the octet, floods of rubbish, and no descriptors left. Whoever comes
//! new is served at once, and memory stays bounded.
//!
//! `POSTRIDER_IDLE_SESSIONS` (5000) says how many sessions idle, `POSTRIDER_RUBBISH_MIB` (64) how much rubbish each kind of flood sends.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use test_support::clients::{Lines, Security, Smtp};
use test_support::harness::{Test, test};
use test_support::{Builder, Patience, System, binaries, wait_for};

use super::{ensure, wrong};

pub fn tests() -> Vec<Test> {
    vec![
        // R10
        test("5,000 idle sessions, slow readers and slow writers cost a new client nothing", &[], crowd),
        // R10
        test("rubbish before login takes no memory", &[], rubbish),
        test("without descriptors left others are told to wait, and it heals by itself", &[], descriptors),
    ]
}

/// Memory that one idle session may take, with its sockets' share of ours, in a debug build.
const OCTETS_PER_SESSION: u64 = 40 * 1024;
/// How fast a new client must hear its greeting.
const AT_ONCE: Duration = Duration::from_secs(2);

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn start() -> Result<System, String> {
    // This process holds the other end of every connection.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
        .map_err(|e| e.to_string())?;
    Builder::new("crowd.example").main_cf("smtpd_client_connection_count_limit = 0").start()
}

/// The largest of a daemon's processes: the one that parses.
fn front(system: &System) -> Result<u32, String> {
    let pids = system.pids_of("smtpd");
    pids.into_iter().max_by_key(|&pid| memory(pid, "VmRSS").unwrap_or(0)).ok_or_else(|| "smtpd does not run".to_owned())
}

/// A line of /proc/PID/status in octets.
fn memory(pid: u32, name: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// A new client sends a message, and is greeted at once. The machine may stop for a moment: one of several is greeted at once.
fn new_client(system: &System) -> Result<Duration, String> {
    let mut waited = Vec::new();
    while waited.len() < 5 {
        let began = Instant::now();
        let mut smtp = Smtp::connect(system.ports.at(system.ports.smtp), Security::Clear).map_err(wrong)?;
        let greeted = began.elapsed();
        smtp.send("mary@crowd.example", &["john@crowd.example"], "Subject: new\r\n\r\nhello").map_err(wrong)?;
        if greeted < AT_ONCE {
            return Ok(greeted);
        }
        waited.push(greeted);
    }
    Err(format!("new clients waited {waited:?} for their greeting"))
}

fn crowd() -> Result<(), String> {
    let system = start()?;
    let address = system.ports.at(system.ports.smtp);
    new_client(&system)?;
    let pid = front(&system)?;
    let before = memory(pid, "VmRSS").ok_or("no memory")?;
    // Both ends of each connection need a descriptor, in a process each.
    let most =
        getrlimit(Resource::Nofile).current.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let count = number("POSTRIDER_IDLE_SESSIONS", 5000).min(most.saturating_sub(500));
    let mut idle = Vec::new();
    for number in 0..count {
        let smtp = Smtp::connect(address, Security::Clear).map_err(|error| format!("session {number}: {error}"))?;
        idle.push(smtp);
    }
    let grown = memory(pid, "VmRSS").ok_or("no memory")?.saturating_sub(before);
    let each = grown / u64::try_from(count).unwrap_or(1).max(1);
    let greeted = new_client(&system)?;
    eprintln!("{count} idle sessions: {each} octets each, a new client greeted after {greeted:?}");
    ensure(each < OCTETS_PER_SESSION, || format!("{each} octets for each idle session"))?;
    slow_ones(&system)?;
    // Everybody is still there.
    for smtp in idle.iter_mut().step_by(97) {
        smtp.command("NOOP", 2).map_err(wrong)?;
    }
    new_client(&system).map(drop)
}

/// Clients that never read what they asked for, and clients that write by the octet, beside one that works.
fn slow_ones(system: &System) -> Result<(), String> {
    let address = system.ports.at(system.ports.smtp);
    let mut deaf = Vec::new();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(address).map_err(wrong)?;
        stream.set_nonblocking(true).map_err(wrong)?;
        let question = b"EHLO deaf.example\r\n".repeat(1000);
        // Until neither our buffers nor theirs take more: a session that is not read is not read from.
        let mut sent = 0;
        while sent < 20_000_000 {
            match stream.write(&question) {
                Ok(count) => sent += count,
                Err(_) => break,
            }
        }
        deaf.push(stream);
    }
    let mut dripping =
        (0..20).map(|_| Lines::connect(address, Security::Clear)).collect::<Result<Vec<_>, _>>().map_err(wrong)?;
    for _ in 0..20 {
        dripping.iter_mut().try_for_each(|lines| lines.send(b"E")).map_err(wrong)?;
        new_client(system)?;
    }
    Ok(())
}

fn rubbish() -> Result<(), String> {
    let system = start()?;
    let address = system.ports.at(system.ports.smtp);
    let tls = system.ports.at(system.ports.submissions);
    new_client(&system)?;
    let octets = number("POSTRIDER_RUBBISH_MIB", 64) * 1024 * 1024;
    let login = "AUTH PLAIN\r\n";
    let floods: [(&str, Option<&str>, Vec<u8>); 6] = [
        ("a line without end", None, vec![b'x'; 64 * 1024]),
        ("octets of zero", None, vec![0; 64 * 1024]),
        ("greetings that are not read", None, b"EHLO a.example\r\n".repeat(4096)),
        ("folded nonsense", None, b" \r\n\t".repeat(16 * 1024)),
        ("a SASL response without end", Some(login), vec![b'A'; 64 * 1024]),
        ("a recipient without end", Some("MAIL FROM:<>\r\n"), [b"RCPT TO:<".as_slice(), &[b'"'; 60_000]].concat()),
    ];
    for (name, first, piece) in floods {
        let pid = front(&system)?;
        // 5 resets the peak (proc(5)).
        std::fs::write(format!("/proc/{pid}/clear_refs"), "5").map_err(wrong)?;
        let before = memory(pid, "VmRSS").ok_or("no memory")?;
        let (address, security) = if first == Some(login) { (tls, Security::Tls) } else { (address, Security::Clear) };
        flood(address, security, first, &piece, octets).map_err(|error| format!("{name}: {error}"))?;
        new_client(&system).map_err(|error| format!("after {name}: {error}"))?;
        let grown = memory(pid, "VmHWM").ok_or("no memory")?.saturating_sub(before);
        eprintln!("{name}: {} KiB more at the peak", grown / 1024);
        ensure(grown < 32 * 1024 * 1024, || format!("{name}: memory grew by {grown} octets"))?;
        ensure(front(&system)? == pid, || format!("{name}: smtpd was restarted\n{}", system.logs()))?;
    }
    Ok(())
}

/// Sends rubbish until it is all sent, or nobody takes it any more.
fn flood(
    address: std::net::SocketAddr,
    security: Security,
    first: Option<&str>,
    piece: &[u8],
    octets: usize,
) -> Result<(), String> {
    let mut smtp = Smtp::connect(address, security).map_err(wrong)?;
    let socket = smtp.lines.socket();
    socket.set_write_timeout(Some(Duration::from_secs(5))).map_err(wrong)?;
    if let Some(first) = first {
        smtp.lines.send(first.as_bytes()).map_err(wrong)?;
        smtp.reply().map_err(wrong)?;
    }
    let mut sent = 0;
    while sent < octets && smtp.lines.send(piece).is_ok() {
        sent += piece.len();
    }
    Ok(())
}

fn descriptors() -> Result<(), String> {
    let mut system = Builder::new("crowd.example").main_cf("smtpd_client_connection_count_limit = 0").prepare()?;
    let program = system.root().join("bin/smtpd");
    let real = system.root().join("bin/smtpd-itself");
    std::fs::rename(&program, &real).map_err(wrong)?;
    let script = format!("#!/bin/sh\nulimit -n 80\nexec {} \"$@\"\n", real.display());
    binaries::script(&program, &script).map_err(wrong)?;
    system.start()?;
    let address = system.ports.at(system.ports.smtp);
    new_client(&system)?;
    let mut crowd = Vec::new();
    for _ in 0..100 {
        let mut lines = Lines::connect(address, Security::Clear).map_err(wrong)?;
        let greeting = lines.hear().map_err(wrong)?;
        crowd.push((lines, greeting));
    }
    let busy = crowd.iter().filter(|(_, greeting)| greeting.starts_with("421 4.3.2 ")).count();
    let greeted = crowd.iter().filter(|(_, greeting)| greeting.starts_with("220 ")).count();
    ensure(busy >= 30 && greeted >= 5 && busy + greeted == 100, || format!("{greeted} greeted, {busy} told to wait"))?;
    // Those who are in can work: their message needs descriptors too.
    let at = crowd.iter().position(|(_, greeting)| greeting.starts_with("220 ")).unwrap_or(0);
    let (lines, _) = crowd.swap_remove(at);
    let mut smtp = Smtp { lines };
    smtp.command("EHLO inside.example", 2).map_err(wrong)?;
    let long = format!("Subject: long\r\n\r\n{}", "0123456789abcdef\r\n".repeat(20_000));
    smtp.send("mary@crowd.example", &["john@crowd.example"], &long).map_err(wrong)?;
    drop(crowd);
    drop(smtp);
    wait_for("a greeting after the crowd has gone", Patience::default(), || new_client(&system).ok()).map(drop)
}
