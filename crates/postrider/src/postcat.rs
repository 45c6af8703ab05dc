//! `postcat -q`: a message of the queue, envelope and content.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

use jiff::tz::TimeZone;
use mail_ipc::control::Listed;
use mail_types::{QueueId, Sender};

use crate::arguments::{Grammar, Parsed};
use crate::exit::{Failure, NO_PERMISSION, Outcome};
use crate::postqueue::json::queue_name;
use crate::queue::Queue;
use crate::system::System;
use crate::terminal::{print, print_octets};

const GRAMMAR: Grammar = Grammar::letters("bc:dehnoqv");
const USAGE: &str =
    "usage: postcat [-b (body text)] [-c config_dir] [-e (envelope records)] [-h (header text)] -q queue_id ...";
/// Octets of content that are held at once.
const CHUNK: usize = 64 * 1024;

/// Which parts are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Parts {
    envelope: bool,
    header: bool,
    body: bool,
}

impl Parts {
    fn of(parsed: &Parsed) -> Self {
        let given = Self { envelope: parsed.has('e'), header: parsed.has('h'), body: parsed.has('b') };
        let none = !(given.envelope || given.header || given.body);
        if none { Self { envelope: true, header: true, body: true } } else { given }
    }
}

/// Runs the command.
///
/// # Errors
/// Wrong options or an unknown id (1), the system is down (69).
pub fn run(arguments: &[OsString]) -> Outcome {
    let parsed = GRAMMAR.parse(arguments).map_err(|error| Failure::usage(format!("{error}; {USAGE}")))?;
    if !parsed.has('q') {
        return Err(Failure::usage("messages are not files here: only -q with queue ids is supported"));
    }
    let mut queue = Queue::open(&System::state(parsed.last('c'))?, "Cannot read the mail queue")?;
    for operand in &parsed.operands {
        let name = operand.to_string_lossy();
        if !name.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(Failure::usage(format!("bad mail queue ID: {name}")));
        }
        let missing = || Failure::usage(format!("open queue file {name}: No such file or directory"));
        let id: QueueId = name.parse().map_err(|_| missing())?;
        let (message, content, length) = queue.show(id).map_err(explained)?.ok_or_else(missing)?;
        show(&message, &content, length, Parts::of(&parsed))?;
    }
    Ok(0)
}

fn explained(failure: Failure) -> Failure {
    match failure.code {
        NO_PERMISSION => Failure::new(1, "use of this command is reserved for the superuser"),
        _ => failure,
    }
}

fn show(message: &Listed, content: &File, length: u64, parts: Parts) -> Result<(), Failure> {
    let name = format!("{}/{}", queue_name(message.queue), message.id);
    if parts.envelope {
        print(&envelope(message, &name, length, &TimeZone::system()))?;
        print(&format!("*** MESSAGE CONTENTS {name} ***\n"))?;
    }
    if parts.header || parts.body {
        show_content(content, length, parts)?;
    }
    if parts.envelope {
        print(&format!("*** HEADER EXTRACTED {name} ***\n*** MESSAGE FILE END {name} ***\n"))?;
    }
    Ok(())
}

fn envelope(message: &Listed, name: &str, length: u64, zone: &TimeZone) -> String {
    let recipients = message.recipients.len() as u64 + u64::from(message.more_recipients);
    let mut out = format!("*** ENVELOPE RECORDS {name} ***\n");
    let _ =
        writeln!(out, "message_size: {:>15} {:>15} {recipients:>15} {:>15} {length:>15} {:>15}", message.size, 0, 0, 0);
    let arrival = jiff::Timestamp::from_second(message.arrival.seconds().cast_signed()).unwrap_or_default();
    let arrival = arrival.to_zoned(zone.clone());
    let _ = writeln!(out, "message_arrival_time: {}", arrival.strftime("%a %b %e %H:%M:%S %Y"));
    let sender = match &message.sender {
        Sender::Null => String::new(),
        Sender::Address(address) => address.to_string(),
    };
    let _ = writeln!(out, "sender: {sender}");
    for recipient in &message.recipients {
        let _ = writeln!(out, "recipient: {}", recipient.address);
    }
    if message.more_recipients > 0 {
        let _ = writeln!(out, "recipients not shown: {}", message.more_recipients);
    }
    out
}

