//! Addresses in their internal form: the local part without quotes, the domain as written.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest local part in octets. RFC 5321 section 4.5.3.1.1 asks that 64 be accepted at least; VERP and SRS senders hold a whole address
/// more, and Postfix sets no limit but that of the line. With this one a command with the address still fits into Postfix's 2,048 octets.
const LOCAL_MAX: usize = 512;
/// The longest domain in octets (RFC 5321 section 4.5.3.1.2).
const DOMAIN_MAX: usize = 255;

/// Why a text is no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressError {
    /// The local part is empty.
    EmptyLocal,
    /// The local part is longer than 512 octets.
    LongLocal,
    /// The domain is empty, has an empty label, or holds a character no domain has.
    BadDomain,
    /// The domain is longer than 255 octets.
    LongDomain,
    /// A control character (0x00-0x1f, 0x7f) stands in the address.
    Control,
    /// Quotes or brackets do not close, or no `@` separates local part and domain.
    Syntax,
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EmptyLocal => "empty local part",
            Self::LongLocal => "local part longer than 512 octets",
            Self::BadDomain => "bad domain name",
            Self::LongDomain => "domain longer than 255 octets",
            Self::Control => "control character in address",
            Self::Syntax => "bad address syntax",
        })
    }
}

impl std::error::Error for AddressError {}

/// A domain name or an address literal such as `[192.0.2.1]`, as it was written.
///
/// Comparison and hashing ignore the case of ASCII letters (RFC 5321 section 2.4).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Domain(String);

impl Domain {
    /// Checks a domain: non-empty labels without white space, control or special characters; or a literal in brackets.
    ///
    /// # Errors
    /// [`AddressError`] says what is wrong.
    pub fn new(text: &str) -> Result<Self, AddressError> {
        if text.len() > DOMAIN_MAX {
            return Err(AddressError::LongDomain);
        }
        if text.chars().any(char::is_control) {
            return Err(AddressError::Control);
        }
        let literal = text.strip_prefix('[').map(|rest| rest.strip_suffix(']'));
        let good = match literal {
            Some(Some(inside)) => {
                !inside.is_empty()
                    && inside.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'[' | b']' | b'\\' | b'<' | b'>'))
            }
            Some(None) => false,
            None => {
                text.split('.').all(|label| !label.is_empty() && label.len() <= 63)
                    && text.chars().all(|c| !c.is_ascii() || c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
            }
        };
        if good { Ok(Self(text.to_owned())) } else { Err(AddressError::BadDomain) }
    }

    /// The domain as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The domain in lower case, as tables and maps are asked for it.
    #[must_use]
    pub fn key(&self) -> String {
        self.0.to_ascii_lowercase()
    }

    /// Whether this is an address literal such as `[192.0.2.1]`.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        self.0.starts_with('[')
    }
}

impl PartialEq for Domain {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for Domain {}

impl Hash for Domain {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Domain {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        Self::new(&text)
    }
}

impl From<Domain> for String {
    fn from(domain: Domain) -> Self {
        domain.0
    }
}

/// A complete mail address: local part and domain.
///
/// The local part is kept without quotes, so `"john"@info.net` and `john@info.net` are equal (RFC 5321 section 4.1.2);
/// its case is kept and compared exactly. `Display` writes the form for the wire, with quotes where they are needed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    local: String,
    domain: Domain,
}

impl Address {
    /// Puts a local part (without quotes) and a domain together.
    ///
    /// # Errors
    /// [`AddressError`] if the local part is empty, too long, or holds a control character.
    pub fn new(local: &str, domain: Domain) -> Result<Self, AddressError> {
        if local.is_empty() {
            return Err(AddressError::EmptyLocal);
        }
        if local.len() > LOCAL_MAX {
            return Err(AddressError::LongLocal);
        }
        if local.chars().any(char::is_control) {
            return Err(AddressError::Control);
        }
        Ok(Self { local: local.to_owned(), domain })
    }

    /// The local part without quotes.
    #[must_use]
    pub fn local(&self) -> &str {
        &self.local
    }

    /// The domain.
    #[must_use]
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// Whether any octet is outside ASCII, so that the address needs SMTPUTF8 (RFC 6531).
    #[must_use]
    pub fn needs_smtputf8(&self) -> bool {
        !self.local.is_ascii() || !self.domain.as_str().is_ascii()
    }
}

