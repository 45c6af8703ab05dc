//! Mailbox names: what a client says, what stands on disk, and the modified UTF-7 that both use.

use std::fmt;

use crate::{Result, StoreError};

/// The longest name on disk in octets, so that `.name` and its temporary forms fit into a directory entry.
const NAME_MAX: usize = 240;

/// The name of a mailbox as Dovecot 2.3 stores it: modified UTF-7 (RFC 3501 section 5.1.3), levels separated by `.`; or `INBOX`.
///
/// Such a name can be put behind a dot and used as one directory entry: it holds no `/`, no empty level and no control character.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MailboxName(String);

impl MailboxName {
    /// The inbox, which always exists.
    #[must_use]
    pub fn inbox() -> Self {
        Self("INBOX".to_owned())
    }

    /// The mailbox that an IMAP client calls `name`, where levels are separated by `separator`.
    ///
    /// # Errors
    /// [`StoreError::BadName`] for what can be no mailbox here.
    pub fn from_imap(name: &str, separator: char) -> Result<Self> {
        if separator != '.' && name.contains('.') {
            return Err(StoreError::BadName("a dot separates levels on disk"));
        }
        let stored: String = name.chars().map(|c| if c == separator { '.' } else { c }).collect();
        Self::from_stored(&stored)
    }

    /// A name as it stands on disk, without the leading dot of its directory.
    ///
    /// # Errors
    /// [`StoreError::BadName`] says what is wrong.
    pub fn from_stored(stored: &str) -> Result<Self> {
        let (first, rest) = stored.split_once('.').map_or((stored, None), |(first, rest)| (first, Some(rest)));
        if first.eq_ignore_ascii_case("INBOX") {
            // RFC 3501 section 5.1: INBOX in any case is the one inbox.
            return match rest {
                None => Ok(Self::inbox()),
                Some(rest) => Self::checked(format!("INBOX.{rest}")),
            };
        }
        Self::checked(stored.to_owned())
    }

    fn checked(stored: String) -> Result<Self> {
        if stored.is_empty() || stored.split('.').any(str::is_empty) {
            return Err(StoreError::BadName("empty level"));
        }
        if stored.len() > NAME_MAX {
            return Err(StoreError::BadName("too long"));
        }
        if stored.contains('/') || stored.starts_with('~') {
            return Err(StoreError::BadName("a path is no mailbox"));
        }
        match mutf7_decode(&stored) {
            None => Err(StoreError::BadName("not modified UTF-7")),
            Some(text) if text.chars().any(|c| c.is_control() || c == '/') => {
                Err(StoreError::BadName("control character or slash"))
            }
            Some(_) => Ok(Self(stored)),
        }
    }

    /// The name on disk, without the leading dot; `INBOX` for the inbox.
    #[must_use]
    pub fn as_stored(&self) -> &str {
        &self.0
    }

    /// The name for an IMAP client: modified UTF-7 with `separator` between the levels.
    #[must_use]
    pub fn to_imap(&self, separator: char) -> String {
        self.0.chars().map(|c| if c == '.' { separator } else { c }).collect()
    }

    /// The name in UTF-8, for logs and UTF8=ACCEPT.
    #[must_use]
    pub fn to_utf8(&self, separator: char) -> String {
        let levels: Vec<String> =
            self.0.split('.').map(|level| mutf7_decode(level).unwrap_or_else(|| level.to_owned())).collect();
        levels.join(separator.encode_utf8(&mut [0; 4]))
    }

    /// Whether this is the inbox.
    #[must_use]
    pub fn is_inbox(&self) -> bool {
        self.0 == "INBOX"
    }

    /// Whether `self` lies below `parent`, at any depth.
    #[must_use]
    pub fn is_below(&self, parent: &Self) -> bool {
        self.0.strip_prefix(&parent.0).is_some_and(|rest| rest.starts_with('.'))
    }

    /// The name that `self` gets when `from` is renamed to `to`: itself if it is not `from` and not below it.
    ///
    /// # Errors
    /// [`StoreError::BadName`] if the new name is too long.
    pub fn renamed(&self, from: &Self, to: &Self) -> Result<Self> {
        if self == from {
            Ok(to.clone())
        } else if self.is_below(from) {
            Self::from_stored(&format!("{}{}", to.0, &self.0[from.0.len()..]))
        } else {
            Ok(self.clone())
        }
    }
}

impl fmt::Display for MailboxName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The base64 alphabet of modified UTF-7: `,` stands for `/`.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";

