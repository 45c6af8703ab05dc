//! The writer: a message as a queue file, and a submission as a file of `maildrop/`, as cleanup and postdrop of Postfix write them.

use mail_types::{Address, Body, Client, Envelope, Notify, Purpose, Recipient, Ret, Sender, UnixTime};

use crate::envelope::{TRACE_FLAGS, notify_bits};
use crate::record::{self, put};

/// The longest line in one record (`line_length_limit`).
const LINE_MAX: usize = 2048;
/// The hint that recipients stand between other records, so that Postfix reads the whole file before it begins.
const MIXED: u64 = 1;

/// When the sender is warned of the delay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Never.
    Unwatched,
    /// At this time.
    WarnAt(UnixTime),
    /// The sender was warned.
    Warned,
}

/// A message on its way to Postfix.
#[derive(Debug)]
pub struct Outgoing<'a> {
    /// The envelope; its recipients are those that Postfix is to see to.
    pub envelope: &'a Envelope,
    /// Recipients that are seen to, and of whom a log file in `bounce/` or `trace/` is still to tell the sender.
    pub done: &'a [Recipient],
    /// The content; lines end with CRLF or LF.
    pub content: &'a [u8],
    /// When the sender is warned of the delay.
    pub wait: Wait,
}

impl Outgoing<'_> {
    /// The octets of the queue file, and where the record of each recipient is, in their order; those that are done come last.
    #[must_use]
    pub fn write(&self) -> (Vec<u8>, Vec<u64>) {
        // The first record has a fixed length, so it can be written last.
        let mut out = Vec::with_capacity(self.content.len() + self.content.len() / 8 + 1024);
        put(&mut out, record::SIZE, size(0, 0, 0, 0, 0).as_bytes());
        self.head(&mut out);
        let offsets = self.recipients(&mut out);
        put(&mut out, record::CONTENT, b"");
        let begin = out.len() as u64;
        lines(&mut out, self.content);
        let length = out.len() as u64 - begin;
        put(&mut out, record::EXTRACTED, b"");
        put(&mut out, record::END, b"");
        let all = self.envelope.recipients.iter().chain(self.done);
        let bits = all.fold(0, |bits, to| bits | notify_bits(to.notify));
        let hints = MIXED | u64::from(bits) << 1;
        let first = size(length, begin, offsets.len() as u64, hints, self.smtputf8());
        let mut front = Vec::new();
        put(&mut front, record::SIZE, first.as_bytes());
        out[..front.len()].copy_from_slice(&front);
        (out, offsets)
    }

    fn head(&self, out: &mut Vec<u8>) {
        let envelope = self.envelope;
        time(out, envelope.arrival);
        attribute(out, "create_time", envelope.arrival.seconds().to_string().as_bytes());
        // Header and addresses are complete already.
        attribute(out, "rewrite_context", b"local");
        if let Some(envid) = &envelope.dsn.envid {
            attribute(out, "envelope_id", envid.as_bytes());
        }
        if let Some(ret) = envelope.dsn.ret {
            attribute(out, "ret_flags", if ret == Ret::Full { b"1" } else { b"2" });
        }
        put(out, record::SENDER, &raw_sender(&envelope.sender));
        attribute(out, "encoding", if envelope.body == Body::EightBitMime { b"8bit" } else { b"7bit" });
        client(out, &envelope.client);
        trace(out, envelope.purpose);
        let warn = match self.wait {
            Wait::Unwatched => None,
            Wait::WarnAt(at) => Some(i64::try_from(at.seconds()).unwrap_or(i64::MAX)),
            Wait::Warned => Some(-1),
        };
        if let Some(warn) = warn.filter(|_| envelope.sender != Sender::Null) {
            put(out, record::WARN, format!("{warn:15}").as_bytes());
        }
    }

    fn recipients(&self, out: &mut Vec<u8>) -> Vec<u64> {
        let mut offsets = Vec::with_capacity(self.envelope.recipients.len() + self.done.len());
        let open = self.envelope.recipients.iter().map(|to| (record::RECIPIENT, to));
        for (kind, to) in open.chain(self.done.iter().map(|to| (record::DONE, to))) {
            if to.notify.is_some() {
                attribute(out, "notify_flags", notify_bits(to.notify).to_string().as_bytes());
            }
            if let Some(orcpt) = &to.orcpt {
                attribute(out, "dsn_orig_rcpt", orcpt.as_bytes());
            }
            let address = raw(&to.address);
            put(out, record::ORIGINAL, to.original.as_deref().map_or(address.as_slice(), str::as_bytes));
            offsets.push(out.len() as u64);
            put(out, kind, &address);
        }
        offsets
    }

    /// What cleanup finds out about SMTPUTF8: asked for, needed by the header, needed by the sender.
    fn smtputf8(&self) -> u64 {
        if !self.envelope.smtputf8 {
            return 0;
        }
        let header = header_of(self.content);
        let sender = self.envelope.sender.address().is_some_and(Address::needs_smtputf8);
        1 | u64::from(!header.is_ascii()) << 1 | u64::from(sender) << 2
    }
}