fn show_content(content: &File, length: u64, parts: Parts) -> Result<(), Failure> {
    let mut splitter = Splitter::new(parts);
    let mut at = 0;
    while at < length {
        let mut buffer = vec![0; CHUNK.min(usize::try_from(length - at).unwrap_or(CHUNK))];
        let count = content.read_at(&mut buffer, at).map_err(|error| Failure::usage(format!("content: {error}")))?;
        if count == 0 {
            return Err(Failure::usage("the content is shorter than its record says"));
        }
        at += count as u64;
        print_octets(&splitter.take(&buffer[..count]))?;
    }
    print_octets(&splitter.end())
}

/// Passes on the header, the body or both, with LF line ends.
struct Splitter {
    parts: Parts,
    in_body: bool,
    /// The line that has not ended; in the body it is passed on as it comes.
    line: Vec<u8>,
    /// A CR that may belong to a line end.
    pending_cr: bool,
    last: u8,
}

impl Splitter {
    fn new(parts: Parts) -> Self {
        Self { parts, in_body: false, line: Vec::new(), pending_cr: false, last: b'\n' }
    }

    fn take(&mut self, octets: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(octets.len());
        for &octet in octets {
            if self.pending_cr && octet != b'\n' {
                self.octet(b'\r', &mut out);
            }
            self.pending_cr = octet == b'\r';
            if !self.pending_cr {
                self.octet(octet, &mut out);
            }
        }
        out
    }

    fn end(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        if std::mem::take(&mut self.pending_cr) {
            self.octet(b'\r', &mut out);
        }
        let rest = std::mem::take(&mut self.line);
        if self.parts.header {
            out.extend(rest);
        }
        let shown = if self.in_body { self.parts.body } else { self.parts.header };
        if shown && self.last != b'\n' {
            out.push(b'\n');
        }
        out
    }

    fn octet(&mut self, octet: u8, out: &mut Vec<u8>) {
        self.last = octet;
        if self.in_body {
            if self.parts.body {
                out.push(octet);
            }
            return;
        }
        self.line.push(octet);
        if octet == b'\n' || self.line.len() > CHUNK {
            let line = std::mem::take(&mut self.line);
            self.in_body = !is_header(&line);
            if if self.in_body { self.parts.body } else { self.parts.header } {
                out.extend(line);
            }
        }
    }
}

/// A field's first line or a continuation of one.
fn is_header(line: &[u8]) -> bool {
    match line.iter().position(|&b| !(0x21..0x7f).contains(&b) || b == b':') {
        Some(0) => matches!(line, [b' ' | b'\t', ..]) && !line.trim_ascii().is_empty(),
        Some(at) => line[at..].trim_ascii_start().starts_with(b":"),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &str = "Received: by here\r\n\tid 4\r\nSubject : x\r\n\r\nhello\r\nTo: not a header\rbare\r\nno end";

    fn split(parts: Parts, chunk: usize) -> String {
        let mut splitter = Splitter::new(parts);
        let mut out: Vec<u8> = MESSAGE.as_bytes().chunks(chunk).flat_map(|part| splitter.take(part)).collect();
        out.extend(splitter.end());
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn header_and_body_are_told_apart_at_any_cut() {
        for chunk in [1, 2, 7, 1000] {
            let part = |header, body| split(Parts { envelope: false, header, body }, chunk);
            assert_eq!(part(true, false), "Received: by here\n\tid 4\nSubject : x\n");
            assert_eq!(part(false, true), "\nhello\nTo: not a header\rbare\nno end\n");
            assert_eq!(part(true, true), part(true, false) + &part(false, true));
        }
    }

    #[test]
    fn the_envelope_looks_as_postcat_shows_it() {
        let message = Listed {
            id: "4jXXG63dXnz1SRl2".parse().expect("an id"),
            queue: mail_ipc::control::QueueName::Deferred,
            arrival: mail_types::UnixTime(1_795_359_076_000),
            size: 394,
            sender: Sender::Null,
            recipients: vec![mail_ipc::control::ListedRecipient {
                address: "q@r.example".parse().expect("an address"),
                reason: None,
                status: None,
                next: None,
            }],
            more_recipients: 0,
        };
        let text = envelope(&message, "deferred/4jXXG63dXnz1SRl2", 394, &TimeZone::UTC);
        assert_eq!(
            text,
            "*** ENVELOPE RECORDS deferred/4jXXG63dXnz1SRl2 ***\n\
             message_size:             394               0               1               0             394               0\n\
             message_arrival_time: Sun Nov 22 14:51:16 2026\n\
             sender: \n\
             recipient: q@r.example\n"
        );
    }
}
