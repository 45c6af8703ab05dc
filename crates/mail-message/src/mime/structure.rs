//! The tree of parts with their offsets, read line by line: a message of any size costs no more memory than its headers.

use std::io::{self, BufRead};
use std::ops::Range;

use super::content::{ContentType, Disposition, languages, parse_content_type, parse_disposition, plain_value};
use super::envelope::Envelope;
use super::fields;

/// How deep parts may nest; Dovecot's limit.
pub const NESTING_LIMIT: usize = 100;
/// How many parts a message may have; Dovecot's limit.
pub const PARTS_LIMIT: usize = 10_000;
/// The longest boundary that is looked for.
const BOUNDARY_LIMIT: usize = 2048;
/// How much of a part's header is read; Dovecot's limit.
const HEADER_LIMIT: usize = 10 * 1024 * 1024;
/// How much of all headers of a message is read; Dovecot's limit.
const HEADERS_LIMIT: usize = 50 * 1024 * 1024;
/// How many parameters and language tags all parts of a message may have: each takes far more memory than its few octets.
const PARAMETERS_LIMIT: usize = 100_000;
/// So much of a line is kept outside headers: more than a delimiter needs.
const LINE_KEPT: usize = 2 + BOUNDARY_LIMIT + 2;

/// A part of a message, or the message itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The header with its blank line.
    pub header: Range<usize>,
    /// Everything after it.
    pub body: Range<usize>,
    /// Line ends in the body.
    pub lines: usize,
    /// The Content- fields.
    pub content: Content,
    /// What the body is made of.
    pub kind: Body,
    /// ENVELOPE of a message inside another one (message/rfc822); none elsewhere.
    pub envelope: Option<Box<Envelope>>,
}

/// The body of a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// One thing.
    Single,
    /// Parts between boundaries; possibly none.
    Multipart(Vec<Part>),
    /// A message (message/rfc822).
    Message(Box<Part>),
}

/// The Content- fields of a part.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Content {
    /// Content-Type, if there is one.
    pub kind: Option<ContentType>,
    /// Content-Transfer-Encoding, without comments.
    pub encoding: Option<Vec<u8>>,
    /// Content-ID.
    pub id: Option<Vec<u8>>,
    /// Content-Description.
    pub description: Option<Vec<u8>>,
    /// Content-MD5.
    pub md5: Option<Vec<u8>>,
    /// Content-Disposition.
    pub disposition: Option<Disposition>,
    /// Content-Language.
    pub languages: Vec<Vec<u8>>,
    /// Content-Location.
    pub location: Option<Vec<u8>>,
    /// No Content-Type, and the part stands in a multipart/digest: it is a message.
    pub digest_default: bool,
}

impl Content {
    /// Whether the type is `name`/..., by default text.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        match &self.kind {
            Some(kind) => kind.name.eq_ignore_ascii_case(name.as_bytes()),
            None => name == if self.digest_default { "message" } else { "text" },
        }
    }

    fn is_message(&self) -> bool {
        match &self.kind {
            Some(kind) => self.is("message") && kind.subtype.eq_ignore_ascii_case(b"rfc822"),
            None => self.digest_default,
        }
    }

    fn boundary(&self) -> Option<Vec<u8>> {
        let kind = self.kind.as_ref().filter(|_| self.is("multipart"))?;
        kind.parameter("boundary").filter(|b| b.len() <= BOUNDARY_LIMIT).map(<[u8]>::to_vec)
    }

    fn read(header: &[u8], digest_default: bool) -> Self {
        let mut content = Self { digest_default, ..Self::default() };
        for field in fields(header) {
            let Some(name) = field.name.get(8..).filter(|_| field.name[..8].eq_ignore_ascii_case(b"Content-")) else {
                continue;
            };
            content.take(&name.to_ascii_lowercase(), field.value);
        }
        content
    }

    /// The first field of each name counts.
    fn take(&mut self, name: &[u8], value: &[u8]) {
        match name {
            b"type" if self.kind.is_none() => self.kind = Some(parse_content_type(value)),
            b"transfer-encoding" if self.encoding.is_none() => self.encoding = super::content::token(value),
            b"id" if self.id.is_none() => self.id = Some(plain_value(value)),
            b"description" if self.description.is_none() => self.description = Some(plain_value(value)),
            b"md5" if self.md5.is_none() => self.md5 = Some(plain_value(value)),
            b"disposition" if self.disposition.is_none() => self.disposition = Some(parse_disposition(value)),
            b"language" if self.languages.is_empty() => self.languages = languages(value),
            b"location" if self.location.is_none() => self.location = Some(plain_value(value)),
            _ => {}
        }
    }
}

