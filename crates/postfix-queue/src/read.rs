//! The reader of queue files: three groups of records (envelope, content, what headers said), and pointers that lead elsewhere and back.

use std::fmt;

use crate::message::{Attribute, QueueFile, Recipient, Size, State};
use crate::record::{self, record};

/// How much a file may hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Recipients.
    pub recipients: usize,
    /// Attributes; Postfix's own `queue_file_attribute_count_limit`.
    pub attributes: usize,
    /// Octets of an envelope record.
    pub record: usize,
    /// Pointers that lead backwards.
    pub jumps_back: usize,
}

/// More than any file that Postfix writes.
pub const LIMITS: Limits = Limits { recipients: 1_000_000, attributes: 1000, record: 64 * 1024, jumps_back: 10_000 };

/// The octets are no complete queue file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// Where.
    pub offset: usize,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "octet {}: {}", self.offset, self.what)
    }
}

impl std::error::Error for Malformed {}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Group {
    Envelope,
    Content,
    Extracted,
}

/// Reads a queue file, or a file of `maildrop/`.
///
/// # Errors
/// [`Malformed`]: a record that has no business where it stands, one that is cut short, a missing end, or more than the limits allow.
pub fn read(file: &[u8], limits: &Limits) -> Result<QueueFile, Malformed> {
    let mut reader = Reader {
        file,
        limits,
        at: 0,
        group: Group::Envelope,
        found: QueueFile::default(),
        next: Next::default(),
        reached: 0,
        jumps_back: 0,
        records: 0,
    };
    while reader.step()? {}
    Ok(reader.found)
}

/// What stands before a recipient and belongs to it.
#[derive(Default)]
struct Next {
    original: Option<Vec<u8>>,
    orcpt: Option<Vec<u8>>,
    notify: u8,
}

struct Reader<'a> {
    file: &'a [u8],
    limits: &'a Limits,
    at: usize,
    group: Group,
    found: QueueFile,
    next: Next,
    /// The furthest target of a pointer.
    reached: usize,
    jumps_back: usize,
    records: usize,
}