/// Writes text in modified UTF-7 (RFC 3501 section 5.1.3).
#[must_use]
pub fn mutf7_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut shifted: Vec<u8> = Vec::new();
    for c in text.chars() {
        if (' '..='~').contains(&c) {
            flush_base64(&mut out, &mut shifted);
            out.push(c);
            if c == '&' {
                out.push('-');
            }
        } else {
            shifted.extend(c.encode_utf16(&mut [0; 2]).iter().flat_map(|unit| unit.to_be_bytes()));
        }
    }
    flush_base64(&mut out, &mut shifted);
    out
}

fn flush_base64(out: &mut String, octets: &mut Vec<u8>) {
    if octets.is_empty() {
        return;
    }
    out.push('&');
    for group in octets.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, &octet| bits << 8 | u32::from(octet)) << (8 * (3 - group.len()));
        for position in 0..=group.len() {
            out.push(char::from(ALPHABET[(bits >> (18 - 6 * position)) as usize & 63]));
        }
    }
    out.push('-');
    octets.clear();
}

/// Reads modified UTF-7. `None` for anything that [`mutf7_encode`] would not have written, so that one mailbox has one name.
#[must_use]
pub fn mutf7_decode(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        let end = rest[at + 1..].find('-')?;
        let inside = &rest[at + 1..at + 1 + end];
        if inside.is_empty() {
            out.push('&');
        } else {
            out.push_str(&decode_base64(inside)?);
        }
        rest = &rest[at + 2 + end..];
    }
    out.push_str(rest);
    (mutf7_encode(&out) == text).then_some(out)
}

fn decode_base64(inside: &str) -> Option<String> {
    let mut bits = 0u32;
    let mut count = 0;
    let mut units: Vec<u16> = Vec::new();
    for byte in inside.bytes() {
        let digit = ALPHABET.iter().position(|&letter| letter == byte)?;
        bits = bits << 6 | u32::try_from(digit).ok()?;
        count += 6;
        if count >= 16 {
            count -= 16;
            units.push(u16::try_from(bits >> count & 0xffff).ok()?);
            bits &= (1 << count) - 1;
        }
    }
    String::from_utf16(&units).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modified_utf7_is_that_of_the_standard() {
        for (text, coded) in [
            ("Entw\u{fc}rfe", "Entw&APw-rfe"),
            ("a&b", "a&-b"),
            ("~peter/mail/\u{53f0}\u{5317}/\u{65e5}\u{672c}\u{8a9e}", "~peter/mail/&U,BTFw-/&ZeVnLIqe-"),
            ("\u{1f600}", "&2D3eAA-"),
        ] {
            assert_eq!(mutf7_encode(text), coded);
            assert_eq!(mutf7_decode(coded).as_deref(), Some(text));
        }
        for bad in ["&", "&A", "&AAA", "&AGE-", "&APw", "&APx-", "&2D0-", "&ü-", "&-&AP-", "\u{fc}"] {
            assert_eq!(mutf7_decode(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_name_never_leaves_its_maildir() {
        for bad in ["", ".", "..", "a..b", "../x", "a/b", ".a", "a.", "~", "~root", "&AC8-", "a\u{0}", "a\nb", "&AAo-"]
        {
            assert!(MailboxName::from_imap(bad, '.').is_err(), "{bad:?}");
        }
        assert!(MailboxName::from_imap(&"x".repeat(300), '.').is_err());
        assert!(MailboxName::from_imap("a.b", '/').is_err());
        assert!(MailboxName::from_imap("a//b", '/').is_err());
    }

    #[test]
    fn inbox_has_one_name_in_any_case() {
        assert!(MailboxName::from_imap("inBox", '/').expect("good").is_inbox());
        assert_eq!(MailboxName::from_imap("inbox/a", '/').expect("good").as_stored(), "INBOX.a");
        assert_eq!(MailboxName::from_imap("Sent/2024", '/').expect("good").to_imap('/'), "Sent/2024");
    }

    #[test]
    fn renaming_takes_the_children_along() {
        let name = |text| MailboxName::from_stored(text).expect("good");
        assert_eq!(name("a.b.c").renamed(&name("a.b"), &name("x")).expect("good"), name("x.c"));
        assert_eq!(name("a.bc").renamed(&name("a.b"), &name("x")).expect("good"), name("a.bc"));
    }

    proptest::proptest! {
        #[test]
        fn every_text_survives_modified_utf7(text: String) {
            proptest::prop_assert_eq!(mutf7_decode(&mutf7_encode(&text)), Some(text));
        }

        #[test]
        fn decoding_never_panics_and_is_exact(text in "[ -~]{0,40}") {
            if let Some(decoded) = mutf7_decode(&text) {
                proptest::prop_assert_eq!(mutf7_encode(&decoded), text);
            }
        }
    }
}
