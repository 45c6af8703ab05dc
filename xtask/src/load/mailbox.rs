//! Rows of work on a large mailbox: the first look, the second look, searching, reading, changing.

use std::fs;
use std::io;
use std::os::unix::fs::chown;
use std::path::Path;
use std::time::Instant;

use test_support::clients::{Imap, Pop3, Security};

use super::report::{Metric, Unit, metric, shown};
use super::sessions::{self, Mailboxes};
use super::{Round, Row, Scale, Side, count, entries};

/// The owner of all mail in the load.
const OWNER: u32 = 65534;
/// Connections that append at the same time, each as a user of its own.
const WRITERS: usize = 10;
/// Commands on their way at once.
const PIPELINE: usize = 8;

pub fn rows() -> Vec<Row> {
    const LARGE: [Metric; 12] = [
        shown("SELECT, nothing known, ms", Unit::Milliseconds),
        metric("SELECT again, ms", Unit::Milliseconds, 0.5, 1.0),
        metric("FETCH FLAGS, ms", Unit::Milliseconds, 0.5, 1.0),
        metric("ENVELOPE first, ms", Unit::Milliseconds, 1.5, 3.0),
        metric("ENVELOPE again, ms", Unit::Milliseconds, 0.5, 1.0),
        metric("SEARCH TEXT, ms", Unit::Milliseconds, 1.0, 4.0),
        metric("BODY.PEEK[] of all, ms", Unit::Milliseconds, 1.0, 1.3),
        shown("STORE of one flag to all, ms", Unit::Milliseconds),
        shown("COPY of all, ms", Unit::Milliseconds),
        shown("EXPUNGE of all, ms", Unit::Milliseconds),
        shown("CPU s of all of it", Unit::Cpu),
        shown("memory at the end, KiB", Unit::Kib),
    ];
    const RETR: [Metric; 2] =
        [metric("messages per second", Unit::PerSecond, 1.0, 1.3), shown("CPU s per 1,000", Unit::Cpu)];
    const APPEND: [Metric; 2] =
        [metric("messages per second", Unit::PerSecond, 1.0, 2.0), shown("CPU s per 1,000", Unit::Cpu)];
    vec![
        Row { name: "IMAP on a large mailbox", metrics: &LARGE, round: large },
        Row { name: "POP3 RETR, 8 in flight", metrics: &RETR, round: retr },
        Row { name: "APPEND, 10 users", metrics: &APPEND, round: append },
    ]
}

fn large(scale: &Scale, side: Side) -> Round {
    let Some(server) = sessions::start(side, &["reader".to_owned()], false)? else { return Ok(None) };
    fill(&server.maildir("reader"), scale.mailbox).map_err(|error| error.to_string())?;
    let figures = work_through(server.as_ref()).map_err(|error| error.to_string())?;
    Ok(Some(figures))
}

fn work_through(server: &dyn Mailboxes) -> io::Result<Vec<f64>> {
    let before = server.cpu();
    let mut imap = Imap::connect(server.address(), Security::Clear)?;
    imap.login("reader", "secret")?;
    let mut figures = Vec::new();
    let mut timed = |imap: &mut Imap, command: &str| -> io::Result<()> {
        let began = Instant::now();
        imap.command(command)?;
        figures.push(began.elapsed().as_secs_f64() * 1000.0);
        Ok(())
    };
    timed(&mut imap, "SELECT INBOX")?;
    imap.command("UNSELECT")?;
    timed(&mut imap, "SELECT INBOX")?;
    timed(&mut imap, "FETCH 1:* (UID FLAGS)")?;
    timed(&mut imap, "FETCH 1:* (UID ENVELOPE)")?;
    timed(&mut imap, "FETCH 1:* (UID ENVELOPE)")?;
    timed(&mut imap, "SEARCH TEXT \"needle in the hay\"")?;
    timed(&mut imap, "FETCH 1:* (UID BODY.PEEK[])")?;
    timed(&mut imap, "STORE 1:* +FLAGS.SILENT (\\Flagged)")?;
    imap.command("CREATE Copies")?;
    timed(&mut imap, "COPY 1:* Copies")?;
    imap.command("STORE 1:* +FLAGS.SILENT (\\Deleted)")?;
    timed(&mut imap, "EXPUNGE")?;
    let cpu = server.cpu() - before;
    super::rest();
    let memory = server.memory();
    imap.command("LOGOUT")?;
    figures.extend([cpu, memory]);
    Ok(figures)
}