impl Content {
    /// Drops what exceeds the room that is left for parameters in the message.
    fn fit_into(&mut self, room: &mut usize) {
        let mut fit = |count: usize| {
            let kept = count.min(*room);
            *room -= kept;
            kept
        };
        if let Some(kind) = &mut self.kind {
            kind.parameters.truncate(fit(kind.parameters.len()));
        }
        if let Some(disposition) = &mut self.disposition {
            disposition.parameters.truncate(fit(disposition.parameters.len()));
        }
        self.languages.truncate(fit(self.languages.len()));
    }
}

impl Part {
    /// Reads the structure of a message with CRLF line ends.
    #[must_use]
    pub fn parse(message: &[u8]) -> Self {
        Self::read(message).expect("octets in memory are read without error")
    }

    /// Reads the structure of a message with CRLF line ends, to its end.
    ///
    /// # Errors
    /// What reading says.
    pub fn read(message: impl BufRead) -> io::Result<Self> {
        Ok(Scanner::new(message).part(0, Place::Message)?.0)
    }

    /// The part itself and everything in it, from its first octet to its last.
    #[must_use]
    pub fn whole(&self) -> Range<usize> {
        self.header.start..self.body.end
    }

    /// The parts directly inside a multipart.
    #[must_use]
    pub fn children(&self) -> &[Self] {
        match &self.kind {
            Body::Multipart(children) => children,
            _ => &[],
        }
    }
}

/// What ended a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The end of the message.
    Message,
    /// A delimiter of the multipart at this place of the stack; the position is after its line.
    Boundary { level: usize, closing: bool },
}

/// Where a part ends: its last octet, the line ends up to there, and what ended it.
#[derive(Clone, Copy)]
struct Stop {
    at: usize,
    newlines: usize,
    end: End,
}

/// Where a part stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It is the message.
    Message,
    /// Between the delimiters of a multipart.
    Multipart {
        /// multipart/digest: its parts are messages unless they say otherwise.
        digest: bool,
    },
    /// In a message/rfc822.
    Enclosed,
}

struct Scanner<R> {
    input: R,
    at: usize,
    /// Line ends before `at`; counted once, so that nesting costs nothing.
    newlines: usize,
    /// The beginning of the last line, as far as anybody asks for it.
    line: Vec<u8>,
    /// The last two octets of the last line.
    last: [u8; 2],
    /// The header that is being read.
    header: Option<Vec<u8>>,
    headers_left: usize,
    parameters_left: usize,
    boundaries: Vec<Vec<u8>>,
    parts: usize,
}

impl<R: BufRead> Scanner<R> {
    fn new(input: R) -> Self {
        Self {
            input,
            at: 0,
            newlines: 0,
            line: Vec::new(),
            last: [0; 2],
            header: None,
            headers_left: HEADERS_LIMIT,
            parameters_left: PARAMETERS_LIMIT,
            boundaries: Vec::new(),
            parts: 1,
        }
    }

