//! Addresses, HELO names and parameters as weapons: commands, files, expansions, line ends, terminal escapes. An address is data; trace fields and log
//! lines hold printable octets only.

use test_support::harness::{Test, test};

use super::{ensure, wrong};
use crate::door::{self, DOMAIN, STRANGER};

pub fn tests() -> Vec<Test> {
    vec![
        // S19, S09
        test("no address is a command, a file or an expansion", &[], no_address_does_anything),
        // D02c
        test("encoded line ends in ORCPT and ENVID are refused", &[], encoded_line_ends),
        // S15
        test("HELO forges no header field and the log holds printable octets only", &[], helo_and_log),
    ]
}

fn no_address_does_anything() -> Result<(), String> {
    let door = door::open()?;
    let mark = door.system.root().join("home/pwned");
    let mark = mark.display();
    let long = "a".repeat(64);
    for local in [
        format!("|touch${{IFS}}{mark}"),
        format!("\"|touch {mark}\""),
        format!("\"| touch {mark}\""),
        format!(";touch${{IFS}}{mark};"),
        format!("\";touch {mark};\""),
        format!("$(touch${{IFS}}{mark})"),
        format!("`touch${{IFS}}{mark}`"),
        format!("${{run{{touch${{IFS}}{mark}}}}}"),
        format!("\"${{run{{/bin/touch {mark}}}}}\""),
        format!("{mark}"),
        format!("\"{mark}\""),
        "\":include:/etc/passwd\"".to_owned(),
        ":include:/etc/passwd".to_owned(),
        "\"/etc/passwd\"".to_owned(),
        "../../../../etc/passwd".to_owned(),
        "\"john\\\r\nDATA\"".to_owned(),
        "() { :;}; touch x".to_owned(),
        "\"() { :;}; touch x\"".to_owned(),
        "%u%n%s%x%%".to_owned(),
        "\"\"".to_owned(),
        "\"\\\"".to_owned(),
        format!("{long}a"),
    ] {
        let mut smtp = door.smtp(STRANGER)?;
        smtp.command("MAIL FROM:<somebody@elsewhere.example>", 2).map_err(wrong)?;
        smtp.lines.send(format!("RCPT TO:<{local}@{DOMAIN}>\r\n").as_bytes()).map_err(wrong)?;
        let (_, reply) = smtp.reply().map_err(wrong)?;
        let good = ["550 5.1.1", "501 5.1.3", "555 5.5.4", "554 5.7.1"].iter().any(|code| reply.starts_with(code));
        ensure(good && !reply.contains("passwd:"), || format!("RCPT TO:<{local}>: {reply}"))?;
        // The same as a sender: it may be taken, as text.
        let mut smtp = door.smtp(STRANGER)?;
        smtp.lines.send(format!("MAIL FROM:<{local}@elsewhere.example>\r\n").as_bytes()).map_err(wrong)?;
        let (code, reply) = smtp.reply().map_err(wrong)?;
        ensure(code == 250 || code == 501 || code == 555, || format!("MAIL FROM:<{local}>: {reply}"))?;
        if code == 250 {
            smtp.command(&format!("RCPT TO:<john@{DOMAIN}>"), 2).map_err(wrong)?;
            smtp.command("DATA", 3).map_err(wrong)?;
            smtp.command("Subject: a hostile sender\r\n\r\nhello\r\n.", 2).map_err(wrong)?;
        }
    }
    ensure(!door.system.root().join("home/pwned").exists(), || "a command was run".to_owned())
}

fn encoded_line_ends() -> Result<(), String> {
    let door = door::open()?;
    let recipient = format!("RCPT TO:<john@{DOMAIN}>");
    for parameter in [
        "ORCPT=rfc822;john+0D+0AX-Forged:+20yes",
        "ORCPT=rfc822;john+0A",
        "ORCPT=rfc822;john+00",
        "ORCPT=rfc822;john+1B[31m",
        "ORCPT=rfc822;+",
        "ORCPT=rfc822;+4",
        "ORCPT=rfc822;+zz",
        "ORCPT=rfc822",
        "ORCPT=;x",
        "ORCPT=rfc+0A822;x",
        "NOTIFY=NEVER,DELAY",
        "NOTIFY=",
        "NOTIFY=SUCCESS,SOON",
        "NOTIFY=SUCCESS NOTIFY=NEVER",
    ] {
        let mut smtp = door.smtp(STRANGER)?;
        smtp.command("MAIL FROM:<somebody@elsewhere.example>", 2).map_err(wrong)?;
        let reply =
            smtp.command(&format!("{recipient} {parameter}"), 5).map_err(|error| format!("{parameter}: {error}"))?;
        ensure(reply.starts_with("501 5.5.4"), || format!("{parameter}: {reply}"))?;
    }
    for parameter in ["ENVID=a+0D+0Ab", "ENVID=a+0A", "ENVID=+00", "ENVID=a+", "ENVID=", "RET=ALL", "AUTH=+0", "AUTH="]
    {
        let mut smtp = door.smtp(STRANGER)?;
        let command = format!("MAIL FROM:<somebody@elsewhere.example> {parameter}");
        let reply = smtp.command(&command, 5).map_err(|error| format!("{parameter}: {error}"))?;
        ensure(reply.starts_with("501 5.5.4"), || format!("{parameter}: {reply}"))?;
    }
    Ok(())
}