fn retr(scale: &Scale, side: Side) -> Round {
    let Some(server) = sessions::start(side, &["reader".to_owned()], false)? else { return Ok(None) };
    fill(&server.maildir("reader"), scale.mailbox).map_err(|error| error.to_string())?;
    let before = server.cpu();
    let seconds = retrieve(server.as_ref(), scale.mailbox).map_err(|error| error.to_string())?;
    Ok(Some(vec![count(scale.mailbox) / seconds, (server.cpu() - before) * 1000.0 / count(scale.mailbox)]))
}

fn retrieve(server: &dyn Mailboxes, messages: usize) -> io::Result<f64> {
    let mut pop3 = Pop3::connect(server.pop3(), Security::Clear)?;
    pop3.login("reader", "secret")?;
    let began = Instant::now();
    for message in 1..=PIPELINE.min(messages) {
        pop3.lines.say(&format!("RETR {message}"))?;
    }
    for message in 1..=messages {
        while pop3.lines.hear()? != "." {}
        if message + PIPELINE <= messages {
            pop3.lines.say(&format!("RETR {}", message + PIPELINE))?;
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    pop3.command("QUIT")?;
    Ok(seconds)
}

fn append(scale: &Scale, side: Side) -> Round {
    let users: Vec<String> = (0..WRITERS).map(|n| format!("writer{n}")).collect();
    let Some(server) = sessions::start(side, &users, false)? else { return Ok(None) };
    let each = scale.messages / 5 / WRITERS;
    let (before, began, address) = (server.cpu(), Instant::now(), server.address());
    std::thread::scope(|scope| {
        let writers: Vec<_> = users
            .iter()
            .map(|user| {
                scope.spawn(move || -> io::Result<()> {
                    let mut imap = Imap::connect(address, Security::Clear)?;
                    imap.login(user, "secret")?;
                    let text = message(1);
                    for _ in 0..each {
                        imap.command(&format!("APPEND INBOX {{{}+}}\r\n{text}", text.len()))?;
                    }
                    imap.command("LOGOUT").map(drop)
                })
            })
            .collect();
        writers.into_iter().try_for_each(|writer| match writer.join() {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(_) => Err("a client panicked".to_owned()),
        })
    })?;
    let seconds = began.elapsed().as_secs_f64();
    let stored: usize = users.iter().map(|user| stored(&server.maildir(user))).sum();
    if stored != each * WRITERS {
        return Err(format!("{stored} of {} messages were stored", each * WRITERS));
    }
    Ok(Some(vec![count(stored) / seconds, (server.cpu() - before) * 1000.0 / count(stored)]))
}

fn stored(maildir: &Path) -> usize {
    entries(&maildir.join("new")) + entries(&maildir.join("cur"))
}

/// Writes a Maildir of so many messages, half of them seen.
fn fill(maildir: &Path, messages: usize) -> io::Result<()> {
    for name in ["", "tmp", "new", "cur"] {
        fs::create_dir_all(maildir.join(name))?;
        chown(maildir.join(name), Some(OWNER), Some(OWNER))?;
    }
    for number in 0..messages {
        let flags = if number % 2 == 0 { "S" } else { "" };
        let path = maildir.join(format!("cur/{}.M{number}P1.load:2,{flags}", 1_600_000_000 + number));
        fs::write(&path, message(number))?;
        chown(&path, Some(OWNER), Some(OWNER))?;
    }
    Ok(())
}

/// A message of two to eight KiB with the header fields that real ones have; every hundredth holds what is searched for.
fn message(number: usize) -> String {
    let mut text = format!(
        "Return-Path: <sender{number}@load.example>\r\nReceived: from client.load.example (client.load.example [192.0.2.7])\r\n\tby \
         mail.load.example (Postfix) with ESMTPS id 4XyZ{number}\r\n\tfor <reader@load.example>; Mon, 2 Nov 2026 10:{:02}:{:02} +0000 (UTC)\r\n\
         Date: Mon, 2 Nov 2026 10:{:02}:{:02} +0000\r\nFrom: \"Sender {number}\" <sender{number}@load.example>\r\n\
         To: Reader <reader@load.example>, list{}@load.example\r\nSubject: Report number {number} of the load\r\n\
         Message-ID: <{number}.1234@load.example>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n",
        number / 60 % 60,
        number % 60,
        number / 60 % 60,
        number % 60,
        number % 7
    );
    if number % 100 == 50 {
        text.push_str("There is a needle in the hay.\r\n");
    }
    let lines = 24 + number * 37 % 72;
    (0..lines).for_each(|line| {
        text.push_str(&format!(
            "Line {line} of message {number} says nothing that anybody would look for, at some length.\r\n"
        ));
    });
    text
}
