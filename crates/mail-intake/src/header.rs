//! The header as it is stored.

use mail_message::header::{Field, Header, Received, date};
use mail_types::{QueueId, Sender, UnixTime};

use crate::addresses::{Rewrites, rewritten};

/// Why a message is not taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderError {
    /// More Received fields than `hopcount_limit`: it goes round in circles (S16).
    TooManyHops,
}

/// What the header is made with.
#[derive(Debug, Clone, Copy)]
pub struct Intake<'a> {
    /// `myhostname`.
    pub hostname: &'a str,
    /// `mail_name`.
    pub software: &'a str,
    /// The queue id.
    pub id: QueueId,
    /// When the message came.
    pub when: UnixTime,
    /// The trace field to put on top; none for a message of our own (a bounce).
    pub received: Option<Received<'a>>,
    /// What its addresses become.
    pub rewrites: &'a Rewrites,
    /// Whether missing fields are added.
    pub adds: bool,
    /// The envelope sender, for a missing From.
    pub sender: &'a Sender,
    /// The full name for a missing From (`sendmail -F`).
    pub full_name: Option<&'a str>,
    /// `hopcount_limit`.
    pub hopcount_limit: usize,
    /// `header_size_limit`.
    pub header_size_limit: usize,
    /// `message_drop_headers`.
    pub drop_headers: &'a [String],
    /// `undisclosed_recipients_header`; empty for none.
    pub undisclosed: &'a str,
}

/// A header that is ready to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// The whole header with the empty line that ends it. Content follows from [`Prepared::body`] on.
    pub header: Vec<u8>,
    /// Where the body begins in the content as it came.
    pub body: usize,
    /// The Message-ID with its angle brackets, for the log.
    pub message_id: Option<String>,
    /// Whether a field holds UTF-8, so that the next hop needs SMTPUTF8 (RFC 6532).
    pub utf8: bool,
}

/// What was seen of the fields that may be added.
#[derive(Default)]
struct Seen {
    from: bool,
    date: bool,
    destination: bool,
    resent: bool,
    resent_from: bool,
    resent_date: bool,
    message_id: Option<String>,
    resent_message_id: bool,
    utf8: bool,
}

impl Intake<'_> {
    /// Makes the header of `content`, which holds the whole header and may hold more.
    ///
    /// # Errors
    /// [`HeaderError::TooManyHops`].
    pub fn header(&self, content: &[u8]) -> Result<Prepared, HeaderError> {
        let scanned = Header::scan(content);
        if scanned.hops() > self.hopcount_limit {
            return Err(HeaderError::TooManyHops);
        }
        let mut out = Vec::with_capacity(scanned.end() + 512);
        if let Some(received) = self.received {
            out.extend_from_slice(received.field(self.hostname, self.software, self.id, self.when).as_bytes());
        }
        let mut seen = Seen::default();
        for field in scanned.fields() {
            if !self.drops(field) {
                seen.note(field);
                self.copy(field, &mut out);
            } else if field.is("Bcc") || field.is("Resent-Bcc") {
                seen.destination = true;
            }
        }
        if self.adds {
            self.add_missing(&mut seen, &mut out);
        }
        out.extend_from_slice(b"\r\n");
        Ok(Prepared { header: out, body: scanned.body(), message_id: seen.message_id, utf8: seen.utf8 })
    }

    fn drops(&self, field: &Field<'_>) -> bool {
        let dropped = self.drop_headers.iter().any(|name| field.is(name));
        // Return-Path is ours to write at final delivery, whatever the list says (S16).
        dropped || field.is("Return-Path")
    }

    /// A field within `header_size_limit`: continuation lines beyond it are left out, as cleanup(8) does.
    fn copy(&self, field: &Field<'_>, out: &mut Vec<u8>) {
        let kept = within(field.raw(), self.header_size_limit);
        if kept.len() == field.raw().len() {
            return self.copy_whole(field, out);
        }
        Header::scan(kept).fields().iter().for_each(|field| self.copy_whole(field, out));
    }

    fn copy_whole(&self, field: &Field<'_>, out: &mut Vec<u8>) {
        if let Some(octets) = rewritten(field, self.rewrites) {
            out.extend_from_slice(&octets);
            if !octets.ends_with(b"\n") {
                out.extend_from_slice(b"\r\n");
            }
            return;
        }
        out.extend_from_slice(field.raw());
        // The last field of a header without a body may lack its line end.
        if !field.raw().ends_with(b"\n") {
            out.extend_from_slice(b"\r\n");
        }
    }

    /// RFC 6409 section 8, as Postfix's cleanup does it: with Resent- fields the resent ones are completed.
    fn add_missing(&self, seen: &mut Seen, out: &mut Vec<u8>) {
        let prefix = if seen.resent { "Resent-" } else { "" };
        let (has_id, has_date, has_from) = if seen.resent {
            (seen.resent_message_id, seen.resent_date, seen.resent_from)
        } else {
            (seen.message_id.is_some(), seen.date, seen.from)
        };
        if !has_id {
            let id = self.new_message_id();
            out.extend_from_slice(format!("{prefix}Message-Id: {id}\r\n").as_bytes());
            seen.message_id.get_or_insert(id);
        }
        if !has_date {
            out.extend_from_slice(format!("{prefix}Date: {}\r\n", date(self.when)).as_bytes());
        }
        if !has_from {
            let from = self.author();
            seen.utf8 |= !from.is_ascii();
            out.extend_from_slice(format!("{prefix}From: {from}\r\n").as_bytes());
        }
        if !seen.destination && !seen.resent && !self.undisclosed.is_empty() {
            out.extend_from_slice(format!("{}\r\n", self.undisclosed).as_bytes());
        }
    }

    /// `<20261122150000.ID@myhostname>`, as Postfix writes it.
    fn new_message_id(&self) -> String {
        let stamp = stamp(self.when);
        format!("<{stamp}.{}@{}>", self.id, self.hostname)
    }

    fn author(&self) -> String {
        let address = match self.sender {
            Sender::Null => format!("MAILER-DAEMON@{}", self.hostname),
            Sender::Address(address) => address.to_string(),
        };
        match self.full_name.map(str::trim).filter(|name| !name.is_empty()) {
            None => address,
            Some(name) => format!("{} <{address}>", phrase(name)),
        }
    }
}