/// Whether `local` is a Dot-string of RFC 5321 section 4.1.2 (with UTF-8, RFC 6531) and needs no quotes.
fn is_dot_string(local: &str) -> bool {
    local.split('.').all(|atom| {
        !atom.is_empty()
            && atom.chars().all(|c| !c.is_ascii() || c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c))
    })
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_dot_string(&self.local) {
            return write!(f, "{}@{}", self.local, self.domain);
        }
        f.write_str("\"")?;
        for c in self.local.chars() {
            if matches!(c, '"' | '\\') {
                f.write_str("\\")?;
            }
            write!(f, "{c}")?;
        }
        write!(f, "\"@{}", self.domain)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    /// Reads `local@domain` or `"quoted local"@domain`.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (local, domain) = if let Some(rest) = text.strip_prefix('"') {
            let mut local = String::new();
            let mut chars = rest.char_indices();
            let end = loop {
                match chars.next() {
                    Some((at, '"')) => break at,
                    Some((_, '\\')) => local.push(chars.next().ok_or(AddressError::Syntax)?.1),
                    Some((_, c)) => local.push(c),
                    None => return Err(AddressError::Syntax),
                }
            };
            (local, rest[end + 1..].strip_prefix('@').ok_or(AddressError::Syntax)?)
        } else {
            let (local, domain) = text.rsplit_once('@').ok_or(AddressError::Syntax)?;
            (local.to_owned(), domain)
        };
        Self::new(&local, Domain::new(domain)?)
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

/// The reverse-path of an envelope: an address, or the null sender `<>` of bounces (RFC 5321 section 4.5.5).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(try_from = "String", into = "String")]
pub enum Sender {
    /// `<>`: a message that must never cause another one.
    #[default]
    Null,
    /// Who gets the bounce.
    Address(Address),
}

impl Sender {
    /// The address, unless this is the null sender.
    #[must_use]
    pub fn address(&self) -> Option<&Address> {
        match self {
            Self::Null => None,
            Self::Address(address) => Some(address),
        }
    }
}

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => Ok(()),
            Self::Address(address) => address.fmt(f),
        }
    }
}

impl TryFrom<String> for Sender {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        if text.is_empty() { Ok(Self::Null) } else { text.parse().map(Self::Address) }
    }
}

impl From<Sender> for String {
    fn from(sender: Sender) -> Self {
        sender.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_local_part_equals_its_unquoted_form() {
        // S19
        let quoted: Address = "\"john\"@Info.net".parse().expect("valid");
        let plain: Address = "john@info.NET".parse().expect("valid");
        assert_eq!(quoted, plain);
        assert_eq!(quoted.to_string(), "john@Info.net");
    }

    #[test]
    fn quotes_come_back_where_they_are_needed() {
        for text in ["\"a b\"@x.org", "\"a\\\"b\"@x.org", "\"a@b\"@x.org", "\".a\"@x.org", "a.b@[IPv6:::1]"] {
            assert_eq!(text.parse::<Address>().expect("valid").to_string(), text);
        }
    }

    #[test]
    fn what_no_address_is_gets_refused() {
        for text in ["", "a", "@x", "a@", "a@x..y", "a@b c", "\"a@x", "a\u{7}@x", "a@[1.2.3.4", "\"\"@x", "a@-\u{0}"] {
            assert!(text.parse::<Address>().is_err(), "{text:?}");
        }
        assert_eq!(format!("{}@x", "a".repeat(513)).parse::<Address>(), Err(AddressError::LongLocal));
    }

    #[test]
    fn senders_of_lists_and_forwarders_are_longer_than_64_octets() {
        // S09
        for local in ["a".repeat(64), "a".repeat(512), format!("list-return-17-{}=example.org", "b".repeat(64))] {
            let text = format!("{local}@{}", "x.".repeat(100) + "org");
            assert_eq!(text.parse::<Address>().expect("valid").local(), local);
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_again(local in "[ -~]{1,512}") {
            let address = Address::new(&local, Domain::new("example.org").expect("valid")).expect("printable");
            proptest::prop_assert_eq!(address.to_string().parse::<Address>(), Ok(address));
        }
    }
}
