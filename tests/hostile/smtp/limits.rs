//! The limits per client and per session, with Postfix's names, on a system that has them set low. Each story is a client of its own address.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use test_support::clients::{Lines, Security, Smtp};
use test_support::harness::{Test, test};
use test_support::{Builder, Patience, System, free_port, wait_for};

use super::{ensure, wrong};

pub fn tests() -> Vec<Test> {
    vec![
        test("each client has its connections, its rate, and the others are not touched", &[], connections),
        test("rates of messages and recipients hold per client and spare the exceptions", &[], rates),
        // S10, Z01, S09
        test("limits of recipients, size and length of a line are told apart", &[], sizes),
        test("errors slow a client down and then end its session", &[], errors),
        // S11
        test("silence and trickling end with 421, after the time that is configured", &[], time),
    ]
}

const LIMITS: &str = "\
mynetworks = 127.0.0.1/32
smtpd_client_connection_count_limit = 3
smtpd_client_connection_rate_limit = 40
smtpd_client_message_rate_limit = 4
smtpd_client_recipient_rate_limit = 6
smtpd_recipient_limit = 2
smtpd_recipient_overshoot_limit = 3
smtpd_soft_error_limit = 2
smtpd_error_sleep_time = 1s
smtpd_hard_error_limit = 4
smtpd_junk_command_limit = 2
smtpd_timeout = 10s
smtpd_min_data_rate = 100000
line_length_limit = 200
message_size_limit = 5000";

const JOHN: &str = "RCPT TO:<john@limits.example>";
const FRIEND: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// Sessions of the port with a small maxproc.
const SEATS: usize = 5;

/// The system, and a port of it with few seats.
struct Limited {
    system: System,
    few_seats: u16,
}

impl std::ops::Deref for Limited {
    type Target = System;

    fn deref(&self) -> &System {
        &self.system
    }
}

static SYSTEM: Mutex<Option<Arc<Limited>>> = Mutex::new(None);

fn system() -> Result<Arc<Limited>, String> {
    let mut system = SYSTEM.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(system) = &*system {
        return Ok(Arc::clone(system));
    }
    let few_seats = free_port(FRIEND).map_err(wrong)?;
    let builder = Builder::new("limits.example").main_cf(LIMITS);
    let builder = builder.master_cf(&format!("127.0.0.1:{few_seats} inet n - n - {SEATS} smtpd"));
    let started = Arc::new(Limited { system: builder.start()?, few_seats });
    *system = Some(Arc::clone(&started));
    Ok(started)
}

/// Stops the system of these stories.
pub fn close() {
    drop(SYSTEM.lock().unwrap_or_else(PoisonError::into_inner).take());
}

fn client(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 3, last)
}

fn open(system: &System, client: Ipv4Addr) -> Result<Smtp, String> {
    Smtp::connect_from(client, system.ports.at(system.ports.smtp), Security::Clear).map_err(wrong)
}

/// The first line that a client hears on a port.
fn greeting(system: &System, port: u16, client: Ipv4Addr) -> Result<(Lines, String), String> {
    let mut lines = Lines::connect_from(client, system.ports.at(port), Security::Clear).map_err(wrong)?;
    let greeting = lines.hear().map_err(wrong)?;
    Ok((lines, greeting))
}

fn expect(smtp: &mut Smtp, command: &str, start: &str) -> Result<(), String> {
    smtp.lines.say(command).map_err(wrong)?;
    let (_, reply) = smtp.reply().map_err(|error| format!("{command}: {error}"))?;
    ensure(reply.starts_with(start), || format!("{command}: {reply}, expected {start}"))
}

