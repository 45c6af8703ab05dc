//! Messages of LDAP (RFC 4511) that a lookup needs: bind, search, StartTLS, and their answers.

use super::ber::{self, BOOLEAN, ENUMERATED, Elements, INTEGER, OCTETS, SEQUENCE, SET, element, number, text};

/// The longest message that a server may send.
pub(super) const MESSAGE_MAX: usize = 1 << 20;

const BIND: u8 = 0x60;
const BIND_RESPONSE: u8 = 0x61;
const SEARCH: u8 = 0x63;
const ENTRY: u8 = 0x64;
const DONE: u8 = 0x65;
const REFERENCE: u8 = 0x73;
const EXTENDED: u8 = 0x77;
const EXTENDED_RESPONSE: u8 = 0x78;
const START_TLS: &[u8] = b"1.3.6.1.4.1.1466.20037";

/// `noSuchObject`: the base of a search does not exist.
pub(super) const NO_SUCH_OBJECT: u32 = 32;

/// Which entries a search looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    Base = 0,
    One = 1,
    Sub = 2,
}

impl Scope {
    pub(super) fn parse(word: &str) -> Option<Self> {
        let scopes = [("base", Self::Base), ("one", Self::One), ("sub", Self::Sub)];
        scopes.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)).map(|(_, scope)| *scope)
    }
}

/// A search.
#[derive(Debug)]
pub(super) struct Search<'a> {
    pub(super) base: &'a str,
    pub(super) scope: Scope,
    /// When aliases of the directory are followed: 0 never to 3 always.
    pub(super) dereference: u32,
    /// The most entries; 0 for any number.
    pub(super) size_limit: u32,
    /// Seconds.
    pub(super) time_limit: u32,
    /// Encoded.
    pub(super) filter: &'a [u8],
    pub(super) attributes: &'a [String],
}

fn request(id: u32, operation: &[u8]) -> Vec<u8> {
    element(SEQUENCE, &[number(INTEGER, id).as_slice(), operation].concat())
}

pub(super) fn bind(id: u32, version: u32, name: &str, password: &str) -> Vec<u8> {
    let parts = [number(INTEGER, version), text(name), element(0x80, password.as_bytes())].concat();
    request(id, &element(BIND, &parts))
}

pub(super) fn start_tls(id: u32) -> Vec<u8> {
    request(id, &element(EXTENDED, &element(0x80, START_TLS)))
}

pub(super) fn search(id: u32, search: &Search<'_>) -> Vec<u8> {
    let attributes = search.attributes.iter().flat_map(|name| text(name)).collect::<Vec<_>>();
    let parts = [
        text(search.base),
        number(ENUMERATED, search.scope as u32),
        number(ENUMERATED, search.dereference),
        number(INTEGER, search.size_limit),
        number(INTEGER, search.time_limit),
        element(BOOLEAN, &[0]),
        search.filter.to_vec(),
        element(SEQUENCE, &attributes),
    ];
    request(id, &element(SEARCH, &parts.concat()))
}

/// An attribute of an entry, with its values.
pub(super) type Attribute = (String, Vec<String>);

/// What a server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Response {
    /// An entry that was found.
    Entry(Vec<Attribute>),
    /// Other servers know more.
    Reference,
    /// The request is carried out or refused.
    Done(Outcome),
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) code: u32,
    text: String,
}

impl Outcome {
    pub(super) fn is_success(&self) -> bool {
        self.code == 0
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = RESULTS.iter().find(|(code, _)| *code == self.code).map_or("refused", |(_, name)| name);
        write!(f, "{name} ({})", self.code)?;
        if self.text.is_empty() { Ok(()) } else { write!(f, ": {:.200}", self.text) }
    }
}

/// The results that an administrator is likely to meet.
const RESULTS: [(u32, &str); 15] = [
    (1, "operations error"),
    (2, "protocol error"),
    (3, "time limit exceeded"),
    (4, "size limit exceeded"),
    (8, "a stronger login is required"),
    (10, "the server refers to another one, which is not asked"),
    (11, "administrative limit exceeded"),
    (13, "confidentiality is required"),
    (32, "no such object"),
    (34, "invalid distinguished name"),
    (48, "inappropriate login"),
    (49, "invalid credentials"),
    (50, "insufficient access rights"),
    (51, "the server is busy"),
    (52, "the server is unavailable"),
];

