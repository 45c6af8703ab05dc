//! Rows of mail that comes in and goes on: received, delivered, relayed, queued for a dead host and drained.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use test_support::harness::program;
use test_support::{Patience, clients, wait_for};

use super::ours::Ours;
use super::postfix::{self, Postfix};
use super::report::{Metric, Unit, metric, shown};
use super::{Round, Row, Server, Side, count};

/// The lines that both servers share.
const COMMON: &str = "smtpd_client_connection_count_limit = 0\nvirtual_mailbox_domains = load.example\nvirtual_minimum_uid = 1\n\
    virtual_uid_maps = static:65534\nvirtual_gid_maps = static:65534\nmessage_size_limit = 20480000\n";
const ONE_MAILBOX: &str =
    "virtual_transport = virtual\nvirtual_mailbox_maps = inline:{user@load.example=user/Maildir/}\n";
/// A recipient whose mail goes elsewhere.
const NO_MAILBOX: &str = "virtual_mailbox_maps = inline:{user@load.example=user/Maildir/}\n";
/// Recipients of the message to many.
const MANY: usize = 100;
/// How long the slowest phase may take.
const PATIENCE: Patience = Patience(Duration::from_secs(600));

/// A server that takes mail and says in its log when a message has left its queue.
pub trait Mta: Server {
    /// Messages that have left the queue since the start.
    fn removed(&mut self) -> usize;
    /// Runs one of its tools.
    fn tool(&self, name: &str, arguments: &[&str]) -> Result<(), String>;
}

pub fn rows() -> Vec<Row> {
    const fn both(first: f64, goal: f64, first_cpu: f64, goal_cpu: f64) -> [Metric; 2] {
        [
            metric("messages per second", Unit::PerSecond, first, goal),
            metric("CPU s per 1,000", Unit::Cpu, first_cpu, goal_cpu),
        ]
    }
    const RECEIVE: [Metric; 2] = both(3.0, 5.0, 4.0, 8.0);
    const RECEIVE_JUDGED: [Metric; 2] = both(2.0, 4.0, 3.0, 6.0);
    const RECEIVE_ONE: [Metric; 2] = both(1.0, 1.5, 1.0, 5.0);
    const RECEIVE_LARGE: [Metric; 2] = both(1.5, 2.0, 1.5, 4.0);
    const END_TO_END: [Metric; 2] = both(2.0, 3.0, 2.0, 4.0);
    const TO_MANY: [Metric; 2] =
        [metric("deliveries per second", Unit::PerSecond, 1.0, 2.0), shown("CPU s per 1,000", Unit::Cpu)];
    const WORKERS: [Metric; 2] =
        [metric("deliveries per second", Unit::PerSecond, 1.2, 1.5), shown("CPU s per 1,000", Unit::Cpu)];
    const RELAY: [Metric; 2] = both(3.0, 5.0, 4.0, 8.0);
    const DRAIN: [Metric; 4] = [
        metric("messages per second", Unit::PerSecond, 1.5, 3.0),
        shown("CPU s per 1,000", Unit::Cpu),
        metric("memory with the queue full, KiB", Unit::Kib, 2.0, 3.0),
        metric("mailq, ms", Unit::Milliseconds, 4.0, 8.0),
    ];
    let row = |name, metrics, round| Row { name, metrics, round };
    vec![
        row("receive, 20 sessions", &RECEIVE, |scale, side| receive(side, "20", 4_096, scale.messages)),
        row("receive through full restriction lists", &RECEIVE_JUDGED, |scale, side| judged(side, scale.messages)),
        row("receive, 1 session", &RECEIVE_ONE, |scale, side| receive(side, "1", 4_096, scale.messages / 5)),
        row("receive 5 MiB", &RECEIVE_LARGE, |scale, side| receive(side, "4", 5 << 20, scale.messages / 50)),
        row("end to end to a Maildir", &END_TO_END, |scale, side| end_to_end(side, scale.messages)),
        row("one message to 100 users", &TO_MANY, |scale, side| to_many(side, scale.messages / 100)),
        row("relay", &RELAY, |scale, side| relay(side, scale.messages)),
        row("two local-delivery workers of one process each, beside one of ours", &WORKERS, |scale, side| {
            workers(side, scale.messages / 50)
        }),
        row("queued for a dead host, then drained", &DRAIN, |scale, side| drain(side, scale.messages * 4)),
    ]
}

