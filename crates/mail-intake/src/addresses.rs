//! The addresses of header fields: which there are, and the same field with others in their place.
//!
//! What an address becomes is `mail-route`'s business. Here everything else (names, comments, groups, folding) stays octet for octet.

use std::collections::{HashMap, HashSet};

use mail_message::header::{Field, Header};

/// Whose address a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// From, Sender, Reply-To and their like.
    Sender,
    /// To, Cc and their like.
    Recipient,
}

/// What addresses become: those that are not named stay as they are.
pub type Rewrites = HashMap<(Role, String), String>;

/// The fields with addresses of senders (cleanup(8) knows them by the same roles).
const SENDERS: [&str; 10] = [
    "From",
    "Sender",
    "Reply-To",
    "Errors-To",
    "Return-Receipt-To",
    "Disposition-Notification-To",
    "Mail-Followup-To",
    "Resent-From",
    "Resent-Sender",
    "Return-Path",
];

/// The fields with addresses of recipients.
const RECIPIENTS: [&str; 8] =
    ["To", "Cc", "Bcc", "Apparently-To", "Resent-To", "Resent-Cc", "Resent-Bcc", "Resent-Reply-To"];

fn role(field: &Field<'_>) -> Option<Role> {
    if SENDERS.iter().any(|name| field.is(name)) {
        return Some(Role::Sender);
    }
    RECIPIENTS.iter().any(|name| field.is(name)).then_some(Role::Recipient)
}

/// Every address of the header at the beginning of `content`, each once for its role, without comments and blanks.
#[must_use]
pub fn addresses(content: &[u8]) -> Vec<(Role, String)> {
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    for field in Header::scan(content).fields() {
        let Some(role) = role(field) else { continue };
        for element in elements(value(field)) {
            if let Element::Address(raw) = element
                && let Some(text) = addr_spec(raw)
                && seen.insert((role, text.clone()))
            {
                found.push((role, text));
            }
        }
    }
    found
}

/// The header at the beginning of `content` with other addresses, its end included, and where the body begins in `content`.
#[must_use]
pub fn rewrite(content: &[u8], rewrites: &Rewrites) -> (Vec<u8>, usize) {
    let header = Header::scan(content);
    let mut out = Vec::with_capacity(header.body() + 256);
    for field in header.fields() {
        match rewritten(field, rewrites) {
            Some(octets) => out.extend_from_slice(&octets),
            None => out.extend_from_slice(field.raw()),
        }
    }
    out.extend_from_slice(&content[header.end()..header.body()]);
    (out, header.body())
}

/// A whole field with other addresses; nothing if none of them changes.
pub(crate) fn rewritten(field: &Field<'_>, rewrites: &Rewrites) -> Option<Vec<u8>> {
    if rewrites.is_empty() {
        return None;
    }
    let role = role(field)?;
    let raw = field.raw();
    let value = value(field);
    let mut out = raw[..raw.len() - value.len()].to_vec();
    let mut changed = false;
    for element in elements(value) {
        match element {
            Element::Plain(text) => out.extend_from_slice(text),
            Element::Address(text) => {
                let next = addr_spec(text).and_then(|text| rewrites.get(&(role, text)));
                changed |= next.is_some();
                out.extend_from_slice(next.map_or(text, |next| next.as_bytes()));
            }
        }
    }
    changed.then_some(out)
}

/// What follows the colon, to the end of the field.
fn value<'a>(field: &Field<'a>) -> &'a [u8] {
    let raw = field.raw();
    &raw[raw.iter().position(|&b| b == b':').map_or(0, |at| at + 1)..]
}

/// An addr-spec (with its route, where it has one) without comments and blanks; nothing if two words stand side by side in it.
fn addr_spec(raw: &[u8]) -> Option<String> {
    let mut out = Vec::with_capacity(raw.len());
    let mut gap = false;
    let joins = |byte: u8| matches!(byte, b'.' | b'@' | b'%' | b'!' | b':' | b',' | b'[' | b']');
    let mut at = 0;
    while at < raw.len() {
        let end = match raw[at] {
            b'(' => {
                at = skip_comment(raw, at);
                gap = true;
                continue;
            }
            byte if byte.is_ascii_whitespace() => {
                at += 1;
                gap = true;
                continue;
            }
            b'"' => skip_quoted(raw, at),
            _ => at + 1,
        };
        if std::mem::take(&mut gap) && out.last().is_some_and(|last| !joins(*last)) && !joins(raw[at]) {
            return None;
        }
        out.extend_from_slice(&raw[at..end]);
        at = end;
    }
    String::from_utf8(out).ok().filter(|text| !text.is_empty())
}

