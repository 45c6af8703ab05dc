//! Delivery status notifications: the text of a bounce, a delay warning, a report of success (RFC 3462, 3464, 6533).
//!
//! [`compose`] is a pure function from what became of the recipients to a complete message with CRLF line ends: a part for people, a
//! `message/delivery-status` with the fields that Postfix writes, and the message or its header as RET asks.

use std::fmt::Write as _;

use mail_types::{EnhancedStatus, UnixTime};

use crate::header::date;

/// What a notification tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The recipients will not get the message.
    Failure,
    /// The recipients do not have it yet.
    Delay {
        /// When the last attempt will be.
        until: UnixTime,
    },
    /// The recipients, or their servers, have it.
    Success,
    /// What became, or would become, of all recipients: the sender has asked.
    Status,
}

/// What became of a recipient (RFC 3464 section 2.3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// `failed`
    Failed,
    /// `delayed`
    Delayed,
    /// `delivered`
    Delivered,
    /// `relayed`: to a server that does not report success itself.
    Relayed,
    /// `expanded`: to more than one recipient, about whom nothing more is said.
    Expanded,
    /// `deliverable`: it would be delivered. Not of the RFC; Postfix's word.
    Deliverable,
    /// `undeliverable`: it would not, now or ever.
    Undeliverable,
}

impl Action {
    fn word(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Delayed => "delayed",
            Self::Delivered => "delivered",
            Self::Relayed => "relayed",
            Self::Expanded => "expanded",
            Self::Deliverable => "deliverable",
            Self::Undeliverable => "undeliverable",
        }
    }
}

/// One recipient in a notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient<'a> {
    /// The address that was attempted last.
    pub address: &'a str,
    /// ORCPT, decoded, such as `rfc822;a@b`.
    pub orcpt: Option<&'a str>,
    /// What became of it.
    pub action: Action,
    /// The status; its class follows the action.
    pub status: EnhancedStatus,
    /// The reason in words.
    pub text: &'a str,
    /// The remote server's name.
    pub remote: Option<&'a str>,
    /// The remote server's reply.
    pub diagnostic: Option<&'a str>,
}

impl<'a> Recipient<'a> {
    /// The address that it was before aliases, where that is another.
    fn expanded_from(&self) -> Option<&'a str> {
        let (_, original) = self.orcpt?.split_once(';')?;
        Some(original.trim()).filter(|original| !original.eq_ignore_ascii_case(self.address))
    }
}

/// A notification to be.
#[derive(Debug, Clone)]
pub struct Report<'a> {
    /// What it tells.
    pub kind: Kind,
    /// This server (`myhostname`).
    pub host: &'a str,
    /// The name of the mail system, for `Received` (`mail_name`).
    pub mail_name: &'a str,
    /// Who is told: the sender of the message.
    pub to: &'a str,
    /// Who answers questions: `postmaster`, completed.
    pub postmaster: &'a str,
    /// The queue id of the notification.
    pub id: &'a str,
    /// Now.
    pub date: UnixTime,
    /// The queue id of the message.
    pub original_id: &'a str,
    /// When the message came.
    pub arrival: UnixTime,
    /// ENVID, decoded.
    pub envid: Option<&'a str>,
    /// The recipients, at least one.
    pub recipients: &'a [Recipient<'a>],
    /// The message: content, or its beginning with the whole header.
    pub content: &'a [u8],
    /// Whether `content` is complete and is to be returned whole.
    pub full: bool,
    /// Whether the message needs SMTPUTF8.
    pub smtputf8: bool,
}

/// The complete notification.
#[must_use]
pub fn compose(report: &Report<'_>) -> Vec<u8> {
    let boundary = format!("{}.{}/{}", report.original_id, report.date.0, printable(report.host));
    let returned = if report.full { report.content } else { header_of(report.content) };
    let eight_bit = !returned.is_ascii();
    let mut text = String::with_capacity(2048);
    write_header(&mut text, report, &boundary, eight_bit);
    write_people(&mut text, report, &boundary);
    write_status(&mut text, report, &boundary);
    write_returned_header(&mut text, report, &boundary, eight_bit);
    let mut out = text.into_bytes();
    out.extend_from_slice(returned);
    if !returned.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    out
}

// Writing into a String cannot fail, so the results of `write!` are dropped.
macro_rules! line {
    ($out:expr, $($argument:tt)*) => {{
        let _ = write!($out, $($argument)*);
        $out.push_str("\r\n");
    }};
}

