//! Command lines: over-long, never-ending, with NUL or stray returns, of other protocols, before their turn, and of extensions we do not have.

use test_support::clients::{Lines, Security, Smtp};
use test_support::harness::{Test, test};
use test_support::{Patience, wait_for};

use super::{ensure, wrong};
use crate::door::{self, DOMAIN, FRIEND, STRANGER};

pub fn tests() -> Vec<Test> {
    vec![
        // S09, S06
        test("odd command lines get one error each and change nothing", &[], odd_lines),
        test("HTTP is hung up on before its body can speak SMTP", &[], http),
        test("who talks before the greeting is written down", &[], early_talkers),
        test("XCLIENT, XFORWARD, ETRN, TURN, EXPN and BDAT move nothing", &[], unknown_extensions),
        // X01
        test("pipelined commands get one reply each, in order", &[], one_reply_each),
    ]
}

fn odd_lines() -> Result<(), String> {
    let door = door::open()?;
    let long = "x".repeat(300_000);
    let lines: [Vec<u8>; 12] = [
        format!("NOOP {long}\r\n").into_bytes(),
        format!("MAIL FROM:<{long}@elsewhere.example>\r\n").into_bytes(),
        format!("MAIL FROM:<a@b.example> ENVID={}\r\n", "+41".repeat(1000)).into_bytes(),
        b"MAIL FROM:<evil@elsewhere.example>\0\r\n".to_vec(),
        b"MAIL FROM:<evil\0@elsewhere.example>\r\n".to_vec(),
        b"NOOP\rMAIL FROM:<evil@elsewhere.example>\r\n".to_vec(),
        b"MAIL FROM:<evil@elsewhere.example>\rRCPT TO:<x@y>\r\n".to_vec(),
        b"MAIL\xffFROM:<evil@elsewhere.example>\r\n".to_vec(),
        b"\xff\xfe\xfd\r\n".to_vec(),
        b"MAIL FROM:<evil@elsewhere.example> SIZE=-1\r\n".to_vec(),
        b"MAIL FROM:<evil@elsewhere.example> SIZE=1 SIZE=99999999999999999999999999\r\n".to_vec(),
        b"\0\0\0\0\0\0\0\0".repeat(400).into_iter().chain(*b"NOOP\r\n").collect(),
    ];
    let mut smtp = door.smtp(STRANGER)?;
    for line in lines {
        let shown = String::from_utf8_lossy(&line[..line.len().min(60)]).into_owned();
        if line.first() == Some(&0) || line.first() == Some(&0xff) {
            smtp = door.smtp(STRANGER)?;
        }
        smtp.lines.send(&line).map_err(wrong)?;
        let (code, text) = smtp.reply().map_err(|error| format!("{shown}: {error}"))?;
        ensure(code / 100 == 5 || code == 221, || format!("{shown}: {text}"))?;
        if code == 221 {
            smtp = door.smtp(STRANGER)?;
        }
        let text = smtp.command("RCPT TO:<john@x.example>", 5).map_err(|error| format!("{shown}: {error}"))?;
        ensure(text.starts_with("503 5.5.1"), || format!("{shown} began a transaction: {text}"))?;
    }
    Ok(())
}

fn http() -> Result<(), String> {
    let door = door::open()?;
    let mail = format!("MAIL FROM:<evil@x>\r\nRCPT TO:<john@{DOMAIN}>\r\nDATA\r\nSubject: http\r\n\r\n.\r\nQUIT\r\n");
    for first in [
        "GET / HTTP/1.1",
        "POST /x HTTP/1.1",
        "get /",
        "CONNECT 127.0.0.1:25 HTTP/1.1",
        "{\"a\":1}",
        "\u{16}\u{3}\u{1}",
    ] {
        let address = door.system.ports.at(door.system.ports.smtp);
        let mut lines = Lines::connect_from(FRIEND, address, Security::Clear).map_err(wrong)?;
        lines.hear().map_err(wrong)?;
        lines.send(format!("{first}\r\nHost: x\r\n\r\nEHLO x\r\n{mail}").as_bytes()).map_err(wrong)?;
        let answer = String::from_utf8_lossy(&lines.rest(10_000)).into_owned();
        ensure(answer == "221 2.7.0 Error: I can break rules, too. Goodbye.\r\n", || format!("{first}: {answer}"))?;
    }
    Ok(())
}