impl Reader<'_> {
    fn wrong<T>(&self, what: impl Into<String>) -> Result<T, Malformed> {
        Err(Malformed { offset: self.at, what: what.into() })
    }

    /// Takes one record; false at the end.
    fn step(&mut self) -> Result<bool, Malformed> {
        let begin = self.at;
        let Ok((rest, (kind, data))) = record(self.file.get(begin..).unwrap_or_default()) else {
            return self.wrong(if begin >= self.file.len() { "the end is missing" } else { "a record is cut short" });
        };
        // Every record has two octets at least, and only pointers lead to one again.
        self.records += 1;
        if self.records > self.file.len() / 2 + self.limits.jumps_back {
            return self.wrong("the records go round in circles");
        }
        let after = self.file.len() - rest.len();
        if kind == record::POINTER {
            return self.follow(data, after).map(|()| true);
        }
        if self.group != Group::Content && data.len() > self.limits.record {
            return self.wrong("the record is too long");
        }
        let more = match self.group {
            Group::Envelope => self.envelope(kind, data)?,
            Group::Content => self.content(kind, data)?,
            Group::Extracted => self.extracted(kind, data)?,
        };
        self.at = after;
        Ok(more)
    }

    fn follow(&mut self, data: &[u8], after: usize) -> Result<(), Malformed> {
        let target = number(data).and_then(|target| usize::try_from(target).ok());
        match target {
            None => return self.wrong("a pointer to nowhere"),
            // The place where a milter would have put something.
            Some(0) => self.at = after,
            Some(target) if target >= self.file.len() => return self.wrong("a pointer behind the end"),
            Some(target) => {
                if target <= self.reached {
                    self.jumps_back += 1;
                    if self.jumps_back > self.limits.jumps_back {
                        return self.wrong("too many pointers");
                    }
                }
                self.reached = target;
                self.at = target;
            }
        }
        Ok(())
    }

    fn envelope(&mut self, kind: u8, data: &[u8]) -> Result<bool, Malformed> {
        match kind {
            record::CONTENT => self.group = Group::Content,
            record::SIZE => self.size(data)?,
            // The first one counts, as for Postfix.
            record::TIME if self.found.arrival.is_none() => self.found.arrival = Some(self.time(data)?),
            record::TIME | record::CREATED => {}
            record::FULL_NAME => self.found.full_name = Some(data.to_vec()),
            record::SENDER if self.found.sender.is_none() => self.found.sender = Some(data.to_vec()),
            record::WARN => {
                let Some(time) = signed(data) else { return self.wrong("a time that is none") };
                self.found.warn.get_or_insert(time);
            }
            record::VERP => self.found.verp = Some(data.to_vec()),
            record::RET => self.ret(data)?,
            record::ENVID => self.found.envid = Some(data.to_vec()),
            _ => self.either(kind, data)?,
        }
        Ok(true)
    }

    fn content(&mut self, kind: u8, data: &[u8]) -> Result<bool, Malformed> {
        match kind {
            record::EXTRACTED => self.group = Group::Extracted,
            record::PADDING => {}
            record::LINE | record::PART => {
                self.found.content.extend_from_slice(data);
                if kind == record::LINE {
                    self.found.content.push(b'\n');
                }
                if self.found.content.len() > self.file.len() {
                    return self.wrong("the content is longer than its file");
                }
            }
            _ => return self.wrong(format!("a record of type {} in the content", shown(kind))),
        }
        Ok(true)
    }

    fn extracted(&mut self, kind: u8, data: &[u8]) -> Result<bool, Malformed> {
        match kind {
            record::END => return Ok(false),
            record::RETURN_RECEIPT | record::ERRORS_TO | record::PRIORITY => {}
            _ => self.either(kind, data)?,
        }
        Ok(true)
    }

    /// Records that may stand before and behind the content.
    fn either(&mut self, kind: u8, data: &[u8]) -> Result<(), Malformed> {
        match kind {
            record::RECIPIENT => self.recipient(State::Open, data)?,
            record::DONE => self.recipient(State::Done, data)?,
            record::CANCELLED => self.recipient(State::Cancelled, data)?,
            record::ORIGINAL => self.next.original = Some(data.to_vec()),
            record::ORCPT => self.next.orcpt = Some(data.to_vec()),
            record::NOTIFY => self.notify(data)?,
            record::FILTER | record::INSPECTOR => self.found.filter = Some(data.to_vec()),
            record::REDIRECT => self.found.redirect = Some(data.to_vec()),
            record::ATTRIBUTE => self.attribute(data)?,
            record::KILLED => {}
            _ => return self.wrong(format!("a record of type {} in the envelope", shown(kind))),
        }
        Ok(())
    }

    fn recipient(&mut self, state: State, data: &[u8]) -> Result<(), Malformed> {
        if self.found.recipients.len() >= self.limits.recipients {
            return self.wrong("too many recipients");
        }
        let Next { original, orcpt, notify } = std::mem::take(&mut self.next);
        let offset = self.at as u64;
        let address = data.to_vec();
        self.found.recipients.push(Recipient { address, original, orcpt, notify, state, offset });
        Ok(())
    }

    /// Some attributes are what other versions have a record for.
    fn attribute(&mut self, data: &[u8]) -> Result<(), Malformed> {
        let Some(split) = data.iter().position(|&octet| octet == b'=') else {
            return self.wrong("an attribute without value");
        };
        let (name, value) = (data[..split].trim_ascii(), data[split + 1..].trim_ascii());
        match name {
            b"dsn_orig_rcpt" => self.next.orcpt = Some(value.to_vec()),
            b"notify_flags" => self.notify(value)?,
            b"ret_flags" => self.ret(value)?,
            b"envelope_id" => self.found.envid = Some(value.to_vec()),
            b"create_time" => {}
            _ if self.found.attributes.len() >= self.limits.attributes => return self.wrong("too many attributes"),
            _ => {
                let name = String::from_utf8_lossy(name).into_owned();
                self.found.attributes.push(Attribute { name, value: value.to_vec() });
            }
        }
        Ok(())
    }

    fn notify(&mut self, data: &[u8]) -> Result<(), Malformed> {
        match number(data) {
            // Never alone, or some of the others.
            Some(1) => self.next.notify = 1,
            Some(bits @ (2 | 4 | 6 | 8 | 10 | 12 | 14)) => self.next.notify = u8::try_from(bits).unwrap_or(0),
            _ => return self.wrong("NOTIFY that is none"),
        }
        Ok(())
    }

    fn ret(&mut self, data: &[u8]) -> Result<(), Malformed> {
        match number(data) {
            Some(1) => self.found.ret = 1,
            Some(2) => self.found.ret = 2,
            _ => return self.wrong("RET that is none"),
        }
        Ok(())
    }

    fn time(&self, data: &[u8]) -> Result<(u64, u32), Malformed> {
        let mut numbers = data.split(|&octet| octet == b' ').filter(|word| !word.is_empty()).map(number);
        let seconds = numbers.next().flatten();
        let micros = numbers.next().flatten().unwrap_or(0);
        match (seconds, u32::try_from(micros)) {
            (Some(seconds), Ok(micros)) if micros < 1_000_000 && seconds < 1 << 40 => Ok((seconds, micros)),
            _ => self.wrong("a time that is none"),
        }
    }

    fn size(&mut self, data: &[u8]) -> Result<(), Malformed> {
        let words = data.split(|&octet| octet == b' ').filter(|word| !word.is_empty());
        let Some(numbers) = words.map(number).collect::<Option<Vec<u64>>>().filter(|numbers| numbers.len() <= 16)
        else {
            return self.wrong("a size that is none");
        };
        let at = |index: usize| numbers.get(index).copied().unwrap_or(0);
        let size =
            Size { content: at(0), offset: at(1), recipients: at(2), hints: at(3), length: at(4), smtputf8: at(5) };
        if numbers.is_empty() || numbers.len() > 6 {
            return self.wrong("a size record of an unknown version");
        }
        self.found.size.get_or_insert(size);
        Ok(())
    }
}