fn write_header(out: &mut String, report: &Report<'_>, boundary: &str, eight_bit: bool) {
    let date = date(report.date);
    let host = printable(report.host);
    let subject = match report.kind {
        Kind::Failure => "Undelivered Mail Returned to Sender",
        Kind::Delay { .. } => "Delayed Mail (still being retried)",
        Kind::Success => "Successful Mail Delivery Report",
        Kind::Status => "Mail Delivery Status Report",
    };
    line!(out, "Received: by {host} ({})", printable(report.mail_name));
    line!(out, "\tid {}; {date}", report.id);
    line!(out, "Date: {date}");
    line!(out, "From: MAILER-DAEMON@{host} (Mail Delivery System)");
    line!(out, "Subject: {subject}");
    line!(out, "To: {}", clean(report.to));
    line!(out, "Auto-Submitted: auto-replied");
    line!(out, "MIME-Version: 1.0");
    line!(
        out,
        "Content-Type: multipart/report; report-type={};",
        if report.smtputf8 { "global-delivery-status" } else { "delivery-status" }
    );
    line!(out, "\tboundary=\"{boundary}\"");
    if eight_bit || report.smtputf8 {
        line!(out, "Content-Transfer-Encoding: 8bit");
    }
    line!(out, "Message-Id: <{}@{host}>", report.id);
    line!(out, "");
    line!(out, "This is a MIME-encapsulated message.");
    line!(out, "");
}

fn write_people(out: &mut String, report: &Report<'_>, boundary: &str) {
    line!(out, "--{boundary}");
    line!(out, "Content-Description: Notification");
    line!(out, "Content-Type: text/plain; charset={}", if report.smtputf8 { "utf-8" } else { "us-ascii" });
    if report.smtputf8 {
        line!(out, "Content-Transfer-Encoding: 8bit");
    }
    line!(out, "");
    line!(out, "This is the mail system at {}.", printable(report.host));
    line!(out, "");
    match report.kind {
        Kind::Failure => {
            line!(out, "Your message could not be delivered to the recipients listed below,");
            line!(
                out,
                "and no further attempt will be made. It is attached{}.",
                if report.full { "" } else { " (its header only)" }
            );
        }
        Kind::Delay { until } => {
            line!(out, "THIS IS A WARNING ONLY. You need not send your message again.");
            line!(out, "");
            line!(out, "Your message could not yet be delivered to the recipients listed below.");
            line!(out, "Delivery will be attempted until {}.", date(until));
        }
        Kind::Success => {
            line!(out, "Your message was delivered to the recipients listed below. Where it was");
            line!(out, "relayed to another server, that server may not report what follows.");
        }
        Kind::Status => line!(out, "Here is the report on each recipient that was asked for."),
    }
    line!(out, "");
    line!(out, "For help, please write to <{}>, and include this report.", clean(report.postmaster));
    line!(out, "");
    for recipient in report.recipients {
        let reason = recipient.text.trim_end();
        let address = clean(recipient.address);
        let from = recipient.expanded_from().filter(|_| report.kind == Kind::Status);
        let from = from.map(|from| format!(" {}", folded(&format!("(expanded from <{}>)", clean(from)))));
        let reason = folded(&words(reason, report.smtputf8));
        line!(out, "<{address}>{}: {reason}", from.unwrap_or_default());
        line!(out, "");
    }
}

fn write_status(out: &mut String, report: &Report<'_>, boundary: &str) {
    let kind = if report.smtputf8 { "global-delivery-status" } else { "delivery-status" };
    line!(out, "--{boundary}");
    line!(out, "Content-Description: Delivery report");
    line!(out, "Content-Type: message/{kind}");
    line!(out, "");
    line!(out, "Reporting-MTA: dns; {}", printable(report.host));
    if let Some(envid) = report.envid {
        line!(out, "Original-Envelope-Id: {}", folded(&printable(envid)));
    }
    line!(out, "X-Postfix-Queue-ID: {}", report.original_id);
    line!(out, "X-Postfix-Sender: {}; {}", address_type(report.to), clean(report.to));
    line!(out, "Arrival-Date: {}", date(report.arrival));
    for recipient in report.recipients {
        line!(out, "");
        write_recipient(out, report, recipient);
    }
    line!(out, "");
}