enum Element<'a> {
    /// Copied as it is.
    Plain(&'a [u8]),
    /// An addr-spec without blanks around it.
    Address(&'a [u8]),
}

/// One element of the list as the scanner has seen it so far.
#[derive(Default)]
struct Scan {
    /// Where the current address list element began.
    start: usize,
    /// The range of words outside comments: an addr-spec if no angle bracket comes.
    words: Option<(usize, usize)>,
    /// An angle address was found.
    angle: Option<(usize, usize)>,
}

/// Cuts a field's value into addresses and what stands around them, in one pass.
///
/// ```abnf
/// address-list = [address] *("," [address])
/// address      = mailbox / group
/// mailbox      = [display-name] "<" addr-spec ">" / addr-spec
/// group        = display-name ":" [address-list] ";"
/// ```
fn elements(value: &[u8]) -> Vec<Element<'_>> {
    let mut out = Vec::new();
    let mut scan = Scan::default();
    let mut at = 0;
    while at < value.len() {
        match value[at] {
            b'"' => {
                let end = skip_quoted(value, at);
                scan.word(at, end);
                at = end;
            }
            b'[' => {
                let end = value[at..].iter().position(|&b| matches!(b, b']' | b'\n')).map_or(at + 1, |p| at + p + 1);
                scan.word(at, end);
                at = end;
            }
            b'(' => at = skip_comment(value, at),
            b'<' => {
                let end = value[at..].iter().position(|&b| b == b'>').map_or(value.len(), |p| at + p);
                scan.angle.get_or_insert((at + 1, end));
                at = (end + 1).min(value.len());
            }
            b',' | b';' => {
                scan.flush(value, at, &mut out);
                at += 1;
            }
            // What stands before a colon is the name of a group; a route's colon is inside angle brackets.
            b':' => {
                scan.words = None;
                at += 1;
            }
            b' ' | b'\t' | b'\r' | b'\n' => at += 1,
            _ => {
                scan.word(at, at + 1);
                at += 1;
            }
        }
    }
    scan.flush(value, value.len(), &mut out);
    out
}

impl Scan {
    fn word(&mut self, start: usize, end: usize) {
        match &mut self.words {
            None => self.words = Some((start, end)),
            Some((_, last)) => *last = end,
        }
    }

    fn flush<'a>(&mut self, value: &'a [u8], end: usize, out: &mut Vec<Element<'a>>) {
        let found = self.angle.map(|(from, to)| trim(value, from, to)).or(self.words);
        match found.filter(|(from, to)| from < to) {
            Some((from, to)) => {
                out.push(Element::Plain(&value[self.start..from]));
                out.push(Element::Address(&value[from..to]));
                out.push(Element::Plain(&value[to..end]));
            }
            None => out.push(Element::Plain(&value[self.start..end])),
        }
        *self = Self { start: end, ..Self::default() };
    }
}

fn trim(value: &[u8], from: usize, to: usize) -> (usize, usize) {
    let inside = &value[from..to];
    let lead = inside.iter().take_while(|b| b.is_ascii_whitespace()).count();
    let tail = inside[lead..].iter().rev().take_while(|b| b.is_ascii_whitespace()).count();
    (from + lead, to - tail)
}

fn skip_quoted(value: &[u8], from: usize) -> usize {
    let mut at = from + 1;
    while at < value.len() {
        match value[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    value.len()
}

fn skip_comment(value: &[u8], from: usize) -> usize {
    let (mut at, mut depth) = (from, 0usize);
    while at < value.len() {
        match value[at] {
            b'\\' => at += 1,
            b'(' => depth += 1,
            b')' if depth == 1 => return at + 1,
            b')' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    value.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A To field in which every address has become X; or what it was, where there is none.
    fn marked(value: &str) -> String {
        let content = format!("To:{value}\r\n\r\n");
        let rewrites: Rewrites = addresses(content.as_bytes()).into_iter().map(|key| (key, "X".to_owned())).collect();
        let (octets, _) = rewrite(content.as_bytes(), &rewrites);
        let text = String::from_utf8(octets).expect("UTF-8");
        text["To:".len()..text.len() - 4].to_owned()
    }

    #[test]
    fn only_addresses_change() {
        for (value, expected) in [
            ("root", "X"),
            (" root, john\r\n\t, a@b.org", " X, X\r\n\t, X"),
            ("John Doe <john>", "John Doe <X>"),
            ("\"Doe, John\" < john > (a, b)", "\"Doe, John\" < X > (a, b)"),
            ("root (Charlie \\( Root)", "X (Charlie \\( Root)"),
            ("\"a b\"", "X"),
            ("staff: john, a@b.org;", "staff: X, X;"),
            ("undisclosed-recipients:;", "undisclosed-recipients:;"),
            ("John Doe", "John Doe"),
            ("a @ b . org", "X"),
            ("<@a,@b:c@d.org>", "<X>"),
            ("a@[IPv6:::1], b", "X, X"),
            ("<>", "<>"),
            ("", ""),
            ("(unclosed", "(unclosed"),
        ] {
            assert_eq!(marked(value), expected, "{value:?}");
        }
    }

    #[test]
    fn each_address_is_named_once_for_its_role() {
        let content = b"From: \"x\" <a@b.org>\r\nTo: a @ b.org, (c) a@b.org, d\r\nSubject: e@f\r\nReply-To: a@b.org\r\n\r\nTo: g\r\n";
        let found = addresses(content);
        let wanted = [(Role::Sender, "a@b.org"), (Role::Recipient, "a@b.org"), (Role::Recipient, "d")];
        assert_eq!(found, wanted.map(|(role, text)| (role, text.to_owned())));
        let rewrites = Rewrites::from([((Role::Recipient, "a@b.org".to_owned()), "z@y".to_owned())]);
        let (octets, body) = rewrite(content, &rewrites);
        assert_eq!(
            String::from_utf8(octets).expect("UTF-8"),
            "From: \"x\" <a@b.org>\r\nTo: z@y, (c) z@y, d\r\nSubject: e@f\r\nReply-To: a@b.org\r\n\r\n"
        );
        assert_eq!(&content[body..], b"To: g\r\n");
    }

    // R12
    #[test]
    fn hostile_values_take_linear_time() {
        let value = "(".repeat(50_000) + &"<".repeat(50_000) + &"\"a\\".repeat(20_000) + &"[".repeat(50_000);
        let _ = marked(&value);
        let list = "a,".repeat(50_000);
        assert_eq!(marked(&list), "X,".repeat(50_000));
    }
}