fn shown(kind: u8) -> String {
    format!("`{}'", kind.escape_ascii())
}

/// A decimal number, with blanks around it.
fn number(data: &[u8]) -> Option<u64> {
    let digits = data.trim_ascii();
    let good = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| good)?.parse().ok()
}

fn signed(data: &[u8]) -> Option<i64> {
    let text = data.trim_ascii();
    match text.strip_prefix(b"-") {
        Some(digits) => number(digits).and_then(|value| i64::try_from(value).ok()).map(|value| -value),
        None => number(text).and_then(|value| i64::try_from(value).ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::put;

    fn file(records: &[(u8, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        records.iter().for_each(|(kind, data)| put(&mut out, *kind, data));
        out
    }

    fn wrong(records: &[(u8, &[u8])]) -> String {
        read(&file(records), &LIMITS).expect_err("malformed").what
    }

    #[test]
    fn a_file_of_postfix_says_what_postcat_shows() {
        let found = read(include_bytes!("../samples/deferred"), &LIMITS).expect("good");
        let size = Size { content: 5310, offset: 906, recipients: 3, hints: 14, length: 5310, smtputf8: 3 };
        assert_eq!(found.size, Some(size));
        assert_eq!(found.arrival.map(|(seconds, _)| seconds), Some(1_795_381_896));
        assert_eq!(found.sender.as_deref(), Some(&b"a@pf.example"[..]));
        assert_eq!((found.envid.as_deref(), found.ret), (Some(&b"ab+c"[..]), 2));
        assert_eq!(found.attribute("log_helo_name"), Some(&b"x.example"[..]));
        assert_eq!(found.warn, Some(1_795_385_496));
        let shown: Vec<_> = found
            .recipients
            .iter()
            .map(|r| (String::from_utf8_lossy(&r.address).into_owned(), r.notify, r.offset, r.state))
            .collect();
        assert_eq!(
            shown,
            [
                ("b@pf.example".to_owned(), 6, 710, State::Open),
                ("odd one@pf.example".to_owned(), 1, 803, State::Open),
                ("jürgen@pf.example".to_owned(), 0, 884, State::Open),
            ]
        );
        assert_eq!(found.recipients[0].orcpt.as_deref(), Some(&b"rfc822;B+x@pf.example"[..]));
        let text = String::from_utf8(found.content).expect("UTF-8");
        assert!(text.starts_with("Received: from x.example (localhost [127.0.0.1])\n"), "{text}");
        assert!(text.ends_with(&format!("\n\nüü\n.dot\n{}\n", "x".repeat(5000))), "{text}");
    }

    #[test]
    fn a_file_of_postdrop_is_read_with_its_unfinished_last_line() {
        let found = read(include_bytes!("../samples/maildrop"), &LIMITS).expect("good");
        assert_eq!((found.size, found.full_name.as_deref()), (None, Some(&b"Full Name"[..])));
        let recipients: Vec<_> = found.recipients.iter().map(|r| (r.address.as_slice(), r.notify)).collect();
        assert_eq!(recipients, [(&b"c@pf.example"[..], 12), (&b"bare"[..], 12)]);
        assert_eq!(found.content, b"Subject: dropped\n\nhello\n\nlast");
    }

    #[test]
    fn done_cancelled_and_killed_records_are_told_apart() {
        let found = read(
            &file(&[
                (record::SENDER, b""),
                (record::ATTRIBUTE, b"notify_flags=2"),
                (record::ORIGINAL, b"x@y"),
                (record::DONE, b"a@b"),
                (record::CANCELLED, b"c@d"),
                (record::KILLED, b"trace_flags=8"),
                (record::RECIPIENT, b"e@f"),
                (record::CONTENT, b""),
                (record::EXTRACTED, b""),
                (record::RECIPIENT, b"g@h"),
                (record::END, b""),
            ]),
            &LIMITS,
        )
        .expect("good");
        let states: Vec<_> = found.recipients.iter().map(|r| (r.address.as_slice(), r.state, r.notify)).collect();
        assert_eq!(
            states,
            [
                (&b"a@b"[..], State::Done, 2),
                (b"c@d", State::Cancelled, 0),
                (b"e@f", State::Open, 0),
                (b"g@h", State::Open, 0)
            ]
        );
        assert!(found.attributes.is_empty());
    }

    #[test]
    fn pointers_of_milters_are_followed_there_and_back() {
        // The header's second line stands behind the end; the pointer in its place leads there, and one behind it leads back.
        let mut out = file(&[(record::CONTENT, b""), (record::LINE, b"A: 1")]);
        let pointer = out.len();
        put(&mut out, record::POINTER, b"             00");
        let back = out.len();
        out.extend(file(&[(record::LINE, b"C: 3"), (record::EXTRACTED, b""), (record::END, b"")]));
        let heap = out.len();
        out.extend(file(&[(record::LINE, b"B: 2"), (record::POINTER, format!("{back:15}").as_bytes())]));
        out[pointer + 2..pointer + 17].copy_from_slice(format!("{heap:15}").as_bytes());
        assert_eq!(read(&out, &LIMITS).expect("good").content, b"A: 1\nB: 2\nC: 3\n");
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        assert_eq!(wrong(&[(b'Z', b"")]), "a record of type `Z' in the envelope");
        assert_eq!(
            wrong(&[(record::CONTENT, b""), (record::RECIPIENT, b"a@b")]),
            "a record of type `R' in the content"
        );
        assert_eq!(wrong(&[(record::SENDER, b"")]), "the end is missing");
        assert_eq!(
            wrong(&[(record::POINTER, b"0000000000000000"), (record::POINTER, b"1000")]),
            "a pointer behind the end"
        );
        assert_eq!(wrong(&[(record::SIZE, b"1 2 3 4 5 6 7")]), "a size record of an unknown version");
        assert_eq!(wrong(&[(record::ATTRIBUTE, b"notify_flags=3")]), "NOTIFY that is none");
        let mut loops = file(&[(record::SENDER, b"a@b")]);
        put(&mut loops, record::POINTER, b"5");
        assert!(read(&loops, &LIMITS).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_octets_make_the_reader_panic(bytes: Vec<u8>) {
            let _ = read(&bytes, &LIMITS);
        }
    }
}