fn connections() -> Result<(), String> {
    let system = system()?;
    let mut held = (0..3).map(|_| open(&system, client(2))).collect::<Result<Vec<_>, _>>()?;
    let (_, fourth) = greeting(&system, system.ports.smtp, client(2))?;
    ensure(fourth == "421 4.7.0 mail.limits.example Error: too many connections from 127.0.3.2", || fourth)?;
    let logged = "warning: Connection concurrency limit exceeded: 4 from unknown[127.0.3.2] for service ";
    let in_log =
        || system.log("smtpd").replace("localhost[127.0.3.2]", "unknown[127.0.3.2]").contains(logged).then_some(());
    wait_for("the warning", Patience::default(), in_log)
        .map_err(|error| format!("{error}\n{}", system.log("smtpd")))?;
    open(&system, client(3))?;
    let _friends = (0..6).map(|_| open(&system, FRIEND)).collect::<Result<Vec<_>, _>>()?;
    expect(&mut held[0], "QUIT", "221")?;
    held[0].lines.rest(10);
    // The line of the end is written with the last of the session; too many who look for the seat would meet the rate.
    system.wait_for_line("smtpd", &[": disconnect from", "[127.0.3.2]", "quit=1"])?;
    wait_for("a seat that became free", Patience::default(), || open(&system, client(2)).ok().map(drop))?;
    // Connections per unit of time, of a client that never has two.
    for number in 0..40 {
        let mut smtp = open(&system, client(4)).map_err(|error| format!("connection {number}: {error}"))?;
        expect(&mut smtp, "QUIT", "221")?;
        smtp.lines.rest(10);
    }
    let (_, next) = greeting(&system, system.ports.smtp, client(4))?;
    ensure(next.starts_with("421 4.7.0 "), || next)?;
    // All seats of a listener: the flood comes from many addresses, and ends with them.
    let flood =
        (10..30).map(|last| greeting(&system, system.few_seats, client(last))).collect::<Result<Vec<_>, _>>()?;
    let refused = flood.iter().filter(|(_, greeting)| greeting.starts_with("421 4.3.2 ")).count();
    ensure(refused == 20 - SEATS, || format!("{refused} of 20 were refused"))?;
    drop(flood);
    // Each that looks for one is another client: one alone would meet its rate.
    let mut last = 0_u16;
    wait_for("a seat after the flood", Patience::default(), || {
        last += 1;
        let [high, low] = last.to_be_bytes();
        greeting(&system, system.few_seats, Ipv4Addr::new(127, 1, high, low))
            .ok()
            .filter(|(_, greeting)| greeting.starts_with("220 "))
            .map(drop)
    })
}

fn rates() -> Result<(), String> {
    let system = system()?;
    let mut smtp = open(&system, client(6))?;
    for _ in 0..4 {
        expect(&mut smtp, "MAIL FROM:<>", "250")?;
        expect(&mut smtp, "RSET", "250")?;
    }
    expect(&mut smtp, "MAIL FROM:<>", "450 4.7.1 Error: too much mail from 127.0.3.6")?;
    let mut smtp = open(&system, client(7))?;
    for _ in 0..3 {
        expect(&mut smtp, "MAIL FROM:<>", "250")?;
        expect(&mut smtp, JOHN, "250")?;
        expect(&mut smtp, JOHN, "250")?;
        expect(&mut smtp, "DATA", "354")?;
        expect(&mut smtp, "Subject: rate\r\n\r\nhello\r\n.", "250")?;
    }
    expect(&mut smtp, "MAIL FROM:<>", "250")?;
    expect(&mut smtp, JOHN, "450 4.7.1 Error: too many recipients from 127.0.3.7")?;
    let mut smtp = open(&system, FRIEND)?;
    for _ in 0..8 {
        expect(&mut smtp, "MAIL FROM:<>", "250")?;
        expect(&mut smtp, JOHN, "250")?;
        expect(&mut smtp, "DATA", "354")?;
        expect(&mut smtp, "Subject: rate\r\n\r\nhello\r\n.", "250")?;
    }
    Ok(())
}