fn start(side: Side, lines: &str) -> Result<Option<Box<dyn Mta>>, String> {
    let lines = format!("{COMMON}{lines}");
    Ok(match side {
        Side::Ours => Some(Box::new(Ours::smtp(&lines, None)?)),
        Side::Reference => Postfix::start(&lines)?.map(|postfix| Box::new(postfix) as Box<dyn Mta>),
    })
}

/// To the last reply; what happens behind it counts as CPU.
fn receive(side: Side, sessions: &str, octets: usize, messages: usize) -> Round {
    let Some(mut server) = start(side, &format!("{NO_MAILBOX}virtual_transport = discard:load\n"))? else {
        return Ok(None);
    };
    let before = server.cpu();
    let seconds = send(server.address(), &["-s", sessions, "-l", &octets.to_string()], messages)?;
    wait_until_removed(server.as_mut(), messages)?;
    Ok(Some(rate_and_cpu(server.as_ref(), before, seconds, messages)))
}

/// Lists as a careful administrator writes them: every stage, tables of all kinds, a class; no name server and no service is asked.
const JUDGED: &str = "smtpd_helo_required = yes\nsmtpd_restriction_classes = guarded\n\
    guarded = check_sender_access inline:{ {bad.example = REJECT} }, reject_unlisted_recipient, reject_unauth_pipelining\n\
    smtpd_client_restrictions = check_client_access cidr:{ {192.0.2.0/24 REJECT} {198.51.100.0/24 450 later} }, reject_unauth_pipelining\n\
    smtpd_helo_restrictions = check_helo_access inline:{ {bad.example = REJECT} {localhost = DUNNO} }, reject_invalid_helo_hostname\n\
    smtpd_sender_restrictions = check_sender_access inline:{ {spam@bad.example = REJECT} {bad.example = 550 no} {<> = DUNNO} }, \
    check_sender_access regexp:{ {/^(noreply|bounce).*@bad\\.example$$/ REJECT} }, reject_non_fqdn_sender\n\
    smtpd_relay_restrictions = reject_unauth_destination\n\
    smtpd_recipient_restrictions = check_recipient_access inline:{ {closed@load.example = REJECT} {guarded.example = REJECT} {load.example = guarded} }, \
    reject_non_fqdn_recipient, permit_mynetworks, reject\nsmtpd_data_restrictions = reject_multi_recipient_bounce\n";

/// As [`receive`], with every recipient judged by those lists.
fn judged(side: Side, messages: usize) -> Round {
    let Some(mut server) = start(side, &format!("{NO_MAILBOX}virtual_transport = discard:load\n{JUDGED}"))? else {
        return Ok(None);
    };
    let before = server.cpu();
    let arguments = ["-s", "20", "-l", "4096", "-M", "client.example"];
    let seconds = send(server.address(), &arguments, messages)?;
    wait_until_removed(server.as_mut(), messages)?;
    Ok(Some(rate_and_cpu(server.as_ref(), before, seconds, messages)))
}

/// To the last delivery.
fn end_to_end(side: Side, messages: usize) -> Round {
    let Some(mut server) = start(side, ONE_MAILBOX)? else { return Ok(None) };
    let (before, began) = (server.cpu(), Instant::now());
    send(server.address(), &["-s", "20", "-l", "4096"], messages)?;
    wait_until_removed(server.as_mut(), messages)?;
    Ok(Some(rate_and_cpu(server.as_ref(), before, began.elapsed().as_secs_f64(), messages)))
}

fn to_many(side: Side, messages: usize) -> Round {
    let Some(server) = start(side, &many_mailboxes())? else { return Ok(None) };
    deliver_to_many(server, messages).map(Some)
}

/// A load that is bound by what one worker may do at once, and waits for the disk: here the reference is our own server with one worker.
fn workers(side: Side, messages: usize) -> Round {
    let workers = (side == Side::Ours).then_some("local-delivery=2");
    let server = Ours::smtp(&format!("{COMMON}default_process_limit = 1\n{}", many_mailboxes()), workers)?;
    deliver_to_many(Box::new(server), messages).map(Some)
}

fn many_mailboxes() -> String {
    let users: Vec<String> = (0..=MANY).map(|n| format!("{n}user@load.example={n}/Maildir/")).collect();
    // smtp-source puts numbers before the address, but for one recipient.
    let users = users.join(" ");
    format!("virtual_transport = virtual\nvirtual_mailbox_maps = inline:{{user@load.example=user/Maildir/ {users}}}\n")
}

fn deliver_to_many(mut server: Box<dyn Mta>, messages: usize) -> Result<Vec<f64>, String> {
    let (before, began) = (server.cpu(), Instant::now());
    send(server.address(), &["-s", "1", "-l", "4096", "-r", &MANY.to_string()], messages)?;
    wait_until_removed(server.as_mut(), messages)?;
    Ok(rate_and_cpu(server.as_ref(), before, began.elapsed().as_secs_f64(), messages * MANY))
}

