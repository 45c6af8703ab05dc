//! Attack class "header forging by HELO; log injection, terminal escapes": control codes, line feeds, octets above 126 and forged lines in everything that a client may say.

use std::io;

use test_support::clients::{Imap, Lines, Pop3, Security, Smtp};
use test_support::{Builder, System};

/// What a hostile client puts where it can: a terminal's clear-screen, a bell, NUL, C1 codes, UTF-8, and a line as another program writes it.
const NASTY: &str = "\u{1b}[2J\u{7}\u{9b}31m\u{7f}\u{e9}\u{1f600}\u{202e} Nov 22 10:00:00 mail postfix/smtpd[1]: connect from evil[192.0.2.9]";

pub fn is_shown_harmless() -> Result<(), String> {
    let mut system = Builder::new("info.net")
        .main_cf(
            "maillog_file = {root}/log/maillog\npostrider_json_log = all\nmynetworks = 127.0.0.0/29\nsmtpd_hard_error_limit = 1000\n\
             smtpd_error_sleep_time = 0",
        )
        .dovecot("log_path = {root}/log/dovecot\nauth_verbose = yes\nauth_failure_delay = 0 secs")
        .start()?;
    attack(&system).map_err(|error| format!("{error}\n{}", system.logs()))?;
    system.wait_for_messages("john", 2)?;
    system.stop()?;
    let mut seen = 0;
    for entry in std::fs::read_dir(system.root().join("log")).map_err(|error| error.to_string())?.flatten() {
        let octets = std::fs::read(entry.path()).map_err(|error| error.to_string())?;
        for line in octets.split_inclusive(|&octet| octet == b'\n') {
            let text = String::from_utf8_lossy(line).into_owned();
            let harmless = line.strip_suffix(b"\n").is_some_and(|rest| rest.iter().all(|o| (0x20..0x7f).contains(o)));
            // A forged line may stand within a line, never for one.
            let forged = text.starts_with("Nov 22 10:00:00 mail postfix/smtpd[1]: connect from evil");
            if !harmless || forged {
                return Err(format!("{}: {text:?}", entry.path().display()));
            }
            seen += usize::from(text.contains("evil[192.0.2.9]"));
        }
    }
    if seen < 10 {
        return Err(format!("the hostile words stand in {seen} lines only: nothing was tested\n{}", system.logs()));
    }
    Ok(())
}

fn attack(system: &System) -> io::Result<()> {
    let ports = system.ports;
    let mail = ["EHLO a.example", "MAIL FROM:<mary@info.net>"];
    let sessions: [(&[&str], String); 8] = [
        (&[], format!("HELO {NASTY}")),
        (&mail[..1], format!("MAIL FROM:<{NASTY}>")),
        (&mail[..1], format!("MAIL FROM:<\"{NASTY}\"@info.net> SMTPUTF8")),
        (&mail, format!("RCPT TO:<{NASTY}>")),
        (&mail, format!("RCPT TO:<\"{NASTY}\"@info.net>")),
        (&mail[..1], format!("VRFY {NASTY}")),
        (&mail[..1], format!("AUTH PLAIN {NASTY}")),
        (&[], NASTY.to_owned()),
    ];
    for (before, line) in sessions {
        let mut lines = Lines::connect(ports.at(ports.smtp), Security::Clear)?;
        lines.hear()?;
        // A recipient is refused at the end, so that the log shows HELO too.
        let after = ["MAIL FROM:<>", "RCPT TO:<nobody@info.net>", "QUIT"];
        for line in before.iter().copied().chain([line.as_str()]).chain(after) {
            // Some of it ends the session.
            if lines.say(line).is_err() {
                break;
            }
            while lines.hear().is_ok_and(|reply| reply.as_bytes().get(3) == Some(&b'-')) {}
        }
    }
    let message =
        format!("From: {NASTY} <mary@info.net>\r\nMessage-ID: <{NASTY}@x>\r\nSubject: {NASTY}\r\n\r\n{NASTY}");
    Smtp::connect(ports.at(ports.smtp), Security::Clear)?.send("mary@info.net", &["john@info.net"], &message)?;
    let local = format!("Subject: {NASTY}\nMessage-ID: <{NASTY}@x>\n\nhello\n");
    system.run(&["sendmail", "-f", "mary@info.net", "john@info.net"], &local).map_err(io::Error::other)?;
    let mut smtp = Smtp::connect(ports.at(ports.submissions), Security::Tls)?;
    let _ = smtp.login(NASTY, "x");
    let _ = smtp.login(&NASTY[NASTY.len() - 60..], "x");
    let mut imap = Imap::connect(ports.at(ports.imaps), Security::Tls)?;
    imap.lines.say(&format!("a LOGIN {{{}+}}\r\n{NASTY} x", NASTY.len()))?;
    imap.lines.hear()?;
    imap.lines.say(&format!("b {NASTY}"))?;
    imap.lines.hear()?;
    let mut pop3 = Pop3::connect(ports.at(ports.pop3s), Security::Tls)?;
    pop3.lines.say(&format!("USER {NASTY}"))?;
    pop3.lines.hear()?;
    pop3.lines.say("PASS x")?;
    pop3.lines.hear()?;
    pop3.lines.say(NASTY)?;
    pop3.lines.hear()?;
    Ok(())
}