fn early_talkers() -> Result<(), String> {
    let door = door::open()?;
    // Behind a TCP connection the greeting may be on its way already, so this is tried until the server was slower.
    let logged = || door.system.log("smtpd").contains("improper command pipelining after CONNECT from");
    wait_for("a client that was heard before it was greeted", Patience::default(), || {
        let address = door.system.ports.at(door.system.ports.smtp);
        let mut lines = Lines::connect_from(STRANGER, address, Security::Clear).ok()?;
        lines.send(b"EHLO early.example\r\nQUIT\r\n").ok()?;
        lines.rest(10_000);
        logged().then_some(())
    })
}

fn unknown_extensions() -> Result<(), String> {
    let door = door::open()?;
    let mut smtp = door.smtp(STRANGER)?;
    for (command, code) in [
        ("XCLIENT ADDR=127.0.0.1 LOGIN=mary", "550 5.7.0"),
        ("XFORWARD NAME=localhost ADDR=127.0.0.1", "500 5.5.2"),
        ("TURN", "500 5.5.2"),
        ("EXPN staff", "500 5.5.2"),
        ("SEND FROM:<a@b.example>", "500 5.5.2"),
        ("LHLO x", "500 5.5.2"),
        ("STARTTLS\0", "500 5.5.2"),
    ] {
        let reply = smtp.command(command, 5).map_err(wrong)?;
        ensure(reply.starts_with(code), || format!("{command:?}: {reply}"))?;
    }
    let reply = smtp.command("ETRN outside.example", 4).map_err(wrong)?;
    ensure(reply.starts_with("459 "), || format!("ETRN: {reply}"))?;
    smtp.command("MAIL FROM:<somebody@elsewhere.example>", 2).map_err(wrong)?;
    let reply = smtp.command("RCPT TO:<user@outside.example>", 5).map_err(wrong)?;
    ensure(reply.starts_with("554 5.7.1"), || format!("after XCLIENT: {reply}"))?;
    // The octets of a chunk that we cannot take are not read as commands.
    smtp.lines
        .send(format!("BDAT 30 LAST\r\nRSET\r\nMAIL FROM:<evil@{DOMAIN}>\r\nNOOP\r\n").as_bytes())
        .map_err(wrong)?;
    let answer = String::from_utf8_lossy(&smtp.lines.rest(10_000)).into_owned();
    ensure(answer.starts_with("521 5.5.1") && answer.lines().count() == 1, || format!("BDAT: {answer}"))
}

fn one_reply_each() -> Result<(), String> {
    let door = door::open()?;
    let mut smtp: Smtp = door.smtp(STRANGER)?;
    let mut group = String::from("RSET\r\nMAIL FROM:<a@elsewhere.example>\r\n");
    for _ in 0..300 {
        group.push_str(&format!("RCPT TO:<john@{DOMAIN}>\r\n"));
    }
    group.push_str(
        "RSET\r\nMAIL FROM:<a@elsewhere.example>\r\nRCPT TO:<user@outside.example>\r\nDATA\r\nNOOP\r\nQUIT\r\n",
    );
    smtp.lines.send(group.as_bytes()).map_err(wrong)?;
    let answer = String::from_utf8_lossy(&smtp.lines.rest(100_000)).into_owned();
    let codes: Vec<&str> = answer.lines().filter_map(|line| line.get(..9)).collect();
    let mut expected = vec!["250 2.0.0", "250 2.1.0"];
    expected.extend(vec!["250 2.1.5"; 300]);
    expected.extend(["250 2.0.0", "250 2.1.0", "554 5.7.1", "554 5.5.1", "250 2.0.0", "221 2.0.0"]);
    ensure(codes == expected, || answer.clone())
}
