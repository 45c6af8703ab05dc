//! Headers and MIME structures made to be expensive: each is taken in linear time or refused, arrives as it came, and disturbs nobody.

use std::time::{Duration, Instant};

use test_support::harness::{Test, test};

use super::{ensure, wrong};
use crate::door::{self, DOMAIN, FRIEND};

pub fn tests() -> Vec<Test> {
    vec![
        test("header and MIME bombs are taken in or refused within seconds", &[], bombs),
        // S16
        test("a message that went round too often is refused, and never by a forged count below", &[], hops),
    ]
}

/// One bomb may take so long, in a debug build on a busy machine: what takes quadratic time takes hours.
const PATIENCE: Duration = Duration::from_secs(60);
/// Octets of a bomb: what takes quadratic time shows it here.
const SIZE: usize = 2_000_000;

fn bomb(name: &str) -> String {
    let up_to = |unit: &str| unit.repeat(SIZE / unit.len());
    let rest = "Subject: bomb\r\n\r\nbody";
    match name {
        "one endless field" => format!("X-Long: {}\r\n{rest}", up_to("x")),
        "one endless folded field" => format!("X-Folded: a\r\n{}{rest}", up_to(" b\r\n")),
        "a million fields" => format!("{}{rest}", up_to("X: y\r\n")),
        "a million empty names" => format!("{}{rest}", up_to(": y\r\n")),
        "a million recipients" => format!("To: {}\r\n{rest}", up_to("a@b.example,\r\n ")),
        "recipients that must be completed" => format!("To: {}\r\n{rest}", up_to("ab,")),
        "comments in comments" => format!("To: {}\r\n{rest}", up_to("(")),
        "unclosed brackets" => format!("From: {}\r\n{rest}", up_to("<")),
        "unclosed quotes" => format!("Cc: {}\r\n{rest}", up_to("\"\\")),
        "groups in groups" => format!("To: {}\r\n{rest}", up_to("g:")),
        "parameters of RFC 2231" => format!("Content-Type: text/plain;{}\r\n{rest}", up_to(" a*1*=x;\r\n")),
        "nested multiparts" => {
            let part =
                |number: usize| format!("Content-Type: multipart/mixed; boundary=b{number}\r\n\r\n--b{number}\r\n");
            (0..SIZE / 70).map(part).collect()
        }
        "nested messages" => up_to("Content-Type: message/rfc822\r\n\r\n"),
        "one long boundary" => format!("Content-Type: multipart/mixed; boundary=\"{}\"\r\n{rest}", up_to("=")),
        "no line end at all" => up_to("x"),
        "only dots" => up_to("..\r\n"),
        _ => up_to("\r\n"),
    }
}

fn bombs() -> Result<(), String> {
    let door = door::open()?;
    let names = [
        "one endless field",
        "one endless folded field",
        "a million fields",
        "a million empty names",
        "a million recipients",
        "recipients that must be completed",
        "comments in comments",
        "unclosed brackets",
        "unclosed quotes",
        "groups in groups",
        "parameters of RFC 2231",
        "nested multiparts",
        "nested messages",
        "one long boundary",
        "no line end at all",
        "only dots",
        "only line ends",
    ];
    for name in names {
        let began = Instant::now();
        let mut smtp = door.smtp(FRIEND)?;
        smtp.command(&format!("MAIL FROM:<mary@{DOMAIN}>"), 2).map_err(wrong)?;
        smtp.command(&format!("RCPT TO:<mary@{DOMAIN}>"), 2).map_err(wrong)?;
        smtp.command("DATA", 3).map_err(wrong)?;
        smtp.lines.send(bomb(name).as_bytes()).map_err(wrong)?;
        smtp.lines.send(b"\r\n.\r\n").map_err(wrong)?;
        let (code, text) = smtp.reply().map_err(|error| format!("{name}: {error}"))?;
        ensure(code == 250 || code / 100 == 5, || format!("{name}: {text}"))?;
        ensure(began.elapsed() < PATIENCE, || format!("{name} took {:?}", began.elapsed()))?;
    }
    door.smtp(FRIEND)?.command("NOOP", 2).map(drop).map_err(wrong)
}

fn hops() -> Result<(), String> {
    let door = door::open()?;
    let john = format!("john@{DOMAIN}");
    let received = "Received: from a by b; Sun, 22 Nov 2026 12:00:00 +0000\r\n";
    let mut smtp = door.smtp(FRIEND)?;
    let fifty = format!("{}Subject: fifty hops\r\n\r\nx", received.repeat(50));
    smtp.send("", &[&john], &fifty).map_err(wrong)?;
    let body = format!("Subject: hops in the body\r\n\r\n{}", received.repeat(60));
    smtp.send("", &[&john], &body).map_err(wrong)?;
    let too_many = format!("{}Subject: too many hops\r\n\r\nx", received.repeat(51));
    let error = smtp.send("", &[&john], &too_many).err().map(wrong).unwrap_or_default();
    ensure(error.contains("554 5.4.6"), || error)
}
