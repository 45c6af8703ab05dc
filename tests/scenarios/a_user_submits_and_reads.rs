//! Submission on 587 and 465, then POP3 with STLS and IMAP with STARTTLS, as a mail client does it.

use test_support::clients::{Imap, Pop3, Security, Smtp};
use test_support::{Builder, System};

/// As it goes over the wire: the dot of the last line is doubled (RFC 5321 section 4.5.2).
const MESSAGE: &str = "From: mary@c.example\r\nSubject: submitted\r\n\r\nhello\r\n..a line with a dot";

pub fn with_their_password_only() -> Result<(), String> {
    let system = Builder::new("c.example").start()?;
    story(&system).map_err(|error| format!("{error}\n{}", system.logs()))
}

fn story(system: &System) -> Result<(), String> {
    let wrong = |error: std::io::Error| error.to_string();
    let ports = system.ports;
    let mut smtp = Smtp::connect(ports.at(ports.submission), Security::Clear).map_err(wrong)?;
    smtp.command("MAIL FROM:<mary@c.example>", 5).map_err(wrong)?;
    smtp.start_tls().map_err(wrong)?;
    smtp.command("MAIL FROM:<mary@c.example>", 2).map_err(wrong)?;
    let refused = smtp.command("RCPT TO:<john@c.example>", 5).map_err(wrong)?;
    smtp.command("RSET", 2).map_err(wrong)?;
    if smtp.login("mary", "wrong").is_ok() || !refused.starts_with("554 5.7.1") {
        return Err(format!("submission without a login: {refused}"));
    }
    smtp.login("mary", "secret").map_err(wrong)?;
    smtp.send("mary@c.example", &["john@c.example"], MESSAGE).map_err(wrong)?;
    let mut smtps = Smtp::connect(ports.at(ports.submissions), Security::Tls).map_err(wrong)?;
    smtps.login("mary", "secret").map_err(wrong)?;
    smtps.send("mary@c.example", &["john@c.example"], MESSAGE).map_err(wrong)?;
    let messages = system.wait_for_messages("john", 2)?;
    if !messages.iter().all(|message| message.contains("with ESMTPSA id") && message.contains("\n.a line with a dot")) {
        return Err(format!("not as it was sent: {messages:?}"));
    }
    read(system).map_err(wrong)
}

fn read(system: &System) -> std::io::Result<()> {
    let ports = system.ports;
    let mut pop3 = Pop3::connect(ports.at(ports.pop3), Security::Clear)?;
    pop3.command("STLS")?;
    pop3.lines.start_tls()?;
    pop3.login("john", "secret")?;
    let lines = pop3.listing("RETR 2")?;
    let uidls = pop3.listing("UIDL")?;
    pop3.command("DELE 1")?;
    pop3.command("QUIT")?;
    let mut imap = Imap::connect(ports.at(ports.imap), Security::Clear)?;
    imap.command("STARTTLS")?;
    imap.lines.start_tls()?;
    imap.login("john", "secret")?;
    let selected = imap.command("SELECT INBOX")?.join("\n");
    let fetched = imap.command("UID FETCH 2 (UID BODY.PEEK[TEXT])")?.join("\n");
    imap.command("LOGOUT")?;
    let good = lines.iter().any(|line| line == ".a line with a dot")
        && uidls.len() == 2
        && selected.contains("* 1 EXISTS")
        && fetched.contains("UID 2")
        && fetched.contains(".a line with a dot");
    if good { Ok(()) } else { Err(std::io::Error::other(format!("{lines:?} {uidls:?} {selected} {fetched}"))) }
}