/// A local submission that no daemon has seen yet.
#[derive(Debug)]
pub struct Dropped<'a> {
    /// When it was dropped.
    pub arrival: UnixTime,
    /// The sender as typed, complete or not; empty for the null sender.
    pub sender: &'a str,
    /// The full name of the submitter.
    pub full_name: Option<&'a [u8]>,
    /// The recipients as typed.
    pub recipients: &'a [String],
    /// RET.
    pub ret: Option<Ret>,
    /// ENVID, decoded.
    pub envid: Option<&'a str>,
    /// NOTIFY, for all recipients.
    pub notify: Option<Notify>,
    /// What is wanted of it.
    pub purpose: Purpose,
    /// The content.
    pub content: &'a [u8],
}

impl Dropped<'_> {
    /// The octets of the file.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.content.len() + self.content.len() / 8 + 1024);
        time(&mut out, self.arrival);
        if let Some(envid) = self.envid {
            attribute(&mut out, "envelope_id", envid.as_bytes());
        }
        if let Some(ret) = self.ret {
            attribute(&mut out, "ret_flags", if ret == Ret::Full { b"1" } else { b"2" });
        }
        attribute(&mut out, "rewrite_context", b"local");
        if let Some(name) = self.full_name {
            put(&mut out, record::FULL_NAME, name);
        }
        put(&mut out, record::SENDER, unquoted(self.sender).as_bytes());
        trace(&mut out, self.purpose);
        for recipient in self.recipients {
            if self.notify.is_some() {
                attribute(&mut out, "notify_flags", notify_bits(self.notify).to_string().as_bytes());
            }
            put(&mut out, record::RECIPIENT, unquoted(recipient).as_bytes());
        }
        put(&mut out, record::CONTENT, b"");
        lines(&mut out, self.content);
        put(&mut out, record::EXTRACTED, b"");
        put(&mut out, record::END, b"");
        out
    }
}

/// An address as typed, in its internal form where it is a complete one.
fn unquoted(text: &str) -> String {
    text.parse::<Address>()
        .map_or_else(|_| text.to_owned(), |address| format!("{}@{}", address.local(), address.domain()))
}

fn size(content: u64, offset: u64, recipients: u64, hints: u64, smtputf8: u64) -> String {
    format!("{content:15} {offset:15} {recipients:15} {hints:15} {content:15} {smtputf8:15}")
}

fn time(out: &mut Vec<u8>, at: UnixTime) {
    put(out, record::TIME, format!("{} {}", at.seconds(), at.0 % 1000 * 1000).as_bytes());
}

/// Empty values are not written: for Postfix they are mistakes.
fn attribute(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    if !value.is_empty() {
        let clean = value.iter().map(|&octet| if octet.is_ascii_control() { b'?' } else { octet });
        let pair: Vec<u8> = name.bytes().chain(*b"=").chain(clean).collect();
        put(out, record::ATTRIBUTE, &pair);
    }
}

fn client(out: &mut Vec<u8>, client: &Client) {
    let Some(address) = client.address else {
        attribute(out, "log_message_origin", b"local");
        return;
    };
    let (name, address) = (client.name.as_str(), address.to_string());
    let helo = client.helo.as_ref().map(|helo| helo.as_bytes().to_vec()).unwrap_or_default();
    for prefix in ["log_", ""] {
        attribute(out, &format!("{prefix}client_name"), name.as_bytes());
        attribute(out, &format!("{prefix}client_address"), address.as_bytes());
        attribute(out, &format!("{prefix}helo_name"), &helo);
        attribute(out, &format!("{prefix}protocol_name"), client.protocol.as_bytes());
    }
    attribute(out, "reverse_client_name", name.as_bytes());
    attribute(out, "log_message_origin", format!("{name}[{address}]").as_bytes());
    // AF_INET and AF_INET6 of Linux.
    attribute(out, "client_address_type", if address.contains(':') { b"10" } else { b"2" });
    attribute(out, "sasl_method", client.sasl_method.as_deref().unwrap_or_default().as_bytes());
    attribute(out, "sasl_username", client.sasl_username.as_deref().unwrap_or_default().as_bytes());
}

fn trace(out: &mut Vec<u8>, purpose: Purpose) {
    let flags = TRACE_FLAGS.iter().find(|(known, _)| *known == purpose).map_or("", |(_, flags)| flags);
    attribute(out, "trace_flags", flags.as_bytes());
}

fn raw(address: &Address) -> Vec<u8> {
    format!("{}@{}", address.local(), address.domain()).into_bytes()
}

fn raw_sender(sender: &Sender) -> Vec<u8> {
    sender.address().map(raw).unwrap_or_default()
}

/// The content as records; a long line in parts.
fn lines(out: &mut Vec<u8>, content: &[u8]) {
    let mut rest = content;
    while !rest.is_empty() {
        let end = rest.iter().position(|&octet| octet == b'\n');
        let line = &rest[..end.unwrap_or(rest.len())];
        let mut line = line.strip_suffix(b"\r").filter(|_| end.is_some()).unwrap_or(line);
        while line.len() > LINE_MAX {
            put(out, record::PART, &line[..LINE_MAX]);
            line = &line[LINE_MAX..];
        }
        put(out, record::LINE, line);
        rest = end.map_or(&[], |end| &rest[end + 1..]);
    }
}

