//! HOLD, DISCARD, REDIRECT, BCC and PREPEND of access tables, from the client to the mailbox.

use test_support::clients::{Security, Smtp};
use test_support::{Builder, Patience, System, wait_for};

const MESSAGE: &str = "From: a@outside.example\r\nSubject: acted on\r\n\r\nhello";

pub fn and_the_mailbox_shows_it() -> Result<(), String> {
    let senders = "held@outside.example HOLD look at it\ngone@outside.example DISCARD\nelsewhere@outside.example REDIRECT mary@info.net\n\
        copied@outside.example BCC mary@info.net\nmarked@outside.example PREPEND X-Marked: by the table\n\
        filtered@outside.example FILTER smtp:[127.0.0.1]:10024\nbye@outside.example 521 5.7.1 go away\n";
    let system = Builder::new("info.net")
        .file("senders", senders)
        .main_cf("smtpd_sender_restrictions = check_sender_access hash:{root}/etc/senders\nsmtpd_reject_footer = \\c. Ask $client_address's admin")
        .start()?;
    story(&system).map_err(|error| format!("{error}\n{}", system.logs()))
}

fn story(system: &System) -> Result<(), String> {
    let wrong = |error: std::io::Error| error.to_string();
    let address = system.ports.at(system.ports.smtp);
    let mut smtp = Smtp::connect(address, Security::Clear).map_err(wrong)?;
    for sender in ["held", "gone", "elsewhere", "copied", "marked"] {
        smtp.send(&format!("{sender}@outside.example"), &["john@info.net"], MESSAGE).map_err(wrong)?;
    }
    smtp.command("MAIL FROM:<filtered@outside.example>", 2).map_err(wrong)?;
    let filtered = smtp.command("RCPT TO:<john@info.net>", 4).map_err(wrong)?;
    if !filtered.starts_with("451 4.3.5 Server configuration error. Ask 127.0.0.1's admin") {
        return Err(format!("a filter that is not built: {filtered}"));
    }
    smtp.command("RSET", 2).map_err(wrong)?;
    smtp.command("MAIL FROM:<bye@outside.example>", 2).map_err(wrong)?;
    smtp.command("RCPT TO:<john@info.net>", 5).map_err(wrong)?;
    if !smtp.lines.rest(10).is_empty() || smtp.command("NOOP", 2).is_ok() {
        return Err("521 did not end the session".to_owned());
    }
    system.wait_for_messages("mary", 2)?;
    system.wait_for_messages("john", 2)?;
    system.wait_for_queue("the held message alone", |queue| {
        queue.matches("outside.example").count() == 1 && queue.contains("held@outside.example")
    })?;
    // Whatever else would come has come.
    let (mary, john) = (system.messages("mary"), system.messages("john"));
    let of = |all: &[String], sender: &str| {
        all.iter().filter(|m| m.contains(&format!("<{sender}@outside.example>"))).count()
    };
    let counts = |all: &[String]| ["held", "gone", "elsewhere", "copied", "marked"].map(|sender| of(all, sender));
    if (counts(&john), counts(&mary)) != ([0, 0, 0, 1, 1], [0, 0, 1, 1, 0]) {
        return Err(format!("john {:?}, mary {:?}", counts(&john), counts(&mary)));
    }
    let marked = john.iter().find(|message| message.contains("<marked@")).ok_or("no marked message")?;
    if !marked.contains("\nX-Marked: by the table\nReceived: ") {
        return Err(format!("the field is not before the header: {marked}"));
    }
    wait_for("the log lines of the actions", Patience::default(), || {
        let log = system.log("smtpd");
        let lines = [
            "hold: RCPT from localhost[127.0.0.1]: <held@outside.example>: Sender address look at it;",
            "discard: RCPT from localhost[127.0.0.1]: <gone@outside.example>: Sender address triggers DISCARD action;",
            "redirect: RCPT from localhost[127.0.0.1]: <elsewhere@outside.example>: Sender address triggers REDIRECT mary@info.net;",
            "warning: FILTER smtp:[127.0.0.1]:10024: content filters are not built",
        ];
        lines.iter().all(|line| log.contains(line)).then_some(())
    })
}