    /// A part from here to the next delimiter of a multipart around it.
    fn part(&mut self, depth: usize, place: Place) -> io::Result<(Part, Stop)> {
        let start = self.at;
        let (octets, header, over) = self.header()?;
        let mut content = Content::read(&octets, place == Place::Multipart { digest: true });
        content.fit_into(&mut self.parameters_left);
        let envelope = (place == Place::Enclosed).then(|| Box::new(Envelope::parse(&octets)));
        drop(octets);
        let (kind, stop) = if over { (Body::Single, header) } else { self.body(depth, &content)? };
        let body = header.at..stop.at.max(header.at);
        let lines = stop.newlines.saturating_sub(header.newlines);
        Ok((Part { header: start..header.at, body, lines, content, kind, envelope }, stop))
    }

    /// Lines up to the blank one, which belongs to the header. A delimiter ends it as well, and then the part is over.
    fn header(&mut self) -> io::Result<(Vec<u8>, Stop, bool)> {
        self.header = Some(Vec::new());
        loop {
            let here = self.stop(End::Message);
            let read = self.header.as_ref().map_or(0, Vec::len);
            let more = self.line()?;
            let delimiter = if more { self.delimiter() } else { None };
            let blank = more && matches!(&self.line[..], b"\r\n" | b"\n");
            if more && !blank && delimiter.is_none() {
                continue;
            }
            let mut octets = self.header.take().unwrap_or_default();
            if !blank {
                octets.truncate(read);
            }
            self.headers_left -= octets.len();
            return Ok(match delimiter {
                Some(end) => (octets, Stop { end, ..here }, true),
                None if blank => (octets, self.stop(End::Message), false),
                None => (octets, here, true),
            });
        }
    }

    fn stop(&self, end: End) -> Stop {
        Stop { at: self.at, newlines: self.newlines, end }
    }

    /// The body: its kind, and where it ends.
    fn body(&mut self, depth: usize, content: &Content) -> io::Result<(Body, Stop)> {
        let room = depth < NESTING_LIMIT && self.parts < PARTS_LIMIT;
        if content.is("multipart") {
            return match content.boundary().filter(|_| room) {
                Some(boundary) => self.multipart(depth, boundary, content),
                None => Ok((Body::Multipart(Vec::new()), self.text()?)),
            };
        }
        if content.is_message() && room {
            self.parts += 1;
            let (inner, stop) = self.part(depth + 1, Place::Enclosed)?;
            return Ok((Body::Message(Box::new(inner)), stop));
        }
        Ok((Body::Single, self.text()?))
    }

    fn multipart(&mut self, depth: usize, boundary: Vec<u8>, content: &Content) -> io::Result<(Body, Stop)> {
        let own = self.boundaries.len();
        let digest = content.kind.as_ref().is_some_and(|kind| kind.subtype.eq_ignore_ascii_case(b"digest"));
        self.boundaries.push(boundary);
        let mut children = Vec::new();
        let mut stop = self.text()?;
        while stop.end == (End::Boundary { level: own, closing: false }) {
            self.parts += 1;
            let (child, child_stop) = self.part(depth + 1, Place::Multipart { digest })?;
            children.push(child);
            stop = child_stop;
        }
        self.boundaries.truncate(own);
        if stop.end == (End::Boundary { level: own, closing: true }) {
            // The epilogue belongs to the multipart.
            stop = self.text()?;
        }
        Ok((Body::Multipart(children), stop))
    }

    /// Lines up to a delimiter; the line end before it belongs to it.
    fn text(&mut self) -> io::Result<Stop> {
        let start = self.at;
        loop {
            let here = self.stop(End::Message);
            let ended = self.last;
            if !self.line()? {
                return Ok(here);
            }
            let Some(end) = self.delimiter() else { continue };
            let line_end = if ended == *b"\r\n" { 2 } else { 1 };
            return Ok(match here.at - start {
                0 => Stop { end, ..here },
                length => Stop { at: here.at - line_end.min(length), newlines: here.newlines - 1, end },
            });
        }
    }