/// The header with the empty line behind it.
fn header_of(content: &[u8]) -> &[u8] {
    let mut at = 0;
    for line in content.split_inclusive(|&octet| octet == b'\n') {
        if matches!(line, b"\n" | b"\r\n") {
            break;
        }
        at += line.len();
    }
    &content[..at]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::State;
    use crate::read::{LIMITS, read};

    fn sample() -> (Envelope, Vec<u8>) {
        let file = read(include_bytes!("../samples/deferred"), &LIMITS).expect("good");
        (file.envelope().expect("good").envelope, file.content)
    }

    #[test]
    fn a_file_that_was_written_says_what_was_to_be_said() {
        let (envelope, content) = sample();
        let (file, offsets) =
            Outgoing { envelope: &envelope, done: &[], content: &content, wait: Wait::WarnAt(UnixTime(5000)) }.write();
        let found = read(&file, &LIMITS).expect("good");
        assert_eq!(found.envelope().expect("good").envelope, envelope);
        assert_eq!((found.warn, &found.content), (Some(5), &content));
        let said: Vec<u64> = found.recipients.iter().map(|to| to.offset).collect();
        assert_eq!((said, found.recipients[0].state), (offsets, State::Open));
        // As in the file of Postfix: octets, recipients, hints (with the one for mixed records), SMTPUTF8.
        let size = found.size.expect("a size");
        assert_eq!((size.content, size.length, size.recipients, size.hints, size.smtputf8), (5310, 5310, 3, 15, 3));
        assert_eq!(file[usize::try_from(size.offset).expect("small")], b'N');
        assert_eq!(file[usize::try_from(size.offset + size.content).expect("small")], b'X');
    }

    #[test]
    fn the_recipient_before_aliases_is_kept() {
        let (mut envelope, content) = sample();
        envelope.recipients[0].original = Some("sales@info.net".to_owned());
        let done = envelope.recipients.clone();
        let outgoing = Outgoing { envelope: &envelope, done: &done, content: &content, wait: Wait::Unwatched };
        let found = read(&outgoing.write().0, &LIMITS).expect("good");
        assert_eq!(found.recipients.len(), 2 * done.len());
        assert_eq!(found.recipients[done.len()].original.as_deref(), Some(&b"sales@info.net"[..]));
        // Without another one it is the recipient itself, as Postfix writes it.
        assert_eq!(found.recipients[1].original.as_ref(), Some(&found.recipients[1].address));
        assert_eq!(found.envelope().expect("good").envelope.recipients[0].original.as_deref(), Some("sales@info.net"));
    }

    #[test]
    fn crlf_and_lf_give_the_same_records_and_a_null_sender_is_never_warned() {
        let (mut envelope, _) = sample();
        envelope.sender = Sender::Null;
        envelope.purpose = Purpose::Verify;
        let write = |content: &[u8]| Outgoing { envelope: &envelope, done: &[], content, wait: Wait::Warned }.write().0;
        assert_eq!(write(b"A: b\r\n\r\nx\r\n"), write(b"A: b\n\nx\n"));
        assert_eq!(write(b"A: b\n\nx\n"), write(b"A: b\n\nx"));
        let file = read(&write(b"x\n"), &LIMITS).expect("good");
        assert_eq!((file.warn, file.purpose()), (None, Ok(Purpose::Verify)));
    }

    #[test]
    fn a_submission_is_written_as_postdrop_writes_it() {
        let written = Dropped {
            arrival: UnixTime(1_795_381_912_864),
            sender: "me@pf.example",
            full_name: Some(b"Full Name"),
            recipients: &["c@pf.example".to_owned(), "bare".to_owned()],
            ret: Some(Ret::Headers),
            envid: Some("env1"),
            notify: Some(Notify { success: false, failure: true, delay: true }),
            purpose: Purpose::Deliver,
            content: b"Subject: dropped\n\nhello\n\nlast\n",
        }
        .write();
        let mut expected = read(include_bytes!("../samples/maildrop"), &LIMITS).expect("good");
        let mut found = read(&written, &LIMITS).expect("good");
        expected.content.push(b'\n');
        expected.arrival = found.arrival;
        for to in expected.recipients.iter_mut().chain(&mut found.recipients) {
            to.offset = 0;
        }
        assert_eq!(found, expected);
    }

    proptest::proptest! {
        #[test]
        fn content_is_read_as_it_was_written(lines in proptest::collection::vec("[^\r\n\0]{0,40}|x{2040,4100}", 0..8)) {
            let content: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
            let (envelope, _) = sample();
            let (file, _) = Outgoing { envelope: &envelope, done: &[], content: content.as_bytes(), wait: Wait::Unwatched }.write();
            let found = read(&file, &LIMITS).expect("good");
            proptest::prop_assert_eq!(found.content, content.replace("\r\n", "\n").into_bytes());
        }
    }
}