fn sizes() -> Result<(), String> {
    let system = system()?;
    let mut smtp = open(&system, FRIEND)?;
    let (long, short) = ("x".repeat(196), "x".repeat(195));
    expect(&mut smtp, &format!("NOOP {short}"), "250")?;
    expect(&mut smtp, &format!("NOOP {long}"), "500 5.5.2 Error: line too long")?;
    expect(&mut smtp, "MAIL FROM:<> SIZE=5001", "552 5.3.4 Message size exceeds fixed limit")?;
    expect(&mut smtp, "MAIL FROM:<> SIZE=5000", "250")?;
    expect(&mut smtp, JOHN, "250")?;
    expect(&mut smtp, JOHN, "250")?;
    for _ in 0..3 {
        expect(&mut smtp, JOHN, "452 4.5.3 Error: too many recipients")?;
    }
    expect(&mut smtp, "DATA", "354")?;
    // SIZE counts line ends as two octets (RFC 1870 section 5): exactly at the limit, and one beyond it.
    let line = format!("{}\r\n", "y".repeat(98));
    expect(&mut smtp, &format!("{}.", line.repeat(50)), "250 2.0.0 Ok")?;
    expect(&mut smtp, "MAIL FROM:<>", "250")?;
    expect(&mut smtp, JOHN, "250")?;
    expect(&mut smtp, "DATA", "354")?;
    expect(&mut smtp, &format!("y{}.", line.repeat(50)), "552 5.3.4 Error: message file too big")
}

fn errors() -> Result<(), String> {
    let system = system()?;
    let pause = Duration::from_millis(900);
    // The machine may stop for a moment: one session of several shows that the first errors cost nothing.
    let mut seen = Vec::new();
    for number in 0..5 {
        let mut smtp = open(&system, client(70 + number))?;
        let mut spent = Vec::new();
        for _ in 0..4 {
            let began = Instant::now();
            expect(&mut smtp, "FOO", "500 5.5.2")?;
            spent.push(began.elapsed());
        }
        let (_, last) = smtp.reply().map_err(wrong)?;
        ensure(last.starts_with("421 4.7.0 mail.limits.example Error: too many errors"), || last)?;
        ensure(spent[2] >= pause && spent[3] >= pause, || format!("{spent:?}"))?;
        seen.push(spent[1]);
        if spent[1] < pause {
            break;
        }
    }
    ensure(seen.iter().any(|spent| *spent < pause), || format!("the second error cost {seen:?}"))?;
    // Commands without effect count when there are more than two of them; with every further one as an error.
    let mut smtp = open(&system, client(9))?;
    for _ in 0..6 {
        expect(&mut smtp, "NOOP", "250")?;
    }
    let (_, last) = smtp.reply().map_err(wrong)?;
    ensure(last.starts_with("421 4.7.0 "), || last)
}

fn time() -> Result<(), String> {
    let system = system()?;
    let timeout = "421 4.4.2 mail.limits.example Error: timeout exceeded";
    let mut silent = open(&system, client(81))?;
    let mut endless = open(&system, client(82))?;
    let mut trickling = open(&system, client(83))?;
    expect(&mut trickling, "MAIL FROM:<>", "250")?;
    expect(&mut trickling, JOHN, "250")?;
    expect(&mut trickling, "DATA", "354")?;
    // Octets of a command that never ends, and of content that comes too slowly, buy no time.
    wait_for("the end of those who trickle", Patience::default(), || {
        let broken = endless.lines.send(b"x").is_err() & trickling.lines.send(b"x").is_err();
        broken.then_some(())
    })?;
    for (name, smtp) in [("silent", &mut silent), ("endless", &mut endless), ("trickling", &mut trickling)] {
        let said = String::from_utf8_lossy(&smtp.lines.rest(1000)).into_owned();
        // Who still wrote when the connection closed may have lost the last line to the reset.
        ensure(said.starts_with(timeout) || (name != "silent" && said.is_empty()), || format!("{name}: {said}"))?;
    }
    Ok(())
}