fn write_recipient(out: &mut String, report: &Report<'_>, recipient: &Recipient<'_>) {
    let severity = match recipient.action {
        Action::Failed => mail_types::Severity::Permanent,
        Action::Delayed => mail_types::Severity::Temporary,
        Action::Delivered | Action::Relayed | Action::Expanded | Action::Deliverable => mail_types::Severity::Success,
        // Now or ever: the status tells.
        Action::Undeliverable => recipient.status.severity(),
    };
    line!(out, "Final-Recipient: {}; {}", address_type(recipient.address), clean(recipient.address));
    if let Some(orcpt) = recipient.orcpt {
        line!(out, "Original-Recipient: {}", folded(&clean(orcpt)));
    }
    line!(out, "Action: {}", recipient.action.word());
    line!(out, "Status: {}", recipient.status.with_severity(severity));
    if let Some(remote) = recipient.remote {
        line!(out, "Remote-MTA: dns; {}", folded(&printable(remote)));
    }
    let (kind, text) = match recipient.diagnostic {
        Some(reply) => ("smtp", reply),
        None => ("X-Postfix", recipient.text),
    };
    line!(out, "Diagnostic-Code: {kind}; {}", folded(&words(text.trim_end(), report.smtputf8)));
    if let (Kind::Delay { until }, Action::Delayed) = (report.kind, recipient.action) {
        line!(out, "Will-Retry-Until: {}", date(until));
    }
}

fn write_returned_header(out: &mut String, report: &Report<'_>, boundary: &str, eight_bit: bool) {
    let what = match report.kind {
        Kind::Failure => "Undelivered Message",
        Kind::Delay { .. } => "Delayed Message",
        Kind::Success => "Delivered Message",
        Kind::Status => "Message",
    };
    line!(out, "--{boundary}");
    line!(out, "Content-Description: {what}{}", if report.full { "" } else { " Headers" });
    let kind = match (report.full, report.smtputf8) {
        (true, true) => "message/global",
        (true, false) => "message/rfc822",
        (false, true) => "message/global-headers",
        (false, false) => "text/rfc822-headers",
    };
    line!(out, "Content-Type: {kind}");
    if eight_bit {
        line!(out, "Content-Transfer-Encoding: 8bit");
    }
    line!(out, "");
}

/// The header of a message, up to and without its empty line.
fn header_of(content: &[u8]) -> &[u8] {
    let mut begin = 0;
    while begin < content.len() {
        let line_end = content[begin..].iter().position(|&b| b == b'\n').map_or(content.len(), |at| begin + at + 1);
        if matches!(&content[begin..line_end], b"\r\n" | b"\n") {
            return &content[..begin];
        }
        begin = line_end;
    }
    content
}

/// RFC 6533 section 3: an address outside ASCII has a type of its own.
fn address_type(address: &str) -> &'static str {
    if address.is_ascii() { "rfc822" } else { "utf-8" }
}

/// Printable ASCII; what a peer said can neither end a line nor leave the part's charset.
fn printable(text: &str) -> String {
    text.chars().map(|c| if (' '..='~').contains(&c) { c } else { '?' }).collect()
}

/// Without control characters.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn words(text: &str, utf8: bool) -> String {
    let joined: String = text.chars().map(|c| if matches!(c, '\n' | '\r' | '\t') { ' ' } else { c }).collect();
    if utf8 { clean(&joined) } else { printable(&joined) }
}

