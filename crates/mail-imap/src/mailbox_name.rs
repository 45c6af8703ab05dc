//! Names of mailboxes and their modified UTF-7 form (RFC 3501 section 5.1.3).

use std::fmt;

use base64::Engine as _;
use base64::alphabet::IMAP_MUTF7;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};
use serde::{Deserialize, Serialize};

const BASE64: GeneralPurpose = GeneralPurpose::new(&IMAP_MUTF7, NO_PAD);

/// The longest name, in octets of UTF-8; Dovecot's limit.
pub const NAME_LIMIT: usize = 4096;

/// The name of a mailbox in Unicode, with the separators of its namespace. `INBOX` in any case is `INBOX` (I06); nothing else is changed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MailboxName(String);

/// Why an argument is no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameError {
    /// Not canonical modified UTF-7 (I07).
    NotUtf7,
    /// Longer than [`NAME_LIMIT`].
    TooLong,
    /// Nothing, or control characters.
    NotAllowed,
}

/// The text after NO; Dovecot's where it has one.
impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotUtf7 => "[CANNOT] Mailbox name is not valid mUTF-7",
            Self::TooLong => "[CANNOT] Mailbox name too long",
            Self::NotAllowed => "[CANNOT] Invalid mailbox name",
        })
    }
}

impl MailboxName {
    /// The name of an argument in modified UTF-7.
    ///
    /// # Errors
    /// Where it is not canonical modified UTF-7, too long, empty or holds control characters.
    pub fn decode(argument: &[u8]) -> Result<Self, NameError> {
        if argument.len() > NAME_LIMIT {
            return Err(NameError::TooLong);
        }
        Self::new(&decode(argument).ok_or(NameError::NotUtf7)?)
    }

    /// A name in Unicode.
    ///
    /// # Errors
    /// Where it is too long, empty or holds control characters.
    pub fn new(name: &str) -> Result<Self, NameError> {
        if name.len() > NAME_LIMIT {
            return Err(NameError::TooLong);
        }
        if name.is_empty() || name.chars().any(char::is_control) {
            return Err(NameError::NotAllowed);
        }
        Ok(if name.eq_ignore_ascii_case("INBOX") { Self::inbox() } else { Self(name.to_owned()) })
    }

    /// `INBOX`
    #[must_use]
    pub fn inbox() -> Self {
        Self("INBOX".to_owned())
    }

    /// Whether this is the inbox.
    #[must_use]
    pub fn is_inbox(&self) -> bool {
        self.0 == "INBOX"
    }

    /// The name in Unicode.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name in modified UTF-7, as it goes over the wire.
    #[must_use]
    pub fn encoded(&self) -> String {
        encode(&self.0)
    }
}

/// The name as a response text may carry it: modified UTF-7, so never 8-bit (I29).
impl fmt::Display for MailboxName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.encoded())
    }
}

/// Writes modified UTF-7.
#[must_use]
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let direct = |c: char| (' '..='~').contains(&c);
        let end = rest.find(|c| direct(c) != direct(first)).unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        if direct(first) {
            out.push_str(&run.replace('&', "&-"));
        } else {
            let octets: Vec<u8> = run.encode_utf16().flat_map(u16::to_be_bytes).collect();
            out.push('&');
            out.push_str(&BASE64.encode(octets));
            out.push('-');
        }
        rest = after;
    }
    out
}

/// Reads modified UTF-7 strictly (I07): no printable ASCII and no lone surrogates in base64, no padding bits, no two shifts side by side. There is one form of each text,
/// so the simplest complete test is that encoding the result gives the input again.
#[must_use]
pub fn decode(argument: &[u8]) -> Option<String> {
    let argument = std::str::from_utf8(argument).ok().filter(|a| a.bytes().all(|b| (b' '..=b'~').contains(&b)))?;
    let mut out = String::with_capacity(argument.len());
    let mut rest = argument;
    while let Some((plain, shifted)) = rest.split_once('&') {
        out.push_str(plain);
        let (base64, after) = shifted.split_once('-')?;
        if base64.is_empty() {
            out.push('&');
        } else {
            let octets = BASE64.decode(base64).ok().filter(|o| o.len() % 2 == 0)?;
            let units: Vec<u16> = octets.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
            out.push_str(&String::from_utf16(&units).ok()?);
        }
        rest = after;
    }
    out.push_str(rest);
    (encode(&out) == argument).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written_as_the_rfc_shows() {
        for (wire, text) in [
            ("~peter/mail/&U,BTFw-/&ZeVnLIqe-", "~peter/mail/台北/日本語"),
            ("a&-b", "a&b"),
            ("Entw&APw-rfe", "Entwürfe"),
            ("&2D3eAA-", "😀"),
        ] {
            assert_eq!(decode(wire.as_bytes()).as_deref(), Some(text));
            assert_eq!(encode(text), wire);
        }
    }

    #[test]
    fn only_the_canonical_form_is_a_name() {
        // I07
        for bad in
            ["&", "&AGE-", "&U,BTFw", "&U,BTFw-&ZeVnLIqe-", "&2AA-", "&2D0-", "a&b", "&AA-", "&Jjo!-", "&-&AGE-", "é"]
        {
            assert_eq!(decode(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn inbox_is_one_name_in_any_case() {
        // I06
        assert!(MailboxName::decode(b"iNbOx").is_ok_and(|n| n.is_inbox()));
        assert!(MailboxName::decode(b"inbox/a").is_ok_and(|n| !n.is_inbox() && n.as_str() == "inbox/a"));
        assert_eq!(MailboxName::decode(b""), Err(NameError::NotAllowed));
        assert_eq!(MailboxName::decode(b"&AAE-"), Err(NameError::NotAllowed));
    }

    proptest::proptest! {
        #[test]
        fn what_is_encoded_is_decoded_to_the_same(text: String) {
            let wire = encode(&text);
            proptest::prop_assert!(wire.bytes().all(|b| (b' '..=b'~').contains(&b)));
            proptest::prop_assert_eq!(decode(wire.as_bytes()), Some(text));
        }

        #[test]
        fn what_is_decoded_is_encoded_to_the_same(wire in "[&,A-Za-z0-9+-]{0,20}") {
            if let Some(text) = decode(wire.as_bytes()) {
                proptest::prop_assert_eq!(encode(&text), wire);
            }
        }
    }
}
