//! A record as one JSON object on one line, all of it within 0x20-0x7e.

use std::fmt::Display;
use std::io;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::ser::{CompactFormatter, Formatter};

use crate::Record;

/// What stands around a record when it is written down.
#[derive(Serialize)]
struct Written<'a> {
    #[serde(serialize_with = "shown")]
    time: Timestamp,
    daemon: &'a str,
    pid: u32,
    #[serde(flatten)]
    record: &'a Record<'a>,
    line: &'a str,
}

impl Record<'_> {
    /// The record as a JSON object without line feed: when, by which daemon and process, what it decided by which rule from which file and line,
    /// and the log line made from it. A record without a rule of its own is ruled by its event; one that no file decides has the source `default`.
    #[must_use]
    pub fn json(&self, time: Timestamp, daemon: &str, line: &str) -> String {
        let mut octets = Vec::with_capacity(512);
        let mut serializer = serde_json::Serializer::with_formatter(&mut octets, Ascii);
        let written = Written { time, daemon, pid: std::process::id(), record: self, line };
        // Neither a map with odd keys nor a failing writer is involved.
        if written.serialize(&mut serializer).is_err() {
            octets.clear();
        }
        String::from_utf8(octets).unwrap_or_default()
    }
}

/// Any value as JSON on one line, all of it within 0x20-0x7e, so that nothing in it can move a terminal.
///
/// # Errors
/// The value has a map whose keys are no strings.
pub fn ascii_json<T: Serialize>(value: &T) -> serde_json::Result<String> {
    let mut octets = Vec::with_capacity(512);
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut octets, Ascii))?;
    Ok(String::from_utf8(octets).unwrap_or_default())
}

/// Serialises something as it is printed.
pub(crate) fn shown<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// Serialises something optional as it is printed.
pub(crate) fn shown_or_none<T: Display, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}

/// The source of a record: `default` where no file decided.
pub(crate) fn source<T: Display, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_str("default"),
    }
}

/// Serialises a span of time as seconds.
pub(crate) fn seconds<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(span.as_secs_f64())
}

/// Serialises spans of time as seconds.
pub(crate) fn all_seconds<S: Serializer>(spans: &[Duration; 4], serializer: S) -> Result<S::Ok, S::Error> {
    spans.map(|span| span.as_secs_f64()).serialize(serializer)
}

/// Writes whatever a terminal could take for more than text as `\uXXXX`.
struct Ascii;

impl Formatter for Ascii {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(|c: char| !(' '..='~').contains(&c)) {
            let (plain, odd) = rest.split_at(at);
            CompactFormatter.write_string_fragment(writer, plain)?;
            let mut characters = odd.chars();
            for unit in characters.by_ref().take(1).flat_map(|c| c.encode_utf16(&mut [0; 2]).to_vec()) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = characters.as_str();
        }
        CompactFormatter.write_string_fragment(writer, rest)
    }
}

#[cfg(test)]
mod tests {
    use crate::{Event, Ident, Record, Stage};
    use mail_types::SourceLine;

    #[test]
    fn a_record_is_one_line_that_names_its_rule_and_source() {
        let (ident, source) = (Ident::postfix("postfix", "qmgr"), SourceLine::new("/etc/postfix/main.cf", 12));
        let mut record = Record::new(&ident, Stage::Queue, Event::Expired { from: "a@b", status: "expired" });
        record.rule = Some("maximal_queue_lifetime");
        record.source = Some(&source);
        let text = record.to_string();
        let json = record.json("2026-11-22T18:00:00Z".parse().expect("a time"), "queue-manager", &text);
        assert_eq!(
            json,
            format!(
                "{{\"time\":\"2026-11-22T18:00:00Z\",\"daemon\":\"queue-manager\",\"pid\":{},\"ident\":\"postfix/qmgr\",\"level\":\"info\",\
                 \"stage\":\"queue\",\"rule\":\"maximal_queue_lifetime\",\"source\":\"/etc/postfix/main.cf:12\",\"event\":\"expired\",\
                 \"values\":{{\"from\":\"a@b\",\"status\":\"expired\"}},\"line\":\"from=<a@b>, status=expired, returned to sender\"}}",
                std::process::id()
            )
        );
    }

    #[test]
    fn a_record_without_a_rule_says_what_it_is() {
        let ident = Ident::postfix("postfix", "qmgr");
        let json = Record::new(&ident, Stage::Queue, Event::Removed).json(jiff::Timestamp::UNIX_EPOCH, "x", "removed");
        assert!(json.contains("\"rule\":\"removed\",\"source\":\"default\",\"event\":\"removed\""), "{json}");
    }

    #[test]
    fn nothing_in_json_can_move_a_terminal() {
        let ident = Ident::postfix("postfix", "smtpd");
        let event = Event::Text("a\r\n\u{1b}[31m\u{7f}\u{9b}\u{e9}\u{1f600}\0\"\\");
        let json = Record::new(&ident, Stage::Daemon, event).json(jiff::Timestamp::UNIX_EPOCH, "x", "y");
        assert!(json.bytes().all(|octet| (0x20..0x7f).contains(&octet)), "{json}");
        let value: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(value["values"], "a\r\n\u{1b}[31m\u{7f}\u{9b}\u{e9}\u{1f600}\0\"\\");
    }
}