/// Folds at spaces into lines of at most 78 octets where it can, and of at most 900 octets always.
fn folded(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut column = 40;
    for word in text.split(' ') {
        let mut rest = word;
        if !out.is_empty() {
            let fits = column + 1 + word.len() <= 78;
            out.push_str(if fits { " " } else { "\r\n    " });
            column = if fits { column + 1 } else { 4 };
        }
        while rest.len() > 900 {
            let cut = (0..=900).rev().find(|at| rest.is_char_boundary(*at)).unwrap_or(rest.len());
            out.push_str(&rest[..cut]);
            out.push_str("\r\n    ");
            rest = &rest[cut..];
            column = 4;
        }
        out.push_str(rest);
        column += rest.len();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTENT: &[u8] = b"From: a@b\r\nSubject: hello\r\n\r\nThe body\r\n";

    fn recipient() -> Recipient<'static> {
        Recipient {
            address: "mike@gmail.com",
            orcpt: Some("rfc822;mike@gmail.com"),
            action: Action::Failed,
            status: EnhancedStatus::of(5, 1, 2),
            text: "Host unknown",
            remote: None,
            diagnostic: None,
        }
    }

    fn report<'a>(recipients: &'a [Recipient<'a>], full: bool) -> Report<'a> {
        Report {
            kind: Kind::Failure,
            host: "mail.info.net",
            mail_name: "Postfix",
            to: "john@info.net",
            postmaster: "postmaster@info.net",
            id: "ID2",
            date: UnixTime(1_795_000_000_000),
            original_id: "ID1",
            arrival: UnixTime(1_794_999_000_000),
            envid: Some("QQ314159"),
            recipients,
            content: CONTENT,
            full,
            smtputf8: false,
        }
    }

    fn parsed(text: &[u8]) -> mail_parser::Message<'_> {
        mail_parser::MessageParser::default().parse(text).expect("a message")
    }

    #[test]
    fn a_bounce_is_a_multipart_report_of_three_parts() {
        // D03c
        let recipients = [recipient()];
        let text = compose(&report(&recipients, true));
        let message = parsed(&text);
        let kind = mail_parser::MimeHeaders::content_type(&message).expect("a type");
        assert_eq!(
            (kind.ctype(), kind.subtype(), kind.attribute("report-type")),
            ("multipart", Some("report"), Some("delivery-status"))
        );
        assert_eq!(message.parts.len(), 4, "the whole and three parts");
        let text = String::from_utf8(text.clone()).expect("ASCII");
        for line in [
            "Reporting-MTA: dns; mail.info.net\r\nOriginal-Envelope-Id: QQ314159\r\nX-Postfix-Queue-ID: ID1\r\nX-Postfix-Sender: rfc822; john@info.net\r\nArrival-Date: ",
            "\r\n\r\nFinal-Recipient: rfc822; mike@gmail.com\r\nOriginal-Recipient: rfc822;mike@gmail.com\r\nAction: failed\r\nStatus: 5.1.2\r\nDiagnostic-Code: X-Postfix; Host unknown\r\n\r\n",
            "<mike@gmail.com>: Host unknown\r\n",
            "Content-Type: message/rfc822\r\n\r\nFrom: a@b\r\nSubject: hello\r\n\r\nThe body\r\n\r\n--",
        ] {
            assert!(text.contains(line), "{line:?} in {text}");
        }
    }

    // D03c
    #[test]
    fn only_the_header_comes_back_where_that_was_asked() {
        let recipients = [recipient()];
        let text = String::from_utf8(compose(&report(&recipients, false))).expect("ASCII");
        assert!(
            text.contains("Content-Type: text/rfc822-headers\r\n\r\nFrom: a@b\r\nSubject: hello\r\n\r\n--"),
            "{text}"
        );
        assert!(!text.contains("The body"));
    }

    #[test]
    fn a_status_never_contradicts_its_action() {
        // D04c: an expired message was deferred with 4.4.1 and has failed now.
        let recipients = [Recipient { status: EnhancedStatus::of(4, 4, 1), ..recipient() }];
        let text = String::from_utf8(compose(&report(&recipients, false))).expect("ASCII");
        assert!(text.contains("Action: failed\r\nStatus: 5.4.1\r\n"));
    }

    #[test]
    fn what_a_remote_server_said_cannot_forge_a_field() {
        let said = "550 no\r\nAction: delivered\r\n\r\n--x \u{1b}[2J\u{e9}";
        let recipients = [Recipient { text: said, diagnostic: Some(said), remote: Some("mx\r\nX: y"), ..recipient() }];
        let text = String::from_utf8(compose(&report(&recipients, false))).expect("ASCII");
        assert!(
            text.contains(
                "Remote-MTA: dns; mx??X: y\r\nDiagnostic-Code: smtp; 550 no  Action: delivered    --x ?[2J?\r\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn a_delay_says_until_when() {
        let recipients = [Recipient { action: Action::Delayed, status: EnhancedStatus::of(4, 4, 1), ..recipient() }];
        let kind = Kind::Delay { until: UnixTime(1_795_400_000_000) };
        let text = String::from_utf8(compose(&Report { kind, ..report(&recipients, false) })).expect("ASCII");
        assert!(text.contains("Action: delayed\r\nStatus: 4.4.1\r\n") && text.contains("\r\nWill-Retry-Until: "));
    }

    #[test]
    fn eight_bit_content_and_addresses_are_marked() {
        let recipients = [Recipient { address: "j\u{f6}rg@example.org", ..recipient() }];
        let content = "Subject: \u{fc}\r\n\r\n\u{fc}\r\n";
        let text = compose(&Report { content: content.as_bytes(), smtputf8: true, ..report(&recipients, true) });
        let text = String::from_utf8(text).expect("UTF-8");
        for line in [
            "report-type=global-delivery-status;",
            "Final-Recipient: utf-8; j\u{f6}rg@example.org",
            "Content-Type: message/global\r\nContent-Transfer-Encoding: 8bit\r\n",
        ] {
            assert!(text.contains(line), "{line:?} in {text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_words_make_a_long_line_or_a_bare_line_end(said in "\\PC{0,400}", tail in "[a-z]{0,3000}") {
            let said = format!("{said}\n{tail}");
            let recipients = [Recipient { text: &said, diagnostic: Some(&said), orcpt: Some(&said), ..recipient() }];
            let text = compose(&Report { envid: Some(&said), ..report(&recipients, false) });
            for line in text.split_inclusive(|&b| b == b'\n') {
                proptest::prop_assert!(line.len() <= 1000 && line.ends_with(b"\r\n"));
            }
        }
    }
}