/// Reads the first message of what came: the number of its request, what it says, and how many octets it took; none until it is complete.
///
/// # Errors
/// It is too long, or no message of this protocol.
#[expect(clippy::type_complexity, reason = "a decoder gives what it found and how many octets that took")]
pub(super) fn message(octets: &[u8]) -> Result<Option<((u32, Response), usize)>, String> {
    if octets.first().is_some_and(|tag| *tag != SEQUENCE) {
        return Err("the server does not speak LDAP".to_owned());
    }
    let Some((_, content, used)) = ber::first(octets, MESSAGE_MAX)? else { return Ok(None) };
    let mut parts = Elements(content);
    let id = parts.number(INTEGER)?;
    let (operation, body) = parts.next()?.ok_or("a message is empty")?;
    let response = match operation {
        ENTRY => Response::Entry(entry(body)?),
        REFERENCE => Response::Reference,
        BIND_RESPONSE | DONE | EXTENDED_RESPONSE => Response::Done(outcome(body)?),
        other => return Err(format!("the server sends a message of kind {other:#04x}")),
    };
    Ok(Some(((id, response), used)))
}

fn outcome(body: &[u8]) -> Result<Outcome, String> {
    let mut parts = Elements(body);
    let code = parts.number(ENUMERATED)?;
    parts.take(OCTETS)?;
    let text = String::from_utf8_lossy(parts.take(OCTETS)?).trim().replace(['\n', '\r'], " ");
    Ok(Outcome { code, text })
}

fn entry(body: &[u8]) -> Result<Vec<Attribute>, String> {
    let mut parts = Elements(body);
    parts.take(OCTETS)?;
    let (mut list, mut attributes) = (Elements(parts.take(SEQUENCE)?), Vec::new());
    let lossy = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    while let Some((_, attribute)) = list.next()? {
        let mut parts = Elements(attribute);
        let name = lossy(parts.take(OCTETS)?);
        let (mut set, mut values) = (Elements(parts.take(SET)?), Vec::new());
        while let Some((_, value)) = set.next()? {
            values.push(lossy(value));
        }
        attributes.push((name, values));
    }
    Ok(attributes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(id: u32, operation: u8, parts: &[Vec<u8>]) -> Vec<u8> {
        request(id, &element(operation, &parts.concat()))
    }

    #[test]
    fn requests_are_what_the_standard_says() {
        assert_eq!(bind(1, 3, "cn=a", "pw"), b"\x30\x12\x02\x01\x01\x60\x0d\x02\x01\x03\x04\x04cn=a\x80\x02pw");
        assert_eq!(start_tls(1), [b"\x30\x1d\x02\x01\x01\x77\x18\x80\x16".as_slice(), START_TLS].concat());
        let asked = Search {
            base: "dc=x",
            scope: Scope::Sub,
            dereference: 0,
            size_limit: 2,
            time_limit: 10,
            filter: b"\x87\x01a",
            attributes: &["m".to_owned()],
        };
        let wanted = b"\x30\x22\x02\x01\x02\x63\x1d\x04\x04dc=x\x0a\x01\x02\x0a\x01\x00\x02\x01\x02\x02\x01\x0a\x01\x01\x00\x87\x01a\x30\x03\x04\x01m";
        assert_eq!(search(2, &asked), wanted);
    }

    #[test]
    fn answers_are_read_when_they_are_complete() {
        let set = element(SET, &[text("a"), text("b")].concat());
        let attributes = element(SEQUENCE, &element(SEQUENCE, &[text("mail"), set].concat()));
        let found = answer(2, ENTRY, &[text("cn=x"), attributes]);
        let read = Response::Entry(vec![("mail".to_owned(), vec!["a".to_owned(), "b".to_owned()])]);
        assert_eq!(message(&found), Ok(Some(((2, read), found.len()))));
        for cut in 0..found.len() {
            assert_eq!(message(&found[..cut]), Ok(None), "{cut}");
        }
        let done = answer(2, DONE, &[number(ENUMERATED, 49), text(""), text("no\nway")]);
        let Ok(Some(((2, Response::Done(outcome)), _))) = message(&done) else { panic!("a result") };
        assert_eq!((outcome.to_string().as_str(), outcome.is_success()), ("invalid credentials (49): no way", false));
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        // A server that nests for ever must not make us descend.
        let deep = (0..20_000).fold(Vec::new(), |inner: Vec<u8>, _| element(SEQUENCE, &inner));
        for wrong in [
            b"220 hello".to_vec(),
            b"\x30\x84\xff\xff\xff\xff".to_vec(),
            answer(1, SEARCH, &[]),
            answer(1, DONE, &[]),
            deep,
        ] {
            assert!(message(&wrong).is_err());
        }
    }

    proptest::proptest! {
        #[test]
        fn no_message_breaks_the_reader(octets: Vec<u8>, operation in proptest::sample::select(vec![ENTRY, DONE, REFERENCE])) {
            let _ = message(&octets);
            let whole = answer(1, operation, &[octets]);
            if let Ok(Some((_, used))) = message(&whole) {
                proptest::prop_assert_eq!(used, whole.len());
            }
        }
    }
}