fn relay(side: Side, messages: usize) -> Round {
    let port = free_port()?;
    let _sink = Sink::start(port)?;
    let lines = format!("{NO_MAILBOX}virtual_transport = smtp:[127.0.0.1]:{}\n", port.port());
    let Some(mut server) = start(side, &lines)? else { return Ok(None) };
    let (before, began) = (server.cpu(), Instant::now());
    send(server.address(), &["-s", "20", "-l", "4096"], messages)?;
    wait_until_removed(server.as_mut(), messages)?;
    Ok(Some(rate_and_cpu(server.as_ref(), before, began.elapsed().as_secs_f64(), messages)))
}

fn drain(side: Side, messages: usize) -> Round {
    let port = free_port()?;
    let lines = format!("{NO_MAILBOX}virtual_transport = smtp:[127.0.0.1]:{}\n", port.port());
    let Some(mut server) = start(side, &lines)? else { return Ok(None) };
    send(server.address(), &["-s", "20", "-l", "4096"], messages)?;
    super::rest();
    let memory = server.memory();
    let asked = Instant::now();
    server.tool("postqueue", &["-p"])?;
    let mailq = asked.elapsed().as_secs_f64() * 1000.0;
    let _sink = Sink::start(port)?;
    let (before, began) = (server.cpu(), Instant::now());
    server.tool("postqueue", &["-f"])?;
    wait_until_removed(server.as_mut(), messages)?;
    let mut figures = rate_and_cpu(server.as_ref(), before, began.elapsed().as_secs_f64(), messages);
    figures.extend([memory, mailq]);
    Ok(Some(figures))
}

fn rate_and_cpu(server: &dyn Mta, before: f64, seconds: f64, items: usize) -> Vec<f64> {
    vec![count(items) / seconds, (server.cpu() - before) * 1000.0 / count(items)]
}

/// Sends with Postfix's smtp-source and gives the seconds to its last reply.
fn send(address: SocketAddr, arguments: &[&str], messages: usize) -> Result<f64, String> {
    let source = program("smtp-source").ok_or("smtp-source is not installed")?;
    let began = Instant::now();
    let status = Command::new(source)
        .arg("-4")
        .args(arguments)
        .args(["-m", &messages.to_string(), "-f", "sender@load.example", "-t", "user@load.example"])
        .arg(address.to_string())
        .status()
        .map_err(|error| format!("smtp-source: {error}"))?;
    if status.success() { Ok(began.elapsed().as_secs_f64()) } else { Err(format!("smtp-source: {status}")) }
}

fn wait_until_removed(server: &mut dyn Mta, messages: usize) -> Result<(), String> {
    wait_for("the queue to empty", PATIENCE, || (server.removed() >= messages).then_some(()))
}

fn free_port() -> Result<SocketAddr, String> {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).map_err(|error| error.to_string())
}

/// Postfix's smtp-sink: a host that takes everything.
struct Sink(Child);

impl Sink {
    fn start(address: SocketAddr) -> Result<Self, String> {
        let sink = program("smtp-sink").ok_or("smtp-sink is not installed")?;
        let user: &[&str] = if postfix::are_root() { &["-u", "nobody"] } else { &[] };
        let child = Command::new(sink)
            .args(user)
            .args(["-4", &address.to_string(), "1024"])
            .stdin(Stdio::null())
            .spawn()
            .map_err(|error| format!("smtp-sink: {error}"))?;
        let sink = Self(child);
        wait_for("smtp-sink", Patience::default(), || clients::greets(address).then_some(()))?;
        Ok(sink)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Counts the `removed` lines of a log as it grows.
pub struct Removed {
    path: PathBuf,
    at: u64,
    seen: usize,
}

impl Removed {
    pub const fn in_log(path: PathBuf) -> Self {
        Self { path, at: 0, seen: 0 }
    }

    pub fn count(&mut self) -> usize {
        let mut text = Vec::new();
        let read = File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.at))?;
            file.read_to_end(&mut text)
        });
        if read.is_ok() {
            // Half a line is left for the next look.
            let whole = text.iter().rposition(|octet| *octet == b'\n').map_or(0, |at| at + 1);
            self.at += u64::try_from(whole).unwrap_or(0);
            self.seen +=
                text[..whole].split(|octet| *octet == b'\n').filter(|line| line.ends_with(b": removed")).count();
        }
        self.seen
    }
}