    /// Reads a line; false at the end of the message.
    fn line(&mut self) -> io::Result<bool> {
        self.line.clear();
        let start = self.at;
        loop {
            let chunk = self.input.fill_buf()?;
            let end = chunk.iter().position(|&b| b == b'\n');
            let taken = &chunk[..end.map_or(chunk.len(), |at| at + 1)];
            if taken.is_empty() {
                return Ok(self.at > start);
            }
            // Most lines of a body need not be kept at all.
            if self.header.is_some() || self.at > start || taken[0] == b'-' {
                let kept = taken.len().min(LINE_KEPT - self.line.len().min(LINE_KEPT));
                self.line.extend_from_slice(&taken[..kept]);
            }
            if let Some(header) = &mut self.header {
                let room = HEADER_LIMIT.min(self.headers_left).saturating_sub(header.len());
                header.extend_from_slice(&taken[..taken.len().min(room)]);
            }
            self.last = match *taken {
                [.., a, b] => [a, b],
                [b] => [self.last[1], b],
                [] => self.last,
            };
            let length = taken.len();
            self.input.consume(length);
            self.at += length;
            if end.is_some() {
                self.newlines += 1;
                return Ok(true);
            }
        }
    }

    /// The delimiter that the last line is: the longest open boundary that it begins with, the innermost of equal ones.
    fn delimiter(&self) -> Option<End> {
        let rest = self.line.strip_prefix(b"--")?;
        if self.parts >= PARTS_LIMIT {
            return None;
        }
        let fitting = self.boundaries.iter().enumerate().filter(|(_, boundary)| rest.starts_with(boundary));
        let (level, boundary) = fitting.max_by_key(|(level, boundary)| (boundary.len(), *level))?;
        Some(End::Boundary { level, closing: rest[boundary.len()..].starts_with(b"--") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mime::with_crlf;

    /// The tree in short: `type/subtype(size,lines)`.
    fn shape(message: &str) -> String {
        fn write(part: &Part, out: &mut String) {
            let kind = part.content.kind.as_ref();
            let kind = kind.map_or("-".into(), |k| {
                String::from_utf8_lossy(&[&k.name[..], b"/", &k.subtype[..]].concat()).into_owned()
            });
            out.push_str(&format!("{kind}:{},{}", part.body.len(), part.lines));
            match &part.kind {
                Body::Single => {}
                Body::Multipart(children) => {
                    out.push('[');
                    for child in children {
                        write(child, out);
                        out.push(' ');
                    }
                    out.push(']');
                }
                Body::Message(inner) => {
                    out.push('{');
                    write(inner, out);
                    out.push('}');
                }
            }
        }
        let message = with_crlf(message.as_bytes());
        let mut out = String::new();
        write(&Part::parse(&message), &mut out);
        out
    }

    const MIXED: &str = "Content-Type: multipart/mixed; boundary=";

    #[test]
    fn structure_and_sizes_are_those_of_dovecot() {
        // I14
        let cases = [
            ("", "-:0,0"),
            ("A: b\n", "-:0,0"),
            ("\nbody\n", "-:6,1"),
            (
                &format!("{MIXED}q\n\npre\n--q\n\none\n--q\nContent-Type: text/html\n\ntwo\n--q--\nepi\n"),
                "multipart/mixed:66,10[-:3,0 text/html:3,0 ]",
            ),
            (
                &format!("{MIXED}q\n\n--q\n\nx\n--q\nContent-Type: text/html\n\nunterminated"),
                "multipart/mixed:54,6[-:1,0 text/html:12,0 ]",
            ),
            (&format!("{MIXED}q\n\n--qq\n\nx\n--q\n\ny\n--q--\n"), "multipart/mixed:28,7[-:1,0 -:1,0 ]"),
            (
                &format!("{MIXED}a\n\n--a\n{MIXED}ab\n\n--ab\n\nx\n--a\n\ny\n--a--\n"),
                "multipart/mixed:79,10[multipart/mixed:9,2[-:1,0 ] -:1,0 ]",
            ),
            (
                &format!("{MIXED}a\n\n--a\n--a\n\n--a\nContent-Type: text/html\n--a--"),
                "multipart/mixed:47,5[-:0,0 -:0,0 text/html:0,0 ]",
            ),
            ("Content-Type: message/rfc822\n\nA: b\n\nx\ny\n", "message/rfc822:14,4{-:6,2}"),
            (
                "Content-Type: multipart/digest; boundary=q\n\n--q\n\nA: b\n\nx\n--q--\n",
                "multipart/digest:25,6[-:9,2{-:1,0} ]",
            ),
            ("Content-Type: multipart/mixed\n\nno boundary\n", "multipart/mixed:13,1[]"),
        ];
        for (message, expected) in cases {
            assert_eq!(shape(message), expected, "{message}");
        }
    }

    // R12
    #[test]
    fn nesting_and_parts_are_bounded_and_deep_messages_cost_linear_time() {
        let deep: String = (0..5000).map(|i| format!("{MIXED}b{i}x\n\n--b{i}x\n")).collect();
        let started = std::time::Instant::now();
        assert!(shape(&deep).matches('[').count() <= NESTING_LIMIT + 1);
        let flat = format!("{MIXED}q\n\n{}", "--q\n\nx\n".repeat(200_000));
        assert!(shape(&flat).matches(' ').count() <= PARTS_LIMIT);
        let dashes = format!("{MIXED}q\n\n{}", "--\n".repeat(1_000_000));
        shape(&dashes);
        assert!(started.elapsed().as_secs() < 30);
    }

    #[test]
    fn parameters_of_all_parts_together_are_bounded() {
        let parameters = ";a=b".repeat(1000);
        let parts = format!("--q\nContent-Type: text/plain{parameters}\n\n\n").repeat(500);
        let message = with_crlf(format!("{MIXED}q\n\n{parts}").as_bytes()).into_owned();
        let count = |part: &Part| part.content.kind.as_ref().map_or(0, |kind| kind.parameters.len());
        let part = Part::parse(&message);
        assert_eq!(part.children().len(), 500);
        assert_eq!(part.children().iter().map(count).sum::<usize>() + count(&part), PARAMETERS_LIMIT);
    }

    proptest::proptest! {
        #[test]
        fn a_message_read_in_pieces_has_the_same_structure(lines in proptest::collection::vec(proptest::sample::select(vec![
            "--a", "--a--", "--b", "", "x", "-", "\r", "Content-Type: multipart/mixed; boundary=a", "Content-Type: multipart/mixed; boundary=b",
            "Content-Type: message/rfc822", "Subject: x"]), 0..30), end in proptest::sample::select(vec!["\n", "\r\n"]), capacity in 1usize..8) {
            let message = lines.join(end);
            let pieces = Part::read(std::io::BufReader::with_capacity(capacity, message.as_bytes())).expect("memory");
            proptest::prop_assert_eq!(pieces, Part::parse(message.as_bytes()));
        }

        #[test]
        fn every_part_lies_inside_its_message(lines in proptest::collection::vec(proptest::sample::select(vec![
            "--a", "--a--", "--b", "--b--", "", "x", "Content-Type: multipart/mixed; boundary=a", "Content-Type: multipart/mixed; boundary=b",
            "Content-Type: message/rfc822", "Content-Type: multipart/digest; boundary=\"a\"", " folded"]), 0..40)) {
            fn inside(part: &Part, outer: std::ops::Range<usize>) -> bool {
                let whole = part.whole();
                let fits = outer.start <= whole.start && whole.end <= outer.end && part.header.end == part.body.start;
                fits && match &part.kind {
                    Body::Single => true,
                    Body::Multipart(children) => children.iter().all(|c| inside(c, part.body.clone())),
                    Body::Message(inner) => inside(inner, part.body.clone()),
                }
            }
            let message = lines.join("\r\n");
            let part = Part::parse(message.as_bytes());
            proptest::prop_assert_eq!(part.whole(), 0..message.len());
            proptest::prop_assert!(inside(&part, 0..message.len()));
        }
    }
}