fn helo_and_log() -> Result<(), String> {
    let door = door::open()?;
    let helos: [&[u8]; 9] = [
        b"x\rReceived: from forged.example by forged.example",
        b"x\x1b]0;title\x07\x1b[2J\x1b[31m",
        b"x) by forged.example (Postfix) with ESMTP id 1; Sun, 1 Jan 2023 00:00:00 +0000 (",
        b"x\tid\x0b\x0c\x08\x7f",
        "ä\u{85}\u{2028}\u{202e}\u{200b}".as_bytes(),
        b"\xc3\xa4.example",
        b"%s%n%x${x}`x`",
        b"postfix/smtpd[1]: fatal: forged",
        &[b'h'; 1500],
    ];
    for (number, helo) in helos.iter().enumerate() {
        let mut smtp = door.smtp(STRANGER)?;
        let line = [b"EHLO ".as_slice(), helo, b"\r\n"].concat();
        smtp.lines.send(&line).map_err(wrong)?;
        let (code, reply) = smtp.reply().map_err(wrong)?;
        ensure(code == 250 || code == 501 || code == 500, || reply)?;
        // A sender and a recipient that are refused, so that both come into the log.
        smtp.lines.say("MAIL FROM:<\"a\x1b[1m\x7f\"@elsewhere.example>").map_err(wrong)?;
        smtp.reply().map_err(wrong)?;
        smtp.lines.say("FOO \x1b[5m\x08").map_err(wrong)?;
        smtp.reply().map_err(wrong)?;
        smtp.lines.say("RSET").map_err(wrong)?;
        smtp.reply().map_err(wrong)?;
        let message =
            format!("Subject: hello {number} from afar\r\nMessage-Id: <\x1b[31m{number}\r\n\t\x07@x>\r\n\r\nhello");
        smtp.send("somebody@elsewhere.example", &[&format!("john@{DOMAIN}")], &message).map_err(wrong)?;
    }
    let found = test_support::wait_for("the messages", test_support::Patience::default(), || {
        let all = door.system.messages("john");
        let ours: Vec<_> = all.into_iter().filter(|message| message.contains("from afar")).collect();
        (ours.len() == helos.len()).then_some(ours)
    });
    for message in found.map_err(|error| format!("{error}\n{}", door.system.logs()))? {
        trace_is_sound(&message)?;
    }
    log_is_printable(&door.system.root().join("log"))
}

/// One Received field of ours, one line end before each of its lines, no control character, and nothing that a HELO put beside it.
fn trace_is_sound(message: &str) -> Result<(), String> {
    let header = message.split("Subject:").next().unwrap_or_default();
    let received = header.matches("\nReceived:").count() + usize::from(header.starts_with("Received:"));
    let names = header.lines().filter(|line| !line.starts_with(['\t', ' '])).filter_map(|line| line.split(':').next());
    let names: Vec<_> = names.collect();
    let known = names
        .iter()
        .all(|name| ["Return-Path", "Delivered-To", "X-Original-To", "Received", "Message-Id"].contains(name));
    let printable = header.chars().all(|c| matches!(c, ' '..='~' | '\n' | '\t'));
    ensure(received == 1 && known && printable, || format!("{names:?}\n{header:?}"))?;
    let lines = header.lines().filter(|line| line.len() > 998).count();
    ensure(lines == 0, || format!("a line of the header is too long: {header}"))
}

fn log_is_printable(directory: &std::path::Path) -> Result<(), String> {
    for entry in std::fs::read_dir(directory).map_err(wrong)?.flatten() {
        if entry.path().extension().is_none_or(|extension| extension != "log") {
            continue;
        }
        let octets = std::fs::read(entry.path()).map_err(wrong)?;
        let bad = octets.iter().position(|octet| !matches!(octet, b' '..=b'~' | b'\n'));
        if let Some(at) = bad {
            let around = &octets[at.saturating_sub(80)..(at + 40).min(octets.len())];
            return Err(format!("{}: {:?}", entry.path().display(), String::from_utf8_lossy(around)));
        }
        let text = String::from_utf8_lossy(&octets);
        let forged = text.lines().any(|line| line.contains("]: fatal: forged") && !line.contains("helo=<"));
        ensure(!forged, || "a line of the log was forged".to_owned())?;
    }
    Ok(())
}