/// The lines of a field up to the one with which the limit is reached.
fn within(field: &[u8], limit: usize) -> &[u8] {
    let mut kept = 0;
    for line in field.split_inclusive(|octet| *octet == b'\n') {
        if kept > 0 && kept >= limit {
            break;
        }
        kept += line.len();
    }
    &field[..kept]
}

/// A display name; quoted where it holds what no phrase may hold.
fn phrase(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || " !#$%&'*+-/=?^_`{|}~".contains(c) || !c.is_ascii();
    let clean: String = name.chars().filter(|c| !c.is_control()).collect();
    if clean.chars().all(plain) {
        return clean;
    }
    format!("\"{}\"", clean.replace('\\', "\\\\").replace('"', "\\\""))
}

fn stamp(when: UnixTime) -> String {
    let seconds = i64::try_from(when.seconds()).unwrap_or(0);
    let time = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    time.strftime("%Y%m%d%H%M%S").to_string()
}

impl Seen {
    fn note(&mut self, field: &Field<'_>) {
        self.utf8 |= std::str::from_utf8(field.raw()).is_ok_and(|text| !text.is_ascii());
        let name = field.name().to_ascii_lowercase();
        self.resent |= name.starts_with(b"resent-");
        match name.as_slice() {
            b"from" => self.from = true,
            b"date" => self.date = true,
            b"to" | b"cc" | b"bcc" => self.destination = true,
            b"resent-from" => self.resent_from = true,
            b"resent-date" => self.resent_date = true,
            b"resent-message-id" => self.resent_message_id = true,
            b"message-id" if self.message_id.is_none() => {
                let text = field.text();
                // What is longer than a header line says nothing to a log.
                let id: String = text.chars().take(998).collect();
                self.message_id = Some(id).filter(|id| !id.is_empty());
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drop_headers() -> Vec<String> {
        ["bcc", "content-length", "resent-bcc", "return-path"].map(str::to_owned).to_vec()
    }

    fn prepare(content: &str, adds: bool, full_name: Option<&str>) -> Result<(String, Prepared), HeaderError> {
        let sender = Sender::try_from("john@info.net".to_owned()).expect("a sender");
        let drops = drop_headers();
        let rewrites = Rewrites::from([((crate::Role::Recipient, "root".to_owned()), "root@info.net".to_owned())]);
        let none = Rewrites::default();
        let intake = Intake {
            hostname: "server.info.net",
            software: "Postfix",
            id: QueueId::new(1_795_359_600, 0, 7).expect("in range"),
            when: UnixTime(1_795_359_600_000),
            received: None,
            rewrites: if adds { &rewrites } else { &none },
            adds,
            sender: &sender,
            full_name,
            hopcount_limit: 3,
            header_size_limit: 100,
            drop_headers: &drops,
            undisclosed: "",
        };
        let prepared = intake.header(content.as_bytes())?;
        Ok((String::from_utf8(prepared.header.clone()).expect("UTF-8"), prepared))
    }

    const OURS: bool = true;
    const OTHERS: bool = false;

    #[test]
    fn a_stranger_s_header_stays_as_it_is() {
        // F01, F02: nothing added, order kept.
        let content = "To: root\r\nX: a\r\n b\r\n\r\nbody";
        let (header, prepared) = prepare(content, OTHERS, None).expect("taken");
        assert_eq!(header, "To: root\r\nX: a\r\n b\r\n\r\n");
        assert_eq!((&content[prepared.body..], prepared.message_id), ("body", None));
    }

    #[test]
    fn our_clients_get_what_is_missing() {
        // F01
        let (header, prepared) = prepare("To: root\r\n\r\n", OURS, Some("Doe, John")).expect("taken");
        let id = prepared.message_id.expect("made");
        assert!(id.starts_with("<20261122150000.") && id.ends_with("@server.info.net>"), "{id}");
        let lines: Vec<_> = header.lines().collect();
        assert_eq!(lines[0], "To: root@info.net");
        assert_eq!(lines[1], format!("Message-Id: {id}"));
        assert!(lines[2].starts_with("Date: "));
        assert_eq!(lines[3], "From: \"Doe, John\" <john@info.net>");
        assert_eq!(lines[4], "");
    }

    // F01
    #[test]
    fn what_is_there_is_not_added_twice() {
        let content = "From: a@b.org\r\nDate: x\r\nMESSAGE-ID:  <1@b.org>\r\n\r\n";
        let (header, prepared) = prepare(content, OURS, None).expect("taken");
        assert_eq!(header, content);
        assert_eq!(prepared.message_id.as_deref(), Some("<1@b.org>"));
    }

    #[test]
    fn fields_that_must_not_travel_are_dropped() {
        // F02, S16
        let content =
            "Return-Path: <x@y>\r\nBcc: secret@b.org,\r\n more@b.org\r\nSubject: s\r\nContent-Length: 5\r\n\r\n";
        let (header, _) = prepare(content, OTHERS, None).expect("taken");
        assert_eq!(header, "Subject: s\r\n\r\n");
    }

    #[test]
    fn loops_are_cut() {
        // S16
        let content = "Received: x\r\n".repeat(3);
        assert!(prepare(&content, OTHERS, None).is_ok());
        assert_eq!(prepare(&content.repeat(2), OTHERS, None).map(|_| ()), Err(HeaderError::TooManyHops));
    }

    #[test]
    fn a_body_without_header_gets_its_empty_line() {
        let (header, prepared) = prepare("hello there\r\n", OTHERS, None).expect("taken");
        assert_eq!((header.as_str(), prepared.body), ("\r\n", 0));
        let (header, prepared) = prepare("A: b", OTHERS, None).expect("taken");
        assert_eq!((header.as_str(), prepared.body), ("A: b\r\n\r\n", 4));
    }

    #[test]
    fn utf8_in_a_field_is_noticed() {
        assert!(prepare("Subject: ä\r\n\r\n", OTHERS, None).expect("taken").1.utf8);
        assert!(!prepare("Subject: a\r\n\r\nä", OTHERS, None).expect("taken").1.utf8);
    }

    #[test]
    fn no_full_name_forges_a_field() {
        let (header, _) = prepare("\r\n", OURS, Some("x\r\nX-Forged: 1 \"<a>")).expect("taken");
        assert!(header.contains("From: \"xX-Forged: 1 \\\"<a>\" <john@info.net>\r\n"), "{header}");
    }

    #[test]
    fn a_field_ends_with_the_line_that_reaches_its_limit() {
        let long: String = (0..20).map(|line| format!(" <{line:02}@example.org>\r\n")).collect();
        let content = format!("X-Long: a\r\n{long}Subject: b\r\n\r\nbody\r\n");
        let (header, prepared) = prepare(&content, false, None).expect("good");
        let kept = header.find("Subject: b\r\n").expect("the next field is whole");
        assert!((100..125).contains(&kept) && header[..kept].ends_with("@example.org>\r\n"), "{header}");
        assert_eq!(&content[prepared.body..], "body\r\n");
    }
}
